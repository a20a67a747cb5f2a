package main

import (
	"fmt"
	"time"

	"golang.org/x/sys/unix"
)

// term sends the wrapper a TERM.
func term(c *cell) finding {
	if !c.tool.wrapper {
		return notApplicable("there is no wrapper: " + c.tool.kind())
	}
	first := c.hold(plain)
	pid := first.commandPID()
	kill(first.process.pid, unix.SIGTERM)
	eventually(patience, func() bool { return !alive(pid) || first.hasEnded() })
	ended := eventually(aWhile, func() bool { return !alive(pid) })
	got := c.log.count(first.id, "SIGTERM") > 0
	first.wait(aWhile)
	evidence := fmt.Sprintf("the wrapper: %s; COMMAND got TERM: %v, ended: %v", first.said(), got, ended)
	switch {
	case !ended:
		return judge(false, pick(first.hasEnded(), "**orphan**", "**ignored**"), evidence)
	case !got:
		return judge(false, "**killed**", evidence)
	}
	return judge(true, "passed on", evidence)
}

// termGroup sends a TERM to the wrapper's process group.
func termGroup(c *cell) finding {
	if !c.tool.wrapper {
		return notApplicable("there is no wrapper: " + c.tool.kind())
	}
	var counts []int
	least, most := 1, 0
	for range 5 {
		first := c.hold(stays)
		kill(-first.process.pid, unix.SIGTERM)
		if !eventually(5*time.Second, func() bool { return !alive(first.commandPID()) }) {
			kill(first.commandPID(), unix.SIGKILL)
		}
		first.wait(patience)
		n := c.log.count(first.id, "SIGTERM")
		counts = append(counts, n)
		least, most = min(least, n), max(most, n)
	}
	evidence := fmt.Sprintf("COMMAND got TERM so often: %v", counts)
	switch {
	case most > 1:
		return judge(false, fmt.Sprintf("**%d times**", most), evidence)
	case least == 0:
		return judge(false, "**not at all**", evidence)
	}
	return judge(true, "once", evidence)
}

// strayChild is a COMMAND that leaves a child behind.
func strayChild(c *cell) finding {
	first := c.hold(stray)
	first.wait(patience)
	if !eventually(patience, func() bool { return !alive(first.commandPID()) }) {
		panic("COMMAND does not end")
	}
	next := c.try()
	_, in := next.entered()
	return judge(in, pick(in, "starts", "**refused**"), fmt.Sprintf("%s; then %s", first.how(), next.how()))
}

// inBackground is a COMMAND whose child does the work.
func inBackground(c *cell) finding {
	if c.tool.library {
		return notApplicable("there is no COMMAND: " + c.tool.kind())
	}
	first := c.launch(c.tool.start, background, 0)
	if !eventually(patience, func() bool { _, in := first.entered(); return in }) {
		panic("nobody works in the background: " + first.said())
	}
	if !c.tool.wrapper {
		first.wait(patience) // a wrapper may wait for the child, or not
	}
	time.Sleep(200 * time.Millisecond) // the wrapper may have heard that COMMAND ended
	return c.mustRefuse(first.commandPID(), "COMMAND left its work to PID "+fmt.Sprint(first.commandPID()))
}

// habit is a COMMAND that does something before it works.
func habit(mode string) func(*cell) finding {
	return func(c *cell) finding {
		if c.tool.library && mode == closes {
			return notApplicable("there is no COMMAND: a program that closes its own lock has none")
		}
		first := c.hold(mode)
		return c.mustRefuse(first.commandPID())
	}
}
