package lock

import (
	"sync/atomic"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// A name is a path and its directory, each ended by a NUL, ready for the
// kernel: the six calls on the common paths share one allocation.
type name struct {
	buf []byte
	n   int // length of the path
}

func newName(path string) name {
	n := len(path)
	buf := make([]byte, 0, 2*n+3)
	buf = append(append(buf, path...), 0)
	dir := n
	for dir > 0 && path[dir-1] != '/' {
		dir--
	}
	switch {
	case dir == 0:
		buf = append(buf, '.')
	case dir == 1:
		buf = append(buf, '/')
	default:
		buf = append(buf, path[:dir-1]...)
	}
	return name{append(buf, 0), n}
}

func (n name) String() string { return string(n.buf[:n.n]) }
func (n name) path() *byte    { return &n.buf[0] }
func (n name) dir() *byte     { return &n.buf[n.n+1] }

// fault, set by tests only, fails the call that it is asked about.
var fault func(call string) syscall.Errno

// injected returns the error that a test wants call to fail with.
func injected(call string) syscall.Errno {
	if fault == nil {
		return 0
	}
	return fault(call)
}

// retry repeats a call that a signal interrupted.
func retry(call string, f func() error) error {
	for {
		err := error(nil)
		if e := injected(call); e != 0 {
			err = e
		} else {
			err = f()
		}
		if err != unix.EINTR {
			return err
		}
	}
}

// errnoErr boxes e; small numbers need no allocation.
func errnoErr(e syscall.Errno) error {
	if e == 0 {
		return nil
	}
	return e
}

func openat(call string, p *byte, flags int, mode uint32) (int, error) {
	for {
		e := injected(call)
		var fd uintptr
		if e == 0 {
			fd, _, e = unix.Syscall6(unix.SYS_OPENAT, atFDCWD, uintptr(unsafe.Pointer(p)), uintptr(flags|unix.O_CLOEXEC|unix.O_LARGEFILE), uintptr(mode), 0, 0)
		}
		if e != unix.EINTR {
			return int(fd), errnoErr(e)
		}
	}
}

// atFDCWD is AT_FDCWD as the kernel takes it.
const atFDCWD = ^uintptr(0) - 99 // -100

// open opens the existing file that n names. Nothing is created or cut, a
// FIFO does not block, a terminal does not become ours.
func (n name) open(write bool) (int, error) {
	flags := unix.O_RDONLY
	if write {
		flags = unix.O_RDWR
	}
	return openat("open", n.path(), flags|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_NOCTTY, 0)
}

// create makes the file that n names; EEXIST if there is one.
func (n name) create(mode uint32) (int, error) {
	return openat("create", n.path(), unix.O_RDWR|unix.O_CREAT|unix.O_EXCL|unix.O_NOFOLLOW, mode)
}

// unnamed opens a new file without a name on the file system of n's directory.
// ErrUnsupported: file systems (and kernels) without O_TMPFILE, open(2).
func (n name) unnamed(mode uint32) (int, error) {
	fd, err := openat("tmpfile", n.dir(), unix.O_RDWR|unix.O_TMPFILE, mode)
	switch err {
	case unix.EOPNOTSUPP, unix.EISDIR, unix.EINVAL, unix.ENOSYS:
		err = errNoBirth
	}
	return fd, err
}

// noEmptyPath remembers that linkat refused AT_EMPTY_PATH: it is allowed for
// one's own descriptors since Linux 6.10, before with CAP_DAC_READ_SEARCH.
var noEmptyPath atomic.Bool

var emptyPath [1]byte

// link gives the unnamed file fd the name n. EEXIST if the name is taken;
// errNoBirth where hard links do not exist or /proc, which the way for older
// kernels goes through, is not there.
func (n name) link(fd int) error {
	for {
		e := injected("link")
		if e == 0 && !noEmptyPath.Load() {
			_, _, e = unix.Syscall6(unix.SYS_LINKAT, uintptr(fd), uintptr(unsafe.Pointer(&emptyPath[0])), atFDCWD, uintptr(unsafe.Pointer(n.path())), unix.AT_EMPTY_PATH, 0)
			if e == unix.ENOENT || e == unix.EINVAL {
				if e = n.linkProc(fd); e == 0 {
					noEmptyPath.Store(true)
				}
			}
		} else if e == 0 {
			e = n.linkProc(fd)
		}
		switch e {
		case unix.EINTR:
			continue
		case unix.EOPNOTSUPP, unix.ENOSYS, unix.EPERM, unix.EMLINK:
			return errNoBirth
		}
		return errnoErr(e)
	}
}

func (n name) linkProc(fd int) syscall.Errno {
	var buf [32]byte
	p := append(appendInt(append(buf[:0], "/proc/self/fd/"...), fd), 0)
	_, _, e := unix.Syscall6(unix.SYS_LINKAT, atFDCWD, uintptr(unsafe.Pointer(&p[0])), atFDCWD, uintptr(unsafe.Pointer(n.path())), unix.AT_SYMLINK_FOLLOW, 0)
	return e
}

func appendInt(b []byte, i int) []byte {
	if i >= 10 {
		b = appendInt(b, i/10)
	}
	return append(b, byte('0'+i%10))
}

func (n name) unlink() error {
	for {
		e := injected("unlink")
		if e == 0 {
			_, _, e = unix.Syscall(unix.SYS_UNLINKAT, atFDCWD, uintptr(unsafe.Pointer(n.path())), 0)
		}
		if e != unix.EINTR {
			return errnoErr(e)
		}
	}
}

// stat describes what n names, without following a symbolic link.
func (n name) stat() (meta, error) {
	var st unix.Statx_t
	for {
		e := injected("lstat")
		if e == 0 {
			_, _, e = unix.Syscall6(unix.SYS_STATX, atFDCWD, uintptr(unsafe.Pointer(n.path())), unix.AT_SYMLINK_NOFOLLOW, unix.STATX_BASIC_STATS, uintptr(unsafe.Pointer(&st)), 0)
		}
		switch e {
		case 0:
			return meta{ID{unix.Mkdev(st.Dev_major, st.Dev_minor), st.Ino}, uint32(st.Mode), int64(st.Size), time.Unix(st.Mtime.Sec, int64(st.Mtime.Nsec)), int(st.Uid), uint64(st.Nlink), int(st.Gid)}, nil
		case unix.EINTR:
			continue
		}
		return meta{}, errnoErr(e)
	}
}

func fstat(fd int) (meta, error) {
	var st unix.Stat_t
	for {
		err := error(errnoErr(injected("fstat")))
		if err == nil {
			err = unix.Fstat(fd, &st)
		}
		if err != unix.EINTR {
			return meta{ID{st.Dev, st.Ino}, st.Mode, st.Size, time.Unix(st.Mtim.Unix()), int(st.Uid), uint64(st.Nlink), int(st.Gid)}, err
		}
	}
}

// ofdLock takes the holder's mark on fd. Where the system has no such lock, or
// maps it and flock to one kind that collides (NFS), flock alone decides.
func ofdLock(fd int) error {
	for {
		err := errnoErr(injected("setlk"))
		if err == nil {
			err = unix.FcntlFlock(uintptr(fd), unix.F_OFD_SETLK, &unix.Flock_t{Type: unix.F_WRLCK})
		}
		switch err {
		case unix.EINTR:
			continue
		case unix.EINVAL, unix.ENOSYS, unix.EOPNOTSUPP:
			return nil
		case unix.EAGAIN, unix.EACCES:
			if collides(fd) {
				return nil
			}
		}
		return err
	}
}

// ofdUnlock takes the mark off a file that stays.
func ofdUnlock(fd int) {
	// A failure leaves the mark until the last descriptor is closed: no more
	// can be done about it.
	_ = unix.FcntlFlock(uintptr(fd), unix.F_OFD_SETLK, &unix.Flock_t{Type: unix.F_UNLCK})
}

// marked reports whether somebody else has the holder's mark, or any fcntl
// lock, on fd's file, and the PID of that lock's owner where there is one.
// Asking takes no lock. errBlind where the system cannot tell.
func marked(fd int) (held bool, pid int, err error) {
	lk := unix.Flock_t{Type: unix.F_WRLCK}
	for {
		err = errnoErr(injected("getlk"))
		if err == nil {
			err = unix.FcntlFlock(uintptr(fd), unix.F_OFD_GETLK, &lk)
		}
		switch err {
		case nil:
		case unix.EINTR:
			continue
		case unix.EINVAL, unix.ENOSYS, unix.EOPNOTSUPP:
			return false, 0, errBlind
		default:
			return false, 0, err
		}
		if lk.Type == unix.F_UNLCK {
			return false, 0, nil
		}
		if collides(fd) {
			return false, 0, errBlind
		}
		return true, max(0, int(lk.Pid)), nil
	}
}

// probe is marked, for those who only look.
func probe(fd int) (held bool, pid int, err error) { return marked(fd) }

// waitMark blocks until nobody has an fcntl lock on fd's file. A shared lock is
// no obstacle to a descriptor that may only read: then it looks now and then.
func waitMark(fd int, write bool) error {
	typ := int16(unix.F_RDLCK)
	if write {
		typ = unix.F_WRLCK
	}
	err := retry("setlkw", func() error {
		return unix.FcntlFlock(uintptr(fd), unix.F_OFD_SETLKW, &unix.Flock_t{Type: typ})
	})
	ofdUnlock(fd)
	for err == nil {
		held, _, e := marked(fd)
		if e != nil || !held {
			return nil
		}
		time.Sleep(glance)
	}
	time.Sleep(glance) // whoever asks again does not spin
	return err
}

// glance is how often to look where the kernel cannot wake us.
const glance = 100 * time.Millisecond

// collides reports whether fd's file system keeps flock and fcntl locks as one
// kind: flock(2) says so of NFS (since Linux 2.6.12) and SMB (since 5.5).
func collides(fd int) bool {
	var st unix.Statfs_t
	if unix.Fstatfs(fd, &st) != nil {
		return false
	}
	switch uint32(st.Type) {
	case unix.NFS_SUPER_MAGIC, unix.SMB_SUPER_MAGIC, unix.SMB2_SUPER_MAGIC, unix.CIFS_SUPER_MAGIC:
		return true
	}
	return false
}

// HasACL reports whether the permissions of what is at path are an access control
// list, acl(5): with more users than its mode tells.
func HasACL(path string) bool {
	_, err := unix.Getxattr(path, "system.posix_acl_access", nil)
	return err == nil
}
