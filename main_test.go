//go:build linux

package pidfile_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/go-pidfile/pidfile"
	"github.com/go-pidfile/pidfile/internal/testproc"
	"golang.org/x/sys/unix"
)

// The test binary is also every other process that the tests need: helperEnv
// says which, helperPath on what file.
const (
	helperEnv  = "PIDFILE_TEST_HELPER"
	helperPath = "PIDFILE_TEST_PATH"
)

func TestMain(m *testing.M) {
	if mode := os.Getenv(helperEnv); mode != "" {
		runHelper(mode, os.Getenv(helperPath))
		return
	}
	if os.Getuid() == 0 {
		// So that as can run it, whatever go test's umask was; if it cannot be, that tells.
		_ = os.Chmod("/proc/self/exe", 0o755)
	}
	testproc.SideBySide(8)
	os.Exit(testproc.Main(m))
}

// runHelper says in a line how its beginning went, and then does what its
// standard input says, a word a line, with a line in answer to each.
func runHelper(mode, path string) {
	say := func(words ...any) { fmt.Println(words...) }
	commands := bufio.NewScanner(os.Stdin)
	do := func(answers map[string]func() any) {
		for commands.Scan() {
			if commands.Text() == "exit" {
				return
			}
			say(answers[commands.Text()]())
		}
	}
	held := func(f *pidfile.File, err error) {
		say(verdict(err))
		do(map[string]func() any{"release": func() any { return verdict(f.Release()) }})
	}
	switch mode {
	case "acquire":
		held(pidfile.Acquire(path))
	case "wait":
		say("waits")
		held(pidfile.AcquireContext(context.Background(), path))
	case "idle":
		say("idle")
		do(nil)
	case "parent": // holds the file and starts a child that knows nothing of it
		f, err := pidfile.Acquire(path)
		if err != nil {
			say(err)
			return
		}
		child := exec.Command("cat")
		child.Stdin = os.Stdin // so it ends when the test closes it
		if err := child.Start(); err != nil {
			say(err)
			return
		}
		say(child.Process.Pid)
		_ = child.Wait()
		runtime.KeepAlive(f)
	case "python":
		// python-pidfile, in Go: look, then write without a lock or a newline.
		if pid := pythonHolder(path); pid != 0 {
			say("running", pid)
			return
		}
		say(verdict(os.WriteFile(path, []byte(strconv.Itoa(os.Getpid())), 0o644)))
		do(map[string]func() any{"remove": func() any { return verdict(os.Remove(path)) }})
	case "postmaster":
		text := fmt.Sprintf("%d\n/var/lib/postgresql\n1700000000\n5432\n", os.Getpid())
		say(verdict(os.WriteFile(path, []byte(text), 0o600)))
		do(nil)
	case "fcntl":
		f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o644)
		if err == nil {
			err = unix.FcntlFlock(f.Fd(), unix.F_SETLK, &unix.Flock_t{Type: unix.F_WRLCK})
		}
		say(verdict(err))
		do(nil)
		runtime.KeepAlive(f)
	default:
		helpers[mode](path)
	}
}

// helpers are further modes, registered by the files that need them.
var helpers = map[string]func(path string){}

// pythonHolder is the question that python-pidfile asks: does the file name a
// live process with the argv[0] of ours?
func pythonHolder(path string) int {
	text, err := os.ReadFile(path)
	if err != nil {
		return 0
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil {
		return 0
	}
	cmdline, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
	if name, _, _ := strings.Cut(string(cmdline), "\x00"); err != nil || name != os.Args[0] {
		return 0
	}
	return pid
}

// verdict puts the result of an Acquire or a Release into a line.
func verdict(err error) string {
	var running *pidfile.AlreadyRunningError
	switch {
	case err == nil:
		return "ok"
	case errors.As(err, &running):
		return fmt.Sprintf("running %d %v", running.PID, running.Locked)
	}
	return err.Error()
}

var must = testproc.Must // with every other line

// A helper is another process, started by the test.
type helper struct {
	t    *testing.T
	cmd  *exec.Cmd
	in   io.WriteCloser
	out  *bufio.Reader
	said string // its first line
	over bool
}

// start starts the test binary in the given mode.
func start(t *testing.T, mode, path string, change ...func(*exec.Cmd)) *helper {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), helperEnv+"="+mode, helperPath+"="+path, "GORACE=atexit_sleep_ms=0")
	for _, c := range change {
		c(cmd)
	}
	return startCmd(t, cmd)
}

// startCmd starts any program that says a line when it is ready, and ends when
// its standard input does.
func startCmd(t *testing.T, cmd *exec.Cmd) *helper {
	t.Helper()
	h := &helper{t: t, cmd: cmd}
	var err error
	h.in, err = cmd.StdinPipe()
	must(t, err)
	out, err := cmd.StdoutPipe()
	must(t, err)
	cmd.Stderr = os.Stderr
	must(t, cmd.Start())
	t.Cleanup(h.end)
	h.out = bufio.NewReader(out)
	h.said = h.line()
	return h
}

func (h *helper) line() string {
	line, _ := h.out.ReadString('\n') // at its end there is nothing more to say
	return strings.TrimSuffix(line, "\n")
}

// says checks what the helper said first.
func (h *helper) says(want string) *helper {
	h.t.Helper()
	if h.said != want {
		h.t.Fatalf("the other process said %q, want %q", h.said, want)
	}
	return h
}

// tell gives the helper a command and returns its answer.
func (h *helper) tell(command string) string {
	fmt.Fprintln(h.in, command)
	return h.line()
}

func (h *helper) pid() int { return h.cmd.Process.Pid }

// end lets the helper exit by itself.
func (h *helper) end() {
	if !h.over {
		h.over = true
		_ = h.in.Close()
		_ = h.cmd.Wait()
	}
}

// kill kills it as the out-of-memory killer would.
func (h *helper) kill() {
	h.over = true
	_ = h.cmd.Process.Kill()
	_ = h.cmd.Wait()
	_ = h.in.Close()
}

// exited waits until it is a zombie, and leaves it one.
func (h *helper) exited() {
	h.t.Helper()
	for {
		var info unix.Siginfo
		err := unix.Waitid(unix.P_PID, h.pid(), &info, unix.WEXITED|unix.WNOWAIT, nil)
		if err != unix.EINTR {
			must(h.t, err)
			return
		}
	}
}

// as runs a helper as another user. The test binary is in a directory of
// root's, so it is given as a descriptor.
func as(t *testing.T, uid uint32) func(*exec.Cmd) {
	t.Helper()
	testproc.Root(t)
	self, err := os.Open("/proc/self/exe")
	must(t, err)
	t.Cleanup(func() { self.Close() })
	return func(cmd *exec.Cmd) {
		cmd.ExtraFiles = []*os.File{self}
		cmd.Path = "/proc/self/fd/3"
		cmd.Dir = "/"
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uid, Gid: uid}}
	}
}

const nobody = 65534

// argv0 gives a helper another name.
func argv0(name string) func(*exec.Cmd) {
	return func(cmd *exec.Cmd) { cmd.Args[0] = name }
}

func tempPath(t *testing.T) string { return filepath.Join(t.TempDir(), "a.pid") }

func write(t *testing.T, path, text string) {
	t.Helper()
	must(t, os.WriteFile(path, []byte(text), 0o644))
}

func content(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	must(t, err)
	return string(text)
}

func absent(t *testing.T, path string) {
	t.Helper()
	if _, err := os.Lstat(path); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("%s is still there (%v)", path, err)
	}
}

// acquire takes path, or the test is over.
func acquire(t *testing.T, path string) *pidfile.File {
	t.Helper()
	f, err := pidfile.Acquire(path)
	must(t, err)
	return f
}

// taken checks everything that is to be seen of a file that we took, and
// releases it.
func taken(t *testing.T, f *pidfile.File, err error) {
	t.Helper()
	must(t, err)
	if got, want := content(t, f.Path()), fmt.Sprintf("%d\n", os.Getpid()); got != want {
		t.Errorf("the file says %.100q, want %q", got, want)
	}
	if f.PID() != os.Getpid() {
		t.Errorf("PID() = %d", f.PID())
	}
	must(t, f.Release())
}

// refused checks that err names the holder of path.
func refused(t *testing.T, err error, path string, pid int, locked bool) {
	t.Helper()
	if !errors.Is(err, pidfile.ErrAlreadyRunning) {
		t.Fatalf("error %v, want ErrAlreadyRunning", err)
	}
	var e *pidfile.AlreadyRunningError
	if !errors.As(err, &e) {
		t.Fatalf("%T is not an *AlreadyRunningError", err)
	}
	if want := (pidfile.AlreadyRunningError{Op: "acquire", Path: path, PID: pid, Locked: locked}); *e != want {
		t.Errorf("%+v, want %+v", *e, want)
	}
	if !strings.HasPrefix(err.Error(), "acquire "+path+": already running: ") {
		t.Errorf("error text %q", err)
	}
	if pid != 0 && !strings.Contains(err.Error(), fmt.Sprintf("PID %d", pid)) {
		t.Errorf("error text %q does not tell PID %d", err, pid)
	}
}

// queued waits until a process is blocked in the kernel on a lock of path.
func queued(t *testing.T, path string) {
	t.Helper()
	testproc.Eventually(t, "a process waits for "+path, func() bool { return testproc.Queued(path, "") > 0 })
}

// A waiting is an AcquireContext on its way.
type waiting struct {
	t      *testing.T
	cancel context.CancelFunc
	done   chan struct{}
	f      *pidfile.File
	err    error
}

func wait(t *testing.T, path string) *waiting {
	ctx, cancel := context.WithCancel(context.Background())
	w := &waiting{t: t, cancel: cancel, done: make(chan struct{})}
	t.Cleanup(cancel)
	go func() {
		defer close(w.done)
		w.f, w.err = pidfile.AcquireContext(ctx, path)
	}()
	return w
}

func (w *waiting) still() {
	w.t.Helper()
	select {
	case <-w.done:
		w.t.Fatalf("did not wait: %v", w.err)
	default:
	}
}

// got waits for the end of it. Eight seconds are less than the ten after which
// a wait that was not woken looks again.
func (w *waiting) got() {
	w.t.Helper()
	select {
	case <-w.done:
		taken(w.t, w.f, w.err)
	case <-time.After(8 * time.Second):
		w.t.Fatal("not woken")
	}
}
