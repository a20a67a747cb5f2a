package proc

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// CanPin reports whether this system has Handles.
const CanPin = true

// Cont makes a stopped process go on.
const Cont = unix.SIGCONT

// A Handle is a process that stays the same whatever becomes of its PID: a
// pidfd, pidfd_open(2), Linux 5.3. Several goroutines may use it.
type Handle struct {
	pid int
	f   *os.File
}

// errForbidden is what an old sandbox makes of a system call that it does not know.
var errForbidden = fmt.Errorf("a sandbox forbids pidfd_open(2), or does not know it: %w", errors.ErrUnsupported)

// Open returns a handle on process pid, ErrGone if there is none (a zombie is a
// process, a thread other than the first is not).
func Open(pid int) (*Handle, error) {
	if pid <= 0 {
		return nil, ErrGone
	}
	// The flag is for package os: only what does not block can be polled.
	fd, err := unix.PidfdOpen(pid, unix.PIDFD_NONBLOCK)
	if err == unix.EINVAL { // the flag is unknown before Linux 5.10
		if fd, err = unix.PidfdOpen(pid, 0); err == nil {
			err = unix.SetNonblock(fd, true)
		}
	}
	switch err {
	case nil:
		return &Handle{pid, os.NewFile(uintptr(fd), "pidfd")}, nil
	case unix.ESRCH, unix.ENOENT, unix.EINVAL: // EINVAL, ENOENT: a thread
		return nil, ErrGone
	case unix.EPERM, unix.EACCES: // the kernel asks for no right that could be missing
		return nil, errForbidden
	}
	return nil, os.NewSyscallError("pidfd_open", err)
}

// PID returns the PID that the process has, or had.
func (h *Handle) PID() int { return h.pid }

// Close releases the handle.
func (h *Handle) Close() error { return h.f.Close() }

// with calls f with the descriptor. os.ErrClosed after Close.
func (h *Handle) with(f func(fd int) error) error {
	c, err := h.f.SyscallConn()
	if err != nil {
		return err
	}
	var ferr error
	if c.Control(func(fd uintptr) { ferr = f(int(fd)) }) != nil {
		return os.ErrClosed
	}
	return ferr
}

// Signal sends sig, 0 to ask only. ErrGone if the process has been reaped.
func (h *Handle) Signal(sig syscall.Signal) error {
	err := h.with(func(fd int) error { return unix.PidfdSendSignal(fd, sig, nil, 0) })
	if err == unix.ESRCH {
		return ErrGone
	}
	return err
}

// Unreaped reports whether the process, or its zombie, is still there: until
// then no other process has its PID.
func (h *Handle) Unreaped() bool {
	err := h.Signal(0)
	return err == nil || err == unix.EPERM
}

// Ended reports whether the process has ended, reaped or not.
func (h *Handle) Ended() bool {
	ended := false
	_ = h.with(func(fd int) error { // of a handle that was closed it cannot be told
		ended = poll(fd, unix.POLLIN, 0)
		return nil
	})
	return ended
}

// poll waits up to d for an event on fd; POLLHUP counts always.
func poll(fd int, events int16, d time.Duration) bool {
	fds := []unix.PollFd{{Fd: int32(fd), Events: events}}
	for end := time.Now().Add(d); ; {
		n, err := unix.Poll(fds, max(0, int(time.Until(end).Milliseconds())))
		if err != unix.EINTR { // not an answer: Wait would miss the end
			return err == nil && n > 0
		}
	}
}

// reapTime is how long Wait waits for the parent to reap a process that has
// ended: PIDFD_GET_INFO tells its status only then.
const reapTime = 50 * time.Millisecond

// Wait blocks until the process has ended or ctx is done. It sleeps in the
// runtime's poller. The status is nil where the kernel does not tell it: if the process
// is reaped before one can look, before Linux 6.15 (PIDFD_INFO_EXIT); or if it is not
// reaped, and belongs to another user.
func (h *Handle) Wait(ctx context.Context) (*ExitStatus, error) {
	var f *os.File // of its own: its deadline is this call's
	err := h.with(func(fd int) error {
		dup, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 0)
		if err == nil {
			f = os.NewFile(uintptr(dup), "pidfd")
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	defer f.Close()
	stop := context.AfterFunc(ctx, func() { _ = f.SetReadDeadline(time.Unix(1, 0)) })
	defer stop()
	c, err := f.SyscallConn()
	if err != nil {
		return nil, err
	}
	var status *ExitStatus
	err = c.Read(func(fd uintptr) bool {
		if !poll(int(fd), unix.POLLIN, 0) {
			return false // the poller calls again when it is readable
		}
		if status = h.zombieStatus(); status == nil {
			poll(int(fd), 0, reapTime) // POLLHUP: reaped, Linux 6.15
			status = exitStatus(int(fd))
		}
		return true
	})
	if err != nil {
		if ctx.Err() != nil {
			err = ctx.Err()
		}
		return nil, err
	}
	return status, nil
}

// exitStatus asks the kernel, PIDFD_GET_INFO in ioctl_pidfd(2).
func exitStatus(fd int) *ExitStatus {
	info := unix.PidfdInfo{Mask: unix.PIDFD_INFO_EXIT}
	_, _, e := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), unix.PIDFD_GET_INFO, uintptr(unsafe.Pointer(&info)))
	if e != 0 || info.Mask&unix.PIDFD_INFO_EXIT == 0 {
		return nil
	}
	return newExitStatus(uint32(info.Exit_code))
}

// zombieStatus is the status of a process that has ended and was not reaped yet, as
// /proc/PID/stat tells it: exit_code in proc_pid_stat(5), Linux 3.5. To those that may not
// look it is 0, and so it counts only if we may: to read the link of a namespace takes
// the same right, and can be done of a zombie.
func (h *Handle) zombieStatus() *ExitStatus {
	dir, err := dirOf(h.pid)
	if err != nil {
		return nil
	}
	var buf [4096]byte
	stat, err := readAll(buf[:], dir+"/stat")
	if err != nil {
		return nil
	}
	const code = 52 - 3 // the state, the third field, is the first after the name
	f := bytes.Fields(stat[bytes.LastIndexByte(stat, ')')+1:])
	if len(f) <= code || string(f[0]) != "Z" {
		return nil
	}
	if _, err := os.Readlink(dir + "/ns/pid"); err != nil || !h.Unreaped() {
		return nil
	}
	status, err := strconv.ParseUint(string(f[code]), 10, 32)
	if err != nil {
		return nil
	}
	return newExitStatus(uint32(status))
}

// newExitStatus takes a status as wait(2) tells it.
func newExitStatus(status uint32) *ExitStatus {
	ws := syscall.WaitStatus(status)
	s := &ExitStatus{Code: ws.ExitStatus()}
	if ws.Signaled() {
		s.Signal = ws.Signal()
	}
	return s
}
