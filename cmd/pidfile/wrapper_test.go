//go:build linux

package main

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/go-pidfile/pidfile/internal/testproc"
	"golang.org/x/sys/unix"
)

// A wrapper is a "pidfile run" that a test started.
type wrapper struct {
	*exec.Cmd
	path   string
	log    string       // the file that stderr goes to, "" if it is a terminal
	stderr bytes.Buffer // complete once it is waited for
	stdin  io.WriteCloser
	err    error
	ended  chan struct{}
}

// start starts "pidfile run PATH ARGS". Its stdin is a pipe that the test may close.
func start(t *testing.T, path string, args ...string) *wrapper {
	t.Helper()
	w := prepare(t, path, args...)
	w.begin(t)
	return w
}

func prepare(t *testing.T, path string, args ...string) *wrapper {
	t.Helper()
	w := &wrapper{Cmd: exec.Command(binary, append([]string{"run", path}, args...)...), path: path, ended: make(chan struct{})}
	var err error
	if w.stdin, err = w.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	return w
}

func (w *wrapper) begin(t *testing.T) {
	t.Helper()
	// A file, not a pipe: nobody waits until the last orphan has closed it.
	w.log = filepath.Join(t.TempDir(), "stderr")
	told, err := os.Create(w.log)
	if err != nil {
		t.Fatal(err)
	}
	w.Stderr = told
	if err := w.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		w.err = w.Cmd.Wait()
		_, _ = told.Seek(0, io.SeekStart)
		_, _ = w.stderr.ReadFrom(told)
		told.Close()
		close(w.ended)
	}()
	t.Cleanup(func() {
		_ = w.Process.Kill() // it knows whether it was reaped
		<-w.ended
		killOrphans()
	})
}

// told returns what the wrapper wrote to stderr until now.
func (w *wrapper) told() string {
	text, _ := os.ReadFile(w.log)
	return string(text)
}

// command waits until COMMAND runs and returns its PID, as the file has it.
func (w *wrapper) command(t *testing.T) (pid int) {
	t.Helper()
	testproc.Eventually(t, "a PID in "+w.path, func() bool {
		text, _ := os.ReadFile(w.path)
		pid, _ = strconv.Atoi(strings.TrimSpace(string(text)))
		// Between fork and exec it is pidfile yet.
		exe, err := os.Readlink(fmt.Sprintf("/proc/%d/exe", pid))
		return err == nil && exe != binary
	})
	return pid
}

// wait waits for the end and returns the exit code, 128+N after a signal.
func (w *wrapper) wait(t *testing.T) int {
	t.Helper()
	select {
	case <-w.ended:
		return exitCode(t, w.err)
	case <-time.After(testproc.Patience):
		t.Fatalf("pidfile run does not end; stderr: %s", w.told())
		return -1
	}
}

// stop ends it with a TERM, in good order.
func (w *wrapper) stop(t *testing.T) {
	t.Helper()
	w.signal(t, unix.SIGTERM)
	if code := w.wait(t); code != 143 {
		t.Errorf("exit code %d after TERM, want 143; stderr: %s", code, &w.stderr)
	}
	noFile(t, w.path)
}

func (w *wrapper) signal(t *testing.T, sig syscall.Signal) {
	t.Helper()
	if err := w.Process.Signal(sig); err != nil {
		t.Fatal(err)
	}
}

// background starts any command; it is ended with the test.
func background(t *testing.T, c *exec.Cmd) *wrapper {
	t.Helper()
	w := &wrapper{Cmd: c, ended: make(chan struct{})}
	told, err := os.Create(filepath.Join(t.TempDir(), "stderr"))
	if err != nil {
		t.Fatal(err)
	}
	w.Stderr, w.log = told, told.Name()
	if err := w.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		w.err = w.Cmd.Wait()
		told.Close()
		close(w.ended)
	}()
	t.Cleanup(func() {
		_ = w.Process.Kill()
		<-w.ended
		killOrphans()
	})
	return w
}

// try runs "pidfile run PATH ARGS" to its end.
func try(t *testing.T, path string, args ...string) (code int, stderr string) {
	t.Helper()
	w := start(t, path, args...)
	w.stdin.Close()
	return w.wait(t), w.stderr.String()
}

// refusedBy checks that a start is refused, and that it is told by whom.
func refusedBy(t *testing.T, path string, pid int, args ...string) {
	t.Helper()
	if len(args) == 0 {
		args = []string{"true"}
	}
	code, stderr := try(t, path, args...)
	if code != 75 || !strings.Contains(stderr, fmt.Sprintf("already running: PID %d ", pid)) {
		t.Errorf("a second start: exit code %d, want 75, by PID %d: %s", code, pid, stderr)
	}
}

// works checks that a start works and cleans up.
func works(t *testing.T, path string) {
	t.Helper()
	if code, stderr := try(t, path, "true"); code != 0 || stderr != "" {
		t.Errorf("the next start: exit code %d: %s", code, stderr)
	}
	noFile(t, path)
}
