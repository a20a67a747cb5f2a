package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/go-pidfile/pidfile"
	"github.com/spf13/cobra"
)

func waitCommand() *cobra.Command {
	var (
		timeout               time.Duration
		exitCode, run, asJSON bool
		finder                pidfile.Finder
	)
	c := &cobra.Command{
		Use:   "wait [flags] PIDFILE...",
		Short: "Wait for the holder to exit, or to start",
		Long: `Wait until the holder of each PIDFILE has ended; return at once if there is
none. With --running, wait until each is running instead. A holder's end wakes
us; for a start we also look once a second.

Exit codes; of several the highest:
  0    it has ended, or, with --running, it is running
  4    cannot tell whether it is running
  124  timed out
  125  the command line is wrong
  with --exit-code (one PIDFILE): the process's own exit code, 128+N if signal N
  ended it, 125 if the kernel does not tell (before Linux 6.15)`,
		Example: `  pidfile wait -t 5m backup && echo done
  pidfile wait --running -t 30s /run/db.pid     # until it has started`,
		Args: atLeastOne("wait"),
		RunE: func(c *cobra.Command, args []string) error {
			ctx := context.Background()
			if c.Flags().Changed("timeout") {
				var cancel context.CancelFunc
				ctx, cancel = context.WithTimeout(ctx, timeout)
				defer cancel()
			}
			if exitCode && (len(args) != 1 || run) {
				return usage(c, errors.New("--exit-code is for one PIDFILE, and not with --running"))
			}
			if run && finder != (pidfile.Finder{}) {
				return usage(c, errors.New("--program and --locked are not for --running"))
			}
			text := func(waited time.Duration) string { return waiting(waited, timeout, waitTarget(args)) }
			return each(args, style{json: asJSON}, text, func(path string) outcome {
				return orLate(ctx, path, func() outcome {
					if run {
						return waitRunning(ctx, path)
					}
					return waitEnd(ctx, path, finder, exitCode)
				})
			})
		},
		DisableFlagsInUseLine: true,
	}
	f := c.Flags()
	f.VarP(durationValue(&timeout, ""), "timeout", "t", "give up after that long, e.g. 90s, 2m or seconds")
	f.BoolVar(&exitCode, "exit-code", false, "exit as the process did")
	f.BoolVar(&run, "running", false, "wait until it is running instead")
	finderFlags(c, &finder)
	f.BoolVar(&asJSON, "json", false, "print a JSON array of objects: path, pid, outcome, exit_code, result, error")
	return c
}

// waitTarget describes what wait waits for: the process, if it is one.
func waitTarget(args []string) string {
	if len(args) == 1 {
		if path, err := resolve(args[0]); err == nil {
			if s, _ := pidfile.Inspect(path); s.State == pidfile.Running {
				return target(s)
			}
		}
	}
	return strings.Join(args, ", ")
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
		o = outcome{Path: path, Outcome: timedOut, Result: "unknown", Error: path + ": its file system does not answer", code: exitTimeout}
	}
	return o
}

// waitEnd waits until the holder has ended.
func waitEnd(ctx context.Context, path string, finder pidfile.Finder, exitCode bool) outcome {
	before, _ := finder.Inspect(path) // WaitEnd says what is wrong
	o := outcome{Path: path, PID: before.PID}
	if before.State == pidfile.Absent || before.State == pidfile.Stale {
		o.PID, o.Outcome, o.Result = 0, notRunning, "not running" // even if there is no time to wait
		return o
	}
	status, err := finder.WaitEnd(ctx, path)
	switch {
	case errors.Is(err, pidfile.ErrNotRunning) && before.State != pidfile.Running:
		o.PID, o.Outcome, o.Result = 0, notRunning, "not running" // which could not be seen before
	case errors.Is(err, context.DeadlineExceeded):
		o.Outcome, o.Result, o.code = timedOut, "still running", exitTimeout
	case err != nil && !errors.Is(err, pidfile.ErrNotRunning):
		return refusal(path, err)
	case status == nil: // also if it has ended since we looked
		o.Outcome, o.Result = hasEnded, fmt.Sprintf("PID %d has ended", o.PID)
		if exitCode {
			o.Error = fmt.Sprintf("%s: PID %d has ended, but the kernel does not tell how", path, o.PID)
			o.code = exitFailure
		}
	default:
		o.Outcome, o.Result = hasEnded, fmt.Sprintf("PID %d has ended: %v", o.PID, status)
		code := status.Code
		if status.Signal != 0 {
			code = 128 + int(status.Signal)
		}
		if o.ExitCode = &code; exitCode {
			o.code = code
		}
	}
	return o
}

// waitRunning waits until a process holds path.
func waitRunning(ctx context.Context, path string) outcome {
	s, err := pidfile.WaitRunning(ctx, path)
	o := outcome{Path: path, PID: s.PID}
	switch {
	case errors.Is(err, context.DeadlineExceeded):
		o.Outcome, o.Result, o.code = timedOut, "not running", exitTimeout
	case err != nil:
		o.Outcome, o.Result, o.code, o.Error = cannotTell, "unknown", exitUnproven, err.Error()
	default:
		o.Outcome, o.Result = isRunning, "running, "+describe(s)
	}
	return o
}
