//go:build unix && !linux

package main

import (
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

func (s *starter) startProcess(attr *os.ProcAttr) (*os.Process, error) {
	attr.Sys = &syscall.SysProcAttr{Setpgid: s.group && !s.session, Setsid: s.session}
	if a := s.account; a != nil {
		attr.Sys.Credential = &syscall.Credential{Uid: uint32(a.uid), Gid: uint32(a.gid), Groups: a.groups}
	}
	if s.umask >= 0 { // a child has its parent's
		defer unix.Umask(unix.Umask(s.umask))
	}
	return os.StartProcess(s.path, s.argv, attr)
}

// awaitEnd waits until our child has ended, and does not reap it: kqueue(2).
func awaitEnd(pid int) {
	queue, err := unix.Kqueue()
	if err != nil {
		return // reaping waits as well
	}
	defer unix.Close(queue)
	event := unix.Kevent_t{Fflags: unix.NOTE_EXIT}
	unix.SetKevent(&event, pid, unix.EVFILT_PROC, unix.EV_ADD|unix.EV_ONESHOT)
	for { // ESRCH: it has ended
		if _, err = unix.Kevent(queue, []unix.Kevent_t{event}, make([]unix.Kevent_t, 1), nil); err != unix.EINTR {
			return
		}
	}
}

// suspend stops COMMAND's group, which our terminal cannot stop, and us.
func (s *supervisor) suspend() {
	s.send(unix.SIGSTOP)
	_ = unix.Kill(os.Getpid(), unix.SIGSTOP)
}

func (s *supervisor) send(sig syscall.Signal) {
	target := s.pid
	if s.group {
		target = -target
	}
	_ = unix.Kill(target, sig) // EPERM: COMMAND has become another user
}
