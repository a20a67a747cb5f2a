//go:build amd64 || arm64

package rlimit

import "unsafe"

const nofile = 7 // RLIMIT_NOFILE

// rawSyscall6 is what package syscall makes its system calls with: it needs nothing
// that is initialized. To import that package would come too late.
//
//go:linkname rawSyscall6 syscall.RawSyscall6
func rawSyscall6(trap, a1, a2, a3, a4, a5, a6 uintptr) (r1, r2, errno uintptr)

func init() {
	_, _, errno := rawSyscall6(prlimit64, 0, nofile, 0, uintptr(unsafe.Pointer(&NoFile)), 0, 0)
	Known = errno == 0
}
