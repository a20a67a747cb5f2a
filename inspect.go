package pidfile

import (
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/go-pidfile/pidfile/internal/lock"
	"github.com/go-pidfile/pidfile/internal/names"
	"github.com/go-pidfile/pidfile/internal/proc"
)

// A State is the verdict on a PID file.
type State int

const (
	Absent  State = iota // the file does not exist
	Running              // its holder lives, or something holds its lock
	Stale                // it is a stale file: the next start replaces it
	Unknown              // it cannot be told; never rounded to Stale
)

var stateNames = [...]string{"absent", "running", "stale", "unknown"}

// String returns the state in lower case.
func (s State) String() string {
	if s < 0 || int(s) >= len(stateNames) {
		return "State(" + strconv.Itoa(int(s)) + ")"
	}
	return stateNames[s]
}

// MarshalText returns the state in lower case.
func (s State) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// UnmarshalText reads what MarshalText wrote.
func (s *State) UnmarshalText(text []byte) error {
	for i, name := range stateNames {
		if name == string(text) {
			*s = State(i)
			return nil
		}
	}
	return fmt.Errorf("unknown state %q", text)
}

// A Status is what [Inspect] found out about a PID file.
type Status struct {
	Path  string `json:"path"` // absolute
	State State  `json:"state"`
	// PID is the one in the file, 0 if its text is not a PID.
	PID int `json:"pid,omitempty"`
	// Process is the live process that has PID, if it is the holder: proven
	// by the lock, or, if the file is not locked, because it existed when the
	// file was written. It is nil otherwise.
	Process *ProcessInfo `json:"process,omitempty"`
	// Locked is true if a process holds the file's lock. (For locks that cannot
	// be seen see Inspect.)
	Locked bool `json:"locked"`
	// Doubt says why the Process of a file that is not locked may be another than its
	// writer: then Find does not act on it. "" if nothing speaks against it.
	Doubt string `json:"doubt,omitempty"`
	// Evidence is what the verdict rests on, in words.
	Evidence []string `json:"evidence"`

	holders []int // for each line of Evidence, see EvidenceHolder
	listed  bool  // by List: no symbolic link may lead to the path
}

// EvidenceHolder returns the PID of the process of which line i of s.Evidence states
// that it has the lock, and nothing else; 0 if that line states something else.
func (s Status) EvidenceHolder(i int) int {
	if i >= len(s.holders) {
		return 0
	}
	return s.holders[i]
}

// A ProcessInfo describes a process.
type ProcessInfo struct {
	PID        int       `json:"pid"`
	Args       []string  `json:"args,omitempty"`       // its command line
	Executable string    `json:"executable,omitempty"` // "" where we may not look
	UID        int       `json:"uid"`
	User       string    `json:"user,omitempty"` // "" if the user has no name
	Started    time.Time `json:"started"`        // in steps of 10 ms
}

// Inspect tells whether the PID file at path has a holder, with the evidence. It takes
// no lock, so it never makes a start fail, and it sends no signal.
//
// Running means that the file is locked, or that it is not but names a live
// process that existed when the file was written. Stale means that neither is
// so. A missing file is Absent, without an error. If nothing can be seen (the
// path is not a regular file, a directory may not be searched) the state is Unknown
// and the error says why; where something can be seen, but not enough, the state
// is Unknown, the evidence says why, and the error is nil.
//
// A start that is replacing a stale file holds the lock for an instant; Inspect
// looks again for up to 10 ms before it calls such a lock Running. It does the same
// before it calls a file Stale where locks come and go faster than the kernel's
// table of them can be read. Otherwise it does not block. It may be called by any
// goroutine.
//
// In a PID namespace other than the machine's first (in a container), the kernel
// does not show the flock(2) locks of others; those of this package's holders it
// does. There a file that seems to have no holder is Stale only if its file system
// is provably the container's own, a tmpfs, and Unknown if others may have it,
// too. Clean, Find and Acquire, which take a lock, are sure in any case.
//
// Outside Linux it takes a shared lock for an instant, and cannot tell which program
// a process runs: what is locked is Running, what is not and names a PID is Unknown.
func Inspect(path string) (Status, error) {
	v, err := examine(path, mode{})
	return v.status(), err
}

// status is the verdict as Inspect returns it.
func (v *verdict) status() Status {
	s := Status{Path: v.path, State: v.state, PID: v.view.PID, Locked: v.locked, Doubt: v.doubt}
	for _, e := range v.evidence {
		s.Evidence = append(s.Evidence, e.text)
		s.holders = append(s.holders, e.holder)
	}
	if v.info != nil {
		s.Process = describe(v.info)
	}
	return s
}

func describe(i *proc.Info) *ProcessInfo {
	p := &ProcessInfo{PID: i.PID, Args: i.Args, Executable: i.Exe, UID: i.UID, Started: proc.ReadClock().StartTime(i.Start).Round(10 * time.Millisecond)}
	if u, err := user.LookupId(strconv.Itoa(i.UID)); err == nil {
		p.User = u.Username
	}
	return p
}

// List inspects every regular file below dirs whose name is "pid" or ends in ".pid" or
// ".pid.oldbin", as nginx names that of a program it replaces, in lexical order; without dirs below those in which [Path] puts files (as root also below
// those of other users) and, if that is set, below $XDG_RUNTIME_DIR. Symbolic links are
// followed in dirs only, not below them.
//
// Each pair is what Inspect would return, by the locks as they were when
// List began. A directory that cannot be read is a pair too: Unknown, its path,
// and the error. Nothing is fatal.
func List(dirs ...string) iter.Seq2[Status, error] {
	if len(dirs) == 0 {
		dirs = names.Dirs()
		// Mostly below /run, where it is met anyway.
		if own := os.Getenv("XDG_RUNTIME_DIR"); own != "" && !strings.HasPrefix(own, "/run/") {
			dirs = append(dirs, own)
		}
	}
	return func(yield func(Status, error) bool) {
		table := proc.ReadLocks()
		for _, dir := range dirs {
			if !list(dir, table, yield) {
				return
			}
		}
	}
}

// list lists one directory. It returns false if yield did.
func list(dir string, table *proc.LockTable, yield func(Status, error) bool) bool {
	if abs, err := filepath.Abs(dir); err == nil {
		dir = abs
	}
	if real, err := filepath.EvalSymlinks(dir); err == nil {
		dir = real // as /var/run is
	}
	more := true
	_ = filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			s := Status{Path: path, State: Unknown, Evidence: []string{err.Error()}}
			more = yield(s, err)
		case d.Type().IsRegular() && isListed(d.Name()):
			v, err := examine(path, mode{table: table, direct: true})
			if v.state == Absent {
				return nil // gone since
			}
			s := v.status()
			s.listed = true
			more = yield(s, err)
		}
		if !more {
			return fs.SkipAll
		}
		return nil
	})
	return more
}

// isListed reports whether List takes a file of that name for a PID file.
func isListed(name string) bool {
	return name == "pid" || strings.HasSuffix(name, ".pid") || strings.HasSuffix(name, ".pid.oldbin")
}

// fresh is how young a file whose text is not a PID may be and not be cleaned: a
// program that does not lock may be writing it.
const fresh = 10 * time.Second

// Clean removes the file at path if it is proven stale, and does it under its
// lock, so that no start is disturbed. The error, an [*fs.PathError] or an
// [*AlreadyRunningError], matches
//   - [fs.ErrNotExist] if the file does not exist,
//   - [ErrAlreadyRunning] if it is not stale,
//   - [ErrUnproven] if that cannot be told, or if its text is not a PID and it was
//     written less than 10 seconds ago,
//   - syscall.ELOOP, EISDIR or EINVAL if path names a symbolic link, a directory
//     or anything else that is not a regular file; ENOTDIR if its directory is not one,
//   - [fs.ErrPermission] if the caller may not read or may not remove it; EROFS if the
//     file system is read-only; ENOLCK if the file system has no locks,
//   - [errors.ErrUnsupported] on systems without flock(2),
//
// or another error of the system. Then nothing has changed.
//
// Clean does not block, beyond what Inspect does. It may be called by any
// goroutine.
func Clean(path string) error { return clean(path, false) }

// Clean is Clean(s.Path). If s is from List, it is done only if no symbolic link
// has come into the path since: a user who can change a directory that List went
// through cannot have a file removed elsewhere.
func (s Status) Clean() error { return clean(s.Path, s.listed) }

func clean(path string, direct bool) error {
	v, err := examine(path, mode{direct: direct})
	switch {
	case err != nil:
		return err
	case v.state == Absent:
		return &fs.PathError{Op: "clean", Path: v.path, Err: fs.ErrNotExist}
	case v.state == Running:
		return v.running()
	case v.state == Unknown && !v.lockTells:
		return v.refuse("clean", ErrUnproven)
	}
	remove := lock.Remove
	if direct {
		remove = lock.RemoveDirect
	}
	err = remove(v.path, func(view lock.View) error {
		under := decide(gatherLocked(v.path, view))
		if under.state == Running {
			return under.running()
		}
		if view.PID == 0 && time.Since(view.Written).Abs() < fresh {
			under.state = Unknown
			under.addEvidence("it was written only just now")
		}
		if under.state != Stale {
			return under.refuse("clean", ErrUnproven)
		}
		return nil
	})
	if errors.Is(err, lock.ErrHeld) {
		v.locked = true // since we looked
		return v.running()
	}
	return err
}

// running is Clean's error for a file that has a holder.
func (v *verdict) running() error {
	return &AlreadyRunningError{Op: "clean", Path: v.path, PID: v.view.PID, Locked: v.locked}
}
