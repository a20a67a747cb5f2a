package main

import (
	"fmt"
	"slices"
	"time"
)

// cost compares an uncontended start and end of true with flock(1)'s, in turns.
func cost(c *cell) finding {
	if c.tool.library || c.tool.detaches || c.tool.control {
		return notApplicable(pick(c.tool.control, "the control is slow on purpose", c.tool.kind()))
	}
	n := 200
	if c.quick {
		n = 20
	}
	floor := of("flock", "-n", "PATH.floor") // dotlockfile would respect the other's file
	var own, flock []time.Duration
	for i := range n {
		if i%2 == 0 {
			flock = append(flock, c.timed(floor))
		}
		own = append(own, c.timed(c.tool.start))
		if i%2 == 1 {
			flock = append(flock, c.timed(floor))
		}
	}
	mine, theirs := quartile(own), quartile(flock)
	ratio := float64(mine) / float64(theirs)
	return judge(true, fmt.Sprintf("%.1f×", ratio), fmt.Sprintf("lower quartiles of %d: %v, flock(1) %v", n,
		mine.Round(time.Microsecond), theirs.Round(time.Microsecond)))
}

// timed runs true in place of COMMAND.
func (c *cell) timed(argv func(*cell, job) []string) time.Duration {
	line := argv(c, job{log: c.log.path, id: "cost", mode: plain, path: c.path})
	for i, w := range line {
		if w == self { // the first word of COMMAND
			line = append(line[:i], "/bin/true")
			break
		}
	}
	began := time.Now()
	p := must(c.start(0, line...))
	if !p.wait(patience) || p.status.ExitStatus() != 0 {
		panic("true: " + p.said())
	}
	return time.Since(began)
}

// quartile is lower than the median, and less disturbed by what else runs.
func quartile(d []time.Duration) time.Duration {
	slices.Sort(d)
	return d[len(d)/4]
}
