//go:build darwin || dragonfly || freebsd || linux || netbsd || openbsd

package lock

import (
	"errors"
	"io/fs"

	"golang.org/x/sys/unix"
)

// The ways to claim a file, and to commit it. What fails before the commit leaves
// everything as it was.

// claimAnonymous makes a file without a name, locked and of the right mode. It returns
// ErrNoAnonymous where that cannot be done.
func (h *Hold) claimAnonymous(o *Options) (*Pending, error) {
	mode := o.Mode
	if o.Inherit {
		mode |= 0o400 // for us to open it again
	}
	fd, err := h.file.anonymous(mode)
	if err != nil {
		return nil, h.createError(err)
	}
	p := &Pending{FD: fd, LockFD: fd, file: h.file, link: true}
	if err := h.lockAnonymous(p, o); err != nil {
		p.close()
		return nil, err
	}
	return p, nil
}

func (h *Hold) lockAnonymous(p *Pending, o *Options) error {
	if o.Inherit {
		ro, err := reopen(p.FD, unix.O_RDONLY)
		if err != nil {
			return h.wrapErrno("open", err)
		}
		p.LockFD, p.ReadOnly = ro, true
	}
	if err := flock(p.LockFD, unix.LOCK_EX|unix.LOCK_NB); err != nil {
		return h.lockError(err)
	}
	if err := ofdLock(p.FD); err != nil {
		return h.pathError("fcntl", err)
	}
	if p.ReadOnly {
		ofdInherit(p.LockFD)
	}
	st, err := fstat(p.FD)
	if err != nil {
		return h.pathError("fstat", err)
	}
	p.id = st.id
	if st.mode&0o7777 != o.Mode {
		if err := fchmod(p.FD, o.Mode); err != nil {
			return h.pathError("chmod", err)
		}
	}
	return nil
}

// claimBeside claims a file that is to be renamed over the stale one. It returns
// ErrNoAnonymous where that cannot be done.
func (h *Hold) claimBeside(old stale, o *Options) (*Pending, error) {
	p, err := h.claimAnonymous(o)
	if err != nil {
		return nil, err
	}
	h.setText(o.PID)
	if err := pwrite(p.FD, h.text[:h.n]); err != nil {
		p.close()
		return nil, h.pathError("write", err)
	}
	p.OldSize, p.Stale, p.spare = int64(h.n), old.pid, h.file.spare()
	p.link, p.rename = false, true
	err = p.spare.link(p.FD)
	if err == unix.EEXIST { // a crash left it: we hold the lock that guards the name
		if err = p.spare.unlink(); err == nil {
			err = p.spare.link(p.FD)
		}
	}
	if err == nil {
		if err = h.verifyPath(old.id); err == nil {
			return p, nil
		}
		unlinkIf(&p.spare, p.id)
	}
	p.close()
	switch err {
	case unix.EEXIST, unix.ENOENT:
		return nil, errAgain
	case unix.ENAMETOOLONG, unix.EISDIR: // the spare name is longer than the path's, or a directory's
		return nil, ErrNoAnonymous
	}
	return nil, h.wrapErrno("link", err)
}

// claimInPlace claims the stale file fd itself, whose lock we hold.
func (h *Hold) claimInPlace(fd int, old stale, o *Options) (*Pending, error) {
	p := &Pending{FD: fd, LockFD: fd, OldSize: old.size, Stale: old.pid, file: h.file, id: old.id}
	if !writable(fd) {
		w, err := h.file.open(true)
		switch {
		case denied(err) || err == unix.ETXTBSY:
			return nil, h.pathError("open", &errnoHint{unix.EACCES, "permission denied: the file is stale, and one that we may neither write nor remove: its owner or root can"})
		case err == unix.ENOENT || err == unix.ELOOP:
			return nil, errAgain
		case err != nil:
			return nil, h.pathError("open", err)
		}
		p.FD, p.ReadOnly = w, true
	}
	var err error
	if old.links != 1 {
		err = h.pathError("open", &errnoHint{unix.EMLINK, "the file is stale, but with other names (hard links), whose text it is too: remove this name"})
	} else if err = h.verifyOpen(p.FD, old.id); err == nil {
		err = h.lockInPlace(p)
	}
	if err != nil {
		if p.ReadOnly {
			closeFD(p.FD)
		}
		return nil, err
	}
	return p, nil
}

// claimNamed makes the file where it cannot be made without a name: it is empty until
// it is committed.
func (h *Hold) claimNamed(o *Options) (*Pending, error) {
	fd, err := h.file.create(o.Mode | 0o400)
	if err != nil {
		if err == unix.EEXIST {
			return nil, errAgain
		}
		return nil, h.createError(err)
	}
	p := &Pending{FD: fd, LockFD: fd, file: h.file, named: true}
	err = h.lockNamed(p, o)
	if err == errAgain {
		closeFD(fd) // another process was faster: the file is its own
		return nil, err
	}
	var st meta
	if err == nil {
		st, err = fstat(fd)
	}
	if err == nil {
		p.id = st.id
		err = h.verifyOpen(p.LockFD, st.id)
	}
	if err == nil && st.mode&0o7777 != o.Mode {
		err = fchmod(fd, o.Mode)
	}
	if err == nil {
		err = h.lockInPlace(p)
	}
	if err != nil {
		return nil, h.abandonNamed(p, err)
	}
	return p, nil
}

// lockNamed locks p, by FD or, if the lock is to be inherited, by another descriptor of
// what has its name, which cannot write.
func (h *Hold) lockNamed(p *Pending, o *Options) (err error) {
	locked := p.FD
	if o.Inherit {
		if locked, err = h.file.open(false); err != nil {
			if err == unix.ENOENT {
				err = errAgain
			}
			return h.wrapErrno("open", err)
		}
	}
	err = flock(locked, unix.LOCK_EX|unix.LOCK_NB)
	if err == nil {
		p.LockFD, p.ReadOnly = locked, o.Inherit
		return nil
	}
	if o.Inherit {
		closeFD(locked)
	}
	switch {
	case err == unix.EWOULDBLOCK:
		return errAgain
	case err == unix.EBADF && o.Inherit:
		return h.lockNamed(p, o.writable())
	}
	return h.lockError(err)
}

// lockInPlace takes the OFD lock on a file that we have locked with flock. It returns
// errOFDLocked if a program that locks with fcntl was faster.
func (h *Hold) lockInPlace(p *Pending) error {
	if err := ofdLock(p.FD); err != nil {
		if held, _, _ := ofdLocked(p.FD); held {
			return errOFDLocked
		}
		return h.pathError("fcntl", err)
	}
	if p.ReadOnly {
		ofdInherit(p.LockFD)
	}
	return nil
}

// commit gives the claimed file its text and its name, and makes it ours. It returns
// errAgain if another file has the name.
func (h *Hold) commit(p *Pending, o *Options) (err error) {
	pid := o.PID
	if o.Commit == nil {
		h.setText(pid)
		err = p.write(h.text[:h.n])
	} else {
		pid, err = o.Commit(p)
		h.setText(pid)
	}
	if err != nil {
		return h.abandon(p, o, err)
	}
	h.fd, h.ro, h.id, h.created, h.mode = p.FD, -1, p.id, p.link || p.rename, o.Mode
	if p.ReadOnly {
		h.ro = p.LockFD
	}
	return nil
}

// write is what is left to do: text, length and name.
func (p *Pending) write(text []byte) error {
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

// renamed reports ENOENT if what was renamed was not our file: the stale one had been
// removed by hand, and a holder that came then has used the spare name.
func (p *Pending) renamed() error {
	if st, err := fstat(p.FD); err == nil && st.links == 0 {
		return unix.ENOENT
	}
	return nil // also if it cannot be told
}

func (p *Pending) names() (at int, name, from string) {
	return p.file.at, p.file.name, p.spare.name
}

// abandon takes back a claim whose commit failed, and returns what its error means.
func (h *Hold) abandon(p *Pending, o *Options, err error) error {
	switch {
	case p.link || p.rename:
		return h.abandonAnonymous(p, o, err)
	case p.named:
		return h.abandonNamed(p, h.wrapErrno("write", err))
	}
	ofdUnlock(p.FD)
	if p.ReadOnly {
		closeFD(p.FD)
	}
	return h.wrapErrno("write", err)
}

func (h *Hold) abandonAnonymous(p *Pending, o *Options, err error) error {
	// The spare name goes first: it is guarded by the lock of the path's file, be
	// that the stale one or, if o.Commit failed after the rename, ours.
	if p.rename {
		unlinkIf(&p.spare, p.id)
	}
	if o.Commit != nil {
		unlinkIf(&h.file, p.id)
	}
	p.close()
	switch {
	case err == unix.EEXIST, err == unix.ENOENT && p.rename:
		return errAgain
	case err == unix.ENOENT || err == unix.ENOTDIR:
		return h.createError(err)
	case err != ErrNoAnonymous:
		return h.wrapErrno("link", err)
	}
	return err
}

// abandonNamed removes the file that we made, unless it may be another process's.
func (h *Hold) abandonNamed(p *Pending, err error) error {
	if err == errAgain || err == errOFDLocked {
		err = errAgain
	} else if st, e := fstat(p.FD); e == nil { // we have its lock, or no process can have one
		unlinkIf(&h.file, st.id)
	}
	p.close()
	return h.wrapErrno("create", err)
}

// close unlocks and closes both descriptors.
func (p *Pending) close() {
	if p.ReadOnly {
		unlockAndClose(p.LockFD)
	}
	unlockAndClose(p.FD)
}

// createError says which directory is at fault.
func (h *Hold) createError(err error) error {
	switch err {
	case ErrNoAnonymous:
		return err
	case unix.ENOENT:
		err = &errnoHint{unix.ENOENT, "no such directory: create it first"}
	case unix.ENOTDIR:
		err = &errnoHint{unix.ENOTDIR, "its parent is not a directory"}
	}
	return h.pathError("create", err)
}

// verifyOpen reports errAgain if fd is not the file id, or the path does not name that.
func (h *Hold) verifyOpen(fd int, id ID) error {
	st, err := fstat(fd)
	if err != nil {
		return h.pathError("fstat", err)
	}
	if st.id != id {
		return errAgain
	}
	return h.verifyPath(id)
}

// unlinkIf removes f if it names the file id.
func unlinkIf(f *file, id ID) {
	if there, err := f.stat(); err == nil && there.id == id {
		_ = f.unlink() // the error that brought us here tells more
	}
}

// writable reports whether fd was opened for writing, too.
func writable(fd int) bool {
	flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFL, 0)
	return err == nil && flags&unix.O_ACCMODE == unix.O_RDWR
}

// full reports whether err says that there is no room for another file: the
// stale file has its room already.
func full(err error) bool { return errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT) }

// denied reports whether err says that we may not change the directory.
func denied(err error) bool {
	return errors.Is(err, unix.EACCES) || errors.Is(err, unix.EPERM) || errors.Is(err, unix.EROFS)
}
