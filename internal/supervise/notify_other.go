//go:build !linux

package supervise

import "errors"

// A NotifySocket is for Linux: sd_notify(3).
type NotifySocket struct{}

// ListenNotify returns errors.ErrUnsupported.
func ListenNotify(*Account) (*NotifySocket, error) { return nil, errors.ErrUnsupported }

func (*NotifySocket) Name() string           { return "" }
func (*NotifySocket) SetCommand(int)         {}
func (*NotifySocket) Ready() <-chan struct{} { return nil }
func (*NotifySocket) Status() string         { return "" }
func (*NotifySocket) Close() error           { return nil }
