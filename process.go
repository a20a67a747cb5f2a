package pidfile

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"syscall"
	"time"

	"github.com/go-pidfile/pidfile/internal/lock"
	"github.com/go-pidfile/pidfile/internal/names"
	"github.com/go-pidfile/pidfile/internal/proc"
)

// A Process is the holder of a PID file, pinned: whatever becomes of its PID,
// its methods act on this process or on none. Several goroutines may use it.
type Process struct {
	path   string
	handle *proc.Handle
	info   proc.Info
}

// An ExitStatus is how a process ended.
type ExitStatus struct {
	Code   int            // its exit code, -1 if a signal ended it
	Signal syscall.Signal // the signal that ended it, 0 if none did
}

// String returns "exit status 3" or "signal: terminated", and "exit status unknown"
// if s is nil.
func (s *ExitStatus) String() string {
	if s == nil {
		return "exit status unknown"
	}
	if s.Signal != 0 {
		return fmt.Sprintf("signal: %v", s.Signal)
	}
	return fmt.Sprintf("exit status %d", s.Code)
}

// Find pins the process that holds the PID file at path, and proves that it
// does: first the process, by pidfd_open(2), then the proof, so that its PID
// cannot become another's in between.
//
// The errors, all [*fs.PathError], match:
//   - [ErrNotRunning] if the file has no holder: it does not exist, or is stale
//     (then [ErrMalformed] too, if its text is not a PID);
//   - [ErrUnproven], with the evidence in the text, if it may have one, but
//     it is not proven that the named process does (a descendant holds the
//     lock, or a process that is not visible from here, or it cannot be told:
//     then also what the system said, such as [fs.ErrPermission]); or if the process
//     is the calling one;
//   - [ErrUntrusted], which is [ErrUnproven] too, if the file, or the path to it, is not
//     trusted: the text says why, and what to do about it.
//
// To be trusted, the file must belong to root, to us or to the process's user; only
// these may write it, and root's group and the process's own; and it has one name
// (no hard links). The same holds for every directory and symbolic link of the path,
// up to the root directory; a directory with the sticky bit may be writable to
// others. An access control list that lets any user write counts as a group does. Where
// the path is not trusted, but the file is, it is enough that the holder has the lock
// and was started with the variable PIDFILE_HELD set to this path, as 'pidfile run'
// starts its command. PID 1 must be proven by the lock: too many broken files say 1.
//
// In a PID namespace other than the machine's first, where /proc/locks does not
// show the flock(2) locks of others, Find takes a shared lock for an instant
// before it believes that a file is not locked.
//
// Find blocks no longer than Inspect does; but where the named process has ended and
// its lock is still held, as until its parent has reaped it, Find
// waits up to 2 seconds until that is over. The Process must be closed. Outside
// Linux the error matches [errors.ErrUnsupported].
func Find(path string) (*Process, error) { return Finder{}.Find(context.Background(), path) }

// A Finder finds processes as its fields say. The zero value is what Find uses.
type Finder struct {
	// Program, if set, is what the process must run: the path of an executable,
	// or the last element of one. (For a script that is its interpreter's.) Another
	// process is [ErrUntrusted]. With it, the path to the file need not be trusted; the
	// file itself must be, and the process proven.
	Program string
	// Locked, if true, has the lock alone count: a process that the file names but that
	// has not locked it is ErrUnproven, however likely it is the right one.
	Locked bool
}

// wantsLock reports whether the lock alone counts and v does not rest on it, and says so.
func (f Finder) wantsLock(v *verdict) bool {
	wants := f.Locked && v.state == Running && !v.locked
	if wants {
		v.addEvidence("only the lock counts")
	}
	return wants
}

// excludes reports whether the process of v is not as f's fields say, and says so.
func (f Finder) excludes(v *verdict) bool {
	if f.wantsLock(v) {
		return true
	}
	other := v.info != nil && f.Program != "" && !runsProgram(v.info, f.Program)
	if other {
		v.addEvidence("%s does not run %s", name(v.info), f.Program)
	}
	return other
}

// Inspect is like the function Inspect, but Unknown for a process that is not as f's
// fields say; and where Find would not trust the file, the evidence says why.
func (f Finder) Inspect(path string) (Status, error) {
	v, err := examine(path, mode{finder: f})
	switch i := v.info; {
	case f.excludes(&v):
		v.state, v.info, v.doubt = Unknown, nil, ""
	case i != nil && i.PID != self && proc.CanPin:
		if d := v.distrust(f.Program); d != nil && !d.moved {
			v.addEvidence("not trusted, so no signal is sent: %s", d)
		}
	}
	return v.status(), err
}

// Find is like the function Find. If ctx ends while it waits, the error matches
// ctx.Err().
func (f Finder) Find(ctx context.Context, path string) (*Process, error) {
	if !proc.CanPin {
		return nil, &fs.PathError{Op: "find", Path: path, Err: errors.ErrUnsupported}
	}
	for began := time.Now(); ; {
		v, h, err := pin(ctx, path, f)
		if err != nil {
			return nil, &fs.PathError{Op: "find", Path: v.path, Err: err}
		}
		why := v.refuseReason(f)
		if why == nil {
			return &Process{v.path, h, *v.info}, nil
		}
		if h != nil {
			h.Close()
		}
		if why != errMoved {
			return nil, v.refuse("find", why)
		}
		if time.Since(began) > retryFor {
			v.keepsChanging()
			return nil, v.refuse("find", ErrUnproven)
		}
	}
}

// errMoved is what refuseReason returns where the path has come to name another file, or
// none, so that all must be looked at again.
var errMoved = fmt.Errorf("%w: the path names another file", ErrUnproven)

// Holders pins every process that provably keeps the PID file at path locked: it has
// the file open, through that an exclusive lock or a shared one of flock(2), and took
// that lock itself or can have inherited it: it started after the file was written.
// There may be several, of any user, and the file need not name them; the calling
// process is not among them.
//
// Each must be trusted as Find's process must; for those that are not the error
// matches [ErrUntrusted], and the others are returned with it. The error matches
// [ErrNotRunning] if the file does not exist or is stale, and [ErrUnproven], with the
// evidence, if it is not locked, or locked and no process can be seen that has the
// lock: an ordinary user sees only their own processes. The Processes must be closed.
// Outside Linux the error matches [errors.ErrUnsupported].
func (f Finder) Holders(ctx context.Context, path string) ([]*Process, error) {
	if !proc.CanPin {
		return nil, &fs.PathError{Op: "find", Path: path, Err: errors.ErrUnsupported}
	}
	for began := time.Now(); ; {
		if err := ctx.Err(); err != nil {
			return nil, &fs.PathError{Op: "find", Path: path, Err: err}
		}
		all, err := f.holders(ctx, path)
		if !errors.Is(err, errMoved) || time.Since(began) > retryFor {
			return all, err
		}
		for _, p := range all {
			p.Close()
		}
	}
}

// holders is one attempt of Holders.
func (f Finder) holders(ctx context.Context, path string) ([]*Process, error) {
	v, err := examine(path, mode{ctx: ctx, finder: f})
	switch {
	case err != nil:
		return nil, v.refuse("find", ErrUnproven)
	case v.state == Absent || v.state == Stale:
		return nil, v.refuse("find", ErrNotRunning)
	case !v.locked && !v.shared && !v.lockTells:
		return nil, v.refuse("find", ErrUnproven)
	}
	var all []*Process
	var refused []error
	for _, o := range new(proc.LockTable).Openers(v.view.ID) {
		p, err := v.holder(o.PID, f.Program)
		switch {
		case err != nil:
			refused = append(refused, err)
		case p != nil:
			all = append(all, p)
		}
	}
	if len(all) == 0 && len(refused) == 0 {
		return nil, v.refuse("find", ErrUnproven)
	}
	return all, errors.Join(refused...)
}

// holder pins process pid, if it has v's file locked. It returns neither a process nor
// an error if it has not.
func (v verdict) holder(pid int, program string) (*Process, error) {
	if pid == self {
		return nil, nil
	}
	h, err := proc.Open(pid)
	switch {
	case err == proc.ErrGone:
		return nil, nil
	case err != nil:
		return nil, &fs.PathError{Op: "find", Path: v.path, Err: err}
	}
	i, err := proc.Lookup(pid)
	_, locks, lerr := proc.Opened(pid, v.view.ID)
	if err != nil || lerr != nil || i.Zombie() || !proc.Blocks(locks) || !h.Unreaped() {
		h.Close()
		return nil, nil
	}
	v.info, v.proven, v.evidence = &i, true, nil
	v.addEvidence("%s has the lock", nameOf(pid))
	if why := v.trust(v.distrustHolder(locks, program)); why != nil {
		h.Close()
		return nil, v.refuse("find", why)
	}
	return &Process{v.path, h, i}, nil
}

// distrustHolder is distrust for a process that the file need not name. A process that
// has the file open can lock it and pass the descriptor to another user's process, by
// unix(7), which then has the lock and knows nothing of it: a system service, say,
// that accepts descriptors from any user.
func (v *verdict) distrustHolder(locks []proc.Lock, program string) *objection {
	i := v.info
	switch {
	case i.PID == 1:
		return &objection{reason: "PID 1 has the lock", remedy: "it is never signalled"}
	case program == "" && !v.tookOrInherited(locks):
		return &objection{reason: fmt.Sprintf("%s neither took the lock nor can be seen to have inherited it: another process may have passed it the descriptor", name(i)), remedy: "end it by hand, or name its program (--program)"}
	}
	return v.distrust(program)
}

// tookOrInherited reports whether v.info took one of the locks, or has it from a
// process that did: as its descendant, or as COMMAND of 'pidfile run' or a
// descendant of that, which have the path in their environment.
func (v *verdict) tookOrInherited(locks []proc.Lock) bool {
	if proc.HasEnv(v.info.PID, names.Held+"="+v.path) {
		return true
	}
	for pid, n := v.info.PID, 0; pid > 1 && n < maxAncestors; n++ {
		if slices.ContainsFunc(locks, func(l proc.Lock) bool { return l.PID == pid }) {
			return true
		}
		pid = proc.Parent(pid)
	}
	return false
}

// maxAncestors bounds how far a lock is traced back.
const maxAncestors = 64

// pin examines the file at path, pins its holder, and examines it again: now its PID
// cannot be another's. The handle is nil if no holder is known; the verdict
// tells why. The error is the system's, or ctx's.
func pin(ctx context.Context, path string, f Finder) (verdict, *proc.Handle, error) {
	for began := time.Now(); ; {
		v, err := examine(path, mode{act: true, ctx: ctx, finder: f})
		switch {
		case ctx.Err() != nil:
			return v, nil, ctx.Err()
		case err != nil || v.info == nil:
			return v, nil, nil
		}
		h, err := proc.Open(v.info.PID)
		switch {
		case err == proc.ErrGone: // it has just ended
		case err != nil:
			return v, nil, err
		default:
			again, err := examine(path, mode{act: true, ctx: ctx, finder: f})
			if err == nil && again.info != nil && again.info.PID == h.PID() && h.Unreaped() {
				return again, h, nil
			}
			same := again.info == nil && again.view.ID == v.view.ID && again.view.PID == v.view.PID && !h.Ended()
			h.Close()
			if err != nil || again.cause != nil || same { // as where descriptors run out: its evidence says so
				return again, nil, nil
			}
		}
		if time.Since(began) > retryFor {
			v.keepsChanging()
			return v, nil, nil
		}
	}
}

// refuseReason returns why the process must not be acted on, nil if it may be.
func (v *verdict) refuseReason(f Finder) error {
	v.confirm()
	switch {
	case v.state == Absent || v.state == Stale:
		if v.state == Stale && v.view.PID == 0 {
			return fmt.Errorf("%w: %w", ErrNotRunning, ErrMalformed)
		}
		return ErrNotRunning
	case v.state != Running || v.info == nil:
		return ErrUnproven
	case v.info.PID == self:
		v.addEvidence("it is this process itself")
		return ErrUnproven
	case f.wantsLock(v):
		return ErrUnproven
	case !v.proven && v.gaps.Any(proc.GapFileSystem):
		return ErrUnproven // the evidence says so: it may be locked from elsewhere
	case !v.proven && v.gaps.Any(proc.GapHidden|proc.GapChanges) && !lock.Free(v.path):
		v.addEvidence("a process that is not visible from here has it locked")
		return ErrUnproven
	case v.doubtsInit(), v.doubt != "":
		return ErrUnproven
	}
	return v.trust(v.distrust(f.Program))
}

// doubtsInit reports whether the holder is said to be PID 1 without the proof of the
// lock, and says so: too many broken files say 1, or were written in a container.
func (v *verdict) doubtsInit() bool {
	doubt := v.info.PID == 1 && !v.proven
	if doubt {
		v.addEvidence("PID 1 is not believed without the lock")
	}
	return doubt
}

// trust returns the error that an objection amounts to, and adds it to the evidence.
func (v *verdict) trust(o *objection) error {
	switch {
	case o == nil:
		return nil
	case o.moved:
		return errMoved
	}
	v.addEvidence("%s", o)
	return ErrUntrusted
}

// refuse is the error of an op that does nothing, with the evidence.
func (v *verdict) refuse(op string, why error) error {
	causes := []error{why}
	if v.cause != nil {
		causes = append(causes, v.cause)
	}
	return &fs.PathError{Op: op, Path: v.path, Err: &evidenceError{causes, v.evidence}}
}

// An evidenceError matches its causes, and has the evidence in its text.
type evidenceError struct {
	causes   []error
	evidence []evidence
}

func (e *evidenceError) Error() string {
	text := e.causes[0].Error() + ": "
	for i, line := range e.evidence {
		if i > 0 {
			text += "; "
		}
		text += line.text
	}
	return text
}
func (e *evidenceError) Unwrap() []error { return e.causes }

// PID returns the PID that the process has, or had.
func (p *Process) PID() int { return p.handle.PID() }

// Info describes the process as it was when it was found.
func (p *Process) Info() ProcessInfo { return *describe(&p.info) }

// Signal sends a signal to the process, and to no other one that may have its PID by
// now. It does not block. The error matches [ErrNotRunning] and [os.ErrProcessDone]
// if the process has ended, reaped or not, [syscall.EPERM] if we may not signal it,
// and [errors.ErrUnsupported] if this system has no such signal. Signal 0 sends
// nothing, and only asks.
func (p *Process) Signal(sig os.Signal) error {
	s, ok := sig.(syscall.Signal)
	if !ok {
		return p.wrap("signal", errors.ErrUnsupported)
	}
	if p.handle.Ended() {
		return p.wrap("signal", proc.ErrGone)
	}
	return p.wrap("signal", p.handle.Signal(s))
}

func (p *Process) wrap(op string, err error) error {
	switch err {
	case nil:
		return nil
	case proc.ErrGone:
		err = processDone(p.PID())
	}
	return &fs.PathError{Op: op, Path: p.path, Err: err}
}

// processDone is the error of a Process with that PID that has ended.
type processDone int

func (pid processDone) Error() string { return fmt.Sprintf("not running: PID %d has ended", int(pid)) }

// Is reports whether target is ErrNotRunning or os.ErrProcessDone.
func (processDone) Is(target error) bool {
	return target == ErrNotRunning || target == os.ErrProcessDone
}

// Wait blocks until the process has ended or ctx is done, without polling. Then it
// returns its exit status, if the kernel tells it: of a process that is not reaped yet,
// and is ours, or anybody's where we are root; of one that was reaped, since Linux 6.15.
// Else, after 50 ms, the status is nil.
func (p *Process) Wait(ctx context.Context) (*ExitStatus, error) {
	status, err := p.handle.Wait(ctx)
	if err != nil {
		return nil, p.wrap("wait", err)
	}
	return (*ExitStatus)(status), nil
}

// Stop asks the process to end with TERM (and CONT, since it may be stopped), and kills
// it with KILL if it has not ended after grace; a grace of 0 kills at once. It blocks
// until the process has ended or ctx is done: then its error matches ctx.Err(), and
// the process may still run. If ctx is done already, nothing is sent. Stop reports
// whether it sent KILL, also with an error.
//
// A process that sleeps in the kernel beyond the reach of signals (on a dead network
// file system, say) outlives KILL, so ctx should have an end. Stop says nothing about
// a successor that takes the file afterwards, which a supervisor may start: ask
// [Inspect].
func (p *Process) Stop(ctx context.Context, grace time.Duration) (killed bool, err error) {
	if p.handle.Ended() {
		return false, nil
	}
	if err := ctx.Err(); err != nil {
		return false, p.wrap("stop", err)
	}
	if grace > 0 {
		err := p.terminate()
		if err == nil {
			soft, cancel := context.WithTimeout(ctx, grace)
			_, err = p.Wait(soft)
			cancel()
		}
		// KILL is for a process that had its time, not for a wait that failed.
		if err == nil || ctx.Err() != nil || !errors.Is(err, context.DeadlineExceeded) {
			return false, ended(err)
		}
	}
	if err := p.Signal(syscall.SIGKILL); err != nil {
		return false, ended(err)
	}
	_, err = p.Wait(ctx)
	return true, err
}

// terminate sends TERM, and CONT: a stopped process would not see TERM.
func (p *Process) terminate() error {
	if err := p.Signal(syscall.SIGTERM); err != nil {
		return err
	}
	return p.Signal(proc.Cont)
}

// ended is err, but for a process that ended by itself.
func ended(err error) error {
	if errors.Is(err, ErrNotRunning) {
		return nil
	}
	return err
}

// Close releases the process, which runs on. What is called after it returns an
// error that matches [fs.ErrClosed].
func (p *Process) Close() error { return p.handle.Close() }
