package main

import "golang.org/x/sys/unix"

// ended waits until our child has ended, without reaping it: as long as it is
// a zombie, its PID is nobody else's.
func ended(pid int) {
	for unix.Waitid(unix.P_PID, pid, nil, unix.WEXITED|unix.WNOWAIT, nil) == unix.EINTR {
	}
}
