//go:build !linux

package proc

import (
	"context"
	"errors"
	"syscall"
)

const (
	CanPin = false
	Cont   = syscall.Signal(0)
)

// A Handle cannot be had here.
type Handle struct{}

func Open(int) (*Handle, error)                             { return nil, errors.ErrUnsupported }
func (h *Handle) PID() int                                  { return 0 }
func (h *Handle) Close() error                              { return errors.ErrUnsupported }
func (h *Handle) Signal(syscall.Signal) error               { return errors.ErrUnsupported }
func (h *Handle) Unreaped() bool                            { return false }
func (h *Handle) Ended() bool                               { return false }
func (h *Handle) Wait(context.Context) (*ExitStatus, error) { return nil, errors.ErrUnsupported }
