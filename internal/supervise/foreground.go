//go:build unix && !(linux && (amd64 || arm64))

package supervise

import (
	"os"

	"golang.org/x/sys/unix"
)

// inForeground reports whether we are in the foreground process group of our
// terminal, so that its keys send signals to us and to COMMAND alike.
func inForeground() bool {
	tty, err := os.Open("/dev/tty")
	if err != nil {
		return false
	}
	defer tty.Close()
	group, err := unix.IoctlGetInt(int(tty.Fd()), unix.TIOCGPGRP)
	return err == nil && group == unix.Getpgrp()
}
