package main

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"
)

// crash runs COMMAND under the tool, kills everything, and returns the PID that
// the file is left with.
func (c *cell) crash() (pid int, ok bool) {
	c.hold(plain)
	killAll()
	text, err := os.ReadFile(c.path)
	if err != nil {
		return 0, false
	}
	pid, err = strconv.Atoi(strings.TrimSpace(string(text)))
	return pid, err == nil
}

// age makes the file old: dotlockfile respects a young one that has no PID in it.
func (c *cell) age() {
	then := time.Now().Add(-10 * time.Minute)
	check(os.Chtimes(c.path, then, then))
}

// another is the command line of a process that has nothing to do with the file.
func (c *cell) another(stranger bool, id string) []string {
	if stranger {
		return []string{"/bin/sleep", "1000"}
	}
	bystander := command
	if c.tool != nil {
		bystander = c.tool.bystander
	}
	return bystander(c, job{log: c.log.path, id: id, mode: victim, path: c.path})
}

// reuse gives the PID in a stale file to another process.
func reuse(stranger, old bool) func(*cell) finding {
	return func(c *cell) finding {
		pid, named := c.crash()
		if !named {
			return notApplicable("its file names nobody")
		}
		if old {
			c.age()
		}
		other := must(c.startAs(pid, c.another(stranger, "other")...))
		next := c.try()
		_, in := next.entered()
		if !alive(other.pid) {
			panic("the other process has ended: " + other.said())
		}
		evidence := fmt.Sprintf("the file named %d, which was then `%s`: %s", pid, strings.Join(c.readable(other.argv[:min(2, len(other.argv))]), " "), next.how())
		return judge(in, pick(in, "starts", "**refused**"), evidence)
	}
}

func pick(b bool, yes, no string) string {
	if b {
		return yes
	}
	return no
}

// zombie puts a zombie's PID into the file.
func zombie(c *cell) finding {
	if !c.tool.hasPID {
		return notApplicable("its file names nobody")
	}
	// A sleep that was a shell, and waits for no child.
	parent := must(c.start(0, "/bin/sh", "-c", "/bin/true & exec /bin/sleep 1000"))
	var pid int
	if !eventually(patience, func() bool {
		text, _ := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/children", parent.pid, parent.pid))
		pid, _ = strconv.Atoi(strings.TrimSpace(string(text)))
		return pid != 0 && stateOf(pid) == 'Z'
	}) {
		panic("no zombie")
	}
	check(os.WriteFile(c.path, fmt.Appendln(nil, pid), 0o644))
	next := c.try()
	_, in := next.entered()
	if stateOf(pid) != 'Z' {
		panic("the zombie is gone")
	}
	return judge(in, pick(in, "starts", "**refused**"), fmt.Sprintf("the file named the zombie %d: %s", pid, next.how()))
}
