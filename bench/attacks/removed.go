package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// A tool that watches its file has this long before and after the removal.
const aWhile = time.Second

// remove takes the file away, and waits until it is back, if it ever is.
func (c *cell) remove(wait bool) (evidence string) {
	check(os.Remove(c.path))
	if !wait {
		return "the file was removed"
	}
	limit := aWhile
	if c.tool.restores {
		limit = patience // it may be a busy machine
	}
	back := eventually(limit, func() bool { _, err := os.Lstat(c.path); return err == nil })
	return "the file was removed, and " + pick(back, "came back: "+c.text(), "did not come back")
}

func removed(later bool) func(*cell) finding {
	return func(c *cell) finding {
		first := c.hold(plain)
		if later {
			time.Sleep(aWhile)
		}
		what := c.remove(later)
		return c.mustRefuse(first.commandPID(), what)
	}
}

// mustRefuse makes a second start while pid holds the file.
func (c *cell) mustRefuse(pid int, evidence ...string) finding {
	second := c.try()
	_, in := second.entered()
	if !alive(pid) {
		panic("the first COMMAND has ended")
	}
	evidence = append(evidence, fmt.Sprintf("while PID %d ran: %s", pid, second.how()))
	return judge(!in, pick(in, "**2 at once**", "refused"), strings.Join(evidence, "; "))
}

func removedAndKilled(c *cell) finding {
	if !c.tool.wrapper {
		return notApplicable("there is no wrapper: " + c.tool.kind())
	}
	first := c.hold(plain)
	time.Sleep(aWhile)
	what := c.remove(true)
	kill(first.process.pid, unix.SIGKILL)
	first.wait(patience)
	if !alive(first.commandPID()) {
		return judge(true, "COMMAND ended", what, "COMMAND ended with its wrapper")
	}
	evidence := []string{what, "the wrapper was killed"}
	c.otherProgram()
	return c.mustRefuse(first.commandPID(), evidence...)
}

// otherProgram has the next starts run a copy of COMMAND, which is another program.
func (c *cell) otherProgram() {
	text := must(os.ReadFile(self))
	self = filepath.Join(c.dir, "another")
	check(os.WriteFile(self, text, 0o755))
}

// asleep gives a waiter the time to go to sleep. One that takes longer finds
// another situation: that can only spare its tool.
func asleep(waiter *instance) {
	time.Sleep(300 * time.Millisecond)
	if _, in := waiter.entered(); in || waiter.hasEnded() {
		panic("it does not wait: " + waiter.how())
	}
}

func removedWaiter(c *cell) finding {
	if c.tool.wait == nil {
		return notApplicable("it cannot wait")
	}
	first := c.hold(plain)
	waiter := c.launch(c.tool.wait, plain, 0)
	asleep(waiter)
	what := c.remove(false)
	third := c.try()
	_, thirdIn := third.entered()
	evidence := []string{what, "the third: " + third.how()}
	first.finish()
	eventually(1500*time.Millisecond, func() bool { _, in := waiter.entered(); return in })
	_, waiterIn := waiter.entered()
	evidence = append(evidence, "the first ended; the one that waited: "+waiter.how())
	both := thirdIn && waiterIn && alive(third.commandPID()) && alive(waiter.commandPID())
	return judge(!both, pick(both, "**2 at once**", "one"), strings.Join(evidence, "; "))
}

func flockWaits(c *cell) finding {
	if !c.tool.flocks {
		return notApplicable("it does not lock by flock(2)")
	}
	if _, err := exec.LookPath("flock"); err != nil {
		return finding{Verdict: absent, Cell: "no flock", Evidence: []string{"flock(1) is not installed"}}
	}
	first := c.hold(plain)
	waiter := c.launch(of("flock", "PATH"), plain, 0)
	asleep(waiter)
	first.finish()
	if !waiter.in() {
		panic("flock(1): " + waiter.how())
	}
	return c.mustRefuse(waiter.commandPID(), "flock(1) waited, and "+waiter.how())
}
