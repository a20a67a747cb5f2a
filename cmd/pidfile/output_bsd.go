//go:build unix && !linux

package main

import "golang.org/x/sys/unix"

// writeTo has us write to output from now on, as COMMAND does.
func writeTo(output int) {
	if output >= 0 {
		_ = unix.Dup2(output, 2) // a failure leaves what we say where it went
		unix.Close(output)
	}
}

func closeOthers() {}
