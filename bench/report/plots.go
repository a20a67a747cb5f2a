package main

import (
	"cmp"
	"path/filepath"
	"slices"
	"strconv"

	"github.com/go-pidfile/pidfile/bench/peers"
	"github.com/go-pidfile/pidfile/bench/plot"
	"github.com/go-pidfile/pidfile/bench/record"
)

// draw writes the plots.
func draw(r *record.Run, dir string) error {
	d := &data{Run: r}
	for _, p := range []struct{ file, what, title string }{
		{"uncontended.svg", "uncontended", "Acquire and release, nobody in the way (tmpfs)"},
		{"refused.svg", "refused", "Refused (tmpfs)"},
	} {
		if err := plot.Bars(filepath.Join(dir, p.file), p.title, "times the raw calls", true, d.bars(p.what, "tmpfs", ratioBar)); err != nil {
			return err
		}
	}
	if err := plot.Bars(filepath.Join(dir, "command.svg"), "Start, run \"true\", end", "ms, median", false, d.bars("command", "tmpfs", func(v, _ []float64) float64 {
		return record.Median(v) / units["ms"]
	})); err != nil {
		return err
	}
	for _, p := range []struct{ file, what, title, unit string }{
		{"handover-release.svg", "handover release", "From the release until the next one has the file", "µs"},
		{"handover-kill.svg", "handover kill", "From SIGKILL of the holder until the next one has the file", "µs"},
		{"handover-cpu.svg", "cpu handover", "CPU of all processes, a hand-over", "µs"},
		{"waiting-cpu.svg", "cpu waiting", "CPU of all processes while they wait (not shown: none)", "ms"},
	} {
		lines := d.lines(p.what, p.unit)
		y := p.unit + ", median"
		if p.what == "cpu waiting" {
			y = "ms of CPU a second"
		}
		if err := plot.Lines(filepath.Join(dir, p.file), p.title, "waiting processes", y, true, lines); err != nil {
			return err
		}
	}
	return nil
}

func ratioBar(values, floor []float64) float64 { return record.Ratio(values, floor) }

func (d *data) bars(what, where string, value func(values, floor []float64) float64) (bars []plot.Bar) {
	floor := d.Find(what, where, floors[what])
	for _, p := range d.measured(what, where) {
		bars = append(bars, plot.Bar{Name: p, Value: value(d.Find(what, where, p), floor), Ours: ours(p)})
	}
	slices.SortStableFunc(bars, func(a, b plot.Bar) int { return cmp.Compare(a.Value, b.Value) })
	return bars
}

// lines is a line a peer over the number of waiting processes.
func (d *data) lines(what, unit string) (lines []plot.Line) {
	for _, l := range peers.Locks {
		line := plot.Line{Name: l.Name, Ours: ours(l.Name)}
		for _, n := range d.waiters() {
			values := d.Find(what, n, l.Name)
			if values == nil {
				continue
			}
			x, err := strconv.ParseFloat(n, 64)
			if err != nil {
				continue // it is a number
			}
			line.X = append(line.X, x)
			line.Y = append(line.Y, record.Median(values)/units[unit])
		}
		if len(line.X) > 0 {
			lines = append(lines, line)
		}
	}
	return lines
}
