package main

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// crowd starts many at once, behind one gate.
func crowd(stale bool) func(*cell) finding {
	return func(c *cell) finding {
		n, long := 100, 3*time.Second
		if c.quick {
			n, long = 40, 0
		}
		for rounds, began := 1, time.Now(); ; rounds++ {
			f := c.oneCrowd(n, stale)
			f.Evidence[0] = fmt.Sprintf("%d rounds of %d starts: %s", rounds, n, f.Evidence[0])
			if f.Verdict != withstood || time.Since(began) > long {
				return f
			}
			killAll()
			check(os.RemoveAll(c.path))
		}
	}
}

func (c *cell) oneCrowd(n int, stale bool) finding {
	if stale {
		check(os.WriteFile(c.path, fmt.Appendln(nil, c.deadPID()), 0o644))
	}
	gate := filepath.Join(c.dir, "gate")
	check(os.RemoveAll(gate))
	check(unix.Mkfifo(gate, 0o600))
	// To open a FIFO for reading waits until somebody opens it for writing. A user
	// of a library waits when it is about to acquire, a command before it starts.
	c.env = []string{"GATE=" + gate}
	all := make([]*instance, n)
	for i := range all {
		if c.tool.library {
			all[i] = c.launch(c.tool.start, plain, 0)
		} else {
			all[i] = c.launchBehind([]string{"/bin/sh", "-c", `: <"$GATE"; exec "$@"`, "sh"}, c.tool.start, plain, 0)
		}
	}
	for _, i := range all {
		if !eventually(patience, func() bool { return blockedIn(i.process.pid, unix.SYS_OPENAT) }) {
			panic("a start does not reach the gate: " + i.said())
		}
	}
	defer must(os.OpenFile(gate, os.O_RDWR, 0)).Close()
	c.settle(all)

	most, evidence := c.overlaps()
	nobody := !slices.ContainsFunc(all, func(i *instance) bool { _, in := i.entered(); return in })
	switch {
	case nobody:
		return judge(false, "**none**", append(evidence, "such as "+all[0].how(), all[n-1].how())...)
	case most > 1:
		return judge(false, fmt.Sprintf("**%d at once**", most), append(evidence, "the file: "+c.text())...)
	}
	return c.named(all, evidence)
}

// settle waits until all starts are decided and nothing more happens. What comes
// later still is missed: that can only spare a tool.
func (c *cell) settle(all []*instance) {
	undecided := slices.Clone(all)
	eventually(patience, func() bool {
		undecided = slices.DeleteFunc(undecided, (*instance).decided)
		return len(undecided) == 0
	})
	time.Sleep(200 * time.Millisecond)
}

// named checks that the file names the one that got in, or its wrapper.
func (c *cell) named(all []*instance, evidence []string) finding {
	if !c.tool.hasPID {
		return judge(true, "one", evidence...)
	}
	for _, i := range all {
		e, in := i.entered()
		if !in {
			continue
		}
		text, _ := os.ReadFile(c.path)
		pid := strings.TrimSpace(string(text))
		if pid != fmt.Sprint(e.PID) && pid != fmt.Sprint(i.process.pid) {
			evidence = append(evidence, fmt.Sprintf("PID %d runs (started by %d), the file: %s", e.PID, i.process.pid, c.text()))
			return judge(false, "**file wrong**", evidence...)
		}
	}
	return judge(true, "one", evidence...)
}

// deadPID is the PID of nobody, of a moment ago.
func (c *cell) deadPID() int {
	p := must(c.start(0, "/bin/true"))
	p.wait(patience)
	return p.pid
}
