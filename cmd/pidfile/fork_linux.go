//go:build amd64 || arm64

package main

import (
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// vfork is clone(2) on the caller's stack. flags must include CLONE_VM and
// CLONE_VFORK. The function that calls it must not return in the child.
//
//go:noescape
func vfork(flags uintptr, pidfd *int32) (pid, errno uintptr)

// forkFlags suspend us until the child has become COMMAND or ended, and give it
// our memory meanwhile: copying that costs more than all else.
const forkFlags = uintptr(syscall.SIGCHLD) | syscall.CLONE_VM | syscall.CLONE_VFORK | unix.CLONE_PIDFD

// handler returns the addresses of the signal handler and of what it returns to.
func handler() (onSignal, afterSignal uintptr)

// signalPipe is the descriptor that the handler writes to.
//
//lint:ignore U1000 the handler, in assembly, reads it
var signalPipe int32

// A sigaction is what rt_sigaction(2) takes on 64-bit systems.
type sigaction struct {
	handler, flags, restorer, mask uintptr
}

const (
	saSiginfo  = 0x4
	saRestorer = 0x04000000
	saOnStack  = 0x08000000
	saRestart  = 0x10000000
	sigIgnore  = 1
)

func setAction(sig syscall.Signal, action, old *sigaction) syscall.Errno {
	_, _, e := syscall.RawSyscall6(unix.SYS_RT_SIGACTION, uintptr(sig), uintptr(unsafe.Pointer(action)), uintptr(unsafe.Pointer(old)), 8, 0, 0)
	return e
}

// catch sends, from now on, the signals to be passed to the pipe, and CHLD too
// if that is asked for. One that we were started to ignore, as by nohup(1),
// COMMAND ignores as well.
//
// Package os/signal does not say where a signal comes from, which decides
// whether it is to be passed on; and it costs as much as starting COMMAND.
func catch(pipe int, children bool) {
	signalPipe = int32(pipe)
	on, after := handler()
	action := sigaction{handler: on, restorer: after, flags: saSiginfo | saOnStack | saRestart}
	if after != 0 {
		action.flags |= saRestorer
	}
	for i, sig := range passed {
		before := &uncaught[i]
		if setAction(sig, nil, before) == 0 && before.handler != sigIgnore {
			setAction(sig, &action, nil)
		}
	}
	if children {
		setAction(unix.SIGCHLD, &action, nil)
	}
}

// caughtSignals returns those that catch caught, and 0 for the others.
func caughtSignals() (sigs [len(passed) + 1]syscall.Signal) {
	on, _ := handler()
	for i, sig := range append(passed[:], unix.SIGCHLD) {
		var old sigaction
		if setAction(sig, nil, &old) == 0 && old.handler == on {
			sigs[i] = sig
		}
	}
	return sigs
}

// uncaught is what catch found, for uncatch.
var uncaught [len(passed)]sigaction

// uncatch undoes catch.
func uncatch() {
	for i, sig := range passed {
		setAction(sig, &uncaught[i], nil)
	}
	setAction(unix.SIGCHLD, &sigaction{}, nil)
}
