//go:build darwin || dragonfly || freebsd || netbsd || openbsd

package lock

import (
	"os"
	"syscall"
)

// newHandoffLock makes a temporary file and removes its name.
func newHandoffLock() (int, error) {
	f, err := os.CreateTemp("", "pidfile-handoff-")
	if err != nil {
		return -1, err
	}
	defer f.Close()
	if err := os.Remove(f.Name()); err != nil {
		return -1, err
	}
	return dup(int(f.Fd()))
}

// A lock belongs to the process here, and a descriptor cannot be opened again.
const ofdSetlkw, ofdSetlk = syscall.F_SETLKW, syscall.F_SETLK

func private(int) int { return -1 }
