//go:build amd64 || arm64

package supervise

import (
	"os"
	"os/signal"
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

// handlers returns the addresses of our signal handlers, and of what they return to.
// onFault leaves what was not sent by kill(2) or sigqueue(3) to goHandler.
func handlers() (onSignal, onFault, afterSignal uintptr)

// signalPipe is the descriptor that the handlers write to.
//
//lint:ignore U1000 the handlers, in assembly, read it
var signalPipe int32

// goHandler is the handler of Go's runtime, for what is the runtime's.
//
//lint:ignore U1000 the handlers, in assembly, read it
var goHandler uintptr

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

// caught are the signals that go to the pipe, from bit 1 on, and uncaught is what
// was done with them before.
var (
	caught   uint64
	uncaught [maxSignal + 1]sigaction
)

// catch sends, from now on, all signals to the pipe that can be caught, but for those
// of job control, which are asked for. One that we were started to ignore, as by
// nohup(1), COMMAND ignores as well.
//
// Package os/signal does not say where a signal comes from, which decides
// whether it is to be passed on; and it costs as much as starting COMMAND.
func catch(pipe int, jobs ...syscall.Signal) {
	signalPipe = int32(pipe)
	for sig := syscall.Signal(1); sig <= maxSignal; sig++ {
		switch sig {
		case unix.SIGKILL, unix.SIGSTOP, 32, 33: // these two are the C library's
		case unix.SIGTSTP, unix.SIGTTIN, unix.SIGTTOU:
		default:
			catchOne(sig)
		}
	}
	for _, sig := range jobs {
		catchOne(sig)
	}
}

func catchOne(sig syscall.Signal) {
	onSignal, onFault, after := handlers()
	action := sigaction{handler: onSignal, restorer: after, flags: saSiginfo | saOnStack | saRestart}
	if after != 0 {
		action.flags |= saRestorer
	}
	before := &uncaught[sig]
	switch sig {
	case unix.SIGSEGV, unix.SIGBUS, unix.SIGFPE, unix.SIGILL, unix.SIGURG: // the runtime uses them
		if setAction(sig, nil, before) != 0 || before.handler <= sigIgnore || before.flags&saSiginfo == 0 {
			return
		}
		goHandler = before.handler // the same for all
		action = *before
		action.handler = onFault
	}
	if setAction(sig, &action, before) != 0 {
		return
	}
	if before.handler == sigIgnore {
		setAction(sig, before, nil)
		return
	}
	caught |= 1 << sig
}

// caughtSignals returns those that catch caught.
func caughtSignals() uint64 { return caught }

// uncatch undoes catch, for all signals or some.
func uncatch(sigs ...syscall.Signal) {
	for sig := syscall.Signal(1); sig <= maxSignal; sig++ {
		if caught>>sig&1 != 0 && (len(sigs) == 0 || slices.Contains(sigs, sig)) {
			setAction(sig, &uncaught[sig], nil)
			caught &^= 1 << sig
		}
	}
}

// jobSignals are caught while there is a COMMAND: those that are sent by hand are
// passed on.
var jobSignals = []syscall.Signal{unix.SIGTSTP, unix.SIGTTIN, unix.SIGTTOU}

// catchJobs begins or ends to catch jobSignals. It is not done before COMMAND is
// started or when it has ended: a process that writes to the terminal from the background must
// stop, and would try for ever if that were caught.
func catchJobs(begin bool) {
	if !begin {
		uncatch(jobSignals...)
		return
	}
	for _, sig := range jobSignals {
		if caught>>sig&1 == 0 {
			catchOne(sig)
		}
	}
}

// stopOurselves does what sig, one of jobSignals, does to a process that does not
// catch it: nothing if no process could have us go on. group has it done to our group.
func stopOurselves(sig syscall.Signal, group bool) {
	was := caught>>sig&1 != 0
	if was {
		uncatch(sig)
	}
	if group { // and us with it, at any moment from now on: a CONT has it caught again
		_ = unix.Kill(0, sig)
		return
	}
	// To this thread, which takes it before the call returns; what comes to another
	// of ours later is known to be from us.
	pid, _, _ := unix.RawSyscall(unix.SYS_GETPID, 0, 0, 0)
	tid, _, _ := unix.RawSyscall(unix.SYS_GETTID, 0, 0, 0)
	_, _, _ = unix.RawSyscall(unix.SYS_TGKILL, pid, tid, uintptr(sig))
	if was {
		catchOne(sig)
	}
}

// ignoring calls do with sig ignored.
func ignoring(sig syscall.Signal, do func()) {
	var before sigaction
	if setAction(sig, &sigaction{handler: sigIgnore}, &before) == 0 {
		defer setAction(sig, &before, nil)
	}
	do()
}

// SurvivePipe makes writing to a pipe without a reader an error like others: a
// supervisor must not die of telling something.
func SurvivePipe() {
	if caught>>unix.SIGPIPE&1 == 0 {
		signal.Notify(make(chan os.Signal, 1), unix.SIGPIPE) // not Ignore, which COMMAND would inherit
		return
	}
	// It is ours, and one that is sent is passed on. The runtime need only know that
	// it must not raise one itself; Notify would start two threads.
	before := uncaught[unix.SIGPIPE]
	signal.Ignore(unix.SIGPIPE)
	setAction(unix.SIGPIPE, &sigaction{}, nil) // for catchOne, which leaves what is ignored
	catchOne(unix.SIGPIPE)
	uncaught[unix.SIGPIPE] = before
}
