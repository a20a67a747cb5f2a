package lock

import "golang.org/x/sys/unix"

// newHandoffLock makes a file without a name, in memory. It needs no right to run:
// vm.memfd_noexec, since Linux 6.3, may demand that this be said.
func newHandoffLock() (fd int, err error) {
	for _, flags := range []int{unix.MFD_CLOEXEC | unix.MFD_NOEXEC_SEAL, unix.MFD_CLOEXEC} {
		err = retry("memfd", func() error {
			fd, err = unix.MemfdCreate("pidfile hand-off lock", flags)
			return err
		})
		if err != unix.EINVAL { // an older kernel knows no such flag
			break
		}
	}
	return fd, err
}

// How to take the hand-off lock, and to release it, on a description of our own.
const ofdSetlkw, ofdSetlk = unix.F_OFD_SETLKW, unix.F_OFD_SETLK

// private opens the hand-off lock once more, for a lock of that description alone. Such
// a lock and one of a process keep each other out. It returns -1 where that
// cannot be: without /proc.
func private(handoffLock int) int {
	fd, err := reopen(handoffLock, unix.O_RDWR)
	if err != nil {
		return -1
	}
	if unix.FcntlFlock(uintptr(fd), unix.F_OFD_GETLK, &unix.Flock_t{Type: unix.F_WRLCK}) != nil {
		closeFD(fd)
		return -1
	}
	return fd
}
