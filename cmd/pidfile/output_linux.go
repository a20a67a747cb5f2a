package main

import "golang.org/x/sys/unix"

// writeTo has us write to output from now on, as COMMAND does.
func writeTo(output int) {
	if output >= 0 {
		_ = unix.Dup3(output, 2, 0) // a failure leaves what we say where it went
		unix.Close(output)
	}
}

// closeOthers keeps what we inherited, but the standard streams, from COMMAND: a
// program in the background would else keep the lock or the pipe of the script
// that started it. Before Linux 5.11 it inherits them.
func closeOthers() { _ = unix.CloseRange(3, 1<<31-1, unix.CLOSE_RANGE_CLOEXEC) }
