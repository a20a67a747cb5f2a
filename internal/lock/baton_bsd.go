//go:build darwin || dragonfly || freebsd || netbsd || openbsd

package lock

import (
	"os"
	"syscall"
)

// newBaton makes a temporary file and removes its name.
func newBaton() (int, error) {
	f, err := os.CreateTemp("", "pidfile-baton-")
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
