package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/go-pidfile/pidfile"
	"github.com/go-pidfile/pidfile/bench/record"
	"golang.org/x/sys/unix"
)

// A tally is what happened, counted by many goroutines.
type tally struct {
	acquired, refused, cancelled, recorded, restored atomic.Int64
	failure                                          atomic.Pointer[error]
}

func (t *tally) fail(err error) { t.failure.CompareAndSwap(nil, &err) }

func (t *tally) fill(c *record.Counts) {
	c.Acquired, c.Refused, c.Cancelled = t.acquired.Load(), t.refused.Load(), t.cancelled.Load()
	c.Recorded, c.Restored = t.recorded.Load(), t.restored.Load()
}

func contextFor(d time.Duration) (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.Background(), d)
}

// oneStorm lets so many waiters a path, and the helpers, fight for so many paths.
// A helper is killed in the middle of it.
func (s *soak) oneStorm(n, size, waiters int) error {
	s.counts.Storms++
	s.counts.Paths += size
	s.counts.MostPaths = max(s.counts.MostPaths, size)
	s.counts.MostWaiters = max(s.counts.MostWaiters, size*waiters)
	for _, h := range s.crew {
		if err := h.tell(n, size, s.storm); err != nil {
			return err
		}
	}
	ctx, cancel := contextFor(s.storm)
	defer cancel()
	var fights sync.WaitGroup
	for i := range size * waiters {
		fights.Go(func() { s.fight(ctx, n, size, newToken(0, i)) })
	}
	if n%steps == 1 {
		fights.Go(func() { s.restore(n) })
	}
	time.Sleep(time.Duration(rand.Int64N(int64(s.storm))))
	s.kill(rand.IntN(len(s.crew)))
	fights.Wait()
	for _, h := range s.crew {
		acquired, err := h.hear()
		if err != nil {
			return err
		}
		s.counts.HelperAcquired += acquired
	}
	if err := s.tally.failure.Load(); err != nil {
		return *err
	}
	return s.enlist(4)
}

// fight is what each of them does until the storm is over.
func (s *soak) fight(ctx context.Context, storm, size int, me token) {
	for ctx.Err() == nil {
		i := rand.IntN(size)
		path := s.path(storm, i)
		f, err := s.attempt(ctx, path)
		switch {
		case err == nil:
			s.hold(f, i, me)
		case errors.Is(err, context.DeadlineExceeded), errors.Is(err, context.Canceled):
			s.tally.cancelled.Add(1)
		case errors.Is(err, pidfile.ErrAlreadyRunning):
			s.tally.refused.Add(1)
			s.look(path)
		default:
			s.tally.fail(err)
			return
		}
	}
}

// attempt acquires at once, or waits until the storm is over, or gives up soon.
func (s *soak) attempt(ctx context.Context, path string) (*pidfile.File, error) {
	switch rand.IntN(4) {
	case 0:
		return pidfile.Acquire(path)
	case 1:
		return pidfile.AcquireContext(ctx, path)
	}
	soon, cancel := context.WithTimeout(ctx, time.Duration(rand.IntN(5000))*time.Microsecond)
	defer cancel()
	return pidfile.AcquireContext(soon, path)
}

// hold has the file for a moment.
func (s *soak) hold(f *pidfile.File, path int, me token) {
	s.witness.enter(path, me)
	n := s.tally.acquired.Add(1)
	if s.leak > 0 && n%int64(s.leak) == 0 {
		if _, err := unix.Open("/dev/null", unix.O_RDONLY|unix.O_CLOEXEC, 0); err != nil {
			s.tally.fail(err)
		}
	}
	switch rand.IntN(16) {
	case 0:
		if err := f.SetPID(os.Getpid()); err != nil {
			s.tally.fail(err)
		}
		s.tally.recorded.Add(1)
	case 1:
		f.Lost()
	case 2:
		time.Sleep(time.Duration(rand.IntN(500)) * time.Microsecond)
	}
	s.witness.leave(path, me)
	if err := f.Release(); err != nil {
		s.tally.fail(err)
	}
}

// look asks who has the file. All answers are right: it may have changed hands.
func (s *soak) look(path string) {
	if _, err := pidfile.Inspect(path); err != nil {
		s.tally.fail(fmt.Errorf("inspect: %w", err))
	}
	if p, err := pidfile.Find(path); err == nil {
		_ = p.Close()
	}
}

// restore has a file removed under its holder, and puts it back. It has a path of
// its own, since whoever else came would get it.
func (s *soak) restore(storm int) {
	path := filepath.Join(s.paths(), fmt.Sprintf("%d-own.pid", storm))
	f, err := pidfile.Acquire(path)
	if err != nil {
		s.tally.fail(err)
		return
	}
	lost := f.Lost()
	if err := os.Remove(path); err != nil {
		s.tally.fail(err)
	}
	select {
	case <-lost:
	case <-time.After(time.Minute):
		s.tally.fail(errors.New("a file was removed, and Lost did not tell for a minute"))
	}
	if err := errors.Join(f.Restore(), f.Release()); err != nil {
		s.tally.fail(err)
	}
	s.tally.restored.Add(1)
}
