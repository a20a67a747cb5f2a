package pidfile

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"time"

	"github.com/go-pidfile/pidfile/internal/lock"
	"github.com/go-pidfile/pidfile/internal/proc"
)

// A State is the verdict on a PID file.
type State int

const (
	Absent  State = iota // there is no file
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
	// Locked is true if somebody holds the file's lock. (For locks that cannot
	// be seen see Inspect.)
	Locked bool `json:"locked"`
	// Evidence says, in words, what the verdict rests on.
	Evidence []string `json:"evidence"`

	listed bool // by List: no symbolic link may lead to the path
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
// so, and that a file without a PID was not written within the last 10 seconds: a
// program that does not lock may be writing it. A missing file is Absent, without an error. If nothing can be seen (the
// path is no regular file, a directory may not be searched) the state is Unknown
// and the error says why; where something can be seen, but not enough, the state
// is Unknown, the evidence says why, and the error is nil.
//
// A start that just clears a stale file holds the lock for a moment; Inspect
// looks again for up to 10 ms before it calls such a lock Running. It does the same
// before it calls a file Stale where locks come and go faster than the kernel's
// table of them can be read, and where the file is replaced or unlocked while it
// looks. Otherwise it does not block. It may be called by any goroutine.
//
// In a PID namespace other than the machine's first (in a container), the kernel
// does not show the flock(2) locks of others; those of this package's holders it
// does. There a file that nobody seems to have is Stale only if its file system
// is provably the container's own, a tmpfs, and Unknown if others may have it,
// too. Clean, Find and Acquire, which take a lock, are sure in any case.
//
// Outside Linux it takes a shared lock for an instant, and cannot tell who a
// process is: what is locked is Running, what is not and names a PID is Unknown.
func Inspect(path string) (Status, error) {
	j, err := judge(path, care{})
	return j.status(), err
}

// A judgement is a Status in the making, with what Find needs beyond it.
type judgement struct {
	path     string
	view     lock.View
	state    State
	locked   bool
	proven   bool       // the lock proves that info is the holder
	hidden   bool       // there may be locks that we cannot see
	torn     bool       // or that the table lacked when we read it
	unseen   bool       // Unknown only because of these
	shared   bool       // locked with a shared lock, which keeps every start out
	cause    error      // what the system said, if the file could not be looked at
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

// A care is how much a judgement may cost and disturb.
type care struct {
	table *proc.LockTable // all locks, if they were read already: then one look is enough
	// act is true for those who will act on the process: then a lock is its own
	// only if it has the file open now, where that can be seen, and what may pass
	// is waited for.
	act bool
	ctx context.Context // ends that wait; nil: nothing does
	// direct is true if no symbolic link may lead to the path.
	direct bool
}

// view is what can be seen of the file at path.
func (c *care) view(path string) (lock.View, error) {
	if c.direct {
		return lock.LookDirect(path)
	}
	return lock.Look(path)
}

// judge looks at path until what it sees is not transient.
func judge(path string, c care) (j judgement, err error) {
	j.path = path
	if path == "" {
		j.state = Unknown
		err = &fs.PathError{Op: "inspect", Path: path, Err: errors.New("empty path")}
		j.say("%v", bare(err))
		return j, err
	}
	if abs, err := filepath.Abs(path); err == nil {
		j.path = abs
	}
	if c.ctx == nil {
		c.ctx = context.Background()
	}
	abs, began, d := j.path, time.Now(), transient
	for n := 1; ; n++ {
		long := c.act && d > transient && time.Since(began) < settleTime && c.ctx.Err() == nil
		last := c.table != nil || n >= looks && !long
		j = judgement{path: abs}
		if d, err = j.look(c, last); d == steady {
			return j, err
		}
		if last {
			if c.act && d == changing {
				j.keepsChanging()
			}
			return j, err
		}
		j.pause(c, d, n, began)
	}
}

// A steadiness is whether what was seen can be relied on.
type steadiness int

const (
	steady    steadiness = iota
	transient            // the lock may be that of a start that replaces a stale file
	ending               // the named process has ended, and its lock is still held
	changing             // the file changed while it was looked at
)

const (
	// looks is how often what may be transient is looked at, retryDelay apart.
	looks      = 5
	retryDelay = 2 * time.Millisecond
	// settleTime is how long who acts waits for what is ending or changing: a parent
	// needs a moment to reap its child and give the file back.
	settleTime = 2 * time.Second
)

// pause waits before the next look; where a lock is about to be given back, for
// that.
func (j *judgement) pause(c care, d steadiness, n int, began time.Time) {
	if c.act && d == ending {
		// Not for all of the time: who waits for the lock, too, may get it first,
		// when the file is gone.
		ctx, cancel := context.WithTimeout(c.ctx, min(20*retryDelay, settleTime-time.Since(began)))
		_ = lock.WaitFree(ctx, j.path) // what is wrong the next look tells
		cancel()
	}
	t := time.NewTimer(min(time.Duration(n)*retryDelay/looks+retryDelay, 10*retryDelay))
	defer t.Stop()
	select {
	case <-t.C:
	case <-c.ctx.Done():
	}
}

// keepsChanging makes j the judgement on a file that is another at each look.
func (j *judgement) keepsChanging() {
	j.state, j.info, j.proven = Unknown, nil, false
	j.say("the file keeps changing")
}

// busy is how long after a file was written the descriptors of the process that
// it names are left alone, if nothing is seen of a lock: it may be starting.
const busy = time.Second

// bare is err without the path: evidence is about one file.
func bare(err error) error {
	var e *fs.PathError
	if errors.As(err, &e) {
		return e.Err
	}
	return err
}

// look judges once. The last look spares no cost to tell who has the lock.
func (j *judgement) look(c care, last bool) (steadiness, error) {
	var err error
	j.view, err = c.view(j.path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		j.say("there is no such file")
		return steady, nil
	case err != nil:
		j.state, j.cause = Unknown, bare(err)
		j.say("it cannot be looked at: %v", bare(err))
		return steady, err
	}
	if j.view.Denied != nil {
		j.state, j.cause = Unknown, bare(j.view.Denied)
		j.say("the file cannot be read: %v", bare(j.view.Denied))
		return steady, nil
	}
	given := c.table != nil // older than the view
	if !given {
		c.table = proc.ReadLocks()
	}
	d := j.judgeView(c, last)
	if !given && !j.proven && proc.CanPin && j.changed(c) {
		d = changing
	}
	return d, nil
}

// judgeView judges what was seen of the file, by the table of locks.
func (j *judgement) judgeView(c care, last bool) steadiness {
	j.hidden, j.torn = c.table.Err != nil || !proc.SeesAllLocks(), c.table.Torn
	locks := c.table.On(j.view.ID, j.path)
	if len(locks) == 0 && j.hidden && (c.act || time.Since(j.view.Written) > busy) {
		_, locks, _ = proc.Opened(j.view.PID, j.view.ID) // that of the named process may be left out
	}
	if j.locked = j.view.Marked || proc.Exclusive(locks); !j.locked {
		j.judgeUnlocked()
		if j.view.Blind && j.state == Stale {
			j.state = Unknown // a file without a PID, too, may be locked
		}
		if len(locks) == 0 && j.state == Stale && j.hidden {
			locks = j.judgeUnseen(c.table)
		}
	}
	switch {
	case j.locked:
		j.state = Running
		return j.judgeLocked(c, locks, last)
	case proc.Blocks(locks) && j.state != Running: // shared ones
		j.state, j.shared = Unknown, true
		j.say("a shared lock on it keeps every start out")
		j.sayHolders(c.table, locks)
		return transient
	case j.state == Stale && j.torn:
		return transient
	}
	return steady
}

// changed reports whether the path names another file by now, or its text or its
// lock is another: then what was seen of the processes may be of another moment.
func (j *judgement) changed(c care) bool {
	now, err := c.view(j.path)
	if err != nil {
		return errors.Is(err, fs.ErrNotExist)
	}
	if now.ID != j.view.ID || now.PID != j.view.PID || now.Marked != j.view.Marked {
		return true
	}
	return j.locked && !now.Marked && !j.hidden && !proc.Exclusive(proc.ReadLocks().On(now.ID, j.path))
}

// judgeUnseen judges a file that is stale but for locks that /proc/locks leaves
// out here (see proc.SeesAllLocks). It returns those that can be seen otherwise.
func (j *judgement) judgeUnseen(table *proc.LockTable) (locks []proc.Lock) {
	for _, o := range table.Openers(j.view.ID) {
		locks = append(locks, o.Locks...)
	}
	switch {
	case proc.Exclusive(locks):
		j.locked, j.evidence = true, nil
	case len(locks) > 0:
	case table.Err != nil:
		j.state, j.unseen = Unknown, true
		j.say("the table of locks cannot be read: %v", table.Err)
	case proc.Secluded(j.path):
		j.say("its file system is this container's own: nobody outside can have locked it")
	default:
		j.state, j.unseen = Unknown, true
		j.say("somebody outside may have locked it: the locks of other PID namespaces cannot be seen from here, and only a start or clean, which take the lock, can tell")
	}
	return locks
}

// settle makes sure of a file that is Unknown only because of locks that cannot
// be seen, or Stale where they come and go too fast. It takes a shared lock for an
// instant.
func (j *judgement) settle() {
	switch {
	case j.unseen && lock.Free(j.path):
		j.state, j.unseen = Stale, false
		j.say("but it could be locked: nobody has it")
	case j.state == Stale && j.torn && !lock.Free(j.path):
		j.state = Unknown
		j.say("but it cannot be locked: somebody has it")
	}
}

// judgeLocked finds out whether the process that the text names has the lock.
// If that cannot be proven, the last look tells who has it.
func (j *judgement) judgeLocked(c care, locks []proc.Lock, last bool) steadiness {
	pid := j.view.PID
	i, err := proc.Lookup(pid)
	if err == nil && !i.Hidden && !i.Zombie() {
		if why := j.proof(&i, locks, c.act); why != "" {
			j.info, j.proven = &i, true
			j.say("the file is locked, and %s", why)
			return steady
		}
	}
	d := transient
	switch {
	case c.act && pid != 0 && (err == proc.ErrGone || err == nil && i.Zombie()):
		d = ending
	case j.view.Marked:
		d, last = steady, true // nobody has that lock for a moment only
	}
	if !last {
		return d
	}
	if pid == 0 {
		j.say("the file is locked by a process that it does not name")
	} else {
		j.say("the file is locked, but not provably by the process that it names")
	}
	j.sayNamed()
	j.sayHolders(c.table, locks)
	return d
}

// proof says why i is the holder, "" if that is not proven.
//
// Mostly the table of locks is enough: i took the lock, and has had its PID since
// before the file was written. Then i's descriptors are not looked at, since that
// can disturb it (see proc.Opened). Who will act on i wants to see the lock.
func (j *judgement) proof(i *proc.Info, locks []proc.Lock, act bool) string {
	took := func(pid int) bool {
		return slices.ContainsFunc(locks, func(l proc.Lock) bool { return l.Write && l.PID == pid })
	}
	clock := proc.ReadClock()
	if !act && took(i.PID) && clock.Preceded(i.Start, j.view.Written) {
		return fmt.Sprintf("PID %d took the lock", i.PID)
	}
	holds, seen := proc.Holds(i.PID, j.view.ID)
	if holds {
		return fmt.Sprintf("PID %d has the file open with the lock", i.PID)
	}
	if clock.Judge(i.Start, j.view.Written) != proc.Existed {
		return "" // whoever took the lock or was started under it, it was not this process
	}
	if !seen && took(i.PID) {
		return fmt.Sprintf("PID %d took the lock", i.PID)
	}
	if i.PPID > 0 {
		holds, seen = proc.Holds(i.PPID, j.view.ID)
		if holds || !seen && took(i.PPID) {
			return fmt.Sprintf("PID %d is a child of PID %d, which holds the lock", i.PID, i.PPID)
		}
	}
	return ""
}

// sayHolders says who has the lock: whoever took it, if that one still has it,
// else all who have it.
func (j *judgement) sayHolders(table *proc.LockTable, locks []proc.Lock) {
	said := false
	say := func(pid int) {
		j.say("the lock is held by %s", holderName(pid))
		said = true
	}
	var takers []int
	for _, l := range locks {
		if (l.Write || l.Kind == "FLOCK") && l.PID > 0 && !slices.Contains(takers, l.PID) {
			takers = append(takers, l.PID)
		}
	}
	for _, pid := range takers {
		if _, locks, _ := proc.Opened(pid, j.view.ID); proc.Blocks(locks) {
			say(pid)
		}
	}
	if said {
		return
	}
	for _, o := range table.Openers(j.view.ID) {
		if proc.Blocks(o.Locks) {
			say(o.PID)
		}
	}
	switch {
	case said:
	case len(takers) > 0:
		j.say("the lock was taken by %s; whether that has it still cannot be seen", holderName(takers[0]))
	default:
		j.say("no process that is visible from here has the lock: another PID namespace, another host or another user's process does")
	}
}

// name describes a process in a few words. What it calls itself is its user's
// text, and must not talk to a terminal.
func name(i *proc.Info) string {
	if len(i.Args) == 0 {
		return fmt.Sprintf("PID %d", i.PID)
	}
	quoted := strconv.Quote(filepath.Base(i.Args[0]))
	return fmt.Sprintf("PID %d (%s)", i.PID, quoted[1:len(quoted)-1])
}

// nameOf is name for a PID.
func nameOf(pid int) string {
	i, _ := proc.Lookup(pid) // of one that has ended only the PID is known
	return name(&i)
}

// holderName is nameOf with the user.
func holderName(pid int) string {
	i, err := proc.Lookup(pid)
	if err != nil || i.Hidden {
		return name(&i)
	}
	p := describe(&i)
	return name(&i) + ", user " + cmp.Or(p.User, strconv.Itoa(p.UID))
}

// sayNamed says what is the matter with the named process.
func (j *judgement) sayNamed() {
	pid := j.view.PID
	switch i, err := proc.Lookup(pid); {
	case pid == 0 && j.view.Empty:
		j.say("the file is empty")
	case pid == 0 && j.view.Minus != 0:
		j.say("the first line of the file is no PID, but one with a minus sign, as postgres --single writes it")
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
		j.say("%s is alive", name(&i))
	}
}

// judgeUnlocked judges a file that nobody has locked as far as can be seen.
func (j *judgement) judgeUnlocked() {
	if why := j.view.NotPIDFile; why != "" {
		j.state, j.cause = Unknown, ErrMalformed
		j.say("it is not a PID file: %s", why)
		return
	}
	pid := j.view.PID
	switch {
	case j.view.Blind:
		j.say("whether the file is locked cannot be told on this file system or system")
	case j.hidden:
		j.say("the file is not locked, as far as can be seen from here")
	default:
		j.say("the file is not locked")
	}
	j.state = Stale
	if pid == 0 {
		j.sayNamed()
		j.judgeMinus()
		if time.Since(j.view.Written).Abs() < young {
			j.state = Unknown
			j.say("it was written only just now, and may get its PID yet")
		}
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

// young is how recently a file without a PID may have been written and not be called
// stale: a program that does not lock may be writing it.
const young = 10 * time.Second

// judgeMinus judges a file that has a PID behind a minus sign: a start replaces
// it, but it is no stale file while its writer lives.
func (j *judgement) judgeMinus() {
	i, err := proc.Lookup(j.view.Minus)
	switch {
	case i.PID <= 1 || err == proc.ErrGone || i.Zombie(): // 1 is too often no PID at all
	case err != nil || i.Hidden || proc.ReadClock().Judge(i.Start, j.view.Written) <= proc.Unclear:
		j.state = Unknown
		j.say("%s is alive and may have written it", name(&i))
	}
}

// judgeAge tells whether i can have written the file.
func (j *judgement) judgeAge(i *proc.Info) {
	clock := proc.ReadClock()
	switch clock.Judge(i.Start, j.view.Written) {
	case proc.Existed:
		j.state, j.info = Running, i
		j.say("%s is alive and existed when the file was written", name(i))
	case proc.Unclear:
		j.state = Unknown
		j.say("%s is alive, and started so soon after the file was written that the clocks cannot tell whether the PID was reused", name(i))
	case proc.BeforeBoot:
		j.say("the file is from before this boot: %s has the PID by chance", name(i))
	default:
		later := clock.StartTime(i.Start).Sub(j.view.Written).Round(time.Second)
		j.say("%s is alive, but started %v after the file was written: the PID was reused", name(i), later)
	}
}
