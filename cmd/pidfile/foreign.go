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
	// Readable by nobody else: who may read it can keep every start out.
	gate, err := pidfile.Config{Mode: 0o600}.AcquireContext(ctx, dir+"."+base+".start")
	if err != nil {
		return fmt.Errorf("%s: another start of it is under way: %w", l.path, err)
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
	} else {
		switch s, err := pidfile.Inspect(l.path); {
		case err != nil:
			return err
		case s.State == pidfile.Running:
			if err := l.running(); err != errEnded {
				return err
			}
		case s.State == pidfile.Unknown:
			return withHint(fmt.Errorf("%s: it cannot be told whether it runs", l.path), "'pidfile status --explain "+l.path+"' tells more")
		}
	}
	return l.startForeign(ctx)
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
	began := time.Now()
	if l.command.Output == nil {
		if err := l.openLog(); err != nil {
			return err
		}
	}
	defer l.command.Output.Close()
	warnForeign(l.path, l.command.Account)
	l.command.Env = supervise.Environ(l.path, l.command.Account, l.vars)
	c, err := l.command.StartDetached()
	if err != nil {
		return l.cannotStart(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- c.Wait() }()
	appeared := make(chan error, 1)
	var s pidfile.Status
	go func() {
		var err error
		s, err = l.named(ctx)
		appeared <- err
	}()
	line := showProgress(func(waited time.Duration) string {
		return fmt.Sprintf("waiting for PID %d to write %s: %s of %v", c.Process.Pid, l.path, age(waited), l.timeout)
	})
	defer line.End()
	for {
		select {
		case err := <-ended:
			if err == nil { // into the background
				ended = nil
				continue
			}
			line.End()
			return l.endedEarly(fmt.Sprintf("PID %d ended and had not written the file: %v", c.Process.Pid, err), false)
		case err := <-appeared:
			line.End()
			if err == nil {
				l.started(s.PID, time.Since(began))
				return nil
			}
			if errors.Is(err, context.Canceled) {
				infof("interrupted: PID %d goes on starting; it writes %s itself", c.Process.Pid, l.path)
				return interruption(ctx)
			}
			if !errors.Is(err, context.DeadlineExceeded) {
				return fmt.Errorf("%s: PID %d goes on starting: %w", l.path, c.Process.Pid, err)
			}
			printError(fmt.Errorf("%s: PID %d has not written it after %v", l.path, c.Process.Pid, l.timeout))
			l.showLog()
			if ended != nil {
				l.endForeign(c.Process, ended)
			} else {
				infof("warning: what it left in the background goes on: PIDFILE would have named it")
			}
			return exit(exitTimeout)
		}
	}
}

// named waits until PIDFILE names a process. One who locks it first writes it a
// moment later, which nothing tells.
func (l *launcher) named(ctx context.Context) (pidfile.Status, error) {
	for {
		s, err := pidfile.WaitRunning(ctx, l.path)
		if err != nil || s.Process != nil {
			return s, err
		}
		select {
		case <-time.After(10 * time.Millisecond):
		case <-ctx.Done():
			return s, ctx.Err()
		}
	}
}

// endForeign ends our child, which is not reaped before it sends to ended.
func (l *launcher) endForeign(p *os.Process, ended <-chan error) {
	_ = p.Signal(syscall.SIGTERM) // it may have ended
	select {
	case <-ended:
	case <-time.After(l.command.KillAfter):
		_ = p.Kill()
		<-ended
	}
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
