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
	inherit bool // COMMAND keeps the locked descriptor
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
func environ(pidfile string) []string {
	outer := func(v string) bool { return strings.HasPrefix(v, "PIDFILE=") }
	return append(slices.DeleteFunc(os.Environ(), outer), "PIDFILE="+pidfile)
}
