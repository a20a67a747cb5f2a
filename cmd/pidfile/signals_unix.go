//go:build unix

package main

import (
	"os"
	"os/signal"
	"syscall"

	"golang.org/x/sys/unix"
)

// passed are the signals that COMMAND gets in our stead.
var passed = []os.Signal{
	unix.SIGTERM, unix.SIGINT, unix.SIGHUP, unix.SIGQUIT,
	unix.SIGUSR1, unix.SIGUSR2, unix.SIGWINCH, unix.SIGCONT,
}

// signals are those caught on behalf of COMMAND.
type signals struct{ c chan os.Signal }

// catch catches, from now on, the signals to be passed. One that we were
// started to ignore, as by nohup(1), COMMAND ignores as well.
func catch() *signals {
	s := &signals{make(chan os.Signal, 64)}
	for _, sig := range passed {
		if !signal.Ignored(sig) {
			signal.Notify(s.c, sig)
		}
	}
	return s
}

// passTo sends pid the signals caught so far and from now on. It must not be
// reaped while we do.
func (s *signals) passTo(pid int) {
	go func() {
		for sig := range s.c {
			// The terminal's keys signal its whole foreground group, and so
			// COMMAND itself: passed on, it would get them twice.
			if (sig == unix.SIGINT || sig == unix.SIGQUIT) && inForeground() {
				continue
			}
			_ = unix.Kill(pid, sig.(syscall.Signal)) // EPERM: COMMAND has become another user
		}
	}()
}

// giveBack undoes catch, where there is no COMMAND: a signal caught meanwhile
// is for us.
func (s *signals) giveBack() {
	signal.Stop(s.c)
	select {
	case sig := <-s.c:
		_ = unix.Kill(os.Getpid(), sig.(syscall.Signal))
	default:
	}
}
