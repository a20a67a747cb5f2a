//go:build darwin || dragonfly || freebsd || linux || netbsd || openbsd

package lock

import (
	"errors"
	"io/fs"
	"path/filepath"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Prepare makes h ready to take path, which must be absolute.
func (h *Hold) Prepare(path string) {
	h.name = newName(path)
	h.fd = -1
}

// Acquire takes the file if nobody has it and returns a Refusal or an error
// otherwise. It does not block, but for a while it doubts a refusal that may be
// a moment's. A refusal creates and changes nothing.
func (h *Hold) Acquire(o *Options) (Refusal, error) {
	r, err := h.attempt(o)
	if !again(r, err) {
		return r.Refusal, err
	}
	start, pause, last := time.Now(), 20*time.Microsecond, r
	doubted := start
	for again(r, err) {
		if err == errAgain {
			doubted = time.Now() // another file: its holder gets the whole doubt
		} else {
			last = r
			limit := doubt
			if r.PID != 0 && unix.Kill(r.PID, 0) == unix.ESRCH {
				limit = deadDoubt
			}
			if time.Since(doubted) > limit {
				break
			}
			time.Sleep(pause)
			pause = min(2*pause, 5*time.Millisecond)
		}
		if time.Since(start) > hurry {
			last.Held, last.Locked = true, true // somebody else's all the time
			break
		}
		r, err = h.attempt(o)
	}
	if again(r, err) {
		return last.Refusal, nil
	}
	return r.Refusal, err
}

// A refusal inside an attempt may be doubtful: only a moment's.
type refusal struct {
	Refusal
	doubtful bool
}

func again(r refusal, err error) bool { return err == errAgain || err == nil && r.doubtful }

// attempt goes once through the protocol.
func (h *Hold) attempt(o *Options) (refusal, error) {
	fd, write, err := h.look()
	if err == unix.ENOENT {
		return refusal{}, h.birth(o)
	}
	if err != nil {
		return refusal{}, err
	}
	switch err := flock(fd, unix.LOCK_EX|unix.LOCK_NB); err {
	case nil:
	case unix.EWOULDBLOCK:
		r := refused(fd)
		closeFD(fd)
		return r, nil
	default:
		closeFD(fd)
		return refusal{}, h.lockError(err)
	}
	r, err := h.settle(fd, write, o)
	if h.fd != fd {
		giveBack(fd)
	}
	return r, err
}

// look opens the existing file, for writing if we may. It returns unix.ENOENT if
// there is none, and refuses what is no regular file without opening it: to
// open a device may do something.
func (h *Hold) look() (fd int, write bool, err error) {
	st, err := h.name.stat()
	if err != nil {
		if err == unix.ENOENT {
			return -1, false, err
		}
		return -1, false, h.pathError("lstat", err)
	}
	if err := h.regular(st.mode); err != nil {
		return -1, false, err
	}
	for _, write := range []bool{true, false} {
		fd, err = h.name.open(write)
		switch err {
		case nil:
			return fd, write, nil
		case unix.ENOENT:
			return -1, false, errAgain
		case unix.ELOOP:
			return -1, false, h.regular(unix.S_IFLNK)
		case unix.EACCES, unix.EPERM, unix.EROFS, unix.ETXTBSY:
			continue // somebody else's: to lock and to read needs no more
		}
		break
	}
	return -1, false, h.pathError("open", err)
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
	return h.pathError("open", &because{errno, what})
}

// lockError explains why flock failed for another reason than a holder.
func (h *Hold) lockError(err error) error {
	switch err {
	case unix.ENOLCK, unix.EOPNOTSUPP, unix.ENOSYS, unix.EINVAL:
		err = &because{err.(syscall.Errno), "this file system gives no locks: use another directory"}
	}
	return h.pathError("flock", err)
}

// refused says who keeps fd's file locked. Only a holder of ours has the mark,
// so without it the refusal is doubtful: a stranger's lock, or somebody who
// clears a left-over or only looks.
func refused(fd int) refusal {
	pid, _ := readPID(fd)
	held, owner, err := marked(fd)
	if pid == 0 {
		pid = owner
	}
	doubtful := !held
	if err != nil && pid != 0 {
		doubtful = unix.Kill(pid, 0) == unix.ESRCH // the next best
	}
	return refusal{Refusal{Held: true, PID: pid, Locked: true}, doubtful}
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
func (h *Hold) settle(fd int, write bool, o *Options) (refusal, error) {
	mine, err := fstat(fd)
	if err != nil {
		return refusal{}, h.pathError("fstat", err)
	}
	if err := h.names(mine.id); err != nil {
		return refusal{}, err
	}
	pid, err := readPID(fd)
	if err != nil {
		return refusal{}, h.pathError("read", err)
	}
	held, owner, err := marked(fd)
	if err != nil && err != errBlind {
		return refusal{}, h.pathError("fcntl", err)
	}
	if held {
		if pid == 0 {
			pid = owner
		}
		return refusal{Refusal: Refusal{Held: true, PID: pid, Locked: true}}, nil
	}
	if pid != 0 && o.Running != nil && o.Running(pid, mine.mtime) {
		return refusal{Refusal: Refusal{Held: true, PID: pid}}, nil
	}
	err = h.replace(fd, write, mine, o)
	if err == errMarked {
		return refusal{Refusal: Refusal{Held: true, PID: pid, Locked: true}}, nil
	}
	return refusal{}, err
}

// replace takes the place of the left-over fd, whose lock we hold: so nobody
// else who looks at locks can remove it.
func (h *Hold) replace(fd int, write bool, old meta, o *Options) error {
	gone, err := h.reborn(old, o)
	if gone && err == errNoBirth {
		return h.create(o)
	}
	if gone || err != errNoBirth && !denied(err) && !full(err) {
		return err
	}
	if !write {
		return h.pathError("open", &because{unix.EACCES, "the file is a left-over that we may neither write nor remove: its owner or root can"})
	}
	if old.links != 1 {
		return h.pathError("open", &because{unix.EMLINK, "the file is a left-over with other names (hard links), whose text it is too: remove this name"})
	}
	if err := h.names(old.id); err != nil {
		return err
	}
	return h.inPlace(fd, old, o)
}

// names reports errAgain if the path does not name the file id now. To tell who
// a process is takes a while, in which a hand may have removed the file and
// somebody have started: so this comes directly before what cannot be undone.
func (h *Hold) names(id ID) error {
	there, err := h.name.stat()
	switch {
	case err == unix.ENOENT || err == nil && there.id != id && !broken("compare"):
		return errAgain
	case err != nil:
		return h.pathError("lstat", err)
	}
	return nil
}

// reborn removes the left-over and gives birth to a file in its place. What may
// fail is done first, so that a failure leaves the left-over as it was.
func (h *Hold) reborn(old meta, o *Options) (gone bool, err error) {
	fd, st, err := h.unborn(o)
	if err != nil {
		return false, err
	}
	h.setText(o.PID)
	if err := pwrite(fd, h.text[:h.n]); err != nil {
		closeFD(fd)
		return false, h.pathError("write", err)
	}
	st.size = int64(h.n)
	if err := h.names(old.id); err != nil {
		closeFD(fd)
		return false, err
	}
	// A crash in Record leaves both names. The spare one goes first, while the
	// lock on the left-over still guards it.
	_ = unix.Unlink(spare(h.Path()))
	if err := h.name.unlink(); err != nil && err != unix.ENOENT {
		closeFD(fd)
		return false, h.pathError("unlink", err)
	}
	return true, h.publish(fd, st, o)
}

// full reports whether err says that there is no room for another file: the
// left-over has its room already.
func full(err error) bool { return errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT) }

// denied reports whether err says that we may not change the directory.
func denied(err error) bool {
	return errors.Is(err, unix.EACCES) || errors.Is(err, unix.EPERM) || errors.Is(err, unix.EROFS)
}

// birth makes the file where there is none.
func (h *Hold) birth(o *Options) error {
	fd, st, err := h.unborn(o)
	if err == nil {
		err = h.publish(fd, st, o)
	}
	if err != errNoBirth {
		return err
	}
	return h.create(o)
}

// unborn opens an unnamed file, locked, marked and of the right mode.
func (h *Hold) unborn(o *Options) (int, meta, error) {
	fd, err := h.name.unnamed(o.Mode)
	if err != nil {
		return -1, meta{}, h.createError(err)
	}
	var st meta
	if err = flock(fd, unix.LOCK_EX|unix.LOCK_NB); err != nil {
		err = h.lockError(err)
	} else if err = ofdLock(fd); err != nil {
		err = h.pathError("fcntl", err)
	} else if st, err = fstat(fd); err != nil {
		err = h.pathError("fstat", err)
	} else if st.mode&0o7777 != o.Mode {
		if err = fchmod(fd, o.Mode); err != nil {
			err = h.pathError("chmod", err)
		}
	}
	if err != nil {
		closeFD(fd)
		return -1, meta{}, err
	}
	return fd, st, nil
}

// createError says which directory is at fault.
func (h *Hold) createError(err error) error {
	switch err {
	case errNoBirth:
		return err
	case unix.ENOENT:
		err = &because{unix.ENOENT, "the directory does not exist: create it first"}
	case unix.ENOTDIR:
		err = &because{unix.ENOTDIR, "its parent is not a directory"}
	}
	return h.pathError("create", err)
}

// publish gives the unborn fd its text and its name, and makes it ours.
// errAgain if somebody else's file has the name.
func (h *Hold) publish(fd int, st meta, o *Options) error {
	err := h.write(Birth{FD: fd, name: h.name, Link: true, OldSize: st.size}, o)
	switch {
	case err == nil:
		h.fd, h.id, h.born, h.mode = fd, st.id, true, o.Mode
		return nil
	case err == unix.EEXIST:
		err = errAgain
	case err == unix.ENOENT || err == unix.ENOTDIR:
		err = h.createError(err)
	case err != errNoBirth:
		err = h.named("link", err)
	}
	if o.Publish != nil { // it may have failed after the link
		h.unlinkIf(fd)
	}
	giveBack(fd)
	return err
}

// write finishes b with o's PID, or with the one that o.Publish says.
func (h *Hold) write(b Birth, o *Options) (err error) {
	pid := o.PID
	if o.Publish == nil {
		h.setText(pid)
		return b.finish(h.text[:h.n])
	}
	pid, err = o.Publish(b)
	h.setText(pid)
	return err
}

// Path returns the path that the file has or is to have.
func (b Birth) Path() string { return b.name.String() }

// Write does what is left to do: it records pid and shows the file.
func (b Birth) Write(pid int) error {
	var h Hold
	h.setText(pid)
	return b.finish(h.text[:h.n])
}

func (b Birth) finish(text []byte) error {
	// Text first, cut to length after, and only if there is something to cut:
	// to empty the file first would show it empty, and costs hundreds of
	// microseconds on ext4.
	cut := b.OldSize > int64(len(text))
	var old [MaxText]byte
	n := 0
	if cut {
		n, _ = pread(b.FD, old[:]) // to be written back; if it cannot be read, so much is lost
	}
	if err := pwrite(b.FD, text); err != nil {
		return &fs.PathError{Op: "write", Path: b.Path(), Err: err}
	}
	if cut {
		if err := ftruncate(b.FD, int64(len(text))); err != nil {
			_ = pwrite(b.FD, old[:n])
			return &fs.PathError{Op: "truncate", Path: b.Path(), Err: err}
		}
	}
	if b.Link {
		return b.name.link(b.FD)
	}
	return nil
}

// unlinkIf removes the file fd if the path names it.
func (h *Hold) unlinkIf(fd int) {
	mine, err := fstat(fd)
	if err != nil {
		return
	}
	if there, err := h.name.stat(); err == nil && there.id == mine.id {
		_ = h.name.unlink() // the error that brought us here tells more
	}
}

// named gives a bare error number the call and the path.
func (h *Hold) named(op string, err error) error {
	if _, bare := err.(syscall.Errno); bare {
		return h.pathError(op, err)
	}
	return err
}

// create makes the file where it cannot be born: empty for a moment.
func (h *Hold) create(o *Options) error {
	fd, err := h.name.create(o.Mode)
	if err != nil {
		if err == unix.EEXIST {
			return errAgain
		}
		return h.createError(err)
	}
	if err := flock(fd, unix.LOCK_EX|unix.LOCK_NB); err != nil {
		if err == unix.EWOULDBLOCK {
			closeFD(fd)
			return errAgain // somebody was faster: the file is theirs
		}
		// Nobody can lock here, so nobody has taken the file that we made.
		h.unlinkIf(fd)
		closeFD(fd)
		return h.lockError(err)
	}
	mine, err := fstat(fd)
	if err == nil {
		there, serr := h.name.stat()
		if serr == unix.ENOENT || serr == nil && there.id != mine.id {
			giveBack(fd)
			return errAgain
		}
		if err = serr; err == nil && mine.mode&0o7777 != o.Mode {
			err = fchmod(fd, o.Mode)
		}
	}
	if err == nil {
		err = h.inPlace(fd, mine, o)
	}
	if err == errMarked {
		giveBack(fd)
		return errAgain
	}
	if err != nil {
		h.unlinkIf(fd)
		giveBack(fd)
		return h.named("create", err)
	}
	return nil
}

// inPlace makes the file fd, whose lock we hold, ours by writing it over.
func (h *Hold) inPlace(fd int, old meta, o *Options) error {
	if err := ofdLock(fd); err != nil {
		if held, _, _ := marked(fd); held {
			return errMarked // a program that locks with fcntl was faster
		}
		return h.pathError("fcntl", err)
	}
	err := h.write(Birth{FD: fd, name: h.name, OldSize: old.size}, o)
	if err != nil {
		ofdUnlock(fd)
		return h.named("write", err)
	}
	h.fd, h.id, h.born, h.mode = fd, old.id, false, o.Mode
	return nil
}

// Check reports ErrChanged if the path no longer names the held file or its
// text is no longer what we recorded.
func (h *Hold) Check() error {
	there, err := h.name.stat()
	switch {
	case err == unix.ENOENT || err == nil && there.id != h.id:
		return ErrChanged
	case err != nil:
		return h.pathError("lstat", err)
	}
	var buf [MaxText]byte
	n, err := pread(h.fd, buf[:])
	if err != nil {
		return h.pathError("read", err)
	}
	if string(buf[:n]) != string(h.text[:h.n]) {
		return ErrChanged
	}
	return nil
}

// Release removes the file if it is still ours and unlocks it. It unlocks
// whatever fails: after Release the file is nobody's.
func (h *Hold) Release() error {
	if h.hand != nil {
		defer h.hand.close()
		if done, err := h.part(); done {
			return err
		}
	}
	err := h.remove()
	// A process that inherited the descriptor shares this lock: without an
	// explicit unlock it would keep the next start out.
	if !broken("unlock") {
		if e := flock(h.fd, unix.LOCK_UN); e != nil && err == nil {
			err = h.pathError("unlock", e)
		}
	}
	if h.hand != nil { // commands and children share the other lock too
		ofdUnlock(h.fd)
	}
	closeFD(h.fd)
	h.fd = -1
	h.dropOld()
	return err
}

// remove takes the file away, or empties it where the directory is not ours
// to change. A file that is no longer ours is left as it is.
func (h *Hold) remove() error {
	err := h.Check()
	if err == nil {
		if err = h.name.unlink(); err == nil || err == unix.ENOENT {
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
	if err == ErrChanged {
		return nil
	}
	return err
}

// Abandon unlocks and closes without touching the file.
func (h *Hold) Abandon() {
	ofdUnlock(h.fd)
	giveBack(h.fd)
	h.fd = -1
	h.dropOld()
}

func (h *Hold) dropOld() {
	for _, fd := range h.old {
		giveBack(fd)
	}
	h.old = nil
}

// Record replaces the text by another PID. A write in place can be seen half
// done (a reader that copies while we copy), so a second file is born locked
// under a spare name and renamed over the first while both are locked. A crash
// between the two leaves the spare name behind, which whoever clears the
// left-over PID file removes too. A file taken in place is written in place.
func (h *Hold) Record(pid int) error {
	return h.guarded("record", func() error { return h.record(pid) })
}

func (h *Hold) record(pid int) error {
	if err := h.Check(); err != nil {
		return err
	}
	next := Hold{mode: h.mode}
	if !h.born {
		next.setText(pid)
		if err := (Birth{FD: h.fd, name: h.name, OldSize: int64(h.n)}).finish(next.text[:next.n]); err != nil {
			return err
		}
		h.text, h.n = next.text, next.n
		return nil
	}
	next.Prepare(spare(h.Path()))
	o := &Options{PID: pid, Mode: h.mode}
	err := next.birth(o)
	if err == errAgain { // a crash's: we hold the lock that guards the name
		if err = next.name.unlink(); err == nil {
			err = next.birth(o)
		}
	}
	if err != nil {
		var e *fs.PathError
		if errors.As(err, &e) {
			err = e.Err
		}
		return h.pathError("record", err)
	}
	if err = next.ownAs(h.fd); err != nil {
		_ = next.Release()
		return h.pathError("record", err)
	}
	if err := h.Check(); err != nil { // all this took a while
		_ = next.Release()
		return err
	}
	if err := retry("rename", func() error { return unix.Rename(next.Path(), h.Path()) }); err != nil {
		_ = next.Release()
		return h.pathError("rename", err)
	}
	h.keep(h.fd) // who queues on the first file sleeps on
	h.fd, h.id, h.text, h.n = next.fd, next.id, next.text, next.n
	return nil
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

// spare is the name that a PID file has between its birth and its renaming.
func spare(path string) string {
	dir, base := filepath.Split(path)
	return dir + "." + base + ".next"
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
		return (Birth{FD: h.fd, name: h.name}).finish(h.text[:h.n])
	}
	next := Hold{name: h.name, fd: -1, mode: h.mode}
	if err := next.birth(&Options{PID: h.PID(), Mode: h.mode}); err != nil {
		if err == errAgain {
			err = ErrChanged
		}
		return err
	}
	h.keep(h.fd)
	h.fd, h.id, h.born = next.fd, next.id, next.born
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
	err = h.names(h.id)
	if err == errAgain {
		return false, nil
	}
	return err == nil, err
}

// keep adds a locked descriptor to those that are given back with the file.
func (h *Hold) keep(fd int) {
	if len(h.old) == maxOld {
		giveBack(h.old[0])
		h.old = h.old[:copy(h.old, h.old[1:])]
	}
	h.old = append(h.old, fd)
}

func giveBack(fd int) {
	// To close it unlocks it too, unless it was inherited.
	ofdUnlock(fd)
	_ = flock(fd, unix.LOCK_UN)
	closeFD(fd)
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

// broken reports whether a test wants the protocol without the named step: the
// negative control of the tests that would find an overlap.
func broken(step string) bool { return injected(step) != 0 }
