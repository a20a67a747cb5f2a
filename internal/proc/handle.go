package proc

import (
	"fmt"
	"syscall"
)

// An ExitStatus is how a process ended.
type ExitStatus struct {
	Code   int            // its exit code, -1 if a signal ended it
	Signal syscall.Signal // the signal that ended it, 0 if none did
}

// String returns "exit status 3" or "signal: terminated".
func (s *ExitStatus) String() string {
	if s.Signal != 0 {
		return fmt.Sprintf("signal: %v", s.Signal)
	}
	return fmt.Sprintf("exit status %d", s.Code)
}
