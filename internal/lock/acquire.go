//go:build darwin || dragonfly || freebsd || linux || netbsd || openbsd

package lock

import (
	"bytes"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Bounds of an attempt that fails at once.
const (
	// retryFor is how long a refusal that may be transient (a stale file is just being
	// cleared, or looked at) is retried before it is reported.
	retryFor = 50 * time.Millisecond
	// retryForDead is the same where the text names a dead process: then a stale file
	// almost certainly is being cleared, by a process that may have to wait for a CPU.
	retryForDead = 500 * time.Millisecond
	// maxAttempt bounds the whole attempt while the path changes.
	maxAttempt = time.Second
	// freshFor is how long an empty file is left alone after it was created or emptied:
	// a program that locks its file, or writes its PID into it, does that next.
	freshFor = 30 * time.Millisecond
)

func (h *Hold) prepare(path string) {
	h.file, h.fd, h.ro = newFile(path), -1, -1
}

func (h *Hold) acquire(o *Options) (Refusal, error) {
	r, err := h.attempt(o)
	if again(r, err) {
		r, err = h.retryAttempt(r, o)
	}
	if h.fd < 0 {
		h.file.unpin()
	}
	return r.Refusal, err
}

// retryAttempt attempts until an outcome is certain, or its time is over.
func (h *Hold) retryAttempt(r refusal, o *Options) (refusal, error) {
	start, delay, last, err := time.Now(), 20*time.Microsecond, r, error(nil)
	retryingSince := start
	for {
		if r, err = h.attempt(o); !again(r, err) {
			return r, err
		}
		if err != nil {
			retryingSince = time.Now() // another file: its holder gets the whole retryFor
		} else {
			last = r
			limit := retryFor
			if !o.brief && r.PID != 0 && unix.Kill(r.PID, 0) == unix.ESRCH {
				limit = retryForDead
			}
			if time.Since(retryingSince) > limit {
				return last, nil
			}
		}
		if err != errAgain {
			time.Sleep(delay)
			delay = min(2*delay, 5*time.Millisecond)
		}
		if time.Since(start) > maxAttempt || o.brief && time.Since(start) > 2*retryFor {
			last.Held, last.Locked = true, true // another process had it each time
			return last, nil
		}
	}
}

// A refusal inside an attempt may be transient.
type refusal struct {
	Refusal
	transient bool
}

func again(r refusal, err error) bool {
	return err == errAgain || err == errFresh || err == nil && r.transient
}

// attempt goes once through the protocol.
func (h *Hold) attempt(o *Options) (refusal, error) {
	fd, r, err := h.lockPath(o)
	if err != nil || r.Held {
		return r, err
	}
	r, err = h.take(fd, o)
	if fd >= 0 && !h.has(fd) {
		unlockAndClose(fd)
	}
	return r, err
}

// lockPath opens and locks the file that is at the path. fd is -1 if there is none.
func (h *Hold) lockPath(o *Options) (fd int, r refusal, err error) {
	h.file.unpin() // the path may lead elsewhere by now
	fd, st, err := h.open(o)
	if err == unix.ENOENT {
		return -1, r, nil
	}
	if err != nil {
		return -1, r, err
	}
	if st.size == 0 && h.isFresh(fd, st) {
		closeFD(fd)
		return -1, r, errFresh
	}
	err = flock(fd, unix.LOCK_EX|unix.LOCK_NB)
	if err == nil {
		return fd, r, nil
	}
	if err == unix.EWOULDBLOCK {
		r, err = refused(fd), nil
	}
	closeFD(fd)
	switch {
	case r.Held:
		return -1, r, nil
	case err == unix.EBADF && o.Inherit:
		return h.lockPath(o.writable())
	}
	return -1, r, h.lockError(err)
}

// take takes the path, where fd is locked by us, or nothing is if fd is -1. It returns
// a refusal, or errAgain, if the file has a holder all the same.
func (h *Hold) take(fd int, o *Options) (refusal, error) {
	if fd < 0 {
		return refusal{}, h.createNew(o)
	}
	old, r, err := h.checkStale(fd, o)
	if err != nil || r.Held {
		return r, err
	}
	err = h.replace(fd, old, o)
	if err == errOFDLocked {
		return refusal{Refusal: Refusal{Held: true, PID: old.pid, Locked: true}}, nil
	}
	return refusal{}, err
}

// createNew takes the path where there is no file.
func (h *Hold) createNew(o *Options) error {
	if err := h.file.pin(); err != nil {
		return h.createError(err)
	}
	return h.create(o)
}

func (h *Hold) create(o *Options) error {
	p, err := h.claimAnonymous(o)
	if err == nil {
		err = h.commit(p, o)
	}
	if err != ErrNoAnonymous {
		return err
	}
	if p, err = h.claimNamed(o); err != nil {
		return err
	}
	return h.commit(p, o)
}

// replace takes the path of the stale file fd, whose lock we hold: so no process that
// looks at locks can remove it.
func (h *Hold) replace(fd int, old stale, o *Options) error {
	p, err := h.claimBeside(old, o)
	if err == nil {
		err = h.commit(p, o)
	}
	if err == nil || err != ErrNoAnonymous && !denied(err) && !full(err) {
		return err
	}
	if p, err = h.claimInPlace(fd, old, o); err != nil {
		return err
	}
	return h.commit(p, o)
}

// writable is o for a file system on which only a descriptor that may write can
// lock exclusively: NFS, where flock(2) is a lock of fcntl(2).
func (o *Options) writable() *Options {
	w := *o
	w.Inherit = false
	return &w
}

// has reports whether fd is one of h's.
func (h *Hold) has(fd int) bool { return fd == h.fd || fd == h.ro }

// isFresh reports whether fd, an empty file, may be one that a program has just created
// or emptied, and is about to lock or to write. It is that once only: a file that is
// emptied again and again keeps no start out.
func (h *Hold) isFresh(fd int, st meta) bool {
	now := time.Now()
	age := now.Sub(st.mtime)
	if age < 0 || age >= freshFor || otherClock(fd) {
		return false
	}
	if h.fresh != st.id {
		h.fresh, h.freshUntil = st.id, now.Add(freshFor-age)
	}
	return now.Before(h.freshUntil)
}

// open opens the existing file, for writing if we may and the lock is not to be
// inherited. It returns unix.ENOENT if there is none, and refuses what is not a regular
// file without opening it: to open a device may do something. st is what was there.
func (h *Hold) open(o *Options) (fd int, st meta, err error) {
	st, err = h.file.stat()
	if err != nil {
		if err == unix.ENOENT {
			return -1, st, err
		}
		return -1, st, h.pathError("lstat", err)
	}
	if err := h.regular(st.mode); err != nil {
		return -1, st, err
	}
	for _, write := range []bool{true, false} {
		if write && o.Inherit {
			continue
		}
		fd, err = h.file.open(write)
		switch err {
		case nil:
			return fd, st, nil
		case unix.ENOENT:
			return -1, st, errAgain
		case unix.ELOOP:
			return -1, st, h.regular(unix.S_IFLNK)
		case unix.EACCES, unix.EPERM, unix.EROFS, unix.ETXTBSY:
			continue // another user's: to lock and to read needs no more
		}
		break
	}
	return -1, st, h.pathError("open", err)
}

// regular refuses everything but a regular file.
func (h *Hold) regular(mode uint32) error {
	errno, what := unix.EINVAL, "is not a regular file"
	switch mode & unix.S_IFMT {
	case unix.S_IFREG:
		return nil
	case unix.S_IFLNK:
		errno, what = unix.ELOOP, "is a symbolic link, which is never followed: name the file itself"
	case unix.S_IFDIR:
		errno, what = unix.EISDIR, "is a directory: name a file in it"
	case unix.S_IFIFO:
		what = "is a FIFO, not a regular file"
	case unix.S_IFCHR, unix.S_IFBLK:
		what = "is a device, not a regular file"
	case unix.S_IFSOCK:
		what = "is a socket, not a regular file"
	}
	return h.pathError("open", &errnoHint{errno, what})
}

// lockError explains why flock failed for another reason than a holder.
func (h *Hold) lockError(err error) error {
	switch err {
	case unix.ENOLCK, unix.EOPNOTSUPP, unix.ENOSYS, unix.EINVAL:
		err = &errnoHint{err.(syscall.Errno), "this file system gives no locks: use another directory"}
	}
	return h.pathError("flock", err)
}

// refused describes what keeps fd's file locked. Only a holder of ours, or a process that
// inherited its lock, has an OFD lock, so without one the refusal is transient: flock(1)
// has it, or a stale file is being cleared, or only looked at.
func refused(fd int) refusal {
	pid, _ := readPID(fd)
	held, owner, err := ofdLocked(fd)
	if pid == 0 {
		pid = owner
	}
	transient := !held && !ofdInherited(fd)
	if err != nil && pid != 0 {
		transient = unix.Kill(pid, 0) == unix.ESRCH // the next best
	}
	return refusal{Refusal{Held: true, PID: pid, Locked: true}, transient}
}

// readPID returns the PID in fd's text, 0 if there is none.
func readPID(fd int) (int, error) {
	var buf [MaxText]byte
	n, err := pread(fd, buf[:])
	if err != nil {
		return 0, err
	}
	pid, _ := ParsePID(buf[:n])
	return pid, nil
}

// A stale file has no holder. Its text names pid.
type stale struct {
	meta
	pid int
}

// checkStale decides whether fd, which we have locked, is the path's file (else it
// returns errAgain) and stale: a process that does not use flock may be its holder. It
// pins the directory.
func (h *Hold) checkStale(fd int, o *Options) (old stale, r refusal, err error) {
	if err := h.pin(); err != nil {
		return old, r, err
	}
	if old.meta, err = fstat(fd); err != nil {
		return old, r, h.pathError("fstat", err)
	}
	if err := h.verifyPath(old.id); err != nil {
		return old, r, err
	}
	if old.pid, err = readPID(fd); err != nil {
		return old, r, h.pathError("read", err)
	}
	held, owner, err := ofdLocked(fd)
	if err != nil && err != errOFDUnknown {
		return old, r, h.pathError("fcntl", err)
	}
	switch {
	case held && old.pid == 0:
		return old, refusal{Refusal: Refusal{Held: true, PID: owner, Locked: true}}, nil
	case held:
		return old, refusal{Refusal: Refusal{Held: true, PID: old.pid, Locked: true}}, nil
	case old.pid != 0 && o.Running != nil && o.Running(old.pid, old.written(fd)):
		return old, refusal{Refusal: Refusal{Held: true, PID: old.pid}}, nil
	}
	if why := h.notPIDFile(fd, old.meta, old.pid); why != "" {
		return old, r, h.pathError("open", &NotPIDFileError{why})
	}
	return old, r, nil
}

// written is when fd was written, zero if that is by another machine's clock.
func (old *stale) written(fd int) time.Time {
	if otherClock(fd) {
		return time.Time{}
	}
	return old.mtime
}

// pin pins the directory, which was there when the file was opened.
func (h *Hold) pin() error {
	switch err := h.file.pin(); err {
	case nil:
		return nil
	case unix.ENOENT:
		return errAgain
	default:
		return h.pathError("open", err)
	}
}

// verifyPath reports errAgain if the path does not name the file id now. To find out
// what a process is takes a while, in which the file may be removed by hand, and another
// process start: so this comes directly before what cannot be undone.
func (h *Hold) verifyPath(id ID) error {
	there, err := h.file.stat()
	switch {
	case err == unix.ENOENT || err == nil && there.id != id:
		return errAgain
	case err != nil:
		return h.pathError("lstat", err)
	}
	return nil
}

// notPIDFile says why fd, whose text names pid, is not a PID file and not to be
// touched: the caller has named the wrong file. "" if it may be one.
func (h *Hold) notPIDFile(fd int, st meta, pid int) string {
	named := strings.Contains(strings.ToLower(filepath.Base(h.file.path)), "pid")
	switch {
	case keepsNoFiles(fd):
		return "its file system keeps no files, but shows the state of the kernel"
	case pid != 0 && !named && st.size > maxUnnamed:
		return "its first line may be a PID, but it goes on, and its name does not say that it is one"
	case pid != 0 || st.size == 0 && st.mode&0o111 == 0:
		return ""
	case st.size > MaxText && !allNUL(fd, st.size):
		return "its first line is not a PID, and it is longer than a PID"
	case st.mode&0o111 != 0 && !keepsNoModes(fd):
		return "it is executable"
	case !named && !allNUL(fd, st.size):
		return "its text is not a PID, and its name does not say that it is one"
	}
	return ""
}

// maxUnnamed is how long a file may be that has a PID on its first line, and whose
// name does not have "pid" in it.
const maxUnnamed = 4096

// allNUL reports whether fd's file has no other bytes, and not many: so a crash of
// the machine may leave a file that had just been written.
func allNUL(fd int, size int64) bool {
	var buf [4096]byte
	if size > int64(len(buf)) {
		return false
	}
	n, err := pread(fd, buf[:])
	return err == nil && len(bytes.Trim(buf[:n], "\x00")) == 0
}
