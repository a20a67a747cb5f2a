package supervise

import (
	"testing"

	"golang.org/x/sys/unix"
)

// TestCloseEachOnExec: without close_range(2) a descriptor is closed by exec as well,
// with /proc and without.
func TestCloseEachOnExec(t *testing.T) {
	for _, dir := range []string{"/proc/self/fd", "/nowhere"} {
		fd, err := unix.Dup(0)
		if err != nil {
			t.Fatal(err)
		}
		defer unix.Close(fd)
		closeEachOnExec(dir)
		if flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0); err != nil || flags&unix.FD_CLOEXEC == 0 {
			t.Errorf("with %s: flags %x, %v", dir, flags, err)
		}
		if flags, _ := unix.FcntlInt(0, unix.F_GETFD, 0); flags&unix.FD_CLOEXEC != 0 {
			t.Errorf("with %s: standard input is closed", dir)
		}
	}
}
