package main

import (
	"fmt"
	"os"
	"strings"
	"time"
)

// useStopper sets the cell up for a stopper, and the tool that makes its file.
func (c *cell) useStopper(s stopper) {
	c.stopper = &s
	c.tried = c.readable(c.expand(s.argv))
	starter := s.starter
	if starter == "" {
		starter = "pidfile run"
	}
	for _, t := range tools() {
		if t.name == starter {
			c.tool = &t
		}
	}
}

// callStopper starts the stopper.
func (c *cell) callStopper(group int) *process {
	return must(c.start(group, c.expand(c.stopper.argv)...))
}

// stopTrue is the check that a stopper works at all.
func stopTrue(c *cell) finding {
	first := c.hold(plain)
	p := c.callStopper(0)
	switch c.stopper.does {
	case waits:
		early := p.wait(300 * time.Millisecond)
		first.finish()
		ended := p.wait(patience)
		return judge(!early && ended, pick(early, "**does not wait**", "waits"), fmt.Sprintf("ended before the instance: %v, after it: %v: %s", early, ended, p.said()))
	case asks:
		p.wait(patience)
		yes := p.status.ExitStatus() == 0
		return judge(yes, pick(yes, "yes", "**no**"), p.said())
	}
	p.wait(patience)
	got := eventually(3*time.Second, func() bool { return c.log.count(first.id, "SIGTERM") > 0 })
	return judge(got, pick(got, "stopped", "**not found**"), fmt.Sprintf("TERM arrived: %v: %s", got, p.said()))
}

// stopReused lets the stopper act on a stale file whose PID is another's now.
func stopReused(stranger bool) func(*cell) finding {
	return func(c *cell) finding {
		pid, named := c.crash()
		if !named {
			panic("the file names nobody: " + c.text())
		}
		c.age()
		other := &bystander{id: "other"}
		other.process = must(c.startAs(pid, c.another(stranger, other.id)...))
		if !stranger {
			eventually(patience, func() bool { _, ok := c.log.find(other.id, ready); return ok })
		}
		return c.harmless(other, stranger)
	}
}

// harmless judges what the stopper does to one process.
func (c *cell) harmless(other *bystander, mute bool) finding {
	var wrong bool
	var how string
	if mute { // sleep cannot be asked; but a TERM ends it
		wrong, how = c.harm(0, nil)
		if c.stopper.does == signals {
			wrong = other.wait(100 * time.Millisecond)
			how += pick(wrong, "; the stranger: "+other.said(), "")
		}
	} else {
		wrong, how = c.harm(0, []*bystander{other})
	}
	bad := map[string]string{signals: "**signals it**", waits: "**waits for it**", asks: "**says it runs**"}
	fine := map[string]string{signals: "spares it", waits: "does not wait", asks: "says no"}
	line := fmt.Sprintf("the file named %d, which was then `%s`: %s", other.pid, strings.Join(c.readable(other.argv[:2]), " "), how)
	return judge(!wrong, pick(wrong, bad[c.stopper.does], fine[c.stopper.does]), line)
}

// stopForeign lets another user's file name a process of root's.
func stopForeign(c *cell) finding {
	if c.stopper.does != signals {
		return notApplicable("it signals nobody")
	}
	const nobody = 65534
	other := c.bystander(low)
	check(os.WriteFile(c.path, fmt.Appendln(nil, other.pid), 0o644))
	check(os.Chown(c.path, nobody, nobody))
	return c.harmless(other, false)
}
