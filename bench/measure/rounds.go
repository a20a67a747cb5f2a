package main

import (
	"fmt"
	"math/rand/v2"

	"github.com/go-pidfile/pidfile/bench/record"
)

// A contestant is one peer in one measurement. Round returns one value.
type contestant struct {
	peer  string
	round func() (float64, error)
}

// interleave lets the contestants take turns, in another order each round, and
// records a value a round of each. What disturbs the machine for a while
// disturbs all of them.
func (b *bench) interleave(what, where, unit string, rounds int, contestants []contestant) error {
	b.say("%s, %s: %d rounds of %d", what, where, rounds, len(contestants))
	values := make([][]float64, len(contestants))
	for i := range rounds + 1 {
		for _, k := range rand.Perm(len(contestants)) {
			v, err := contestants[k].round()
			if err != nil {
				return fmt.Errorf("%s, %s, %s: %w", what, where, contestants[k].peer, err)
			}
			if i > 0 { // the first one warms up
				values[k] = append(values[k], v)
			}
		}
	}
	for k, c := range contestants {
		b.keep(what, where, c.peer, unit, values[k]...)
	}
	return nil
}

// keep adds values to a series.
func (b *bench) keep(what, where, peer, unit string, values ...float64) {
	for i := range b.run.Series {
		s := &b.run.Series[i]
		if s.What == what && s.Where == where && s.Peer == peer {
			s.Values = append(s.Values, values...)
			return
		}
	}
	b.run.Series = append(b.run.Series, record.Series{What: what, Where: where, Peer: peer, Unit: unit, Values: values})
}
