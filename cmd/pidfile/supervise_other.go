//go:build !linux

package main

import (
	"errors"
	"fmt"
	"os"
	"os/signal"
	"sync/atomic"
	"syscall"
	"time"
)

// A supervisor passes signals on to COMMAND.
type supervisor struct {
	c   chan os.Signal
	pid int
	// pidfd is for Linux.
	pidfd int32
	group bool

	maxRuntime, killAfter time.Duration
	overtime              atomic.Bool
}

func newSupervisor(r *runner) (*supervisor, error) {
	if r.tree {
		return nil, fmt.Errorf("--tree: %w", errors.ErrUnsupported)
	}
	s := &supervisor{c: make(chan os.Signal, 64), group: r.start.group, maxRuntime: r.maxRuntime, killAfter: r.killAfter}
	notify(s.c, passed[:]...)
	if r.start.session {
		notify(s.c, stopKey)
	}
	return s, nil
}

func (s *supervisor) giveUp() []syscall.Signal {
	signal.Stop(s.c)
	return nil
}

func raise([]syscall.Signal) {}

// wait passes signals on, in the background, until COMMAND has ended, and
// reports whether maxRuntime had run out.
func (s *supervisor) wait(settled func()) (overtime bool) {
	settled()
	if s.maxRuntime > 0 {
		defer time.AfterFunc(s.maxRuntime, func() {
			s.overtime.Store(true)
			s.stop()
		}).Stop()
	}
	go func() {
		for sig := range s.c {
			if sig == stopKey {
				s.suspend()
			} else if s.group || (sig != os.Interrupt && sig != syscall.SIGQUIT) || !inForeground() {
				s.send(sig.(syscall.Signal))
			}
		}
	}()
	awaitEnd(s.pid)
	return s.overtime.Load()
}

// stop sends TERM, and KILL after its time. Any goroutine may call it.
func (s *supervisor) stop() {
	if s.killAfter > 0 {
		s.send(syscall.SIGTERM)
		time.Sleep(s.killAfter)
	}
	s.send(syscall.SIGKILL)
}
