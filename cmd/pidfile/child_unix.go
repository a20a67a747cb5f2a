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

// become executes file in our place; fd stays open. It returns if that fails.
func become(fd int, file string, argv, env []string) syscall.Errno {
	if _, err := unix.FcntlInt(uintptr(fd), unix.F_SETFD, 0); err != nil {
		return err.(syscall.Errno)
	}
	err := syscall.Exec(file, argv, env)
	if err == syscall.ENOEXEC { // a script without #!, which execvp(3) gives to sh
		_ = syscall.Exec("/bin/sh", append([]string{"sh", file}, argv[1:]...), env)
	}
	return err.(syscall.Errno)
}
