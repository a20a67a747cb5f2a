// Package supervise runs a command under a PID file: it starts the command so that
// the file names it from before its first instruction, passes signals on to it, and
// waits for its end. It does what a shell does for a job: process groups, the
// terminal's foreground, stopping and going on.
//
// A [Command] says what to run and how. To run it as a child:
//
//	s, err := supervise.New(&command)   // signals are caught from here on
//	err = s.Start(pending)              // the PID file is complete, and COMMAND runs
//	overtime := s.Wait(nil)             // until it has ended; it is a zombie
//	...                                 // release the PID file: its PID is still taken
//	code, err := s.Reap()
//
// If Start fails, Cancel undoes New. To become the command instead, with no parent
// left: [Command.Exec]. To start one that writes its PID file itself:
// [Command.StartDetached].
//
// Signals belong to a process, so there is one Supervisor in it: what New has caught
// stays caught when COMMAND has ended, so that a signal that comes late does no harm.
// Wait blocks; no other method does, but for Reap if COMMAND has not ended, and Stop on
// systems other than Linux. Stop may be called by any goroutine.
//
// # Systems
//
// On Linux the child itself records its PID, between vfork and exec (on amd64 and
// arm64; fork elsewhere), and Wait is one thread asleep in poll(2). Elsewhere on
// Unix the file names this process for the moment until the child has started;
// there Tree, DieTogether and [ListenNotify] are not supported. On other systems
// nothing is.
package supervise

import (
	"errors"
	"fmt"
	"os"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/go-pidfile/pidfile/internal/lock"
)

// A Command is what to run, and how. The zero value of an optional field leaves that
// as it is in this process.
type Command struct {
	Path string   // of the executable
	Args []string // its name first
	Env  []string // all of it: see Environ

	// Inherit: it keeps the locked descriptor, so that the lock ends with it and not
	// with this process.
	Inherit bool

	Group       bool     // it leads a process group, and signals go to the group
	Session     bool     // it leads a session, which has no terminal, and so a group
	DieTogether bool     // the kernel kills it if this process is killed
	Dir         string   // its working directory
	Umask       *int     // its umask
	Account     *Account // the user that it runs as
	Output      *os.File // its standard output and error

	Tree       bool          // wait also for all processes that it leaves behind
	MaxRuntime time.Duration // then it is stopped; 0: never
	KillAfter  time.Duration // how long after TERM it gets KILL; 0: it gets no TERM

	// Refused is called, on its own goroutine, for a signal that COMMAND did not get,
	// because it has become another user: sudo(8). KILL is tried again until it is
	// allowed, and told of once.
	Refused func(pid int, sig syscall.Signal)
}

// A Supervisor waits for COMMAND and passes signals on to it.
type Supervisor struct {
	command *Command
	group   bool // COMMAND leads a process group
	pid     int  // COMMAND's

	immune atomic.Bool // it did not get the last TERM or KILL
	spoken atomic.Bool // of a KILL that it did not get
	system
}

// New catches signals, before there is a COMMAND that could miss one.
func New(c *Command) (*Supervisor, error) {
	s := &Supervisor{command: c, group: c.Group || c.Session}
	if err := s.catch(); err != nil {
		return nil, err
	}
	return s, nil
}

// Start starts COMMAND, once the PID file is this process's but for its text, and
// records COMMAND's PID there. It returns syscall.EEXIST if another process's file
// was faster and lock.ErrNoAnonymous if the file cannot be linked, which are for
// package lock, and a *StartError if the child did not become COMMAND. PID tells
// what it may have recorded even so.
func (s *Supervisor) Start(p *lock.Pending) error { return s.start(p) }

// PID returns the PID of COMMAND; 0 if it was not started.
func (s *Supervisor) PID() int { return s.pid }

// Wait returns when COMMAND has ended, and, for a Tree, all that it left behind.
// COMMAND is not reaped: as long as it is a zombie, no other process gets its PID.
// longRun is called, if COMMAND runs for longer than a moment, to begin what only
// then pays. Wait reports whether COMMAND was ended because MaxRuntime was exceeded.
func (s *Supervisor) Wait(longRun func()) (overtime bool) {
	if longRun == nil {
		longRun = func() {}
	}
	return s.wait(longRun) && !s.immune.Load()
}

// sent notes how sending a signal went.
func (s *Supervisor) sent(pid int, sig syscall.Signal, err error) {
	refused := errors.Is(err, syscall.EPERM)
	if sig == syscall.SIGTERM || sig == syscall.SIGKILL {
		s.immune.Store(refused)
	}
	switch {
	case !refused || s.command.Refused == nil:
		return
	case sig == syscall.SIGKILL && s.spoken.Swap(true):
		return
	case s.immune.Load() && sig != syscall.SIGTERM && sig != syscall.SIGKILL: // as the CONT after TERM
		return
	}
	go s.command.Refused(pid, sig)
}

// Stop ends COMMAND as if MaxRuntime had been exceeded: TERM, and KILL after
// KillAfter.
func (s *Supervisor) Stop() { s.stop() }

// Cancel undoes New after Start has failed. It returns the signals that were caught
// meanwhile: they are for this process. See Raise.
func (s *Supervisor) Cancel() (pending []syscall.Signal) { return s.cancel() }

// Raise sends this process the signals that Cancel returned.
func Raise(pending []syscall.Signal) { raise(pending) }

// Reap waits for COMMAND and returns its exit code, 128+N for signal N, as a shell
// does. From then on another process may get its PID.
func (s *Supervisor) Reap() (exitCode int, err error) { return reap(s.pid) }

// A StartError is a child that did not become COMMAND.
type StartError struct {
	Step  string // what failed: StepExec, or words to go before Path
	Path  string // of COMMAND or of the PID file
	Errno syscall.Errno
}

// StepExec is the Step of a COMMAND that could not be executed.
const StepExec = "exec"

func (e *StartError) Error() string { return fmt.Sprintf("%s %s: %v", e.Step, e.Path, e.Errno) }
func (e *StartError) Unwrap() error { return e.Errno }

// An UnsupportedError names a field of Command that this system cannot do.
type UnsupportedError struct{ Field string }

func (e *UnsupportedError) Error() string { return e.Field + ": " + e.Unwrap().Error() }
func (e *UnsupportedError) Unwrap() error { return errors.ErrUnsupported }

// Inherited returns the descriptor that COMMAND is to inherit, -1 for none. It
// carries the lock, and must not let COMMAND write the file if that is another user
// or may become one. Where a descriptor that cannot write has no lock (NFS), a
// COMMAND that is another user from the start does without.
func (c *Command) Inherited(p *lock.Pending) int {
	if !c.Inherit || c.Account != nil && !p.ReadOnly {
		return -1
	}
	return p.LockFD
}

// shell runs a COMMAND that execve(2) does not know: a script without #!.
const shell = "/bin/sh"
