//go:build !linux

package main

import (
	"errors"
	"fmt"
	"os"

	"github.com/go-pidfile/pidfile/internal/lock"
)

// start starts COMMAND and then records its PID: for the moment between, the
// file names the wrapper.
func (s *starter) start(b *lock.Pending) (pid int, pidfd int32, err error) {
	if s.die {
		return 0, -1, fmt.Errorf("--die-together: %w", errors.ErrUnsupported)
	}
	if err := b.Write(os.Getpid()); err != nil {
		return 0, -1, err
	}
	attr := &os.ProcAttr{Dir: s.dir, Env: s.env, Files: []*os.File{os.Stdin, os.Stdout, os.Stderr}}
	if s.output >= 0 {
		f := os.NewFile(uintptr(s.output), "output")
		attr.Files = []*os.File{os.Stdin, f, f}
	}
	p, err := s.startProcess(attr)
	if err != nil {
		return 0, -1, err
	}
	b.OldSize = lock.MaxText // ours, maybe longer
	return p.Pid, -1, b.Write(p.Pid)
}
