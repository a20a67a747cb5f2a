package main

import (
	"fmt"
	"os"
	"path/filepath"

	"github.com/go-pidfile/pidfile/bench/peers"
)

// cycles measures what it costs to acquire and release when nobody is in the
// way, and to be refused, in nanoseconds.
func (b *bench) cycles() error {
	for _, p := range b.places {
		if err := b.uncontended(p); err != nil {
			return err
		}
		if err := b.refused(p); err != nil {
			return err
		}
	}
	return nil
}

// each calls f for every peer that is there, with a name for its files.
func (b *bench) each(f func(l *peers.Lock, name string) error) error {
	for i := range peers.Locks {
		if l := &peers.Locks[i]; b.available(l) {
			if err := f(l, fmt.Sprintf("%02d.pid", i)); err != nil {
				return fmt.Errorf("%s: %w", l.Name, err)
			}
		}
	}
	return nil
}

func (b *bench) uncontended(p place) error {
	var turns []contestant
	err := b.each(func(l *peers.Lock, name string) error {
		if l.Polls {
			return nil
		}
		w, err := b.start(l)
		if err != nil {
			return err
		}
		path := filepath.Join(p.dir, name)
		turns = append(turns, contestant{l.Name, func() (float64, error) {
			return w.batch("cycle", path, b.size.batch)
		}})
		return nil
	})
	if err != nil {
		return err
	}
	return b.interleave("uncontended", p.name, "ns", b.size.rounds, turns)
}

func (b *bench) refused(p place) error {
	var turns []contestant
	err := b.each(func(l *peers.Lock, name string) error {
		if !l.Tries {
			return nil
		}
		path := filepath.Join(p.dir, name)
		_ = os.Remove(path) // what the last measurement left
		holder, err := b.start(l)
		if err != nil {
			return err
		}
		if _, err := holder.ask("ok", "try %s 0", path); err != nil {
			return err
		}
		w, err := b.start(l)
		if err != nil {
			return err
		}
		turns = append(turns, contestant{l.Name, func() (float64, error) {
			return w.batch("refused", path, b.size.batch)
		}})
		return nil
	})
	if err != nil {
		return err
	}
	return b.interleave("refused", p.name, "ns", b.size.rounds, turns)
}

// batch asks for n of something, and returns what one took.
func (w *worker) batch(what, path string, n int) (float64, error) {
	a, err := w.ask("took", "%s %s %d", what, path, n)
	return float64(a.number / int64(n)), err
}
