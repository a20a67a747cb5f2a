//go:build !unix

package main

import "syscall"

func newSession() *syscall.SysProcAttr { return &syscall.SysProcAttr{} }

func become(*syscall.SysProcAttr, *account) {}

func setUmask(int) {}

func onOthersTerminal() bool { return false }
