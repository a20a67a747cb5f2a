//go:build linux

package lock

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
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

// patience is how long a condition that must come true may take on a loaded
// machine under the race detector.
const patience = 20 * time.Second

func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for start := time.Now(); !ok(); {
		if time.Since(start) > patience {
			t.Fatalf("not within %v: %s", patience, what)
		}
		time.Sleep(200 * time.Microsecond)
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
			if time.Since(start) > patience {
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
// /proc/locks marks them with an arrow. pid 0 is any process.
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

// A result is what a call of Wait returned.
type result struct {
	h   *Hold
	err error
	ns  int64 // when
}

// waitAsync waits for path in a goroutine.
func waitAsync(ctx context.Context, path string) <-chan result {
	c := make(chan result, 1)
	go func() {
		h := new(Hold)
		h.Prepare(path)
		err := h.Wait(ctx, &Options{PID: os.Getpid(), Mode: 0o644})
		c <- result{h, err, monotonic()}
	}()
	return c
}

// receive returns the Hold of a wait that must succeed.
func receive(t testing.TB, c <-chan result) *Hold {
	t.Helper()
	select {
	case r := <-c:
		if r.err != nil {
			t.Fatalf("wait: %v", r.err)
		}
		return r.h
	case <-time.After(patience):
		t.Fatalf("the waiter did not get the file within %v", patience)
	}
	return nil
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
	case <-time.After(patience):
		c.t.Fatalf("the child said nothing for %v", patience)
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
		timer := time.AfterFunc(patience, func() { _ = c.cmd.Process.Kill() })
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

// wait plays a process that waits once for each line, says when it got the
// file, and releases it at once.
func (r *role) wait() {
	for s := bufio.NewScanner(os.Stdin); s.Scan(); {
		var h Hold
		h.Prepare(r.Path)
		if err := h.Wait(context.Background(), &Options{PID: os.Getpid(), Mode: 0o644}); err != nil {
			r.die(err)
		}
		got := monotonic()
		if err := h.Release(); err != nil {
			r.die(err)
		}
		fmt.Println(got)
	}
}

// expense is what waiting cost a process.
type expense struct {
	Wakes    int64 // grants of a lock, in vain or not
	Switches int64 // voluntary ones, of all threads
	CPU      time.Duration
	Turns    int
}

func usage() (switches int64, cpu time.Duration) {
	var u unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &u); err != nil {
		panic(err)
	}
	return int64(u.Nvcsw), time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// crowd plays one of many: for each line it waits, says that it holds the file,
// and releases it a little later. In the end it says what that cost. A granted
// lock is followed by one fstat, as is every file's birth.
func (r *role) crowd() {
	var grants, births atomic.Int64
	fault = func(call string) syscall.Errno {
		switch call {
		case "fstat":
			grants.Add(1)
		case "tmpfile":
			births.Add(1)
		}
		return 0
	}
	var e expense
	switches, cpu := usage()
	for s := bufio.NewScanner(os.Stdin); s.Scan(); e.Turns++ {
		var h Hold
		h.Prepare(r.Path)
		if err := h.Wait(context.Background(), &Options{PID: os.Getpid(), Mode: 0o644}); err != nil {
			r.die(err)
		}
		fmt.Println("held")
		time.Sleep(time.Millisecond) // the one before us queues up again
		if err := h.Release(); err != nil {
			r.die(err)
		}
	}
	s, c := usage()
	e.Switches, e.CPU, e.Wakes = s-switches, c-cpu, grants.Load()-births.Load()
	if err := json.NewEncoder(os.Stdout).Encode(&e); err != nil {
		r.die(err)
	}
}

func percentile(d []time.Duration, p int) time.Duration {
	slices.Sort(d)
	return d[min(len(d)-1, len(d)*p/100)]
}

func TestHandOverLatency(t *testing.T) {
	for kind, place := range places(t) {
		t.Run(kind, func(t *testing.T) {
			checkLeaks(t)
			path := filepath.Join(tempIn(t, place), "a.pid")
			c := startChild(t, &role{Do: "wait", Path: path})
			var took []time.Duration
			for range 200 {
				took = append(took, handOver(t, c, path))
			}
			t.Logf("release to return of the waiter: p50 %v, p99 %v, max %v", percentile(took, 50), percentile(took, 99), percentile(took, 100))
			if p50 := percentile(took, 50); p50 > 5*time.Millisecond {
				t.Errorf("p50 is %v", p50)
			}
		})
	}
}

// handOver has c wait for path and gives it to it.
func handOver(t testing.TB, c *child, path string) time.Duration {
	t.Helper()
	var h *Hold
	eventually(t, "the last waiter is gone", func() bool {
		if _, err := os.Lstat(path); err == nil {
			return false
		}
		h = mustHold(t, path)
		return true
	})
	c.say("wait")
	eventually(t, "the waiter sleeps", func() bool { return sleepers(t, c.pid(), h.ID()) == 1 })
	start := monotonic()
	mustRelease(t, h)
	got, err := strconv.ParseInt(c.hear(), 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	return time.Duration(got - start)
}

// No herd: with a hundred waiting processes a release wakes about one.
func TestCrowd(t *testing.T) {
	const processes, turns = 100, 300
	checkLeaks(t)
	path := filepath.Join(tempIn(t, "/dev/shm"), "a.pid")
	h := mustHold(t, path)
	crowd := make([]*child, processes)
	for i := range crowd {
		crowd[i] = startChild(t, &role{Do: "crowd", Path: path})
		crowd[i].say("wait")
	}
	eventually(t, "all sleep", func() bool { return sleepers(t, 0, h.ID()) == processes })
	all := merge(crowd, turns+processes)
	mustRelease(t, h)
	keepWaiting(t, all, processes, turns)
	sum := collect(t, all, crowd)
	per := func(n int64) float64 { return float64(n) / float64(sum.Turns) }
	t.Logf("%d hand-overs among %d processes; each: %.2f locks granted, %.2f voluntary context switches of all threads, %.3f ms of CPU",
		sum.Turns, processes, per(sum.Wakes), per(sum.Switches), per(sum.CPU.Microseconds())/1000)
	if sum.Turns != turns {
		t.Errorf("%d turns, want %d", sum.Turns, turns)
	}
	// About 2 on an idle machine, more where the processes wait for a CPU; a
	// herd would be some 100.
	if w := per(sum.Wakes); w > processes/4 {
		t.Errorf("%.2f wake-ups a hand-over: a herd", w)
	}
}

// A saying is a line of a child.
type saying struct {
	c    *child
	line string
}

// merge returns what the children say from now on.
func merge(crowd []*child, most int) <-chan saying {
	all := make(chan saying, most)
	for _, c := range crowd {
		go func() {
			for line := range c.lines {
				all <- saying{c, line}
			}
		}()
	}
	return all
}

func hearAny(t testing.TB, all <-chan saying) saying {
	t.Helper()
	select {
	case s := <-all:
		return s
	case <-time.After(patience):
		t.Fatalf("nobody said anything for %v", patience)
	}
	return saying{}
}

// keepWaiting sends who had its turn to wait again once the next has the file,
// so that nearly all wait all the time, until there were so many turns.
func keepWaiting(t testing.TB, all <-chan saying, processes, turns int) {
	t.Helper()
	var last *child
	for turn := range turns {
		s := hearAny(t, all)
		if last != nil && turn <= turns-processes {
			last.say("wait")
		}
		last = s.c
	}
}

// collect ends the crowd and adds up what it spent.
func collect(t testing.TB, all <-chan saying, crowd []*child) (sum expense) {
	t.Helper()
	for _, c := range crowd {
		c.in.Close()
	}
	for range crowd {
		var e expense
		if err := json.Unmarshal([]byte(hearAny(t, all).line), &e); err != nil {
			t.Fatal(err)
		}
		sum.Wakes += e.Wakes
		sum.Switches += e.Switches
		sum.CPU += e.CPU
		sum.Turns += e.Turns
	}
	return sum
}

func TestWaitersShareOneThread(t *testing.T) {
	const waiters = 50
	checkLeaks(t)
	path := filepath.Join(t.TempDir(), "a.pid")
	h := mustHold(t, path)
	got := make(chan result, waiters)
	for range waiters {
		go func() { got <- <-waitAsync(context.Background(), path) }()
	}
	eventually(t, "all are queued", func() bool { return countWaiters(path) == waiters })
	eventually(t, "one sleeps", func() bool { return sleepers(t, os.Getpid(), h.ID()) == 1 })
	for range waiters {
		id := h.ID()
		n := sleepers(t, os.Getpid(), id)
		for range 5 { // other tests' locks come and go: a long table may have a line twice
			n = min(n, max(1, sleepers(t, os.Getpid(), id)))
		}
		if n > 1 {
			t.Fatalf("%d threads sleep", n)
		}
		select {
		case <-got:
			t.Fatal("a waiter got a file that is held")
		default:
		}
		mustRelease(t, h)
		h = receive(t, got)
	}
	mustRelease(t, h)
}

func countWaiters(path string) int {
	queues.Lock()
	defer queues.Unlock()
	if q := queues.m[path]; q != nil {
		return len(q.waiters)
	}
	return 0
}

// A context that ends is obeyed at once, and what the thread left blocked gets
// later is given back.
func TestWaitContextEnds(t *testing.T) {
	checkLeaks(t)
	path := filepath.Join(t.TempDir(), "a.pid")
	h := mustHold(t, path)
	var took []time.Duration
	for range 100 {
		ctx, cancel := context.WithCancel(context.Background())
		got := waitAsync(ctx, path)
		eventually(t, "it waits", func() bool { return countWaiters(path) == 1 && sleepers(t, os.Getpid(), h.ID()) == 1 })
		start := monotonic()
		cancel()
		r := <-got
		if r.err != context.Canceled {
			t.Fatalf("error %v, want %v", r.err, context.Canceled)
		}
		took = append(took, time.Duration(r.ns-start))
	}
	t.Logf("end of the context to return: p50 %v, max %v", percentile(took, 50), percentile(took, 100))
	if p50 := percentile(took, 50); p50 > 10*time.Millisecond {
		t.Errorf("p50 is %v", p50)
	}
	if n := sleepers(t, os.Getpid(), h.ID()); n != 1 {
		t.Errorf("%d threads sleep after 100 waits, want 1", n)
	}
	mustRelease(t, h)
	eventually(t, "the blocked thread is gone", func() bool { return countQueues() == 0 })
	mustRelease(t, mustHold(t, path)) // nothing is left locked
}

func TestWaitDeadline(t *testing.T) {
	checkLeaks(t)
	path := filepath.Join(t.TempDir(), "a.pid")
	h := mustHold(t, path)
	ctx, cancel := context.WithTimeout(context.Background(), time.Millisecond)
	defer cancel()
	if r := <-waitAsync(ctx, path); !errors.Is(r.err, context.DeadlineExceeded) {
		t.Errorf("error %v", r.err)
	}
	mustRelease(t, h)
}

// Another waiter of the process takes the place of one that leaves, be it there
// before or only after.
func TestWaitPlaceTaken(t *testing.T) {
	for _, order := range []string{"before", "after"} {
		t.Run(order, func(t *testing.T) {
			checkLeaks(t)
			path := filepath.Join(t.TempDir(), "a.pid")
			h := mustHold(t, path)
			ctx, cancel := context.WithCancel(context.Background())
			first := waitAsync(ctx, path)
			eventually(t, "the first waits", func() bool { return countWaiters(path) == 1 && sleepers(t, os.Getpid(), h.ID()) == 1 })
			var second <-chan result
			if order == "before" {
				second = waitAsync(context.Background(), path)
				eventually(t, "both wait", func() bool { return countWaiters(path) == 2 })
			}
			cancel()
			if r := <-first; r.err != context.Canceled {
				t.Fatalf("error %v", r.err)
			}
			if order == "after" {
				second = waitAsync(context.Background(), path)
			}
			eventually(t, "the second waits", func() bool { return countWaiters(path) == 1 })
			if n := sleepers(t, os.Getpid(), h.ID()); n != 1 {
				t.Errorf("%d threads sleep, want 1", n)
			}
			mustRelease(t, h)
			mustRelease(t, receive(t, second))
		})
	}
}

// Thousands of waits that end early, and SIGKILLs, against releases: nobody who
// goes on waiting is forgotten. Two workers wait without end all the while, and
// in the end every goroutine of the others does once.
func TestStormOfCancellations(t *testing.T) {
	s := &storm{role: role{Wait: true, Hasty: 4}, processes: 8, killAny: true, atLeast: stormTime(), wantEvents: 2000}
	o := s.run(t, "/dev/shm")
	s.check(o)
	if o.canceled < 1000 {
		t.Errorf("only %d cancellations", o.canceled)
	}
}

// The same inside one process, where the queue is ours and not the kernel's.
func TestCancellationsInside(t *testing.T) {
	checkLeaks(t)
	path := filepath.Join(tempIn(t, "/dev/shm"), "a.pid")
	var holders, canceled, turns counter
	var wg sync.WaitGroup
	for range 16 {
		wg.Go(func() {
			for range 150 {
				ctx, cancel := context.WithTimeout(context.Background(), time.Duration(rand.IntN(1500))*time.Microsecond)
				oneTurn(t, ctx, path, &holders, &canceled, &turns)
				cancel()
			}
			oneTurn(t, context.Background(), path, &holders, &canceled, &turns)
		})
	}
	done := make(chan struct{})
	go func() { wg.Wait(); close(done) }()
	select {
	case <-done:
	case <-time.After(patience):
		t.Fatalf("somebody still waits: %d of %d", countWaiters(path), 16)
	}
	t.Logf("%d turns, %d cancellations", turns.n, canceled.n)
	mustRelease(t, mustHold(t, path))
}

type counter struct {
	mu sync.Mutex
	n  int
}

func (c *counter) add(n int) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.n += n
	return c.n
}

func oneTurn(t *testing.T, ctx context.Context, path string, holders, canceled, turns *counter) {
	r := <-waitAsync(ctx, path)
	if r.err != nil {
		canceled.add(1)
		if r.err != ctx.Err() {
			t.Errorf("wait: %v", r.err)
		}
		return
	}
	if n := holders.add(1); n != 1 {
		t.Errorf("%d hold the file", n)
	}
	turns.add(1)
	time.Sleep(time.Duration(rand.IntN(200)) * time.Microsecond)
	holders.add(-1)
	if err := r.h.Release(); err != nil {
		t.Errorf("release: %v", err)
	}
}

// Waiters that are killed while they sleep do not break the queue behind them.
func TestKilledWaiters(t *testing.T) {
	checkLeaks(t)
	path := filepath.Join(tempIn(t, "/dev/shm"), "a.pid")
	h := mustHold(t, path)
	var all []*child
	for range 12 {
		c := startChild(t, &role{Do: "wait", Path: path})
		c.say("wait")
		all = append(all, c)
	}
	eventually(t, "all sleep", func() bool { return sleepers(t, 0, h.ID()) == len(all) })
	for i := 0; i < len(all); i += 2 {
		all[i].kill()
	}
	mustRelease(t, h)
	for i := 1; i < len(all); i += 2 {
		all[i].hear()
	}
}

// A file that is deleted under its holder: who sleeps on it gets the path when
// the holder has done, even if another took the path meanwhile.
func TestWaitOnDeletedFile(t *testing.T) {
	for _, taken := range []bool{false, true} {
		t.Run(map[bool]string{false: "free", true: "taken"}[taken], func(t *testing.T) {
			checkLeaks(t)
			path := filepath.Join(t.TempDir(), "a.pid")
			h := mustHold(t, path)
			got := waitAsync(context.Background(), path)
			eventually(t, "it sleeps", func() bool { return sleepers(t, os.Getpid(), h.ID()) == 1 })
			if err := os.Remove(path); err != nil {
				t.Fatal(err)
			}
			var other *Hold
			if taken {
				other = mustHold(t, path)
			}
			mustRelease(t, h)
			if taken {
				eventually(t, "it sleeps on the newer file", func() bool { return sleepers(t, os.Getpid(), other.ID()) == 1 })
				mustRelease(t, other)
			}
			mustRelease(t, receive(t, got))
		})
	}
}

// A waiting process uses no CPU: less than 5 ms in a second, all threads.
func TestWaitingIsIdle(t *testing.T) {
	path := filepath.Join(tempIn(t, "/dev/shm"), "a.pid")
	h := mustHold(t, path)
	c := startChild(t, &role{Do: "wait", Path: path})
	c.say("wait")
	eventually(t, "it sleeps", func() bool { return sleepers(t, c.pid(), h.ID()) == 1 })
	least := time.Hour
	for range 3 { // the runtime comes to rest only after a while
		before := cpuOf(t, c.pid())
		time.Sleep(time.Second) // the measurement, not a wait for something
		if least = min(least, cpuOf(t, c.pid())-before); least < 5*time.Millisecond {
			break
		}
	}
	t.Logf("%v of CPU in a second", least)
	if least >= 5*time.Millisecond {
		t.Errorf("a waiting process used %v of CPU in a second", least)
	}
	mustRelease(t, h)
	c.hear()
}

// cpuOf sums the time on a processor of the process's threads.
func cpuOf(t testing.TB, pid int) (sum time.Duration) {
	t.Helper()
	files, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/schedstat", pid))
	if err != nil || len(files) == 0 {
		testproc.Skip(t, "schedstat")
	}
	for _, name := range files {
		text, err := os.ReadFile(name)
		if err != nil {
			continue // a thread that ended
		}
		first, _, _ := strings.Cut(string(text), " ")
		ns, err := strconv.ParseInt(first, 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		sum += time.Duration(ns)
	}
	return sum
}

// TestWaitFreeLeavesOne: however many have waited until a file is free, and gone,
// one thread and one descriptor are left for it, and end with the holder.
func TestWaitFreeLeavesOne(t *testing.T) {
	checkLeaks(t)
	path := filepath.Join(t.TempDir(), "a.pid")
	var h Hold
	h.Prepare(path)
	if r, err := h.Acquire(&Options{PID: 7, Mode: 0o644}); err != nil || r.Held {
		t.Fatal(r, err)
	}
	fds := openFDs(t)
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	for range 500 {
		if err := WaitFree(gone, path); err != context.Canceled {
			t.Fatal(err)
		}
	}
	if now := openFDs(t); now > fds+1 {
		t.Errorf("%d descriptors before, %d after", fds, now)
	}
	done := make(chan error)
	for range 10 {
		go func() { done <- WaitFree(t.Context(), path) }()
	}
	select {
	case err := <-done:
		t.Fatalf("free while it is held: %v", err)
	case <-time.After(10 * time.Millisecond): // as long as anybody could look
	}
	if err := h.Release(); err != nil {
		t.Fatal(err)
	}
	for range 10 {
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
}

// TestWaitSupplanted is testSupplanted for who waits: he waits for the one that
// came between.
func TestWaitSupplanted(t *testing.T) {
	checkLeaks(t)
	path := filepath.Join(t.TempDir(), "a.pid")
	if err := os.WriteFile(path, []byte("4194304\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	var h Hold
	h.Prepare(path)
	var other *Hold
	asked := func(int, time.Time) bool {
		if other == nil {
			if err := os.Remove(path); err != nil {
				t.Error(err)
			}
			other = mustHold(t, path)
		}
		return false
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if err := h.Wait(ctx, &Options{PID: 7, Mode: 0o644, Running: asked}); err != context.DeadlineExceeded {
		t.Errorf("wait: %v", err)
	}
	if other == nil {
		t.Fatal("nobody came between")
	}
	if err := other.Check(); err != nil {
		t.Errorf("the other: %v", err)
	}
	mustRelease(t, other)
}
