//go:build linux

package lock

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/go-pidfile/pidfile/internal/testproc"
	"golang.org/x/sys/unix"
)

// setFault has calls fail as f says, nil for none.
func setFault(f func(call string) syscall.Errno) {
	if f == nil {
		fault.Store(nil)
		return
	}
	fault.Store(&f)
}

// A role is what a copy of the test binary does instead of running the tests.
type role struct {
	Do     string
	Path   string
	Log    string // where enter and exit are noted
	Page   string // the counters shared with the parent
	Slot   int    // ours among the counters
	Inc    uint64 // incarnation: unique for each process of a storm
	Wait   bool   // waits for the file; else it fails at once
	Cancel int    // this many goroutines wait, and cancel at random; 0 is one that does not
	Record bool   // sometimes records its PID anew while it holds the file
	Broken bool   // the protocol is: errors are to be expected
	Stays  bool   // the file cannot be removed

	log   *os.File
	count *counters
}

const roleEnv = "PIDFILE_LOCK_TEST_ROLE"

func TestMain(m *testing.M) {
	text, ok := os.LookupEnv(roleEnv)
	if !ok {
		os.Exit(testproc.Main(m))
	}
	var r role
	if err := json.Unmarshal([]byte(text), &r); err != nil {
		r.die(err)
	}
	switch r.Do {
	case "storm":
		r.storm()
	case "read":
		r.read()
	case "stranger":
		r.stranger()
	case "leak":
		r.leak()
	case "block":
		_, _ = io.Copy(io.Discard, os.Stdin) // until our parent has enough of us
	case "wait":
		r.wait()
	case "crowd":
		r.crowd()
	default:
		r.die(fmt.Errorf("unknown role %q", r.Do))
	}
	os.Exit(0)
}

func (r *role) die(err error) {
	fmt.Fprintf(os.Stderr, "%s process %d: %v\n", r.Do, os.Getpid(), err)
	os.Exit(3)
}

// command returns the command that plays r.
func (r *role) command(t testing.TB, wrap ...string) *exec.Cmd {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	text, err := json.Marshal(r)
	if err != nil {
		t.Fatal(err)
	}
	args := append(wrap, exe)
	cmd := exec.Command(args[0], args[1:]...)
	// The race detector sleeps for a second at each exit unless told not to.
	cmd.Env = append(os.Environ(), roleEnv+"="+string(text), "GORACE="+os.Getenv("GORACE")+" atexit_sleep_ms=0")
	cmd.Stderr = os.Stderr
	return cmd
}

// untilEOF is a context that ends when the parent closes our standard input, as
// it also does when it dies.
func untilEOF() context.Context {
	ctx, cancel := context.WithCancel(context.Background())
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		cancel()
	}()
	return ctx
}

// places are directories on file systems of different kinds; with -short one.
func places(t testing.TB) map[string]string {
	t.Helper()
	if testing.Short() {
		return map[string]string{"tmpfs": "/dev/shm"}
	}
	wd, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	return map[string]string{"tmpfs": "/dev/shm", "disk": wd}
}

// tempIn makes a directory below dir that goes with the test. If that cannot be, as
// in a /dev/shm that does not exist, it is where t.TempDir would be.
func tempIn(t testing.TB, dir string) string {
	t.Helper()
	name, err := os.MkdirTemp(dir, ".pidfile-test-")
	if err != nil {
		t.Log(err)
		return t.TempDir()
	}
	t.Cleanup(func() { os.RemoveAll(name) })
	return name
}

func wasKilled(err error) bool {
	e, ok := err.(*exec.ExitError)
	return ok && e.Sys().(syscall.WaitStatus).Signal() == syscall.SIGKILL
}

// mustHold takes path, which must be free.
func mustHold(t testing.TB, path string) *Hold {
	t.Helper()
	h := new(Hold)
	h.Prepare(path)
	r, err := h.Acquire(&Options{PID: os.Getpid(), Mode: 0o644})
	if err != nil || r.Held {
		t.Fatalf("acquire: %+v, %v; want it free", r, err)
	}
	return h
}

func mustRelease(t testing.TB, h *Hold) {
	t.Helper()
	if err := h.Release(); err != nil {
		t.Fatalf("release: %v", err)
	}
}

// checkLeaks asserts, at the end of the test, that descriptors, goroutines and
// queues are as many as now.
func checkLeaks(t testing.TB) {
	t.Helper()
	warm(t)
	fds, routines := openFDs(t), runtime.NumGoroutine()
	t.Cleanup(func() {
		done := func() bool {
			return openFDs(t) <= fds && runtime.NumGoroutine() <= routines && countQueues() == 0
		}
		for start := time.Now(); !done(); time.Sleep(200 * time.Microsecond) {
			if time.Since(start) > testproc.Patience {
				t.Errorf("left: %d descriptors of %d, %d goroutines of %d, %d queues", openFDs(t), fds, runtime.NumGoroutine(), routines, countQueues())
				return
			}
		}
	})
}

// warm has the runtime open what it keeps: its epoll descriptors.
func warm(t testing.TB) {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	r.Close()
	w.Close()
}

func openFDs(t testing.TB) int {
	t.Helper()
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(entries)
}

func countQueues() int {
	queues.Lock()
	defer queues.Unlock()
	return len(queues.m)
}

func idOf(t testing.TB, path string) ID {
	t.Helper()
	m, err := statat(unix.AT_FDCWD, path)
	if err != nil {
		t.Fatal(err)
	}
	return m.id
}

// sleepers counts the threads of process pid that sleep in flock on the inode:
// /proc/locks events them with an arrow. pid 0 is any process.
func sleepers(t testing.TB, pid int, id ID) (n int) {
	t.Helper()
	text, err := os.ReadFile("/proc/locks")
	if err != nil {
		t.Fatal(err)
	}
	ino := fmt.Sprintf(":%d", id.Ino)
	for line := range strings.Lines(string(text)) {
		f := strings.Fields(line)
		if len(f) < 7 || f[1] != "->" || f[2] != "FLOCK" || !strings.HasSuffix(f[6], ino) {
			continue
		}
		if pid == 0 || f[5] == strconv.Itoa(pid) {
			n++
		}
	}
	return n
}

// A child is a process that plays a role and is told what to do by lines.
type child struct {
	t     testing.TB
	cmd   *exec.Cmd
	in    io.WriteCloser
	lines chan string
	once  sync.Once
}

func startChild(t testing.TB, r *role) *child {
	t.Helper()
	c := &child{t: t, cmd: r.command(t), lines: make(chan string, 16)}
	var err error
	if c.in, err = c.cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	out, err := c.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := c.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		defer close(c.lines)
		for s := bufio.NewScanner(out); s.Scan(); {
			c.lines <- s.Text()
		}
	}()
	t.Cleanup(c.end)
	return c
}

func (c *child) pid() int { return c.cmd.Process.Pid }

func (c *child) say(line string) {
	c.t.Helper()
	if _, err := fmt.Fprintln(c.in, line); err != nil {
		c.t.Fatal(err)
	}
}

// hear returns the next line of the child.
func (c *child) hear() string {
	c.t.Helper()
	select {
	case line, ok := <-c.lines:
		if !ok {
			c.t.Fatal("the child ended early")
		}
		return line
	case <-time.After(testproc.Patience):
		c.t.Fatalf("the child said nothing for %v", testproc.Patience)
	}
	return ""
}

func (c *child) expect(line string) {
	c.t.Helper()
	if got := c.hear(); got != line {
		c.t.Fatalf("the child said %q, want %q", got, line)
	}
}

// end closes the child's input, upon which it ends, and waits for it.
func (c *child) end() {
	c.once.Do(func() {
		c.in.Close()
		timer := time.AfterFunc(testproc.Patience, func() { _ = c.cmd.Process.Kill() })
		defer timer.Stop()
		for range c.lines { // to the end, which Wait would cut off
		}
		if err := c.cmd.Wait(); err != nil {
			c.t.Errorf("child: %v", err)
		}
	})
}

// kill ends the child at once.
func (c *child) kill() {
	c.once.Do(func() {
		_ = c.cmd.Process.Kill()
		for range c.lines {
		}
		if err := c.cmd.Wait(); !wasKilled(err) {
			c.t.Errorf("child: %v", err)
		}
		c.in.Close()
	})
}
