//go:build darwin || dragonfly || freebsd || linux || netbsd || openbsd

package lock

import (
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Inherit returns the two descriptors that a child must have to adopt the file.
// They are the same for all children, and stay ours.
func (h *Hold) Inherit() (lock, baton *os.File, err error) {
	if h.hand == nil {
		if h.hand, err = h.newHand(); err != nil {
			return nil, nil, err
		}
	}
	return h.hand.lock, h.hand.baton, nil
}

// newHand makes a baton. The lock's descriptor is a copy, since an os.File that
// is forgotten closes its own.
func (h *Hold) newHand() (*hand, error) {
	fd, err := dup(h.locked())
	if err != nil {
		return nil, h.pathError("dup", err)
	}
	baton, err := newBaton()
	if err != nil {
		closeFD(fd)
		return nil, h.pathError("baton", err)
	}
	g := &hand{os.NewFile(uintptr(fd), h.Path()), os.NewFile(uintptr(baton), "baton")}
	if err := h.describe(g); err != nil {
		g.close()
		return nil, h.pathError("baton", err)
	}
	return g, nil
}

// describe writes into the baton which file it belongs to.
func (h *Hold) describe(g *hand) error {
	d := deed{unclaimed, h.id, h.PID(), h.Path()}
	return pwrite(int(g.baton.Fd()), []byte(d.text()))
}

func dup(fd int) (copied int, err error) {
	err = retry("dup", func() error {
		copied, err = unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 0)
		return err
	})
	return copied, err
}

// guarded runs f, which changes the file, while no child can adopt it.
func (h *Hold) guarded(op string, f func() error) error {
	if h.hand == nil {
		return f()
	}
	baton := int(h.hand.baton.Fd())
	if err := take(baton); err != nil {
		return h.pathError(op, err)
	}
	if s, err := h.adopted(); s != unclaimed {
		drop(baton)
		return err
	}
	id := h.id
	err := f()
	if err == nil && h.id == id {
		// Where the baton has the wrong PID, the file counts as overwritten, and
		// a child finds that it is lost.
		_ = h.describe(h.hand)
	}
	drop(baton)
	if h.id != id { // what the children have is the lock of a file that is gone
		h.hand.close()
		h.hand = nil
	}
	return err
}

// adopted returns what a child has made of the file, with the error of Check if
// that is anything. A child that crashed after it had claimed the file, but
// before it wrote its PID, has made nothing of it.
func (h *Hold) adopted() (state, error) {
	changed := h.Check()
	if changed == nil {
		return unclaimed, nil
	}
	var s [1]byte
	if n, err := pread(int(h.hand.baton.Fd()), s[:]); err != nil || n == 0 {
		return shared, h.pathError("baton", err) // if in doubt, nothing is done to it
	}
	return state(s[0]), changed
}

// part is what Release does first for a file that was handed down: it takes the
// baton, which hand.close gives back. done: there is nothing left to release.
func (h *Hold) part() (done bool, err error) {
	s := shared
	if err = take(int(h.hand.baton.Fd())); err != nil {
		err = h.pathError("baton", err)
	} else {
		s, err = h.adopted()
	}
	switch {
	case s == shared:
		h.leave() // to unlock it would unlock it for the child
		done = true
	case err == nil:
		spare := h.file.spare()
		_ = spare.unlink() // of a child that crashed
	}
	if err == ErrChanged {
		err = nil
	}
	return done, err
}

// leave closes our descriptors of a file whose lock is a child's.
func (h *Hold) leave() {
	h.closeAll()
}

// Adopt makes h, which Prepare has made ready, the holder of the file that is
// among those handed down, and records pid. It returns which pair it was, or -1.
// The descriptors are closed, or become h's, if the file was adopted or is lost:
// ErrChanged. They stay open after other errors. ErrNotHanded: there is none for
// the path.
func (h *Hold) Adopt(pairs []Pair, pid int) (int, error) {
	i, err := h.find(pairs)
	if err != nil {
		return -1, err
	}
	p := pairs[i]
	unix.CloseOnExec(p.Lock)
	unix.CloseOnExec(p.Baton)
	if err := take(p.Baton); err != nil {
		return i, h.pathError("baton", err)
	}
	err = h.claim(p, pid)
	if err != nil {
		h.fd = -1
		h.file.unpin()
	}
	switch err {
	case nil:
	case ErrChanged:
		closeFD(p.Lock)
	default:
		drop(p.Baton)
		return i, err
	}
	closeFD(p.Baton)
	return i, err
}

// find returns the pair for h's path: one of the inode that is there, or else
// one of the same name.
func (h *Hold) find(pairs []Pair) (int, error) {
	there, gone := h.file.statPath()
	found, none := -1, ErrNotHanded
	for i, p := range pairs {
		d, err := handed(p)
		switch {
		case err == unix.EBADF:
		case err != nil:
			return -1, h.pathError("baton", err)
		case gone == nil && d.id == there.id:
			return i, nil
		case d.path == h.Path() && found < 0:
			found, none = i, nil
		}
	}
	return found, none
}

// handed returns the deed of p. EBADF: the descriptors are not those that a deed
// is about, but closed, or something else's.
func handed(p Pair) (deed, error) {
	st, err := fstat(p.Baton)
	if err != nil {
		return deed{}, err
	}
	if st.mode&unix.S_IFMT != unix.S_IFREG {
		return deed{}, unix.EBADF
	}
	buf := make([]byte, maxDeed)
	n, err := pread(p.Baton, buf)
	if err != nil {
		return deed{}, err
	}
	d, ok := parseDeed(string(buf[:n]))
	if !ok {
		return deed{}, unix.EBADF
	}
	st, err = fstat(p.Lock)
	if err == nil && st.id != d.id {
		err = unix.EBADF
	}
	return d, err
}

// claim is Adopt with the baton taken: until it is given back, the parent
// neither removes nor unlocks the file.
func (h *Hold) claim(p Pair, pid int) error {
	d, err := handed(p) // again: the PID may have changed
	if err != nil {
		return h.pathError("baton", err)
	}
	mine, err := fstat(p.Lock)
	if err != nil {
		return h.pathError("fstat", err)
	}
	h.fd, h.id, h.mode, h.born = p.Lock, d.id, mine.mode&0o777, true
	h.setText(d.pid)
	if err := h.file.pin(); err != nil && err != unix.ENOENT { // Check tells
		return h.pathError("open", err)
	}
	if err := h.Check(); err != nil {
		return err
	}
	if err := h.relock(); err != nil {
		return err
	}
	err = h.sign(p.Baton, replaced, pid)
	if denied(err) || full(err) {
		h.born = false
		err = h.sign(p.Baton, shared, pid)
	}
	if err != nil {
		_ = note(p.Baton, unclaimed) // if it stays claimed, Check still tells
		return err
	}
	// Who queues on the parent's file, if it is another one, is to wait for us
	// and not until the parent has come to its release.
	h.dropOld()
	return nil
}

// relock makes sure that the inherited descriptor has the lock. It succeeds at
// once if it has, and takes the lock if nobody has: then the parent released the
// file and could not remove it.
func (h *Hold) relock() error {
	switch err := flock(h.fd, unix.LOCK_EX|unix.LOCK_NB); err {
	case nil:
	case unix.EWOULDBLOCK:
		return ErrChanged
	default:
		return h.lockError(err)
	}
	if err := ofdLock(h.fd); err != nil {
		if held, _, _ := ofdLocked(h.fd); held {
			return ErrChanged
		}
		return h.pathError("fcntl", err)
	}
	return nil
}

// note writes what becomes of the file into its baton.
func note(baton int, s state) error { return pwrite(baton, []byte{byte(s)}) }

// sign notes what becomes of the file, and then does it: record looks once more
// whether the file is the path's.
func (h *Hold) sign(baton int, s state, pid int) error {
	if err := note(baton, s); err != nil {
		return h.pathError("baton", err)
	}
	return h.record(pid)
}

// take takes the baton. It blocks as long as a relative of ours has it, which is
// as long as a few system calls take.
func take(baton int) error {
	if broken("baton") {
		return nil
	}
	for {
		err := retry("setlkw", func() error {
			return syscall.FcntlFlock(uintptr(baton), syscall.F_SETLKW, &syscall.Flock_t{Type: syscall.F_WRLCK})
		})
		// The kernel sees processes, not threads, and so a deadlock where two
		// threads of a process are concerned, fcntl(2). Nobody who has a baton
		// waits for another one.
		if err != unix.EDEADLK {
			return err
		}
		time.Sleep(time.Millisecond)
	}
}

// drop gives the baton back.
func drop(baton int) {
	// A failure keeps it until the descriptor is closed.
	_ = syscall.FcntlFlock(uintptr(baton), syscall.F_SETLK, &syscall.Flock_t{Type: syscall.F_UNLCK})
}
