//go:build linux && !amd64 && !arm64

package supervise

import (
	"os"
	"os/signal"
	"runtime"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// vfork is clone(2) with a copy of our memory for the child, which needs no
// assembly.
//
//go:nosplit
//go:norace
func vfork(flags uintptr, pidfd *int32) (pid, errno uintptr) {
	a, b := flags&^syscall.CLONE_VM, uintptr(0)
	if runtime.GOARCH == "s390x" { // which takes the stack first, clone(2)
		a, b = b, a
	}
	pid, _, e := syscall.RawSyscall6(syscall.SYS_CLONE, a, b, uintptr(unsafe.Pointer(pidfd)), 0, 0, 0)
	return pid, uintptr(e)
}

const forkFlags = uintptr(syscall.SIGCHLD) | syscall.CLONE_VFORK | unix.CLONE_PIDFD

type sigaction struct {
	handler, flags, restorer, mask [2]uintptr // as large as on any system
}

var notified chan os.Signal

// catch sends, from now on, the signals to be passed to the pipe. Where they
// come from is not known here: those that a terminal's keys can send, and that
// come while we are in its foreground, count as sent by them.
func catch(pipe int, jobs ...syscall.Signal) {
	notified = make(chan os.Signal, 64)
	Notify(notified, append(append(passed[:], unix.SIGCHLD), jobs...)...)
	for sig := syscall.Signal(sigRTMin + 1); sig <= sigRTMax; sig++ {
		Notify(notified, sig)
	}
	go func() {
		for s := range notified {
			sig := s.(syscall.Signal)
			c := siginfo{sig: int32(sig)}
			if sig == unix.SIGCHLD || sig == stopKey {
				c.code = siKernel // as good as always
			}
			if (sig == unix.SIGINT || sig == unix.SIGQUIT) && inForeground() {
				c.code = siKernel
			}
			_, _ = unix.Write(pipe, (*[unsafe.Sizeof(c)]byte)(unsafe.Pointer(&c))[:])
		}
	}()
}

// caughtSignals is nothing that the child must do: afterForkInChild does it.
func caughtSignals() uint64 { return 0 }

func uncatch() { signal.Stop(notified) }

// catchJobs does nothing: a signal that was sent by hand cannot be told from one of
// the terminal's.
func catchJobs(bool) {}

func stopOurselves(sig syscall.Signal, group bool) {
	target := unix.Getpid()
	if group {
		target = 0
	}
	_ = unix.Kill(target, sig)
}

// ignoring calls do with sig ignored.
func ignoring(sig syscall.Signal, do func()) {
	signal.Ignore(sig)
	defer signal.Reset(sig)
	do()
}

// SurvivePipe makes writing to a pipe without a reader an error like others: a
// supervisor must not die of telling something.
func SurvivePipe() { signal.Notify(make(chan os.Signal, 1), unix.SIGPIPE) }
