//go:build !unix

package main

import (
	"errors"
	"os"
	"syscall"
)

func (s *starter) startProcess(attr *os.ProcAttr) (*os.Process, error) {
	if s.group || s.account != nil || s.umask >= 0 {
		return nil, errors.ErrUnsupported
	}
	return os.StartProcess(s.path, s.argv, attr)
}

func awaitEnd(int) {}

func (s *supervisor) suspend() {}

func (s *supervisor) send(sig syscall.Signal) {
	if p, err := os.FindProcess(s.pid); err == nil {
		_ = p.Signal(sig)
	}
}
