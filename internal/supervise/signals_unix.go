//go:build unix

package supervise

import (
	"fmt"
	"runtime"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// stopKey is what Ctrl-Z sends.
const stopKey = unix.SIGTSTP

// maxSignal is the largest number of a signal, Linux's SIGRTMAX.
const maxSignal = 64

// Linux's real-time signals, less those that the C library keeps for itself.
const sigRTMin, sigRTMax = 34, 64

// ParseSignal reads HUP, SIGHUP, 1 or RTMIN+3.
func ParseSignal(s string) (syscall.Signal, error) {
	if n, err := strconv.Atoi(s); err == nil {
		if n >= 1 && n <= maxSignal && s == strconv.Itoa(n) { // neither +1 nor 01
			return syscall.Signal(n), nil
		}
		return 0, fmt.Errorf("invalid signal %q: numbers are 1 to %d, in digits only", s, maxSignal)
	}
	name := "SIG" + strings.TrimPrefix(strings.ToUpper(s), "SIG")
	if sig := unix.SignalNum(name); sig != 0 {
		return sig, nil
	}
	if sig := realTimeSignal(name); sig != 0 {
		return sig, nil
	}
	return 0, fmt.Errorf("invalid signal %q: use e.g. HUP, SIGHUP, 1 or RTMIN+3", s)
}

// SignalName is what ParseSignal reads: TERM for SIGTERM.
func SignalName(sig syscall.Signal) string {
	if name := unix.SignalName(sig); name != "" {
		return strings.TrimPrefix(name, "SIG")
	}
	return strconv.Itoa(int(sig))
}

// realTimeSignal reads SIGRTMIN, SIGRTMIN+N, SIGRTMAX and SIGRTMAX-N, as kill(1)
// does; it returns 0 for all else.
func realTimeSignal(name string) syscall.Signal {
	if runtime.GOOS != "linux" {
		return 0
	}
	for _, from := range []struct {
		name       string
		first, dir int
	}{{"SIGRTMIN", sigRTMin, 1}, {"SIGRTMAX", sigRTMax, -1}} {
		offset, ok := strings.CutPrefix(name, from.name)
		if !ok {
			continue
		}
		n, err := strconv.Atoi(offset)
		switch {
		case offset == "":
			return syscall.Signal(from.first)
		case err == nil && n*from.dir > 0 && n*from.dir <= sigRTMax-sigRTMin && offset == fmt.Sprintf("%+d", n):
			return syscall.Signal(from.first + n)
		}
	}
	return 0
}
