//go:build unix

package main

import (
	"fmt"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// maxSignal is the largest number of a signal, Linux's SIGRTMAX.
const maxSignal = 64

// parseSignal reads HUP, SIGHUP or 1.
func parseSignal(s string) (syscall.Signal, error) {
	if n, err := strconv.Atoi(s); err == nil {
		if n >= 1 && n <= maxSignal && s == strconv.Itoa(n) { // neither +1 nor 01
			return syscall.Signal(n), nil
		}
		return 0, fmt.Errorf("%q is no signal: numbers go from 1 to %d, in digits only", s, maxSignal)
	}
	name := strings.ToUpper(s)
	if !strings.HasPrefix(name, "SIG") {
		name = "SIG" + name
	}
	if sig := unix.SignalNum(name); sig != 0 {
		return sig, nil
	}
	return 0, fmt.Errorf("%q is no signal: write HUP, SIGHUP or 1", s)
}
