// Package lock takes PID files: one holder a path, decided by the kernel's
// lock on the inode that the path names, never by the text.
//
// # The rule
//
// Whoever holds flock(2) exclusively on the inode that the path names, and
// whose PID is its text, is the holder. Every way of taking the file below
// ends in that state, so they can meet on one path.
//
// # Born locked
//
// Where the system can make an unnamed file (O_TMPFILE, Linux 3.11), a PID file
// is locked, written and given its mode before it has a name; linkat(2) then
// shows it, complete, or fails with EEXIST because somebody was faster. Nobody
// ever sees an empty or half a text, and a crash leaves nothing.
//
// # In place
//
// Where that is impossible (a file system without O_TMPFILE, a system other
// than Linux, a directory that we may not write but whose PID file we may),
// the file is opened or created, locked, compared with the path and written in
// place: text first, cut to length after, so that a reader of the first line
// sees a whole PID even then. A file just created is empty for a moment.
//
// # Two locks, one truth
//
// flock decides. The holder also takes an open-file-description write lock
// (F_OFD_SETLK, Linux 3.15) on the same descriptor: it keeps programs that lock
// with fcntl(2) out, and lets anybody ask with F_OFD_GETLK whether the file is
// held without taking a lock, and so without making an honest start fail.
// Only a holder takes it; who merely clears a stale file holds flock alone, so
// the two can be told apart.
//
// # Waiting
//
// One goroutine a path blocks in flock(2) on behalf of all waiters of the
// process. Woken on an inode that is no longer the path's, it keeps that lock
// while it waits for the newer file and gives it back with its own release:
// those who queue behind it sleep on, so one release wakes one process.
//
// # Hand-over
//
// A child that inherits the holder's descriptor shares its open file
// description, and with it the lock. To make the file its own it records its
// PID as Record does: in a second file, born locked and renamed over the first.
// From then on each has a lock of its own, and the parent's Release finds
// another inode at the path and leaves it there. Where there can be no second
// file, the child writes in place; then the lock stays shared, and the parent
// closes its descriptor without unlocking.
//
// What the shared lock cannot do is to keep the two apart. The parent compares
// the inode and unlinks the path, the child compares it and renames over the
// path, and if the one comes between the other's two steps, the child's file is
// removed. So the parent hands down a hand-off lock with the lock: a small file without
// a name, which both lock around these steps. The child takes a POSIX lock: it
// belongs to the process, so it tells apart those who share everything else, and
// a crash gives it back. The parent locks an open file description of the hand-off lock
// that it shares with nobody, for it has more descriptors of the hand-off lock, one for
// each command, and closing any of them would end a POSIX lock. Where it cannot
// have such a description it takes a POSIX lock too, and sees to it that none of
// them is closed.
package lock

import (
	"errors"
	"io/fs"
	"strconv"
	"syscall"
	"time"
)

// Options says how a file is taken. Its functions must not block for long.
type Options struct {
	// PID is the PID to record.
	PID int
	// Mode is the permission bits of a file that we create, whatever the umask.
	Mode uint32
	// Running reports whether pid, named by a file last written at mtime that
	// nobody has locked, is to be respected as the holder: the rule for
	// programs that write PID files and never lock them. A zero mtime is unknown: the
	// file system has another machine's clock.
	Running func(pid int, mtime time.Time) bool
	// Inherit is true if a child is to inherit the lock, and must not be able to
	// write the file: flock(2) is taken by a descriptor that can only read.
	Inherit bool
	// Publish, if set, takes the place of writing PID and showing the file: see
	// Pending.
	Publish func(*Pending) (pid int, err error)
}

// A Pending is a file that is locked and ours, and lacks its text and, unless it
// is written in place, its name. Write does what is left to do. Whoever does it
// by other means must write the decimal PID and a newline at offset 0 of FD, cut
// the file to that length if OldSize is larger, and then, in the directory that
// Names tells, link the file (see Link), returning syscall.EEXIST if somebody
// else's file is there, or rename it, returning syscall.ENOENT if FD has no name then:
// what had the spare name was another's.
//
// This is how the command records the PID of a process before that process
// runs its first instruction.
type Pending struct {
	FD       int   // for writing
	LockFD   int   // has the lock; to be inherited
	ReadOnly bool  // LockFD cannot write
	OldSize  int64 // of the text that is there
	Stale    int   // the PID that the stale file names which it replaces, else 0

	file   file
	link   bool // FD has no name yet
	rename bool // FD has the name spare
	spare  file
}

// A Refusal says who has the file. The zero value: nobody, it is ours.
type Refusal struct {
	Held   bool // somebody has it
	PID    int  // what the text says, 0 if it says nothing
	Locked bool // by a lock; else by the rule for programs that do not lock
}

// ID names an inode.
type ID struct{ Dev, Ino uint64 }

// A Hold is a held PID file. It is not safe for concurrent use.
//
// Its descriptor is a plain number: no finalizer ever closes it, so a Hold that
// its owner forgot keeps its lock until the process ends.
type Hold struct {
	file     file
	fd       int // for writing, where we may
	ro       int // has the lock, if a child is to inherit it, and cannot write; else -1
	id       ID
	text     [24]byte
	n        int
	mode     uint32
	stale    int      // the PID in the stale file that is being replaced
	created  bool     // the file was ours from birth: nobody else ever wrote it
	retained []int    // locks on earlier inodes of the path, given back with ours
	handoff  *handoff // what children were given; nil if nothing
}

// ErrChanged: the path came to name another file, or the text was overwritten.
var ErrChanged = errors.New("the path no longer names this file")

// ErrNoAnonymous is what Publish returns where the file cannot be linked: it is
// created by name then.
var ErrNoAnonymous = errNoAnonymous

// ErrHeld: somebody has the file.
var ErrHeld = errors.New("locked")

var (
	// errAgain, inside an attempt: the path changed under us, look again.
	errAgain = errors.New("look again")
	// errOFDLocked: we have flock, but somebody got an fcntl lock first.
	errOFDLocked = errors.New("locked with fcntl")
	// errOFDUnknown: this system or file system cannot tell about fcntl locks.
	errOFDUnknown = errors.New("cannot tell about locks")
	// errNoAnonymous: a file cannot be made without a name here.
	errNoAnonymous = errors.New("no anonymous files here")
)

// meta is what fstat and lstat say that we need.
type meta struct {
	id    ID
	mode  uint32
	size  int64
	mtime time.Time
	uid   int
	links uint64
	gid   int
}

// Bounds of an attempt that fails at once.
const (
	// doubt is how long a refusal that may be a moment's (somebody clears a
	// stale file, or only looks) is retryingSince before it is reported.
	retryFor = 50 * time.Millisecond
	// retryForDead is the same where the text names a dead process: then somebody
	// almost certainly clears a stale file, and may have to wait for a CPU.
	retryForDead = 500 * time.Millisecond
	// maxAttempt bounds the whole attempt while the path changes under it.
	maxAttempt = time.Second
	// maxRetained bounds how many earlier inodes a waiter keeps locked. Each costs
	// a descriptor; dropping one costs a wake-up of whoever queues on it.
	maxRetained = 8
)

// ID returns the inode that is held.
func (h *Hold) ID() ID { return h.id }

// Path returns the path as given to Prepare.
func (h *Hold) Path() string { return h.file.path }

// PID returns the recorded PID.
func (h *Hold) PID() int {
	pid, _ := ParsePID(h.text[:h.n])
	return pid
}

func (h *Hold) setText(pid int) {
	h.n = len(append(strconv.AppendInt(h.text[:0], int64(pid), 10), '\n'))
}

// pathError names the call that failed on the path.
func (h *Hold) pathError(op string, err error) error {
	return &fs.PathError{Op: op, Path: h.Path(), Err: err}
}

// A NotPIDFileError says why a file cannot be a PID file. It is left untouched.
type NotPIDFileError struct{ Why string }

func (e *NotPIDFileError) Error() string {
	return "not a PID file: " + e.Why + ": name the PID file first"
}

// Is reports whether target is ErrMalformed.
func (e *NotPIDFileError) Is(target error) bool { return target == ErrMalformed }

// An errnoHint is an error number with the words that help.
type errnoHint struct {
	errno syscall.Errno
	why   string
}

func (b *errnoHint) Error() string { return b.errno.Error() + ": " + b.why }
func (b *errnoHint) Unwrap() error { return b.errno }

// Publish and Inherit are what Options' fields are set to by package pidfile. The
// command sets them, once, before it takes its PID file.
var (
	Publish func(*Pending) (pid int, err error)
	Inherit bool
)
