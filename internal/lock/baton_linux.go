package lock

import "golang.org/x/sys/unix"

// newBaton makes a file without a name, in memory. It needs no right to run:
// vm.memfd_noexec, since Linux 6.3, may demand that this be said.
func newBaton() (fd int, err error) {
	for _, flags := range []int{unix.MFD_CLOEXEC | unix.MFD_NOEXEC_SEAL, unix.MFD_CLOEXEC} {
		err = retry("memfd", func() error {
			fd, err = unix.MemfdCreate("pidfile baton", flags)
			return err
		})
		if err != unix.EINVAL { // an older kernel knows no such flag
			break
		}
	}
	return fd, err
}
