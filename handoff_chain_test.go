//go:build linux

package pidfile_test

import (
	"bufio"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-pidfile/pidfile"
	"github.com/go-pidfile/pidfile/internal/testproc"
	"golang.org/x/sys/unix"
)

// The chain: each process hands the file to the next, while others want it.

const (
	generationsEnv = "PIDFILE_TEST_GENERATIONS" // how many are still to come
	chainLogEnv    = "PIDFILE_TEST_LOG"
	chainNaiveEnv  = "PIDFILE_TEST_CHAIN_NAIVE" // the negative control: release, then acquire
)

// A logbook is a file to which many processes append what they do, and when.
type logbook struct{ *os.File }

func openLog(path string) logbook {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o666)
	if err != nil {
		panic(err)
	}
	return logbook{f}
}

func (l logbook) note(id, event string) {
	if _, err := fmt.Fprintf(l, "%d %s %s\n", testproc.Monotonic(), id, event); err != nil {
		panic(err)
	}
}

// An entry is one line of it.
type entry struct {
	ns        int64
	id, event string
}

func readLog(t *testing.T, path string) (all []entry) {
	t.Helper()
	for line := range strings.Lines(content(t, path)) {
		var e entry
		if _, err := fmt.Sscan(line, &e.ns, &e.id, &e.event); err != nil {
			t.Fatalf("%q: %v", line, err)
		}
		all = append(all, e)
	}
	return all
}

// generationHelper is one process of the chain.
func generationHelper(path string) {
	fail := func(what string, err error) {
		fmt.Println(what, err)
		os.Exit(1)
	}
	log, me := openLog(os.Getenv(chainLogEnv)), strconv.Itoa(os.Getpid())
	log.note(me, "adopting")
	f, err := pidfile.Adopt(path)
	if errors.Is(err, pidfile.ErrNotInherited) {
		f, err = pidfile.AcquireContext(context.Background(), path)
	}
	if err != nil {
		fail("adopt:", err)
	}
	log.note(me, "adopted")
	fmt.Println("ok")
	left, _ := strconv.Atoi(os.Getenv(generationsEnv))
	naive := os.Getenv(chainNaiveEnv) != ""
	if left > 0 {
		if naive {
			if err := f.Release(); err != nil {
				fail("release:", err)
			}
		}
		if err := nextGeneration(f, left-1, naive); err != nil {
			fail("next:", err)
		}
	} else {
		_, _ = io.Copy(io.Discard, os.Stdin) // the last waits until the test closes it
	}
	log.note(me, "releasing")
	if err := f.Release(); err != nil && !naive {
		fail("release:", err)
	}
}

func nextGeneration(f *pidfile.File, left int, naive bool) error {
	cmd := exec.Command("/proc/self/exe")
	cmd.Args = os.Args
	cmd.Env = append(os.Environ(), fmt.Sprintf("%s=%d", generationsEnv, left))
	cmd.Stdin, cmd.Stderr = os.Stdin, os.Stderr
	if !naive {
		if err := f.HandOff(cmd); err != nil {
			return err
		}
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	if left%10 == 0 && !naive {
		<-f.Lost()
	}
	if line, _ := bufio.NewReader(out).ReadString('\n'); line != "ok\n" {
		return fmt.Errorf("it said %q", line)
	}
	return nil
}

// contenderHelper tries to take the file until its standard input ends, and
// tells how often it tried and how often it got it.
func contenderHelper(path string) {
	var over atomic.Bool
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		over.Store(true)
	}()
	fmt.Println("contends")
	tries, got := 0, 0
	for ; !over.Load(); tries++ {
		f, err := pidfile.Acquire(path)
		if err == nil {
			got++
			err = f.Release()
		}
		if err != nil && !errors.Is(err, pidfile.ErrAlreadyRunning) {
			fmt.Println(err)
			return
		}
	}
	fmt.Println(tries, got)
}

// A chainResult is what was seen of a chain.
type chainResult struct {
	Tries, Stolen int   // of the contenders
	Reads, PIDs   int   // of the reader, and different ones
	Inspections   int   // all of them saw it running
	Early         int   // waiters that got it before the last had released it
	Overlap       int   // reads of a PID that was not the holder's at that time
	Wrong         []any // texts and verdicts that must never be seen
}

// runChain lets n processes hand the file on, while others look and try. The first
// is started with change.
func runChain(t *testing.T, path string, n int, naive bool, change ...func(*exec.Cmd)) (res chainResult) {
	t.Helper()
	logPath := filepath.Join(testproc.PublicDir(t), "log")
	write(t, logPath, "")
	must(t, os.Chmod(logPath, 0o666)) // for any user that the processes run as
	change = append(change, env(generationsEnv, strconv.Itoa(n-1)), env(chainLogEnv, logPath))
	if naive {
		change = append(change, env(chainNaiveEnv, "1"))
	}
	first := start(t, "generation", path, change...).says("ok")
	contenders := []*helper{start(t, "contender", path), start(t, "contender", path)}
	var waiters []*helper
	if !naive { // a waiter would get it, and keep it from the chain
		for range 2 {
			waiters = append(waiters, start(t, "wait", path).says("waits"))
		}
	}

	over := make(chan struct{})
	var watchers sync.WaitGroup
	saw := map[int]*seen{}
	if !naive {
		watchers.Go(func() { readChain(path, over, saw, &res) })
		watchers.Go(func() { inspectChain(t, path, over, &res) })
	}
	last := lastOf(t, logPath, n)
	close(over)
	watchers.Wait()
	for _, c := range contenders {
		_ = c.in.Close()
		var tries, got int
		if _, err := fmt.Sscan(c.line(), &tries, &got); err != nil {
			t.Fatal(err)
		}
		res.Tries += tries
		res.Stolen += got
	}
	if !naive {
		names(t, path, last)
		queued(t, path) // still
	}
	_ = first.in.Close() // which is that of the whole chain
	got := make([]int64, len(waiters))
	var wg sync.WaitGroup
	for i, w := range waiters {
		wg.Go(func() {
			if line := w.line(); line != "ok" {
				t.Errorf("the waiter said %q", line)
			}
			got[i] = testproc.Monotonic()
			if said := w.tell("release"); said != "ok" {
				t.Errorf("the waiter's release: %q", said)
			}
		})
	}
	wg.Wait()
	judgeChain(t, readLog(t, logPath), saw, got, &res)
	t.Logf("%+v", res)
	return res
}

// lastOf waits until n processes have had the file, and all but the last have
// come to their release, and returns the PID of the last one.
func lastOf(t *testing.T, logPath string, n int) int {
	t.Helper()
	for end := time.Now().Add(5 * time.Minute); ; time.Sleep(5 * time.Millisecond) {
		log := readLog(t, logPath)
		releasing := slices.DeleteFunc(slices.Clone(log), func(e entry) bool { return e.event != "releasing" })
		adopted := slices.DeleteFunc(log, func(e entry) bool { return e.event != "adopted" })
		if len(adopted) == n && len(releasing) == n-1 {
			return pidOf(t, adopted[n-1].id)
		}
		if time.Now().After(end) {
			t.Fatalf("still only %d of %d have had the file", len(adopted), n)
		}
	}
}

func pidOf(t *testing.T, pid string) int {
	t.Helper()
	n, err := strconv.Atoi(pid)
	must(t, err)
	return n
}

// A seen is when a PID was read: a read that began then, and one that ended.
type seen struct{ lastBegin, firstEnd int64 }

func readChain(path string, over chan struct{}, saw map[int]*seen, res *chainResult) {
	for ; ; res.Reads++ {
		select {
		case <-over:
			return
		default:
		}
		begin := testproc.Monotonic()
		text, err := os.ReadFile(path)
		end := testproc.Monotonic()
		pid, _ := strconv.Atoi(strings.TrimSuffix(string(text), "\n"))
		if err != nil || string(text) != strconv.Itoa(pid)+"\n" {
			res.Wrong = append(res.Wrong, fmt.Sprintf("read %q, %v", text, err))
			return
		}
		if saw[pid] == nil {
			saw[pid] = &seen{firstEnd: end}
			res.PIDs++
		}
		saw[pid].lastBegin = begin
	}
}

func inspectChain(t *testing.T, path string, over chan struct{}, res *chainResult) {
	for {
		select {
		case <-over:
			return
		default:
		}
		s, err := pidfile.Inspect(path)
		if err != nil || s.State != pidfile.Running || !s.Locked {
			t.Errorf("Inspect: %+v, %v", s, err)
			return
		}
		res.Inspections++
	}
}

// judgeChain compares what was read, and when the waiters got it, with what the
// processes of the chain did.
func judgeChain(t *testing.T, log []entry, saw map[int]*seen, waiters []int64, res *chainResult) {
	t.Helper()
	slices.SortStableFunc(log, func(a, b entry) int { return cmp.Compare(a.ns, b.ns) })
	at := map[string]int64{}
	var order []string
	for _, e := range log {
		at[e.id+e.event] = e.ns
		if e.event == "adopted" {
			order = append(order, e.id)
		}
	}
	for i, id := range order {
		s := saw[pidOf(t, id)]
		if s == nil {
			continue // no read happened to see it
		}
		delete(saw, pidOf(t, id))
		if s.firstEnd < at[id+"adopting"] || i+1 < len(order) && s.lastBegin > at[order[i+1]+"adopted"] {
			res.Overlap++
		}
	}
	for pid := range saw {
		res.Wrong = append(res.Wrong, fmt.Sprintf("read PID %d, which is not in the chain", pid))
	}
	for _, ns := range waiters {
		if ns < at[order[len(order)-1]+"releasing"] {
			res.Early++
		}
	}
}

// check checks what was seen of a chain of n processes.
func (res *chainResult) check(t *testing.T, n int) {
	t.Helper()
	if res.Stolen != 0 || res.Early != 0 || res.Overlap != 0 || len(res.Wrong) != 0 {
		t.Errorf("%+v", *res)
	}
	if res.Tries < n {
		t.Errorf("only %d tries to take it: this tests little", res.Tries)
	}
}

func TestChain(t *testing.T) {
	path := tempPath(t)
	n := testproc.Rounds(60, 40, 20)
	res := runChain(t, path, n, false)
	res.check(t, n)
	if res.Reads < n || res.PIDs < n/6 || res.Inspections < 1 {
		t.Errorf("only %d reads of %d PIDs and %d inspections: this tests little", res.Reads, res.PIDs, res.Inspections)
	}
	absent(t, path)
	alone(t, path)
}

// The same with the usual way, release and start anew, must be noticed.
func TestChainNegativeControl(t *testing.T) {
	testproc.NotShort(t)
	if res := runChain(t, tempPath(t), 20, true); res.Stolen == 0 {
		t.Error("no contender got in between: this test would find nothing")
	}
}

// A file that root made for another user, in a directory that this one may not
// change: it is written in place, and the lock goes from hand to hand.
func TestChainInPlace(t *testing.T) {
	testproc.Root(t)
	dir := testproc.PublicDir(t)
	path := filepath.Join(dir, "a.pid")
	write(t, path, "")
	must(t, os.Chown(path, nobody, nobody))
	var before, after unix.Stat_t
	must(t, unix.Stat(path, &before))
	first := start(t, "generation", path, as(t, nobody), env(generationsEnv, "0"), env(chainLogEnv, "/dev/null")).says("ok")
	names(t, path, first.pid())
	first.end()
	if content(t, path) != "" {
		t.Error("not emptied on release")
	}
	must(t, unix.Stat(path, &after))
	if before.Ino != after.Ino {
		t.Fatal("it was not taken in place: this tests nothing")
	}

	heir := start(t, "parent of an heir", path, as(t, nobody)).says("ready")
	parent := heir.pid()
	names(t, path, parent)
	heir.answers("adopt", "ok")
	pid := pidOf(t, heir.tell("pid"))
	if pid == parent {
		t.Fatal("it is the parent that listens")
	}
	names(t, path, pid)
	must(t, unix.Stat(path, &after))
	if before.Ino != after.Ino {
		t.Fatal("it was not adopted in place: this tests nothing")
	}
	// The parent's death leaves the lock with the heir.
	heir.exitedAfterKill()
	names(t, path, pid)
	heir.answers("release", "ok")
	if got := content(t, path); got != "" {
		t.Errorf("released, and the file has %q", got)
	}
	heir.end()
	alone(t, path)
}

// The parent's release is not to unlock what it shares with its heir, in every
// generation.
func TestChainInPlaceReleases(t *testing.T) {
	testproc.Root(t)
	path := filepath.Join(testproc.PublicDir(t), "a.pid")
	write(t, path, "")
	must(t, os.Chown(path, nobody, nobody))
	logPath := filepath.Join(testproc.PublicDir(t), "log")
	write(t, logPath, "")
	must(t, os.Chmod(logPath, 0o666))
	const n = 8
	first := start(t, "generation", path, as(t, nobody), env(generationsEnv, strconv.Itoa(n-1)), env(chainLogEnv, logPath)).says("ok")
	contender := start(t, "contender", path).says("contends")
	last := lastOf(t, logPath, n)
	first.exited()
	names(t, path, last)
	_ = contender.in.Close()
	var tries, got int
	if _, err := fmt.Sscan(contender.line(), &tries, &got); err != nil || got != 0 || tries < n {
		t.Errorf("%d tries, %d successes, %v", tries, got, err)
	}
	_ = first.in.Close()
	testproc.Eventually(t, "the last one has emptied it", func() bool { return content(t, path) == "" })
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	f, err := pidfile.AcquireContext(ctx, path) // and now it gives the lock back
	taken(t, f, err)
}
