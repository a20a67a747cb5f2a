package main

import "golang.org/x/sys/unix"

// writeTo has us write to output from now on, as COMMAND does.
func writeTo(output int) {
	if output >= 0 {
		_ = unix.Dup3(output, 2, 0) // a failure leaves what we say where it went
		unix.Close(output)
	}
}
