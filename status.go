package pidfile

import (
	"errors"
	"fmt"
	"io/fs"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"

	"github.com/go-pidfile/pidfile/internal/lock"
	"github.com/go-pidfile/pidfile/internal/proc"
)

// A State is the verdict on a PID file.
type State int

const (
	Absent  State = iota // there is no file
	Running              // its holder lives, or something holds its lock
	Stale                // it is a left-over: the next start replaces it
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

// A Status is the truth about a PID file at one moment.
type Status struct {
	Path  string `json:"path"` // absolute
	State State  `json:"state"`
	// PID is what the file says, 0 if that is no PID.
	PID int `json:"pid,omitempty"`
	// Process is the live process that has PID, if it is the holder: proven
	// by the lock, or, if the file is not locked, because it existed when the
	// file was written. It is nil otherwise.
	Process *ProcessInfo `json:"process,omitempty"`
	// Locked is true if somebody holds the file's lock.
	Locked bool `json:"locked"`
	// Evidence says, in words, what the verdict rests on.
	Evidence []string `json:"evidence"`
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

// Inspect tells the truth about the PID file at path, with evidence. It takes
// no lock, so it never makes a start fail, and it signals nobody.
//
// Running means that the file is locked, or that it is not but names a live
// process that existed when the file was written. Stale means that neither is
// so. A missing file is Absent, without an error. If nothing can be seen (the
// path is no regular file, a directory may not be searched) the state is Unknown
// and the error says why; where something can be seen, but not enough, the state
// is Unknown, the evidence says why, and the error is nil.
//
// A start that just clears a left-over holds the lock for a moment; Inspect
// looks again for up to 10 ms before it calls such a lock Running. Otherwise it
// does not block. It may be called by any goroutine.
//
// Outside Linux it takes a shared lock for an instant, and cannot tell who a
// process is: what is locked is Running, what is not and names a PID is Unknown.
func Inspect(path string) (Status, error) {
	j, err := judge(path, nil)
	return j.status(), err
}

// A judgement is a Status in the making, with what Find needs beyond it.
type judgement struct {
	path     string
	view     lock.View
	state    State
	locked   bool
	proven   bool       // the lock proves that info is the holder
	info     *proc.Info // the holder, nil if it is not known
	evidence []string
}

func (j *judgement) say(format string, args ...any) {
	j.evidence = append(j.evidence, fmt.Sprintf(format, args...))
}

func (j *judgement) status() Status {
	s := Status{Path: j.path, State: j.state, PID: j.view.PID, Locked: j.locked, Evidence: j.evidence}
	if j.info != nil {
		s.Process = describe(j.info)
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

// judge looks at path until what it sees is no longer only a moment's. Given a
// table of all locks it looks once.
func judge(path string, table *proc.LockTable) (j judgement, err error) {
	j.path = path
	if path == "" {
		j.state = Unknown
		err = &fs.PathError{Op: "inspect", Path: path, Err: errors.New("empty path")}
		j.say("%v", err)
		return j, err
	}
	if abs, err := filepath.Abs(path); err == nil {
		j.path = abs
	}
	abs := j.path
	for range 5 {
		var doubtful bool
		j = judgement{path: abs}
		if doubtful, err = j.look(table); !doubtful || table != nil {
			break
		}
		time.Sleep(2 * time.Millisecond)
	}
	return j, err
}

// look judges once. It is doubtful if the lock may be that of somebody who just
// clears a left-over, or only looks.
func (j *judgement) look(table *proc.LockTable) (doubtful bool, err error) {
	j.view, err = lock.Look(j.path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		j.say("there is no such file")
		return false, nil
	case err != nil:
		j.state = Unknown
		j.say("%v", err)
		return false, err
	}
	if j.view.Denied != nil {
		j.state = Unknown
		j.say("the file cannot be read: %v", j.view.Denied)
		return false, nil
	}
	if table == nil {
		t := proc.ReadLocks()
		table = &t
	}
	id := proc.FileID(j.view.ID)
	locks := table.On(id)
	j.locked = j.view.Marked
	for _, l := range locks {
		j.locked = j.locked || l.Write
	}
	if j.locked {
		j.state = Running
		return j.judgeLocked(id, locks) && !j.view.Marked, nil
	}
	j.judgeUnlocked()
	if len(locks) > 0 && j.state != Running { // shared ones, or Write would have said so
		j.state = Unknown
		j.say("somebody holds a shared lock on it, which keeps every start out")
		return true, nil
	}
	return false, nil
}

// judgeLocked finds out whether the process that the text names has the lock.
// It returns true if that could not be proven.
func (j *judgement) judgeLocked(id proc.FileID, locks []proc.Lock) (unproven bool) {
	pid := j.view.PID
	if pid != 0 {
		if i, err := proc.Lookup(pid); err == nil && !i.Hidden && !i.Zombie() {
			if why := j.proof(&i, id, locks); why != "" {
				j.info, j.proven = &i, true
				j.say("the file is locked, and %s", why)
				return false
			}
		}
	}
	j.say("the file is locked, but not provably by the process that it names")
	j.sayNamed()
	if who := holders(id); len(who) > 0 {
		for _, o := range who {
			j.say("the lock is held by %s, which has the file open", name(o.PID))
		}
		return true
	}
	for _, l := range locks {
		if l.PID > 0 {
			j.say("the lock was taken by %s", name(l.PID))
			return true
		}
	}
	j.say("no process that is visible from here has the lock: another PID namespace, another host or another user's process does")
	return true
}

// proof says why i is the holder, "" if that is not proven.
func (j *judgement) proof(i *proc.Info, id proc.FileID, locks []proc.Lock) string {
	if proc.Holds(i.PID, id) {
		return fmt.Sprintf("PID %d has the file open with the lock", i.PID)
	}
	if proc.ReadClock().Judge(i.Start, j.view.Written) != proc.Existed {
		return "" // whoever took the lock or was started under it, it was not this process
	}
	took := func(pid int) bool {
		return slices.ContainsFunc(locks, func(l proc.Lock) bool { return l.Write && l.PID == pid })
	}
	switch {
	case took(i.PID):
		return fmt.Sprintf("PID %d took the lock", i.PID)
	case i.PPID > 0 && (proc.Holds(i.PPID, id) || took(i.PPID)):
		return fmt.Sprintf("PID %d is a child of PID %d, which holds the lock", i.PID, i.PPID)
	}
	return ""
}

// holders returns the visible processes that hold a lock on id.
func holders(id proc.FileID) []proc.Opener {
	return slices.DeleteFunc(proc.Openers(id), func(o proc.Opener) bool { return !o.Writes() })
}

// name describes a process in a few words.
func name(pid int) string {
	i, err := proc.Lookup(pid)
	if err != nil || len(i.Args) == 0 {
		return fmt.Sprintf("PID %d", pid)
	}
	return fmt.Sprintf("PID %d (%s)", pid, printable(filepath.Base(i.Args[0])))
}

// printable replaces what could talk to a terminal: a process's name is its
// user's text.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if r == unicode.ReplacementChar || !unicode.IsPrint(r) {
			return '?'
		}
		return r
	}, s)
}

// sayNamed says what is the matter with the named process.
func (j *judgement) sayNamed() {
	pid := j.view.PID
	switch i, err := proc.Lookup(pid); {
	case pid == 0 && j.view.Empty:
		j.say("the file is empty")
	case pid == 0:
		j.say("the first line of the file is no PID")
	case err == proc.ErrGone:
		j.say("no process has PID %d", pid)
	case err != nil:
		j.say("PID %d cannot be looked up: %v", pid, err)
	case i.Hidden:
		j.say("PID %d is alive, but hidden from us (hidepid)", pid)
	case i.Zombie():
		j.say("PID %d has ended and only waits to be reaped", pid)
	default:
		j.say("%s is alive", name(pid))
	}
}

// judgeUnlocked judges a file that nobody has locked.
func (j *judgement) judgeUnlocked() {
	pid := j.view.PID
	if j.view.Blind {
		j.say("whether the file is locked cannot be told on this file system or system")
	} else {
		j.say("the file is not locked")
	}
	j.state = Stale
	if pid == 0 {
		j.sayNamed()
		return
	}
	i, err := proc.Lookup(pid)
	switch {
	case err == proc.ErrGone || err == nil && i.Zombie():
		j.sayNamed()
	case err != nil || i.Hidden:
		j.state = Unknown
		j.sayNamed()
	case i.Kernel():
		j.say("PID %d is a thread of the kernel, which writes no PID files", pid)
	case pid == self:
		j.say("PID %d is this process itself, which does not hold the file", pid)
	default:
		j.judgeAge(&i)
	}
	if j.view.Blind && j.state == Stale {
		j.state = Unknown
	}
}

// judgeAge tells whether i can have written the file.
func (j *judgement) judgeAge(i *proc.Info) {
	clock := proc.ReadClock()
	switch clock.Judge(i.Start, j.view.Written) {
	case proc.Existed:
		j.state, j.info = Running, i
		j.say("%s is alive and existed when the file was written", name(i.PID))
	case proc.Unclear:
		j.state = Unknown
		j.say("%s is alive, and started so soon after the file was written that the clocks cannot tell whether the PID was reused", name(i.PID))
	case proc.BeforeBoot:
		j.say("the file is from before this boot: %s has the PID by chance", name(i.PID))
	default:
		later := clock.StartTime(i.Start).Sub(j.view.Written).Round(time.Second)
		j.say("%s is alive, but started %v after the file was written: the PID was reused", name(i.PID), later)
	}
}

// An Opener is a process that has a PID file open.
type Opener struct {
	Process *ProcessInfo `json:"process"`
	// Holds is true if one of its descriptors has the lock, which it took
	// itself or inherited: as long as it keeps that open, the file is held.
	Holds bool `json:"holds"`
}

// Openers returns the processes that have the PID file at path open, as far as
// we may see them (root sees all of its PID namespace's), in the order of their
// PIDs. It looks through all of /proc, so it is slow; outside Linux it returns
// none. It tells who keeps a file locked that nobody seems to hold.
func Openers(path string) ([]Opener, error) {
	view, err := lock.Look(path)
	if err != nil {
		return nil, err
	}
	var all []Opener
	for _, o := range proc.Openers(proc.FileID(view.ID)) {
		i, err := proc.Lookup(o.PID)
		if err != nil || i.Hidden {
			continue // ended since
		}
		all = append(all, Opener{describe(&i), o.Writes()})
	}
	return all, nil
}
