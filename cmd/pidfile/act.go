package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/go-pidfile/pidfile"
	"github.com/spf13/cobra"
)

// An outcome is what became of one PIDFILE in stop, signal, wait or clean.
type outcome struct {
	Path   string `json:"path"`
	PID    int    `json:"pid,omitempty"`
	Result string `json:"result"`
	Error  string `json:"error,omitempty"`
	code   int
}

// Exit codes of the commands that act on a holder.
const (
	exitStillRuns  = 1
	exitNotRunning = 3
	exitUnproven   = 4
)

// each does act for every PIDFILE at once, while a terminal shows text, if any;
// prints the outcomes in their order, and returns the highest exit code.
func each(args []string, asJSON bool, text func(time.Duration) string, act func(path string) outcome) error {
	paths, err := resolveAll(args)
	if err != nil {
		return err
	}
	var line *progress
	if text != nil {
		line = showProgress(text)
	}
	all := make([]outcome, len(paths))
	var wg sync.WaitGroup
	for i, path := range paths {
		wg.Go(func() { all[i] = act(path) })
	}
	wg.Wait()
	line.End()
	return report(all, asJSON)
}

// report prints what was done to stdout, and what was not to stderr.
func report(all []outcome, asJSON bool) error {
	worst := 0
	for _, o := range all {
		worst = max(worst, o.code)
		switch {
		case o.Error != "":
			complain(errors.New(o.Error))
		case !asJSON:
			fmt.Fprintln(&stdout, printable(o.Path+": "+o.Result))
		}
	}
	if asJSON {
		printJSON(all)
	}
	if worst != 0 {
		return exit(worst)
	}
	return nil
}

func resolveAll(args []string) ([]string, error) {
	paths := make([]string, len(args))
	for i, arg := range args {
		var err error
		if paths[i], err = resolve(arg); err != nil {
			return nil, err
		}
	}
	return paths, nil
}

// answerTime is how long a file system may take where no --timeout says it, and how
// long it may take at least. Looking takes milliseconds, or two seconds where it
// waits for what has just ended.
const (
	answerTime    = 10 * time.Second
	minAnswerTime = 3 * time.Second
)

// within returns what f returns, or false if that takes longer: f may look at a file
// on a file system that hangs, from which no signal and no context brings it back.
func within[T any](d time.Duration, f func() T) (result T, ok bool) {
	done := make(chan T, 1)
	go func() { done <- f() }()
	late := time.NewTimer(d)
	defer late.Stop()
	select {
	case result = <-done:
		return result, true
	case <-late.C:
		return result, false
	}
}

// find pins the holder, or says in the outcome why there is none to act on.
func find(path, program string, limit time.Duration) (*pidfile.Process, outcome) {
	type found struct {
		p   *pidfile.Process
		err error
	}
	f, ok := within(limit, func() found {
		p, err := pidfile.Finder{Program: program}.Find(context.Background(), path)
		return found{p, err}
	})
	switch {
	case !ok:
		return nil, unsent(path, fmt.Errorf("%s: its file system does not answer: gave up after %v", path, limit))
	case f.err == nil:
		return f.p, outcome{Path: path, PID: f.p.PID()}
	case errors.Is(f.err, pidfile.ErrNotRunning):
		return nil, outcome{Path: path, Result: "not running", code: exitNotRunning}
	}
	return nil, unsent(path, f.err)
}

// unsent is the outcome of an error before anything was sent.
func unsent(path string, err error) outcome {
	o := refusal(path, err)
	o.Result = "nothing was sent"
	o.Error += "; nothing was sent"
	return o
}

// refusal is the outcome of an error: nothing was done.
func refusal(path string, err error) outcome {
	o := outcome{Path: path, Result: "unknown", Error: err.Error(), code: exitUnproven}
	var perr *fs.PathError
	if errors.As(err, &perr) {
		o.Error = fmt.Sprintf("%s: %v", perr.Path, perr.Err)
	}
	if errors.Is(err, errors.ErrUnsupported) {
		o.code = exitFailure
	}
	return o
}

// programFlag defines --program.
func programFlag(c *cobra.Command, program *string) {
	c.Flags().StringVar(program, "program", "", "signal only this executable (`NAME|PATH`), wherever PIDFILE lies")
}

// aboutTrust is the part of a help text on whom stop, signal and reload act.
const aboutTrust = `The process must provably hold PIDFILE, and PIDFILE must be trusted: it, and every
directory and symbolic link on the way to it, belongs to root, you or the process's
user, and only they can change it. A process that 'pidfile run' started has the path
of its PIDFILE in its environment (PIDFILE_HELD); then the way need not be trusted.
Nor need it with --program: the process must run that executable, given by its path
or the last part of that. PIDFILE itself must be trusted in any case, and whoever
does not provably hold it is not signalled.`

func stopCommand() *cobra.Command {
	var (
		timeout, program        string
		noKill, holders, asJSON bool
	)
	c := &cobra.Command{
		Use:   "stop [flags] PIDFILE...",
		Short: "Stop it, and wait until it is gone",
		Long: `Send TERM to the process that provably holds PIDFILE, wait until it has ended, and
send KILL if it has not after 10 seconds (-t). Several are stopped at once.

Only a proven holder is signalled, through a handle that PID reuse cannot fool.

` + aboutTrust + `

With --holders, what keeps PIDFILE locked though it is not the process that PIDFILE
names is stopped too: every process that provably has PIDFILE open with its lock,
such as a child that was left behind, or another user's flock(1). 'pidfile status
--explain' lists them. Root stops any user's, others only their own.

Exit codes; of several the highest:
  0    it has ended, or was not running
  1    it still runs: with --no-kill, or 5 seconds after KILL
  4    not proven to be the holder, not trusted or not permitted: nothing was sent`,
		Example: `  pidfile stop backup
  pidfile stop -t 1m --no-kill /run/db.pid    # never KILL; exit 1 if it still runs
  pidfile stop --holders /run/db.pid          # and whatever else keeps it locked`,
		Args: atLeastOne("stop"),
		RunE: func(c *cobra.Command, args []string) error {
			grace, err := parseDuration(timeout)
			if err != nil {
				return usage(c, fmt.Errorf("--timeout: %w", err))
			}
			s := newStopper(grace)
			s.kill, s.holders, s.program = !noKill, holders, program
			return each(args, asJSON, s.text, s.stop)
		},
		DisableFlagsInUseLine: true,
	}
	f := c.Flags()
	f.StringVarP(&timeout, "timeout", "t", "10s", "send KILL after that long; 0 sends it at once")
	f.BoolVar(&noKill, "no-kill", false, "never send KILL; give up after the timeout")
	f.BoolVar(&holders, "holders", false, "stop every process that has PIDFILE's lock, whomever PIDFILE names")
	programFlag(c, &program)
	f.BoolVar(&asJSON, "json", false, "print an array of objects: path, pid, result, error")
	return c
}

// A stopper stops several holders at once and tells what it waits for.
type stopper struct {
	grace   time.Duration
	kill    bool
	holders bool   // stop whatever has the lock
	program string // that alone
	start   time.Time

	mu      sync.Mutex
	pending map[string]int // path: PID
}

// newStopper returns a stopper that sends KILL after grace.
func newStopper(grace time.Duration) *stopper {
	return &stopper{grace: grace, kill: true, start: time.Now(), pending: map[string]int{}}
}

// answerTime is how long the file system may take.
func (s *stopper) answerTime() time.Duration { return max(s.grace, minAnswerTime) }

func (s *stopper) stop(path string) outcome {
	p, o := find(path, s.program, s.answerTime())
	if p != nil {
		o = s.stopProcess(path, p)
	}
	switch {
	case o.code == exitNotRunning:
		o.code = 0 // that is what was wanted
	case o.code == exitUnproven && s.holders && p == nil:
		return s.stopHolders(path)
	case o.code == 0:
		return s.afterStop(path, o)
	}
	return o
}

// stopProcess stops p, and closes it.
func (s *stopper) stopProcess(path string, p *pidfile.Process) outcome {
	defer p.Close()
	o := outcome{Path: path, PID: p.PID()}
	s.waitFor(path, p.PID())
	defer s.waitFor(path, 0)
	start := time.Now()
	how, err := s.end(p)
	took := time.Since(start).Round(10 * time.Millisecond)
	switch {
	case errors.Is(err, context.DeadlineExceeded):
		o.Result, o.code = "still running", exitStillRuns
		o.Error = fmt.Sprintf("%s: PID %d still runs after %v", path, o.PID, s.grace)
		if how == "KILL" {
			o.Error = fmt.Sprintf("%s: PID %d still runs %v after KILL: it sleeps where no signal reaches it, see /proc/%d/wchan", path, o.PID, afterKill, o.PID)
		}
	case errors.Is(err, fs.ErrPermission):
		o.Result, o.code = "failed", exitUnproven
		o.Error = fmt.Sprintf("%s: PID %d, user %s: operation not permitted", path, o.PID, userOf(p.Info()))
	case err != nil:
		o.Result, o.code = "failed", exitUnproven
		o.Error = err.Error()
	default:
		o.Result = fmt.Sprintf("PID %d stopped (%s, %v)", o.PID, how, took)
	}
	return o
}

func userOf(p pidfile.ProcessInfo) string { return cmp.Or(p.User, strconv.Itoa(p.UID)) }

// stopHolders stops every process that keeps path locked, and those that get the lock
// when these have ended, for as long as one may take.
func (s *stopper) stopHolders(path string) outcome {
	ended := outcome{Path: path, Result: "not running"}
	for late := time.Now().Add(s.grace + afterKill); ; {
		type found struct {
			all []*pidfile.Process
			err error
		}
		f, ok := within(s.answerTime(), func() found {
			all, err := pidfile.Finder{Program: s.program}.Holders(context.Background(), path)
			return found{all, err}
		})
		switch {
		case !ok:
			return unsent(path, fmt.Errorf("%s: its file system does not answer", path))
		case errors.Is(f.err, pidfile.ErrNotRunning):
			return ended
		}
		worst := s.stopAll(path, f.all, &ended)
		switch {
		case worst.code != 0:
			return worst
		case f.err != nil:
			o := refusal(path, f.err)
			o.Result = ended.Result
			if os.Geteuid() != 0 {
				o.Error += "; not permitted to end another user's process"
			}
			return o
		case time.Now().After(late):
			ended.code, ended.Error = exitUnproven, path+": other processes take its lock as fast as they are stopped"
			return ended
		}
	}
}

// stopAll stops processes at once, adds them to what has ended, and returns the
// worst outcome.
func (s *stopper) stopAll(path string, all []*pidfile.Process, ended *outcome) (worst outcome) {
	each := make([]outcome, len(all))
	var wg sync.WaitGroup
	for i, p := range all {
		wg.Go(func() { each[i] = s.stopProcess(path, p) })
	}
	wg.Wait()
	for _, o := range each {
		switch {
		case o.code > worst.code:
			worst = o
		case o.code == 0 && ended.PID == 0:
			ended.PID, ended.Result = o.PID, o.Result
		case o.code == 0:
			ended.Result += "; " + o.Result
		}
	}
	return worst
}

// afterStop waits until what the process of o held is free, for its wrapper needs
// a moment to see that it has ended, and tells if another has the file all the same.
func (s *stopper) afterStop(path string, o outcome) outcome {
	after, ok := within(minAnswerTime, func() string { return aftermath(path, o.PID) })
	if !ok {
		return o
	}
	if s.holders && strings.HasPrefix(after, stillLocked) {
		others := s.stopHolders(path)
		others.Result = o.Result + "; " + others.Result
		others.PID = o.PID
		return others
	}
	o.Result += after
	return o
}

// stillLocked is how aftermath begins to tell of a lock that was left behind.
const stillLocked = "; its lock is still held"

func aftermath(path string, pid int) string {
	kept := func() bool {
		s, err := pidfile.Inspect(path)
		return err == nil && s.State == pidfile.Running && s.PID == pid && s.Process == nil
	}
	if kept() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		if _, err := pidfile.WaitEnd(ctx, path); err != nil && kept() {
			return stillLocked + ": see 'pidfile status --explain " + path + "'"
		}
	}
	if s, err := pidfile.Inspect(path); err == nil && s.State == pidfile.Running && s.PID != pid {
		return fmt.Sprintf("; PID %d has taken its place", s.PID)
	}
	return ""
}

// afterKill is how long KILL may take: a process that sleeps in the kernel, on a dead
// file system say, is not ended by it before it wakes, which may be never.
const afterKill = 5 * time.Second

// end ends p and says with which signal.
func (s *stopper) end(p *pidfile.Process) (string, error) {
	grace, limit := s.grace, max(s.grace, s.grace+afterKill) // the sum may overflow
	if !s.kill {
		// TERM is sent even if there is no time to wait for what comes of it.
		grace, limit = math.MaxInt64, max(s.grace, 10*time.Millisecond)
	}
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	killed, err := p.Stop(ctx, grace)
	if killed {
		return "KILL", err
	}
	return "TERM", err
}

func (s *stopper) waitFor(path string, pid int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if pid == 0 {
		delete(s.pending, path)
	} else {
		s.pending[path] = pid
	}
}

// text is the line that a terminal shows while we wait.
func (s *stopper) text(waited time.Duration) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	var pids []string
	for _, pid := range s.pending {
		pids = append(pids, strconv.Itoa(pid))
	}
	if len(pids) == 0 {
		return "stopping"
	}
	text := "waiting for PID " + strings.Join(pids, ", ") + " to end"
	left := (s.grace - waited).Round(time.Second)
	switch {
	case s.kill && left > 0:
		text += fmt.Sprintf(", KILL in %v", left)
	case s.kill:
		text += ", KILL sent"
	default:
		text += fmt.Sprintf(", giving up in %v", max(left, 0))
	}
	return text
}

func signalCommand() *cobra.Command {
	var (
		program string
		asJSON  bool
	)
	c := &cobra.Command{
		Use:   "signal [flags] SIGNAL PIDFILE...",
		Short: "Send it a signal",
		Long: `Send SIGNAL (HUP, SIGHUP or 1) to the process that provably holds PIDFILE.

` + aboutTrust + `

Exit codes; of several the highest:
  0    sent
  3    not running
  4    not proven to be the holder: nothing was sent
  125  the command line is wrong`,
		Example: `  pidfile signal HUP /run/nginx.pid
  pidfile signal USR1 backup`,
		Args: func(c *cobra.Command, args []string) error {
			if len(args) < 2 {
				return usage(c, errors.New("signal needs SIGNAL and PIDFILE"))
			}
			return nil
		},
		RunE: func(c *cobra.Command, args []string) error {
			return sendEach(c, args[0], args[1:], program, asJSON)
		},
		DisableFlagsInUseLine: true,
	}
	programFlag(c, &program)
	c.Flags().BoolVar(&asJSON, "json", false, "print an array of objects: path, pid, result, error")
	return c
}

// sendEach sends the signal with that name to the holder of each PIDFILE.
func sendEach(c *cobra.Command, name string, args []string, program string, asJSON bool) error {
	sig, err := parseSignal(name)
	if err != nil {
		return usage(c, err)
	}
	return each(args, asJSON, nil, func(path string) outcome {
		p, o := find(path, program, answerTime)
		if p == nil {
			return o
		}
		defer p.Close()
		switch err := p.Signal(sig); {
		case errors.Is(err, pidfile.ErrNotRunning):
			o.Result, o.code = "not running", exitNotRunning
		case err != nil:
			return unsent(path, err)
		default:
			o.Result = fmt.Sprintf("sent %s to PID %d", strings.ToUpper(name), o.PID)
		}
		return o
	})
}

func waitCommand() *cobra.Command {
	var (
		timeout               string
		exitCode, run, asJSON bool
	)
	c := &cobra.Command{
		Use:   "wait [flags] PIDFILE...",
		Short: "Wait until it has ended, or runs",
		Long: `Wait until the holder of each PIDFILE has ended; at once if there is none. The
kernel wakes us; with --running we look once a second besides.

Exit codes; of several the highest:
  0    it has ended, or, with --running, it runs
  124  the wait ran out
  4    it cannot be told whether it runs
  with --exit-code (one PIDFILE): as it exited, 128+N if signal N ended it, 125 if
  the kernel does not tell (before Linux 6.15)`,
		Example: `  pidfile wait -t 5m backup && echo done
  pidfile wait --running -t 30s /run/db.pid     # until it has started`,
		Args: atLeastOne("wait"),
		RunE: func(c *cobra.Command, args []string) error {
			ctx := context.Background()
			if c.Flags().Changed("timeout") {
				d, err := parseDuration(timeout)
				if err != nil {
					return usage(c, fmt.Errorf("--timeout: %w", err))
				}
				var cancel context.CancelFunc
				ctx, cancel = context.WithTimeout(ctx, d)
				defer cancel()
			}
			if exitCode && (len(args) != 1 || run) {
				return usage(c, errors.New("--exit-code is for one PIDFILE, and not with --running"))
			}
			what := "to end"
			if run {
				what = "to run"
			}
			text := func(waited time.Duration) string {
				return fmt.Sprintf("waiting for %s %s: %s", strings.Join(args, ", "), what, age(waited))
			}
			return each(args, asJSON, text, func(path string) outcome {
				return orLate(ctx, path, func() outcome {
					if run {
						return waitRunning(ctx, path)
					}
					return waitEnd(ctx, path, exitCode)
				})
			})
		},
		DisableFlagsInUseLine: true,
	}
	f := c.Flags()
	f.StringVarP(&timeout, "timeout", "t", "", "give up after that long")
	f.BoolVar(&exitCode, "exit-code", false, "exit as the process did")
	f.BoolVar(&run, "running", false, "wait until it runs instead")
	f.BoolVar(&asJSON, "json", false, "print an array of objects: path, pid, result, error")
	return c
}

// orLate is the outcome of wait, or, if that does not come when ctx has ended, one
// of its own: see within.
func orLate(ctx context.Context, path string, wait func() outcome) outcome {
	done := make(chan outcome, 1)
	go func() { done <- wait() }()
	select {
	case o := <-done:
		return o
	case <-ctx.Done():
	}
	o, ok := within(time.Second, func() outcome { return <-done }) // it ends by itself, as a rule
	if !ok {
		o = outcome{Path: path, Result: "unknown", Error: path + ": its file system does not answer", code: exitTimeout}
	}
	return o
}

// waitEnd waits until the holder has ended.
func waitEnd(ctx context.Context, path string, exitCode bool) outcome {
	before, _ := pidfile.Inspect(path) // WaitEnd says what is wrong
	o := outcome{Path: path, PID: before.PID}
	if before.State == pidfile.Absent || before.State == pidfile.Stale {
		o.PID, o.Result = 0, "not running" // even if there is no time to wait
		return o
	}
	status, err := pidfile.WaitEnd(ctx, path)
	switch {
	case errors.Is(err, pidfile.ErrNotRunning):
		o.PID, o.Result = 0, "not running"
	case errors.Is(err, context.DeadlineExceeded):
		o.Result, o.code = "still running", exitTimeout
	case err != nil:
		return refusal(path, err)
	case status == nil && before.State == pidfile.Unknown:
		o.PID, o.Result = 0, "not running" // which could not be seen before
	case status == nil:
		o.Result = fmt.Sprintf("PID %d has ended", o.PID)
		if exitCode {
			o.Error = fmt.Sprintf("%s: PID %d has ended, but the kernel does not tell how", path, o.PID)
			o.code = exitFailure
		}
	default:
		o.Result = fmt.Sprintf("PID %d has ended: %v", o.PID, status)
		if exitCode {
			if o.code = status.Code; status.Signal != 0 {
				o.code = 128 + int(status.Signal)
			}
		}
	}
	return o
}

// waitRunning waits until somebody holds path.
func waitRunning(ctx context.Context, path string) outcome {
	s, err := pidfile.WaitRunning(ctx, path)
	o := outcome{Path: path, PID: s.PID}
	switch {
	case errors.Is(err, context.DeadlineExceeded):
		o.Result, o.code = "not running", exitTimeout
	case err != nil:
		o.Result, o.code, o.Error = "unknown", exitUnproven, err.Error()
	default:
		o.Result = "running, " + who(s)
	}
	return o
}

// notNamed tells what is known of a file that is locked, but not provably by the
// process that it names; "" for any other.
func notNamed(s pidfile.Status) string {
	if s.State != pidfile.Running || s.Process != nil {
		return ""
	}
	return strings.Join(s.Evidence, "; ")
}

// holdersHint is what helps against such a lock.
func holdersHint(path string) string {
	return "'pidfile stop --holders " + path + "' stops who has the lock; a PIDFILE of mode 0600 (--mode) can be locked by its own user only"
}

func atLeastOne(command string) cobra.PositionalArgs {
	return func(c *cobra.Command, args []string) error {
		if len(args) == 0 {
			return usage(c, fmt.Errorf("%s needs PIDFILE", command))
		}
		return nil
	}
}
