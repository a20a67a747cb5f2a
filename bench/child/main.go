// Child is the COMMAND of the benchmarks of commands, and their launcher where
// memory is measured: small, so that it does not show in what it measures.
//
//	child report PIDFILE OUT IN   writes "ok NS PID TEXT" to the FIFO OUT, waits
//	                              for a byte in the FIFO IN, writes "released NS
//	                              PID" and ends
//	child waitpid PID             waits until that process has ended
//	child peak COMMAND…           runs COMMAND and says its ru_maxrss in KiB
//
// TEXT is what the PID file said at the first instruction, unless PIDFILE is "-".
// FIFOs, because some
// commands put COMMAND's standard files elsewhere.
//
// The kernel counts into ru_maxrss the memory that a process had between fork
// and exec, which is its parent's. So the parent must be small: the benchmark's
// driver is not.
package main

import (
	"os"
	"strconv"
	"strings"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

func main() {
	switch args := os.Args[2:]; os.Args[1] {
	case "report":
		os.Exit(report(args[0], args[1], args[2]))
	case "waitpid":
		os.Exit(waitpid(args[0]))
	case "peak":
		os.Exit(peak(args))
	}
}

// report tells when COMMAND's first instruction ran, and what its PID file said.
func report(pidfile, out, in string) int {
	at := now()
	text := "none"
	if pidfile == "-" {
		// Not to be read. To close a file gives up the process's fcntl(2)
		// locks on it, which with-lock-ex left to us.
	} else if b, err := os.ReadFile(pidfile); err == nil {
		text = strings.TrimSpace(string(b))
	}
	to, err := os.OpenFile(out, os.O_WRONLY, 0)
	if err != nil {
		return fail(err)
	}
	from, err := os.Open(in)
	if err != nil {
		return fail(err)
	}
	// One write a line: lines of several do not mix then.
	to.WriteString("ok " + number(at) + " " + number(int64(os.Getpid())) + " " + text + "\n")
	var b [1]byte
	_, _ = from.Read(b[:]) // a byte or the end: both end us
	to.WriteString("released " + number(now()) + " " + number(int64(os.Getpid())) + "\n")
	return 0
}

func number(n int64) string { return strconv.FormatInt(n, 10) }

// waitpid is the floor of waiting for the end of a process that is no child.
func waitpid(pid string) int {
	n, err := strconv.Atoi(pid)
	if err != nil {
		return fail(err)
	}
	fd, err := unix.PidfdOpen(n, 0)
	if err == unix.ESRCH {
		return 0
	}
	if err != nil {
		return fail(err)
	}
	for {
		_, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, -1)
		if err == nil {
			return 0
		}
		if err != unix.EINTR {
			return fail(err)
		}
	}
}

// peak forks rather than vforks: a vforked child counts all of its parent's
// memory, a forked one only what is neither code nor read anew from a file. It
// makes bare system calls between fork and exec, and allocates nothing.
func peak(argv []string) int {
	path, err := syscall.BytePtrFromString(argv[0])
	if err != nil {
		return fail(err)
	}
	args, err := syscall.SlicePtrFromStrings(argv)
	if err != nil {
		return fail(err)
	}
	env, err := syscall.SlicePtrFromStrings(os.Environ())
	if err != nil {
		return fail(err)
	}
	pid, _, errno := syscall.RawSyscall6(unix.SYS_CLONE, uintptr(syscall.SIGCHLD), 0, 0, 0, 0, 0)
	if pid == 0 && errno == 0 {
		syscall.RawSyscall(unix.SYS_EXECVE, uintptr(unsafe.Pointer(path)), uintptr(unsafe.Pointer(&args[0])), uintptr(unsafe.Pointer(&env[0])))
		syscall.RawSyscall(unix.SYS_EXIT_GROUP, 127, 0, 0)
	}
	if errno != 0 {
		return fail(errno)
	}
	var status syscall.WaitStatus
	var usage syscall.Rusage
	if _, err := syscall.Wait4(int(pid), &status, 0, &usage); err != nil {
		return fail(err)
	}
	os.Stdout.WriteString(strconv.FormatInt(usage.Maxrss, 10) + "\n")
	return status.ExitStatus()
}

func fail(err error) int {
	os.Stderr.WriteString(err.Error() + "\n")
	return 2
}

func now() int64 {
	var t unix.Timespec
	_ = unix.ClockGettime(unix.CLOCK_MONOTONIC, &t) // cannot fail
	return t.Nano()
}
