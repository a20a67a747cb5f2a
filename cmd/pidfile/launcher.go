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
	"github.com/go-pidfile/pidfile/internal/supervise"
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
	mode                    fs.FileMode
	runFlags                []string
	vars                    []string // --env
	command                 supervise.Command

	path    string
	retries int    // where what ran has just ended
	logPath string // absolute; the null device if there is none
	before  int64  // the log's size before we began
}

func (l *launcher) launch(name string, command []string) (err error) {
	if l.path, err = resolve(name); err != nil {
		return err
	}
	l.command.Args, l.retries = command, 10
	if l.command.Path, err = findCommand(command[0], l.command.Dir); err != nil {
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
	supervise.CloseOthersOnExec()
	ctx, interrupt := context.WithCancelCause(context.Background())
	defer interrupt(nil)
	signals := make(chan os.Signal, 1)
	supervise.Notify(signals, syscall.SIGINT, syscall.SIGTERM)
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

// A message is what "pidfile run" tells: started PID, running PID, unproven, writes PID
// (COMMAND writes PIDFILE itself, which was put back since), or ended CODE.
type message struct {
	word string
	n    int
}

// launchRun starts COMMAND through "pidfile run".
func (l *launcher) launchRun(ctx context.Context) error {
	var ready *supervise.NotifySocket
	run, reports, err := l.background()
	if err == nil && l.notify {
		if ready, err = supervise.ListenNotify(l.command.Account); err != nil {
			err = fmt.Errorf("--ready notify: %w", err)
		} else {
			defer ready.Close()
			run.Env = append(os.Environ(), "NOTIFY_SOCKET="+ready.Name())
		}
	}
	left := supervise.Adopt()
	if err == nil {
		err = run.Start()
	}
	if err != nil {
		return err
	}
	_ = run.ExtraFiles[0].Close() // now only the other end tells
	messages := make(chan message)
	go readMessages(reports, messages)
	var first message
	select {
	case first = <-messages:
	case <-ctx.Done(): // restart waits for the old one's end
		_ = run.Process.Signal(syscall.SIGTERM)
		for range messages { // until it has ended, and COMMAND if that was started
		}
		_ = run.Wait()
		infof("interrupted: %s was not started", l.path)
		return interruption(ctx)
	}
	switch first.word {
	case "started":
		defer left.Reap(run.Process.Pid)()
		return l.await(ctx, run, first.n, messages, ready, left)
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
	args = append(append(args, l.path, "--"), l.command.Args...)
	run := exec.Command(self, args...)
	run.Args[0] = "pidfile"
	run.Stderr = os.Stderr // until COMMAND runs
	run.ExtraFiles = []*os.File{w}
	run.SysProcAttr = supervise.NewSession()
	return run, r, nil
}

// readMessages sends what "pidfile run" tells, and closes messages when there are no more.
func readMessages(r io.Reader, messages chan<- message) {
	lines := bufio.NewScanner(r)
	for lines.Scan() {
		var m message
		_, _ = fmt.Sscan(lines.Text(), &m.word, &m.n) // unproven comes without a number
		messages <- m
	}
	close(messages)
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
	case errors.Is(err, pidfile.ErrUntrusted), errors.Is(err, errors.ErrUnsupported): // which concerns those that act
	default:
		o := refusal(l.path, err)
		printError(withHint(errors.New(o.Error+"; nothing was started"), holdersHint(l.path)))
		return exit(exitUnproven)
	}
	s, _ := pidfile.Inspect(l.path)
	return l.alreadyRunning(s)
}

func (l *launcher) alreadyRunning(s pidfile.Status) error {
	if !l.quiet {
		printLine("%s: already running: %s", l.path, describe(s))
	}
	if l.conflict != 0 {
		return exit(l.conflict)
	}
	return nil
}

// await returns when COMMAND is ready, or is not going to be.
func (l *launcher) await(ctx context.Context, run *exec.Cmd, pid int, messages <-chan message, ready *supervise.NotifySocket, left *supervise.Adopted) error {
	began := time.Now()
	if ready != nil {
		ready.SetCommand(pid)
	}
	line := l.progress(pid, ready)
	defer line.End()
	lived, late := time.NewTimer(l.delay), time.NewTimer(l.timeout)
	var said <-chan struct{}
	writes := false // COMMAND PIDFILE, itself
	if ready != nil {
		lived.Stop()
		said = ready.Ready()
	}
	for {
		select {
		case <-said:
		case <-lived.C:
		case m, more := <-messages:
			line.End()
			if !more {
				return fmt.Errorf("%s: the 'pidfile run' of PID %d was killed", l.path, pid)
			}
			if m.word != "ended" {
				writes = writes || m.word == "writes"
				continue
			}
			_ = run.Wait()
			err := l.endedEarly(fmt.Sprintf("PID %d ended before it was ready: %s", pid, exitText(m.n)), m.n == 0)
			tellLeft(left.Left())
			return err
		case <-late.C:
			line.End()
			return l.tooLate(fmt.Sprintf("PID %d was not ready after %v", pid, l.timeout), run, messages)
		case <-ctx.Done():
			line.End()
			infof("interrupted: PID %d goes on starting; 'pidfile stop %s' stops it", pid, l.path)
			return interruption(ctx)
		}
		line.End()
		if writes || writesItself(l.path, pid) {
			infof("warning: PID %d writes %s itself, so its lock is gone: %s", pid, l.path, useForeign)
		}
		l.started(pid, time.Since(began))
		return nil
	}
}

// progress shows on a terminal what is waited for.
func (l *launcher) progress(pid int, ready *supervise.NotifySocket) *progress {
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
	log, logErr := l.logEnd()
	switch {
	case !l.foreign && l.mentions(log):
		err = withHint(err, "COMMAND seems to write PIDFILE itself: "+useForeign)
	case success && !l.foreign:
		err = withHint(err, "if COMMAND goes into the background by itself, have it stay in the foreground, or use --foreign")
	case l.log == "":
		err = withHint(err, "--log FILE keeps what it says")
	}
	printError(err)
	l.showLog(log, logErr)
	return exit(exitNotReady)
}

// logEnd returns the end of what COMMAND has written to its log.
func (l *launcher) logEnd() ([]string, error) {
	if l.log == "" {
		return nil, nil
	}
	log, err := supervise.OpenLog(l.logPath, l.command.Account, os.O_RDONLY)
	if err != nil {
		return nil, err
	}
	defer log.Close()
	return lastLines(log, l.before), nil
}

// showLog shows what logEnd returned.
func (l *launcher) showLog(lines []string, err error) {
	switch {
	case l.log == "":
	case err != nil:
		infof("the log cannot be shown: %v", err)
	case len(lines) == 0:
		infof("it wrote nothing to %s", l.log)
	default:
		infof("the end of %s:", l.log)
		for _, line := range lines {
			sayLine("  " + line)
		}
	}
}

// tooLate stops what is not ready: with a TERM through "pidfile run", which knows
// of groups and trees, and with KILL if that does not help.
func (l *launcher) tooLate(what string, run *exec.Cmd, messages <-chan message) error {
	printError(fmt.Errorf("%s: %s: stopping it", l.path, what))
	l.showLog(l.logEnd())
	if l.command.KillAfter > 0 {
		_ = run.Process.Signal(syscall.SIGTERM) // it may have ended
	}
	s := newStopper(0)
	line := showProgress(func(waited time.Duration) string {
		return fmt.Sprintf("waiting for it to end, KILL in %v", max(0, l.command.KillAfter-waited).Round(time.Second))
	})
	defer line.End()
	if !ends(messages, l.command.KillAfter) {
		if o := s.stop(l.path); o.code != 0 {
			line.End()
			printError(errors.New(o.Error))
		}
	}
	return exit(exitTimeout)
}

// ends reports whether "pidfile run" tells, in that time, no more.
func ends(messages <-chan message, within time.Duration) bool {
	late := time.After(within)
	for {
		select {
		case _, more := <-messages:
			if !more {
				return true
			}
		case <-late:
			return false
		}
	}
}
