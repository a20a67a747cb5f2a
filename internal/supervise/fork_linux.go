//go:build amd64 || arm64

package supervise

import (
	"slices"
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

// catch sends, from now on, the signals to be passed to the pipe, and the others
// that are asked for. One that we were started to ignore, as by nohup(1), COMMAND
// ignores as well.
//
// Package os/signal does not say where a signal comes from, which decides
// whether it is to be passed on; and it costs as much as starting COMMAND.
func catch(pipe int, others ...syscall.Signal) {
	signalPipe = int32(pipe)
	on, after := handler()
	action := sigaction{handler: on, restorer: after, flags: saSiginfo | saOnStack | saRestart}
	if after != 0 {
		action.flags |= saRestorer
	}
	for i, sig := range catchable {
		if i >= len(passed) && !slices.Contains(others, sig) {
			continue
		}
		before := &uncaught[i]
		if setAction(sig, nil, before) == 0 && before.handler != sigIgnore {
			setAction(sig, &action, nil)
		}
	}
}

// catches reports whether a signal goes to the pipe.
func catches(sig syscall.Signal) bool {
	var now sigaction
	on, _ := handler()
	return setAction(sig, nil, &now) == 0 && now.handler == on
}

// caughtSignals returns those that catch caught, and 0 for the others.
func caughtSignals() (sigs [len(catchable)]syscall.Signal) {
	for i, sig := range catchable {
		if catches(sig) {
			sigs[i] = sig
		}
	}
	return sigs
}

// uncaught is what catch found, for uncatch.
var uncaught [len(catchable)]sigaction

// uncatch undoes catch.
func uncatch() {
	for i, sig := range catchable {
		if catches(sig) {
			setAction(sig, &uncaught[i], nil)
		}
	}
}
