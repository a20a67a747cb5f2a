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
	case "exit":
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
	needRoot(t)
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

func needRoot(t *testing.T) {
	t.Helper()
	testproc.Root(t)
}

// argv0 gives a helper another name.
func argv0(name string) func(*exec.Cmd) {
	return func(cmd *exec.Cmd) { cmd.Args[0] = name }
}

// publicDir is a directory whose parents everybody may enter; t.TempDir's not.
func publicDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "pidfile-public-")
	must(t, err)
	t.Cleanup(func() { os.RemoveAll(dir) })
	must(t, os.Chmod(dir, 0o755))
	return dir
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

// refused checks that err says who has path.
func refused(t *testing.T, err error, path string, pid int, locked bool) {
	t.Helper()
	if !errors.Is(err, pidfile.ErrAlreadyRunning) {
		t.Fatalf("error %v, want ErrAlreadyRunning", err)
	}
	var e *pidfile.AlreadyRunningError
	if !errors.As(err, &e) {
		t.Fatalf("%T is no *AlreadyRunningError", err)
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

// until waits for a condition that somebody else brings about.
func until(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("still not after 20 s: %s", what)
		}
	}
}

// queued waits until somebody is blocked in the kernel on a lock of path.
func queued(t *testing.T, path string) {
	t.Helper()
	var st unix.Stat_t
	must(t, unix.Stat(path, &st))
	inode := fmt.Sprintf(":%d ", st.Ino)
	until(t, "somebody waits for "+path, func() bool {
		locks, err := os.ReadFile("/proc/locks")
		must(t, err)
		for line := range strings.Lines(string(locks)) {
			if strings.Contains(line, "-> ") && strings.Contains(line, inode) {
				return true
			}
		}
		return false
	})
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
// a wait that nobody woke looks again.
func (w *waiting) got() {
	w.t.Helper()
	select {
	case <-w.done:
		taken(w.t, w.f, w.err)
	case <-time.After(8 * time.Second):
		w.t.Fatal("not woken")
	}
}

func TestAcquire(t *testing.T) {
	path := tempPath(t)
	f := acquire(t, path)
	if f.Path() != path {
		t.Errorf("Path() = %s", f.Path())
	}
	if pid, err := pidfile.Read(path); pid != os.Getpid() || err != nil {
		t.Errorf("Read: %d, %v", pid, err)
	}
	taken(t, f, nil)
	absent(t, path)
}

func TestAcquireTwiceInOneProcess(t *testing.T) {
	path := tempPath(t)
	f := acquire(t, path)
	_, err := pidfile.Acquire(path)
	refused(t, err, path, os.Getpid(), true)
	taken(t, f, nil)
	f, err = pidfile.Acquire(path)
	taken(t, f, err)
}

func TestAcquireHeldByAnotherProcess(t *testing.T) {
	path := tempPath(t)
	h := start(t, "acquire", path).says("ok")
	_, err := pidfile.Acquire(path)
	refused(t, err, path, h.pid(), true)
	if said := h.tell("release"); said != "ok" {
		t.Errorf("its release: %s", said)
	}
	f, err := pidfile.Acquire(path)
	taken(t, f, err)
}

func TestAcquireAfterSIGKILL(t *testing.T) {
	path := tempPath(t)
	for range 5 {
		h := start(t, "acquire", path).says("ok")
		h.kill()
		if pid, err := pidfile.Read(path); pid != h.pid() || err != nil {
			t.Fatalf("what it left: %d, %v", pid, err)
		}
		f, err := pidfile.Acquire(path)
		taken(t, f, err)
	}
}

func TestAcquireHardLinked(t *testing.T) {
	path := tempPath(t)
	f := acquire(t, path)
	second := path + "2"
	must(t, os.Link(path, second))
	_, err := pidfile.Acquire(second)
	refused(t, err, second, os.Getpid(), true)
	taken(t, f, nil)
}

func TestMode(t *testing.T) {
	defer syscall.Umask(syscall.Umask(0o077))
	for _, c := range []struct{ mode, want fs.FileMode }{
		{0, 0o644}, {0o600, 0o600}, {0o640, 0o640}, {0o444, 0o444}, {0o666, 0o666}, {0o755, 0o755},
	} {
		path := tempPath(t)
		f, err := pidfile.Config{Mode: c.mode}.Acquire(path)
		must(t, err)
		fi, err := os.Lstat(path)
		must(t, err)
		if fi.Mode() != c.want {
			t.Errorf("mode %#o made %v", c.mode, fi.Mode())
		}
		must(t, f.SetPID(1)) // another file: it has that mode too
		fi, err = os.Lstat(path)
		must(t, err)
		if fi.Mode() != c.want {
			t.Errorf("mode %#o made %v after SetPID", c.mode, fi.Mode())
		}
		must(t, f.Release())
	}
}

func TestConfigRefused(t *testing.T) {
	path := tempPath(t)
	for _, c := range []pidfile.Config{
		{Mode: fs.ModeSetuid | 0o644}, {Mode: fs.ModeDir},
	} {
		if _, err := c.Acquire(path); err == nil || !strings.Contains(err.Error(), path) {
			t.Errorf("%+v: %v", c, err)
		}
	}
	absent(t, path)
}

func TestRelativePath(t *testing.T) {
	dir := t.TempDir()
	t.Chdir(dir)
	f := acquire(t, "a.pid")
	t.Chdir("/")
	if want := filepath.Join(dir, "a.pid"); f.Path() != want {
		t.Errorf("Path() = %s, want %s", f.Path(), want)
	}
	must(t, f.SetPID(1))
	must(t, f.SetPID(os.Getpid()))
	taken(t, f, nil)
	absent(t, filepath.Join(dir, "a.pid"))
}

func TestDefaultPath(t *testing.T) {
	t.Chdir(t.TempDir())
	f := acquire(t, pidfile.DefaultPath)
	if filepath.Base(f.Path()) != "pidfile" {
		t.Errorf("Path() = %s", f.Path())
	}
	taken(t, f, nil)
}

func TestSetPID(t *testing.T) {
	path := tempPath(t)
	f := acquire(t, path)
	for _, pid := range []int{1, 4194304, 42, os.Getpid()} {
		must(t, f.SetPID(pid))
		if got, err := pidfile.Read(path); got != pid || err != nil || f.PID() != pid {
			t.Errorf("SetPID(%d): PID() = %d, Read = %d, %v", pid, f.PID(), got, err)
		}
		_, err := pidfile.Acquire(path)
		refused(t, err, path, pid, true)
	}
	for _, pid := range []int{0, -1, 4194305} {
		if err := f.SetPID(pid); err == nil || !strings.Contains(err.Error(), path) {
			t.Errorf("SetPID(%d): %v", pid, err)
		}
	}
	taken(t, f, nil)
	if err := f.SetPID(1); !errors.Is(err, fs.ErrClosed) {
		t.Errorf("SetPID after Release: %v", err)
	}
	absent(t, path)
	entries, err := os.ReadDir(filepath.Dir(path))
	if len(entries) != 0 || err != nil {
		t.Errorf("left in the directory: %v, %v", entries, err)
	}
}

// A reader at any moment sees one of the PIDs, whole.
func TestSetPIDIsAtomic(t *testing.T) {
	path := tempPath(t)
	f := acquire(t, path)
	must(t, f.SetPID(1))
	stop, reads := make(chan struct{}), make(chan int)
	go func() {
		n := 0
		defer func() { reads <- n }()
		for ; ; n++ {
			select {
			case <-stop:
				return
			default:
			}
			if pid, err := pidfile.Read(path); err != nil || pid != 1 && pid != 4194304 {
				t.Errorf("read %d, %v", pid, err)
				return
			}
		}
	}()
	for range testproc.Rounds(5000, 200, 50) {
		must(t, f.SetPID(4194304))
		must(t, f.SetPID(1))
	}
	close(stop)
	if n := <-reads; n < 10 {
		t.Logf("only %d reads", n)
	}
	must(t, f.Release())
}

func TestReleaseTwice(t *testing.T) {
	f := acquire(t, tempPath(t))
	must(t, f.Release())
	if err := f.Release(); !errors.Is(err, fs.ErrClosed) || !strings.Contains(err.Error(), f.Path()) {
		t.Errorf("second release: %v", err)
	}
}

func TestReleaseLeavesAnothersFile(t *testing.T) {
	for name, change := range map[string]func(path string) error{
		"removed and made again": func(path string) error {
			if err := os.Remove(path); err != nil {
				return err
			}
			return os.WriteFile(path, []byte("1"), 0o600)
		},
		"replaced by rename": func(path string) error {
			if err := os.WriteFile(path+".new", []byte("1"), 0o600); err != nil {
				return err
			}
			return os.Rename(path+".new", path)
		},
		"overwritten in place": func(path string) error { return os.WriteFile(path, []byte("1"), 0o600) },
	} {
		t.Run(name, func(t *testing.T) {
			path := tempPath(t)
			f := acquire(t, path)
			must(t, change(path))
			must(t, f.Release())
			if got := content(t, path); got != "1" {
				t.Errorf("the other's file has %q", got)
			}
		})
	}
}

// A File that its owner forgot keeps its lock.
func TestForgottenFileKeepsItsLock(t *testing.T) {
	path := tempPath(t)
	func() { acquire(t, path) }()
	for range 5 {
		runtime.GC()
		garbage := make([]byte, 1<<20)
		runtime.KeepAlive(garbage)
	}
	start(t, "acquire", path).says(fmt.Sprintf("running %d true", os.Getpid()))
}

func TestChildDoesNotInherit(t *testing.T) {
	path := tempPath(t)
	h := start(t, "parent", path)
	child, err := strconv.Atoi(h.said)
	if err != nil {
		t.Fatal(h.said)
	}
	_ = h.cmd.Process.Kill()
	_, _ = h.cmd.Process.Wait()
	if err := unix.Kill(child, 0); err != nil {
		t.Fatalf("the child is to outlive its parent: %v", err)
	}
	f, err := pidfile.Acquire(path)
	taken(t, f, err)
	h.end()
}

func TestDo(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	problem := errors.New("problem")
	held := func(t *testing.T, path string) {
		t.Helper()
		_, err := pidfile.Acquire(path)
		refused(t, err, path, os.Getpid(), true)
	}
	t.Run("returns", func(t *testing.T) {
		path := tempPath(t)
		must(t, pidfile.Do(ctx, path, func(c context.Context) error {
			held(t, path)
			return c.Err()
		}))
		absent(t, path)
	})
	t.Run("the file is removed", func(t *testing.T) {
		path := tempPath(t)
		must(t, pidfile.Do(ctx, path, func(c context.Context) error {
			must(t, os.Remove(path))
			until(t, "it is put back", func() bool { _, err := os.Lstat(path); return err == nil })
			held(t, path)
			return c.Err()
		}))
		absent(t, path)
	})
	t.Run("the file is lost", func(t *testing.T) {
		path := tempPath(t)
		err := pidfile.Do(ctx, path, func(c context.Context) error {
			must(t, os.Remove(path))
			write(t, path, "4194304\n")
			<-c.Done()
			return context.Cause(c)
		})
		isLost(t, "Do", err)
	})
	t.Run("the context ends", func(t *testing.T) {
		path := tempPath(t)
		ctx, cancel := context.WithCancelCause(ctx)
		err := pidfile.Do(ctx, path, func(c context.Context) error {
			cancel(problem)
			<-c.Done()
			return context.Cause(c)
		})
		if err != problem {
			t.Errorf("error %v", err)
		}
	})
	t.Run("waits", func(t *testing.T) {
		path := tempPath(t)
		f := acquire(t, path)
		config := pidfile.Config{Wait: true}
		short, cancel := context.WithTimeout(ctx, 5*time.Millisecond)
		defer cancel()
		err := config.Do(short, path, func(context.Context) error { t.Error("ran"); return nil })
		if !errors.Is(err, context.DeadlineExceeded) || !errors.Is(err, pidfile.ErrAlreadyRunning) {
			t.Errorf("error %v", err)
		}
		_, err = config.Acquire(path) // does not wait
		refused(t, err, path, os.Getpid(), true)
		time.AfterFunc(10*time.Millisecond, func() { must(t, f.Release()) })
		must(t, config.Do(ctx, path, func(context.Context) error { held(t, path); return nil }))
	})
	t.Run("fails", func(t *testing.T) {
		path := tempPath(t)
		err := pidfile.Do(ctx, path, func(context.Context) error { held(t, path); return problem })
		if err != problem {
			t.Errorf("error %v", err)
		}
		absent(t, path)
	})
	t.Run("panics", func(t *testing.T) {
		path := tempPath(t)
		func() {
			defer func() {
				if p := recover(); p != problem {
					t.Errorf("recovered %v", p)
				}
			}()
			_ = pidfile.Do(ctx, path, func(context.Context) error { held(t, path); panic(problem) })
		}()
		absent(t, path)
	})
	t.Run("Goexit", func(t *testing.T) {
		path := tempPath(t)
		done := make(chan struct{})
		go func() {
			defer close(done)
			_ = pidfile.Do(ctx, path, func(context.Context) error { runtime.Goexit(); return nil })
		}()
		<-done
		absent(t, path)
	})
	t.Run("context done", func(t *testing.T) {
		path := tempPath(t)
		done, cancel := context.WithCancel(ctx)
		cancel()
		err := pidfile.Do(done, path, func(context.Context) error { t.Error("ran"); return nil })
		if !errors.Is(err, context.Canceled) {
			t.Errorf("error %v", err)
		}
		absent(t, path)
	})
	t.Run("held", func(t *testing.T) {
		path := tempPath(t)
		f := acquire(t, path)
		err := pidfile.Do(ctx, path, func(context.Context) error { t.Error("ran"); return nil })
		refused(t, err, path, os.Getpid(), true)
		taken(t, f, nil)
	})
}

func TestAcquireContext(t *testing.T) {
	path := tempPath(t)
	f, err := pidfile.AcquireContext(context.Background(), path)
	taken(t, f, err)
}

func TestAcquireContextWaitsForThisProcess(t *testing.T) {
	path := tempPath(t)
	f := acquire(t, path)
	w := wait(t, path)
	queued(t, path)
	w.still()
	must(t, f.Release())
	w.got()
	absent(t, path)
}

func TestAcquireContextWaitsForAnotherProcess(t *testing.T) {
	for name, end := range map[string]func(*helper){
		"release": func(h *helper) { h.tell("release") },
		"exit":    (*helper).end, // without a release
		"SIGKILL": (*helper).kill,
	} {
		t.Run(name, func(t *testing.T) {
			path := tempPath(t)
			h := start(t, "acquire", path).says("ok")
			w := wait(t, path)
			queued(t, path)
			w.still()
			end(h)
			w.got()
		})
	}
}

// Several wait, here and elsewhere: all get it, one after the other.
func TestAcquireContextMany(t *testing.T) {
	path := tempPath(t)
	f := acquire(t, path)
	other := start(t, "wait", path).says("waits")
	done := make(chan error)
	const n = 20
	for range n {
		go func() {
			f, err := pidfile.AcquireContext(context.Background(), path)
			if err == nil {
				err = f.Release()
			}
			done <- err
		}()
	}
	queued(t, path)
	must(t, f.Release())
	if said := other.line(); said != "ok" {
		t.Errorf("the other process: %s", said)
	}
	if said := other.tell("release"); said != "ok" {
		t.Errorf("its release: %s", said)
	}
	for range n {
		must(t, <-done)
	}
	absent(t, path)
}

func TestAcquireContextDeadline(t *testing.T) {
	path := tempPath(t)
	h := start(t, "acquire", path).says("ok")
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Millisecond)
	defer cancel()
	_, err := pidfile.AcquireContext(ctx, path)
	refused(t, err, path, h.pid(), true)
	if !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("error %v", err)
	}
}

func TestAcquireContextAlreadyDone(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	path := tempPath(t)
	_, err := pidfile.AcquireContext(ctx, path)
	if !errors.Is(err, context.Canceled) || errors.Is(err, pidfile.ErrAlreadyRunning) || !strings.Contains(err.Error(), path) {
		t.Errorf("the path is free: %v", err)
	}
	absent(t, path)
	write(t, path, "1\n")
	_, err = pidfile.AcquireContext(ctx, path)
	if !errors.Is(err, context.Canceled) || errors.Is(err, pidfile.ErrAlreadyRunning) {
		t.Errorf("the path has a stale file: %v", err)
	}
	must(t, os.Remove(path))
	h := start(t, "acquire", path).says("ok")
	_, err = pidfile.AcquireContext(ctx, path)
	refused(t, err, path, h.pid(), true)
	if !errors.Is(err, context.Canceled) {
		t.Errorf("held: %v", err)
	}
}

// The quickest of many counts: others may need this machine, too.
func TestCancellationIsNoticedAtOnce(t *testing.T) {
	path := tempPath(t)
	f := acquire(t, path)
	best := time.Hour
	for range 20 {
		w := wait(t, path)
		queued(t, path)
		begin := time.Now()
		w.cancel()
		<-w.done
		best = min(best, time.Since(begin))
		if !errors.Is(w.err, context.Canceled) || !errors.Is(w.err, pidfile.ErrAlreadyRunning) {
			t.Errorf("error %v", w.err)
		}
	}
	if best > 10*time.Millisecond {
		t.Errorf("the quickest cancellation took %v", best)
	}
	taken(t, f, nil)
}
