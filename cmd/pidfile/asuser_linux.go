package main

import (
	"runtime"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// asUser calls do, for calls that need the kernel's leave, with a's rights.
//
// On Linux each thread has rights of its own, nptl(7), and package syscall changes
// them for all; so this one is changed by hand, and ends with it.
func asUser(a *account, do func()) error {
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // for ever
		// The kernel takes it for a reason to keep us from being looked at.
		if dumpable, err := unix.PrctlRetInt(unix.PR_GET_DUMPABLE, 0, 0, 0, 0); err == nil {
			defer unix.Prctl(unix.PR_SET_DUMPABLE, uintptr(dumpable), 0, 0, 0)
		}
		const unchanged = ^uintptr(0)
		_, _, e := syscall.RawSyscall(sysSetgroups, uintptr(len(a.groups)), uintptr(unsafe.Pointer(unsafe.SliceData(a.groups))), 0)
		if e == 0 {
			_, _, e = syscall.RawSyscall(sysSetresgid, unchanged, uintptr(a.gid), unchanged)
		}
		if e == 0 {
			_, _, e = syscall.RawSyscall(sysSetresuid, unchanged, uintptr(a.uid), unchanged)
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
