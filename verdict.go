package pidfile

import (
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strconv"
	"time"

	"github.com/go-pidfile/pidfile/internal/lock"
	"github.com/go-pidfile/pidfile/internal/proc"
)

// A verdict is what follows from the facts: a Status in the making, with what it
// takes to act on it.
type verdict struct {
	path   string
	view   lock.View
	state  State
	locked bool
	shared bool       // locked with a shared lock, which keeps every start out
	info   *proc.Info // the holder, nil if it is not known
	proven bool       // the lock proves that info is the holder
	doubt  string     // why info, which has the file's PID, may be another process than its writer
	gaps   proc.Gaps  // why a lock may not have been seen
	// lockTells is true if the state is Unknown only because of locks that could not
	// be seen: to take the lock would tell.
	lockTells  bool
	cause      error // what the system said, if the file could not be looked at
	evidence   []evidence
	steadiness steadiness
	need       factSet // a fact that is missing: without it all of this is void
}

// A steadiness is whether what was seen can be relied on.
type steadiness int

const (
	steady    steadiness = iota
	transient            // the lock may be that of a start that replaces a stale file
	ending               // the named process has ended, and its lock is still held
	changing             // the file changed while it was looked at
)

// An evidence is something that a verdict rests on, in words.
type evidence struct {
	text   string
	holder int // the process that it names as a holder of the lock; 0 if it is about something else
}

func (v *verdict) addEvidence(format string, args ...any) {
	v.evidence = append(v.evidence, evidence{text: fmt.Sprintf(format, args...)})
}

// maybeLocked reports whether the file is not locked as far as was seen, and that
// decides, but a lock may have been missed.
func (v *verdict) maybeLocked() bool {
	return v.lockTells || v.state == Stale && v.gaps.Any(proc.GapChanges)
}

// confirmed is what becomes of a verdict for which maybeLocked is true once it is
// known whether the file can be locked.
func (v *verdict) confirmed(free bool) {
	switch {
	case v.lockTells && free:
		v.state, v.lockTells = Stale, false
		v.addEvidence("but it could be locked: it has no holder")
	case v.state == Stale && !free:
		v.state = Unknown
		v.addEvidence("but it cannot be locked: it has a holder")
	}
}

// keepsChanging makes v the verdict on a file that is another at each look.
func (v *verdict) keepsChanging() {
	v.state, v.info, v.proven = Unknown, nil, false
	v.addEvidence("the file keeps changing")
}

// decide is the table "Who is the holder" of docs/DESIGN.md. It makes no system call.
// If a fact is missing, the verdict says which one; with that, decide begins anew.
func decide(f *facts) verdict {
	d := decision{verdict{path: f.path, view: f.view, gaps: f.gaps}, f, f.locks}
	switch {
	case errors.Is(f.viewErr, fs.ErrNotExist):
		d.addEvidence("there is no such file")
	case f.viewErr != nil:
		d.state, d.cause = Unknown, bare(f.viewErr)
		d.addEvidence("it cannot be looked at: %v", bare(f.viewErr))
	case f.view.TextErr != nil:
		d.state, d.cause = Unknown, bare(f.view.TextErr)
		d.addEvidence("the file cannot be read: %v", bare(f.view.TextErr))
	case f.view.OFDLocked || proc.Exclusive(f.locks):
		d.decideLocked()
	default:
		d.decideNotSeenLocked()
	}
	return d.verdict
}

// A decision is a verdict while it is made.
type decision struct {
	verdict
	f     *facts
	locks []proc.Lock // on the file
}

// has reports whether a fact was gathered. The first that was not is asked for.
func (d *decision) has(fact factSet) bool {
	known := d.f.known&fact != 0
	if !known && d.need == 0 {
		d.need = fact
	}
	return known
}

// decideNotSeenLocked decides on a file on which no exclusive lock is seen.
func (d *decision) decideNotSeenLocked() {
	d.decideUnlocked()
	if d.state == Stale && len(d.locks) == 0 && d.gaps.Any(proc.GapHidden) {
		d.decideHidden()
	}
	switch {
	case d.locked || d.need != 0:
	case d.state != Running && proc.Blocks(d.locks): // shared ones
		d.state, d.shared, d.steadiness = Unknown, true, transient
		d.addEvidence("a shared lock on it keeps every start out")
		d.addHolders()
	case d.state == Stale && d.gaps.Any(proc.GapChanges):
		d.steadiness = transient
	}
}

// decideUnlocked decides on a file that is not locked as far as can be seen.
func (d *decision) decideUnlocked() {
	view, named := &d.f.view, &d.f.named
	if view.NotPIDFile != "" {
		d.state, d.cause = Unknown, ErrMalformed
		d.addEvidence("it is not a PID file: %s", view.NotPIDFile)
		return
	}
	switch {
	case d.gaps.Any(proc.GapFileSystem):
		d.addEvidence("this file system or system cannot tell whether the file is locked")
	case d.gaps.Any(proc.GapHidden):
		d.addEvidence("the file is not locked, as far as can be seen from here")
	default:
		d.addEvidence("the file is not locked")
	}
	d.state = Stale
	switch {
	case view.PID == 0:
		d.addNamed()
		d.decideMinus()
	case named.gone():
		d.addNamed()
	case named.err != nil || named.info.Hidden:
		d.state = Unknown
		d.addNamed()
	case named.info.Kernel():
		d.addEvidence("PID %d is a thread of the kernel, which writes no PID files", view.PID)
	case view.PID == d.f.self:
		d.addEvidence("PID %d is this process itself, which does not hold the file", view.PID)
	default:
		d.decideAge()
	}
	if d.state == Stale && d.gaps.Any(proc.GapFileSystem) {
		d.state = Unknown // a file without a PID, too, may be locked
	}
}

// decideMinus decides on a file that has a PID behind a minus sign: a start replaces
// it, but it is not a stale file while its writer lives.
func (d *decision) decideMinus() {
	minus := &d.f.minus
	switch i := &minus.info; {
	case i.PID <= 1 || minus.gone(): // 1 is too often no PID at all
	case minus.err != nil || i.Hidden || d.f.clock.Judge(i.Start, d.view.Written) <= proc.Unclear:
		d.state = Unknown
		d.addEvidence("%s is alive and may have written it", name(i))
	}
}

// decideAge tells whether the named process can have written the file.
func (d *decision) decideAge() {
	i, clock := &d.f.named.info, &d.f.clock
	age := clock.Judge(i.Start, d.view.Written)
	switch {
	case d.f.asked && (age <= proc.Unclear || d.view.OtherClock):
		d.state, d.info = Running, i
		d.addEvidence("%s is alive and runs %s", name(i), d.f.mode.finder.Program)
		return
	case d.view.OtherClock:
		d.state = Unknown
		d.addEvidence("%s is alive, but its file system may have another machine's clock: whether the PID was reused since cannot be told", name(i))
		return
	}
	switch age {
	case proc.Existed:
		d.state, d.info = Running, i
		d.addEvidence("%s is alive and existed when the file was written", name(i))
		d.decideWriter()
	case proc.Future:
		d.state = Unknown
		d.addEvidence("%s is alive, but the file's time is in the future: whether the PID was reused since cannot be told", name(i))
	case proc.Unclear:
		d.state = Unknown
		d.addEvidence("%s is alive, and started so soon after the file was written that the clocks cannot tell whether the PID was reused", name(i))
	case proc.BeforeBoot:
		d.addEvidence("the file is from before this boot: %s has the PID by chance", name(i))
	default:
		later := clock.StartTime(i.Start).Sub(d.view.Written).Round(time.Second)
		d.addEvidence("%s is alive, but started %v after the file was written: the PID was reused", name(i), later)
	}
}

// decideWriter tells whether the named process, which existed when the file was
// written, is likely to have written it. A file that was touched, copied or restored
// after its PID was reused looks just like that of a process that writes its PID file
// late; so do those of containers, which as a rule name PID 1.
func (d *decision) decideWriter() {
	i, clock := &d.f.named.info, &d.f.clock
	switch {
	case d.f.fits:
	case i.PID == 1:
		d.state, d.info = Unknown, nil
		d.addEvidence("PID 1 is not believed without the lock: the file may be a container's")
	case !clock.Soon(i.Start, d.view.Written):
		after := d.view.Written.Sub(clock.StartTime(i.Start)).Round(time.Second)
		d.doubt = fmt.Sprintf("the file was written %v after that process started, and is not named after its program: it may be a stale file that was touched, copied or restored", after)
		d.addEvidence("but %s", d.doubt)
	}
}

// decideHidden decides on a file that is stale but for locks that /proc/locks leaves
// out here (see proc.GapNamespaces).
func (d *decision) decideHidden() {
	if !d.has(factOpeners) {
		return
	}
	d.locks = d.f.openersLocks()
	switch {
	case proc.Exclusive(d.locks):
		d.evidence = nil
		d.decideLocked()
	case len(d.locks) > 0:
	case d.gaps.Any(proc.GapTable):
		d.state, d.lockTells = Unknown, true
		d.addEvidence("the table of locks cannot be read: %v", d.f.tableErr)
	case !d.has(factSecluded):
	case d.f.secluded:
		d.addEvidence("its file system is this container's own: nothing outside can have locked it")
	default:
		d.state, d.lockTells = Unknown, true
		d.addEvidence("a process outside may have locked it: the locks of other PID namespaces cannot be seen from here, and only a start or clean, which take the lock, can tell")
	}
}

// decideLocked finds out whether the process that the text names has the lock.
// If that cannot be proven, it tells which processes have it.
func (d *decision) decideLocked() {
	d.state, d.locked = Running, true
	pid, named := d.view.PID, &d.f.named
	if named.err == nil && !named.info.Hidden && !named.info.Zombie() {
		if how := d.prove(); how != "" {
			d.info, d.proven = &named.info, true
			d.addEvidence("the file is locked, and %s", how)
			return
		}
		if d.need != 0 {
			return
		}
	}
	switch {
	case d.f.mode.act && pid != 0 && named.gone():
		d.steadiness = ending
	case !d.view.OFDLocked: // that lock is never taken for an instant only
		d.steadiness = transient
	}
	if pid == 0 {
		d.addEvidence("the file is locked by a process that it does not name")
	} else {
		d.addEvidence("the file is locked, but not provably by the process that it names")
	}
	d.addNamed()
	d.addHolders()
}

// prove returns what proves that the named process is the holder, "" if nothing does.
//
// Mostly the table of locks is enough: the process took the lock, and has had its PID
// since before the file was written. Then its descriptors are not looked at, since
// that can disturb it (see proc.Opened). A caller that will act wants to see the lock.
func (d *decision) prove() string {
	i, clock := &d.f.named.info, &d.f.clock
	took := func(pid int) bool {
		return slices.ContainsFunc(d.locks, func(l proc.Lock) bool { return l.Write && l.PID == pid })
	}
	if !d.f.mode.act && took(i.PID) && clock.Preceded(i.Start, d.view.Written) {
		return fmt.Sprintf("PID %d took the lock", i.PID)
	}
	switch named := d.f.namedHolds; {
	case !d.has(factNamedHolds):
		return ""
	case named.holds:
		return fmt.Sprintf("PID %d has the file open with the lock", i.PID)
	case clock.Judge(i.Start, d.view.Written) != proc.Existed:
		return "" // whichever process took the lock or was started under it, not this one
	case !named.seen && took(i.PID):
		return fmt.Sprintf("PID %d took the lock", i.PID)
	case i.PPID <= 0 || !d.has(factParentHolds):
		return ""
	}
	if parent := d.f.parentHolds; parent.holds || !parent.seen && took(i.PPID) {
		return fmt.Sprintf("PID %d is a child of PID %d, which holds the lock", i.PID, i.PPID)
	}
	return ""
}

// addHolders adds which process has the lock: the one that took it, if it still has
// it, else all that have it.
func (d *decision) addHolders() {
	if !d.has(factTakers) || d.addHoldersOf(d.f.takers) || !d.has(factOpeners) || d.addHoldersOf(d.f.openers) {
		return
	}
	if len(d.f.takers) > 0 {
		d.addEvidence("the lock was taken by %s; whether it still has the lock cannot be seen", d.f.takers[0].name)
		return
	}
	d.addEvidence("no process that is visible from here has the lock: another PID namespace, another host or another user's process does")
}

// addHoldersOf adds which of the openers have the lock, and reports whether one has.
func (d *decision) addHoldersOf(openers []opener) (found bool) {
	for _, o := range openers {
		if proc.Blocks(o.locks) {
			d.evidence = append(d.evidence, evidence{"the lock is held by " + o.name, o.pid})
			found = true
		}
	}
	return found
}

// addNamed adds what is known of the named process.
func (d *decision) addNamed() {
	pid, named := d.view.PID, &d.f.named
	switch {
	case pid == 0 && d.view.Empty:
		d.addEvidence("the file is empty")
	case pid == 0 && d.view.Minus != 0:
		d.addEvidence("the first line of the file is not a PID, but one with a minus sign, as postgres --single writes it")
	case pid == 0:
		d.addEvidence("the first line of the file is not a PID")
	case named.err == proc.ErrGone:
		d.addEvidence("no process has PID %d", pid)
	case named.err != nil:
		d.addEvidence("PID %d cannot be looked up: %v", pid, named.err)
	case named.info.Hidden:
		d.addEvidence("PID %d is alive, but %s", pid, d.f.hiddenWhy)
	case named.info.Zombie():
		d.addEvidence("PID %d has ended and only waits to be reaped", pid)
	default:
		d.addEvidence("%s is alive", name(&named.info))
	}
}

// name describes a process in a few words. Its arguments are its user's text, and
// must not reach a terminal as control characters.
func name(i *proc.Info) string {
	if i.Name() == "" {
		return fmt.Sprintf("PID %d", i.PID)
	}
	quoted := strconv.Quote(i.Name())
	return fmt.Sprintf("PID %d (%s)", i.PID, quoted[1:len(quoted)-1])
}
