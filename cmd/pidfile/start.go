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
		Short: "Start a command in the background, as the one instance",
		Long: `Start COMMAND in the background and in a session of its own, as 'pidfile run' does
in the foreground, and return when it is ready: when it says so (--ready notify,
the protocol of sd_notify(3)), or when it has lived for a while (--ready 2s).
PIDFILE names it by then. If it ends first, its last log lines are shown.

It is a success if COMMAND runs already, as init scripts want it (but see -E).

With --foreign, COMMAND is a program that writes its own PIDFILE, and that may go
into the background by itself; it is ready when PIDFILE names it.

Exit codes:
  0    it is ready, or runs already
  1    COMMAND ended before it was ready
  4    PIDFILE is locked, but not provably by the process that it names: nothing was
       started; 'pidfile stop --holders' stops who has the lock
  124  it was not ready in time (-t), and was stopped
  125  pidfile itself failed
  126  COMMAND cannot be executed
  127  COMMAND was not found`,
		Example: `  pidfile start --user www --log /var/log/web.log web -- /usr/bin/web
  pidfile start --ready notify -t 1m db -- /usr/bin/db --foreground
  pidfile start --foreign /run/nginx.pid -- nginx`,
	})
}

// launchCommand gives start and restart what they have in common.
func launchCommand(l *launcher, c *cobra.Command) *cobra.Command {
	var (
		s              settings
		ready, timeout string
	)
	c.Args = needsCommand
	c.RunE = func(c *cobra.Command, args []string) (err error) {
		var r runner
		if err := s.apply(&r); err != nil {
			return usage(c, err)
		}
		l.start, l.mode, l.killAfter = r.start, r.mode, r.killAfter
		l.runFlags = changed(c)
		if l.timeout, err = parseDuration(timeout); err != nil {
			return usage(c, fmt.Errorf("--timeout: %w", err))
		}
		if err := l.setReady(ready); err != nil {
			return usage(c, err)
		}
		switch {
		case l.timeout == 0:
			return usage(c, errors.New("--timeout: 0 leaves no time to start"))
		case !l.notify && !l.foreign && l.delay >= l.timeout:
			return usage(c, fmt.Errorf("--ready %v is not over before --timeout %v", l.delay, l.timeout))
		}
		if l.conflict < 0 || l.conflict > 255 {
			return usage(c, fmt.Errorf("--conflict-exit-code: %d is not between 0 and 255", l.conflict))
		}
		if l.foreign {
			if err := l.checkForeign(c); err != nil {
				return usage(c, err)
			}
		}
		pidfile, command := splitCommand(args)
		return l.launch(pidfile, command)
	}
	c.DisableFlagsInUseLine = true
	f := c.Flags()
	f.SetInterspersed(false)
	f.SortFlags = false
	f.StringVar(&l.log, "log", "", "append COMMAND's output to `FILE`, else it goes nowhere")
	f.StringVar(&ready, "ready", defaultDelay.String(), "it is ready when it says so (`notify`), or has lived for a duration")
	f.StringVarP(&timeout, "timeout", "t", "90s", "stop it if it is not ready after that long")
	if !l.restart {
		f.IntVarP(&l.conflict, "conflict-exit-code", "E", 0, "exit with `N` if it is already running")
	} else {
		f.BoolVar(&l.holders, "holders", false, "stop every process that has PIDFILE's lock, as 'pidfile stop --holders' does")
	}
	f.BoolVarP(&l.quiet, "quiet", "q", false, "do not say that it has started, or runs already")
	f.BoolVar(&l.foreign, "foreign", false, "COMMAND writes PIDFILE itself: wait until it does")
	s.define(c)
	return c
}

// defaultDelay is how long COMMAND must have lived: most that fail do so sooner,
// for want of a file, a port or a right.
const defaultDelay = 200 * time.Millisecond

func (l *launcher) setReady(s string) (err error) {
	if s == "notify" {
		l.notify = true
		return nil
	}
	if l.delay, err = parseDuration(s); err != nil {
		return fmt.Errorf("--ready: %q is neither notify nor a duration, as 2s", s)
	}
	return nil
}

// joinDelay makes "--ready delay 2s" one word, "--ready=2s", among the flags of
// start and restart: what follows PIDFILE is COMMAND's.
func joinDelay(args []string) []string {
	if len(args) == 0 || args[0] != "start" && args[0] != "restart" {
		return args
	}
	flags := startCommand().Flags() // restart has the same
	for i := 1; i+2 < len(args) && len(args[i]) > 1 && args[i][0] == '-' && args[i] != "--"; i++ {
		if args[i] == "--ready" && args[i+1] == "delay" {
			return slices.Concat(args[:i], []string{"--ready=" + args[i+2]}, args[i+3:])
		}
		if takesNext(flags, args[i]) {
			i++
		}
	}
	return args
}

// takesNext reports whether the next argument is the value of this flag.
func takesNext(flags *pflag.FlagSet, arg string) bool {
	if name, long := strings.CutPrefix(arg, "--"); long {
		f := flags.Lookup(name) // nil for --name=value
		return f != nil && f.NoOptDefVal == ""
	}
	for i := 1; i < len(arg); i++ { // -qt 5s
		if f := flags.ShorthandLookup(arg[i : i+1]); f != nil && f.NoOptDefVal == "" {
			return i == len(arg)-1
		}
	}
	return false
}

// changed returns those flags for 'pidfile run' that were given.
func changed(c *cobra.Command) (flags []string) {
	c.Flags().Visit(func(f *pflag.Flag) {
		if !slices.Contains(shared, f.Name) {
			return
		}
		values := []string{f.Value.String()}
		if list, ok := f.Value.(pflag.SliceValue); ok {
			values = list.GetSlice()
		}
		for _, value := range values {
			flags = append(flags, "--"+f.Name+"="+value)
		}
	})
	return flags
}

// checkForeign refuses what needs a supervisor, which a foreign COMMAND has not.
func (l *launcher) checkForeign(c *cobra.Command) error {
	for _, name := range []string{"ready", "group", "tree", "max-runtime", "die-together", "close", "on-lost", "mode"} {
		if c.Flags().Changed(name) {
			return fmt.Errorf("--foreign and --%s: COMMAND goes its own way, and writes its own PIDFILE", name)
		}
	}
	return nil
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
