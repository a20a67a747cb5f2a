package testproc

import (
	"os"
	"os/signal"
	"strconv"
	"strings"
	"syscall"
)

// setMachine has the children of this process find what is usual.
func setMachine() {
	catchIgnored()
	syscall.Umask(0o022)
}

// catchIgnored has the runtime catch the signals that this process was started to
// ignore, by nohup(1) or from a script's "&": a child inherits what is ignored, but
// what is caught is at its default again after execve(2). For this process itself
// they have no effect still. (signal.Ignored does not know of all.)
func catchIgnored() {
	mask := ignored()
	for sig := syscall.Signal(1); sig <= 31; sig++ {
		if mask&(1<<(sig-1)) != 0 {
			signal.Notify(make(chan os.Signal, 1), sig)
		}
	}
}

// ignored is the mask SigIgn of /proc/self/status, proc_pid_status(5).
func ignored() (mask uint64) {
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return 0
	}
	for line := range strings.Lines(string(status)) {
		if text, ok := strings.CutPrefix(line, "SigIgn:"); ok {
			mask, _ = strconv.ParseUint(strings.TrimSpace(text), 16, 64) // the kernel's, so it is a number
		}
	}
	return mask
}
