//go:build linux

package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/go-pidfile/pidfile/internal/testproc"
)

// A result is what a command that has ended said.
type result struct {
	stdout, stderr string
	code           int
}

// unanswered is what the command says, after a second or some, of a file system that
// hangs, and of any on a machine that is too busy. It has done nothing then.
const unanswered = "its file system does not answer"

// call runs the command under test to its end. It tries again if the machine is busy.
func call(t *testing.T, args ...string) (r result) {
	t.Helper()
	for range 10 {
		if r = finish(t, exec.Command(binary, args...)); !strings.Contains(r.stderr, unanswered) {
			break
		}
	}
	return r
}

// finish runs any command to its end.
func finish(t *testing.T, c *exec.Cmd) result {
	t.Helper()
	var stdout, stderr bytes.Buffer
	c.Stdout, c.Stderr = &stdout, &stderr
	code := exitCode(t, c.Run())
	return result{stdout.String(), stderr.String(), code}
}

// is checks an exit code and that stdout matches a pattern.
func (r result) is(t *testing.T, code int, pattern string) {
	t.Helper()
	if r.code != code || !regexp.MustCompile(pattern).MatchString(r.stdout) {
		t.Errorf("exit code %d, want %d; stdout, to match %q: %s; stderr: %s", r.code, code, pattern, r.stdout, r.stderr)
	}
}

// outcomes decodes what stop, signal, wait and clean print with --json.
func (r result) outcomes(t *testing.T) (all []outcome) {
	t.Helper()
	if err := json.Unmarshal([]byte(r.stdout), &all); err != nil {
		t.Fatalf("%v in %q; stderr: %s", err, r.stdout, r.stderr)
	}
	return all
}

// output runs the command and returns its stdout and exit code.
func output(t *testing.T, args ...string) ([]byte, int) {
	t.Helper()
	out, err := exec.Command(binary, args...).Output()
	return out, exitCode(t, err)
}

// exitCode is what a shell calls it.
func exitCode(t *testing.T, err error) int {
	t.Helper()
	var failed *exec.ExitError
	switch {
	case err == nil:
		return 0
	case !errors.As(err, &failed):
		t.Fatal(err)
	case failed.Sys().(syscall.WaitStatus).Signaled():
		return 128 + int(failed.Sys().(syscall.WaitStatus).Signal())
	}
	return failed.ExitCode()
}

func writeFile(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

// writeProgram writes a file that is executed at once. No process is forked
// meanwhile: until it has executed its own program, it would have the file open for
// writing too (ETXTBSY).
func writeProgram(path string, program []byte) error {
	syscall.ForkLock.RLock()
	defer syscall.ForkLock.RUnlock()
	return os.WriteFile(path, program, 0o755)
}

func noFile(t *testing.T, path string) {
	t.Helper()
	if _, err := os.Lstat(path); !errors.Is(err, fs.ErrNotExist) {
		text, _ := os.ReadFile(path)
		t.Errorf("%s is left: %q, %v", path, text, err)
	}
}

// awaitText waits until a file has a whole line, and returns all of it.
func awaitText(t *testing.T, path string) (text string) {
	t.Helper()
	testproc.Eventually(t, path, func() bool {
		b, _ := os.ReadFile(path)
		text = string(b)
		return strings.HasSuffix(text, "\n")
	})
	return strings.TrimSpace(text)
}

func awaitPID(t *testing.T, path string) int {
	t.Helper()
	pid, err := strconv.Atoi(awaitText(t, path))
	if err != nil {
		t.Fatal(err)
	}
	return pid
}
