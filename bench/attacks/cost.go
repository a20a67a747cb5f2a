package main

import (
	"fmt"
	"slices"
	"time"
)

// cost compares an uncontended start and end of true with flock(1)'s.
func cost(c *cell) finding {
	if c.tool.library || c.tool.detaches || c.tool.control {
		return notApplicable(pick(c.tool.control, "the control is slow on purpose", c.tool.kind()))
	}
	own, flock, evidence := c.compare(true)
	return judge(true, fmt.Sprintf("%.1f×", float64(own)/float64(flock)), evidence)
}

// refusal measures a start that is refused. That of flock(1) takes so little that a
// ratio to it would be one of errors.
func refusal(c *cell) finding {
	if c.tool.library || c.tool.control {
		return notApplicable(pick(c.tool.control, "the control is slow on purpose", c.tool.kind()))
	}
	c.hold(plain)
	c.launch(flockBeside, plain, 0).in()
	own, _, evidence := c.compare(false)
	return judge(true, fmt.Sprintf("%.1f ms", max(0, own.Seconds())*1000), evidence)
}

// flockBeside locks another file: dotlockfile would respect that of flock(1).
var flockBeside = of("flock", "-n", "PATH.floor")

// compare measures a tool and flock(1) in turns, and the driver's start of true
// with them. That is part of both, and is taken off. They succeed, or are refused.
func (c *cell) compare(succeeds bool) (tool, flock time.Duration, evidence string) {
	n := 200
	if c.quick {
		n = 20
	}
	lines := [][]string{c.withTrue(c.tool.start), c.withTrue(flockBeside), {"/bin/true"}}
	took := make([][]time.Duration, len(lines))
	for i := range n {
		for j := range lines {
			k := (i + j) % len(lines)
			took[k] = append(took[k], c.timed(succeeds || k == 2, lines[k]))
		}
	}
	own, theirs, spawn := quartile(took[0]), quartile(took[1]), quartile(took[2])
	return own - spawn, theirs - spawn, fmt.Sprintf("lower quartiles of %d: %v, flock(1) %v; of each %v are the driver's start of a process",
		n, own.Round(time.Microsecond), theirs.Round(time.Microsecond), spawn.Round(time.Microsecond))
}

// withTrue is the command line that runs true in place of COMMAND.
func (c *cell) withTrue(argv func(*cell, job) []string) []string {
	line := argv(c, job{log: c.log.path, id: "cost", mode: plain, path: c.path})
	if i := slices.Index(line, self); i >= 0 && !c.tool.detaches { // the first word of COMMAND
		return append(line[:i], "/bin/true")
	}
	return line
}

// timed runs a command line, which must succeed, or be refused.
func (c *cell) timed(succeeds bool, line []string) time.Duration {
	began := time.Now()
	p := must(c.start(0, line...))
	if !p.wait(patience) || (p.status.ExitStatus() == 0) != succeeds {
		panic(fmt.Sprint(line, ": ", p.said()))
	}
	return time.Since(began)
}

// quartile is lower than the median, and less disturbed by what else runs.
func quartile(d []time.Duration) time.Duration {
	slices.Sort(d)
	return d[len(d)/4]
}
