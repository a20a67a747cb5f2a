// Package lock takes PID files: one holder for a path, decided by the kernel's lock on
// the inode that the path names, never by the text.
//
// # The rule
//
// The holder is the process that has flock(2) exclusively on the inode that the path
// names, and whose PID is its text. Every way of taking the file below ends in that
// state, so they can meet on one path.
//
// # Path, claim, commit
//
// An attempt opens and locks what is at the path, and refuses if that has a holder. If
// there is nothing, or a stale file, it claims a file: a [Pending], which is locked and
// of the right mode, and lacks its text and its name. To commit it is to give it these.
// The command does that part in the process that becomes COMMAND, see [Options].
//
// # Locked before it has a name
//
// Where the system can make an anonymous file (O_TMPFILE, Linux 3.11), that is what is
// claimed. linkat(2) then shows it, complete, or fails with EEXIST because another
// process was faster; over a stale file it is renamed. No reader ever sees an empty or
// half a text, and a crash leaves nothing.
//
// # In place
//
// Where that is impossible (a file system without O_TMPFILE, a system other than Linux,
// a directory that we may not write but whose PID file we may), the file is opened or
// created, locked, compared with the path and written in place: text first, cut to length
// after, so that a reader of the first line sees a whole PID even then. A file just
// created is empty until its text is written.
//
// # Two locks
//
// flock decides. The holder also takes an open-file-description write lock (F_OFD_SETLK,
// Linux 3.15) on the same descriptor: it keeps programs that lock with fcntl out, and
// lets F_OFD_GETLK tell whether the file is held without taking a lock, and so without
// making another start fail. Only a holder takes it; a process that merely clears a stale
// file holds flock alone, so the two can be told apart.
//
// # Waiting
//
// One goroutine for each path blocks in flock(2) on behalf of all waiters of the process.
// Woken on an inode that is no longer the path's, it retains that lock while it waits for
// the newer file, and unlocks it together with its own release: those that queue behind
// it sleep on, so one release wakes one process.
//
// # Hand-off
//
// A child that inherits the holder's descriptor shares its open file description, and
// with it the lock. To make the file its own it records its PID as Record does: in a
// second file, locked before it has a name, and renamed over the first. From then on each
// has a lock of its own, and the parent's Release finds another inode at the path and
// leaves it there. Where there can be no second file, the child writes in place; then the
// lock stays shared, and the parent closes its descriptor without unlocking.
//
// The shared lock cannot keep the two apart. The parent compares the inode and unlinks
// the path, the child compares it and renames over the path, and if the one comes between
// the other's two steps, the child's file is removed. So the parent hands down a hand-off
// lock with the lock: a small file without a name, which both lock around these steps.
// The child takes a POSIX lock: it belongs to the process, so it tells apart processes
// that share everything else, and a crash releases it. The parent locks an open file
// description of the hand-off lock that no other process shares, for it has more
// descriptors of the hand-off lock, one for each command, and closing any of them would
// end a POSIX lock. Where it cannot have such a description it takes a POSIX lock too,
// and sees to it that none of them is closed.
package lock

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"strconv"
	"syscall"
	"time"

	"github.com/go-pidfile/pidfile/internal/proc"
)

// Options says how a file is taken. Its functions must not block for long.
type Options struct {
	// PID is the PID to record.
	PID int
	// Mode is the permission bits of a file that we create, whatever the umask.
	Mode uint32
	// Running reports whether pid, named by a file last written at mtime that has no
	// lock, counts as the holder: the rule for programs that write PID files and never
	// lock them. A zero mtime is unknown: the file system has another machine's clock.
	Running func(pid int, mtime time.Time) bool
	// Inherit is true if a child is to inherit the lock, and must not be able to write
	// the file: flock(2) is taken by a descriptor that can only read.
	Inherit bool
	// Commit, if set, commits the Pending in the place of Pending.Write, and returns the
	// PID that it has recorded. This is how the command records the PID of a process
	// before that process runs its first instruction.
	Commit func(*Pending) (pid int, err error)

	brief bool // retry for retryFor at most, whatever the refusal
}

// A Pending is a claimed file: locked and ours, without its text and, unless it is
// written in place, its name. Write commits it. What does so by other means must write
// the decimal PID and a newline at offset 0 of FD, cut the file to that length if OldSize
// is larger, and then, in the directory that Names tells, link the file (see Link),
// returning syscall.EEXIST if another file is there, or rename it, returning
// syscall.ENOENT if FD has no name then: what had the spare name was another file.
type Pending struct {
	FD       int   // for writing
	LockFD   int   // has the lock; to be inherited
	ReadOnly bool  // LockFD cannot write
	OldSize  int64 // of the text that is there
	Stale    int   // the PID that the stale file names which it replaces, else 0

	file   file
	id     ID
	link   bool // anonymous: FD has no name yet
	rename bool // anonymous until now: FD has the name spare
	spare  file
	named  bool // created at the path, since there are no anonymous files
}

// Path returns the path that the file has or is to have.
func (p *Pending) Path() string { return p.file.path }

// Write commits the file with that PID.
func (p *Pending) Write(pid int) error { return p.write(appendText(nil, pid)) }

// Names returns what is left of the path for what commits the file by other means: the
// directory's descriptor, the name in it, and the name that the file has already and is
// to be renamed from, "" if it has none.
func (p *Pending) Names() (at int, name, from string) { return p.names() }

// Link reports whether the file has no name yet.
func (p *Pending) Link() bool { return p.link }

// A Refusal says what has the file. The zero value: the file is ours.
type Refusal struct {
	Held   bool // it has a holder
	PID    int  // what the text says, 0 if it says nothing
	Locked bool // by a lock; else by the rule for programs that do not lock
}

// ID names an inode.
type ID = proc.ID

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
	created  bool     // anonymous at first: no other process ever wrote it
	retained []int    // locks on earlier inodes of the path, unlocked with ours
	handoff  *handoff // what children were given; nil if nothing

	fresh      ID // an empty file that is left alone until freshUntil
	freshUntil time.Time
}

// Prepare makes h ready to take path, which must be absolute.
func (h *Hold) Prepare(path string) { h.prepare(path) }

// ID returns the inode that is held.
func (h *Hold) ID() ID { return h.id }

// Path returns the path as given to Prepare.
func (h *Hold) Path() string { return h.file.path }

// PID returns the recorded PID.
func (h *Hold) PID() int {
	pid, _ := ParsePID(h.text[:h.n])
	return pid
}

// Acquire takes the file if it has no holder, and returns a Refusal or an error
// otherwise. It does not block, but retries for a while a refusal that may be transient.
// A refusal creates and changes nothing.
func (h *Hold) Acquire(o *Options) (Refusal, error) { return h.acquire(o) }

// Wait takes the file as soon as it has no holder. It returns the error of ctx, and holds
// nothing, if that is done first.
func (h *Hold) Wait(ctx context.Context, o *Options) error { return h.wait(ctx, o) }

// Check reports ErrChanged if the path no longer names the held file or its text no
// longer names the PID that we recorded.
func (h *Hold) Check() error { return h.check() }

// Release removes the file if it is still ours and unlocks it. It unlocks whatever fails:
// after Release the file has no holder.
func (h *Hold) Release() error { return h.release() }

// Record replaces the text by another PID. A write in place can be seen half done (by a
// reader that copies while we copy), so a second file is locked and written under a spare
// name and renamed over the first while both are locked. A crash between the two leaves
// the spare name behind, which the process that clears the stale PID file removes too. A
// file taken in place is written in place.
func (h *Hold) Record(pid int) error { return h.recordPID(pid) }

// Renew publishes a held file again after its path lost it: another file with the same
// text, locked before it has its name, where the path leads now, in the place of none or
// of a stale one. Of a file of which only the text is gone it writes that again. It returns
// a [*ChangedError] if the path has another holder, by its lock or by o.Running, or names
// what cannot be a PID file, or if the text is another process's. It retries for a twentieth
// of a second a refusal that may be transient.
func (h *Hold) Renew(o *Options) error { return h.renew(o) }

// HandOff returns the two descriptors that a child must have to adopt the file. They are
// copies for one command, which owns them: nothing here closes them, for another
// goroutine may be about to start it, and would find another file under their numbers.
// Like every os.File they are closed when they are garbage; until then they share the
// lock, which ends all the same with Release.
func (h *Hold) HandOff() (lock, handoffLock *os.File, err error) { return h.handOff() }

// HandedOff reports whether a file of which Check says ErrChanged is a child's now.
func (h *Hold) HandedOff() bool { return h.handedOff() }

// Adopt makes h, which Prepare has made ready, the holder of the file that is among those
// handed down, and records pid. It returns which pair it was, or -1. The descriptors are
// closed, or become h's, if the file was adopted or is lost: ErrChanged. They stay open
// after other errors. It returns ErrNotInherited if there is none for the path.
func (h *Hold) Adopt(pairs []Pair, pid int) (int, error) { return h.adopt(pairs, pid) }

// A Pair is the descriptor numbers of a lock and its hand-off lock in a child.
type Pair struct{ Lock, Handoff int }

// A View is what can be seen of a PID file without taking a lock. (On systems without
// F_OFD_GETLK a shared lock is taken for an instant.)
type View struct {
	ID      ID
	Mode    uint32 // permission bits
	UID     int
	GID     int
	Links   uint64
	Written time.Time
	// OtherClock: the file system may have the clock of another machine, so Written
	// cannot be compared with anything of ours.
	OtherClock bool
	PID        int   // 0 if the text is malformed
	Empty      bool  // the file has no text at all
	Minus      int   // the PID behind a minus sign, if that is the text
	TextErr    error // why the text could not be read, nil if it was
	// NotPIDFile says why this cannot be a PID file at all, "" if it can.
	NotPIDFile string
	// OFDLocked: the file has the holder's OFD lock or another fcntl lock, and Owner
	// is the PID of that lock's owner where there is one.
	OFDLocked bool
	Owner     int
	// OFDErr is why this file system or system cannot tell that, nil if it can.
	OFDErr error
}

// Look returns the View of the PID file at path. The error says why nothing at all could
// be seen: it does not exist, or is not a regular file.
func Look(path string) (View, error) { return look(path, false) }

// LookDirect is Look at an absolute path that no symbolic link leads to.
func LookDirect(path string) (View, error) { return look(path, true) }

// Peek tells, without taking a lock, whether the file has a holder, as far as that can be
// told so: a file that has an OFD lock, or names a process that running respects (see
// Options).
func Peek(path string, running func(pid int, mtime time.Time) bool) Refusal {
	return peek(path, running)
}

// Free reports whether no process has the file at path locked with flock. It takes a
// shared lock for an instant.
func Free(path string) bool { return free(path) }

// WaitFree blocks until no process has the file that is at path now locked, or ctx is
// done. It takes a shared lock for an instant at the end.
func WaitFree(ctx context.Context, path string) error { return waitFree(ctx, path) }

// Remove removes the file at path, under its lock, if stale finds nothing against it. It
// returns ErrHeld for a file that is locked. It does not block.
func Remove(path string, stale func(View) error) error { return remove(path, false, stale) }

// RemoveDirect is Remove at an absolute path that no symbolic link leads to.
func RemoveDirect(path string, stale func(View) error) error { return remove(path, true, stale) }

// ReadText returns the first MaxText bytes of the regular file at path.
func ReadText(path string) ([]byte, error) { return readText(path) }

var (
	// ErrChanged is returned when the path came to name another file, or the text was
	// overwritten.
	ErrChanged = errors.New("the path no longer names this file")
	// ErrHeld is returned by Remove for a file that is locked.
	ErrHeld = errors.New("locked")
	// ErrNotInherited is returned by Adopt when none of the descriptors is that of the
	// path's file.
	ErrNotInherited = errors.New("the PID file was not handed to this process")
	// ErrNoAnonymous is what Options.Commit returns when the file cannot be linked: it is
	// created by name then.
	ErrNoAnonymous = errors.New("no anonymous files here")
)

var (
	// errAgain, inside an attempt: the path changed meanwhile, so begin anew.
	errAgain = errors.New("the path changed")
	// errFresh, inside an attempt: the file is empty and so new that a program may be
	// about to lock or to write it, so look again.
	errFresh = errors.New("just created")
	// errOFDLocked: we have flock, but another process got an fcntl lock first.
	errOFDLocked = errors.New("locked with fcntl")
	// errOFDUnknown: this system or file system cannot tell about fcntl locks.
	errOFDUnknown = errors.New("cannot tell about locks")
)

// A ChangedError is ErrChanged with the reason: what has the path.
type ChangedError struct {
	Refusal       // the other holder, if Held
	Err     error // else why what is there cannot be replaced
}

func (e *ChangedError) Error() string {
	if e.Err != nil {
		return e.Err.Error()
	}
	return ErrChanged.Error()
}

func (e *ChangedError) Unwrap() error { return e.Err }

// Is reports whether target is ErrChanged.
func (e *ChangedError) Is(target error) bool { return target == ErrChanged }

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

func (e *errnoHint) Error() string { return e.why }
func (e *errnoHint) Unwrap() error { return e.errno }

// pathError names the call that failed on the path.
func (h *Hold) pathError(op string, err error) error {
	return &fs.PathError{Op: op, Path: h.Path(), Err: err}
}

// wrapErrno gives a bare error number the call and the path.
func (h *Hold) wrapErrno(op string, err error) error {
	if _, bare := err.(syscall.Errno); bare {
		return h.pathError(op, err)
	}
	return err
}

// setText makes pid's the text of h.
func (h *Hold) setText(pid int) { h.n = len(appendText(h.text[:0], pid)) }

// appendText appends the text of a PID file.
func appendText(b []byte, pid int) []byte {
	return append(strconv.AppendInt(b, int64(pid), 10), '\n')
}
