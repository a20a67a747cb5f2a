//go:build unix

package main

import (
	"syscall"

	"golang.org/x/sys/unix"
)

// reap waits for our child and returns its exit code, 128+N for signal N.
func reap(pid int) (int, error) {
	var status unix.WaitStatus
	for {
		_, err := unix.Wait4(pid, &status, 0, nil)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return 0, err
		}
		if status.Signaled() {
			return 128 + int(status.Signal()), nil
		}
		return status.ExitStatus(), nil
	}
}

// become makes us COMMAND; fd stays open. It returns if that fails.
func (s *starter) become(fd int) error {
	step, err := "inherit", error(nil)
	try := func(name string, call func() error) {
		if err == nil {
			step, err = name, call()
		}
	}
	try("inherit", func() error { _, err := unix.FcntlInt(uintptr(fd), unix.F_SETFD, 0); return err })
	if s.umask >= 0 {
		unix.Umask(s.umask)
	}
	if a := s.account; a != nil {
		try("change the user for", func() error {
			groups := make([]int, len(a.groups))
			for i, g := range a.groups {
				groups[i] = int(g)
			}
			if err := syscall.Setgroups(groups); err != nil {
				return err
			}
			if err := syscall.Setgid(a.gid); err != nil {
				return err
			}
			return syscall.Setuid(a.uid)
		})
	}
	if s.dir != "" {
		try("change the directory for", func() error { return unix.Chdir(s.dir) })
	}
	try("exec", func() error {
		err := syscall.Exec(s.path, s.argv, s.env)
		if err == syscall.ENOEXEC { // a script without #!, which execvp(3) gives to sh
			_ = syscall.Exec("/bin/sh", append([]string{"sh", s.path}, s.argv[1:]...), s.env)
		}
		return err
	})
	return &startError{step, s.path, err.(syscall.Errno)}
}

// private keeps descriptors from COMMAND.
func private(fds ...int) {
	for _, fd := range fds {
		if fd >= 0 {
			unix.CloseOnExec(fd)
		}
	}
}
