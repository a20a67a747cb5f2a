package main

import (
	"os/signal"
	"runtime"
	"strings"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// endBySignals leaves TERM, INT and HUP to the kernel, which ends us whatever our
// threads do. The runtime of Go catches them even where nobody asked for it, and the
// kernel gives them to our first thread: if that hangs in a file system that does
// not answer, the handler never runs.
func endBySignals() {
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
