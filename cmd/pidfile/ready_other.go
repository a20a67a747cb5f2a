//go:build !linux

package main

import (
	"errors"
	"fmt"
)

// A readySocket is for Linux: sd_notify(3).
type readySocket struct{}

func listenReady(*account) (*readySocket, error) {
	return nil, fmt.Errorf("--ready notify: %w", errors.ErrUnsupported)
}

func (*readySocket) Name() string           { return "" }
func (*readySocket) Listen(int)             {}
func (*readySocket) Ready() <-chan struct{} { return nil }
func (*readySocket) Status() string         { return "" }
func (*readySocket) Close() error           { return nil }
