//go:build !linux

package supervise

import "syscall"

// Adopted is for Linux; here there is none, nil.
type Adopted struct{}

func Adopt() *Adopted                         { return nil }
func (a *Adopted) Reap(int) (reaped func())   { return func() {} }
func (a *Adopted) Gone() <-chan struct{}      { return nil }
func (a *Adopted) Left() []int                { return nil }
func (a *Adopted) Signal(syscall.Signal) bool { return false }
