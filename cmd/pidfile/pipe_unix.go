//go:build unix

package main

import (
	"os"
	"os/signal"

	"golang.org/x/sys/unix"
)

// survivePipe makes writing to a pipe that nobody reads an error like others:
// a supervisor must not die of telling something.
func survivePipe() { signal.Notify(make(chan os.Signal, 1), unix.SIGPIPE) }
