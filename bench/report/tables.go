package main

import (
	"fmt"
	"strings"

	"github.com/go-pidfile/pidfile/bench/peers"
	"github.com/go-pidfile/pidfile/bench/plot"
	"github.com/go-pidfile/pidfile/bench/record"
)

// A table is one of the document. All columns but the first and the last are
// figures.
type table struct {
	b       strings.Builder
	columns int
}

func newTable(columns ...string) *table {
	t := &table{columns: len(columns)}
	t.row(columns...)
	t.b.WriteString("|---|" + strings.Repeat("---:|", max(0, len(columns)-2)) + "---|\n")
	return t
}

func (t *table) row(cells ...string) {
	t.b.WriteString("| " + strings.Join(cells, " | ") + " |\n")
}

func (t *table) String() string { return strings.TrimSuffix(t.b.String(), "\n") }

// name is how a peer is shown.
func name(peer string) string {
	if ours(peer) {
		return "**" + peer + "**"
	}
	return peer
}

func ours(peer string) bool { return strings.HasPrefix(peer, peers.Ours) }

func known(verdict string) string {
	if verdict == "" {
		return "not asked"
	}
	return verdict
}

// libraries is the table of what each library was seen to guarantee.
func (d *data) libraries() string {
	t := newTable("", "version", "R refuses a second", "1 of two at once", "N names the holder", "C after a crash", "P reused PID", "W whole text", "I inode", "removes its file", "what is called")
	for _, p := range d.Peers {
		g := p.Guarantees
		if p.Command || g.Refuses == "" {
			continue
		}
		t.row(name(p.Name), p.Version, g.Refuses, both(g), g.Names, g.Crash, g.Reused, torn(g), known(g.Inode), g.Cleans, p.Detail)
	}
	return t.String()
}

func both(g record.Guarantees) string {
	switch {
	case g.Rounds == 0:
		return "not asked"
	case g.Both == 0:
		return fmt.Sprintf("yes, %d of %d", g.Rounds, g.Rounds)
	}
	return fmt.Sprintf("no: both, %d of %d", g.Both, g.Rounds)
}

func torn(g record.Guarantees) string {
	switch {
	case g.Reads == 0:
		return "never read"
	case g.Torn == 0:
		return fmt.Sprintf("yes, %d reads", g.Reads)
	case g.Torn == g.Reads:
		return "no PID in it"
	}
	return fmt.Sprintf("no: %d of %d", g.Torn, g.Reads)
}

// commands is the same of the commands.
func (d *data) commands() string {
	t := newTable("", "version", "R refuses a second", "1 of two at once", "N file has COMMAND's PID", "C after a crash", "P reused PID", "removes its file", "how it is run")
	for _, p := range d.Peers {
		g := p.Guarantees
		if !p.Command || g.Refuses == "" {
			continue
		}
		t.row(name(p.Name), p.Version, g.Refuses, both(g), g.Names, g.Crash, g.Reused, g.Cleans, p.Detail)
	}
	return t.String()
}

// cycles is the table of acquire and release, or of refusals.
func (d *data) cycles(what string) string {
	t := newTable("", "tmpfs µs", "to the floor", d.Machine.Disk+" µs", "to the floor", "guarantees")
	for _, p := range d.measured(what, "tmpfs") {
		t.row(name(p), d.cell("µs", what, "tmpfs", p), d.ratio(what, "tmpfs", p),
			d.cell("µs", what, "disk", p), d.ratio(what, "disk", p), letters(d.peer(p)))
	}
	return t.String()
}

// handover is the table for one number of waiting processes.
func (d *data) handover(waiters string) string {
	t := newTable("", "release p50 µs", "p99 µs", "p50 to the floor", "SIGKILL p50 µs", "p99 µs", "p50 to the floor", "guarantees")
	for _, p := range d.measured("handover release", waiters) {
		t.row(name(p),
			d.cell("µs", "handover release", waiters, p), d.quantile(0.99, "µs", "handover release", waiters, p), d.ratio("handover release", waiters, p),
			d.cell("µs", "handover kill", waiters, p), d.quantile(0.99, "µs", "handover kill", waiters, p), d.ratio("handover kill", waiters, p),
			letters(d.peer(p)))
	}
	return t.String()
}

// cpu is the table of CPU for one number of waiting processes.
func (d *data) cpu(waiters string) string {
	t := newTable("", "waiting, ms of CPU a second", "a hand-over, µs of CPU", "to the floor", "processes woken, mean", "guarantees")
	for _, p := range d.measured("cpu waiting", waiters) {
		t.row(name(p), d.cell("ms", "cpu waiting", waiters, p), d.cell("µs", "cpu handover", waiters, p),
			d.ratio("cpu handover", waiters, p), plot.Short(mean(d.Find("woken", waiters, p))), letters(d.peer(p)))
	}
	return t.String()
}

func mean(values []float64) float64 {
	sum := 0.
	for _, v := range values {
		sum += v
	}
	return sum / float64(max(1, len(values)))
}

// identity is the table of who tells what, at which price.
func (d *data) identity() string {
	t := newTable("", "µs", "to the floor", "lives", "dead", "zombie", "PID reused", "asks")
	for _, p := range d.measured("identity", "tmpfs") {
		row := []string{name(p), d.cell("µs", "identity", "tmpfs", p), d.ratio("identity", "tmpfs", p)}
		for _, situation := range []string{"holder", "dead", "zombie", "reused"} {
			right := "wrong"
			if record.Median(d.Find("right", situation, p)) == 1 {
				right = "right"
			}
			row = append(row, right)
		}
		t.row(append(row, d.peer(p).Detail)...)
	}
	return t.String()
}

// scanName is what the scan is called, which has the number of files in it.
func (d *data) scanName() string {
	for _, s := range d.Series {
		if strings.HasPrefix(s.What, "scan ") {
			return s.What
		}
	}
	return "scan"
}

func (d *data) scan() string {
	what := d.scanName()
	t := newTable("", "tmpfs ms", "to the floor", d.Machine.Disk+" ms", "to the floor", "asks, of each file")
	for _, p := range d.measured(what, "tmpfs") {
		row := []string{name(p)}
		for _, where := range []string{"tmpfs", "disk"} {
			values := d.Find(what, where, p)
			row = append(row, d.cell("ms", what, where, p), times(record.Ratio(values, d.Find(what, where, peers.FloorScan))))
		}
		t.row(append(row, d.peer(p).Detail)...)
	}
	return t.String()
}

func (d *data) commandCosts() string {
	t := newTable("", "ms", "to the floor", "refused, ms", "to the floor", "peak memory MiB", "to the floor", "guarantees")
	for _, p := range d.measured("command", "tmpfs") {
		t.row(name(p), d.cell("ms", "command", "tmpfs", p), d.ratio("command", "tmpfs", p),
			d.cell("ms", "command refused", "tmpfs", p), d.ratio("command refused", "tmpfs", p),
			d.cell("MiB", "command peak", "tmpfs", p), d.ratio("command peak", "tmpfs", p), letters(d.peer(p)))
	}
	return t.String()
}

func (d *data) commandHandovers() string {
	t := newTable("", "COMMAND ends, p50 ms", "p99 ms", "p50 to flock(1)", "SIGKILL of both, p50 ms", "p99 ms", "p50 to flock(1)", "guarantees")
	for _, p := range d.measured("command handover release", "1") {
		t.row(name(p),
			d.cell("ms", "command handover release", "1", p), d.quantile(0.99, "ms", "command handover release", "1", p), d.ratio("command handover release", "1", p),
			d.cell("ms", "command handover kill", "1", p), d.quantile(0.99, "ms", "command handover kill", "1", p), d.ratio("command handover kill", "1", p),
			letters(d.peer(p)))
	}
	return t.String()
}

func (d *data) waitEnds() string {
	t := newTable("", "p50 µs", "p99 µs", "p50 to the floor", "waits for")
	for _, p := range d.measured("wait for the end", "1") {
		t.row(name(p), d.cell("µs", "wait for the end", "1", p), d.quantile(0.99, "µs", "wait for the end", "1", p),
			d.ratio("wait for the end", "1", p), d.peer(p).Detail)
	}
	return t.String()
}

// flat is the table of the soak's verdicts.
func (d *data) flat() string {
	t := newTable("", "after the warm-up", "at the end", "growth by the slope", "allowed", "verdict")
	for _, v := range d.Soak.Verdicts {
		word := "flat"
		if !v.Flat {
			word = "**GROWS**"
		}
		t.row(v.What, plot.Short(v.First), plot.Short(v.Last), fmt.Sprintf("%+.2f", v.Growth), plot.Short(v.Allowed), word)
	}
	return t.String()
}
