package main

import (
	"fmt"
	"syscall"
	"time"
	"unsafe"

	"github.com/go-pidfile/pidfile/internal/proc"
	"golang.org/x/sys/unix"
)

// A caught signal, as the handler writes it: the beginning of siginfo_t.
type caught struct{ sig, code, pid int32 }

// siKernel is the code of a signal that the kernel sends.
const siKernel = 0x80

// shared reports whether COMMAND gets the signal from the kernel as we do, and
// would get it twice: a terminal signals its whole foreground group for a key or
// a new size, and the end of a session's leader is a HUP to all. A HUP to the
// leader itself, when the terminal is gone, is for it alone.
func (c caught) shared(pid int) bool {
	group, err := unix.Getpgid(pid)
	if c.code != siKernel || err != nil || group != unix.Getpgrp() {
		return false
	}
	if syscall.Signal(c.sig) == unix.SIGHUP {
		leader, err := unix.Getsid(0)
		return err == nil && leader != unix.Getpid()
	}
	return true
}

// moment is how long a COMMAND may take and still count as short.
const moment = 100 * time.Millisecond

// catchable are the signals to be passed, and those that we catch besides if
// there is something to do for them.
var catchable = [len(passed) + 2]syscall.Signal(append(passed[:], unix.SIGCHLD, stopKey))

// A supervisor waits for COMMAND and passes signals on to it, in one thread
// that sleeps in poll(2).
type supervisor struct {
	pipe  [2]int // caught signals
	pid   int    // COMMAND's
	pidfd int32  // -1 if there is none
	group bool   // COMMAND leads a process group of its own
	tty   int    // in whose foreground that group is; -1: none
	keys  bool   // our own group was there before

	maxRuntime, killAfter time.Duration
	alarm                 time.Time // when to send the next signal of our own
	ending                bool      // we have sent TERM
	overtime              bool      // because of maxRuntime

	orphans *orphans // nil if we do not get those of COMMAND
	tree    bool     // and wait for them
}

// newSupervisor catches signals before there is a COMMAND that could miss one.
func newSupervisor(r *runner) (*supervisor, error) {
	if err := proc.Usable(); r.tree && err != nil { // other processes would be taken for COMMAND's
		return nil, fmt.Errorf("--tree: %w: mount its own: mount -t proc proc /proc", err)
	}
	s := &supervisor{pidfd: -1, group: r.start.group, tty: -1, maxRuntime: r.maxRuntime, killAfter: r.killAfter, tree: r.tree}
	if tty, foreground := ourTerminal(); s.group && !r.start.session {
		s.tty, s.keys = tty, foreground
		if r.start.tty = -1; foreground {
			r.start.tty = tty
		}
	}
	if err := unix.Pipe2(s.pipe[:], unix.O_CLOEXEC|unix.O_NONBLOCK); err != nil {
		return nil, err
	}
	if r.tree || unix.Getpid() == 1 {
		s.orphans = newOrphans()
	}
	if r.tree {
		if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
			return nil, err
		}
	}
	var others []syscall.Signal
	if s.orphans != nil || s.tty >= 0 {
		others = append(others, unix.SIGCHLD)
	}
	if r.start.session {
		others = append(others, stopKey)
	}
	catch(s.pipe[1], others...)
	return s, nil
}

// next returns a caught signal.
func (s *supervisor) next() (c caught, ok bool) {
	for {
		n, err := unix.Read(s.pipe[0], (*[unsafe.Sizeof(c)]byte)(unsafe.Pointer(&c))[:])
		if err != unix.EINTR {
			return c, n == int(unsafe.Sizeof(c))
		}
	}
}

// giveUp undoes newSupervisor where there is no COMMAND after all, and returns
// the signals caught meanwhile: they are for us.
func (s *supervisor) giveUp() (missed []syscall.Signal) {
	uncatch()
	for c, ok := s.next(); ok; c, ok = s.next() {
		missed = append(missed, syscall.Signal(c.sig))
	}
	unix.Close(s.pipe[0])
	unix.Close(s.pipe[1])
	if s.keys {
		s.foreground(unix.Getpgrp()) // the child that failed may have put its own there
	}
	return missed
}

// raise sends ourselves the signals that were missed.
func raise(missed []syscall.Signal) {
	for _, sig := range missed {
		if sig != unix.SIGCHLD {
			_ = unix.Kill(unix.Getpid(), sig)
		}
	}
}

// wait returns when COMMAND has ended, and, for a tree, all that it left behind.
// It is not reaped: as long as it is a zombie, its PID is nobody else's. If that
// takes longer than a moment, settled is called once: what only a long-lived
// COMMAND needs. It reports whether maxRuntime had run out.
func (s *supervisor) wait(settled func()) (overtime bool) {
	if s.pidfd < 0 { // before Linux 5.3: let a thread wait
		go func() {
			for unix.Waitid(unix.P_PID, s.pid, nil, unix.WEXITED|unix.WNOWAIT, nil) == unix.EINTR {
			}
			unix.Close(s.pipe[1]) // its end is as good as a descriptor's becoming readable
		}()
	}
	if s.maxRuntime > 0 {
		s.alarm = time.Now().Add(s.maxRuntime)
	}
	defer s.takeTerminal()
	fds := []unix.PollFd{{Fd: int32(s.pipe[0]), Events: unix.POLLIN}, {Fd: s.pidfd, Events: unix.POLLIN}}
	young := time.Now().Add(moment) // until then
	for {
		_, err := unix.Poll(fds, untilFirst(young, s.alarm))
		if err != nil && err != unix.EINTR {
			return s.overtime // cannot happen; reaping waits as well
		}
		if !young.IsZero() && !time.Now().Before(young) {
			young = time.Time{}
			settled()
		}
		s.passOn()
		ended := fds[1].Revents != 0 || fds[0].Revents&unix.POLLHUP != 0
		if s.orphans != nil {
			if ended && s.tree {
				fds[1].Fd = -1 // it stays readable
				s.orphans.alone = true
			}
			s.orphans.reap(s.pid)
			if s.orphans.alone {
				s.orphans.catchUp()
				ended = s.orphans.none(s.pid)
			}
		}
		if ended {
			return s.overtime
		}
		s.checkStopped()
		s.checkAlarm()
	}
}

// untilFirst is the time until the first of two moments, zero ones being never,
// as poll(2) takes it: in milliseconds, rounded up, -1 for ever.
func untilFirst(a, b time.Time) int {
	if a.IsZero() || !b.IsZero() && b.Before(a) {
		a = b
	}
	if a.IsZero() {
		return -1
	}
	ms := max(0, time.Until(a)+time.Millisecond-1) / time.Millisecond
	return int(min(ms, 1<<30)) // a longer wait goes round again
}

// askStop, in the place of a signal, is a call of stop.
const askStop = -1

// stop ends COMMAND as if its time had run out. Any goroutine may call it.
func (s *supervisor) stop() {
	c := caught{sig: askStop}
	_, _ = unix.Write(s.pipe[1], (*[unsafe.Sizeof(c)]byte)(unsafe.Pointer(&c))[:])
}

// passOn passes caught signals on.
func (s *supervisor) passOn() {
	for c, ok := s.next(); ok; c, ok = s.next() {
		switch sig := syscall.Signal(c.sig); {
		case c.sig == askStop:
			s.end()
		case sig == stopKey:
			s.suspend()
		case sig == unix.SIGCHLD: // for those who look at our children each time
		case !c.shared(s.pid):
			if sig == unix.SIGCONT {
				s.giveTerminal()
			}
			s.send(sig)
		}
	}
}

// send sends a signal to COMMAND or its group, or to what they left behind.
func (s *supervisor) send(sig syscall.Signal) {
	if s.orphans != nil {
		if s.orphans.send(sig); s.orphans.alone {
			return
		}
	}
	target := s.pid
	if s.group {
		target = -target // a group as long as its leader is not reaped
	}
	_ = unix.Kill(target, sig) // EPERM: COMMAND has become another user
}

// checkAlarm ends COMMAND if its time has run out.
func (s *supervisor) checkAlarm() {
	if s.alarm.IsZero() || time.Now().Before(s.alarm) {
		return
	}
	s.overtime = s.overtime || !s.ending
	if s.ending {
		s.alarm = time.Time{}
		s.send(unix.SIGKILL)
		return
	}
	s.end()
}

// end sends TERM, and CONT for whoever is stopped, and sees that KILL follows.
func (s *supervisor) end() {
	if s.ending {
		return
	}
	s.ending = true
	s.alarm = time.Now().Add(s.killAfter)
	if s.killAfter > 0 {
		s.send(unix.SIGTERM)
		s.send(unix.SIGCONT)
	}
}
