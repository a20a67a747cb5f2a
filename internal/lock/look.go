//go:build darwin || dragonfly || freebsd || linux || netbsd || openbsd

package lock

import (
	"context"
	"errors"
	"runtime"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

func readText(path string) ([]byte, error) {
	h := Hold{file: newFile(path)}
	fd, err := h.openRead()
	if err != nil {
		return nil, err
	}
	defer closeFD(fd)
	buf := make([]byte, MaxText)
	n, err := pread(fd, buf)
	if err != nil {
		return nil, h.pathError("read", err)
	}
	return buf[:n], nil
}

// openRead opens the regular file for reading.
func (h *Hold) openRead() (int, error) {
	st, err := h.file.stat()
	if err != nil {
		return -1, h.pathError("open", err)
	}
	if err := h.regular(st.mode); err != nil {
		return -1, err
	}
	fd, err := h.file.open(false)
	if err != nil {
		return -1, h.pathError("open", err)
	}
	return fd, nil
}

func look(path string, direct bool) (View, error) {
	h := Hold{file: newFile(path)}
	if direct {
		h.file.direct = true
		if err := h.file.pin(); err != nil {
			return View{}, h.pathError("open", err)
		}
		defer h.file.unpin()
	}
	return h.look()
}

func (h *Hold) look() (v View, err error) {
	for range maxLooks {
		var steady bool
		if v, steady, err = h.lookOnce(); steady {
			break
		}
	}
	return v, err
}

// maxLooks bounds how often Look begins anew because the path changed meanwhile.
const maxLooks = 10

// lookOnce looks once. What it saw is steady if the path named one file, or
// none, all the while.
func (h *Hold) lookOnce() (v View, steady bool, err error) {
	fd, err := h.openRead()
	if errors.Is(err, unix.ENOENT) {
		_, e := h.file.stat()
		return View{}, e == unix.ENOENT, err
	}
	if err != nil {
		v, err = h.lookByStat(err)
		return v, true, err
	}
	defer closeFD(fd)
	v, err = h.view(fd)
	there, e := h.file.stat()
	return v, e == nil && there.id == v.ID, err
}

// lookByStat is what can be seen of a file that cannot be opened.
func (h *Hold) lookByStat(err error) (View, error) {
	st, e := h.file.stat()
	if e != nil || st.mode&unix.S_IFMT != unix.S_IFREG {
		return View{}, err
	}
	v := viewOf(st)
	v.TextErr, v.OFDErr = err, err
	return v, nil
}

func free(path string) bool {
	h := Hold{file: newFile(path)}
	fd, err := h.openRead()
	if err != nil {
		return false
	}
	defer closeFD(fd)
	if flock(fd, unix.LOCK_SH|unix.LOCK_NB) != nil {
		return false
	}
	_ = flock(fd, unix.LOCK_UN)
	return true
}

// view is what can be seen of the open file fd.
func (h *Hold) view(fd int) (View, error) {
	v, err := h.viewText(fd)
	if err != nil {
		return v, err
	}
	v.OFDLocked, v.Owner, v.OFDErr = probe(fd)
	return v, nil
}

// viewText is view without the locks.
func (h *Hold) viewText(fd int) (View, error) {
	st, err := fstat(fd)
	if err != nil {
		return View{}, h.pathError("fstat", err)
	}
	v := viewOf(st)
	var buf [MaxText]byte
	n, err := pread(fd, buf[:])
	if err != nil {
		v.TextErr = h.pathError("read", err)
		return v, nil
	}
	v.PID, _ = ParsePID(buf[:n])
	v.OtherClock = v.PID != 0 && otherClock(fd)
	v.Empty = n == 0
	if n > 0 && buf[0] == '-' {
		v.Minus, _ = ParsePID(buf[1:n])
	}
	v.NotPIDFile = h.notPIDFile(fd, st, v.PID)
	return v, nil
}

func viewOf(st meta) View {
	return View{ID: st.id, Mode: st.mode & 0o7777, UID: st.uid, GID: st.gid, Links: st.links, Written: st.mtime}
}

func peek(path string, running func(pid int, mtime time.Time) bool) Refusal {
	v, err := look(path, false)
	if err != nil {
		return Refusal{}
	}
	pid := v.PID
	if pid == 0 {
		pid = v.Owner
	}
	written := v.Written
	if v.OtherClock {
		written = time.Time{}
	}
	held := v.OFDLocked || v.PID != 0 && running(v.PID, written)
	return Refusal{Held: held, PID: pid, Locked: v.OFDLocked}
}

func remove(path string, direct bool, stale func(View) error) error {
	h := Hold{file: newFile(path)}
	h.file.direct = direct
	return h.removeStale(stale)
}

func (h *Hold) removeStale(stale func(View) error) error {
	if err := h.file.pin(); err != nil {
		return h.pathError("open", err)
	}
	defer h.file.unpin()
	fd, _, err := h.open(&Options{})
	if err == errAgain || err == unix.ENOENT {
		return h.pathError("open", unix.ENOENT)
	}
	if err != nil {
		return err
	}
	defer closeFD(fd)
	if err := flock(fd, unix.LOCK_EX|unix.LOCK_NB); err != nil {
		if err == unix.EWOULDBLOCK {
			return h.pathError("flock", ErrHeld)
		}
		return h.lockError(err)
	}
	defer func() { _ = flock(fd, unix.LOCK_UN) }()
	if err := h.removable(fd, stale); err != nil {
		return err
	}
	// A crash leaves both, and our lock guards the other one, too.
	spare := h.file.spare()
	_ = spare.unlink()
	if err := h.file.unlink(); err != nil {
		return h.pathError("unlink", err)
	}
	return nil
}

// removable returns what speaks against removing fd, which we have locked.
func (h *Hold) removable(fd int, stale func(View) error) error {
	// Not view: where that probes by locking, it would lose our lock.
	v, err := h.viewText(fd)
	if err != nil {
		return err
	}
	if err := h.stillNames(v.ID); err != nil {
		return err
	}
	held, _, err := ofdLocked(fd)
	switch {
	case held:
		return h.pathError("clean", ErrHeld)
	case err != nil && err != errOFDUnknown:
		return h.pathError("fcntl", err)
	case runtime.GOOS == "linux":
		v.OFDErr = err // elsewhere there is no other lock than flock, which we have
	}
	if err := stale(v); err != nil {
		return err
	}
	return h.stillNames(v.ID) // stale took a while
}

// stillNames reports ErrHeld if the path names another file by now: another process has
// started.
func (h *Hold) stillNames(id ID) error {
	err := h.verifyPath(id)
	if err == errAgain {
		err = h.pathError("clean", ErrHeld)
	}
	return err
}

// A freeWait is one goroutine that waits, on behalf of all callers, until no process has
// a file locked. It stays in the kernel when they have gone: harmless, but it costs a
// thread and a descriptor, so there is one for each file.
type freeWait struct {
	done chan struct{} // closed: err is set
	err  error
}

var freeWaits = struct {
	sync.Mutex
	m map[ID]*freeWait
}{m: map[ID]*freeWait{}}

func waitFree(ctx context.Context, path string) error {
	h := Hold{file: newFile(path)}
	fd, err := h.openRead()
	if err != nil {
		if errors.Is(err, unix.ENOENT) {
			return nil
		}
		return err
	}
	st, err := fstat(fd)
	if err != nil {
		closeFD(fd)
		return h.pathError("fstat", err)
	}
	f := awaitFree(fd, st.id)
	select {
	case <-f.done:
		return f.err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// awaitFree returns the freeWait of the file id, and uses up fd, which has it open.
func awaitFree(fd int, id ID) *freeWait {
	freeWaits.Lock()
	defer freeWaits.Unlock()
	f := freeWaits.m[id]
	if f != nil {
		closeFD(fd)
		return f
	}
	f = &freeWait{done: make(chan struct{})}
	freeWaits.m[id] = f // the open descriptor keeps the inode's number from reuse
	go func() {
		f.err = flock(fd, unix.LOCK_SH)
		if f.err == nil {
			_ = flock(fd, unix.LOCK_UN)
			f.err = waitOFD(fd)
		}
		freeWaits.Lock()
		delete(freeWaits.m, id)
		freeWaits.Unlock()
		closeFD(fd)
		close(f.done)
	}()
	return f
}
