//go:build unix

package main

import (
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// newSession has a child lead a session of its own, without a terminal.
func newSession() *syscall.SysProcAttr { return &syscall.SysProcAttr{Setsid: true} }

// onOthersTerminal reports whether our controlling terminal is that of a session
// which another process leads, a shell for one. In doubt it is.
func onOthersTerminal() bool {
	if leader, err := unix.Getsid(0); err == nil && leader == os.Getpid() {
		return false
	}
	tty, err := unix.Open("/dev/tty", unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC, 0)
	if err == nil {
		unix.Close(tty)
	}
	return err != unix.ENXIO // tty(4): there is none
}

// become has a child run as a.
func become(attr *syscall.SysProcAttr, a *account) {
	attr.Credential = &syscall.Credential{Uid: uint32(a.uid), Gid: uint32(a.gid), Groups: a.groups}
}

// setUmask sets our umask, which our children inherit.
func setUmask(mask int) { unix.Umask(mask) }
