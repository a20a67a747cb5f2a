//go:build darwin || dragonfly || freebsd || linux || netbsd || openbsd

package lock

import (
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// A file is a path as system calls take it. Until its directory is pinned every call
// resolves the whole path. From then on a call resolves the last element alone, in the
// directory that was opened: another user who may rename that directory or put a symbolic
// link in its place cannot make us touch another file.
type file struct {
	path   string
	at     int    // what name counts from: AT_FDCWD until the directory is pinned
	name   string // path, or its last element
	pinned bool   // at is ours to close
	direct bool   // no directory on the way may be a symbolic link
}

// meta is what we need of fstat and lstat.
type meta struct {
	id    ID
	mode  uint32
	size  int64
	mtime time.Time
	uid   int
	links uint64
	gid   int
}

func newFile(path string) file { return file{path: path, at: unix.AT_FDCWD, name: path} }

// pin opens the directory. A directory that the system does not let us open
// though its files may be used (on the BSDs one without read permission) is not
// pinned, which is no error.
func (f *file) pin() error {
	f.unpin()
	dir, name := filepath.Split(f.path)
	if dir == "" {
		dir = "."
	}
	var fd int
	var err error
	if f.direct {
		fd, err = openDirect(dir)
	} else {
		fd, err = openat("pin", unix.AT_FDCWD, dir, pinFlags|unix.O_DIRECTORY, 0)
	}
	if err == unix.EACCES && !f.direct && pinReads {
		return nil
	}
	if err == nil {
		f.at, f.name, f.pinned = fd, name, true
	}
	return err
}

// openDirect opens the directory at an absolute path, one element after the other
// and none of them through a symbolic link: ENOTDIR or ELOOP if there is one.
func openDirect(dir string) (int, error) {
	at, err := openat("pin", unix.AT_FDCWD, "/", pinFlags|unix.O_DIRECTORY, 0)
	for name := range strings.SplitSeq(dir, "/") {
		if err != nil || name == "" {
			continue
		}
		var next int
		next, err = openat("pin", at, name, pinFlags|unix.O_DIRECTORY|unix.O_NOFOLLOW, 0)
		closeFD(at)
		at = next
	}
	return at, err
}

// unpin closes the directory.
func (f *file) unpin() {
	if f.pinned {
		closeFD(f.at)
	}
	f.at, f.name, f.pinned = unix.AT_FDCWD, f.path, false
}

// spare is the name beside f that a PID file has between its creation and its
// renaming to f's. It is valid as long as f is pinned.
func (f *file) spare() file {
	dir, name := filepath.Split(f.path)
	name = "." + name + ".next"
	if !f.pinned {
		return newFile(dir + name)
	}
	return file{path: dir + name, at: f.at, name: name}
}

// openat opens f, never through a symbolic link. A FIFO does not block, and a
// terminal does not become ours.
func (f *file) openat(call string, flags int, mode uint32) (fd int, err error) {
	return openat(call, f.at, f.name, flags|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_NOCTTY, mode)
}

func openat(call string, at int, name string, flags int, mode uint32) (fd int, err error) {
	err = retry(call, func() error {
		fd, err = unix.Openat(at, name, flags|unix.O_CLOEXEC, mode)
		return err
	})
	return fd, err
}

// open opens the existing file. Nothing is created or cut.
func (f *file) open(write bool) (int, error) {
	if write {
		return f.openat("open", unix.O_RDWR, 0)
	}
	return f.openat("open", unix.O_RDONLY, 0)
}

// create makes the file; EEXIST if there is one.
func (f *file) create(mode uint32) (int, error) {
	return f.openat("create", unix.O_RDWR|unix.O_CREAT|unix.O_EXCL, mode)
}

// stat describes what f names, without following a symbolic link.
func (f *file) stat() (meta, error) { return statat(f.at, f.name) }

// statPath is stat by the whole path, as another process resolves it.
func (f *file) statPath() (meta, error) { return statat(unix.AT_FDCWD, f.path) }

func statat(at int, name string) (meta, error) {
	var st unix.Stat_t
	err := retry("lstat", func() error { return unix.Fstatat(at, name, &st, unix.AT_SYMLINK_NOFOLLOW) })
	return metaOf(&st), err
}

func fstat(fd int) (meta, error) {
	var st unix.Stat_t
	err := retry("fstat", func() error { return unix.Fstat(fd, &st) })
	return metaOf(&st), err
}

func metaOf(st *unix.Stat_t) meta {
	return meta{
		id: ID{Dev: uint64(st.Dev), Ino: uint64(st.Ino)}, mode: uint32(st.Mode), size: st.Size, mtime: time.Unix(st.Mtim.Unix()),
		uid: int(st.Uid), gid: int(st.Gid), links: uint64(st.Nlink),
	}
}

func (f *file) unlink() error {
	return retry("unlink", func() error { return unix.Unlinkat(f.at, f.name, 0) })
}

// rename puts f in the place of to.
func (f *file) rename(to *file) error {
	return retry("rename", func() error { return unix.Renameat(f.at, f.name, to.at, to.name) })
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

// fault, stored by tests only, fails the call that it is asked about.
var fault atomic.Pointer[func(call string) syscall.Errno]

// injected returns the error that a test wants call to fail with.
func injected(call string) syscall.Errno {
	if f := fault.Load(); f != nil {
		return (*f)(call)
	}
	return 0
}

func flock(fd, how int) error {
	return retry("flock", func() error { return unix.Flock(fd, how) })
}

func pread(fd int, buf []byte) (n int, err error) {
	err = retry("pread", func() error { n, err = unix.Pread(fd, buf, 0); return err })
	return max(n, 0), err
}

func pwrite(fd int, text []byte) error {
	return retry("pwrite", func() error {
		n, err := unix.Pwrite(fd, text, 0)
		if err == nil && n < len(text) {
			err = unix.ENOSPC // nothing else cuts so short a write
		}
		return err
	})
}

func ftruncate(fd int, size int64) error {
	return retry("ftruncate", func() error { return unix.Ftruncate(fd, size) })
}

func fchmod(fd int, mode uint32) error {
	return retry("fchmod", func() error { return unix.Fchmod(fd, mode) })
}

// closeFD closes fd once: close(2) on Linux has closed it even if it says EINTR.
func closeFD(fd int) { _ = unix.Close(fd) }
