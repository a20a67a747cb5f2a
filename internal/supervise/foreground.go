//go:build unix && !(linux && (amd64 || arm64))

package supervise

import (
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// passed are the signals that COMMAND gets in our stead where package os/signal
// catches them. On Linux there are more: see catch.
var passed = [...]syscall.Signal{
	unix.SIGTERM, unix.SIGINT, unix.SIGHUP, unix.SIGQUIT,
	unix.SIGUSR1, unix.SIGUSR2, unix.SIGWINCH, unix.SIGCONT,
	unix.SIGALRM, unix.SIGVTALRM, unix.SIGPROF, unix.SIGIO,
	unix.SIGXCPU, unix.SIGXFSZ, unix.SIGABRT, unix.SIGTRAP, unix.SIGSYS,
}

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
