package main

import (
	"errors"
	"fmt"
	"syscall"

	"github.com/go-pidfile/pidfile/internal/supervise"
	"github.com/spf13/cobra"
)

func runCommand() *cobra.Command {
	var r runner
	c := &cobra.Command{
		Use:   "run [flags] PIDFILE [--] COMMAND [ARG...]",
		Short: "Run a command unless it is running already",
		Long: `Run COMMAND, unless it is running already.

While COMMAND runs, PIDFILE holds its PID, from before its first instruction
until after its last. All signals sent to pidfile that can be caught are passed
on, and the exit code is COMMAND's own. PIDFILE is gone when pidfile returns.
If pidfile itself is killed, COMMAND keeps the lock, so that a second start is
still refused (or COMMAND ends too: --die-together).

What an earlier run left behind after a crash is replaced. COMMAND finds the
path of PIDFILE in the environment variable PIDFILE_HELD. Flags go before
PIDFILE: what follows it is COMMAND's.

With --user the environment is that of a login (HOME, USER, LOGNAME, SHELL,
PATH) with our TERM, LANG and LC_*, and what --env names: root's variables may
hold secrets, and name root's directories. COMMAND itself is looked up in our
PATH. On a terminal it gets its own session, so that it cannot type into root's
shell: keys and kill(1) reach its process group through pidfile, and it has no
/dev/tty.

As PID 1 of a container, pidfile reaps what COMMAND leaves behind.

Exit codes:
  COMMAND's own, or 128+N if signal N ended it
  75   already running, also after a wait that timed out (see -E)
  124  stopped by --max-runtime (COMMAND's own if it could not be: sudo)
  125  pidfile itself failed, or the command line is wrong
  126  COMMAND cannot be executed
  127  COMMAND was not found`,
		Example: `  # in a crontab: never two at a time, silent if one is running
  pidfile run -q --max-runtime 6h backup rsync -a /home /backup

  # wait up to a minute for the other one to end
  pidfile run -t 1m /run/deploy.pid -- make deploy

  # the entry point of a container
  pidfile run --tree --user app:app app -- /usr/bin/app`,
		Args: needsCommand,
		RunE: func(c *cobra.Command, args []string) error {
			r.timed = c.Flags().Changed("timeout")
			r.finishCommandFlags()
			if err := r.check(); err != nil {
				return usage(c, err)
			}
			pidfile, command := splitCommand(args)
			return r.run(pidfile, command)
		},
		DisableFlagsInUseLine: true,
	}
	f := c.Flags()
	f.SetInterspersed(false)
	f.SortFlags = false
	f.BoolVarP(&r.wait, "wait", "w", false, "wait until the running one has ended")
	f.VarP(durationValue(&r.timeout, ""), "timeout", "t", "wait at most that long, e.g. 90s, 2m or seconds")
	f.BoolVar(&r.replace, "replace", false, "stop the running one first, as 'pidfile stop' does")
	f.BoolVar(&r.holders, "holders", false, "with --replace: stop every process that holds PIDFILE's lock")
	f.VarP(exitCodeValue(&r.conflict, fmt.Sprint(exitRunning)), "conflict-exit-code", "E", "exit with N if it is already running")
	f.BoolVarP(&r.quiet, "quiet", "q", false, "print nothing if it is already running or while waiting")
	f.BoolVar(&r.become, "exec", false, "become COMMAND, keeping no parent: the lock lives as long as it does")
	r.defineCommandFlags(f)
	f.IntVar(&r.report, "report", -1, "")
	f.StringVar(&r.log, "output", "", "")
	_ = f.MarkHidden("report") // these two are for 'pidfile start'
	_ = f.MarkHidden("output")
	return c
}

func needsCommand(c *cobra.Command, args []string) error {
	if len(args) > 0 && isNumber(args[0]) {
		return withHint(errNumber(args[0]), "'--timeout "+args[0]+"' waits that many seconds; --wait takes no value")
	}
	if _, command := splitCommand(args); len(command) > 0 {
		return nil
	}
	if len(args) < 2 {
		return usage(c, fmt.Errorf("%s needs PIDFILE and COMMAND", c.Name()))
	}
	return usage(c, fmt.Errorf("%s needs a COMMAND", c.Name()))
}

// splitCommand takes PIDFILE [--] COMMAND [ARG...] apart.
func splitCommand(args []string) (pidfile string, command []string) {
	if len(args) == 0 {
		return "", nil
	}
	pidfile, command = args[0], args[1:]
	if len(command) > 0 && command[0] == "--" {
		command = command[1:]
	}
	return pidfile, command
}

// check refuses what contradicts itself.
func (r *runner) check() error {
	if r.replace && (r.wait || r.timed) {
		return errors.New("--replace does not wait for the running one: leave --wait and --timeout out")
	}
	if r.holders && !r.replace {
		return errors.New("--holders is for --replace")
	}
	if !r.become {
		return nil
	}
	if r.command.Session {
		return errors.New("--exec and --user on a terminal: COMMAND could type into the shell that we came from, " +
			"and we cannot leave it: leave --exec out")
	}
	for _, with := range []struct {
		given     bool
		name, why string
	}{
		{!r.command.Inherit, "close", "to hold the lock"},
		{r.command.MaxRuntime > 0, "max-runtime", "to end COMMAND"},
		{r.command.Tree, "tree", "to wait for what COMMAND left behind"},
		{r.command.Group, "group", "to signal the group"},
		{r.command.DieTogether, "die-together", "to die with"},
		{r.onLost == "stop", "on-lost stop", "to stop COMMAND"},
	} {
		if with.given {
			return fmt.Errorf("--exec and --%s: no process would be left %s", with.name, with.why)
		}
	}
	return nil
}

// notAllowed tells of a signal that COMMAND, or what it left behind, did not get.
func (r *runner) notAllowed(pid int, sig syscall.Signal) {
	survivePipe()
	again := ""
	if sig == syscall.SIGKILL {
		again = "; it is tried again until it is"
	}
	infof("warning: %s is another user's process now: %s was not allowed%s", processName(pid), supervise.SignalName(sig), again)
}
