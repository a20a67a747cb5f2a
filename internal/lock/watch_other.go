//go:build !linux

package lock

// A Notice cannot be had here: who asks has to look for himself.
type Notice struct{}

func WatchDir(string) *Notice              { return nil }
func Watch(string) *Notice                 { return nil }
func (n *Notice) Changed() <-chan struct{} { return nil }
func (n *Notice) Close()                   {}
