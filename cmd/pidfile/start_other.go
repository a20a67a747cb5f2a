//go:build !linux

package main

import (
	"os"

	"github.com/go-pidfile/pidfile/internal/lock"
)

// start starts COMMAND and then records its PID: for the moment between, the
// file names the wrapper.
func (s *starter) start(b lock.Birth) (pid int, pidfd int32, err error) {
	if err := b.Write(os.Getpid()); err != nil {
		return 0, -1, err
	}
	attr := &os.ProcAttr{Env: s.env, Files: []*os.File{os.Stdin, os.Stdout, os.Stderr}}
	p, err := os.StartProcess(s.path, s.argv, attr)
	if err != nil {
		return 0, -1, err
	}
	b.OldSize = lock.MaxText // ours, maybe longer
	return p.Pid, -1, b.Write(p.Pid)
}
