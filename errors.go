package pidfile

import (
	"errors"
	"fmt"
	"io/fs"

	"github.com/go-pidfile/pidfile/internal/lock"
)

var (
	// ErrAlreadyRunning is returned when another process, or this one itself, holds
	// the PID file. The error that matches it is an [*AlreadyRunningError].
	ErrAlreadyRunning = errors.New("already running")

	// ErrNotRunning is returned when no process holds the PID file, so that there is
	// none to act on, or when a [Process] has ended.
	ErrNotRunning = errors.New("not running")

	// ErrUnproven is returned when the PID file may be held, but it is not proven
	// that the process that it names is the holder, or when the file is not trusted.
	// Nothing was done.
	ErrUnproven = errors.New("not proven")

	// ErrUntrusted is returned when other users can change the PID file or a directory
	// or link of its path, so that it may name a process that was not meant. It matches
	// [ErrUnproven] too. Nothing was done.
	ErrUntrusted error = untrusted{}

	// ErrMalformed is returned when the first line of the file is not a PID.
	ErrMalformed = lock.ErrMalformed

	// ErrLost is returned when the path no longer names the file that was held, or
	// its text was overwritten, so that another process may hold it now.
	ErrLost = errors.New("the PID file was removed, replaced or overwritten")

	// ErrHandedOff is returned when a process that was started with the file has
	// adopted it: see [File.HandOff]. It matches [ErrLost] too.
	ErrHandedOff error = handedOff{}

	// ErrNotInherited is returned when no process has handed the PID file to this
	// one, so that there is nothing to adopt: see [File.HandOff].
	ErrNotInherited = lock.ErrNotInherited
)

type handedOff struct{}

func (handedOff) Error() string { return "a child process has adopted the PID file" }

// Is reports whether target is ErrLost.
func (handedOff) Is(target error) bool { return target == ErrLost }

// A takenError is ErrLost with the reason: what has the path now.
type takenError struct{ why error }

func (e *takenError) Error() string {
	why := e.why.Error()
	switch cause := e.why.(type) {
	case *AlreadyRunningError:
		why = "it is another's now: " + cause.holder()
	case *fs.PathError:
		why = cause.Err.Error()
	}
	return ErrLost.Error() + ": " + why
}

func (e *takenError) Unwrap() []error { return []error{ErrLost, e.why} }

type untrusted struct{}

func (untrusted) Error() string { return "not trusted" }

// Is reports whether target is ErrUnproven.
func (untrusted) Is(target error) bool { return target == ErrUnproven }

// An AlreadyRunningError names the process that holds a PID file. It matches
// [ErrAlreadyRunning]. It has what the refused call read anyway; call [Inspect] for
// more.
type AlreadyRunningError struct {
	Op   string // what was refused: "acquire", "clean" or "restore"
	Path string // absolute
	PID  int    // from the file; 0 if it names no process, as when flock(1) holds it
	// Locked is true if the file is locked, and false if it is not, but names
	// a live process of the same program: one that writes PID files without
	// locking them, as python-pidfile does.
	Locked bool
}

func (e *AlreadyRunningError) Error() string {
	return fmt.Sprintf("%s %s: already running: %s", e.Op, e.Path, e.holder())
}

func (e *AlreadyRunningError) holder() string {
	if e.PID == 0 {
		return "a process that left no PID"
	}
	return fmt.Sprintf("PID %d", e.PID)
}

// Is reports whether target is ErrAlreadyRunning.
func (e *AlreadyRunningError) Is(target error) bool { return target == ErrAlreadyRunning }
