package main

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// exitNotReady says that COMMAND ended too early: LSB's "generic error".
const exitNotReady = 1

func startCommand() *cobra.Command {
	return launchCommand(&launcher{}, &cobra.Command{
		Use:   "start [flags] PIDFILE [--] COMMAND [ARG...]",
		Short: "Start a command in the background",
		Long: `Start COMMAND in the background and in its own session, as 'pidfile run' does in
the foreground, and return when it is ready: when it says so (--ready notify,
the protocol of sd_notify(3)), or when it has run for a while (--ready 2s).
PIDFILE names it by then. If it ends first, its last log lines are shown.

The log is opened with the rights of COMMAND's user, and with root's only where
no other user can change its path; never through a link.

It is a success if COMMAND is running already, as init scripts expect (see -E).

With --foreign, COMMAND is a program that writes its own PIDFILE, and may go
into the background by itself; it is ready when PIDFILE names it, and it has
lived on for 200ms. A stale file is removed first. On Linux the start fails as
soon as none of its processes is left.

Exit codes:
  0    it is ready, or is running already (see -E)
  1    COMMAND ended before it was ready
  4    PIDFILE is locked, but not provably by the process that it names: nothing
       was started; 'pidfile stop --holders' stops the holders of the lock
  124  it was not ready in time (-t), and was stopped
  125  pidfile itself failed, or the command line is wrong
  126  COMMAND cannot be executed
  127  COMMAND was not found`,
		Example: `  pidfile start --user www --log /var/log/web.log web -- /usr/bin/web
  pidfile start --ready notify -t 1m db -- /usr/bin/db --foreground
  pidfile start --foreign /run/nginx.pid -- nginx`,
	})
}

// launchCommand gives start and restart what they have in common.
func launchCommand(l *launcher, c *cobra.Command) *cobra.Command {
	var r runner
	c.Args = needsCommand
	c.RunE = func(c *cobra.Command, args []string) (err error) {
		r.finishCommandFlags()
		l.command, l.vars, l.mode = r.command, r.vars, r.mode
		l.runFlags = changed(c)
		switch {
		case l.timeout == 0:
			return usage(c, errors.New("--timeout: 0 leaves no time to start"))
		case !l.notify && !l.foreign && l.delay >= l.timeout:
			return usage(c, fmt.Errorf("--ready %v is not over before --timeout %v", span(l.delay), span(l.timeout)))
		}
		if l.foreign {
			if err := l.checkForeign(c); err != nil {
				return usage(c, err)
			}
		}
		pidfile, command := splitCommand(args)
		path, err := resolve(pidfile)
		if err == nil {
			err = createOwnDir(path)
		}
		if err != nil {
			return err
		}
		return l.launch(pidfile, command)
	}
	c.DisableFlagsInUseLine = true
	f := c.Flags()
	f.SetInterspersed(false)
	f.SortFlags = false
	f.Var(textValue(&l.log, "FILE"), "log", "append COMMAND's output to this file; without it, it is discarded")
	l.delay = defaultDelay
	f.Var(&value{span(defaultDelay), "notify|DURATION", l.setReady}, "ready", "when it is ready: when it says so, or after it has run that long")
	f.VarP(durationValue(&l.timeout, "90s"), "timeout", "t", "stop it if it is not ready after that long")
	if !l.restart {
		f.VarP(exitCodeValue(&l.conflict, "0"), "conflict-exit-code", "E", "exit with N if it is already running")
	} else {
		f.BoolVar(&l.holders, "holders", false, "stop every process that holds PIDFILE's lock, as 'pidfile stop --holders' does")
	}
	f.BoolVarP(&l.quiet, "quiet", "q", false, "do not say that it has started, or is running already")
	f.BoolVar(&l.foreign, "foreign", false, "COMMAND writes PIDFILE itself: wait until it does")
	r.defineCommandFlags(f)
	return c
}

// defaultDelay is how long COMMAND must have run: most that fail do so sooner, for
// want of a file, a port or a right.
const defaultDelay = 200 * time.Millisecond

func (l *launcher) setReady(s string) (err error) {
	if l.notify = s == "notify"; l.notify {
		return nil
	}
	l.delay, err = parseDuration(s)
	switch {
	case s == "delay":
		return withHint(errors.New("\"delay\" is not needed"), "write the duration alone, e.g. '--ready 2s'")
	case err != nil:
		return fmt.Errorf("invalid value %q: use notify or a duration, e.g. 2s", s)
	}
	return nil
}

// changed returns those flags for 'pidfile run' that were given.
func changed(c *cobra.Command) (flags []string) {
	c.Flags().Visit(func(f *pflag.Flag) {
		if !slices.Contains(commandFlags, f.Name) {
			return
		}
		values := []string{f.Value.String()}
		if list, ok := f.Value.(cobra.SliceValue); ok {
			values = list.GetSlice()
		}
		for _, value := range values {
			flags = append(flags, "--"+f.Name+"="+value)
		}
	})
	return flags
}

// lastLines returns the end of what COMMAND has written to its log since from.
func lastLines(log *os.File, from int64) []string {
	const most, wide = 10, 4096
	fi, err := log.Stat()
	if err != nil || !fi.Mode().IsRegular() || fi.Size() <= from {
		return nil
	}
	from = max(from, fi.Size()-wide)
	text := make([]byte, fi.Size()-from)
	n, _ := log.ReadAt(text, from) // what can be read is shown
	lines := strings.Split(strings.TrimRight(string(text[:n]), "\n"), "\n")
	return lines[max(0, len(lines)-most):]
}
