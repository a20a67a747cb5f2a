//go:build unix

package main

import (
	"syscall"

	"golang.org/x/sys/unix"
)

// newSession has a child lead a session of its own, without a terminal.
func newSession() *syscall.SysProcAttr { return &syscall.SysProcAttr{Setsid: true} }

// become has a child run as a.
func become(attr *syscall.SysProcAttr, a *account) {
	attr.Credential = &syscall.Credential{Uid: uint32(a.uid), Gid: uint32(a.gid), Groups: a.groups}
}

// setUmask sets our umask, which our children inherit.
func setUmask(mask int) { unix.Umask(mask) }
