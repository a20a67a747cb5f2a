//go:build darwin || dragonfly || freebsd || linux || netbsd || openbsd

package lock

import (
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
	"weak"

	"golang.org/x/sys/unix"
)

// A handoff is what a holder gives its children, and what it keeps of that. The two
// numbers are the Hold's, as its fd is. What is given is a copy for each command,
// which that one alone owns: see Hold.HandOff.
type handoff struct {
	lock int // what is copied
	own  int // the hand-off lock on a description that is ours alone, -1 if there is none
	// The copies that this process may still have.
	locks  []weak.Pointer[os.File]
	copies []*os.File // only where own is -1
}

func (h *Hold) handOff() (lock, handoffLock *os.File, err error) {
	if h.handoff == nil {
		if h.handoff, err = h.newHandoff(); err != nil {
			return nil, nil, h.pathError("hand-off lock", err)
		}
	}
	l, err := dup(h.locked())
	if err != nil {
		return nil, nil, h.pathError("dup", err)
	}
	b, err := dup(h.handoff.lock)
	if err != nil {
		closeFD(l)
		return nil, nil, h.pathError("dup", err)
	}
	lock, handoffLock = os.NewFile(uintptr(l), h.Path()), os.NewFile(uintptr(b), "hand-off lock")
	h.handoff.given(lock, handoffLock)
	return lock, handoffLock, nil
}

// newHandoff makes a hand-off lock that says which file it belongs to.
func (h *Hold) newHandoff() (*handoff, error) {
	handoffLock, err := newHandoffLock()
	if err != nil {
		return nil, err
	}
	g := &handoff{lock: handoffLock, own: private(handoffLock)}
	if err := h.describe(g); err != nil {
		g.close()
		return nil, err
	}
	return g, nil
}

// given remembers the copies for a command, and forgets those that are gone.
//
// Where we take the hand-off lock as a process does, closing any descriptor of it would
// end it. So the garbage collector is not to close a copy while we live.
func (g *handoff) given(lock, handoffLock *os.File) {
	g.locks = slices.DeleteFunc(g.locks, func(p weak.Pointer[os.File]) bool { return p.Value() == nil })
	g.locks = append(g.locks, weak.Make(lock))
	if g.own < 0 {
		g.copies = append(g.copies, handoffLock)
	}
}

// withdraw ends what the copies for commands share of a lock that is a child's
// alone now. Each keeps its number, which becomes a descriptor without a lock of
// the same file, or of the hand-off lock where that cannot be had.
func (g *handoff) withdraw(lock int) {
	bare, err := reopen(lock, unix.O_RDONLY)
	if err != nil {
		bare = g.lock
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
		// Control keeps the number f's, even if f is closed meanwhile.
		_ = c.Control(func(fd uintptr) {
			syscall.ForkLock.RLock() // no child is to get it before CloseOnExec
			defer syscall.ForkLock.RUnlock()
			_ = retry("dup", func() error { return unix.Dup2(bare, int(fd)) })
			unix.CloseOnExec(int(fd))
		})
	}
}

// take takes the hand-off lock for the parent, on its own description if it has one:
// then nothing that is done to another descriptor ends it.
func (g *handoff) take() error {
	if g.own < 0 {
		return take(g.lock, syscall.F_SETLKW)
	}
	return take(g.own, ofdSetlkw)
}

func (g *handoff) drop() {
	if g.own < 0 {
		drop(g.lock, syscall.F_SETLK)
	} else {
		drop(g.own, ofdSetlk)
	}
}

// close drops the hand-off lock and closes what is ours.
func (g *handoff) close() {
	g.drop()
	if g.own >= 0 {
		closeFD(g.own)
	}
	closeFD(g.lock)
}

// describe writes into the hand-off lock which file it belongs to.
func (h *Hold) describe(g *handoff) error {
	d := record{unclaimed, h.id, h.PID(), h.Path()}
	return pwrite(g.lock, []byte(d.text()))
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
	if h.handoff == nil {
		return f()
	}
	if err := h.handoff.take(); err != nil {
		return h.pathError(op, err)
	}
	if s, err := h.adopted(); s != unclaimed {
		h.handoff.drop()
		return err
	}
	id := h.id
	err := f()
	if err == nil && h.id == id {
		// Where the hand-off lock has the wrong PID, the file counts as overwritten, and
		// a child finds that it is lost.
		_ = h.describe(h.handoff)
	}
	if h.id == id {
		h.handoff.drop()
	} else { // what the children have is the lock of a file that is gone
		h.handoff.close()
		h.handoff = nil
	}
	return err
}

// adopted returns what a child has made of the file, with the error of Check if
// that is anything. A child that crashed after it had claimed the file, but
// before it wrote its PID, has made nothing of it.
func (h *Hold) adopted() (state, error) {
	changed := h.check()
	if changed == nil {
		return unclaimed, nil
	}
	var s [1]byte
	if n, err := pread(h.handoff.lock, s[:]); err != nil || n == 0 {
		return shared, h.pathError("hand-off lock", err) // it cannot be told, so nothing is done to it
	}
	return state(s[0]), changed
}

func (h *Hold) handedOff() bool {
	if h.handoff == nil || h.handoff.take() != nil {
		return false
	}
	defer h.handoff.drop()
	s, err := h.adopted()
	return err == ErrChanged && s != unclaimed
}

// detach is what Release does first for a file that was handed down: it takes the
// hand-off lock, which handoff.close drops. done: there is nothing left to release.
func (h *Hold) detach() (done bool, err error) {
	s := shared
	if err = h.handoff.take(); err != nil {
		err = h.pathError("hand-off lock", err)
	} else {
		s, err = h.adopted()
	}
	switch {
	case s == shared:
		h.closeShared() // to unlock it would unlock it for the child
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

// closeShared closes our descriptors of a file whose lock is a child's.
func (h *Hold) closeShared() {
	h.handoff.withdraw(h.locked())
	h.closeAll()
}

func (h *Hold) adopt(pairs []Pair, pid int) (int, error) {
	i, err := h.find(pairs)
	if err != nil {
		return -1, err
	}
	p := pairs[i]
	unix.CloseOnExec(p.Lock)
	unix.CloseOnExec(p.Handoff)
	if err := take(p.Handoff, syscall.F_SETLKW); err != nil {
		return i, h.pathError("hand-off lock", err)
	}
	err = h.takeOver(p, pid)
	if err != nil {
		h.fd = -1
		h.file.unpin()
	}
	switch err {
	case nil:
	case ErrChanged:
		closeFD(p.Lock)
	default:
		drop(p.Handoff, syscall.F_SETLK)
		return i, err
	}
	closeFD(p.Handoff)
	return i, err
}

// find returns the pair for h's path: one of the inode that is there, or else
// one of the same name.
func (h *Hold) find(pairs []Pair) (int, error) {
	there, gone := h.file.statPath()
	found, none := -1, ErrNotInherited
	for i, p := range pairs {
		d, err := readRecord(p)
		switch {
		case err == unix.EBADF:
		case err != nil:
			return -1, h.pathError("hand-off lock", err)
		case gone == nil && d.id == there.id:
			return i, nil
		case d.path == h.Path() && found < 0:
			found, none = i, nil
		}
	}
	return found, none
}

// readRecord returns the record of p. EBADF: the descriptors are not those that a record
// is about, but closed, or of something else.
func readRecord(p Pair) (record, error) {
	st, err := fstat(p.Handoff)
	if err != nil {
		return record{}, err
	}
	if st.mode&unix.S_IFMT != unix.S_IFREG {
		return record{}, unix.EBADF
	}
	buf := make([]byte, maxRecord)
	n, err := pread(p.Handoff, buf)
	if err != nil {
		return record{}, err
	}
	d, ok := parseRecord(string(buf[:n]))
	if !ok {
		return record{}, unix.EBADF
	}
	st, err = fstat(p.Lock)
	if err == nil && st.id != d.id {
		err = unix.EBADF
	}
	return d, err
}

// takeOver is Adopt with the hand-off lock taken: until it is dropped, the parent
// neither removes nor unlocks the file.
func (h *Hold) takeOver(p Pair, pid int) error {
	d, err := readRecord(p) // again: the PID may have changed
	if err != nil {
		return h.pathError("hand-off lock", err)
	}
	mine, err := fstat(p.Lock)
	if err != nil {
		return h.pathError("fstat", err)
	}
	h.fd, h.id, h.mode, h.created = p.Lock, d.id, mine.mode&0o777, true
	h.setText(d.pid)
	if err := h.file.pin(); err != nil && err != unix.ENOENT { // Check tells
		return h.pathError("open", err)
	}
	if err := h.check(); err != nil {
		return err
	}
	if err := h.relock(); err != nil {
		return err
	}
	err = h.recordAs(p.Handoff, replaced, pid)
	if denied(err) || full(err) {
		h.created = false
		err = h.recordAs(p.Handoff, shared, pid)
	}
	if err != nil {
		_ = setState(p.Handoff, unclaimed) // if it stays claimed, Check still tells
		return err
	}
	// What queues on the parent's file, if it is another one, is to wait for us
	// and not until the parent has come to its release.
	h.releaseRetained()
	return nil
}

// relock makes sure that the inherited descriptor has the lock. It succeeds at
// once if it has, and takes the lock if it is free: then the parent released the
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

// setState writes what becomes of the file into its hand-off lock.
func setState(handoffLock int, s state) error { return pwrite(handoffLock, []byte{byte(s)}) }

// recordAs writes what becomes of the file, and then does it: record checks once more
// whether the file is the path's.
func (h *Hold) recordAs(handoffLock int, s state, pid int) error {
	if err := setState(handoffLock, s); err != nil {
		return h.pathError("hand-off lock", err)
	}
	return h.record(pid)
}

// take takes the hand-off lock with setlkw: as a process does, so that a crash of ours
// ends it though others have the same description. It blocks as long as the parent or
// another child has it, which is as long as a few system calls take.
func take(handoffLock, setlkw int) error {
	for {
		err := retry("setlkw", func() error {
			return syscall.FcntlFlock(uintptr(handoffLock), setlkw, &syscall.Flock_t{Type: syscall.F_WRLCK})
		})
		// The kernel sees processes, not threads, and so a deadlock where two
		// threads of a process are concerned, fcntl(2). No process that has a hand-off
		// lock waits for another one.
		if err != unix.EDEADLK {
			return err
		}
		time.Sleep(time.Millisecond)
	}
}

// drop releases the hand-off lock.
func drop(handoffLock, setlk int) {
	// A failure keeps it until the descriptor is closed.
	_ = syscall.FcntlFlock(uintptr(handoffLock), setlk, &syscall.Flock_t{Type: syscall.F_UNLCK})
}

// A record is the text of a hand-off lock: which file it belongs to, and what became of
// that. It also proves to a child that the descriptor is a hand-off lock, and not
// something else that has the number.
type record struct {
	state state
	id    ID
	pid   int // what the file says
	path  string
}

// A state is what became of a file that was handed down.
type state byte

const (
	unclaimed state = 'U' // it is still the parent's
	replaced  state = 'R' // a child has put its own in its place
	shared    state = 'S' // a child has written its PID into it, and has its lock
)

// maxRecord is enough for every path that a system call takes.
const maxRecord = 8192

// text writes the PID with all the digits that it can have, so that another
// one changes nothing but digits.
func (d record) text() string {
	pid := strconv.Itoa(d.pid)
	return strings.Join([]string{string(d.state), "pidfile",
		strconv.FormatUint(d.id.Dev, 10), strconv.FormatUint(d.id.Ino, 10),
		"0000000"[min(7, len(pid)):] + pid, d.path}, " ")
}

// parseRecord reads what text wrote, and nothing else.
func parseRecord(text string) (d record, ok bool) {
	f := strings.SplitN(text, " ", 6)
	if len(f) != 6 || len(text) >= maxRecord || !filepath.IsAbs(f[5]) {
		return d, false
	}
	d.state, d.path = state(text[0]), f[5]
	d.id.Dev, _ = strconv.ParseUint(f[2], 10, 64)
	d.id.Ino, _ = strconv.ParseUint(f[3], 10, 64)
	d.pid, _ = strconv.Atoi(f[4])
	return d, d.pid <= MaxPID && d.text() == text
}
