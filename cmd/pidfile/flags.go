package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/go-pidfile/pidfile"
	"github.com/go-pidfile/pidfile/internal/supervise"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// A value is a flag's: it is read, and refused, as it is typed.
type value struct {
	text        string // as typed, or the default
	placeholder string // for help; words to choose from have a | between them
	set         func(string) error
}

func (v *value) String() string { return v.text }
func (v *value) Type() string   { return v.placeholder }

func (v *value) Set(s string) error {
	if err := v.set(s); err != nil {
		return err
	}
	v.text = s
	return nil
}

// newValue is a flag that parse reads into p. Its default is text, if that is not
// empty.
func newValue[T any](p *T, text, placeholder string, parse func(string) (T, error)) *value {
	if text != "" {
		*p, _ = parse(text)
	}
	return &value{text, placeholder, func(s string) (err error) {
		*p, err = parse(s)
		return err
	}}
}

func textValue(p *string, placeholder string) *value {
	return newValue(p, "", placeholder, func(s string) (string, error) { return s, nil })
}

func oneOfValue(p *string, text string, words ...string) *value {
	return newValue(p, text, strings.Join(words, "|"), func(s string) (string, error) {
		if slices.Contains(words, s) {
			return s, nil
		}
		last := len(words) - 1
		return "", fmt.Errorf("invalid value %q: use %s or %s", s, strings.Join(words[:last], ", "), words[last])
	})
}

func durationValue(p *time.Duration, text string) *value {
	return newValue(p, text, "DURATION", parseDuration)
}

// A namedSignal is a signal and how it was typed, in capitals.
type namedSignal struct {
	name string
	sig  syscall.Signal
}

var sigTerm = namedSignal{"TERM", syscall.SIGTERM}

func parseNamedSignal(s string) (namedSignal, error) {
	sig, err := supervise.ParseSignal(s)
	return namedSignal{strings.ToUpper(s), sig}, err
}

func signalValue(p *namedSignal, text string) *value {
	return newValue(p, text, "SIGNAL", parseNamedSignal)
}

func exitCodeValue(p *int, text string) *value {
	return newValue(p, text, "N", func(s string) (int, error) {
		n, err := strconv.Atoi(s)
		if err != nil || n < 0 || n > 255 {
			return 0, fmt.Errorf("invalid exit code %q: use 0 to 255", s)
		}
		return n, nil
	})
}

// A listValue is a flag that may be given several times.
type listValue struct {
	values      *[]string
	placeholder string
	check       func(string) error
	split       bool // at commas
}

func (l *listValue) String() string     { return strings.Join(*l.values, ",") }
func (l *listValue) Type() string       { return l.placeholder }
func (l *listValue) GetSlice() []string { return *l.values }

func (l *listValue) Set(s string) error {
	words := []string{s}
	if l.split {
		words = strings.Split(s, ",")
	}
	*l.values = append(*l.values, words...)
	for _, word := range words {
		if err := l.check(word); err != nil {
			return err
		}
	}
	return nil
}

// commandFlags are the names of the flags about how COMMAND runs, which start hands
// on to run.
var commandFlags = []string{"holders", "user", "env", "chdir", "umask", "group", "tree", "max-runtime", "kill-after", "die-together", "close", "on-lost", "mode"}

func (r *runner) defineCommandFlags(f *pflag.FlagSet) {
	f.Var(newValue(&r.command.Account, "", "USER[:GROUP]", parseAccount), "user", "run COMMAND as this user, with that user's environment")
	f.Var(&listValue{&r.vars, "NAME[=VALUE]", checkVariable, false}, "env", "set a variable for COMMAND; with --user, NAME alone keeps ours; repeatable")
	f.Var(newValue(&r.command.Dir, "", "DIR", directory), "chdir", "run COMMAND in this directory")
	f.Var(newValue(&r.command.Umask, "", "UMASK", parseUmask), "umask", "run COMMAND with this umask, e.g. 027")
	f.BoolVar(&r.command.Group, "group", false, "run COMMAND in its own process group, and signal the group")
	f.BoolVar(&r.command.Tree, "tree", false, "end only when every process that COMMAND left behind has ended")
	f.Var(newValue(&r.command.MaxRuntime, "", "DURATION", parseMaxRuntime), "max-runtime", "send TERM after that long, then KILL, and exit 124")
	f.Var(durationValue(&r.command.KillAfter, "10s"), "kill-after", "send KILL that long after our own TERM; 0 sends it at once")
	f.BoolVar(&r.command.DieTogether, "die-together", false, "have the kernel kill COMMAND if pidfile is killed")
	f.BoolVar(&r.close, "close", false, "do not let COMMAND inherit the lock: the lock ends with pidfile")
	f.Var(oneOfValue(&r.onLost, "restore", "restore", "stop", "ignore"), "on-lost", "if PIDFILE is removed: put it back, stop COMMAND, or ignore it")
	f.Var(newValue(&r.mode, "0644", "MODE", parseMode), "mode", "permission bits of PIDFILE, whatever the umask")
}

// finishCommandFlags does what needs all of them.
func (r *runner) finishCommandFlags() {
	r.command.Inherit = !r.close
	// On root's terminal another user could type for root, by TIOCSTI of
	// ioctl_tty(2). On its own it cannot, as with "su -c".
	if r.command.Account != nil && supervise.OnOthersTerminal() {
		r.command.Session = true
	}
}

// finderFlags defines --program and --locked.
func finderFlags(c *cobra.Command, f *pidfile.Finder) {
	program := newValue(&f.Program, "", "NAME|PATH", func(s string) (string, error) {
		if s == "" {
			return "", errors.New("invalid value \"\": name a program")
		}
		return s, nil
	})
	c.Flags().Var(program, "program", "it runs this executable; then PIDFILE's age and place matter less")
	c.Flags().BoolVar(&f.Locked, "locked", false, "only a lock counts, not a live process that PIDFILE names")
}

// parseDuration reads what Go calls a duration, or a number of seconds.
func parseDuration(s string) (time.Duration, error) {
	d, err := time.ParseDuration(s)
	if err != nil {
		d, err = time.ParseDuration(s + "s")
	}
	if err != nil || d < 0 {
		return 0, fmt.Errorf("invalid duration %q: use 90s, 2m30s or seconds", s)
	}
	return d, nil
}

func parseMaxRuntime(s string) (time.Duration, error) {
	if s == "" {
		return 0, nil
	}
	d, err := parseDuration(s)
	if err == nil && d == 0 {
		err = errors.New("0 leaves no time to run")
	}
	return d, err
}

func parseMode(s string) (fs.FileMode, error) {
	m, err := strconv.ParseUint(s, 8, 32)
	if err != nil || fs.FileMode(m)&^fs.ModePerm != 0 || m == 0 {
		return 0, fmt.Errorf("invalid mode %q: use octal permission bits, e.g. 0644", s)
	}
	return fs.FileMode(m), nil
}

func parseUmask(s string) (*int, error) {
	if s == "" {
		return nil, nil
	}
	n, err := strconv.ParseUint(s, 8, 32)
	if err != nil || n > 0o777 {
		return nil, fmt.Errorf("invalid umask %q: use octal permission bits, e.g. 027", s)
	}
	mask := int(n)
	return &mask, nil
}

func parseAccount(s string) (*supervise.Account, error) {
	if s == "" {
		return nil, nil
	}
	a, err := supervise.LookUpAccount(s)
	if err != nil {
		return nil, err
	}
	if uid := os.Geteuid(); uid != 0 {
		return nil, fmt.Errorf("only root can become another user, and we are user %d", uid)
	}
	return a, nil
}

// directory returns dir's absolute path if it is a directory.
func directory(dir string) (string, error) {
	if dir == "" {
		return "", nil
	}
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

func checkVariable(s string) error {
	if name, _, _ := strings.Cut(s, "="); name == "" {
		return fmt.Errorf("%q does not name a variable: use NAME=VALUE or NAME", s)
	}
	return nil
}

func checkState(s string) error {
	var state pidfile.State
	if err := state.UnmarshalText([]byte(s)); err != nil || state == pidfile.Absent {
		return fmt.Errorf("invalid state %q: use running, stale or unknown", s)
	}
	return nil
}
