package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/go-pidfile/pidfile"
	"github.com/go-pidfile/pidfile/internal/proc"
	"github.com/spf13/cobra"
)

func stopCommand() *cobra.Command {
	var (
		timeout         time.Duration
		signal          namedSignal
		finder          pidfile.Finder
		noKill, holders bool
		style           style
	)
	c := &cobra.Command{
		Use:   "stop [flags] PIDFILE...",
		Short: "Stop the holder and wait for it to exit",
		Long: `Send TERM to the process that provably holds PIDFILE, wait for it to exit, and
send KILL if it has not after 10 seconds (-t). Several are stopped at once.

Only a proven holder is signalled, through a handle that PID reuse cannot fool.

` + aboutTrust + `

With --holders, processes that keep PIDFILE locked though PIDFILE names another
one are stopped too: every process that provably has PIDFILE open with its lock,
such as a child that was left behind, or another user's flock(1). 'pidfile
status --explain' lists them. Root stops any user's, others only their own.

Exit codes; of several the highest:
  0    it has ended, or was not running
  1    still running: with --no-kill, or 5 seconds after KILL
  4    not proven to be the holder, not trusted, or not permitted: nothing was
       sent
  125  the command line is wrong, or this system has no handles on processes`,
		Example: `  pidfile stop backup
  pidfile stop -t 1m --no-kill /run/db.pid    # never send KILL
  pidfile stop --holders /run/db.pid          # and all that keep it locked`,
		Args: atLeastOne("stop"),
		RunE: func(_ *cobra.Command, args []string) error {
			s := newStopper(timeout)
			s.kill, s.holders, s.finder, s.first = !noKill, holders, finder, signal
			return each(args, style, s.text, s.stop)
		},
		DisableFlagsInUseLine: true,
	}
	f := c.Flags()
	f.VarP(durationValue(&timeout, "10s"), "timeout", "t", "send KILL after that long; 0 sends it at once")
	f.Var(signalValue(&signal, "TERM"), "signal", "send this signal instead of TERM")
	f.BoolVar(&noKill, "no-kill", false, "never send KILL; give up after the timeout")
	f.BoolVar(&holders, "holders", false, "stop every process that holds PIDFILE's lock, whatever PIDFILE names")
	finderFlags(c, &finder)
	defineStyle(f, &style)
	return c
}

// A stopper stops several holders at once and tells what it waits for.
type stopper struct {
	grace   time.Duration
	first   namedSignal // TERM, as a rule
	kill    bool
	holders bool // stop whatever has the lock
	finder  pidfile.Finder
	start   time.Time

	mu      sync.Mutex
	pending map[string]int // path: PID
}

// newStopper returns a stopper that sends KILL after grace.
func newStopper(grace time.Duration) *stopper {
	return &stopper{grace: grace, first: sigTerm, kill: true, start: time.Now(), pending: map[string]int{}}
}

// answerTime is how long the file system may take.
func (s *stopper) answerTime() time.Duration { return max(s.grace, minAnswerTime) }

func (s *stopper) stop(path string) outcome {
	p, o := find(path, s.finder, s.answerTime())
	if p != nil {
		o = s.stopProcess(path, p)
	}
	switch {
	case o.code == exitNotRunning:
		o.code = 0 // that is what was wanted
	case o.code == exitUnproven && s.holders && p == nil:
		return s.stopHolders(path)
	case o.code == exitUnproven && p == nil:
		if tree, ok := s.stopTree(path); ok {
			return tree
		}
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
	o.Signal = how
	switch {
	case errors.Is(err, context.DeadlineExceeded):
		o.Outcome, o.Result, o.code = timedOut, "still running", exitStillRuns
		o.Error = fmt.Sprintf("%s: PID %d still runs after %v", path, o.PID, s.grace)
		if how == "KILL" {
			o.Error = fmt.Sprintf("%s: PID %d still runs %v after KILL: it sleeps where no signal reaches it, see /proc/%d/wchan", path, o.PID, afterKill, o.PID)
		}
	case errors.Is(err, fs.ErrPermission):
		o.Outcome, o.Result, o.code = notPermitted, "failed", exitUnproven
		o.Error = fmt.Sprintf("%s: PID %d, user %s: operation not permitted", path, o.PID, userOf(p.Info()))
	case err != nil:
		o.Outcome, o.Result, o.code = notProven, "failed", exitUnproven
		o.Error = err.Error()
	default:
		o.Outcome = stoppedByTerm
		if how == "KILL" {
			o.Outcome = stoppedByKill
		}
		o.Result = fmt.Sprintf("PID %d stopped (%s, %v)", o.PID, how, took)
	}
	return o
}

func userOf(p pidfile.ProcessInfo) string { return cmp.Or(p.User, strconv.Itoa(p.UID)) }

// stopHolders stops every process that keeps path locked, and those that get the lock
// when these have ended, for as long as one may take.
func (s *stopper) stopHolders(path string) outcome {
	ended := outcome{Path: path, Outcome: notRunning, Result: "not running"}
	for late := time.Now().Add(s.grace + afterKill); ; {
		type found struct {
			all []*pidfile.Process
			err error
		}
		f, ok := within(s.answerTime(), func() found {
			all, err := s.finder.Holders(context.Background(), path)
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
			ended.Outcome, ended.code, ended.Error = notProven, exitUnproven, path+": other processes take its lock as fast as they are stopped"
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
			ended.PID, ended.Outcome, ended.Signal, ended.Result = o.PID, o.Outcome, o.Signal, o.Result
		case o.code == 0:
			ended.Result += "; " + o.Result
		}
	}
	return worst
}

// afterStop waits until what the process of o held is free, for its wrapper needs
// a moment to see that it has ended, and tells if another has the file all the same.
func (s *stopper) afterStop(path string, o outcome) outcome {
	after, ok := within(minAnswerTime, func() string { return leftBehind(path, o.PID) })
	if !ok {
		return o
	}
	if s.holders && strings.HasPrefix(after, stillLocked) {
		others := s.stopHolders(path)
		others.Result = o.Result + "; " + others.Result
		others.PID = o.PID
		if others.Outcome == notRunning {
			others.Outcome, others.Signal = o.Outcome, o.Signal
		}
		return others
	}
	if strings.HasPrefix(after, stillLocked) {
		if tree, ok := s.stopTree(path); ok {
			tree.PID, tree.Result = o.PID, o.Result+"; "+tree.Result
			return tree
		}
	}
	o.Result += after
	return o
}

// stopTree stops the wrapper of a 'pidfile run --tree' whose COMMAND has ended, and which
// waits for what that has left behind: it passes TERM on to all of that. What has not
// ended then and still has the lock gets KILL, as the wrapper does. ok is false if path is
// not locked by such a wrapper.
func (s *stopper) stopTree(path string) (o outcome, ok bool) {
	wrapper := s.treeWrapper(path)
	if wrapper == nil {
		return o, false
	}
	gentle := newStopper(s.grace)
	gentle.kill, gentle.first = false, s.first
	s.waitFor(path, wrapper.PID())
	defer s.waitFor(path, 0)
	if o = gentle.stopProcess(path, wrapper); o.Outcome != timedOut || !s.kill {
		return o, true
	}
	harsh := newStopper(0)
	harsh.finder = s.finder
	return harsh.stopHolders(path), true
}

// treeWrapper returns the wrapper that keeps path locked, nil if none does.
func (s *stopper) treeWrapper(path string) (wrapper *pidfile.Process) {
	all, ok := within(s.answerTime(), func() []*pidfile.Process {
		all, _ := s.finder.Holders(context.Background(), path) // what is not trusted is not among them
		return all
	})
	if !ok {
		return nil
	}
	for _, p := range all {
		if wrapper == nil && isTreeWrapper(p.Info()) {
			wrapper = p
		} else {
			p.Close()
		}
	}
	return wrapper
}

// isTreeWrapper reports whether a process runs this program, as 'run --tree'.
func isTreeWrapper(p pidfile.ProcessInfo) bool {
	self, err := os.Executable()
	return err == nil && filepath.Base(proc.ExePath(p.Executable)) == filepath.Base(self) && len(p.Args) > 1 && p.Args[1] == "run" &&
		slices.ContainsFunc(p.Args, func(arg string) bool { return arg == "--tree" || arg == "--tree=true" })
}

// stillLocked is how leftBehind begins to tell of a lock that was left behind.
const stillLocked = "; its lock is still held"

// leftBehind tells of what still holds path after the process with that PID.
func leftBehind(path string, pid int) string {
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
	if s, err := pidfile.Inspect(path); err == nil && s.Process != nil && s.PID != pid {
		return fmt.Sprintf("; PID %d has taken its place", s.PID)
	}
	return ""
}

// afterKill is how long KILL may take: a process that sleeps in the kernel, on a dead
// file system say, is not ended by it before it wakes, which may be never.
const afterKill = 5 * time.Second

// end ends p and says with which signal; "" if none may be sent to it.
func (s *stopper) end(p *pidfile.Process) (string, error) {
	grace, limit := s.grace, max(s.grace, s.grace+afterKill) // the sum may overflow
	if !s.kill {
		// A signal is sent even if there is no time to wait for what comes of it.
		grace, limit = math.MaxInt64, max(s.grace, 10*time.Millisecond)
	}
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	stop := p.Stop
	if s.first != sigTerm {
		stop = func(ctx context.Context, grace time.Duration) (bool, error) {
			return stopWith(ctx, p, s.first.sig, grace)
		}
	}
	killed, err := stop(ctx, grace)
	switch {
	case killed:
		return "KILL", err
	case errors.Is(err, fs.ErrPermission):
		return "", err
	}
	return s.first.name, err
}

// stopWith is p.Stop with another signal than TERM.
func stopWith(ctx context.Context, p *pidfile.Process, first syscall.Signal, grace time.Duration) (killed bool, err error) {
	if grace > 0 {
		for _, sig := range []syscall.Signal{first, proc.Cont} { // a stopped process would not see it
			if err := p.Signal(sig); errors.Is(err, pidfile.ErrNotRunning) {
				return false, nil
			} else if err != nil {
				return false, err
			}
		}
		soft, cancel := context.WithTimeout(ctx, grace)
		defer cancel()
		if _, err := p.Wait(soft); err == nil || ctx.Err() != nil || !errors.Is(err, context.DeadlineExceeded) {
			return false, err
		}
	}
	return p.Stop(ctx, 0)
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
	slices.Sort(pids)
	what := "PID " + strings.Join(pids, ", ")
	switch {
	case s.kill && waited < s.grace:
		return waiting(waited, s.grace, what+", then KILL")
	case s.kill:
		return waiting(waited, 0, what+", KILL sent")
	}
	return waiting(waited, s.grace, what)
}
