// Package proc tells what a process is: alive or not, what program, since when,
// what it has locked; and keeps a handle on it that PID reuse cannot mislead.
//
// Linux has all of it, from proc(5) and pidfd_open(2). Elsewhere Lookup
// returns errors.ErrUnsupported, and nothing is guessed from a bare PID.
package proc

import (
	"errors"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// An ID names an inode.
type ID struct{ Dev, Ino uint64 }

// An Info describes a process as it was when it was looked up.
type Info struct {
	PID, PPID int
	UID, GID  int           // real user and group
	State     byte          // as in proc_pid_stat(5): R, S, D, T, Z…
	Args      []string      // nil for a zombie or a kernel thread
	Comm      string        // its short name, proc_pid_comm(5)
	Exe       string        // path of the executable, "" where we may not look
	Start     time.Duration // since boot, in steps of a clock tick (10 ms)
	Hidden    bool          // it exists, but we may not look at it

	threads int // that have not ended, and the first
}

// Zombie reports whether the process has ended and only waits to be reaped.
func (i *Info) Zombie() bool { return ended(i.State) }

func ended(state byte) bool { return state == 'Z' || state == 'X' || state == 'x' }

// Kernel reports whether it is a thread of the kernel: kthreadd, or its child.
func (i *Info) Kernel() bool {
	return len(i.Args) == 0 && !i.Zombie() && (i.PPID == 2 || i.PID == 2 && i.PPID == 0)
}

// Name is what the process is called, in a word: the last element of its first argument,
// or its short name where it has written a title there ("nginx: master process ...").
func (i *Info) Name() string {
	switch {
	case len(i.Args) == 0:
		return ""
	case i.Comm != "" && strings.ContainsAny(i.Args[0], " :"):
		return i.Comm
	}
	return filepath.Base(i.Args[0])
}

// ErrGone is returned when no process has that PID (a thread's ID is not a PID).
var ErrGone = errors.New("no such process")

// A Lock is one kernel lock on a file, as far as it may be seen.
type Lock struct {
	Kind  string // FLOCK, POSIX or OFDLCK
	Write bool
	// PID is that of the process that took it, which may be another's by now;
	// 0 if it is not known here; -1 for OFDLCK.
	PID int
}

// An Opener is a process that has a file open.
type Opener struct {
	PID   int
	Locks []Lock // held through its descriptor, perhaps an inherited one
}

// Blocks reports whether one of the locks keeps every start out: an exclusive one,
// or a shared one of flock(2). The read locks of fcntl(2) do not.
func Blocks(locks []Lock) bool {
	return slices.ContainsFunc(locks, func(l Lock) bool { return l.Write || l.Kind == "FLOCK" })
}

// Exclusive reports whether one of the locks is.
func Exclusive(locks []Lock) bool {
	return slices.ContainsFunc(locks, func(l Lock) bool { return l.Write })
}

// Holds reports whether pid has the file open with an exclusive lock on it, and
// whether that could be seen.
func Holds(pid int, id ID) (holds, seen bool) {
	_, locks, err := Opened(pid, id)
	return err == nil && Exclusive(locks), err == nil
}

// Gaps are the reasons why a lock on a file may not have been seen; 0 if every lock
// was.
type Gaps uint8

const (
	// GapTable: the table of locks could not be read, or not all of it.
	GapTable Gaps = 1 << iota
	// GapNamespaces: the table leaves out locks of other PID namespaces.
	GapNamespaces
	// GapChanges: the table changed whenever it was read, so it may lack a lock that
	// was there all the time.
	GapChanges
	// GapFileSystem: this file system or system cannot tell of locks.
	GapFileSystem

	// GapHidden: there may be locks that cannot be seen, however often one looks.
	GapHidden = GapTable | GapNamespaces
)

// Any reports whether one of the others is among them.
func (g Gaps) Any(others Gaps) bool { return g&others != 0 }

// An Element is what a path goes through: a directory, a symbolic link, or at its
// end the file itself.
type Element struct {
	Path  string // as the links before it were resolved
	Type  fs.FileMode
	Mode  uint32 // permission bits, with the sticky one
	UID   int
	GID   int
	Links uint64
	ACL   bool // an access control list adds to the group's bits, acl(5)
	ID    ID
	// Asked is what the path amounts to up to here, plus the rest of it, links in
	// that not resolved.
	Asked string
}
