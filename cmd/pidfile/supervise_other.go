//go:build !linux

package main

import (
	"os"
	"os/signal"
	"syscall"
)

// A supervisor passes signals on to COMMAND.
type supervisor struct{ c chan os.Signal }

func newSupervisor() (*supervisor, error) {
	s := &supervisor{make(chan os.Signal, 64)}
	for _, sig := range passed {
		if !signal.Ignored(sig) {
			signal.Notify(s.c, sig)
		}
	}
	return s, nil
}

func (s *supervisor) giveUp() []syscall.Signal {
	signal.Stop(s.c)
	return nil
}

func raise([]syscall.Signal) {}

// wait passes signals on, in the background: COMMAND is waited for by reaping.
func (s *supervisor) wait(pid int, _ int32, settled func()) {
	settled()
	go func() {
		for sig := range s.c {
			if (sig != os.Interrupt && sig != syscall.SIGQUIT) || !inForeground() {
				if p, err := os.FindProcess(pid); err == nil {
					_ = p.Signal(sig)
				}
			}
		}
	}()
}
