package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"github.com/go-pidfile/pidfile"
	"github.com/go-pidfile/pidfile/internal/lock"
	"github.com/go-pidfile/pidfile/internal/names"
	"github.com/go-pidfile/pidfile/internal/supervise"
	"github.com/spf13/cobra"
)

// start and restart with --foreign.

// checkForeign refuses what needs a supervisor, which a foreign COMMAND has not.
func (l *launcher) checkForeign(c *cobra.Command) error {
	for _, name := range []string{"ready", "group", "tree", "max-runtime", "die-together", "close", "on-lost", "mode"} {
		if c.Flags().Changed(name) {
			return fmt.Errorf("--foreign and --%s: a foreign COMMAND has no supervisor, and writes PIDFILE itself", name)
		}
	}
	return nil
}

// launchForeign starts a COMMAND that writes PIDFILE itself. Of several that
// are asked to at once, one starts it: a file of our own sees to that.
func (l *launcher) launchForeign(ctx context.Context) error {
	dir, base := filepath.Split(l.path)
	ctx, cancel := context.WithTimeout(ctx, l.timeout)
	defer cancel()
	// Readable by its user alone: any reader can keep every start out.
	gate, err := pidfile.Config{Mode: 0o600}.AcquireContext(ctx, dir+"."+base+".start")
	switch {
	case errors.Is(err, context.Canceled):
		infof("interrupted: %s was not started", l.path)
		return interruption(ctx)
	case errors.Is(err, pidfile.ErrAlreadyRunning), errors.Is(err, context.DeadlineExceeded):
		return fmt.Errorf("%s: another start of it is under way: %w", l.path, err)
	case err != nil:
		return err
	}
	defer gate.Release()
	if l.restart {
		if err := l.openLog(); err != nil { // else it would be stopped in vain
			return err
		}
		s := newStopper(l.command.KillAfter)
		s.holders = l.holders
		line := showProgress(s.text)
		o := s.stop(l.path)
		line.End()
		if o.code != 0 {
			return report([]outcome{o}, style{})
		}
	}
	for try := 0; ; try++ {
		switch err := l.clear(); err {
		case nil:
			return l.startForeign(ctx)
		case errRuns:
			s, _ := pidfile.Inspect(l.path)
			return l.alreadyRunning(s)
		case lock.ErrHeld:
			if err := l.running(); err != errEnded || try == l.retries {
				return err
			}
		default:
			return err
		}
	}
}

// openLog opens the log of a foreign COMMAND, once it is certain that there will
// be one.
func (l *launcher) openLog() (err error) {
	if l.command.Output, err = supervise.OpenLog(l.logPath, l.command.Account, appending); err != nil {
		return fmt.Errorf("--log: %w", err)
	}
	return nil
}

func (l *launcher) startForeign(ctx context.Context) error {
	if l.command.Output == nil {
		if err := l.openLog(); err != nil {
			return err
		}
	}
	defer l.command.Output.Close()
	warnForeign(l.path, l.command.Account)
	l.command.Env = supervise.Environ(l.path, l.command.Account, l.vars)
	ended := make(chan error, 1)
	f := &foreign{launcher: l, began: time.Now(), left: supervise.Adopt(), ended: ended}
	c, err := l.command.StartDetached()
	if err != nil {
		return l.cannotStart(err)
	}
	f.process = c.Process
	reaped := f.left.Reap(c.Process.Pid)
	go func() {
		err := c.Wait()
		ended <- err
		reaped()
	}()
	line := showProgress(func(waited time.Duration) string {
		return fmt.Sprintf("waiting for PID %d to write %s: %s of %v", c.Process.Pid, l.path, age(waited), l.timeout)
	})
	defer line.End()
	return f.wait(ctx, line)
}

// A foreign is a COMMAND that was started and has yet to write PIDFILE.
type foreign struct {
	*launcher
	began   time.Time
	process *os.Process
	ended   <-chan error       // COMMAND itself; nil if it went into the background
	left    *supervise.Adopted // what it left there; nil where that is not known
	named   pidfile.Status     // what PIDFILE has named
}

// wait waits until PIDFILE names a process that lives on, or none will.
func (f *foreign) wait(ctx context.Context, line *progress) error {
	appeared := f.await(ctx)
	gone := f.left.Gone()
	var lived <-chan time.Time
	var interrupted <-chan struct{}
	for {
		select {
		case err := <-f.ended:
			if err == nil { // into the background
				f.ended = nil
				continue
			}
			line.End()
			return f.failed(err.Error())
		case <-gone:
			gone = nil
			if f.ended != nil { // it is told as well
				if err := <-f.ended; err != nil {
					line.End()
					return f.failed(err.Error())
				}
				f.ended = nil
			}
			s, running := f.look()
			if !running {
				line.End()
				return f.failed(noneLeft)
			}
			// Another's child, where COMMAND has asked a service manager.
			f.named, appeared, lived, interrupted = s, nil, time.After(f.delay), ctx.Done()
		case a := <-appeared:
			if a.err != nil {
				line.End()
				return f.missing(ctx, a.err)
			}
			f.named = a.status
			appeared, lived, interrupted = nil, time.After(f.delay), ctx.Done()
		case <-lived:
			s, running := f.look()
			switch {
			case running && s.PID == f.named.PID:
				line.End()
				f.started(s.PID, time.Since(f.began))
				return nil
			case !running && gone == nil && f.left != nil:
				line.End()
				return f.failed(noneLeft)
			}
			lived, interrupted, appeared = nil, nil, f.await(ctx)
		case <-interrupted:
			if interrupted = nil; errors.Is(ctx.Err(), context.Canceled) {
				line.End()
				return f.missing(ctx, ctx.Err())
			}
		}
	}
}

const noneLeft = "exit status 0, and no process that it started is left"

// An appearance is a PIDFILE that names a process, or why it will not.
type appearance struct {
	status pidfile.Status
	err    error
}

// await waits for that.
func (f *foreign) await(ctx context.Context) <-chan appearance {
	c := make(chan appearance, 1)
	go func() {
		s, err := f.awaitNamed(ctx)
		c <- appearance{s, err}
	}()
	return c
}

// failed says that COMMAND will not write PIDFILE.
func (f *foreign) failed(how string) error {
	what := fmt.Sprintf("PID %d ended and had not written the file: %s", f.process.Pid, how)
	if s, running := f.look(); running {
		what = fmt.Sprintf("PID %d ended, though the file names PID %d, which runs: %s", f.process.Pid, s.PID, how)
	} else if f.named.PID != 0 {
		what = fmt.Sprintf("PID %d, which COMMAND had written into it, has ended; COMMAND: %s", f.named.PID, how)
	}
	err := f.endedEarly(what, false)
	tellLeft(f.left.Left())
	return err
}

// missing says why PIDFILE does not name a process, which COMMAND still may change.
func (f *foreign) missing(ctx context.Context, err error) error {
	pid := f.process.Pid
	switch {
	case errors.Is(err, context.Canceled):
		infof("interrupted: PID %d goes on starting; it writes %s itself", pid, f.path)
		return interruption(ctx)
	case !errors.Is(err, context.DeadlineExceeded):
		return fmt.Errorf("%s: PID %d goes on starting: %w", f.path, pid, err)
	}
	what := fmt.Sprintf("PID %d has not written it after %v", pid, f.timeout)
	if f.named.PID != 0 {
		what = fmt.Sprintf("PID %d, which it named, has ended, and it names no other after %v", f.named.PID, f.timeout)
	}
	printError(fmt.Errorf("%s: %s", f.path, what))
	f.showLog(f.logEnd())
	f.end()
	return exit(exitTimeout)
}

// tellLeft says what goes on though the start has failed.
func tellLeft(pids []int) {
	for _, pid := range pids {
		infof("warning: what it left in the background runs on: %s", processName(pid))
	}
}

// awaitNamed waits until PIDFILE names a process. It looks now and then, besides: a
// program that locks the file first writes it a moment later, which nothing tells, and
// a file with another machine's clock is never Running.
func (f *foreign) awaitNamed(ctx context.Context) (pidfile.Status, error) {
	for pause := 10 * time.Millisecond; ; pause = min(2*pause, time.Second/4) {
		soon, cancel := context.WithTimeout(ctx, pause)
		s, err := pidfile.WaitRunning(soon, f.path)
		cancel()
		switch {
		case ctx.Err() != nil:
			return s, ctx.Err()
		case err != nil && !errors.Is(err, context.DeadlineExceeded):
			return s, err
		}
		if s, running := f.look(); running {
			return s, nil
		}
		if err == nil {
			time.Sleep(10 * time.Millisecond)
		}
	}
}

// look reports whether PIDFILE names a process that runs: by what it says, or because
// COMMAND has started that.
func (f *foreign) look() (s pidfile.Status, running bool) {
	s, err := pidfile.Inspect(f.path)
	switch {
	case err != nil || s.PID == 0:
		return s, false
	case s.State == pidfile.Running:
		return s, s.Process != nil
	}
	return s, s.State == pidfile.Unknown && f.left != nil && descends(s.PID, os.Getpid())
}

// end stops COMMAND and what it left in the background.
func (f *foreign) end() {
	if f.ended != nil {
		_ = f.process.Signal(syscall.SIGTERM) // it may have ended
	}
	all := f.left.Signal(syscall.SIGTERM)
	if !f.gone(f.command.KillAfter, all) {
		if f.ended != nil {
			_ = f.process.Kill()
		}
		f.left.Signal(syscall.SIGKILL)
		f.gone(time.Second, all)
	}
	if f.left == nil && f.ended == nil {
		infof("warning: what it left in the background goes on: PIDFILE would have named it")
	}
	tellLeft(f.left.Left())
}

// gone waits until COMMAND, or all that it left as well, have ended, and reports
// whether they have.
func (f *foreign) gone(within time.Duration, all bool) bool {
	late := time.After(within)
	var gone <-chan struct{}
	if all {
		gone = f.left.Gone()
	}
	for f.ended != nil || gone != nil {
		select {
		case <-f.ended:
			f.ended = nil
		case <-gone:
			gone = nil
		case <-late:
			return false
		}
	}
	return true
}

func (l *launcher) cannotStart(err error) error {
	printError(fmt.Errorf("%s: cannot be executed: %w", l.command.Path, err))
	if errors.Is(err, fs.ErrNotExist) {
		return exit(exitNotFound)
	}
	return exit(exitNotExec)
}

// warnForeign tells root when it starts what its own stop will refuse to signal.
// In a directory that others may change, any process may be named, and a foreign
// COMMAND does not hold the lock, which could prove the opposite.
func warnForeign(path string, a *supervise.Account) {
	if os.Geteuid() != 0 {
		return
	}
	uid := 0
	if a != nil {
		uid = a.UID // a process's own user is trusted about it
	}
	dir := filepath.Dir(path)
	if doubt := untrusted(dir, uid); doubt != "" {
		infof("warning: %s %s, and with --foreign nothing else proves which process %s names: 'pidfile stop' will refuse", dir, doubt, path)
		hint("put PIDFILE into a directory that only root can change, such as /run, or use stop --program")
	}
}

// untrusted says why others than root and user uid may put files into dir, or
// replace them; "" if they may not.
func untrusted(dir string, uid int) string {
	fi, err := os.Stat(dir)
	switch {
	case err != nil: // the start fails, and says why
	case names.Owner(fi) != 0 && names.Owner(fi) != uid:
		return fmt.Sprintf("belongs to UID %d", names.Owner(fi))
	case fi.Mode().Perm()&0o002 != 0 && fi.Mode()&os.ModeSticky == 0:
		return "may be changed by everybody"
	}
	return ""
}
