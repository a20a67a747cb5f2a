package supervise

import (
	"os"
	"os/signal"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// RedirectStderr has this process write its errors to output from now on, as COMMAND
// does, and closes output.
func RedirectStderr(output *os.File) {
	_ = unix.Dup3(int(output.Fd()), 2, 0) // a failure leaves what we say where it went
	output.Close()
}

// CloseOthersOnExec keeps what this process inherited, but the standard streams, from
// COMMAND: a program in the background would else keep the lock or the pipe of the
// script that started it.
func CloseOthersOnExec() {
	if unix.CloseRange(3, 1<<31-1, unix.CLOSE_RANGE_CLOEXEC) == nil {
		return
	}
	closeEachOnExec("/proc/self/fd") // before Linux 5.11, or an old sandbox does not know it
}

// closeEachOnExec is CloseOthersOnExec for each descriptor that dir lists, or, if that
// cannot be read, for each that there can be.
func closeEachOnExec(dir string) {
	if dir, err := os.Open(dir); err == nil {
		names, err := dir.Readdirnames(-1)
		dir.Close()
		if err == nil {
			for _, name := range names {
				if fd, err := strconv.Atoi(name); err == nil && fd >= 3 {
					unix.CloseOnExec(fd)
				}
			}
			return
		}
	}
	// Who lowers the limit keeps what is open above it: so the hard one counts, which
	// package syscall has made the soft one.
	const most = 1 << 20 // the kernel's default of the highest, fs.nr_open
	last := uint64(most)
	var limit unix.Rlimit
	if unix.Getrlimit(unix.RLIMIT_NOFILE, &limit) == nil {
		last = min(last, max(limit.Max, 1024))
	}
	for fd := 3; fd < int(last); fd++ {
		unix.CloseOnExec(fd)
	}
}

// EndBySignals leaves TERM, INT and HUP to the kernel, which ends this process
// whatever its threads do. The runtime of Go catches them even if no code asked for
// it, and the kernel gives them to the first thread: if that hangs in a file system
// that does not answer, the handler never runs. It is for Linux, and does nothing
// elsewhere.
func EndBySignals() {
	var action [16]uintptr // SIG_DFL without flags; larger than the kernel's on any system
	size := uintptr(8)
	if strings.HasPrefix(runtime.GOARCH, "mips") {
		size = 16
	}
	for _, sig := range []syscall.Signal{unix.SIGTERM, unix.SIGINT, unix.SIGHUP} {
		if !signal.Ignored(sig) { // as nohup(1) has it
			_, _, _ = unix.RawSyscall6(unix.SYS_RT_SIGACTION, uintptr(sig), uintptr(unsafe.Pointer(&action)), 0, size, 0, 0)
		}
	}
}

// asUser calls do, for calls that need the kernel's leave, with a's rights.
//
// On Linux each thread has rights of its own, nptl(7), and package syscall changes
// them for all; so this one is changed by hand, and ends with it.
func asUser(a *Account, do func()) error {
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // for ever
		// The kernel takes it for a reason to keep us from being looked at.
		if dumpable, err := unix.PrctlRetInt(unix.PR_GET_DUMPABLE, 0, 0, 0, 0); err == nil {
			defer unix.Prctl(unix.PR_SET_DUMPABLE, uintptr(dumpable), 0, 0, 0)
		}
		const unchanged = ^uintptr(0)
		_, _, e := syscall.RawSyscall(sysSetgroups, uintptr(len(a.Groups)), uintptr(unsafe.Pointer(unsafe.SliceData(a.Groups))), 0)
		if e == 0 {
			_, _, e = syscall.RawSyscall(sysSetresgid, unchanged, uintptr(a.GID), unchanged)
		}
		if e == 0 {
			_, _, e = syscall.RawSyscall(sysSetresuid, unchanged, uintptr(a.UID), unchanged)
		}
		if e != 0 {
			done <- e
			return
		}
		do()
		done <- nil
	}()
	return <-done
}
