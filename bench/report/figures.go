package main

import (
	"fmt"
	"strings"
	"text/template"

	"github.com/go-pidfile/pidfile/bench/peers"
	"github.com/go-pidfile/pidfile/bench/plot"
	"github.com/go-pidfile/pidfile/bench/record"
)

// data is what the document is made of.
type data struct {
	*record.Run
	Soak *record.Soak
}

// The floors, by what is measured.
var floors = map[string]string{
	"uncontended":              peers.Floor,
	"refused":                  peers.Floor,
	"handover release":         peers.FloorStay,
	"handover kill":            peers.FloorStay,
	"cpu handover":             peers.FloorStay,
	"identity":                 peers.FloorAlive,
	"command":                  "COMMAND alone",
	"command refused":          "COMMAND alone",
	"command peak":             "COMMAND alone",
	"command handover release": "flock(1)",
	"command handover kill":    "flock(1)",
	"wait for the end":         "raw pidfd_open, poll",
}

// Units, and how many of the recorded ones they have.
var units = map[string]float64{"ns": 1, "µs": 1e3, "ms": 1e6, "KiB": 1, "MiB": 1024}

func (d *data) functions() template.FuncMap {
	return template.FuncMap{
		"median": func(unit, what, where, peer string) string {
			return figure(record.Median(d.Find(what, where, peer))/units[unit], unit)
		},
		"p99": func(unit, what, where, peer string) string {
			return figure(record.Quantile(d.Find(what, where, peer), 0.99)/units[unit], unit)
		},
		"ratio": func(what, where, peer string) string { return d.ratio(what, where, peer) },
		"times": func(what, where, peer, other string) string {
			return times(record.Ratio(d.Find(what, where, peer), d.Find(what, where, other)))
		},
		"added": func(what, where, peer, other string) string { // what each adds to the floor
			floor := record.Median(d.Find(what, where, floors[what]))
			return times((record.Median(d.Find(what, where, peer)) - floor) / (record.Median(d.Find(what, where, other)) - floor))
		},
		"rounds":           func(what, where, peer string) int { return len(d.Find(what, where, peer)) },
		"libraries":        d.libraries,
		"commands":         d.commands,
		"cycles":           d.cycles,
		"handover":         d.handover,
		"cpu":              d.cpu,
		"identity":         d.identity,
		"scan":             d.scan,
		"scanned":          func() string { return strings.TrimPrefix(d.scanName(), "scan ") },
		"commandCosts":     d.commandCosts,
		"commandHandovers": d.commandHandovers,
		"waitEnds":         d.waitEnds,
		"waiters":          d.waiters,
		"flat":             d.flat,
		"floor":            func(what string) string { return floors[what] },
	}
}

func figure(v float64, unit string) string { return plot.Short(v) + " " + unit }

func times(ratio float64) string {
	if !(ratio > 0) { // nor a NaN: not measured
		return "–"
	}
	return plot.Short(ratio) + "×"
}

// ratio is a peer's ratio to the floor.
func (d *data) ratio(what, where, peer string) string {
	floor := d.Find(what, where, floors[what])
	values := d.Find(what, where, peer)
	if strings.Contains(what, "handover") || strings.Contains(what, "peak") { // not taken in turns value by value
		if len(values) == 0 || len(floor) == 0 {
			return "–"
		}
		return times(record.Median(values) / record.Median(floor))
	}
	if what == "command refused" { // its floor is COMMAND alone, which nobody refuses
		floor = d.Find("command", where, floors[what])
	}
	return times(record.Ratio(values, floor))
}

// cell is a median, or a dash if nothing was measured.
func (d *data) cell(unit, what, where, peer string) string {
	return d.quantile(0.5, unit, what, where, peer)
}

func (d *data) quantile(q float64, unit, what, where, peer string) string {
	values := d.Find(what, where, peer)
	if len(values) == 0 {
		return "–"
	}
	return plot.Short(record.Quantile(values, q) / units[unit])
}

// waiters are the numbers of waiting processes.
func (d *data) waiters() (numbers []string) {
	for _, s := range d.Series {
		if s.What == "handover release" && s.Peer == peers.FloorStay {
			numbers = append(numbers, s.Where)
		}
	}
	return numbers
}

// peer returns the entry of a peer.
func (d *data) peer(name string) record.Peer {
	for _, p := range d.Peers {
		if p.Name == name {
			return p
		}
	}
	return record.Peer{Name: name}
}

// measured returns the peers that have a series, in the order of the entries.
func (d *data) measured(what, where string) (names []string) {
	for _, p := range d.Peers {
		if d.Find(what, where, p.Name) != nil {
			names = append(names, p.Name)
		}
	}
	return names
}

// letters are a peer's guarantees in short: see the document.
func letters(p record.Peer) string {
	g := p.Guarantees
	if g.Refuses == "" {
		return "–"
	}
	var b strings.Builder
	put := func(letter string, has bool) {
		if !has {
			letter = "·"
		}
		b.WriteString(letter)
	}
	put("R", g.Refuses == record.Yes)
	put("1", g.Rounds > 0 && g.Both == 0)
	put("N", g.Names == record.Yes)
	put("C", g.Crash == record.Yes)
	put("P", g.Reused == record.Yes)
	if !p.Command {
		put("W", g.Reads > 0 && g.Torn == 0)
		put("I", g.Inode == record.Yes)
	}
	return fmt.Sprintf("`%s`", b.String())
}
