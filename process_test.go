//go:build linux

package pidfile_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/go-pidfile/pidfile"
	"github.com/go-pidfile/pidfile/internal/testproc"
	"golang.org/x/sys/unix"
)

func init() {
	helpers["wait end"] = func(path string) {
		fmt.Println("waits")
		status, err := pidfile.WaitEnd(context.Background(), path)
		fmt.Println(status, err)
	}
	helpers["no descriptors"] = noDescriptorsHelper
}

// find pins the holder of path, until the test is over.
func find(t *testing.T, path string) *pidfile.Process {
	t.Helper()
	p, err := pidfile.Find(path)
	must(t, err)
	t.Cleanup(func() { _ = p.Close() })
	return p
}

// found writes the PID of a process that locks nothing, and finds it.
func found(t *testing.T, pid int) *pidfile.Process {
	t.Helper()
	path := tempPath(t)
	write(t, path, fmt.Sprintln(pid))
	return find(t, path)
}

// deaf is a process that TERM does not end.
func deaf(t *testing.T) *helper {
	t.Helper()
	h := startCmd(t, exec.Command("sh", "-c", `trap "" TERM; echo ready; exec cat`)).says("ready")
	t.Cleanup(func() { _ = h.cmd.Process.Kill() })
	return h
}

// A grandchild is not our child: its parent reaps it at once.
type grandchild struct {
	*helper
	pid int
}

// grandchildren end as script says, after a line on their input.
func newGrandchild(t *testing.T, script string) grandchild {
	t.Helper()
	// In the background, so that it is not an exec; and the input is the shell's.
	h := startCmd(t, exec.Command("sh", "-c", `exec 3<&0; sh -c 'echo $$; read x <&3; `+script+`' & wait`))
	return grandchild{h, number(t, h.said)}
}

// tellsStatus reports whether this kernel tells the exit status of processes
// that are not our children: PIDFD_INFO_EXIT, Linux 6.15.
func tellsStatus(t *testing.T) bool {
	t.Helper()
	var u unix.Utsname
	must(t, unix.Uname(&u))
	var major, minor int
	_, err := fmt.Sscanf(unix.ByteSliceToString(u.Release[:]), "%d.%d", &major, &minor)
	must(t, err)
	return major > 6 || major == 6 && minor >= 15
}

func TestWaitTellsExitStatus(t *testing.T) {
	for _, c := range []struct {
		name, script, text string
		want               pidfile.ExitStatus
	}{
		{"success", "exit 0", "exit status 0", pidfile.ExitStatus{}},
		{"failure", "exit 7", "exit status 7", pidfile.ExitStatus{Code: 7}},
		{"255", "exit 255", "exit status 255", pidfile.ExitStatus{Code: 255}},
		{"TERM", "kill -TERM $$", "signal: terminated", pidfile.ExitStatus{Code: -1, Signal: unix.SIGTERM}},
		{"KILL", "kill -KILL $$", "signal: killed", pidfile.ExitStatus{Code: -1, Signal: unix.SIGKILL}},
	} {
		t.Run(c.name, func(t *testing.T) {
			// Its parent may need longer than Wait gives it, on a busy machine.
			var status *pidfile.ExitStatus
			for range 20 {
				g := newGrandchild(t, c.script)
				p := found(t, g.pid)
				fmt.Fprintln(g.in)
				var err error
				status, err = p.Wait(t.Context())
				must(t, err)
				if status != nil {
					break
				}
			}
			switch {
			case status == nil && !tellsStatus(t): // it was reaped each time before we could look
			case status == nil:
				t.Error("no status in 20 attempts")
			case *status != c.want || status.String() != c.text:
				t.Errorf("%+v, %v; want %+v, %s", *status, status, c.want, c.text)
			}
		})
	}
}

// A zombie's status is in /proc, for those who may look.
func TestWaitForZombie(t *testing.T) {
	c := cat(t)
	p := found(t, c.pid())
	must(t, c.in.Close())
	c.exited()
	for range 2 {
		status, err := p.Wait(t.Context())
		if err != nil || status == nil || *status != (pidfile.ExitStatus{}) {
			t.Errorf("a zombie: %v, %v", status, err)
		}
	}
	if err := p.Signal(unix.SIGTERM); !errors.Is(err, pidfile.ErrNotRunning) {
		t.Errorf("signal to a zombie: %v", err)
	}
	c.end()
	status, err := p.Wait(t.Context())
	if err != nil || tellsStatus(t) && (status == nil || *status != pidfile.ExitStatus{}) {
		t.Errorf("reaped: %v, %v", status, err)
	}
}

func TestWaitSeveral(t *testing.T) {
	g := newGrandchild(t, "exit 3")
	p := found(t, g.pid)
	const n = 20
	type result struct {
		status *pidfile.ExitStatus
		err    error
	}
	results := make(chan result, n)
	for range n {
		go func() {
			status, err := p.Wait(t.Context())
			results <- result{status, err}
		}()
	}
	short, cancel := context.WithTimeout(t.Context(), time.Millisecond)
	defer cancel()
	if _, err := p.Wait(short); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("error %v", err)
	}
	if len(results) != 0 {
		t.Errorf("%d did not wait", len(results))
	}
	fmt.Fprintln(g.in)
	for range n {
		r := <-results
		must(t, r.err)
		if r.status != nil && r.status.Code != 3 {
			t.Errorf("%v", r.status)
		}
	}
}

// The quickest of many counts: others may need this machine, too.
func TestWaitContext(t *testing.T) {
	c := cat(t)
	p := found(t, c.pid())
	best := time.Hour
	for range 20 {
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { _, err := p.Wait(ctx); done <- err }()
		time.Sleep(time.Millisecond) // so that most do wait
		begin := time.Now()
		cancel()
		if err := <-done; !errors.Is(err, context.Canceled) || !strings.Contains(err.Error(), "a.pid") {
			t.Fatalf("error %v", err)
		}
		best = min(best, time.Since(begin))
	}
	t.Logf("noticed after %v", best)
	if best > 10*time.Millisecond {
		t.Errorf("the quickest cancellation took %v", best)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := p.Wait(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("done before: %v", err)
	}
	if !testproc.Alive(c.pid()) {
		t.Error("it has ended")
	}
}

// endedBy checks how a child of ours ended.
func endedBy(t *testing.T, h *helper, want syscall.Signal) {
	t.Helper()
	h.end()
	if status := h.cmd.ProcessState.Sys().(syscall.WaitStatus); status.Signal() != want {
		t.Errorf("%v, want %v", h.cmd.ProcessState, want)
	}
}

// stops stops p, and checks whether KILL was sent.
func stops(t *testing.T, p *pidfile.Process, grace time.Duration, kill bool) {
	t.Helper()
	if killed, err := p.Stop(t.Context(), grace); killed != kill || err != nil {
		t.Errorf("Stop: %v, %v; want %v", killed, err, kill)
	}
}

func TestStop(t *testing.T) {
	t.Parallel()
	const never = time.Hour
	t.Run("TERM is enough", func(t *testing.T) {
		c := cat(t)
		stops(t, found(t, c.pid()), never, false)
		endedBy(t, c, unix.SIGTERM)
	})
	t.Run("TERM is ignored", func(t *testing.T) {
		c := deaf(t)
		const grace = 50 * time.Millisecond
		begin := time.Now()
		stops(t, found(t, c.pid()), grace, true)
		if took := time.Since(begin); took < grace {
			t.Errorf("KILL after %v", took)
		}
		endedBy(t, c, unix.SIGKILL)
	})
	t.Run("stopped", func(t *testing.T) {
		c := cat(t)
		stopped(t, c)
		stops(t, found(t, c.pid()), never, false)
		endedBy(t, c, unix.SIGTERM)
	})
	t.Run("stopped, and TERM is ignored", func(t *testing.T) {
		c := deaf(t)
		stopped(t, c)
		stops(t, found(t, c.pid()), time.Millisecond, true)
		endedBy(t, c, unix.SIGKILL)
	})
	t.Run("no grace", func(t *testing.T) {
		c := cat(t)
		stops(t, found(t, c.pid()), 0, true)
		endedBy(t, c, unix.SIGKILL)
	})
	t.Run("no grace, stopped", func(t *testing.T) {
		c := cat(t)
		stopped(t, c)
		stops(t, found(t, c.pid()), 0, true)
		endedBy(t, c, unix.SIGKILL)
	})
	t.Run("already ended", func(t *testing.T) {
		c := cat(t)
		p := found(t, c.pid())
		must(t, c.in.Close())
		c.exited()
		stops(t, p, never, false) // a zombie
		c.end()
		stops(t, p, never, false)
		stops(t, p, 0, false)
	})
	t.Run("ends meanwhile", func(t *testing.T) {
		for range 10 {
			c := cat(t)
			p := found(t, c.pid())
			go c.in.Close()
			stops(t, p, never, false)
			c.end()
		}
	})
	t.Run("context", func(t *testing.T) {
		c := deaf(t)
		p := found(t, c.pid())
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
		defer cancel()
		if _, err := p.Stop(ctx, never); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("error %v", err)
		}
		if !testproc.Alive(c.pid()) {
			t.Error("it was killed")
		}
		stops(t, p, 0, true)
	})
	t.Run("context done before", func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		for _, grace := range []time.Duration{0, never} {
			c := cat(t)
			p := found(t, c.pid())
			if _, err := p.Stop(ctx, grace); !errors.Is(err, context.Canceled) || !strings.Contains(err.Error(), "a.pid") {
				t.Errorf("error %v", err)
			}
			c.end() // by itself, unless it was signalled
			if status := c.cmd.ProcessState.Sys().(syscall.WaitStatus); status.Signaled() {
				t.Errorf("%v, want no signal at all", c.cmd.ProcessState)
			}
		}
	})
	t.Run("several at once", func(t *testing.T) {
		c := deaf(t)
		p := found(t, c.pid())
		var all sync.WaitGroup
		for range 10 {
			all.Go(func() {
				if _, err := p.Stop(t.Context(), 20*time.Millisecond); err != nil {
					t.Error(err)
				}
			})
		}
		all.Wait()
		endedBy(t, c, unix.SIGKILL)
	})
}

func TestProcess(t *testing.T) {
	c := cat(t)
	p := found(t, c.pid())
	if p.PID() != c.pid() {
		t.Errorf("PID() = %d", p.PID())
	}
	must(t, p.Signal(syscall.Signal(0)))
	must(t, p.Signal(os.Signal(unix.SIGCONT)))
	if err := p.Signal(syscall.Signal(1000)); !errors.Is(err, unix.EINVAL) {
		t.Errorf("signal 1000: %v", err)
	}
	if err := p.Signal(noSignal{}); !errors.Is(err, errors.ErrUnsupported) {
		t.Errorf("no signal: %v", err)
	}
	c.end()
	for _, sig := range []syscall.Signal{0, unix.SIGTERM, unix.SIGKILL} {
		if err := p.Signal(sig); !errors.Is(err, pidfile.ErrNotRunning) || !errors.Is(err, os.ErrProcessDone) || !strings.Contains(err.Error(), "a.pid") {
			t.Errorf("signal %v after its end: %v", sig, err)
		}
	}
	must(t, p.Close())
	if err := p.Close(); !errors.Is(err, os.ErrClosed) {
		t.Errorf("second Close: %v", err)
	}
	if err := p.Signal(unix.SIGTERM); err == nil || errors.Is(err, pidfile.ErrNotRunning) {
		t.Errorf("signal after Close: %v", err)
	}
	if _, err := p.Wait(t.Context()); err == nil {
		t.Error("Wait after Close")
	}
}

type noSignal struct{}

func (noSignal) Signal()        {}
func (noSignal) String() string { return "no signal" }

func TestWaitEnd(t *testing.T) {
	t.Parallel()
	t.Run("no holder", func(t *testing.T) {
		path := tempPath(t)
		for _, text := range []string{"absent", "4194304\n", "rubbish"} {
			if text != "absent" {
				write(t, path, text)
				aged(t, path)
			}
			if status, err := pidfile.WaitEnd(t.Context(), path); status != nil || !errors.Is(err, pidfile.ErrNotRunning) {
				t.Errorf("%q: %v, %v", text, status, err)
			}
		}
	})
	t.Run("cannot be told", func(t *testing.T) {
		if _, err := pidfile.WaitEnd(t.Context(), t.TempDir()); !errors.Is(err, pidfile.ErrUnproven) {
			t.Errorf("error %v", err)
		}
	})
	t.Run("a container's stale file", func(t *testing.T) {
		path := tempPath(t)
		write(t, path, "1\n")
		if _, err := pidfile.WaitEnd(t.Context(), path); !errors.Is(err, pidfile.ErrUnproven) {
			t.Errorf("error %v", err)
		}
	})
	for _, c := range []struct {
		name  string
		start func(t *testing.T, path string) *helper
		waits func(t *testing.T, path string)
	}{
		{"a holder", withMode("acquire"), nil},
		{"an unlocked holder", withMode("python"), nil},
		{"flock(1)", flocker, queued},
		{"fcntl", func(t *testing.T, path string) *helper {
			return fcntlNames(t, path, 4194304)
		}, queued},
		{"in another PID namespace", func(t *testing.T, path string) *helper {
			return namespace(t, "idle", path, env(nsHolds, "1")).says("idle")
		}, queued},
	} {
		t.Run(c.name, func(t *testing.T) {
			path := tempPath(t)
			h := c.start(t, path)
			done := make(chan error, 1)
			go func() { _, err := pidfile.WaitEnd(t.Context(), path); done <- err }()
			if c.waits != nil {
				c.waits(t, path)
			}
			short, cancel := context.WithTimeout(t.Context(), 5*time.Millisecond)
			defer cancel()
			if _, err := pidfile.WaitEnd(short, path); !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("error %v", err)
			}
			select {
			case err := <-done:
				t.Fatalf("did not wait: %v", err)
			default:
			}
			h.end()
			select {
			case err := <-done:
				if !errors.Is(err, pidfile.ErrNotRunning) { // it had ended already
					must(t, err)
				}
			case <-time.After(20 * time.Second):
				t.Fatal("still waits")
			}
		})
	}
	t.Run("no holder, within a namespace", func(t *testing.T) {
		path := shared(t)
		for _, text := range []string{"4194304\n", "rubbish"} {
			write(t, path, text)
			aged(t, path)
			ns := namespace(t, "wait end", path).says("waits")
			if said := ns.line(); !strings.Contains(said, "not running") {
				t.Errorf("%q: it said %s", text, said)
			}
		}
	})
	t.Run("flock(1), invisible from within a namespace", func(t *testing.T) {
		path := shared(t)
		h := flocker(t, path)
		ns := namespace(t, "wait end", path).says("waits")
		queued(t, path)
		h.end()
		if said := ns.line(); said != "exit status unknown <nil>" {
			t.Errorf("it said %s", said)
		}
	})
	t.Run("seen from within a namespace", func(t *testing.T) {
		path := tempPath(t)
		h := start(t, "acquire", path).says("ok")
		ns := namespace(t, "wait end", path).says("waits")
		queued(t, path)
		h.end()
		if said := ns.line(); said != "exit status unknown <nil>" && !strings.Contains(said, "not running") {
			t.Errorf("it said %s", said)
		}
	})
}

func TestWaitRunning(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name   string
		start  func(t *testing.T, path string) *helper
		create bool // the file is there already, unlocked
		locked bool
	}{
		{"a holder", withMode("acquire"), false, true},
		{"a holder in a stale file's place", withMode("acquire"), true, true},
		{"an unlocked holder", withMode("python"), false, false},
		{"flock(1)", flocker, false, true},
		{"flock(1) on an existing file", flocker, true, true},
		{"in another PID namespace", func(t *testing.T, path string) *helper {
			return namespace(t, "idle", path, env(nsHolds, "1")).says("idle")
		}, false, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			path := tempPath(t)
			if c.create {
				write(t, path, "4194304\n")
			}
			short, cancel := context.WithTimeout(t.Context(), 5*time.Millisecond)
			defer cancel()
			s, err := pidfile.WaitRunning(short, path)
			if !errors.Is(err, context.DeadlineExceeded) || s.State == pidfile.Running {
				t.Errorf("%+v, error %v", s, err)
			}
			done := make(chan error)
			go func() { s, err = pidfile.WaitRunning(t.Context(), path); done <- err }()
			watched(t, path)
			h := c.start(t, path)
			must(t, <-done)
			if s.State != pidfile.Running || s.Locked != c.locked {
				t.Errorf("%+v", s)
			}
			h.end()
		})
	}
	t.Run("runs already", func(t *testing.T) {
		path := tempPath(t)
		f := acquire(t, path)
		s, err := pidfile.WaitRunning(t.Context(), path)
		if err != nil || s.State != pidfile.Running || s.PID != os.Getpid() {
			t.Errorf("%+v, %v", s, err)
		}
		taken(t, f, nil)
	})
	t.Run("no file", func(t *testing.T) {
		if _, err := pidfile.WaitRunning(t.Context(), t.TempDir()); !errors.Is(err, unix.EISDIR) {
			t.Errorf("error %v", err)
		}
	})
}

func TestProcessLeaks(t *testing.T) {
	path, c := tempPath(t), cat(t)
	write(t, path, fmt.Sprintln(c.pid()))
	missing := path + "2"
	leakless(t, func() {
		for range 200 {
			p, err := pidfile.Find(path)
			must(t, err)
			must(t, p.Close())
			if _, err := pidfile.Find(missing); !errors.Is(err, pidfile.ErrNotRunning) {
				t.Fatal(err)
			}
		}
	})
	must(t, os.Chmod(path, 0o666))
	leakless(t, func() {
		for range 50 {
			if _, err := pidfile.Find(path); !errors.Is(err, pidfile.ErrUnproven) {
				t.Fatal(err)
			}
		}
	})
	leakless(t, func() {
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		for range 50 {
			if _, err := pidfile.WaitEnd(ctx, path); !errors.Is(err, context.Canceled) {
				t.Fatal(err)
			}
			if _, err := pidfile.WaitRunning(ctx, missing); !errors.Is(err, context.Canceled) {
				t.Fatal(err)
			}
		}
	})
}

// noDescriptorsHelper stops the holder when no descriptor is left.
func noDescriptorsHelper(path string) {
	p, err := pidfile.Find(path)
	if err != nil {
		fmt.Println(err)
		return
	}
	must := func(err error) {
		if err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
	}
	for { // whatever there is
		if _, err := unix.Dup(0); err == unix.EMFILE {
			break
		} else {
			must(err)
		}
	}
	_, err = p.Stop(context.Background(), time.Hour)
	fmt.Println("stop:", err)
}

// A Wait that fails is not a reason to kill before grace is over.
func TestStopWithoutDescriptors(t *testing.T) {
	path := tempPath(t)
	c := startCmd(t, exec.Command("sh", "-c", `trap "" TERM; echo ready; exec cat`)).says("ready")
	write(t, path, fmt.Sprintln(c.pid()))
	h := start(t, "no descriptors", path)
	t.Log(h.said)
	c.end()
	if status := c.cmd.ProcessState.Sys().(syscall.WaitStatus); status.Signaled() {
		t.Error("killed at once in spite of an hour's grace")
	}
}

func TestStopAfterClose(t *testing.T) {
	c := cat(t)
	p := found(t, c.pid())
	must(t, p.Close())
	if _, err := p.Stop(t.Context(), 0); !errors.Is(err, os.ErrClosed) {
		t.Errorf("error %v, want os.ErrClosed", err)
	}
	if err := p.Signal(unix.SIGTERM); !errors.Is(err, os.ErrClosed) {
		t.Errorf("error %v, want os.ErrClosed", err)
	}
	if !testproc.Alive(c.pid()) {
		t.Error("it was signalled")
	}
}

// What cannot be looked at is not proven, and the error is also what the system
// said.
func TestFindTellsCause(t *testing.T) {
	link := tempPath(t)
	must(t, os.Symlink("nowhere", link))
	for path, want := range map[string]error{
		link:                       unix.ELOOP,
		t.TempDir():                unix.EISDIR,
		link + ".pid/no directory": nil, // an absent file
	} {
		_, err := pidfile.Find(path)
		if want == nil {
			want = pidfile.ErrNotRunning
		} else if !errors.Is(err, pidfile.ErrUnproven) {
			t.Errorf("%s: %v is not ErrUnproven", path, err)
		}
		if !errors.Is(err, want) {
			t.Errorf("%s: %v, want %v", path, err, want)
		}
	}
}
