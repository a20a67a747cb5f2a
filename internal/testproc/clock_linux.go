package testproc

import "golang.org/x/sys/unix"

// Monotonic is the time in nanoseconds that all processes of the machine agree on.
func Monotonic() int64 {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &ts); err != nil {
		panic(err)
	}
	return ts.Nano()
}
