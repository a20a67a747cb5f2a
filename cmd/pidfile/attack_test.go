//go:build linux

package main

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/go-pidfile/pidfile/internal/testproc"
	"golang.org/x/sys/unix"
)

// TestContenders starts many at once, behind one gate.
func TestContenders(t *testing.T) {
	testproc.NotShort(t)
	for _, stale := range []bool{false, true} {
		t.Run(map[bool]string{false: "absent", true: "stale"}[stale], func(t *testing.T) {
			dir := t.TempDir()
			path, log, gate := filepath.Join(dir, "a.pid"), filepath.Join(dir, "log"), filepath.Join(dir, "gate")
			if stale {
				writeFile(t, path, fmt.Sprintln(testproc.DeadPID(t)))
			}
			if err := unix.Mkfifo(gate, 0o600); err != nil {
				t.Fatal(err)
			}
			n := testproc.Rounds(100, 40, 20)
			all := make([]*wrapper, n)
			for i := range all {
				// Opening a FIFO to read it waits until somebody opens it to write.
				w := prepare(t, path, "sh", "-c", `echo $$ >>"$1"; read x`, "sh", log)
				w.Path, w.Args = "/bin/sh", append([]string{"sh", "-c", `: <"$0"; exec "$@"`, gate}, w.Args...)
				w.begin(t)
				all[i] = w
			}
			for _, w := range all {
				testproc.Eventually(t, "a contender at the gate", func() bool {
					wchan, err := os.ReadFile(fmt.Sprintf("/proc/%d/syscall", w.Process.Pid))
					return err != nil || bytes.HasPrefix(wchan, fmt.Append(nil, unix.SYS_OPENAT, " "))
				})
			}
			open, err := os.OpenFile(gate, os.O_RDWR, 0)
			if err != nil {
				t.Fatal(err)
			}
			defer open.Close()

			var winner *wrapper
			testproc.Eventually(t, "all but one to end", func() bool {
				running := 0
				for _, w := range all {
					select {
					case <-w.ended:
					default:
						winner = w
						running++
					}
				}
				return running <= 1
			})
			text, err := os.ReadFile(log)
			if err != nil {
				t.Fatal(err)
			}
			pid, err := strconv.Atoi(strings.TrimSpace(string(text)))
			if err != nil {
				t.Fatalf("not one COMMAND ran: %q", text)
			}
			if held, _ := os.ReadFile(path); string(held) != string(text) {
				t.Errorf("the file says %q, COMMAND is %q", held, text)
			}
			for _, w := range all {
				if w == winner {
					continue
				}
				code, stderr := w.wait(t), w.stderr.String()
				if code != 75 || !strings.Contains(stderr, fmt.Sprintf("PID %d ", pid)) && !strings.Contains(stderr, fmt.Sprintf("PID %d ", winner.Process.Pid)) {
					t.Errorf("a loser: exit code %d; the winner is %d under %d: %s", code, pid, winner.Process.Pid, stderr)
				}
			}
			winner.stdin.Close()
			if code := winner.wait(t); code != 1 { // read's, at the end of its input
				t.Errorf("the winner: exit code %d, want 1: %s", code, &winner.stderr)
			}
			noFile(t, path)
		})
	}
}

func TestCommandKilled(t *testing.T) {
	parallel(t)
	path := filepath.Join(t.TempDir(), "a.pid")
	w := start(t, path, "sleep", "1000")
	kill(t, w.command(t), unix.SIGKILL)
	if code := w.wait(t); code != 137 {
		t.Errorf("exit code %d, want 137: %s", code, &w.stderr)
	}
	noFile(t, path)
	works(t, path)
}

func TestWrapperKilled(t *testing.T) {
	parallel(t)
	path := filepath.Join(t.TempDir(), "a.pid")
	for range 10 {
		w := start(t, path, "sleep", "1000")
		pid := w.command(t)
		w.signal(t, unix.SIGKILL)
		w.wait(t)
		if !testproc.Alive(pid) {
			t.Fatal("COMMAND ended with its wrapper")
		}
		// Another program, so that it is the lock that refuses it.
		refusedBy(t, path, pid, "true")
		out, code := output(t, "status", path)
		if code != 0 || !strings.Contains(string(out), fmt.Sprintf("running, PID %d (sleep 1000)", pid)) {
			t.Errorf("status exits %d and says %s", code, out)
		}
		kill(t, pid, unix.SIGKILL)
		works(t, path)
		killOrphans()
	}
}

func TestBothKilled(t *testing.T) {
	testproc.NotShort(t)
	parallel(t)
	path := filepath.Join(t.TempDir(), "a.pid")
	for i := range 20 {
		w := start(t, path, "sleep", "1000")
		pid := w.command(t)
		// A wrapper that hears of COMMAND's end first cleans up, and may have ended
		// before we get at it; else it cannot.
		var err error
		if i%2 == 0 {
			err = unix.Kill(pid, unix.SIGKILL)
			if e := w.Process.Kill(); !errors.Is(e, os.ErrProcessDone) {
				err = errors.Join(err, e)
			}
		} else { // COMMAND becomes our orphan: nobody reaps it before us
			err = errors.Join(w.Process.Kill(), unix.Kill(pid, unix.SIGKILL))
		}
		if err != nil {
			t.Fatal(err)
		}
		w.wait(t)
		testproc.Eventually(t, "end of COMMAND", func() bool { return !testproc.Alive(pid) })
		works(t, path)
		killOrphans()
	}
}

// TestKilledAnywhere kills the wrapper with its whole process group at a random
// moment: the next start works, always.
func TestKilledAnywhere(t *testing.T) {
	testproc.NotShort(t)
	killOrphans() // of earlier tests
	path := filepath.Join(t.TempDir(), "a.pid")
	left, n := 0, testproc.Rounds(1000, 40, 20)
	for range n {
		w := prepare(t, path, "sleep", "0.003")
		w.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
		w.begin(t)
		time.Sleep(rand.N(8 * time.Millisecond)) // anywhere
		// Its leader is not reaped while it is a group of ours; ESRCH: it was.
		select {
		case <-w.ended:
		default:
			_ = unix.Kill(-w.Process.Pid, unix.SIGKILL)
		}
		w.wait(t)
		if _, err := os.Lstat(path); err == nil {
			left++
		}
		testproc.Eventually(t, "end of COMMAND", func() bool { return !slices.ContainsFunc(testproc.Children(os.Getpid()), testproc.Alive) })
		works(t, path)
		killOrphans()
	}
	t.Logf("%d of %d left a file", left, n)
	if left == 0 {
		t.Log("no kill hit a running COMMAND: this run has shown nothing")
	}
}

func TestBackgroundChild(t *testing.T) {
	parallel(t)
	for _, flag := range []string{"", "--close", "--mode=0600"} {
		path := filepath.Join(t.TempDir(), "a.pid")
		log := filepath.Join(t.TempDir(), "log")
		args := []string{"sh", "-c", `sleep 1000 & echo $! >"$1"`, "sh", log}
		w := prepare(t, path, args...)
		if flag != "" {
			w.Args = slices.Insert(w.Args, 2, flag)
		}
		w.begin(t)
		if code := w.wait(t); code != 0 {
			t.Fatalf("exit code %d: %s", code, &w.stderr)
		}
		text, _ := os.ReadFile(log)
		pid, _ := strconv.Atoi(strings.TrimSpace(string(text)))
		if !testproc.Alive(pid) {
			t.Fatalf("the child that was left behind has ended: %q", text)
		}
		noFile(t, path)
		works(t, path)
		works(t, path)
		killOrphans()
	}
}

// TestBackgroundChildAndWaiter: a waiter is blocked on the very file that the
// child has inherited, so that its lock must be given up and not only closed.
func TestBackgroundChildAndWaiter(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a.pid")
	killOrphans() // of earlier tests
	first := start(t, path, "sh", "-c", "sleep 1000 & read x; exit 3")
	first.command(t)
	waiter := prepare(t, path, "true")
	waiter.Args = slices.Insert(waiter.Args, 2, "-w")
	waiter.begin(t)
	testproc.Eventually(t, "a waiter", func() bool { return testproc.Blocked(path) == 1 })
	first.stdin.Close()
	if code := first.wait(t); code != 3 {
		t.Errorf("exit code %d, want 3: %s", code, &first.stderr)
	}
	if code := waiter.wait(t); code != 0 {
		t.Errorf("the waiter: exit code %d: %s", code, &waiter.stderr)
	}
	if !slices.ContainsFunc(testproc.Children(os.Getpid()), testproc.Alive) {
		t.Error("there was no child: nothing is shown")
	}
	noFile(t, path)
}

// TestClosedDescriptors has a COMMAND that closes all that it inherited, as
// daemons do.
func TestClosedDescriptors(t *testing.T) {
	parallel(t)
	testproc.Tool(t, "bash")
	path := filepath.Join(t.TempDir(), "a.pid")
	w := start(t, path, "bash", "-c", `for fd in /proc/self/fd/*; do fd=${fd##*/}; test $fd -gt 2 && eval "exec $fd>&-"; done; exec sleep 1000`)
	var pid int
	testproc.Eventually(t, "sleep without descriptors", func() bool {
		pid = w.command(t)
		exe, _ := os.Readlink(fmt.Sprintf("/proc/%d/exe", pid))
		return strings.HasSuffix(exe, "/sleep") || strings.HasSuffix(exe, "/coreutils")
	})
	fds, _ := filepath.Glob(fmt.Sprintf("/proc/%d/fd/*", pid))
	for _, fd := range fds {
		if to, _ := os.Readlink(fd); to == path {
			t.Fatalf("COMMAND has %s open as %s", to, fd)
		}
	}
	refusedBy(t, path, pid, "true") // the wrapper holds it
	w.signal(t, unix.SIGKILL)
	w.wait(t)
	out, code := output(t, "status", "--explain", path)
	if code != 0 || !strings.Contains(string(out), fmt.Sprintf("running, PID %d ", pid)) {
		t.Errorf("status exits %d and says %s", code, out)
	}
	refusedBy(t, path, pid, "sleep", "0")                                             // the ancestor's rule: the same program
	if out, code := output(t, "run", "-q", path, "true"); code != 0 || len(out) > 0 { // and another's
		t.Errorf("another program exits %d and says %s", code, out)
	}
	if !testproc.Alive(pid) {
		t.Error("COMMAND was ended")
	}
}

func TestDeleted(t *testing.T) {
	parallel(t)
	path := filepath.Join(t.TempDir(), "a.pid")
	w := start(t, path, "sleep", "1000")
	pid := w.command(t)
	for i := range 3 {
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
		began := time.Now()
		testproc.Eventually(t, "the file again", func() bool {
			text, err := os.ReadFile(path)
			if err == nil && string(text) != fmt.Sprintln(pid) {
				t.Fatalf("the file says %q, not %d", text, pid)
			}
			return err == nil
		})
		t.Logf("put back after %v", time.Since(began).Round(time.Millisecond))
		testproc.Eventually(t, "a note", func() bool {
			return strings.Count(w.told(), fmt.Sprintf("pidfile: %s was removed", path)) == i+1
		})
		refusedBy(t, path, pid)
		if _, code := output(t, "status", path); code != 0 {
			t.Errorf("status exits %d", code)
		}
	}
	w.stop(t)
}

func TestReplaced(t *testing.T) {
	parallel(t)
	dir := t.TempDir()
	path, other := filepath.Join(dir, "a.pid"), filepath.Join(dir, "other")
	ours := fmt.Sprintln(os.Getpid()) // alive: it may have written it
	const putBack = "^pidfile: %s was replaced or overwritten while PID %d runs: put back\n$"
	for name, c := range map[string]struct {
		replace func()
		told    string // a pattern, with the path and COMMAND's PID
		left    string
	}{
		"renamed over": {func() {
			writeFile(t, other, "none\n")
			if err := os.Rename(other, path); err != nil {
				t.Fatal(err)
			}
		}, putBack, ""},
		"written over by a live program": {func() { writeFile(t, path, ours) },
			"^pidfile: warning: %s was replaced or overwritten while PID %d runs, and is another's now: " +
				"TWO MAY BE RUNNING, the other is PID " + strconv.Itoa(os.Getpid()) + " .*; it is put back when that has ended\n$", ours},
		"written over with what nobody can have meant": {func() { writeFile(t, path, "none\n") }, putBack, ""},
	} {
		t.Run(name, func(t *testing.T) {
			w := start(t, path, "sleep", "1000")
			pid := w.command(t)
			c.replace()
			testproc.Eventually(t, "a message", func() bool { return strings.HasSuffix(w.told(), "\n") })
			if c.left == "" { // it is ours again
				refusedBy(t, path, pid)
			}
			w.signal(t, unix.SIGTERM)
			if code := w.wait(t); code != 143 {
				t.Errorf("exit code %d, want 143", code)
			}
			told := regexp.MustCompile(fmt.Sprintf(c.told, regexp.QuoteMeta(path), pid))
			if !told.MatchString(w.stderr.String()) { // and nothing else
				t.Errorf("stderr, to match %q: %s", told, &w.stderr)
			}
			if text, err := os.ReadFile(path); string(text) != c.left {
				t.Errorf("the file says %q now, not %q: %v", text, c.left, err)
			}
			_ = os.Remove(path)
			works(t, path)
		})
	}
}

func TestTerm(t *testing.T) {
	parallel(t)
	path := filepath.Join(t.TempDir(), "a.pid")
	w := start(t, path, "sleep", "1000")
	pid := w.command(t)
	w.stop(t)
	if testproc.Alive(pid) {
		t.Error("COMMAND survived")
	}

	// COMMAND's answer counts, not ours.
	up := filepath.Join(t.TempDir(), "up")
	w = start(t, path, "sh", "-c", `trap "exit 7" TERM; echo >"$1"; while :; do read x; done`, "sh", up)
	testproc.Eventually(t, "COMMAND", func() bool { _, err := os.Stat(up); return err == nil })
	w.signal(t, unix.SIGTERM)
	if code := w.wait(t); code != 7 {
		t.Errorf("exit code %d, want 7", code)
	}
	noFile(t, path)
}

// TestTermWhileWaiting: a waiter that is told to go goes, and nothing happens.
func TestTermWhileWaiting(t *testing.T) {
	parallel(t)
	path := filepath.Join(t.TempDir(), "a.pid")
	w := start(t, path, "sleep", "1000")
	w.command(t)
	waiter := prepare(t, path, "true")
	waiter.Args = slices.Insert(waiter.Args, 2, "-w")
	waiter.begin(t)
	testproc.Eventually(t, "a waiter", func() bool { return testproc.Blocked(path) == 1 })
	waiter.signal(t, unix.SIGTERM)
	if code := waiter.wait(t); code != 143 {
		t.Errorf("exit code %d, want 143: %s", code, &waiter.stderr)
	}
	w.stop(t)
}

// TestSignals: each signal reaches COMMAND exactly once.
func TestSignals(t *testing.T) {
	parallel(t)
	testproc.Tool(t, "kill")
	dir := t.TempDir()
	path, log := filepath.Join(dir, "a.pid"), filepath.Join(dir, "log")
	env, command := helperCommand(t, "signals")
	w := prepare(t, path, command)
	w.Env = append(env, "LOG="+log)
	w.begin(t)
	pid := w.command(t)
	testproc.Eventually(t, "COMMAND", func() bool { text, _ := os.ReadFile(log); return len(text) > 0 })
	var want []string
	for round := range 5 {
		for _, sig := range passed {
			if round%2 == 0 {
				w.signal(t, sig)
			} else if err := exec.Command("kill", "-"+strconv.Itoa(int(sig)), strconv.Itoa(w.Process.Pid)).Run(); err != nil {
				t.Fatal(err)
			}
			want = append(want, unix.SignalName(sig))
			// The next one is sent when this one is there: one that came twice
			// would be there before the next.
			testproc.Eventually(t, strings.Join(want, " "), func() bool { return len(logged(log)) >= len(want) })
			if got := logged(log); !slices.Equal(got, want) {
				t.Fatalf("COMMAND got %v, want %v", got, want)
			}
		}
	}
	kill(t, pid, unix.SIGKILL)
	if code := w.wait(t); code != 137 {
		t.Errorf("exit code %d, want 137", code)
	}
	if got := logged(log); !slices.Equal(got, want) {
		t.Errorf("COMMAND got %v, want %v", got, want)
	}
	noFile(t, path)
}

// TestShortRuns: many runs, and a reader that never sees half a file.
func TestShortRuns(t *testing.T) {
	testproc.NotShort(t)
	n := testproc.Rounds(10000, 100, 40)
	path := filepath.Join(t.TempDir(), "a.pid")
	var (
		stop        atomic.Bool
		reader      sync.WaitGroup
		looks, hits int
		bad         string
	)
	reader.Go(func() {
		buf := make([]byte, 64)
		for ; !stop.Load() && bad == ""; looks++ {
			fd, err := unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC, 0)
			if err != nil {
				continue
			}
			k, err := unix.Read(fd, buf)
			unix.Close(fd)
			text := string(buf[:max(k, 0)])
			digits, whole := strings.CutSuffix(text, "\n")
			if pid, e := strconv.Atoi(digits); err != nil || !whole || e != nil || pid < 2 {
				bad = fmt.Sprintf("%q, %v", text, err)
			}
			hits++
		}
	})
	// sh itself reads the file in half of the runs, and is exec'd in the other.
	scripts := []string{`read pid <"$PIDFILE_HELD"; echo $$ $pid`, `printf "$$ "; exec cat "$PIDFILE_HELD"`}
	for i := range n {
		out, err := exec.Command(binary, "run", path, "sh", "-c", scripts[i%2]).Output()
		f := strings.Fields(string(out))
		if err != nil || len(f) != 2 || f[0] != f[1] {
			t.Errorf("run %d: COMMAND's PID and the file's: %q, %v", i, out, err)
			break
		}
	}
	stop.Store(true)
	reader.Wait()
	if bad != "" {
		t.Errorf("a reader saw %s", bad)
	}
	noFile(t, path)
	t.Logf("%d runs, %d looks, %d of them saw a file", n, looks, hits)
	if hits == 0 {
		t.Error("no look saw a file: nothing is shown")
	}
}

// TestZombie: who has ended but is not reaped does not run.
func TestZombie(t *testing.T) {
	parallel(t)
	path := filepath.Join(t.TempDir(), "a.pid")
	c := exec.Command("true")
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.Wait() }()
	testproc.Eventually(t, "a zombie", func() bool { return testproc.State(c.Process.Pid) == 'Z' })
	writeFile(t, path, fmt.Sprintln(c.Process.Pid))
	if out, code := output(t, "status", "--explain", path); code != 1 || !bytes.Contains(out, []byte("reaped")) {
		t.Errorf("status exits %d and says %s", code, out)
	}
	if code, stderr := try(t, path, "true"); code != 0 {
		t.Errorf("a start: exit code %d: %s", code, stderr)
	}
	noFile(t, path)

	// COMMAND as a zombie of a stopped wrapper, which cannot clean up: the lock
	// decides until the wrapper goes on.
	w := start(t, path, "sleep", "1000")
	pid := w.command(t)
	w.signal(t, unix.SIGSTOP)
	testproc.Eventually(t, "a stopped wrapper", func() bool { return testproc.State(w.Process.Pid) == 'T' })
	kill(t, pid, unix.SIGKILL)
	if code, stderr := try(t, path, "true"); code != 75 {
		t.Errorf("a start under a stopped wrapper: exit code %d: %s", code, stderr)
	}
	w.signal(t, unix.SIGCONT)
	if code := w.wait(t); code != 137 {
		t.Errorf("exit code %d, want 137", code)
	}
	works(t, path)
}

// TestStdin pipes data through.
func TestStdin(t *testing.T) {
	parallel(t)
	path := filepath.Join(t.TempDir(), "a.pid")
	data := bytes.Repeat([]byte("0123456789abcdef"), 1<<17)
	for _, flags := range [][]string{{}, {"--exec"}, {"--close"}} {
		c := exec.Command(binary, slices.Concat([]string{"run"}, flags, []string{path, "cat"})...)
		c.Stdin = bytes.NewReader(data)
		out, err := c.Output()
		if err != nil || !bytes.Equal(out, data) {
			t.Errorf("%v: %d of %d bytes came through, %v", flags, len(out), len(data), err)
		}
	}
}

// TestIdle: a wrapper that only waits uses no CPU.
func TestIdle(t *testing.T) {
	parallel(t)
	path := filepath.Join(t.TempDir(), "a.pid")
	w := start(t, path, "sleep", "2")
	w.command(t)
	used := func() (cpu time.Duration, switches int) {
		tasks, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*", w.Process.Pid))
		for _, task := range tasks {
			var ns, n int
			stat, _ := os.ReadFile(task + "/schedstat")
			_, _ = fmt.Sscan(string(stat), &ns)
			status, _ := os.ReadFile(task + "/status")
			_, after, _ := strings.Cut(string(status), "\nvoluntary_ctxt_switches:")
			_, _ = fmt.Sscan(after, &n)
			cpu += time.Duration(ns)
			switches += n
		}
		return cpu, switches
	}
	time.Sleep(time.Second) // measured is the second after it
	cpu, switches := used()
	time.Sleep(900 * time.Millisecond)
	cpu2, switches2 := used()
	if code := w.wait(t); code != 0 {
		t.Fatalf("exit code %d: %s", code, &w.stderr)
	}
	total := w.ProcessState.UserTime() + w.ProcessState.SystemTime()
	t.Logf("%v of CPU in all, with COMMAND's; %v and %d switches in the second second", total, cpu2-cpu, switches2-switches)
	if switches == 0 || cpu == 0 {
		t.Fatal("nothing was measured")
	}
	if switches2-switches > 20 {
		t.Errorf("%d voluntary context switches in a second", switches2-switches)
	}
	if cpu2-cpu > 2*time.Millisecond {
		t.Errorf("%v of CPU in a second", cpu2-cpu)
	}
	if total > 20*time.Millisecond {
		t.Errorf("%v of CPU in all", total)
	}
}

// TestHandOver: 20 waiters, each of whom runs once and alone.
func TestHandOver(t *testing.T) {
	parallel(t)
	dir := t.TempDir()
	path, log := filepath.Join(dir, "a.pid"), filepath.Join(dir, "log")
	first := start(t, path, "sh", "-c", "read x")
	first.command(t)
	const n = 20
	var all []*wrapper
	for i := range n {
		w := prepare(t, path, "sh", "-c", `echo in >>"$1"; read pid <"$PIDFILE_HELD"; echo $((pid-$$)) >>"$1"; echo out >>"$1"; exit $2`, "sh", log, strconv.Itoa(i))
		w.Args = slices.Insert(w.Args, 2, "-w")
		w.begin(t)
		all = append(all, w)
	}
	testproc.Eventually(t, "20 waiters", func() bool { return testproc.Blocked(path) == n })
	first.stdin.Close()
	first.wait(t)
	for i, w := range all {
		if code := w.wait(t); code != i {
			t.Errorf("waiter %d: exit code %d: %s", i, code, &w.stderr)
		}
	}
	text, _ := os.ReadFile(log)
	if got, want := string(text), strings.Repeat("in\n0\nout\n", n); got != want {
		t.Errorf("they did not take turns: %q", got)
	}
	noFile(t, path)
}
