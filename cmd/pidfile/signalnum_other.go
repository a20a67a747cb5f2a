//go:build !unix

package main

import (
	"errors"
	"syscall"
)

func parseSignal(string) (syscall.Signal, error) { return 0, errors.ErrUnsupported }
