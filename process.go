package pidfile

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/go-pidfile/pidfile/internal/lock"
	"github.com/go-pidfile/pidfile/internal/proc"
)

// A Process is the holder of a PID file, pinned: whatever becomes of its PID,
// its methods act on this process or on none. Several goroutines may use it.
type Process struct {
	path   string
	handle *proc.Handle
}

// An ExitStatus is how a process ended.
type ExitStatus struct {
	Code   int            // its exit code, -1 if a signal ended it
	Signal syscall.Signal // the signal that ended it, 0 if none did
}

// String returns "exit status 3" or "signal: terminated".
func (s *ExitStatus) String() string {
	if s.Signal != 0 {
		return fmt.Sprintf("signal: %v", s.Signal)
	}
	return fmt.Sprintf("exit status %d", s.Code)
}

// Find pins the process that holds the PID file at path, and proves that it
// does: first the process, by pidfd_open(2), then the proof, so that its PID
// cannot become another's in between.
//
// The errors, all *fs.PathError, match:
//   - ErrNotRunning if nobody has the file: it does not exist, or is stale
//     (then ErrMalformed too, if its text is no PID);
//   - ErrUnproven, with the evidence in the text, if somebody may have it, but
//     it is not proven that the named process does (a descendant holds the
//     lock, or a process that is not visible from here, or it cannot be told:
//     then also what the system said, such as fs.ErrPermission); if the process
//     is the calling one; or if the file is not to be trusted.
//
// To be trusted, the file must belong to root, to us or to the process's user,
// and so must its directory and all those above; others may write neither the
// file nor, unless they have the sticky bit, these directories; and the file has
// one name only (no hard links). If the file is not locked, neither it nor its
// directory may be writable by a group, but root's and the process's own, or by
// whom an access control list names. PID 1 must be proven by the lock: too many
// broken files say 1.
//
// In a PID namespace other than the machine's first, where /proc/locks does not
// show the flock(2) locks of others, Find takes a shared lock for an instant
// before it believes that a file is not locked.
//
// Find blocks no longer than Inspect does. The Process must be closed. Outside
// Linux the error matches errors.ErrUnsupported.
func Find(path string) (*Process, error) {
	if !proc.CanPin {
		return nil, &fs.PathError{Op: "find", Path: path, Err: errors.ErrUnsupported}
	}
	j, h, err := pin(path)
	if err != nil {
		return nil, &fs.PathError{Op: "find", Path: j.path, Err: err}
	}
	if why := j.why(); why != nil {
		if h != nil {
			h.Close()
		}
		return nil, j.refuse("find", why)
	}
	return &Process{j.path, h}, nil
}

// pin judges the file at path, pins its holder, and judges again: now its PID
// cannot be another's. The handle is nil if no holder is known; the judgement,
// which is then the first, says why.
func pin(path string) (judgement, *proc.Handle, error) {
	for {
		first, err := judge(path, care{act: true})
		if err != nil || first.info == nil {
			return first, nil, nil
		}
		h, err := proc.Open(first.info.PID)
		if err == proc.ErrGone {
			continue // it has just ended
		}
		if err != nil {
			return first, nil, err
		}
		j, err := judge(path, care{act: true})
		if err == nil && j.info != nil && j.info.PID == h.PID() && h.Unreaped() {
			return j, h, nil
		}
		h.Close()
	}
}

// why returns what speaks against acting on the process, nil if nothing does.
func (j *judgement) why() error {
	j.settle()
	switch {
	case j.state == Absent || j.state == Stale:
		if j.state == Stale && j.view.PID == 0 {
			return fmt.Errorf("%w: %w", ErrNotRunning, ErrMalformed)
		}
		return ErrNotRunning
	case j.state != Running || j.info == nil:
		return ErrUnproven
	case j.info.PID == self:
		j.say("it is this process itself")
		return ErrUnproven
	case !j.proven && j.view.Blind:
		return ErrUnproven // the evidence says so: it may be locked from elsewhere
	case !j.proven && (j.hidden || j.torn) && !lock.Free(j.path):
		j.say("somebody who is not visible from here has it locked")
		return ErrUnproven
	case j.info.PID == 1 && !j.proven:
		j.say("PID 1 is not believed without the lock")
		return ErrUnproven
	}
	if doubt := j.distrust(); doubt != "" {
		j.say("%s", doubt)
		return ErrUnproven
	}
	return nil
}

// distrust says why the file may have been written by somebody who wants the
// process harmed, "" if it cannot.
func (j *judgement) distrust() string {
	trusted := func(uid int) bool { return uid == 0 || uid == os.Geteuid() || uid == j.info.UID }
	v := &j.view
	switch {
	case !trusted(v.UID):
		return fmt.Sprintf("the file belongs to UID %d, who is neither root, nor us, nor the process's user", v.UID)
	case v.Mode&0o002 != 0:
		return fmt.Sprintf("everybody may write the file (mode %04o)", v.Mode)
	case !j.proven && j.othersWrite(j.path, v.Mode, v.GID):
		return fmt.Sprintf("group %d, or whom its access control list names, may write the file (mode %04o), which is not locked", v.GID, v.Mode)
	case v.Links != 1:
		return fmt.Sprintf("the file has %d names (hard links)", v.Links)
	}
	own := filepath.Dir(j.path)
	for dir := own; ; dir = filepath.Dir(dir) {
		mode, uid, gid, err := lock.Dir(dir)
		sticky := mode&0o1000 != 0
		if dir != own && uid == nobody {
			uid = 0
		}
		switch {
		case err != nil:
			return fmt.Sprintf("its directory cannot be examined: %v", err)
		case !trusted(uid):
			return fmt.Sprintf("the directory %s belongs to UID %d, who is neither root, nor us, nor the process's user", dir, uid)
		case mode&0o002 != 0 && !sticky:
			return fmt.Sprintf("everybody may write the directory %s, which has no sticky bit", dir)
		case dir == own && !j.proven && !sticky && j.othersWrite(dir, mode, gid):
			return fmt.Sprintf("group %d, or whom its access control list names, may write the directory %s, and the file is not locked", gid, dir)
		}
		if dir == filepath.Dir(dir) {
			return ""
		}
	}
}

// nobody is who owns what belongs to a user whom our user namespace does not know,
// user_namespaces(7): root outside, as a rule.
const nobody = 65534

// othersWrite reports whether what is at path may be written by a group that is
// neither root's nor the process's own. With an access control list the bits of
// the group are what the list allows to anybody, acl(5).
func (j *judgement) othersWrite(path string, mode uint32, gid int) bool {
	return mode&0o020 != 0 && (gid != 0 && gid != j.info.GID || lock.HasACL(path))
}

// refuse is the error of an op that does nothing, with the evidence.
func (j *judgement) refuse(op string, why error) error {
	causes := []error{why}
	if j.cause != nil {
		causes = append(causes, j.cause)
	}
	return &fs.PathError{Op: op, Path: j.path, Err: &evidenceError{causes, j.evidence}}
}

// An evidenceError says why, and is also what caused that.
type evidenceError struct {
	causes   []error
	evidence []string
}

func (e *evidenceError) Error() string {
	return e.causes[0].Error() + ": " + strings.Join(e.evidence, "; ")
}
func (e *evidenceError) Unwrap() []error { return e.causes }

// PID returns the PID that the process has, or had.
func (p *Process) PID() int { return p.handle.PID() }

// Signal sends a signal to the process, and to no other one that may have its
// PID by now. It does not block. The error matches ErrNotRunning if the process
// has been reaped, syscall.EPERM if we may not signal it, and ErrUnsupported if
// sig is no signal of this system. Signal 0 sends nothing, and only asks.
func (p *Process) Signal(sig os.Signal) error {
	s, ok := sig.(syscall.Signal)
	if !ok {
		return p.wrap("signal", errors.ErrUnsupported)
	}
	return p.wrap("signal", p.handle.Signal(s))
}

func (p *Process) wrap(op string, err error) error {
	switch err {
	case nil:
		return nil
	case proc.ErrGone:
		err = ErrNotRunning
	}
	return &fs.PathError{Op: op, Path: p.path, Err: err}
}

// Wait blocks until the process has ended or ctx is done, without polling. Then
// it returns its exit status where the kernel tells it for a process that is not
// our child (Linux 6.15), once its parent has reaped it; Wait gives the parent
// 50 ms for that. Elsewhere the status is nil.
func (p *Process) Wait(ctx context.Context) (*ExitStatus, error) {
	status, err := p.handle.Wait(ctx)
	if err != nil {
		return nil, p.wrap("wait", err)
	}
	return (*ExitStatus)(status), nil
}

// Stop asks the process to end with TERM (and CONT, for it may be stopped), and
// kills it with KILL if it has not ended after grace; a grace of 0 kills at
// once. It blocks until the process has ended or ctx is done: then its error
// matches ctx.Err(), and the process may still run. If ctx is done already,
// nothing is sent. A process that sleeps in the kernel beyond the reach of signals
// (on a dead network file system, say) outlives KILL, so ctx should have an end.
// Like a supervisor, Stop says nothing about a successor that
// takes the file afterwards: ask Inspect.
func (p *Process) Stop(ctx context.Context, grace time.Duration) error {
	if p.handle.Ended() {
		return nil
	}
	if err := ctx.Err(); err != nil {
		return p.wrap("stop", err)
	}
	if grace > 0 {
		err := p.Signal(syscall.SIGTERM)
		if err == nil {
			err = p.Signal(proc.Cont)
		}
		if err != nil {
			return ended(err)
		}
		soft, cancel := context.WithTimeout(ctx, grace)
		_, err = p.Wait(soft)
		cancel()
		if err == nil || ctx.Err() != nil || !errors.Is(err, context.DeadlineExceeded) {
			return err // KILL is for who had its time, not for a wait that failed
		}
	}
	if err := p.Signal(syscall.SIGKILL); err != nil {
		return ended(err)
	}
	_, err := p.Wait(ctx)
	return err
}

// ended is err, but for a process that ended by itself.
func ended(err error) error {
	if errors.Is(err, ErrNotRunning) {
		return nil
	}
	return err
}

// Close releases the process, which runs on. What is called after it returns an
// error that matches fs.ErrClosed.
func (p *Process) Close() error { return p.handle.Close() }
