//go:build darwin || dragonfly || freebsd || netbsd || openbsd

package lock

import "os"

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
