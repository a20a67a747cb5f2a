package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/go-pidfile/pidfile"
	"github.com/go-pidfile/pidfile/internal/hook"
	"github.com/go-pidfile/pidfile/internal/lock"
	"github.com/go-pidfile/pidfile/internal/names"
	"github.com/go-pidfile/pidfile/internal/proc"
	"github.com/go-pidfile/pidfile/internal/supervise"
	"github.com/go-pidfile/pidfile/internal/watch"
)

// A runner is one "pidfile run".
type runner struct {
	wait     bool
	timeout  time.Duration
	timed    bool
	replace  bool
	holders  bool // stop whatever has the lock
	conflict int
	quiet    bool
	become   bool // --exec
	close    bool // COMMAND does not inherit the lock
	onLost   string
	mode     fs.FileMode
	report   int      // descriptor that tells "pidfile start" how it goes; -1: none
	log      string   // the file that COMMAND, and then we, write to; "": what is ours
	vars     []string // --env
	command  supervise.Command

	starter    *os.File         // of report
	pending    []syscall.Signal // caught while COMMAND could not be started
	told       int              // the PID that takeOver has told of
	path       string           // of the PID file
	supervisor *supervise.Supervisor
	progress   *progress
	fd         int // the locked descriptor, for --exec
}

func (r *runner) run(name string, command []string) (err error) {
	if r.path, err = resolve(name); err != nil {
		return err
	}
	if err := createOwnDir(r.path); err != nil {
		return err
	}
	file, err := findCommand(command[0], r.command.Dir)
	if err != nil {
		return err
	}
	r.command.Path, r.command.Args = file, command
	r.command.Env = supervise.Environ(r.path, r.command.Account, r.vars)
	if r.report >= 0 {
		supervise.CloseOnExec(r.report)
		r.starter = os.NewFile(uintptr(r.report), "report")
	}
	if r.replace { // else the running one would be stopped in vain
		if err := r.openLog(); err != nil {
			return err
		}
	}
	c := pidfile.Config{Mode: r.mode, Command: command}
	hook.SetOptions(&c, func(o *lock.Options) { o.Commit, o.Inherit = r.commit, r.command.Inherit })
	f, err := r.acquire(c)
	if err != nil {
		supervise.Raise(r.pending)
		return r.refused(err)
	}
	if r.become {
		return r.exec(f)
	}
	return r.supervise(f)
}

// findCommand looks COMMAND up before any file is touched. A name with a slash
// in it that is not absolute counts from dir, where COMMAND will be.
func findCommand(name, dir string) (string, error) {
	look := name
	if dir != "" && strings.Contains(name, "/") && !filepath.IsAbs(name) {
		look = filepath.Join(dir, name)
	}
	file, err := exec.LookPath(look)
	switch {
	case err == nil || errors.Is(err, exec.ErrDot):
		if dir != "" {
			return filepath.Abs(file) // we stay where we are, and COMMAND does not
		}
		return file, nil
	case errors.Is(err, fs.ErrPermission) || isDir(look):
		printError(fmt.Errorf("%s: cannot be executed", look))
		return "", exit(exitNotExec)
	case !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, exec.ErrNotFound) && !errors.Is(err, syscall.ENOTDIR):
		printError(fmt.Errorf("%s: cannot be executed: %v", look, errors.Unwrap(err)))
		return "", exit(exitNotExec)
	}
	err = fmt.Errorf("%s: command not found", look)
	switch {
	case name == "-c":
		err = withHint(err, "a command line for the shell is: PIDFILE sh -c 'COMMAND LINE'")
	case strings.HasPrefix(name, "-"):
		err = withHint(err, "flags of run go before PIDFILE")
	case strings.Contains(name, " "):
		err = withHint(err, "COMMAND and its arguments are words of their own: leave the quotes out, or use sh -c '"+name+"'")
	}
	printError(err)
	return "", exit(exitNotFound)
}

func isDir(name string) bool {
	fi, err := os.Stat(name)
	return strings.Contains(name, "/") && err == nil && (fi.IsDir() || fi.Mode().Perm()&0o111 == 0)
}

// acquire takes the PID file, which starts COMMAND.
func (r *runner) acquire(c pidfile.Config) (*pidfile.File, error) {
	if !r.replace && !r.wait && (!r.timed || r.timeout == 0) {
		return c.Acquire(r.path)
	}
	if os.Getpid() == 1 {
		endBySignal()
	}
	if r.replace {
		return r.replaceRunning(c)
	}
	ctx := context.Background()
	if r.timed {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, r.timeout)
		defer cancel()
	}
	if !r.quiet {
		r.warnNested()
		r.progress = showProgress(r.waiting)
		defer r.progress.End()
	}
	return c.AcquireContext(ctx, r.path)
}

// warnNested says that the holder is this process, a COMMAND itself, or an ancestor of
// it: if that waits for us, as it does unless we are in the background, both wait for ever.
func (r *runner) warnNested() {
	if os.Getenv(names.Held) == "" { // no COMMAND, nor started by one
		return
	}
	s, _ := pidfile.Inspect(r.path) // what cannot be seen is not said
	if p := s.Process; p != nil && (p.PID == os.Getpid() || descends(os.Getpid(), p.PID)) {
		infof("warning: %s is held by this process or an ancestor of it, %s: if that waits for this to end, both wait for ever", r.path, describe(s))
	}
}

// endBySignal makes the signals that end a process end us while there is no
// COMMAND to pass them on to. The kernel spares PID 1 those that it does not
// handle, pid_namespaces(7), and a container that waits could not be stopped.
func endBySignal() {
	c := make(chan os.Signal, 1)
	supervise.Notify(c, syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP, syscall.SIGQUIT)
	go func() {
		if sig, ok := (<-c).(syscall.Signal); ok {
			os.Exit(128 + int(sig))
		}
	}()
}

// replaceRunning stops the holder until the file is ours: also a program without a
// lock that is not COMMAND, of whose file Acquire would only say that it takes it
// over.
func (r *runner) replaceRunning(c pidfile.Config) (*pidfile.File, error) {
	before, _ := pidfile.Inspect(r.path) // stop says what is wrong
	if before.State != pidfile.Running {
		f, err := c.Acquire(r.path)
		if !errors.Is(err, pidfile.ErrAlreadyRunning) {
			return f, err
		}
	}
	s := newStopper(r.command.KillAfter)
	s.holders = r.holders
	if !r.quiet {
		r.progress = showProgress(s.text)
		defer r.progress.End()
	}
	const patience = 5 // in vain, with nothing changed
	for vain := 0; ; {
		before, _ := pidfile.Inspect(r.path)
		o := s.stop(r.path)
		if o.code == 0 {
			// What had the file has ended. If another was faster, that is next.
			f, err := c.Acquire(r.path)
			if !errors.Is(err, pidfile.ErrAlreadyRunning) {
				return f, err
			}
		}
		after, _ := pidfile.Inspect(r.path)
		if after.PID != before.PID {
			vain = 0
			continue
		}
		if vain++; vain == patience || o.code != 0 && after.State == before.State {
			return nil, r.notReplaced(o)
		}
	}
}

// notReplaced tells why what runs cannot be replaced.
func (r *runner) notReplaced(o outcome) error {
	r.progress.End()
	why := cmp.Or(strings.TrimPrefix(o.Error, r.path+": "), "already running")
	hint := "'pidfile status --explain " + r.path + "' tells more"
	if s, _ := pidfile.Inspect(r.path); notNamed(s) != "" && !r.holders {
		hint += "; --holders stops the holders of the lock"
	}
	printError(withHint(fmt.Errorf("%s: cannot be replaced: %s", r.path, why), hint))
	r.tell("unproven")
	return exit(r.conflict)
}

// takeOver tells that the file of a live process is about to be replaced, since
// it is not COMMAND. pid is 0 if no file is replaced.
func (r *runner) takeOver(pid int) {
	if pid == 0 || pid == r.told || pid == os.Getpid() || r.quiet {
		return
	}
	if i, err := proc.Lookup(pid); err != nil || i.Zombie() {
		return
	}
	sayTakenOver(r.path, pid, &r.command)
	r.told = pid
}

// sayTakenOver says that the file of a live process is replaced, and why.
func sayTakenOver(path string, pid int, c *supervise.Command) {
	why := "does not run COMMAND"
	if i, err := proc.Lookup(pid); err == nil && proc.Command(c.Path, c.Args).Runs(&i) {
		why = "started after the file was written"
	}
	infof("taking over %s, which is stale: %s is alive, but %s", path, processName(pid), why)
}

// waiting is the progress line of a wait.
func (r *runner) waiting(waited time.Duration) string {
	s, _ := pidfile.Inspect(r.path) // what cannot be seen is not shown
	return waiting(waited, r.timeout, target(s))
}

// commit starts COMMAND when the PID file is ours but for its text and name.
func (r *runner) commit(b *lock.Pending) (int, error) {
	r.takeOver(b.Stale)
	if r.become {
		if r.fd = r.command.Inherited(b); r.fd < 0 {
			return 0, fmt.Errorf("%s: on this file system a lock that another user inherits would let it write the file: --exec and --user do not go together here", r.path)
		}
		pid := os.Getpid()
		return pid, b.Write(pid)
	}
	if err := r.openLog(); err != nil {
		return 0, err
	}
	r.command.Refused = r.notAllowed
	s, err := supervise.New(&r.command)
	if err != nil {
		return 0, unsupportedFlag(err)
	}
	r.progress.End() // COMMAND finds the terminal clean
	if err = s.Start(b); err != nil {
		pending := s.Cancel()
		if err != syscall.EEXIST {
			r.pending = pending // first the file must be taken away again
			return s.PID(), err
		}
		supervise.Raise(pending)
		r.progress.Resume()
		return s.PID(), err
	}
	r.supervisor = s
	return s.PID(), nil
}

// openLog opens COMMAND's log, once it is certain that there will be a COMMAND.
func (r *runner) openLog() error {
	if r.log == "" || r.command.Output != nil {
		return nil
	}
	f, err := supervise.OpenLog(r.log, r.command.Account, appending)
	if err != nil {
		return fmt.Errorf("--log: %w", err)
	}
	r.command.Output = f
	return nil
}

// appending is how COMMAND has its log: it may be no one's to read.
const appending = os.O_WRONLY | os.O_APPEND | os.O_CREATE

// refused tells why there is no COMMAND, and with which code to exit.
func (r *runner) refused(err error) error {
	var (
		running *pidfile.AlreadyRunningError
		failed  *supervise.StartError
		code    exit
	)
	switch {
	case errors.As(err, &code): // has been told
		return code
	case errors.As(err, &running):
		r.tell("running %d", running.PID)
		if !r.quiet && r.conflict != 0 {
			s, _ := pidfile.Inspect(r.path)
			if s.PID != running.PID {
				s = pidfile.Status{PID: running.PID}
			}
			told := fmt.Errorf("%s: already running: %s", r.path, cmp.Or(notNamed(s), describe(s)))
			if errors.Is(err, context.DeadlineExceeded) {
				told = fmt.Errorf("%w; waited %v", told, r.timeout)
			}
			hint := "'pidfile status --explain " + r.path + "' tells more; --wait waits until it has ended, --replace stops it first"
			if notNamed(s) != "" {
				hint = holdersHint(r.path)
			}
			printError(withHint(told, hint))
		}
		return exit(r.conflict)
	case errors.Is(err, context.DeadlineExceeded): // before anything was tried
		if !r.quiet && r.conflict != 0 {
			printError(err)
		}
		return exit(r.conflict)
	case errors.As(err, &failed) && failed.Step == supervise.StepExec:
		printError(fmt.Errorf("%s: cannot be executed: %v", failed.Path, failed.Errno))
		if failed.Errno == syscall.ENOENT { // gone since, or its interpreter is missing
			return exit(exitNotFound)
		}
		return exit(exitNotExec)
	}
	return err
}

// exec becomes COMMAND. The PID file, which has our PID, stays until the next
// start finds COMMAND gone.
func (r *runner) exec(f *pidfile.File) error {
	err := r.command.Exec(r.fd)
	if e := f.Release(); e != nil {
		printError(e)
	}
	return r.refused(err)
}

// supervise waits until COMMAND has ended, and takes the file away while its
// PID cannot yet be another process's.
func (r *runner) supervise(f *pidfile.File) error {
	pid := r.supervisor.PID()
	r.tell("started %d", pid)
	if r.command.Output != nil {
		supervise.RedirectStderr(r.command.Output)
	}
	overtime := r.supervisor.Wait(func() {
		if r.onLost != "ignore" {
			go r.keep(f)
		}
	})
	if err := f.Release(); err != nil {
		survivePipe()
		printError(err)
	}
	code, err := r.supervisor.Reap()
	if err != nil {
		return err
	}
	r.tell("ended %d", code)
	switch {
	case overtime:
		if !r.quiet {
			survivePipe()
			infof("PID %d stopped after %v (--max-runtime)", pid, r.command.MaxRuntime)
		}
		return exit(exitTimeout)
	case code != 0:
		return exit(code)
	}
	return nil
}

// keep puts the file back when it is lost, for as long as COMMAND runs: else a second
// instance could start. The file put back is another one, whose lock COMMAND has not
// inherited: from then on it ends with us.
func (r *runner) keep(f *pidfile.File) {
	survivePipe()
	for warned := false; ; {
		<-f.Lost()
		if pid := r.supervisor.PID(); !warned && writesItself(r.path, pid) {
			warned = true // a daemon may write it at each reload
			infof("warning: PID %d writes %s itself, so its lock is gone: %s", pid, r.path, useForeign)
			r.tell("writes %d", pid)
		}
		if r.onLost == "stop" {
			infof("%s was removed, replaced or overwritten while PID %d runs: stopping it", r.path, r.supervisor.PID())
			r.supervisor.Stop()
			return
		}
		if !r.restore(f) {
			return
		}
	}
}

// restoreInterval is how often a file that cannot be put back is tried again, where the
// kernel tells of nothing: the disk is full, or another holder was killed.
const restoreInterval = time.Second

// restore puts the file back, and tries whenever something changes until that is done. It
// says so once when it cannot, and again when it could. It returns false if the file was
// released.
func (r *runner) restore(f *pidfile.File) bool {
	pid, how := r.supervisor.PID(), lostHow(r.path)
	var changes *watch.Watch
	defer func() { changes.Close() }()
	told, delay := "", time.Duration(0)
	for {
		err := f.Restore()
		switch {
		case err == nil && told != "":
			infof("%s is back: it names PID %d again", r.path, pid)
			return true
		case err == nil:
			infof("%s was %s while PID %d runs: put back", r.path, how, pid)
			return true
		case errors.Is(err, fs.ErrClosed):
			return false
		}
		if why := r.notRestored(err); why != told {
			infof("warning: %s was %s while PID %d runs, and %s", r.path, how, pid, why)
			told = why
		}
		if changes == nil {
			changes = watch.File(f.Path()) // and try at once: something may have changed before
			continue
		}
		select {
		case <-changes.Changed():
			time.Sleep(delay) // an attempt that fails may itself be the next change
			delay = min(max(2*delay, 10*time.Millisecond), restoreInterval)
		case <-time.After(restoreInterval):
			delay = 0
		}
	}
}

// notRestored says why the file is not put back.
func (r *runner) notRestored(err error) string {
	var other *pidfile.AlreadyRunningError
	switch {
	case errors.As(err, &other) && other.PID == r.supervisor.PID():
		return "COMMAND has locked a file of its own there: use 'start --foreign', or another path"
	case errors.As(err, &other):
		return fmt.Sprintf("is another's now: TWO MAY BE RUNNING, the other is %s; it is put back when that has ended", processName(other.PID))
	case errors.Is(err, pidfile.ErrLost):
		return fmt.Sprintf("cannot be put back while that is there: %v; still trying", withoutPath(err))
	}
	return fmt.Sprintf("cannot be put back yet: %v; still trying", withoutPath(err))
}

// lostHow says what has become of the file at path, which was lost.
func lostHow(path string) string {
	fi, err := os.Lstat(path)
	switch {
	case err != nil:
		return "removed"
	case fi.Size() == 0:
		return "emptied"
	}
	return "replaced or overwritten"
}

// unsupportedFlag names the flag that this system cannot do.
func unsupportedFlag(err error) error {
	if e := (*supervise.UnsupportedError)(nil); errors.As(err, &e) {
		flag := map[string]string{"Tree": "tree", "DieTogether": "die-together"}[e.Field]
		return fmt.Errorf("--%s: %w", flag, e.Unwrap())
	}
	return err
}

// survivePipe makes writing to a pipe without a reader an error like others:
// a supervisor must not die of telling something.
func survivePipe() { supervise.SurvivePipe() }

// tell lets "pidfile start" know how it goes. It may have gone away: then
// no reader is left.
func (r *runner) tell(format string, args ...any) {
	if r.starter != nil {
		survivePipe()
		_, _ = fmt.Fprintf(r.starter, format+"\n", args...)
	}
}
