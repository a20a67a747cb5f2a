package proc

import "syscall"

// An ExitStatus is how a process ended.
type ExitStatus struct {
	Code   int            // its exit code, -1 if a signal ended it
	Signal syscall.Signal // the signal that ended it, 0 if none did
}
