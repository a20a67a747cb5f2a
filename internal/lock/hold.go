//go:build darwin || dragonfly || freebsd || linux || netbsd || openbsd

package lock

import (
	"errors"
	"io/fs"

	"golang.org/x/sys/unix"
)

// maxRetained bounds how many earlier inodes a waiter keeps locked. Each costs a
// descriptor; dropping one wakes a process that queues on it.
const maxRetained = 8

func (h *Hold) check() error {
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

func (h *Hold) release() error {
	if h.handoff != nil {
		defer h.handoff.close()
		if done, err := h.detach(); done {
			return err
		}
	}
	err := h.remove()
	// A process that inherited the descriptor shares this lock: without an
	// explicit unlock it would keep the next start out.
	if e := flock(h.locked(), unix.LOCK_UN); e != nil && err == nil {
		err = h.pathError("unlock", e)
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
// over ours: then that lives, or others than we may write the file. A file with any
// other text would be a stale one that we leave behind.
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

func (h *Hold) releaseRetained() {
	for _, fd := range h.retained {
		unlockAndClose(fd)
	}
	h.retained = nil
}

func (h *Hold) recordPID(pid int) error {
	return h.guarded("record", func() error { return h.record(pid) })
}

func (h *Hold) record(pid int) error {
	if err := h.check(); err != nil {
		return err
	}
	next := Hold{fd: -1, ro: -1}
	if !h.created {
		next.setText(pid)
		p := Pending{FD: h.fd, file: h.file, OldSize: int64(h.n)}
		if err := p.write(next.text[:next.n]); err != nil {
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
		_ = next.release()
		return h.pathError("record", err)
	}
	err := h.check() // all this took a while
	if err == nil {
		err = h.verify()
	}
	if err != nil {
		_ = next.release()
		return err
	}
	if err := next.file.rename(&h.file); err != nil {
		_ = next.release()
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

// createSpare makes the file of a name that a crash may have left: we hold the lock that
// guards it.
func (h *Hold) createSpare(o *Options) error {
	err := h.create(o)
	if err == errAgain {
		if err = h.file.unlink(); err == nil {
			err = h.create(o)
		}
	}
	return err
}

// supersede makes next's file ours. Processes that queue on the one that we had sleep on
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

// retain adds a locked descriptor to those that are unlocked with the file.
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
