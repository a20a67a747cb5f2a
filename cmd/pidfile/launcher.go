package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"
	"time"

	"github.com/go-pidfile/pidfile"
)

// A launcher is one "pidfile start" or "restart". It starts COMMAND through a
// "pidfile run" in the background, which tells it how that goes, or a foreign
// one by itself.
type launcher struct {
	restart, foreign, quiet bool
	holders                 bool // restart: stop whatever has the lock
	conflict                int
	log                     string
	notify                  bool          // COMMAND says when it is ready
	delay                   time.Duration // or is when it has lived so long
	timeout                 time.Duration
	killAfter               time.Duration
	mode                    fs.FileMode
	runFlags                []string
	start                   starter

	path    string
	retries int // where what ran has just ended
	command []string
	logPath string   // absolute; the null device if there is none
	before  int64    // the log's size before we began
	output  *os.File // a foreign COMMAND's
}

func (l *launcher) launch(name string, command []string) (err error) {
	if l.path, err = resolve(name); err != nil {
		return err
	}
	l.command, l.retries = command, 10
	if l.start.path, err = findCommand(command[0], l.start.dir); err != nil {
		return err
	}
	l.logPath = os.DevNull
	if l.log != "" {
		if l.logPath, err = filepath.Abs(l.log); err != nil {
			return err
		}
		if fi, err := os.Stat(l.logPath); err == nil {
			l.before = fi.Size()
		}
	}
	closeOthers()
	ctx, interrupt := context.WithCancelCause(context.Background())
	defer interrupt(nil)
	signals := make(chan os.Signal, 1)
	notify(signals, syscall.SIGINT, syscall.SIGTERM)
	go func() { interrupt(interrupted((<-signals).(syscall.Signal))) }()
	if l.foreign {
		return l.launchForeign(ctx)
	}
	return l.launchRun(ctx)
}

// Interrupted is why a context has ended.
type interrupted syscall.Signal

func (i interrupted) Error() string { return "interrupted by " + syscall.Signal(i).String() }

// interruption is the exit code where ctx was interrupted.
func interruption(ctx context.Context) exit {
	if i, ok := context.Cause(ctx).(interrupted); ok {
		return exit(128 + int(i))
	}
	return exitFailure
}

// openLog opens the log of a foreign COMMAND, once it is certain that there will
// be one.
func (l *launcher) openLog() (err error) {
	if l.output, err = openLog(l.logPath, l.start.account, appending); err != nil {
		return fmt.Errorf("--log: %w", err)
	}
	return nil
}

// News is what "pidfile run" tells: started PID, running PID, unproven, or ended
// CODE.
type news struct {
	word string
	n    int
}

// launchRun starts COMMAND through "pidfile run".
func (l *launcher) launchRun(ctx context.Context) error {
	var ready *readySocket
	run, reports, err := l.background()
	if err == nil && l.notify {
		if ready, err = listenReady(l.start.account); err == nil {
			defer ready.Close()
			run.Env = setenv(os.Environ(), "NOTIFY_SOCKET", ready.Name())
		}
	}
	if err == nil {
		err = run.Start()
	}
	if err != nil {
		return err
	}
	_ = run.ExtraFiles[0].Close() // now only the other end tells
	told := make(chan news)
	go readNews(reports, told)
	var first news
	select {
	case first = <-told:
	case <-ctx.Done(): // restart waits for the old one's end
		_ = run.Process.Signal(syscall.SIGTERM)
		for range told { // until it has ended, and COMMAND if that was started
		}
		_ = run.Wait()
		note("interrupted: %s was not started", l.path)
		return interruption(ctx)
	}
	switch first.word {
	case "started":
		return l.await(ctx, run, first.n, told, ready)
	case "running":
		_ = run.Wait()
		if err := l.running(); err != errEnded || l.retries == 0 {
			return err
		}
		l.retries--
		return l.launchRun(ctx)
	default: // it has told the user why
		var failed *exec.ExitError
		if err := run.Wait(); !errors.As(err, &failed) || failed.ExitCode() <= 0 {
			return fmt.Errorf("%s: 'pidfile run' ended: %v", l.path, err)
		}
		return exit(failed.ExitCode())
	}
}

// background prepares a "pidfile run" and the pipe that it reports through.
func (l *launcher) background() (*exec.Cmd, io.Reader, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, nil, err
	}
	r, w, err := os.Pipe()
	if err != nil {
		return nil, nil, err
	}
	args := append([]string{"run", "--report=3", "--output=" + l.logPath}, l.runFlags...)
	if l.notify {
		args = append(args, "--env=NOTIFY_SOCKET")
	}
	if l.restart {
		args = append(args, "--replace", "-E", strconv.Itoa(exitUnproven))
	} else {
		args = append(args, "-E", "0") // we say it
	}
	args = append(append(args, l.path, "--"), l.command...)
	run := exec.Command(self, args...)
	run.Args[0] = "pidfile"
	run.Stderr = os.Stderr // until COMMAND runs
	run.ExtraFiles = []*os.File{w}
	run.SysProcAttr = newSession()
	return run, r, nil
}

// readNews sends what "pidfile run" tells, and closes told when it tells no more.
func readNews(r io.Reader, told chan<- news) {
	lines := bufio.NewScanner(r)
	for lines.Scan() {
		var m news
		_, _ = fmt.Sscan(lines.Text(), &m.word, &m.n) // unproven comes without a number
		told <- m
	}
	close(told)
}

// errEnded is what running returns if what ran has ended since.
var errEnded = errors.New("it has just ended, and was not started again")

// running says that there is nothing to start, which is a success only if the
// process that PIDFILE names is proven to live.
func (l *launcher) running() error {
	p, err := pidfile.Find(l.path)
	switch {
	case err == nil:
		p.Close()
	case errors.Is(err, pidfile.ErrNotRunning):
		return errEnded
	case errors.Is(err, pidfile.ErrUntrusted), errors.Is(err, errors.ErrUnsupported): // which is for those who act
	default:
		o := refusal(l.path, err)
		complain(&hinted{errors.New(o.Error + "; nothing was started"), holdersHint(l.path)})
		return exit(exitUnproven)
	}
	if !l.quiet {
		s, _ := pidfile.Inspect(l.path)
		printLine("%s: already running: %s", l.path, who(s))
	}
	if l.conflict != 0 {
		return exit(l.conflict)
	}
	return nil
}

// await returns when COMMAND is ready, or is not going to be.
func (l *launcher) await(ctx context.Context, run *exec.Cmd, pid int, told <-chan news, ready *readySocket) error {
	began := time.Now()
	if ready != nil {
		ready.Listen(pid)
	}
	line := l.progress(pid, ready)
	defer line.End()
	lived, late := time.NewTimer(l.delay), time.NewTimer(l.timeout)
	var said <-chan struct{}
	if ready != nil {
		lived.Stop()
		said = ready.Ready()
	}
	for {
		select {
		case <-said:
		case <-lived.C:
		case m, more := <-told:
			line.End()
			if !more {
				return fmt.Errorf("%s: the 'pidfile run' of PID %d was killed", l.path, pid)
			}
			if m.word != "ended" {
				continue
			}
			_ = run.Wait()
			return l.endedEarly(fmt.Sprintf("PID %d ended before it was ready: %s", pid, exitText(m.n)), m.n == 0)
		case <-late.C:
			line.End()
			return l.tooLate(fmt.Sprintf("PID %d was not ready after %v", pid, l.timeout), run, told)
		case <-ctx.Done():
			line.End()
			note("interrupted: PID %d goes on starting; 'pidfile stop %s' stops it", pid, l.path)
			return interruption(ctx)
		}
		line.End()
		l.started(pid, time.Since(began))
		return nil
	}
}

// progress shows on a terminal what is waited for.
func (l *launcher) progress(pid int, ready *readySocket) *progress {
	if l.quiet {
		return nil
	}
	return showProgress(func(waited time.Duration) string {
		text := fmt.Sprintf("waiting for PID %d to be ready: %s of %v", pid, age(waited), l.timeout)
		if ready == nil {
			text = fmt.Sprintf("waiting for PID %d to have lived for %v: %s", pid, l.delay, age(waited))
		}
		if status := ready.Status(); status != "" {
			text += ": " + status
		}
		return text
	})
}

func (l *launcher) started(pid int, took time.Duration) {
	if !l.quiet {
		printLine("%s: started, PID %d (ready after %v)", l.path, pid, took.Round(10*time.Millisecond))
	}
}

// exitText says what an exit code means.
func exitText(code int) string {
	if code > 128 && code <= 128+64 { // SIGRTMAX of Linux
		return fmt.Sprintf("exit code %d (%v)", code, syscall.Signal(code-128))
	}
	return fmt.Sprintf("exit code %d", code)
}

// endedEarly shows the end of COMMAND's log.
func (l *launcher) endedEarly(what string, success bool) error {
	err := fmt.Errorf("%s: %s", l.path, what)
	switch {
	case success && !l.foreign:
		err = &hinted{err, "if COMMAND goes into the background by itself, have it stay in the foreground, or use --foreign"}
	case l.log == "":
		err = &hinted{err, "--log FILE keeps what it says"}
	}
	complain(err)
	l.showLog()
	return exit(exitNotReady)
}

func (l *launcher) showLog() {
	if l.log == "" {
		return
	}
	log, err := openLog(l.logPath, l.start.account, os.O_RDONLY)
	if err != nil {
		note("the log cannot be shown: %v", err)
		return
	}
	defer log.Close()
	lines := lastLines(log, l.before)
	if len(lines) == 0 {
		note("it wrote nothing to %s", l.log)
		return
	}
	note("the end of %s:", l.log)
	for _, line := range lines {
		sayLine("  " + line)
	}
}

// tooLate stops what is not ready: with a TERM through "pidfile run", which knows
// of groups and trees, and with KILL if that does not help.
func (l *launcher) tooLate(what string, run *exec.Cmd, told <-chan news) error {
	complain(fmt.Errorf("%s: %s: stopping it", l.path, what))
	l.showLog()
	if l.killAfter > 0 {
		_ = run.Process.Signal(syscall.SIGTERM) // it may have ended
	}
	s := newStopper(0)
	line := showProgress(func(waited time.Duration) string {
		return fmt.Sprintf("waiting for it to end, KILL in %v", max(0, l.killAfter-waited).Round(time.Second))
	})
	defer line.End()
	if !ends(told, l.killAfter) {
		if o := s.stop(l.path); o.code != 0 {
			line.End()
			complain(errors.New(o.Error))
		}
	}
	return exit(exitTimeout)
}

// ends reports whether "pidfile run" tells, in that time, no more.
func ends(told <-chan news, within time.Duration) bool {
	late := time.After(within)
	for {
		select {
		case _, more := <-told:
			if !more {
				return true
			}
		case <-late:
			return false
		}
	}
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
		s := newStopper(l.killAfter)
		s.holders = l.holders
		line := showProgress(s.text)
		o := s.stop(l.path)
		line.End()
		if o.code != 0 {
			return report([]outcome{o}, false)
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
			return &hinted{fmt.Errorf("%s: it cannot be told whether it runs", l.path), "'pidfile status --explain " + l.path + "' tells more"}
		}
	}
	return l.startForeign(ctx)
}

func (l *launcher) startForeign(ctx context.Context) error {
	began := time.Now()
	if l.output == nil {
		if err := l.openLog(); err != nil {
			return err
		}
	}
	defer l.output.Close()
	warnForeign(l.path, l.start.account)
	c := exec.Cmd{Path: l.start.path, Args: l.command, Env: l.start.environment(l.path), Dir: l.start.dir, Stdout: l.output, Stderr: l.output}
	c.SysProcAttr = newSession()
	if a := l.start.account; a != nil {
		become(c.SysProcAttr, a)
	}
	if l.start.umask >= 0 {
		setUmask(l.start.umask)
	}
	if err := c.Start(); err != nil {
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
				note("interrupted: PID %d goes on starting; it writes %s itself", c.Process.Pid, l.path)
				return interruption(ctx)
			}
			if !errors.Is(err, context.DeadlineExceeded) {
				return fmt.Errorf("%s: PID %d goes on starting: %w", l.path, c.Process.Pid, err)
			}
			complain(fmt.Errorf("%s: PID %d has not written it after %v", l.path, c.Process.Pid, l.timeout))
			l.showLog()
			if ended != nil {
				l.endForeign(c.Process, ended)
			} else {
				note("warning: what it left in the background goes on: PIDFILE would have named it")
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
	case <-time.After(l.killAfter):
		_ = p.Kill()
		<-ended
	}
}

func (l *launcher) cannotStart(err error) error {
	complain(fmt.Errorf("%s: cannot be executed: %w", l.start.path, err))
	if errors.Is(err, fs.ErrNotExist) {
		return exit(exitNotFound)
	}
	return exit(exitNotExec)
}
