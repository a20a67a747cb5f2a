//go:build darwin || dragonfly || freebsd || linux || netbsd || openbsd

package lock

import (
	"os"
	"slices"
	"syscall"
	"time"
	"weak"

	"golang.org/x/sys/unix"
)

// Inherit returns the two descriptors that a child must have to adopt the file.
// They are copies for one command, which owns them: nothing here closes them, for
// another goroutine may be about to start it, and would find another file under
// their numbers. Like every os.File they are closed when nobody has them any
// more; until then they share the lock, which ends all the same with Release.
func (h *Hold) Inherit() (lock, baton *os.File, err error) {
	if h.hand == nil {
		if h.hand, err = h.newHand(); err != nil {
			return nil, nil, h.pathError("baton", err)
		}
	}
	l, err := dup(h.locked())
	if err != nil {
		return nil, nil, h.pathError("dup", err)
	}
	b, err := dup(h.hand.baton)
	if err != nil {
		closeFD(l)
		return nil, nil, h.pathError("dup", err)
	}
	lock, baton = os.NewFile(uintptr(l), h.Path()), os.NewFile(uintptr(b), "baton")
	h.hand.given(lock, baton)
	return lock, baton, nil
}

// newHand makes a baton that says which file it belongs to.
func (h *Hold) newHand() (*hand, error) {
	baton, err := newBaton()
	if err != nil {
		return nil, err
	}
	g := &hand{baton: baton, own: private(baton)}
	if err := h.describe(g); err != nil {
		g.close()
		return nil, err
	}
	return g, nil
}

// given remembers the copies for a command, and forgets those that are gone.
//
// Where we take the baton as a process does, closing any descriptor of it would
// give it back. So the garbage collector is not to close a copy while we live.
func (g *hand) given(lock, baton *os.File) {
	g.locks = slices.DeleteFunc(g.locks, func(p weak.Pointer[os.File]) bool { return p.Value() == nil })
	g.locks = append(g.locks, weak.Make(lock))
	if g.own < 0 {
		g.batons = append(g.batons, baton)
	}
}

// withdraw ends what the copies for commands share of a lock that is a child's
// alone now. Each keeps its number, which becomes a descriptor without a lock of
// the same file, or of the baton where that cannot be had.
func (g *hand) withdraw(lock int) {
	bare, err := reopen(lock, unix.O_RDONLY)
	if err != nil {
		bare = g.baton
	} else {
		defer closeFD(bare)
	}
	for _, p := range g.locks {
		f := p.Value()
		if f == nil {
			continue // collected
		}
		c, err := f.SyscallConn()
		if err != nil {
			continue // closed by the command's owner
		}
		// Control keeps the number f's, whoever closes f meanwhile.
		_ = c.Control(func(fd uintptr) {
			syscall.ForkLock.RLock() // no child is to get it before CloseOnExec
			defer syscall.ForkLock.RUnlock()
			_ = retry("dup", func() error { return unix.Dup2(bare, int(fd)) })
			unix.CloseOnExec(int(fd))
		})
	}
}

// take takes the baton for the parent, on its own description if it has one:
// then nothing that is done to another descriptor gives the baton back.
func (g *hand) take() error {
	if g.own < 0 {
		return take(g.baton, syscall.F_SETLKW)
	}
	return take(g.own, ofdSetlkw)
}

func (g *hand) drop() {
	if g.own < 0 {
		drop(g.baton, syscall.F_SETLK)
	} else {
		drop(g.own, ofdSetlk)
	}
}

// close gives the baton back and closes what is ours.
func (g *hand) close() {
	g.drop()
	if g.own >= 0 {
		closeFD(g.own)
	}
	closeFD(g.baton)
}

// describe writes into the baton which file it belongs to.
func (h *Hold) describe(g *hand) error {
	d := deed{unclaimed, h.id, h.PID(), h.Path()}
	return pwrite(g.baton, []byte(d.text()))
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
	if err := h.hand.take(); err != nil {
		return h.pathError(op, err)
	}
	if s, err := h.adopted(); s != unclaimed {
		h.hand.drop()
		return err
	}
	id := h.id
	err := f()
	if err == nil && h.id == id {
		// Where the baton has the wrong PID, the file counts as overwritten, and
		// a child finds that it is lost.
		_ = h.describe(h.hand)
	}
	if h.id == id {
		h.hand.drop()
	} else { // what the children have is the lock of a file that is gone
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
	if n, err := pread(h.hand.baton, s[:]); err != nil || n == 0 {
		return shared, h.pathError("baton", err) // if in doubt, nothing is done to it
	}
	return state(s[0]), changed
}

// part is what Release does first for a file that was handed down: it takes the
// baton, which hand.close gives back. done: there is nothing left to release.
func (h *Hold) part() (done bool, err error) {
	s := shared
	if err = h.hand.take(); err != nil {
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
	h.hand.withdraw(h.locked())
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
	if err := take(p.Baton, syscall.F_SETLKW); err != nil {
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
		drop(p.Baton, syscall.F_SETLK)
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

// take takes the baton with setlkw: as a process does, so that a crash of ours
// gives it back though others have the same description. It blocks as long as a
// relative of ours has it, which is as long as a few system calls take.
func take(baton, setlkw int) error {
	if broken("baton") {
		return nil
	}
	for {
		err := retry("setlkw", func() error {
			return syscall.FcntlFlock(uintptr(baton), setlkw, &syscall.Flock_t{Type: syscall.F_WRLCK})
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
func drop(baton, setlk int) {
	// A failure keeps it until the descriptor is closed.
	_ = syscall.FcntlFlock(uintptr(baton), setlk, &syscall.Flock_t{Type: syscall.F_UNLCK})
}
