package main

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"syscall"
)

// A starter starts COMMAND in a child process that has done all that is left
// to do for the PID file when it becomes COMMAND: so the file names COMMAND from
// before its first instruction.
type starter struct {
	path    string   // of the executable
	argv    []string // its name first
	env     []string
	vars    []string // NAME=VALUE, or NAME for what we have: set in env, or kept
	inherit bool     // COMMAND keeps the locked descriptor

	// What COMMAND has of its own, if it is to have any.
	group   bool     // a process group
	session bool     // and a session, which has no terminal
	tty     int      // that group's terminal, in its foreground; -1: none
	die     bool     // the kernel kills it when we end
	dir     string   // working directory
	umask   int      // -1: ours
	account *account // nil: ours
	output  int      // becomes its standard output and error; -1: ours
}

// A startError is a child that did not become COMMAND.
type startError struct {
	step  string
	path  string
	errno syscall.Errno
}

func (e *startError) Error() string { return fmt.Sprintf("%s %s: %v", e.step, e.path, e.errno) }
func (e *startError) Unwrap() error { return e.errno }

// environ is COMMAND's environment: ours, and where its PID file is.
func environ(pidfile string) []string { return setenv(os.Environ(), "PIDFILE", pidfile) }

// environment is COMMAND's environment: that of environ, in which another user
// finds nothing of root's but what vars name.
func (s *starter) environment(pidfile string) []string {
	env := environ(pidfile)
	if s.account != nil {
		own := env[len(env)-1] // what environ has set
		env = append(s.account.environ(env), own)
	}
	for _, v := range s.vars {
		name, value, given := strings.Cut(v, "=")
		if !given {
			value, given = os.LookupEnv(name)
		}
		if given {
			env = setenv(env, name, value)
		}
	}
	return env
}

func setenv(env []string, name, value string) []string {
	outer := func(v string) bool { return strings.HasPrefix(v, name+"=") }
	return append(slices.DeleteFunc(env, outer), name+"="+value)
}
