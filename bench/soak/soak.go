package main

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"sync"
	"time"

	"github.com/go-pidfile/pidfile"
	"github.com/go-pidfile/pidfile/bench/record"
)

// A soak is one run.
type soak struct {
	length, storm time.Duration
	leak          int

	dir     string
	witness *witness
	crew    []*helper
	counts  record.Counts
	tally   tally
	began   time.Time
	samples []record.Sample // one a second
	quiet   []record.Sample // one a storm, when all is released
	rounds  []float64       // when each round through all sizes ended
}

// Paths and waiters double so often, until they start anew; and so many of these
// rounds, at least, are warm-up.
const (
	steps      = 7
	warmRounds = 2
)

// run storms until the time is over, and judges.
func (s *soak) run() (*record.Soak, error) {
	var err error
	if s.dir, err = os.MkdirTemp("/dev/shm", "pidfile-soak-"); err != nil {
		return nil, err
	}
	defer os.RemoveAll(s.dir)
	if s.witness, err = newWitness(filepath.Join(s.dir, "witness")); err != nil {
		return nil, err
	}
	if err := os.Mkdir(s.paths(), 0o755); err != nil {
		return nil, err
	}
	defer s.dismiss()
	makeThreads(maxPaths*maxWaiters + 2*maxPaths)
	s.began = time.Now()
	stop, stopped := make(chan struct{}), make(chan struct{})
	go func() { s.sampleEach(time.Second, stop); close(stopped) }()
	err = s.storms()
	close(stop)
	<-stopped
	if err != nil {
		return nil, err
	}
	return s.result(), nil
}

// makeThreads makes n threads. The Go runtime keeps all that it ever needed at
// once, some 25 KiB each; and how many that are is chance: whoever is in a system
// call while the machine has other work needs one. Without this, each new record
// looks like growth.
func makeThreads(n int) {
	var up, down sync.WaitGroup
	over := make(chan struct{})
	up.Add(n)
	for range n {
		down.Go(func() {
			runtime.LockOSThread()
			defer runtime.UnlockOSThread()
			up.Done()
			<-over
		})
	}
	up.Wait()
	close(over)
	down.Wait()
}

// paths is the folder of the PID files.
func (s *soak) paths() string { return filepath.Join(s.dir, "run") }

func (s *soak) path(storm, i int) string {
	return filepath.Join(s.paths(), fmt.Sprintf("%d-%d.pid", storm, i))
}

// storms lets one storm follow the other, each with twice the paths and twice
// the waiters, until it is too much and it begins anew. A path is used in one
// storm only, so whatever is kept for a path shows as growth.
func (s *soak) storms() error {
	if err := s.enlist(4); err != nil {
		return err
	}
	base := runtime.NumGoroutine()
	for n := 0; time.Since(s.began) < s.length || n < (warmRounds+1)*steps; n++ {
		size := min(1<<(n%steps), maxPaths)
		if err := s.oneStorm(n, size, min(size, maxWaiters)); err != nil {
			return fmt.Errorf("storm %d: %w", n, err)
		}
		if err := s.tidy(n, size); err != nil {
			return err
		}
		s.settle(base)
		s.quiet = append(s.quiet, s.sample())
		if n%steps == steps-1 {
			s.rounds = append(s.rounds, time.Since(s.began).Seconds())
		}
	}
	return nil
}

// tidy removes what killed helpers left, as any next start would, and counts what
// is there after that.
func (s *soak) tidy(storm, size int) error {
	for i := range size {
		path := s.path(storm, i)
		if _, err := os.Lstat(path); err != nil {
			continue
		}
		f, err := pidfile.Acquire(path)
		if err != nil {
			return fmt.Errorf("what a killed process left: %w", err)
		}
		if err := f.Release(); err != nil {
			return err
		}
	}
	left, err := os.ReadDir(s.paths())
	for _, e := range left {
		s.counts.Left++
		if err := os.Remove(filepath.Join(s.paths(), e.Name())); err != nil {
			return err
		}
	}
	s.witness.clear()
	return err
}

// settle waits until nothing of the storm runs any more, at most a few seconds:
// what still runs then shows in the sample.
func (s *soak) settle(goroutines int) {
	for end := time.Now().Add(5 * time.Second); runtime.NumGoroutine() > goroutines && time.Now().Before(end); {
		time.Sleep(time.Millisecond)
	}
	debug.FreeOSMemory() // garbage is no leak
}

// result judges what grew, after the warm-up: a fifth of the time, and at least
// twice through all sizes. What is sampled each second goes up and down with the
// size of the storm, so the highest of each round is judged, if there are enough.
func (s *soak) result() *record.Soak {
	warm := max(s.rounds[warmRounds-1], time.Since(s.began).Seconds()/5)
	r := &record.Soak{
		Date:    s.began.UTC().Format("2006-01-02 15:04 UTC"),
		Seconds: time.Since(s.began).Seconds(),
		Machine: record.Here(),
		Samples: thin(s.samples),
		Quiet:   thin(s.quiet),
	}
	r.Verdicts = judge("between storms", after(s.quiet, warm), quietAllowance)
	if peaks := after(s.peaks(), warm); len(peaks) >= 10 {
		r.Verdicts = append(r.Verdicts, judge("highest of a round", peaks, peakAllowance)...)
	}
	s.tally.fill(&s.counts)
	s.counts.Overlaps += s.witness.overlaps()
	r.Counts = s.counts
	return r
}
