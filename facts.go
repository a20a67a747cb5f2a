package pidfile

import (
	"cmp"
	"context"
	"errors"
	"io/fs"
	"path/filepath"
	"slices"
	"strconv"
	"time"

	"github.com/go-pidfile/pidfile/internal/lock"
	"github.com/go-pidfile/pidfile/internal/proc"
)

// facts are all that a verdict on a file rests on. What costs little is gathered at
// once; what costs more, or disturbs (see proc.Opened), only when decide needs it.
type facts struct {
	path string // absolute
	mode mode
	self int // our PID

	view      lock.View
	viewErr   error // why the file could not be looked at
	table     *proc.LockTable
	gaps      proc.Gaps   // why a lock may not have been seen
	tableErr  error       // why the table of locks could not be read
	locks     []proc.Lock // those that were seen
	named     process     // has the PID that the file names
	minus     process     // has the PID behind a minus sign, if that is the text
	hiddenWhy string      // if it is
	clock     proc.Clock
	fits      bool // the named process's program has the file's name
	asked     bool // or is the one that the caller named

	known factSet // which of these were gathered
	// What locks the named process, and its parent, have on the file.
	namedHolds, parentHolds holding
	openers                 []opener // which processes have the file open
	takers                  []opener // which processes took the locks
	secluded                bool     // the file system is this container's own
}

// A process is what is known of a PID.
type process struct {
	info proc.Info
	err  error // proc.ErrGone, or why it could not be looked up
}

// gone reports whether no process has the PID, or one that only waits to be reaped.
func (p *process) gone() bool { return p.err == proc.ErrGone || p.err == nil && p.info.Zombie() }

// A holding is what a process has of the file.
type holding struct {
	holds bool // it has it open with an exclusive lock
	seen  bool // that could be seen
}

// An opener is a process that has the file open, or took a lock on it.
type opener struct {
	pid   int
	locks []proc.Lock // held through its descriptors
	name  string
}

// A factSet is a set of the facts that are gathered only when they are needed.
type factSet uint8

const (
	factNamedHolds factSet = 1 << iota
	factParentHolds
	factOpeners
	factTakers
	factSecluded
)

// A mode is how much it may cost and disturb to look at a file.
type mode struct {
	table *proc.LockTable // all locks, if they were read already: then one look is enough
	// act is true for a caller that will act on the process: then a lock is the
	// process's own only if that has the file open now, where that can be seen, and
	// what may be transient is waited for.
	act bool
	ctx context.Context // ends that wait; nil: nothing does
	// direct is true if no symbolic link may lead to the path.
	direct bool
	finder Finder // what the caller knows of the process
}

// view is what can be seen of the file at path.
func (m *mode) view(path string) (lock.View, error) {
	if m.direct {
		return lock.LookDirect(path)
	}
	return lock.Look(path)
}

const (
	// looks is how often what may be transient is looked at, retryDelay apart.
	looks      = 5
	retryDelay = 2 * time.Millisecond
	// retryFor is how long a caller that will act waits for what is ending or
	// changing: a parent needs a while to reap its child and give the file back.
	retryFor = 2 * time.Second
)

// examine looks at path until what it sees is not transient.
func examine(path string, m mode) (v verdict, err error) {
	if path == "" {
		err = &fs.PathError{Op: "inspect", Path: path, Err: errors.New("empty path")}
		v = verdict{path: path, state: Unknown}
		v.addEvidence("%v", bare(err))
		return v, err
	}
	if abs, err := filepath.Abs(path); err == nil {
		path = abs
	}
	if m.ctx == nil {
		m.ctx = context.Background()
	}
	began := time.Now()
	for n := 1; ; n++ {
		long := m.act && v.steadiness > transient && time.Since(began) < retryFor && m.ctx.Err() == nil
		last := m.table != nil || n >= looks && !long
		v, err = look(path, m, last)
		switch {
		case v.steadiness == steady:
			return v, err
		case last && m.act && v.steadiness == changing:
			v.keepsChanging()
			return v, err
		case last:
			return v, err
		}
		waitRetry(m, &v, n, began)
	}
}

// look gathers the facts once, and decides. Only the last look gathers what it takes
// to tell the holders of a lock that may be transient.
func look(path string, m mode, last bool) (verdict, error) {
	f := gather(path, m)
	v := decide(f)
	for v.need != 0 && (last || v.steadiness == steady) {
		f.gatherMore(v.need)
		v = decide(f)
	}
	if f.read() && m.table == nil && !v.proven && proc.CanPin && f.changed() {
		v.steadiness = changing
	}
	if v.state == Absent {
		return v, nil
	}
	return v, f.viewErr
}

// waitRetry waits before the next look; where a lock is about to be given back, for
// that.
func waitRetry(m mode, v *verdict, n int, began time.Time) {
	if m.act && v.steadiness == ending {
		// Not for all of the time: another that waits for the lock may get it first,
		// when the file is gone.
		ctx, cancel := context.WithTimeout(m.ctx, min(20*retryDelay, retryFor-time.Since(began)))
		_ = lock.WaitFree(ctx, v.path) // what is wrong the next look tells
		cancel()
	}
	t := time.NewTimer(min(time.Duration(n)*retryDelay/looks+retryDelay, 10*retryDelay))
	defer t.Stop()
	select {
	case <-t.C:
	case <-m.ctx.Done():
	}
}

// leaveAlone is how long after a file was written the descriptors of the process that
// it names are not looked at, if no lock is seen: it may be starting.
const leaveAlone = time.Second

// gather looks at the file at path, its locks, and the process that it names.
func gather(path string, m mode) *facts {
	f := &facts{path: path, mode: m, self: self, table: m.table}
	if f.view, f.viewErr = m.view(path); !f.read() {
		return f
	}
	if f.table == nil {
		f.table = proc.ReadLocks()
	}
	f.gaps, f.tableErr = f.table.Gaps, f.table.Err
	f.locks = f.table.On(f.view.ID, path)
	if len(f.locks) == 0 && f.gaps.Any(proc.GapHidden) && (m.act || time.Since(f.view.Written) > leaveAlone) {
		_, f.locks, _ = proc.Opened(f.view.PID, f.view.ID) // that of the named process may be left out
	}
	f.gatherProcess()
	return f
}

// gatherLocked is gather for a file that we have locked: no other lock is on it.
func gatherLocked(path string, view lock.View) *facts {
	f := &facts{path: path, self: self, view: view}
	f.gatherProcess()
	return f
}

// read reports whether the file could be looked at, and read.
func (f *facts) read() bool { return f.viewErr == nil && f.view.TextErr == nil }

// gatherProcess looks up the process that the file names.
func (f *facts) gatherProcess() {
	if f.view.OFDErr != nil {
		f.gaps |= proc.GapFileSystem
	}
	f.named, f.minus = lookup(f.view.PID), lookup(f.view.Minus)
	if f.named.err == nil || f.minus.err == nil {
		f.clock = proc.ReadClock()
	}
	if f.named.info.Hidden || f.minus.info.Hidden {
		f.hiddenWhy = proc.HiddenWhy()
	}
	if f.named.err == nil {
		f.fits = f.named.info.FitsName(f.path)
		f.asked = f.mode.finder.Program != "" && runsProgram(&f.named.info, f.mode.finder.Program)
	}
}

func lookup(pid int) process {
	if pid == 0 {
		return process{err: proc.ErrGone}
	}
	i, err := proc.Lookup(pid)
	return process{i, err}
}

// gatherMore gathers one of the facts that cost more.
func (f *facts) gatherMore(need factSet) {
	switch need {
	case factNamedHolds:
		f.namedHolds = holdingOf(f.named.info.PID, f.view.ID)
	case factParentHolds:
		f.parentHolds = holdingOf(f.named.info.PPID, f.view.ID)
	case factOpeners:
		for _, o := range f.table.Openers(f.view.ID) {
			f.openers = append(f.openers, newOpener(o.PID, o.Locks))
		}
	case factTakers:
		locks := f.locks
		if len(locks) == 0 {
			locks = f.openersLocks()
		}
		for _, pid := range takers(locks) {
			_, locks, _ := proc.Opened(pid, f.view.ID)
			f.takers = append(f.takers, newOpener(pid, locks))
		}
	case factSecluded:
		f.secluded = proc.Secluded(f.path)
	}
	f.known |= need
}

func holdingOf(pid int, id lock.ID) (h holding) {
	h.holds, h.seen = proc.Holds(pid, id)
	return h
}

func newOpener(pid int, locks []proc.Lock) opener {
	return opener{pid, locks, holderName(pid)}
}

// openersLocks are the locks that were found in the openers' descriptors.
func (f *facts) openersLocks() (locks []proc.Lock) {
	for _, o := range f.openers {
		locks = append(locks, o.locks...)
	}
	return locks
}

// takers returns the PIDs of the processes that took locks which keep starts out.
func takers(locks []proc.Lock) (pids []int) {
	for _, l := range locks {
		if (l.Write || l.Kind == "FLOCK") && l.PID > 0 && !slices.Contains(pids, l.PID) {
			pids = append(pids, l.PID)
		}
	}
	return pids
}

// changed reports whether the path names another file by now, or its text or its
// lock is another: then what was seen of the processes may be of another time.
func (f *facts) changed() bool {
	now, err := f.mode.view(f.path)
	if err != nil {
		return errors.Is(err, fs.ErrNotExist)
	}
	if now.ID != f.view.ID || now.PID != f.view.PID || now.OFDLocked != f.view.OFDLocked {
		return true
	}
	locked := f.view.OFDLocked || proc.Exclusive(f.locks)
	return locked && !now.OFDLocked && !f.gaps.Any(proc.GapHidden) && !proc.Exclusive(proc.ReadLocks().On(now.ID, f.path))
}

// confirm makes sure of a verdict that a lock which was not seen would change. It
// takes a shared lock for an instant.
func (v *verdict) confirm() {
	if v.maybeLocked() {
		v.confirmed(lock.Free(v.path))
	}
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

// bare is err without the path: evidence is about one file.
func bare(err error) error {
	var e *fs.PathError
	if errors.As(err, &e) {
		return e.Err
	}
	return err
}
