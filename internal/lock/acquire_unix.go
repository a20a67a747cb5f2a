//go:build darwin || dragonfly || freebsd || linux || netbsd || openbsd

package lock

import (
	"bytes"
	"errors"
	"io/fs"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Prepare makes h ready to take path, which must be absolute.
func (h *Hold) Prepare(path string) {
	h.file, h.fd, h.ro = newFile(path), -1, -1
}

// Acquire takes the file if nobody has it and returns a Refusal or an error
// otherwise. It does not block, but for a while it doubts a refusal that may be
// a moment's. A refusal creates and changes nothing.
func (h *Hold) Acquire(o *Options) (Refusal, error) {
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
	start, pause, last, err := time.Now(), 20*time.Microsecond, r, error(nil)
	retryingSince := start
	for {
		if r, err = h.attempt(o); !again(r, err) {
			return r, err
		}
		if err == errAgain {
			retryingSince = time.Now() // another file: its holder gets the whole retryFor
		} else {
			last = r
			limit := retryFor
			if r.PID != 0 && unix.Kill(r.PID, 0) == unix.ESRCH {
				limit = retryForDead
			}
			if time.Since(retryingSince) > limit {
				return last, nil
			}
			time.Sleep(pause)
			pause = min(2*pause, 5*time.Millisecond)
		}
		if time.Since(start) > maxAttempt {
			last.Held, last.Locked = true, true // somebody else's all the time
			return last, nil
		}
	}
}

// A refusal inside an attempt may be transient: only a moment's.
type refusal struct {
	Refusal
	transient bool
}

func again(r refusal, err error) bool { return err == errAgain || err == nil && r.transient }

// attempt goes once through the protocol.
func (h *Hold) attempt(o *Options) (refusal, error) {
	h.file.unpin() // the path may lead elsewhere by now
	h.stale = 0
	fd, err := h.open(o)
	if err == unix.ENOENT {
		return refusal{}, h.createNew(o)
	}
	if err != nil {
		return refusal{}, err
	}
	switch err := flock(fd, unix.LOCK_EX|unix.LOCK_NB); {
	case err == nil:
	case err == unix.EWOULDBLOCK:
		r := refused(fd)
		closeFD(fd)
		return r, nil
	case err == unix.EBADF && o.Inherit:
		closeFD(fd)
		return h.attempt(o.writable())
	default:
		closeFD(fd)
		return refusal{}, h.lockError(err)
	}
	r, err := h.settle(fd, o)
	if !h.has(fd) {
		unlockAndClose(fd)
	}
	return r, err
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

// open opens the existing file, for writing if we may and the lock is not to be
// inherited. It returns unix.ENOENT if there is none, and refuses what is no
// regular file without opening it: to open a device may do something.
func (h *Hold) open(o *Options) (fd int, err error) {
	st, err := h.file.stat()
	if err != nil {
		if err == unix.ENOENT {
			return -1, err
		}
		return -1, h.pathError("lstat", err)
	}
	if err := h.regular(st.mode); err != nil {
		return -1, err
	}
	for _, write := range []bool{true, false} {
		if write && o.Inherit {
			continue
		}
		fd, err = h.file.open(write)
		switch err {
		case nil:
			return fd, nil
		case unix.ENOENT:
			return -1, errAgain
		case unix.ELOOP:
			return -1, h.regular(unix.S_IFLNK)
		case unix.EACCES, unix.EPERM, unix.EROFS, unix.ETXTBSY:
			continue // somebody else's: to lock and to read needs no more
		}
		break
	}
	return -1, h.pathError("open", err)
}

// regular refuses everything but a regular file.
func (h *Hold) regular(mode uint32) error {
	errno, what := unix.EINVAL, "not a regular file"
	switch mode & unix.S_IFMT {
	case unix.S_IFREG:
		return nil
	case unix.S_IFLNK:
		errno, what = unix.ELOOP, "is a symbolic link, which is never followed: name the file itself"
	case unix.S_IFDIR:
		errno, what = unix.EISDIR, "name a file in it"
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

// refused says who keeps fd's file locked. Only a holder of ours, or who inherited
// its lock, has an OFD lock, so without one the refusal is transient: a stranger's
// lock, or somebody who clears a stale file or only looks.
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

// settle decides about fd, which we have locked: whether it is the path's and
// whether somebody who does not use flock is to be respected. If neither, it
// puts a file of ours in its place, or takes this one in place.
func (h *Hold) settle(fd int, o *Options) (refusal, error) {
	if err := h.pin(); err != nil {
		return refusal{}, err
	}
	mine, err := fstat(fd)
	if err != nil {
		return refusal{}, h.pathError("fstat", err)
	}
	if err := h.verifyPath(mine.id); err != nil {
		return refusal{}, err
	}
	pid, err := readPID(fd)
	if err != nil {
		return refusal{}, h.pathError("read", err)
	}
	held, owner, err := ofdLocked(fd)
	if err != nil && err != errOFDUnknown {
		return refusal{}, h.pathError("fcntl", err)
	}
	if held {
		if pid == 0 {
			pid = owner
		}
		return refusal{Refusal: Refusal{Held: true, PID: pid, Locked: true}}, nil
	}
	if pid != 0 && otherClock(fd) {
		mine.mtime = time.Time{}
	}
	if pid != 0 && o.Running != nil && o.Running(pid, mine.mtime) {
		return refusal{Refusal: Refusal{Held: true, PID: pid}}, nil
	}
	if why := h.notPIDFile(fd, mine, pid); why != "" {
		return refusal{}, h.pathError("open", &NotPIDFileError{why})
	}
	h.stale = pid
	err = h.replace(fd, mine, o)
	if err == errOFDLocked {
		return refusal{Refusal: Refusal{Held: true, PID: pid, Locked: true}}, nil
	}
	return refusal{}, err
}

// pin pins the directory. It was there a moment ago.
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

// replace takes the place of the stale file fd, whose lock we hold: so nobody
// else who looks at locks can remove it.
func (h *Hold) replace(fd int, old meta, o *Options) error {
	err := h.replaceStale(old, o)
	if err == nil || err != errNoAnonymous && !denied(err) && !full(err) {
		return err
	}
	w := fd
	if !writable(fd) {
		w, err = h.file.open(true)
	} else {
		err = nil
	}
	switch {
	case denied(err) || err == unix.ETXTBSY:
		return h.pathError("open", &errnoHint{unix.EACCES, "the file is stale, and one that we may neither write nor remove: its owner or root can"})
	case err == unix.ENOENT || err == unix.ELOOP:
		return errAgain
	case err != nil:
		return h.pathError("open", err)
	}
	if old.links != 1 {
		err = h.pathError("open", &errnoHint{unix.EMLINK, "the file is stale, but with other names (hard links), whose text it is too: remove this name"})
	} else if err = h.opens(w, old.id); err == nil {
		err = h.inPlace(w, fd, old, o)
	}
	if err != nil && w != fd {
		closeFD(w)
	}
	return err
}

// writable reports whether fd was opened for writing, too.
func writable(fd int) bool {
	flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFL, 0)
	return err == nil && flags&unix.O_ACCMODE == unix.O_RDWR
}

// opens reports errAgain if w is not the file id, or the path does not name it.
func (h *Hold) opens(w int, id ID) error {
	st, err := fstat(w)
	if err != nil {
		return h.pathError("fstat", err)
	}
	if st.id != id {
		return errAgain
	}
	return h.verifyPath(id)
}

// verifyPath reports errAgain if the path does not name the file id now. To tell who
// a process is takes a while, in which a hand may have removed the file and
// somebody have started: so this comes directly before what cannot be undone.
func (h *Hold) verifyPath(id ID) error {
	there, err := h.file.stat()
	switch {
	case err == unix.ENOENT || err == nil && there.id != id && !broken("compare"):
		return errAgain
	case err != nil:
		return h.pathError("lstat", err)
	}
	return nil
}

// replaceStale renames a file of ours over the stale file. Until then all can
// fail, and the stale file stays as it was. errNoAnonymous: it cannot be done here.
func (h *Hold) replaceStale(old meta, o *Options) error {
	a, err := h.createAnonymous(o)
	if err != nil {
		return err
	}
	h.setText(o.PID)
	if err := pwrite(a.fd, h.text[:h.n]); err != nil {
		a.close()
		return h.pathError("write", err)
	}
	spare := h.file.spare()
	err = spare.link(a.fd)
	if err == unix.EEXIST { // a crash's: we hold the lock that guards the name
		if err = spare.unlink(); err == nil {
			err = spare.link(a.fd)
		}
	}
	if err == nil {
		if err = h.verifyPath(old.id); err == nil {
			return h.commit(a, Pending{spare: spare, rename: true, OldSize: int64(h.n)}, o)
		}
		unlinkIf(&spare, a.id)
	}
	a.close()
	switch err {
	case unix.EEXIST, unix.ENOENT:
		return errAgain
	case unix.ENAMETOOLONG, unix.EISDIR: // the spare name is longer than the path's, or a directory's
		return errNoAnonymous
	}
	return h.wrapErrno("link", err)
}

// full reports whether err says that there is no room for another file: the
// stale file has its room already.
func full(err error) bool { return errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT) }

// denied reports whether err says that we may not change the directory.
func denied(err error) bool {
	return errors.Is(err, unix.EACCES) || errors.Is(err, unix.EPERM) || errors.Is(err, unix.EROFS)
}

// createNew makes the file where there is none.
func (h *Hold) createNew(o *Options) error {
	if err := h.file.pin(); err != nil {
		return h.createError(err)
	}
	a, err := h.createAnonymous(o)
	if err == nil {
		err = h.commit(a, Pending{link: true}, o)
	}
	if err != errNoAnonymous {
		return err
	}
	return h.createNamed(o)
}

// An anonymous file is not yet anybody's but ours.
type anonymous struct {
	fd int // locked, but not by flock if there is
	ro int // one that cannot write, and has that lock; else -1
	id ID
}

// locked is the descriptor with the flock.
func (a *anonymous) locked() int {
	if a.ro >= 0 {
		return a.ro
	}
	return a.fd
}

func (a *anonymous) close() {
	if a.ro >= 0 {
		unlockAndClose(a.ro)
	}
	unlockAndClose(a.fd)
}

// createAnonymous opens a file without a name, locked and of the right mode.
func (h *Hold) createAnonymous(o *Options) (*anonymous, error) {
	mode := o.Mode
	if o.Inherit {
		mode |= 0o400 // for us to open it again
	}
	fd, err := h.file.anonymous(mode)
	if err != nil {
		return nil, h.createError(err)
	}
	a := &anonymous{fd: fd, ro: -1}
	if err := h.lockAnonymous(a, o); err != nil {
		a.close()
		return nil, err
	}
	return a, nil
}

func (h *Hold) lockAnonymous(a *anonymous, o *Options) (err error) {
	if o.Inherit {
		if a.ro, err = reopen(a.fd, unix.O_RDONLY); err != nil {
			a.ro = -1
			return h.wrapErrno("open", err)
		}
	}
	if err = flock(a.locked(), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		return h.lockError(err)
	}
	if err = ofdLock(a.fd); err != nil {
		return h.pathError("fcntl", err)
	}
	if a.ro >= 0 {
		ofdInherit(a.ro)
	}
	st, err := fstat(a.fd)
	if err != nil {
		return h.pathError("fstat", err)
	}
	a.id = st.id
	if st.mode&0o7777 != o.Mode {
		if err = fchmod(a.fd, o.Mode); err != nil {
			return h.pathError("chmod", err)
		}
	}
	return nil
}

// createError says which directory is at fault.
func (h *Hold) createError(err error) error {
	switch err {
	case errNoAnonymous:
		return err
	case unix.ENOENT:
		err = &errnoHint{unix.ENOENT, "the directory does not exist: create it first"}
	case unix.ENOTDIR:
		err = &errnoHint{unix.ENOTDIR, "its parent is not a directory"}
	}
	return h.pathError("create", err)
}

// commit gives the anonymous file a its text and its name, and makes it ours.
// errAgain if somebody else's file has the name.
func (h *Hold) commit(a *anonymous, p Pending, o *Options) error {
	p.FD, p.LockFD, p.ReadOnly, p.file = a.fd, a.locked(), a.ro >= 0, h.file
	err := h.write(p, o)
	if err == nil {
		h.fd, h.ro, h.id, h.created, h.mode = a.fd, a.ro, a.id, true, o.Mode
		return nil
	}
	// The spare name goes first: it is guarded by the lock of the path's file, be
	// that the stale one or, if Publish failed after the rename, ours.
	if p.rename {
		unlinkIf(&p.spare, a.id)
	}
	if o.Publish != nil {
		unlinkIf(&h.file, a.id)
	}
	a.close()
	switch {
	case err == unix.EEXIST, err == unix.ENOENT && p.rename:
		return errAgain
	case err == unix.ENOENT || err == unix.ENOTDIR:
		return h.createError(err)
	case err != errNoAnonymous:
		return h.wrapErrno("link", err)
	}
	return err
}

// write finishes p with o's PID, or with the one that o.Publish says.
func (h *Hold) write(p Pending, o *Options) (err error) {
	pid := o.PID
	if o.Publish == nil {
		h.setText(pid)
		return p.finish(h.text[:h.n])
	}
	p.Stale = h.stale
	pid, err = o.Publish(&p)
	h.setText(pid)
	return err
}

// Path returns the path that the file has or is to have.
func (p *Pending) Path() string { return p.file.path }

// Write does what is left to do: it records pid and shows the file.
func (p *Pending) Write(pid int) error {
	var h Hold
	h.setText(pid)
	return p.finish(h.text[:h.n])
}

// Names returns what is left of the path, for who does by other means what Write
// does: the directory's descriptor, the name in it, and the name that the file
// has already and is to be renamed from, "" if it has none.
func (p *Pending) Names() (at int, name, from string) {
	return p.file.at, p.file.name, p.spare.name
}

// Link reports whether the file has no name yet.
func (p *Pending) Link() bool { return p.link }

func (p *Pending) finish(text []byte) error {
	// Text first, cut to length after, and only if there is something to cut:
	// to empty the file first would show it empty, and costs hundreds of
	// microseconds on ext4.
	cut := p.OldSize > int64(len(text))
	var old [MaxText]byte
	n := 0
	if cut {
		n, _ = pread(p.FD, old[:]) // to be written back; if it cannot be read, so much is lost
	}
	if err := pwrite(p.FD, text); err != nil {
		return &fs.PathError{Op: "write", Path: p.Path(), Err: err}
	}
	if cut {
		if err := ftruncate(p.FD, int64(len(text))); err != nil {
			_ = pwrite(p.FD, old[:n])
			return &fs.PathError{Op: "truncate", Path: p.Path(), Err: err}
		}
	}
	switch {
	case p.link:
		return p.file.link(p.FD)
	case p.rename:
		if err := p.spare.rename(&p.file); err != nil {
			return err
		}
		return p.renamed()
	}
	return nil
}

// renamed reports ENOENT if what was renamed was not our file: a hand had removed
// the stale one, and a holder that came then has used the spare name.
func (p *Pending) renamed() error {
	if st, err := fstat(p.FD); err == nil && st.links == 0 {
		return unix.ENOENT
	}
	return nil // also if it cannot be told
}

// unlinkIf removes f if it names the file id.
func unlinkIf(f *file, id ID) {
	if there, err := f.stat(); err == nil && there.id == id {
		_ = f.unlink() // the error that brought us here tells more
	}
}

// wrapErrno gives a bare error number the call and the path.
func (h *Hold) wrapErrno(op string, err error) error {
	if _, bare := err.(syscall.Errno); bare {
		return h.pathError(op, err)
	}
	return err
}

// createNamed makes the file where it cannot be made without a name: empty for a
// moment.
func (h *Hold) createNamed(o *Options) error {
	fd, err := h.file.create(o.Mode | 0o400)
	if err != nil {
		if err == unix.EEXIST {
			return errAgain
		}
		return h.createError(err)
	}
	locked, err := h.lockNamed(fd, o)
	if err == errAgain {
		closeFD(fd) // somebody was faster: the file is theirs
		return err
	}
	mine := meta{}
	if err == nil {
		if mine, err = fstat(fd); err == nil {
			err = h.opens(locked, mine.id)
		}
		if err == nil && mine.mode&0o7777 != o.Mode {
			err = fchmod(fd, o.Mode)
		}
		if err == nil {
			err = h.inPlace(fd, locked, mine, o)
		}
	}
	switch {
	case err == nil:
		return nil
	case err == errAgain || err == errOFDLocked:
		err = errAgain
	default: // nobody has taken the file that we made, since we have its lock or nobody can have one
		if mine, e := fstat(fd); e == nil {
			unlinkIf(&h.file, mine.id)
		}
	}
	if locked >= 0 && locked != fd {
		unlockAndClose(locked)
	}
	unlockAndClose(fd)
	return h.wrapErrno("create", err)
}

// lockNamed locks fd, or, if that is to be inherited, what has its name by another
// descriptor, which cannot write. It returns the one that has the lock.
func (h *Hold) lockNamed(fd int, o *Options) (locked int, err error) {
	locked = fd
	if o.Inherit {
		if locked, err = h.file.open(false); err != nil {
			if err == unix.ENOENT {
				err = errAgain
			}
			return -1, h.wrapErrno("open", err)
		}
	}
	err = flock(locked, unix.LOCK_EX|unix.LOCK_NB)
	if err == nil {
		return locked, nil
	}
	if locked != fd {
		closeFD(locked)
	}
	switch {
	case err == unix.EWOULDBLOCK:
		return -1, errAgain
	case err == unix.EBADF && o.Inherit:
		return h.lockNamed(fd, o.writable())
	}
	return -1, h.lockError(err)
}

// inPlace makes the file fd ours by writing it over. We hold its lock, by fd or
// by another descriptor.
func (h *Hold) inPlace(fd, locked int, old meta, o *Options) error {
	if err := ofdLock(fd); err != nil {
		if held, _, _ := ofdLocked(fd); held {
			return errOFDLocked // a program that locks with fcntl was faster
		}
		return h.pathError("fcntl", err)
	}
	ro := -1
	if locked != fd {
		ro = locked
		ofdInherit(ro)
	}
	err := h.write(Pending{FD: fd, LockFD: locked, ReadOnly: !writable(locked), file: h.file, OldSize: old.size}, o)
	if err != nil {
		ofdUnlock(fd)
		return h.wrapErrno("write", err)
	}
	h.fd, h.ro, h.id, h.created, h.mode = fd, ro, old.id, false, o.Mode
	return nil
}

// Check reports ErrChanged if the path no longer names the held file or its
// text no longer names the PID that we recorded.
func (h *Hold) Check() error {
	there, err := h.file.statPath()
	switch {
	case err == unix.ENOENT || err == unix.ENOTDIR || err == nil && there.id != h.id:
		return ErrChanged
	case err != nil:
		return h.pathError("lstat", err)
	}
	pid, err := readPID(h.fd)
	if err != nil {
		return h.pathError("read", err)
	}
	if pid != h.PID() {
		return ErrChanged
	}
	return nil
}

// locked is the descriptor with the flock.
func (h *Hold) locked() int {
	if h.ro >= 0 {
		return h.ro
	}
	return h.fd
}

// Release removes the file if it is still ours and unlocks it. It unlocks
// whatever fails: after Release the file is nobody's.
func (h *Hold) Release() error {
	if h.handoff != nil {
		defer h.handoff.close()
		if done, err := h.part(); done {
			return err
		}
	}
	err := h.remove()
	// A process that inherited the descriptor shares this lock: without an
	// explicit unlock it would keep the next start out.
	if !broken("unlock") {
		if e := flock(h.locked(), unix.LOCK_UN); e != nil && err == nil {
			err = h.pathError("unlock", e)
		}
	}
	if h.handoff != nil { // commands and children share the other lock too
		ofdUnlock(h.fd)
	}
	h.closeAll()
	return err
}

// closeAll closes the file, its directory, and the locks on earlier files.
func (h *Hold) closeAll() {
	if h.ro >= 0 {
		closeFD(h.ro)
	}
	closeFD(h.fd)
	h.fd, h.ro = -1, -1
	h.file.unpin()
	h.releaseRetained()
}

// remove takes the file away, or empties it where the directory is not ours
// to change. A file that is no longer ours is left as it is.
func (h *Hold) remove() error {
	ours, err := h.ours()
	if ours {
		if err = h.file.unlink(); err == nil || err == unix.ENOENT {
			return nil
		}
		if denied(err) {
			err = ftruncate(h.fd, 0)
		}
		if err != nil {
			err = h.pathError("unlink", err)
		}
	}
	ofdUnlock(h.fd) // the file stays
	if h.ro >= 0 {
		ofdUnlock(h.ro)
	}
	return err
}

// ours reports whether the file is still there and ours to remove. Its text may
// have become another program's, which never locks and has written its own PID
// over ours: then that lives, or others than we may write the file. Any other
// text would be left behind by us, and is nobody's.
func (h *Hold) ours() (bool, error) {
	there, err := h.file.stat()
	switch {
	case err == unix.ENOENT || err == nil && there.id != h.id:
		return false, nil
	case err != nil:
		return false, h.pathError("lstat", err)
	}
	pid, err := readPID(h.fd)
	if err != nil {
		return false, h.pathError("read", err)
	}
	if pid == h.PID() {
		return true, nil
	}
	private := there.uid == unix.Geteuid() && there.mode&0o022 == 0
	return private && (pid == 0 || pid == unix.Getpid() || unix.Kill(pid, 0) == unix.ESRCH), nil
}

// Abandon unlocks and closes without touching the file.
func (h *Hold) Abandon() {
	ofdUnlock(h.fd)
	if h.ro >= 0 {
		ofdUnlock(h.ro)
	}
	_ = flock(h.locked(), unix.LOCK_UN)
	h.closeAll()
}

func (h *Hold) releaseRetained() {
	for _, fd := range h.retained {
		unlockAndClose(fd)
	}
	h.retained = nil
}

// Record replaces the text by another PID. A write in place can be seen half
// done (a reader that copies while we copy), so a second file is born locked
// under a spare name and renamed over the first while both are locked. A crash
// between the two leaves the spare name behind, which whoever clears the
// stale file PID file removes too. A file taken in place is written in place.
func (h *Hold) Record(pid int) error {
	return h.guarded("record", func() error { return h.record(pid) })
}

func (h *Hold) record(pid int) error {
	if err := h.Check(); err != nil {
		return err
	}
	next := Hold{fd: -1, ro: -1}
	if !h.created {
		next.setText(pid)
		p := Pending{FD: h.fd, file: h.file, OldSize: int64(h.n)}
		if err := p.finish(next.text[:next.n]); err != nil {
			return err
		}
		h.text, h.n = next.text, next.n
		return nil
	}
	next.file = h.file.spare()
	if err := next.createSpare(&Options{PID: pid, Mode: h.mode}); err != nil {
		var e *fs.PathError
		if errors.As(err, &e) {
			err = e.Err
		}
		return h.pathError("record", err)
	}
	if err := next.ownAs(h.fd); err != nil {
		_ = next.Release()
		return h.pathError("record", err)
	}
	err := h.Check() // all this took a while
	if err == nil {
		err = h.verify()
	}
	if err != nil {
		_ = next.Release()
		return err
	}
	if err := next.file.rename(&h.file); err != nil {
		_ = next.Release()
		return h.pathError("rename", err)
	}
	h.supersede(&next)
	h.text, h.n = next.text, next.n
	return nil
}

// verify reports ErrChanged if our directory's entry is not the file that we hold,
// which the path may lead to by another way.
func (h *Hold) verify() error {
	err := h.verifyPath(h.id)
	if err == errAgain {
		err = ErrChanged
	}
	return err
}

// createSpare makes the file of a name that may be left from a crash: we hold the
// lock that guards it.
func (h *Hold) createSpare(o *Options) error {
	create := func() error {
		a, err := h.createAnonymous(o)
		if err == nil {
			err = h.commit(a, Pending{link: true}, o)
		}
		if err == errNoAnonymous {
			err = h.createNamed(o)
		}
		return err
	}
	err := create()
	if err == errAgain {
		if err = h.file.unlink(); err == nil {
			err = create()
		}
	}
	return err
}

// supersede makes next's file ours. Who queues on the one that we had sleeps on
// until we are done.
func (h *Hold) supersede(next *Hold) {
	h.retain(h.locked())
	if h.ro >= 0 {
		closeFD(h.fd)
	}
	h.fd, h.ro, h.id, h.created = next.fd, next.ro, next.id, next.created
}

// ownAs gives the file to the user and the group of fd's, as far as we may: a
// file of another user's may be ours to replace all the same.
func (h *Hold) ownAs(fd int) error {
	old, err := fstat(fd)
	if err != nil {
		return err
	}
	mine, err := fstat(h.fd)
	if err != nil {
		return err
	}
	if mine.gid != old.gid {
		_ = unix.Fchown(h.fd, -1, old.gid)
	}
	if mine.uid != old.uid {
		_ = unix.Fchown(h.fd, old.uid, -1)
	}
	return nil
}

// Renew publishes a held file again after its path lost it: another file with
// the same text, born locked. One that was merely emptied gets its text again.
// ErrChanged if the path is taken, or the text is another's.
func (h *Hold) Renew() error { return h.guarded("restore", h.renew) }

func (h *Hold) renew() error {
	err := h.Check()
	if err != ErrChanged {
		return err
	}
	if emptied, err := h.emptied(); err != nil {
		return err
	} else if emptied { // in place: who inherited the lock has it on this file
		p := Pending{FD: h.fd, file: h.file}
		return p.finish(h.text[:h.n])
	}
	next := Hold{file: newFile(h.file.path), fd: -1, ro: -1} // the directory may be a new one
	if err := next.createNew(&Options{PID: h.PID(), Mode: h.mode}); err != nil {
		next.file.unpin()
		if err == errAgain {
			err = ErrChanged
		}
		return err
	}
	h.supersede(&next)
	h.file.unpin()
	h.file = next.file
	return nil
}

// emptied reports whether the path names the held file and that has no text: then
// it is nobody else's, who would have written something.
func (h *Hold) emptied() (bool, error) {
	st, err := fstat(h.fd)
	if err != nil {
		return false, h.pathError("fstat", err)
	}
	if st.size > 0 {
		return false, nil
	}
	there, err := h.file.statPath()
	if err == unix.ENOENT || err == unix.ENOTDIR {
		return false, nil
	}
	if err != nil {
		return false, h.pathError("lstat", err)
	}
	return there.id == h.id, nil
}

// retain adds a locked descriptor to those that are given back with the file.
func (h *Hold) retain(fd int) {
	if len(h.retained) == maxRetained {
		unlockAndClose(h.retained[0])
		h.retained = h.retained[:copy(h.retained, h.retained[1:])]
	}
	h.retained = append(h.retained, fd)
}

func unlockAndClose(fd int) {
	// To close it unlocks it too, unless it was inherited.
	ofdUnlock(fd)
	_ = flock(fd, unix.LOCK_UN)
	closeFD(fd)
}

// broken reports whether a test wants the protocol without the named step: the
// negative control of the tests that would find an overlap.
func broken(step string) bool { return injected(step) != 0 }
