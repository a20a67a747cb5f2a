//go:build linux

package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync/atomic"
	"testing"

	"github.com/go-pidfile/pidfile/internal/testproc"
	"golang.org/x/sys/unix"
)

// binary is the command under test, built once; its directory leads PATH.
var binary string

func TestMain(m *testing.M) {
	os.Setenv("TERM", "xterm") // a dumb one is shown no progress
	if mode := os.Getenv("PIDFILE_TEST_HELPER"); mode != "" {
		helper(mode) // COMMAND
	}
	os.Exit(testMain(m))
}

func testMain(m *testing.M) int {
	unix.Umask(0o022) // other users run it as well
	dir, err := os.MkdirTemp("", "pidfile-cmd-")
	if err != nil {
		panic(err)
	}
	defer os.RemoveAll(dir)
	if err := os.Chmod(dir, 0o755); err != nil {
		panic(err)
	}
	binary = filepath.Join(dir, "pidfile")
	build := exec.Command("go", "build", "-ldflags=-s -w", "-o", binary, ".")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "go build: %v\n%s", err, out)
		return 1
	}
	// What a script starts in the background must not keep its pipes open.
	if err := os.WriteFile(filepath.Join(dir, "bg"), []byte("#!/bin/sh\nexec \"$@\" </dev/null >/dev/null 2>&1\n"), 0o755); err != nil {
		panic(err)
	}
	os.Setenv("PATH", dir+":"+os.Getenv("PATH"))
	os.Unsetenv("PIDFILE_HELD")
	// Orphans of killed wrappers come to us: none goes unseen, and no PID of
	// theirs is another's before we have reaped it.
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		panic(err)
	}
	defer killOrphans()
	testproc.SideBySide(8)
	return testproc.Main(m)
}

// sideBySide is how many tests run that have called parallel.
var sideBySide atomic.Int32

// parallel has a test run beside others, after those that do not call it. Those
// are the races, which count on the machine's speed, and those that look at all
// children of this process: of the orphans that come to it nobody knows which
// test's they were. So killOrphans leaves them alone while tests run side by side.
func parallel(t *testing.T) {
	t.Helper()
	t.Parallel()
	sideBySide.Add(1)
	t.Cleanup(func() { sideBySide.Add(-1) })
}
