package main

import (
	"syscall"
	"time"
	"unsafe"

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

// moment, in milliseconds, is how long a COMMAND may take and still count as short.
const moment = 100

// A supervisor waits for COMMAND and passes signals on to it, in one thread
// that sleeps in poll(2).
type supervisor struct {
	pipe [2]int // caught signals
}

// newSupervisor catches signals before there is a COMMAND that could miss one.
func newSupervisor() (*supervisor, error) {
	s := &supervisor{}
	if err := unix.Pipe2(s.pipe[:], unix.O_CLOEXEC|unix.O_NONBLOCK); err != nil {
		return nil, err
	}
	catch(s.pipe[1])
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
	return missed
}

// raise sends ourselves the signals that were missed.
func raise(missed []syscall.Signal) {
	for _, sig := range missed {
		_ = unix.Kill(unix.Getpid(), sig)
	}
}

// wait returns when COMMAND has ended. It is not reaped: as long as it is a
// zombie, its PID is nobody else's. If that takes longer than a moment, settled
// is called once: what only a long-lived COMMAND needs.
func (s *supervisor) wait(pid int, pidfd int32, settled func()) {
	if pidfd < 0 { // before Linux 5.3: let a thread wait
		go func() {
			for unix.Waitid(unix.P_PID, pid, nil, unix.WEXITED|unix.WNOWAIT, nil) == unix.EINTR {
			}
			unix.Close(s.pipe[1]) // its end is as good as a descriptor's becoming readable
		}()
	}
	fds := []unix.PollFd{{Fd: int32(s.pipe[0]), Events: unix.POLLIN}, {Fd: pidfd, Events: unix.POLLIN}}
	timeout, start := moment, time.Now()
	for {
		_, err := unix.Poll(fds, timeout)
		if err != nil && err != unix.EINTR {
			return // cannot happen; reaping waits as well
		}
		if timeout >= 0 && time.Since(start) >= moment*time.Millisecond {
			timeout = -1
			settled()
		}
		for c, ok := s.next(); ok; c, ok = s.next() {
			if !c.shared(pid) {
				_ = unix.Kill(pid, syscall.Signal(c.sig)) // EPERM: COMMAND has become another user
			}
		}
		if fds[1].Revents != 0 || fds[0].Revents&unix.POLLHUP != 0 {
			return
		}
	}
}
