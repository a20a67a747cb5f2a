package main

import (
	"fmt"
	"os"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Processes have the PIDs low and high: texts that are no PID are read as one of
// them by who is careless.
const low, high = 412, 434

var garbage = []struct{ name, text string }{
	{"nothing", ""},
	{"`-1`", "-1\n"},
	{"`0`", "0\n"},
	{"`-412`", "-412\n"},
	{"`+412`", "+412\n"},
	{"`0x19c`", "0x19c\n"},
	{"`412abc`", "412abc\n"},
	{"`412.5`", "412.5\n"},
	{"`412 434`", "412 434\n"},
	{"`412` and a NUL", "412\x00\n"},
	{"`4294967708`, which is 2³² + 412", "4294967708\n"},
	{"ten million digits", strings.Repeat("4", 10_000_000)},
}

func garbageList() string {
	var names []string
	for _, g := range garbage {
		names = append(names, g.name)
	}
	return strings.Join(names, "; ")
}

// A bystander has nothing to do with the file, and notes each signal.
type bystander struct {
	*process
	id string
}

func (c *cell) bystander(pid int) *bystander {
	c.starts++
	b := &bystander{id: fmt.Sprint("bystander", c.starts)}
	b.process = must(c.startAs(pid, c.another(false, b.id)...))
	if !eventually(patience, func() bool { _, ok := c.log.find(b.id, ready); return ok || b.hasEnded() }) || b.hasEnded() {
		panic("a bystander: " + b.said())
	}
	return b
}

// hit returns what signals the bystander got. It asks by another signal, which
// has a higher number and so is delivered after them.
func (c *cell) hit(b *bystander) string {
	if b.hasEnded() {
		return b.said()
	}
	before := c.log.count(b.id, "SIGWINCH")
	kill(b.pid, unix.SIGWINCH)
	if !eventually(patience, func() bool { return c.log.count(b.id, "SIGWINCH") > before || b.hasEnded() }) {
		panic("a bystander does not answer")
	}
	if b.hasEnded() {
		return b.said()
	}
	if n := c.log.count(b.id, "SIGTERM"); n > 0 {
		return "SIGTERM"
	}
	return ""
}

// A pair of bystanders is renewed for each text.
func (c *cell) pair() []*bystander { return []*bystander{c.bystander(low), c.bystander(high)} }

func (c *cell) hits(pair []*bystander) (who []string) {
	for _, b := range pair {
		if how := c.hit(b); how != "" {
			who = append(who, fmt.Sprintf("%s to PID %d", how, b.pid))
		}
	}
	return who
}

func garbageStart(c *cell) finding {
	if !c.tool.hasPID {
		return notApplicable("it does not read the file")
	}
	var bad, all []string
	pair := c.pair()
	for _, g := range garbage {
		check(os.RemoveAll(c.path))
		check(os.WriteFile(c.path, []byte(g.text), 0o644))
		c.age()
		next := c.try()
		_, in := next.entered()
		hits := c.hits(pair)
		line := g.name + ": " + next.how()
		if len(hits) > 0 {
			line += "; signalled: " + strings.Join(hits, ", ")
		}
		all = append(all, line)
		if !in || len(hits) > 0 {
			bad = append(bad, g.name)
		}
		next.finish()
	}
	return misread("refused", bad, all)
}

// misread makes the finding of which texts were bad.
func misread(what string, bad, all []string) finding {
	if len(bad) == 0 {
		return judge(true, "all fine", append([]string{fmt.Sprintf("none of %d texts was misread", len(garbage))}, all...)...)
	}
	summary := fmt.Sprintf("%s: %s", what, strings.Join(bad, "; "))
	return judge(false, fmt.Sprintf("**%d of %d %s**", len(bad), len(garbage), what), append([]string{summary}, all...)...)
}

func garbageStop(c *cell) finding {
	var bad, all []string
	for _, g := range garbage {
		killAll()
		pair := c.pair()
		check(os.WriteFile(c.path, []byte(g.text), 0o644))
		wrong, how := c.harm(low, pair)
		all = append(all, g.name+": "+how)
		if wrong {
			bad = append(bad, g.name)
		}
	}
	return misread("misread", bad, all)
}

// harm lets the stopper act, in the process group group, and tells whether it did
// anything to anybody.
func (c *cell) harm(group int, others []*bystander) (wrong bool, how string) {
	p := c.callStopper(group)
	ended := p.wait(2 * time.Second)
	switch c.stopper.does {
	case waits:
		return !ended, pick(ended, p.said(), "waits for it")
	case asks:
		if !ended && !p.wait(patience) {
			return true, "does not end"
		}
		wrong = p.status.ExitStatus() == 0
		return wrong, pick(wrong, "says that it runs: ", "") + p.said()
	}
	if !ended {
		p.wait(patience)
	}
	hits := c.hits(others)
	if len(hits) > 0 {
		return true, "signalled: " + strings.Join(hits, ", ")
	}
	return false, p.said()
}
