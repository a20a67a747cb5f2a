package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"sync"
	"time"

	"github.com/go-pidfile/pidfile"
	"github.com/go-pidfile/pidfile/internal/supervise"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// An outcome is what became of one PIDFILE in stop, signal, wait or clean.
type outcome struct {
	Path     string `json:"path"`
	PID      int    `json:"pid,omitempty"`
	Result   string `json:"result"`
	Error    string `json:"error,omitempty"`
	Outcome  string `json:"outcome"`             // one word, for programs
	Signal   string `json:"signal,omitempty"`    // the last that was sent
	ExitCode *int   `json:"exit_code,omitempty"` // of wait, where it is known
	code     int
}

// The words of Outcome.
const (
	stoppedByTerm = "stopped"
	stoppedByKill = "killed"
	signalSent    = "sent"
	hasEnded      = "ended"
	isRunning     = "running"
	notRunning    = "not_running"
	timedOut      = "timeout"
	notProven     = "unproven"
	notPermitted  = "not_permitted"
	unsupported   = "unsupported"
	cannotTell    = "unknown"
	wasRemoved    = "removed"
	wouldRemove   = "would_remove"
	leftAlone     = "left_alone"
)

// jsonFields are the fields of an outcome, for help.
const jsonFields = "print a JSON array of objects: path, pid, outcome, signal, result, error"

// Exit codes of the commands that act on a holder.
const (
	exitStillRuns  = 1
	exitNotRunning = 3
	exitUnproven   = 4
)

// each does act for every PIDFILE at once, while a terminal shows text, if any;
// prints the outcomes in their order, and returns the highest exit code.
func each(args []string, style style, text func(time.Duration) string, act func(path string) outcome) error {
	supervise.EndBySignals()
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
	return report(all, style)
}

// A style is how outcomes are printed.
type style struct{ json, quiet bool }

// defineStyle defines --json and --quiet.
func defineStyle(f *pflag.FlagSet, s *style) {
	f.BoolVar(&s.json, "json", false, jsonFields)
	f.BoolVarP(&s.quiet, "quiet", "q", false, "print errors only")
}

// report prints what was done to stdout, and what was not to stderr.
func report(all []outcome, style style) error {
	worst := 0
	for _, o := range all {
		worst = max(worst, o.code)
		switch {
		case o.Error != "":
			printError(errors.New(o.Error))
		case !style.json && !style.quiet:
			printLine("%s: %s", o.Path, o.Result)
		}
	}
	if style.json {
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
func find(path string, finder pidfile.Finder, limit time.Duration) (*pidfile.Process, outcome) {
	type found struct {
		p   *pidfile.Process
		err error
	}
	f, ok := within(limit, func() found {
		p, err := finder.Find(context.Background(), path)
		return found{p, err}
	})
	switch {
	case !ok:
		o := unsent(path, fmt.Errorf("%s: its file system does not answer: gave up after %v", path, limit))
		o.Outcome = timedOut
		return nil, o
	case f.err == nil:
		return f.p, outcome{Path: path, PID: f.p.PID()}
	case errors.Is(f.err, pidfile.ErrNotRunning):
		return nil, outcome{Path: path, Outcome: notRunning, Result: "not running", code: exitNotRunning}
	}
	return nil, unsent(path, f.err)
}

// unsent is the outcome of an error before anything was sent.
func unsent(path string, err error) outcome {
	o := refusal(path, err)
	o.Result = "nothing was sent"
	if o.Outcome == cannotTell {
		o.Outcome = notProven
	}
	o.Error += "; nothing was sent"
	return o
}

// refusal is the outcome of an error: nothing was done.
func refusal(path string, err error) outcome {
	o := outcome{Path: path, Outcome: cannotTell, Result: "unknown", Error: err.Error(), code: exitUnproven}
	var perr *fs.PathError
	if errors.As(err, &perr) {
		o.Error = fmt.Sprintf("%s: %v", perr.Path, perr.Err)
	}
	switch {
	case errors.Is(err, errors.ErrUnsupported):
		o.Outcome, o.code = unsupported, exitFailure
	case errors.Is(err, fs.ErrPermission):
		o.Outcome = notPermitted
	case errors.Is(err, pidfile.ErrUnproven):
		o.Outcome = notProven
	}
	return o
}

// withoutPath is the text of an error of package pidfile, for a line that names the path.
func withoutPath(err error) string {
	var (
		path    *fs.PathError
		running *pidfile.AlreadyRunningError
	)
	switch {
	case errors.As(err, &running):
		return "already running: " + describe(pidfile.Status{PID: running.PID})
	case errors.As(err, &path):
		return path.Err.Error()
	}
	return err.Error()
}

// aboutTrust is the part of a help text on which process stop, signal and reload
// act.
const aboutTrust = `The process must provably hold PIDFILE, and PIDFILE must be trusted: it, and
every directory and symbolic link in its path, belongs to root, you or the
process's user, and only they can change it. The path need not be trusted if
'pidfile run' started the process, which then has the path of its PIDFILE in its
environment (PIDFILE_HELD), or if --program names the executable that it runs,
by its path or the last part of it.

A process that does not lock PIDFILE is believed if it lived when PIDFILE was
written, and had started less than two minutes before, or runs the program that
PIDFILE is named after (sshd.pid), or that --program names. With --locked only
the lock counts.`

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
	s, _ := pidfile.Inspect(path) // what cannot be seen is not there
	for n := range s.Evidence {
		if s.EvidenceHolder(n) != 0 {
			return "'pidfile stop --holders " + path + "' stops the holders of the lock; a PIDFILE of mode 0600 (--mode) can be locked by its own user only"
		}
	}
	return "its holder cannot be seen from here: root can, or the container that it runs in"
}

func atLeastOne(command string) cobra.PositionalArgs {
	return func(c *cobra.Command, args []string) error {
		if len(args) == 0 {
			return usage(c, fmt.Errorf("%s needs PIDFILE", command))
		}
		return nil
	}
}
