//go:build !unix

package main

import (
	"errors"
	"syscall"
)

const sigCont = syscall.Signal(0)

func parseSignal(string) (syscall.Signal, error) { return 0, errors.ErrUnsupported }
