//go:build darwin || dragonfly || freebsd || linux || netbsd || openbsd

package lock

import (
	"errors"
	"slices"
	"time"

	"golang.org/x/sys/unix"
)

func (h *Hold) renew(o *Options) error {
	return h.guarded("restore", func() error { return h.restore(o) })
}

func (h *Hold) restore(o *Options) error {
	err := h.check()
	if err != ErrChanged {
		return err
	}
	// By the whole path: it may lead to another directory now.
	next := Hold{file: newFile(h.file.path), fd: -1, ro: -1}
	there, err := next.file.statPath()
	i := -1
	switch {
	case err == unix.ENOENT || err == unix.ENOTDIR:
	case err != nil:
		return h.pathError("lstat", err)
	case there.id == h.id:
		// In place: children inherited the lock of this file.
		return h.rewrite(&Pending{FD: h.fd, file: h.file}, there)
	default:
		i = h.retains(there.id)
	}
	if i >= 0 {
		err = h.reclaim(&next, i, there)
	} else {
		err = h.renewAt(&next, o)
	}
	if err != nil {
		next.file.unpin()
		return err
	}
	h.supersede(&next)
	h.file.unpin()
	h.file = next.file
	return nil
}

// renewAt takes the path for next as any start would. A file of another program that has
// our PID as its text was written by the process that we have recorded, or in its name.
func (h *Hold) renewAt(next *Hold, o *Options) error {
	mine := h.PID()
	r, err := next.acquire(&Options{PID: mine, Mode: h.mode, brief: true,
		Running: func(pid int, written time.Time) bool {
			return pid != mine && o.Running != nil && o.Running(pid, written)
		}})
	if err != nil {
		return next.whyTaken(err)
	}
	if r.Held {
		return &ChangedError{Refusal: r}
	}
	return nil
}

// whyTaken makes an error a ChangedError if it is about what is at the path, and not about
// a lack that may pass.
func (h *Hold) whyTaken(err error) error {
	if errors.Is(err, ErrMalformed) {
		return &ChangedError{Err: err}
	}
	if there, e := h.file.statPath(); e == nil && there.mode&unix.S_IFMT != unix.S_IFREG {
		return &ChangedError{Err: err}
	}
	return err
}

// rewrite writes our text into p, a file whose lock we have, unless a live process has
// written its PID there without a lock: then it is that one's.
func (h *Hold) rewrite(p *Pending, there meta) error {
	pid, err := readPID(p.FD)
	switch {
	case err != nil:
		return h.pathError("read", err)
	case pid == h.PID():
		return nil
	case pid != 0 && pid != unix.Getpid() && unix.Kill(pid, 0) != unix.ESRCH:
		return &ChangedError{Refusal: Refusal{Held: true, PID: pid}}
	}
	if why := h.notPIDFile(p.FD, there, pid); why != "" {
		return &ChangedError{Err: h.pathError("open", &NotPIDFileError{why})}
	}
	p.OldSize = there.size
	return p.write(h.text[:h.n])
}

// retains returns which of the retained locks is that of the file id, -1 if none is.
func (h *Hold) retains(id ID) int {
	return slices.IndexFunc(h.retained, func(fd int) bool {
		st, err := fstat(fd)
		return err == nil && st.id == id
	})
}

// reclaim makes the file of the i-th retained lock next's: the path leads to where it led
// before. Children may have inherited that lock.
func (h *Hold) reclaim(next *Hold, i int, there meta) error {
	if err := next.pin(); err != nil {
		return h.changedWhile(err)
	}
	fd := h.retained[i]
	p := Pending{FD: fd, LockFD: fd, file: next.file}
	if !writable(fd) {
		w, err := next.file.open(true)
		if err != nil {
			return h.pathError("open", err)
		}
		p.FD, p.ReadOnly = w, true
	}
	err := next.verifyOpen(p.FD, there.id)
	if err == nil && p.ReadOnly {
		err = next.lockInPlace(&p)
	}
	if err == nil {
		err = h.rewrite(&p, there)
	}
	if err != nil {
		if p.ReadOnly {
			closeFD(p.FD)
		}
		return h.changedWhile(err)
	}
	next.fd, next.id, next.created = p.FD, there.id, h.created
	if p.ReadOnly {
		next.ro = fd
	}
	h.retained = slices.Delete(h.retained, i, i+1)
	return nil
}

// changedWhile gives what ends an attempt inside this package the meaning that it has for
// the caller.
func (h *Hold) changedWhile(err error) error {
	if err == errAgain || err == errOFDLocked {
		return ErrChanged
	}
	return err
}
