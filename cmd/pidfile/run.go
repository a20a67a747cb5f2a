package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/go-pidfile/pidfile"
	"github.com/go-pidfile/pidfile/internal/lock"
	"github.com/spf13/cobra"
)

// A runner is one "pidfile run".
type runner struct {
	wait     bool
	timeout  time.Duration
	timed    bool
	conflict int
	quiet    bool
	become   bool // --exec
	close    bool
	mode     fs.FileMode

	missed     []syscall.Signal // caught while COMMAND could not be started
	told       int              // the PID that takeOver has told of
	path       string           // of the PID file
	start      starter
	pid        int   // COMMAND's
	pidfd      int32 // -1 if there is none
	supervisor *supervisor
	progress   *progress
	fd         int // the locked descriptor, for --exec
}

func runCommand() *cobra.Command {
	var (
		r             runner
		timeout, mode string
	)
	c := &cobra.Command{
		Use:   "run [flags] PIDFILE [--] COMMAND [ARG...]",
		Short: "Run a command as the one instance",
		Long: `Run COMMAND, unless it is running already.

While COMMAND runs, PIDFILE holds its PID, from before its first instruction
until after its last. Signals sent to pidfile (TERM, INT, HUP, QUIT, USR1, USR2,
WINCH, CONT) are passed on, and the exit code is COMMAND's own. PIDFILE is gone
when pidfile returns. If pidfile itself is killed, COMMAND keeps the lock, so
that a second start is refused all the same.

What an earlier run left behind after a crash is replaced. COMMAND finds the
path of PIDFILE in the environment variable PIDFILE. Flags go before PIDFILE:
what follows it is COMMAND's.

Exit codes:
  COMMAND's own, or 128+N if signal N ended it
  75   already running, also after a wait that ran out (see -E)
  125  pidfile itself failed
  126  COMMAND cannot be executed
  127  COMMAND was not found`,
		Example: `  # in a crontab: never two at a time, silent if one is running
  pidfile run -q backup rsync -a /home /backup

  # wait up to a minute for the other one to end
  pidfile run -t 1m /run/deploy.pid -- make deploy`,
		Args: func(c *cobra.Command, args []string) error {
			if len(args) < 2 {
				return usage(c, errors.New("run needs PIDFILE and COMMAND"))
			}
			return nil
		},
		RunE: func(c *cobra.Command, args []string) (err error) {
			if r.timed = c.Flags().Changed("timeout"); r.timed {
				if r.timeout, err = parseDuration(timeout); err != nil {
					return usage(c, fmt.Errorf("--timeout: %w", err))
				}
			}
			if r.mode, err = parseMode(mode); err != nil {
				return usage(c, fmt.Errorf("--mode: %w", err))
			}
			if r.conflict < 0 || r.conflict > 255 {
				return usage(c, fmt.Errorf("--conflict-exit-code: %d is not between 0 and 255", r.conflict))
			}
			if r.become && r.close {
				return usage(c, errors.New("--exec and --close: nobody would be left to hold the lock"))
			}
			pidfile, command := args[0], args[1:]
			if command[0] == "--" {
				command = command[1:]
			}
			if len(command) == 0 {
				return usage(c, errors.New("run needs a COMMAND"))
			}
			return r.run(pidfile, command)
		},
		DisableFlagsInUseLine: true,
	}
	f := c.Flags()
	f.SetInterspersed(false)
	f.SortFlags = false
	f.BoolVarP(&r.wait, "wait", "w", false, "wait until the running one has ended")
	f.StringVarP(&timeout, "timeout", "t", "", "wait that long at most, as 90s, 2m or a number of seconds")
	f.IntVarP(&r.conflict, "conflict-exit-code", "E", exitRunning, "exit with `N` if it is already running")
	f.BoolVarP(&r.quiet, "quiet", "q", false, "do not say that it is already running, or what is waited for")
	f.BoolVar(&r.become, "exec", false, "become COMMAND, keeping no parent: the lock lives as long as it does")
	f.BoolVar(&r.close, "close", false, "do not let COMMAND inherit the lock: it ends with pidfile")
	f.StringVar(&mode, "mode", "0644", "permission bits of PIDFILE, whatever the umask")
	return c
}

// parseDuration reads what Go calls a duration, or a number of seconds.
func parseDuration(s string) (time.Duration, error) {
	d, err := time.ParseDuration(s)
	if err != nil {
		d, err = time.ParseDuration(s + "s")
	}
	if err != nil || d < 0 {
		return 0, fmt.Errorf("%q is no duration: write 90s, 2m30s or a number of seconds", s)
	}
	return d, nil
}

func parseMode(s string) (fs.FileMode, error) {
	m, err := strconv.ParseUint(s, 8, 32)
	if err != nil || fs.FileMode(m)&^fs.ModePerm != 0 || m == 0 {
		return 0, fmt.Errorf("%q is no mode: write octal permission bits, as 0644", s)
	}
	return fs.FileMode(m), nil
}

func (r *runner) run(name string, command []string) (err error) {
	if r.path, err = resolve(name); err != nil {
		return err
	}
	file, err := findCommand(command[0])
	if err != nil {
		return err
	}
	r.start = starter{path: file, argv: command, env: environ(r.path), inherit: !r.close}
	lock.Publish = r.publish
	f, err := r.acquire(pidfile.Config{Mode: r.mode, Command: command, TakeOver: r.takeOver})
	if err != nil {
		raise(r.missed)
		return r.refused(err)
	}
	if r.become {
		return r.exec(f)
	}
	return r.supervise(f)
}

// findCommand looks COMMAND up before any file is touched.
func findCommand(name string) (string, error) {
	file, err := exec.LookPath(name)
	switch {
	case err == nil || errors.Is(err, exec.ErrDot):
		return file, nil
	case errors.Is(err, fs.ErrPermission) || isDir(name):
		complain(fmt.Errorf("%s: cannot be executed", name))
		return "", exit(exitNotExec)
	}
	err = fmt.Errorf("%s: command not found", name)
	if strings.HasPrefix(name, "-") {
		err = &hinted{err, "flags of run go before PIDFILE"}
	}
	complain(err)
	return "", exit(exitNotFound)
}

func isDir(name string) bool {
	fi, err := os.Stat(name)
	return strings.Contains(name, "/") && err == nil && (fi.IsDir() || fi.Mode().Perm()&0o111 == 0)
}

// acquire takes the PID file, which starts COMMAND.
func (r *runner) acquire(c pidfile.Config) (*pidfile.File, error) {
	if !r.wait && (!r.timed || r.timeout == 0) {
		return c.Acquire(r.path)
	}
	ctx := context.Background()
	if r.timed {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, r.timeout)
		defer cancel()
	}
	if !r.quiet {
		r.progress = showProgress(r.waiting)
		defer r.progress.End()
	}
	return c.AcquireContext(ctx, r.path)
}

// takeOver tells that the file of a live process is about to be replaced, since
// it is not COMMAND.
func (r *runner) takeOver(pid int) {
	if pid != r.told && !r.quiet {
		note("taking over %s, a left-over: %s is alive, but not COMMAND, or started later", r.path, processName(pid))
		r.told = pid
	}
}

// waiting says whom we wait for.
func (r *runner) waiting(waited time.Duration) string {
	s, _ := pidfile.Inspect(r.path) // what cannot be seen is not shown
	limit := ""
	if r.timed {
		limit = " of " + r.timeout.String()
	}
	return fmt.Sprintf("waiting for %s: %s%s", who(s), age(waited), limit)
}

// publish starts COMMAND when the PID file is ours but for its text.
func (r *runner) publish(b lock.Birth) (int, error) {
	if r.become {
		r.fd = b.FD
		pid := os.Getpid()
		return pid, b.Write(pid)
	}
	s, err := newSupervisor()
	if err != nil {
		return 0, err
	}
	r.progress.End() // COMMAND finds the terminal clean
	r.pid, r.pidfd, err = r.start.start(b)
	if err != nil {
		missed := s.giveUp()
		if err != syscall.EEXIST {
			r.missed = missed // first the file must be taken away again
			return r.pid, err
		}
		raise(missed)
		r.progress.Resume()
		return r.pid, err
	}
	r.supervisor = s
	return r.pid, nil
}

// refused tells why there is no COMMAND, and with which code to exit.
func (r *runner) refused(err error) error {
	var (
		running *pidfile.AlreadyRunningError
		failed  *startError
	)
	switch {
	case errors.As(err, &running):
		if !r.quiet && r.conflict != 0 {
			s, _ := pidfile.Inspect(r.path)
			if s.PID != running.PID {
				s = pidfile.Status{PID: running.PID}
			}
			told := fmt.Errorf("%s: already running: %s", r.path, who(s))
			if errors.Is(err, context.DeadlineExceeded) {
				told = fmt.Errorf("%w; waited %v", told, r.timeout)
			}
			complain(&hinted{told, "'pidfile status --explain " + r.path + "' tells more; --wait waits until it has ended"})
		}
		return exit(r.conflict)
	case errors.Is(err, context.DeadlineExceeded): // before anything was tried
		if !r.quiet && r.conflict != 0 {
			complain(err)
		}
		return exit(r.conflict)
	case errors.As(err, &failed) && failed.step == "exec":
		complain(fmt.Errorf("%s: cannot be executed: %v", failed.path, failed.errno))
		if failed.errno == syscall.ENOENT { // gone since, or its interpreter is missing
			return exit(exitNotFound)
		}
		return exit(exitNotExec)
	}
	return err
}

// exec becomes COMMAND. The PID file, which has our PID, stays until the next
// start finds COMMAND gone.
func (r *runner) exec(f *pidfile.File) error {
	err := become(r.fd, r.start.path, r.start.argv, r.start.env)
	if e := f.Release(); e != nil {
		complain(e)
	}
	return r.refused(&startError{"exec", r.start.path, err})
}

// supervise waits until COMMAND has ended, and takes the file away while its
// PID cannot yet be another process's.
func (r *runner) supervise(f *pidfile.File) error {
	r.supervisor.wait(r.pid, r.pidfd, func() { go r.keep(f) })
	if err := f.Release(); err != nil {
		survivePipe()
		complain(err)
	}
	code, err := reap(r.pid)
	if err != nil {
		return err
	}
	if code != 0 {
		return exit(code)
	}
	return nil
}

// keep puts the file back when somebody takes it away: who removes a PID file
// by hand would else let a second instance in. The file put back is another one,
// whose lock COMMAND has not inherited: from then on it ends with us.
func (r *runner) keep(f *pidfile.File) {
	survivePipe()
	for {
		<-f.Lost()
		switch err := f.Restore(); {
		case err == nil:
			note("%s was removed while PID %d runs: put back", r.path, r.pid)
		case errors.Is(err, fs.ErrClosed):
			return
		case errors.Is(err, pidfile.ErrLost):
			note("warning: %s was removed or replaced while PID %d runs, and is another's now", r.path, r.pid)
			return
		default:
			note("warning: %s was removed while PID %d runs, and cannot be put back: %v", r.path, r.pid, err)
			return
		}
	}
}
