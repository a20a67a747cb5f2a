//go:build darwin || dragonfly || freebsd || netbsd || openbsd

package lock

import (
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// On these systems a PID file is taken in place, by flock(2) alone: there are
// no unnamed files and no open-file-description locks.

type name struct{ s string }

func newName(path string) name      { return name{path} }
func (n name) String() string       { return n.s }
func (n name) link(int) error       { return errNoBirth }
func (n name) unlink() error        { return unix.Unlink(n.s) }
func injected(string) syscall.Errno { return 0 }

func retry(_ string, f func() error) error {
	for {
		if err := f(); err != unix.EINTR {
			return err
		}
	}
}

func open(path string, flags int, mode uint32) (fd int, err error) {
	err = retry("", func() error {
		fd, err = unix.Open(path, flags|unix.O_CLOEXEC|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_NOCTTY, mode)
		return err
	})
	return fd, err
}

func (n name) open(write bool) (int, error) {
	if write {
		return open(n.s, unix.O_RDWR, 0)
	}
	return open(n.s, unix.O_RDONLY, 0)
}

func (n name) create(mode uint32) (int, error) {
	return open(n.s, unix.O_RDWR|unix.O_CREAT|unix.O_EXCL, mode)
}

func (n name) unnamed(uint32) (int, error) { return -1, errNoBirth }

func (n name) stat() (meta, error) {
	var st unix.Stat_t
	err := unix.Lstat(n.s, &st)
	return bsdMeta(&st), err
}

func fstat(fd int) (meta, error) {
	var st unix.Stat_t
	err := unix.Fstat(fd, &st)
	return bsdMeta(&st), err
}

func bsdMeta(st *unix.Stat_t) meta {
	return meta{ID{uint64(st.Dev), uint64(st.Ino)}, uint32(st.Mode), st.Size, time.Unix(st.Mtim.Unix()), int(st.Uid), uint64(st.Nlink), int(st.Gid)}
}

func ofdLock(int) error        { return nil }
func ofdUnlock(int)            {}
func waitMark(int, bool) error { return nil }

func marked(int) (held bool, pid int, err error) { return false, 0, errBlind }

// probe reports whether fd's file is locked, by locking it for an instant.
func probe(fd int) (held bool, pid int, err error) {
	switch unix.Flock(fd, unix.LOCK_SH|unix.LOCK_NB) {
	case nil:
		_ = unix.Flock(fd, unix.LOCK_UN)
		return false, 0, nil
	case unix.EWOULDBLOCK:
		return true, 0, nil
	}
	return false, 0, errBlind
}

// HasACL is asked about processes only, which are not known here.
func HasACL(string) bool { return false }
