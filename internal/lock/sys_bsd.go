//go:build darwin || dragonfly || freebsd || netbsd || openbsd

package lock

import "golang.org/x/sys/unix"

// On these systems a PID file is taken in place, by flock(2) alone: there are
// no anonymous files and no open-file-description locks.

const (
	pinFlags = unix.O_RDONLY
	pinReads = true // a directory is opened for reading
)

func (f *file) anonymous(uint32) (int, error) { return -1, ErrNoAnonymous }
func (f *file) link(int) error                { return ErrNoAnonymous }
func reopen(int, int) (int, error)            { return -1, ErrNoAnonymous }

func ofdLock(int) error     { return nil }
func ofdInherit(int)        {}
func ofdUnlock(int)         {}
func waitOFD(int) error     { return nil }
func ofdInherited(int) bool { return false }

func ofdLocked(int) (held bool, pid int, err error) { return false, 0, errOFDUnknown }

// probe reports whether fd's file is locked, by locking it for an instant.
func probe(fd int) (held bool, pid int, err error) {
	switch unix.Flock(fd, unix.LOCK_SH|unix.LOCK_NB) {
	case nil:
		_ = unix.Flock(fd, unix.LOCK_UN)
		return false, 0, nil
	case unix.EWOULDBLOCK:
		return true, 0, nil
	}
	return false, 0, errOFDUnknown
}

// otherClock is not known here, and matters only where the start of a process is known.
func otherClock(int) bool { return false }

// keepsNoFiles is about file systems that Linux alone has.
func keepsNoFiles(int) bool { return false }

// keepsNoModes is not known here.
func keepsNoModes(int) bool { return false }
