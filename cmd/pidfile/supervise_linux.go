package main

import (
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// A caught signal, as the handler writes it: the beginning of siginfo_t.
type caught struct{ sig, code, pid int32 }

// siKernel is the code of a signal that the terminal's keys send: to its whole
// foreground group, and so to COMMAND as well.
const siKernel = 0x80

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

// giveUp undoes newSupervisor where there is no COMMAND after all: a signal
// caught meanwhile is for us.
func (s *supervisor) giveUp() {
	uncatch()
	if c, ok := s.next(); ok {
		_ = unix.Kill(unix.Getpid(), syscall.Signal(c.sig))
	}
	unix.Close(s.pipe[0])
	unix.Close(s.pipe[1])
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
	timeout := moment
	for {
		n, err := unix.Poll(fds, timeout)
		if err != nil && err != unix.EINTR {
			return // cannot happen; reaping waits as well
		}
		if n == 0 && err == nil {
			timeout = -1
			settled()
		}
		for c, ok := s.next(); ok; c, ok = s.next() {
			if c.code != siKernel {
				_ = unix.Kill(pid, syscall.Signal(c.sig)) // EPERM: COMMAND has become another user
			}
		}
		if fds[1].Revents != 0 || fds[0].Revents&unix.POLLHUP != 0 {
			return
		}
	}
}
