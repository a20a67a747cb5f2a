//go:build unix

package main

import (
	"syscall"

	"golang.org/x/sys/unix"
)

// stopKey is what Ctrl-Z sends.
const stopKey = unix.SIGTSTP

// passed are the signals that COMMAND gets in our stead.
var passed = [...]syscall.Signal{
	unix.SIGTERM, unix.SIGINT, unix.SIGHUP, unix.SIGQUIT,
	unix.SIGUSR1, unix.SIGUSR2, unix.SIGWINCH, unix.SIGCONT,
}
