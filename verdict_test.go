package pidfile

import (
	"errors"
	"io/fs"
	"strings"
	"testing"
	"time"

	"github.com/go-pidfile/pidfile/internal/lock"
	"github.com/go-pidfile/pidfile/internal/proc"
)

// The facts in these tests are made up. That the facts of real files and processes are
// gathered as they are here is what TestTruth shows, in a scene for each kind of fact.
//
// A machine booted at factsBoot and has been up for a hundred hours. Process 812 has
// the parent 700, and started at 50 hours; 900 is another.
const (
	namedPID  = 812
	parentPID = 700
	otherPID  = 900
	ourPID    = 4711
	startedAt = 50 * time.Hour
)

var factsBoot = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

func running812(change ...func(*proc.Info)) process {
	i := proc.Info{PID: namedPID, PPID: parentPID, State: 'S', Args: []string{"/bin/cat"}, Start: startedAt}
	for _, c := range change {
		c(&i)
	}
	return process{info: i}
}

func gone812() process { return process{info: proc.Info{PID: namedPID}, err: proc.ErrGone} }

// writtenAt is the time that a file has if it was written then after the boot.
func writtenAt(after time.Duration) time.Time { return factsBoot.Add(after) }

// theFacts are an unlocked file and the live process that wrote it, changed.
func theFacts(change ...func(*facts)) *facts {
	f := &facts{path: "/run/a.pid", self: ourPID, named: running812(), minus: process{err: proc.ErrGone}}
	f.view = lock.View{PID: namedPID, Mode: 0o644, Links: 1, Written: writtenAt(startedAt + time.Second)}
	f.clock = proc.Clock{Now: factsBoot.Add(100 * time.Hour), Uptime: 100 * time.Hour, Boot: factsBoot, Tick: 4 * time.Millisecond}
	for _, c := range change {
		c(f)
	}
	return f
}

// locked has the kernel's table tell of an exclusive lock that a process took.
func locked(kind string, pid int) func(*facts) {
	return func(f *facts) { f.locks = append(f.locks, proc.Lock{Kind: kind, Write: true, PID: pid}) }
}

// held is locked as this package does it, with flock and an OFD lock.
func held(pid int) func(*facts) {
	return func(f *facts) {
		locked("FLOCK", pid)(f)
		locked("OFDLCK", -1)(f)
		f.view.OFDLocked = true
	}
}

// hasOpen has a process have the file open with an exclusive lock.
func hasOpen(pid int, name string) func(*facts) {
	return func(f *facts) {
		o := opener{pid, []proc.Lock{{Kind: "FLOCK", Write: true, PID: pid}}, name}
		f.openers = append(f.openers, o)
		for _, l := range f.locks {
			if l.PID == pid {
				f.takers = append(f.takers, o)
				break
			}
		}
		switch pid {
		case namedPID:
			f.namedHolds = holding{holds: true, seen: true}
		case parentPID:
			f.parentHolds = holding{holds: true, seen: true}
		}
	}
}

func namesPID(pid int, p process) func(*facts) {
	return func(f *facts) { f.view.PID, f.named = pid, p }
}

func malformedText(f *facts) { f.view.PID, f.named = 0, process{err: proc.ErrGone} }
func emptyText(f *facts)     { malformedText(f); f.view.Empty = true }
func dead(f *facts)          { f.named = gone812() }
func act(f *facts)           { f.mode.act = true }
func seesProcesses(f *facts) { f.namedHolds.seen, f.parentHolds.seen = true, true }
func inNamespace(f *facts)   { f.gaps |= proc.GapNamespaces }
func changes(f *facts)       { f.gaps |= proc.GapChanges }
func hidden(f *facts) {
	f.named.info.Hidden, f.hiddenWhy = true, "hidden from us (hidepid)"
}
func fits(f *facts)       { f.fits = true }
func asksFor(f *facts)    { f.asked, f.mode.finder.Program = true, "cat" }
func otherClock(f *facts) { f.view.OtherClock = true }
func noLocks(f *facts)    { f.gaps |= proc.GapFileSystem }
func written(after time.Duration) func(*facts) {
	return func(f *facts) { f.view.Written = writtenAt(after) }
}

func sharedLock(pid int) func(*facts) {
	return func(f *facts) { f.locks = append(f.locks, proc.Lock{Kind: "FLOCK", PID: pid}) }
}

func minus(p process) func(*facts) {
	return func(f *facts) { malformedText(f); f.view.Minus, f.minus = namedPID, p }
}

// decideAll has decide get what it asks for, and returns all of that.
func decideAll(f *facts) (v verdict, asked factSet) {
	for v = decide(f); v.need != 0; v = decide(f) {
		asked |= v.need
		f.known |= v.need
	}
	return v, asked
}

func evidenceText(v *verdict) string {
	var lines []string
	for _, e := range v.evidence {
		lines = append(lines, e.text)
	}
	return strings.Join(lines, "; ")
}

func TestVerdict(t *testing.T) {
	type facets = []func(*facts)
	denied := &fs.PathError{Op: "open", Path: "/run/a.pid", Err: fs.ErrPermission}
	for _, c := range []struct {
		name       string
		facts      facets
		state      State
		who        bool
		proven     bool
		doubt      bool
		shared     bool
		lockTells  bool
		steadiness steadiness
		asks       factSet
		says       string
	}{
		// Nothing to decide on.
		{name: "absent", facts: facets{func(f *facts) { f.viewErr = &fs.PathError{Err: fs.ErrNotExist} }},
			state: Absent, says: "there is no such file"},
		{name: "may not be looked at", facts: facets{func(f *facts) { f.viewErr = denied }},
			state: Unknown, says: "it cannot be looked at: permission denied"},
		{name: "may not be read", facts: facets{func(f *facts) { f.view.TextErr = denied }, held(namedPID)},
			state: Unknown, says: "the file cannot be read: permission denied"},
		{name: "not a PID file", facts: facets{func(f *facts) { f.view.NotPIDFile = "it is executable" }},
			state: Unknown, says: "it is not a PID file: it is executable"},
		{name: "not a PID file, and locked", facts: facets{func(f *facts) { f.view.NotPIDFile = "it is executable" }, held(namedPID)},
			state: Running, who: true, proven: true, says: "PID 812 took the lock"},

		// Locked, and proven.
		{name: "held", facts: facets{held(namedPID)},
			state: Running, who: true, proven: true, says: "the file is locked, and PID 812 took the lock"},
		{name: "held, by the descriptors", facts: facets{held(namedPID), hasOpen(namedPID, "PID 812"), act},
			state: Running, who: true, proven: true, asks: factNamedHolds, says: "PID 812 has the file open with the lock"},
		{name: "held, however old the file is", facts: facets{held(namedPID), hasOpen(namedPID, "PID 812"), written(-time.Hour * 1e5)},
			state: Running, who: true, proven: true, asks: factNamedHolds, says: "PID 812 has the file open with the lock"},
		{name: "held, and stopped", facts: facets{held(namedPID), func(f *facts) { f.named.info.State = 'T' }},
			state: Running, who: true, proven: true},
		{name: "held for a child", facts: facets{held(parentPID), hasOpen(parentPID, "PID 700"), seesProcesses},
			state: Running, who: true, proven: true, asks: factNamedHolds | factParentHolds, says: "PID 812 is a child of PID 700, which holds the lock"},
		{name: "held for a child, by another user's process", facts: facets{held(parentPID)},
			state: Running, who: true, proven: true, asks: factNamedHolds | factParentHolds, says: "is a child of PID 700"},
		{name: "held by another user's process", facts: facets{held(namedPID), act},
			state: Running, who: true, proven: true, asks: factNamedHolds, says: "PID 812 took the lock"},
		{name: "held by ourselves", facts: facets{held(ourPID), namesPID(ourPID, running812(func(i *proc.Info) { i.PID = ourPID }))},
			state: Running, who: true, proven: true},
		{name: "fcntl, with its own PID", facts: facets{locked("POSIX", namedPID)},
			state: Running, who: true, proven: true, says: "PID 812 took the lock"},
		{name: "a shell's descriptor, locked by flock(1)", facts: facets{locked("FLOCK", otherPID), hasOpen(namedPID, "PID 812"), seesProcesses},
			state: Running, who: true, proven: true, asks: factNamedHolds, says: "PID 812 has the file open with the lock"},

		// Locked, and not proven.
		{name: "held, overwritten with a stranger's PID", facts: facets{held(otherPID), hasOpen(otherPID, "PID 900 (x), user u"), seesProcesses},
			state: Running, asks: factNamedHolds | factParentHolds | factTakers,
			says: "the file is locked, but not provably by the process that it names; PID 812 (cat) is alive; the lock is held by PID 900 (x), user u"},
		{name: "the PID was reused since the file was locked", facts: facets{held(otherPID), hasOpen(otherPID, "PID 900"), written(startedAt - time.Hour), seesProcesses},
			state: Running, asks: factNamedHolds | factTakers, says: "the lock is held by PID 900"},
		{name: "held, overwritten with rubbish", facts: facets{held(otherPID), malformedText, hasOpen(otherPID, "PID 900")},
			state: Running, asks: factTakers,
			says: "the file is locked by a process that it does not name; the first line of the file is not a PID; the lock is held by PID 900"},
		{name: "fcntl, with a stranger's PID", facts: facets{locked("POSIX", otherPID), func(f *facts) { f.view.OFDLocked = true }, hasOpen(otherPID, "PID 900"), seesProcesses},
			state: Running, asks: factNamedHolds | factParentHolds | factTakers, says: "the lock is held by PID 900"},
		{name: "flock(1)", facts: facets{locked("FLOCK", otherPID), emptyText, hasOpen(otherPID, "PID 900 (flock)")},
			state: Running, steadiness: transient, asks: factTakers, says: "the file is empty; the lock is held by PID 900 (flock)"},
		{name: "flock(1), and a stranger's PID", facts: facets{locked("FLOCK", otherPID), hasOpen(otherPID, "PID 900 (flock)"), seesProcesses},
			state: Running, steadiness: transient, asks: factNamedHolds | factParentHolds | factTakers, says: "PID 812 (cat) is alive; the lock is held by PID 900 (flock)"},
		{name: "flock(1), and PID 1", facts: facets{locked("FLOCK", otherPID), namesPID(1, process{info: proc.Info{PID: 1, State: 'S'}}), hasOpen(otherPID, "PID 900"), seesProcesses},
			state: Running, steadiness: transient, asks: factNamedHolds | factTakers, says: "PID 1 is alive; the lock is held by PID 900"},
		{name: "killed, but a child inherited the lock", facts: facets{held(namedPID), dead, hasOpen(otherPID, "PID 900 (cat)")},
			state: Running, asks: factTakers | factOpeners, says: "no process has PID 812; the lock is held by PID 900 (cat)"},
		{name: "the same, for a caller that will act", facts: facets{held(namedPID), dead, act, hasOpen(otherPID, "PID 900 (cat)")},
			state: Running, steadiness: ending, asks: factTakers | factOpeners},
		{name: "not yet reaped, for a caller that will act", facts: facets{held(namedPID), act, func(f *facts) { f.named.info.State = 'Z' }, hasOpen(otherPID, "PID 900")},
			state: Running, steadiness: ending, asks: factTakers | factOpeners, says: "PID 812 has ended and only waits to be reaped"},
		{name: "taken by a process that cannot be looked at", facts: facets{held(otherPID), seesProcesses, func(f *facts) { f.takers = []opener{{pid: otherPID, name: "PID 900"}} }},
			state: Running, asks: factNamedHolds | factParentHolds | factTakers | factOpeners, says: "the lock was taken by PID 900; whether it still has the lock cannot be seen"},
		{name: "held outside the namespace", facts: facets{func(f *facts) { f.view.OFDLocked = true }, dead, inNamespace},
			state: Running, asks: factTakers | factOpeners, says: "no process that is visible from here has the lock"},
		{name: "hidepid, locked", facts: facets{held(0), hidden},
			state: Running, asks: factTakers | factOpeners, says: "PID 812 is alive, but hidden from us (hidepid)"},

		// Not locked: programs that never lock.
		{name: "unlocked", state: Running, who: true, says: "the file is not locked; PID 812 (cat) is alive and existed when the file was written"},
		{name: "unlocked, stopped", facts: facets{func(f *facts) { f.named.info.State = 'T' }}, state: Running, who: true},
		{name: "unlocked, PID 1", facts: facets{namesPID(1, process{info: proc.Info{PID: 1, State: 'S'}})}, state: Unknown, says: "PID 1 is not believed without the lock"},
		{name: "unlocked, PID 1, whose program has the file's name", facts: facets{namesPID(1, process{info: proc.Info{PID: 1, State: 'S'}}), fits}, state: Running, who: true},
		{name: "unlocked, and its time is in the future", facts: facets{written(1000 * time.Hour)}, state: Unknown, says: "the file's time is in the future"},
		{name: "the same, of the program that the caller named", facts: facets{written(1000 * time.Hour), asksFor}, state: Running, who: true, says: "PID 812 (cat) is alive and runs cat"},
		{name: "written two minutes after its start", facts: facets{written(startedAt + 2*time.Minute)}, state: Running, who: true},
		{name: "touched or copied", facts: facets{written(startedAt + 3*time.Hour)}, state: Running, who: true, doubt: true,
			says: "but the file was written 3h0m0s after that process started, and is not named after its program"},
		{name: "touched, of the program that the caller named", facts: facets{written(startedAt + 3*time.Hour), asksFor}, state: Running, who: true},
		{name: "written again, as sshd does", facts: facets{written(startedAt + 3*time.Hour), fits}, state: Running, who: true},
		{name: "PID reused by the program that the caller named", facts: facets{written(startedAt - time.Hour), asksFor}, state: Stale},
		{name: "by a file server's clock", facts: facets{otherClock}, state: Unknown, says: "may have another machine's clock"},
		{name: "by a file server's clock, before its start", facts: facets{otherClock, written(startedAt - time.Hour)}, state: Unknown},
		{name: "by a file server's clock, before its start, of the program that the caller named", facts: facets{otherClock, asksFor, written(startedAt - time.Hour)}, state: Running, who: true},
		{name: "by a file server's clock, dead PID", facts: facets{otherClock, dead}, state: Stale},
		{name: "so soon after that the clocks cannot tell", facts: facets{written(startedAt - time.Second)},
			state: Unknown, says: "the clocks cannot tell whether the PID was reused"},
		{name: "unlocked, in a namespace", facts: facets{inNamespace},
			state: Running, who: true, says: "the file is not locked, as far as can be seen from here"},
		{name: "unlocked, its process hidden", facts: facets{hidden},
			state: Unknown, says: "hidden from us (hidepid)"},
		{name: "unlocked, its process cannot be looked up", facts: facets{func(f *facts) { f.named.err = errors.New("too many open files") }},
			state: Unknown, says: "PID 812 cannot be looked up: too many open files"},

		// Stale.
		{name: "dead PID", facts: facets{dead}, state: Stale, says: "the file is not locked; no process has PID 812"},
		{name: "zombie", facts: facets{func(f *facts) { f.named.info.State = 'Z' }}, state: Stale, says: "PID 812 has ended and only waits to be reaped"},
		{name: "PID reused", facts: facets{written(startedAt - time.Hour)},
			state: Stale, says: "PID 812 (cat) is alive, but started 1h0m0s after the file was written: the PID was reused"},
		{name: "from before this boot", facts: facets{written(-time.Hour)},
			state: Stale, says: "the file is from before this boot: PID 812 (cat) has the PID by chance"},
		{name: "a thread of the kernel", facts: facets{func(f *facts) { f.named.info.PPID, f.named.info.Args = 2, nil }},
			state: Stale, says: "PID 812 is a thread of the kernel"},
		{name: "our own PID", facts: facets{namesPID(ourPID, running812(func(i *proc.Info) { i.PID = ourPID }))},
			state: Stale, says: "PID 4711 is this process itself, which does not hold the file"},
		{name: "empty", facts: facets{emptyText}, state: Stale, says: "the file is empty"},
		{name: "malformed", facts: facets{malformedText}, state: Stale, says: "the first line of the file is not a PID"},
		{name: "postgres --single's PID, while it lives", facts: facets{minus(running812())},
			state: Unknown, says: "PID 812 (cat) is alive and may have written it"},
		{name: "postgres --single's PID, before it was", facts: facets{minus(running812()), written(startedAt - time.Hour)},
			state: Stale, says: "as postgres --single writes it"},
		{name: "postgres --single's PID, dead", facts: facets{minus(gone812())}, state: Stale},
		{name: "minus one", facts: facets{minus(process{info: proc.Info{PID: 1}})}, state: Stale},

		// What cannot be seen.
		{name: "a shared lock", facts: facets{dead, sharedLock(otherPID), func(f *facts) {
			f.takers = []opener{{otherPID, []proc.Lock{{Kind: "FLOCK", PID: otherPID}}, "PID 900"}}
		}}, state: Unknown, shared: true, steadiness: transient, asks: factTakers,
			says: "a shared lock on it keeps every start out; the lock is held by PID 900"},
		{name: "a shared lock of fcntl", facts: facets{dead, func(f *facts) { f.locks = []proc.Lock{{Kind: "POSIX", PID: otherPID}} }}, state: Stale},
		{name: "a shared lock, and the process that wrote it", facts: facets{sharedLock(otherPID)}, state: Running, who: true},
		{name: "in a namespace, dead PID", facts: facets{dead, inNamespace},
			state: Unknown, lockTells: true, asks: factOpeners | factSecluded, says: "the locks of other PID namespaces cannot be seen from here"},
		{name: "in a namespace, dead PID on its own file system", facts: facets{dead, inNamespace, func(f *facts) { f.secluded = true }},
			state: Stale, asks: factOpeners | factSecluded, says: "its file system is this container's own"},
		{name: "in a namespace, a lock that only a descriptor tells", facts: facets{emptyText, inNamespace, hasOpen(otherPID, "PID 900 (cat)")},
			state: Running, steadiness: transient, asks: factOpeners | factTakers, says: "the file is empty; the lock is held by PID 900 (cat)"},
		{name: "the table cannot be read", facts: facets{dead, func(f *facts) { f.gaps, f.tableErr = proc.GapTable, errors.New("too many open files") }},
			state: Unknown, lockTells: true, asks: factOpeners, says: "the table of locks cannot be read: too many open files"},
		{name: "the table changes too fast", facts: facets{dead, changes}, state: Stale, steadiness: transient},
		{name: "the table changes too fast, and the process lives", facts: facets{changes}, state: Running, who: true},
		{name: "a file system without locks, dead PID", facts: facets{dead, noLocks},
			state: Unknown, says: "this file system or system cannot tell whether the file is locked"},
		{name: "a file system without locks, malformed", facts: facets{malformedText, noLocks}, state: Unknown},
		{name: "a file system without locks, and the process lives", facts: facets{noLocks}, state: Running, who: true},
	} {
		t.Run(c.name, func(t *testing.T) {
			v, asked := decideAll(theFacts(c.facts...))
			if v.state != c.state || v.proven != c.proven || (v.doubt != "") != c.doubt || v.shared != c.shared || v.lockTells != c.lockTells || v.steadiness != c.steadiness {
				t.Errorf("%v, proven %v, doubt %v, shared %v, lockTells %v, steadiness %v", v.state, v.proven, v.doubt, v.shared, v.lockTells, v.steadiness)
			}
			if (v.info != nil) != c.who {
				t.Errorf("its process is %+v", v.info)
			}
			if asked != c.asks {
				t.Errorf("it asked for %b, want %b", asked, c.asks)
			}
			if got := evidenceText(&v); !strings.Contains(got, c.says) {
				t.Errorf("it does not say %q: %s", c.says, got)
			}
		})
	}
}

// TestVerdictAlways tries every combination of what facts there are: whatever they
// are, what must never be decided is not.
func TestVerdictAlways(t *testing.T) {
	one := func(change ...func(*facts)) [][]func(*facts) { // each, or none
		all := [][]func(*facts){nil}
		for _, c := range change {
			all = append(all, []func(*facts){c})
		}
		return all
	}
	dimensions := [][][]func(*facts){
		one(dead, emptyText, minus(running812()),
			func(f *facts) { f.named.info.State = 'Z' }, func(f *facts) { f.named.info.Hidden = true },
			func(f *facts) { f.named.err = fs.ErrPermission }, func(f *facts) { f.named.info.Args, f.named.info.PPID = nil, 2 },
			namesPID(ourPID, running812(func(i *proc.Info) { i.PID = ourPID }))),
		one(written(startedAt-time.Second), written(startedAt-time.Hour), written(-time.Hour)),
		one(held(namedPID), locked("FLOCK", parentPID), locked("FLOCK", otherPID), locked("POSIX", namedPID), sharedLock(otherPID),
			func(f *facts) { f.view.OFDLocked = true }),
		one(inNamespace, changes, noLocks, func(f *facts) { f.gaps = proc.GapTable }, func(f *facts) { f.gaps = proc.GapNamespaces | proc.GapChanges }),
		one(hasOpen(namedPID, "PID 812"), hasOpen(parentPID, "PID 700"), hasOpen(otherPID, "PID 900")),
		one(seesProcesses), one(act), one(func(f *facts) { f.secluded = true }),
	}
	n := 0
	var try func(change []func(*facts), left [][][]func(*facts))
	try = func(change []func(*facts), left [][][]func(*facts)) {
		if len(left) > 0 {
			for _, c := range left[0] {
				try(append(change[:len(change):len(change)], c...), left[1:])
			}
			return
		}
		n++
		f := theFacts(change...)
		v, _ := decideAll(f)
		lock := f.view.OFDLocked || proc.Exclusive(f.locks)
		wrong := ""
		switch {
		case lock && (v.state != Running || !v.locked):
			wrong = "what is locked runs"
		case v.proven && (!v.locked || v.info == nil):
			wrong = "a process is proven by a lock"
		case v.info != nil && (v.state != Running || f.named.gone() || f.named.info.Hidden || f.view.PID == 0):
			wrong = "a process that is not known to be alive is not the holder"
		case v.state == Stale && f.gaps.Any(proc.GapFileSystem):
			wrong = "where locks cannot be seen nothing is stale"
		case v.state == Stale && f.gaps.Any(proc.GapHidden) && !f.secluded && len(f.locks) == 0:
			wrong = "where locks are hidden nothing is stale"
		case v.state == Stale && v.gaps.Any(proc.GapChanges) && v.steadiness == steady:
			wrong = "what may be for want of a lock in the table is looked at again"
		case v.state == Stale && (f.named.info.Hidden || f.named.err == fs.ErrPermission):
			wrong = "a process that cannot be seen may be the holder"
		case v.lockTells && (v.state != Unknown || v.gaps == 0):
			wrong = "only a lock that was not seen could tell"
		case len(v.evidence) == 0:
			wrong = "there is evidence"
		}
		if wrong != "" && !t.Failed() {
			t.Errorf("%s: %v, locked %v, proven %v, process %v: %s\nof %+v", wrong, v.state, v.locked, v.proven, v.info, evidenceText(&v), f)
		}
	}
	try(nil, dimensions)
	t.Logf("%d combinations of facts", n)
}

// TestVerdictConfirmed is what a lock tells that was taken, or could not be.
func TestVerdictConfirmed(t *testing.T) {
	for _, c := range []struct {
		name  string
		facts func(*facts)
		free  bool
		state State
		says  string
	}{
		{"hidden locks, and it is free", inNamespace, true, Stale, "but it could be locked: it has no holder"},
		{"hidden locks, and it is not", inNamespace, false, Unknown, "cannot be seen from here"},
		{"a table that changes, and it is free", changes, true, Stale, "no process has PID 812"},
		{"a table that changes, and it is not", changes, false, Unknown, "but it cannot be locked: it has a holder"},
	} {
		v, _ := decideAll(theFacts(dead, c.facts))
		if !v.maybeLocked() {
			t.Errorf("%s: maybeLocked is false", c.name)
		}
		if v.confirmed(c.free); v.state != c.state || !strings.HasSuffix(evidenceText(&v), c.says) && !strings.Contains(evidenceText(&v), c.says) {
			t.Errorf("%s: %v: %s", c.name, v.state, evidenceText(&v))
		}
	}
	if v, _ := decideAll(theFacts(dead)); v.maybeLocked() {
		t.Error("a file on which all locks were seen may be locked")
	}
}

// TestEvidenceHolder: a line that only names a holder says so itself.
func TestEvidenceHolder(t *testing.T) {
	v, _ := decideAll(theFacts(held(otherPID), malformedText, hasOpen(otherPID, "PID 900"), hasOpen(otherPID+1, "PID 901")))
	s := v.status()
	if len(s.Evidence) != 3 || s.EvidenceHolder(0) != 0 || s.EvidenceHolder(1) != 0 || s.EvidenceHolder(2) != otherPID || s.EvidenceHolder(3) != 0 {
		t.Errorf("%q: %d", s.Evidence, s.holders)
	}
}
