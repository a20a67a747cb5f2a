package peers

import (
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// The floors look at nothing that is not needed to get the lock: no inode is
// compared, and no text of another is judged.

var self = os.Getpid()

func rawAcquire(path string) (Release, error) {
	fd, err := unix.Open(path, unix.O_RDWR|unix.O_CREAT|unix.O_CLOEXEC, 0o644)
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(fd, unix.LOCK_EX|unix.LOCK_NB); err != nil {
		return nil, rawRefused(fd, err)
	}
	var text [16]byte
	if _, err := unix.Write(fd, append(strconv.AppendInt(text[:0], int64(self), 10), '\n')); err != nil {
		return nil, err
	}
	return func() error {
		if err := unix.Unlink(path); err != nil {
			return err
		}
		return unix.Close(fd)
	}, nil
}

func rawRefused(fd int, err error) error {
	defer unix.Close(fd)
	if err != unix.EWOULDBLOCK {
		return err
	}
	var buf [64]byte
	n, _ := unix.Pread(fd, buf[:], 0)
	pid, _ := strconv.Atoi(strings.TrimSpace(string(buf[:max(n, 0)])))
	return &Held{pid}
}

func rawTry(path string) (Release, error)  { return rawStay(path, unix.LOCK_EX|unix.LOCK_NB) }
func rawWait(path string) (Release, error) { return rawStay(path, unix.LOCK_EX) }

func rawStay(path string, how int) (Release, error) {
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_CREAT|unix.O_CLOEXEC, 0o644)
	if err != nil {
		return nil, err
	}
	for {
		switch err := unix.Flock(fd, how); err {
		case nil:
			return func() error { return unix.Close(fd) }, nil
		case unix.EINTR:
		case unix.EWOULDBLOCK:
			unix.Close(fd)
			return nil, &Held{}
		default:
			unix.Close(fd)
			return nil, err
		}
	}
}
