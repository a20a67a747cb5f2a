package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
)

func runCommand() *cobra.Command {
	var (
		r       runner
		timeout string
		s       settings
	)
	c := &cobra.Command{
		Use:   "run [flags] PIDFILE [--] COMMAND [ARG...]",
		Short: "Run a command as the one instance",
		Long: `Run COMMAND, unless it is running already.

While COMMAND runs, PIDFILE holds its PID, from before its first instruction
until after its last. Signals sent to pidfile (TERM, INT, HUP, QUIT, USR1, USR2,
WINCH, CONT) are passed on, and the exit code is COMMAND's own. PIDFILE is gone
when pidfile returns. If pidfile itself is killed, COMMAND keeps the lock, so
that a second start is refused all the same (or ends too: --die-together).

What an earlier run left behind after a crash is replaced. COMMAND finds the
path of PIDFILE in the environment variable PIDFILE_HELD. Flags go before PIDFILE:
what follows it is COMMAND's.

With --user the environment is that of a login (HOME, USER, LOGNAME, SHELL, PATH)
with our TERM, LANG and LC_*, and with what --env names: root's variables may hold
secrets, and name root's directories. COMMAND itself is looked up in our PATH. On a
terminal it gets a session of its own, so that it cannot type into root's shell:
keys and kill(1) reach it and its group through pidfile, /dev/tty is not there.

As PID 1 of a container, pidfile reaps what its COMMAND leaves behind.

Exit codes:
  COMMAND's own, or 128+N if signal N ended it
  75   already running, also after a wait that ran out (see -E)
  124  --max-runtime ran out
  125  pidfile itself failed
  126  COMMAND cannot be executed
  127  COMMAND was not found`,
		Example: `  # in a crontab: never two at a time, silent if one is running
  pidfile run -q --max-runtime 6h backup rsync -a /home /backup

  # wait up to a minute for the other one to end
  pidfile run -t 1m /run/deploy.pid -- make deploy

  # the entry point of a container
  pidfile run --tree --user app:app app -- /usr/bin/app`,
		Args: needsCommand,
		RunE: func(c *cobra.Command, args []string) (err error) {
			if r.timed = c.Flags().Changed("timeout"); r.timed {
				if r.timeout, err = parseDuration(timeout); err != nil {
					return usage(c, fmt.Errorf("--timeout: %w", err))
				}
			}
			if err := s.apply(&r); err != nil {
				return usage(c, err)
			}
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
	f.StringVarP(&timeout, "timeout", "t", "", "wait that long at most, as 90s, 2m or a number of seconds")
	f.BoolVar(&r.replace, "replace", false, "stop the running one first, as 'pidfile stop' does")
	f.BoolVar(&r.holders, "holders", false, "with --replace: stop every process that has PIDFILE's lock, as 'pidfile stop --holders' does")
	f.IntVarP(&r.conflict, "conflict-exit-code", "E", exitRunning, "exit with `N` if it is already running")
	f.BoolVarP(&r.quiet, "quiet", "q", false, "do not say that it is already running, or what is waited for")
	f.BoolVar(&r.become, "exec", false, "become COMMAND, keeping no parent: the lock lives as long as it does")
	s.define(c)
	f.IntVar(&r.report, "report", -1, "")
	f.StringVar(&r.log, "output", "", "")
	_ = f.MarkHidden("report") // these two are for 'pidfile start'
	_ = f.MarkHidden("output")
	return c
}

func needsCommand(c *cobra.Command, args []string) error {
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

// settings are the flags about how COMMAND runs, as they were typed.
type settings struct {
	user, dir, umask      string
	group, tree           bool
	maxRuntime, killAfter string
	die, close            bool
	onLost, mode          string
	env                   []string
}

// shared names the flags of settings, which start hands on to run.
var shared = []string{"holders", "user", "env", "chdir", "umask", "group", "tree", "max-runtime", "kill-after", "die-together", "close", "on-lost", "mode"}

func (s *settings) define(c *cobra.Command) {
	f := c.Flags()
	f.StringVar(&s.user, "user", "", "run COMMAND as `USER[:GROUP]`, with that user's environment: see 'pidfile run --help'")
	f.StringArrayVar(&s.env, "env", nil, "set a variable for COMMAND; `NAME[=VALUE]` without a value keeps ours with --user; repeatable")
	f.StringVar(&s.dir, "chdir", "", "run COMMAND in the directory `DIR`")
	f.StringVar(&s.umask, "umask", "", "run COMMAND with this umask, as 027")
	f.BoolVar(&s.group, "group", false, "run COMMAND in a process group of its own, and signal all of that")
	f.BoolVar(&s.tree, "tree", false, "end only when every process that COMMAND left behind has ended")
	f.StringVar(&s.maxRuntime, "max-runtime", "", "send TERM after that long, then KILL, and exit 124")
	f.StringVar(&s.killAfter, "kill-after", "10s", "send KILL that long after a TERM of our own; 0 sends it at once")
	f.BoolVar(&s.die, "die-together", false, "let the kernel kill COMMAND if pidfile is killed")
	f.BoolVar(&s.close, "close", false, "do not let COMMAND inherit the lock: it ends with pidfile")
	f.StringVar(&s.onLost, "on-lost", "restore", "if PIDFILE is removed: `restore` it, stop COMMAND, or ignore that")
	f.StringVar(&s.mode, "mode", "0644", "permission bits of PIDFILE, whatever the umask")
}

// apply reads the settings. It touches nothing.
func (s *settings) apply(r *runner) (err error) {
	if s.maxRuntime != "" {
		if r.maxRuntime, err = parseDuration(s.maxRuntime); err != nil {
			return fmt.Errorf("--max-runtime: %w", err)
		}
		if r.maxRuntime == 0 {
			return errors.New("--max-runtime: 0 leaves no time to run")
		}
	}
	if r.killAfter, err = parseDuration(s.killAfter); err != nil {
		return fmt.Errorf("--kill-after: %w", err)
	}
	if r.mode, err = parseMode(s.mode); err != nil {
		return fmt.Errorf("--mode: %w", err)
	}
	switch r.onLost = s.onLost; r.onLost {
	case "restore", "stop", "ignore":
	default:
		return fmt.Errorf("--on-lost: %q is not restore, stop or ignore", r.onLost)
	}
	r.tree = s.tree
	r.start = starter{inherit: !s.close, group: s.group, die: s.die, dir: s.dir, umask: -1, tty: -1, output: -1}
	for _, v := range s.env {
		if name, _, _ := strings.Cut(v, "="); name == "" {
			return fmt.Errorf("--env: %q names no variable: write NAME=VALUE or NAME", v)
		}
	}
	r.start.vars = s.env
	if s.umask != "" {
		n, err := strconv.ParseUint(s.umask, 8, 32)
		if err != nil || n > 0o777 {
			return fmt.Errorf("--umask: %q is no umask: write octal permission bits, as 027", s.umask)
		}
		r.start.umask = int(n)
	}
	if s.dir != "" {
		if r.start.dir, err = directory(s.dir); err != nil {
			return fmt.Errorf("--chdir: %w", err)
		}
	}
	if s.user != "" {
		if r.start.account, err = lookUpAccount(s.user); err != nil {
			return fmt.Errorf("--user: %w", err)
		}
		if uid := os.Geteuid(); uid != 0 {
			return fmt.Errorf("--user: only root can become another user, and we are user %d", uid)
		}
		// On root's terminal another user could type for root, by TIOCSTI of
		// ioctl_tty(2). On its own it cannot, as with "su -c".
		if r.start.session = onOthersTerminal(); r.start.session {
			r.start.group = true
		}
	}
	return nil
}

// directory returns dir's absolute path if it is a directory.
func directory(dir string) (string, error) {
	abs, err := filepath.Abs(dir)
	if err != nil {
		return "", err
	}
	fi, err := os.Stat(abs)
	if err != nil {
		return "", err
	}
	if !fi.IsDir() {
		return "", fmt.Errorf("%s is not a directory", abs)
	}
	return abs, nil
}

// check refuses what contradicts itself.
func (r *runner) check() error {
	if r.conflict < 0 || r.conflict > 255 {
		return fmt.Errorf("--conflict-exit-code: %d is not between 0 and 255", r.conflict)
	}
	if r.replace && (r.wait || r.timed) {
		return errors.New("--replace does not wait for the running one: leave --wait and --timeout out")
	}
	if r.holders && !r.replace {
		return errors.New("--holders is for --replace")
	}
	if !r.become {
		return nil
	}
	if r.start.session {
		return errors.New("--exec and --user on a terminal: COMMAND could type into the shell that we came from, " +
			"and we cannot leave it: leave --exec out")
	}
	for _, with := range []struct {
		given     bool
		name, why string
	}{
		{!r.start.inherit, "close", "to hold the lock"},
		{r.maxRuntime > 0, "max-runtime", "to end COMMAND"},
		{r.tree, "tree", "to wait for what COMMAND left behind"},
		{r.start.group, "group", "to signal the group"},
		{r.start.die, "die-together", "to die with"},
		{r.onLost == "stop", "on-lost stop", "to stop COMMAND"},
	} {
		if with.given {
			return fmt.Errorf("--exec and --%s: nobody would be left %s", with.name, with.why)
		}
	}
	return nil
}

// parseDuration reads what Go calls a duration, or a number of seconds.
func parseDuration(s string) (time.Duration, error) {
	d, err := time.ParseDuration(s)
	if err != nil {
		d, err = time.ParseDuration(s + "s")
	}
	if err != nil || d < 0 {
		return 0, fmt.Errorf("%q is no duration: write 90s, 2m30s or a number of seconds", s)
	}
	return d, nil
}

func parseMode(s string) (fs.FileMode, error) {
	m, err := strconv.ParseUint(s, 8, 32)
	if err != nil || fs.FileMode(m)&^fs.ModePerm != 0 || m == 0 {
		return 0, fmt.Errorf("%q is no mode: write octal permission bits, as 0644", s)
	}
	return fs.FileMode(m), nil
}
