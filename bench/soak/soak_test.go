package main

import (
	"math/rand/v2"
	"os"
	"testing"
	"time"

	"github.com/go-pidfile/pidfile/bench/record"
)

func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == "helper" {
		help(os.Args[2:])
		return
	}
	os.Exit(m.Run())
}

// A soak of a few seconds finds nothing, and finds a leak of descriptors.
func TestSoak(t *testing.T) {
	for _, leak := range []int{0, 20} {
		s := soak{storm: 50 * time.Millisecond, leak: leak}
		r, err := s.run()
		if err != nil {
			t.Fatal(err)
		}
		t.Logf("%+v", r.Counts)
		if c := r.Counts; c.Acquired < 300 || c.HelperAcquired < 300 || c.Cancelled < 50 || c.Killed < 20 {
			t.Errorf("that was no storm: %+v", c)
		}
		if ok := tell(r); ok != (leak == 0) {
			t.Errorf("leak %d: ok is %v", leak, ok)
		}
	}
}

// The witness sees two on one path, and forgives those that were killed.
func TestWitness(t *testing.T) {
	w, err := newWitness(t.TempDir() + "/witness")
	if err != nil {
		t.Fatal(err)
	}
	w.enter(3, newToken(1, 0))
	w.doomed(1)
	w.enter(3, newToken(2, 0))
	w.leave(3, newToken(2, 0))
	if w.overlaps() != 0 {
		t.Fatal("one came after one that was killed, and counts as two at once")
	}
	w.enter(3, newToken(2, 0))
	w.enter(3, newToken(2, 1))
	if w.overlaps() != 1 {
		t.Fatal("two at once, and not seen")
	}
}

// What goes up and down is flat; what goes up and down and up is not.
func TestJudge(t *testing.T) {
	for _, grows := range []bool{false, true} {
		var samples []record.Sample
		for i := range 3600 {
			s := record.Sample{Second: float64(i), RSS: 20 + 5*rand.Float64(), Threads: 200, Heap: 2 + rand.Float64()/10}
			if i%97 == 0 {
				s.RSS = 60 // wild
			}
			if grows {
				s.RSS += float64(i) * 10 / 3600
				s.Heap += float64(i) * 2 / 3600
				s.Threads += float64(i / 30)
				s.Descriptors += float64(i / 1000)
				s.Goroutines += float64(i / 1000)
			}
			samples = append(samples, s)
		}
		for _, v := range judge("", samples, quietAllowance) {
			if v.Flat == grows {
				t.Errorf("grows: %v: %+v", grows, v)
			}
		}
	}
}
