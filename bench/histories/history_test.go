//go:build linux

// Package histories records what processes do with one PID file, and has
// porcupine check that there is an order in which one lock would have done it.
package histories

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"
	"github.com/go-pidfile/pidfile"
	"golang.org/x/sys/unix"
)

const (
	workers = 8
	storm   = 4 * time.Second // of each history
	checks  = 60 * time.Second
)

// A worker writes a line when it calls, and one when the call has returned:
// "call NAME CLOCK" and "done RESULT CLOCK".
//
//	acquire   ok or refused
//	wait      ok or refused (the wait ran out)
//	record    ok, or lost: it was not the holder
//	release   ok
//
// One that is killed leaves a call without an end.

// locker is a lock on a path.
type locker interface {
	acquire(wait time.Duration) bool
	record() bool
	release()
}

func TestMain(m *testing.M) {
	switch os.Getenv("HISTORY") {
	case "ours":
		work(&ours{path: os.Getenv("HISTORY_PATH")})
	case "test-and-write":
		work(&testAndWrite{path: os.Getenv("HISTORY_PATH")})
	}
	os.Exit(m.Run())
}

// work does this and that until stdin ends.
func work(l locker) {
	stop := make(chan struct{})
	go func() {
		_, _ = os.Stdin.Read(make([]byte, 1))
		close(stop)
	}()
	for {
		select {
		case <-stop:
			os.Exit(0)
		default:
		}
		name, wait := "acquire", time.Duration(0)
		if rand.IntN(3) == 0 {
			name, wait = "wait", time.Duration(rand.IntN(20))*time.Millisecond
		}
		if !call(name, func() bool { return l.acquire(wait) }) {
			time.Sleep(time.Duration(rand.IntN(2000)) * time.Microsecond) // no more than a change of pace
			continue
		}
		for range rand.IntN(3) {
			call("record", l.record)
		}
		call("release", func() bool { l.release(); return true })
	}
}

func call(name string, f func() bool) bool {
	fmt.Printf("call %s %d\n", name, clock())
	ok := f()
	fmt.Printf("done %v %d\n", ok, clock())
	return ok
}

// clock is the same for all processes.
func clock() int64 {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &ts); err != nil {
		panic(err)
	}
	return ts.Nano()
}

// ours is the library.
type ours struct {
	path string
	f    *pidfile.File
	pid  int
}

func (l *ours) acquire(wait time.Duration) (ok bool) {
	var err error
	if wait == 0 {
		l.f, err = pidfile.Acquire(l.path)
	} else {
		ctx, cancel := context.WithTimeout(context.Background(), wait)
		defer cancel()
		l.f, err = pidfile.AcquireContext(ctx, l.path)
	}
	if err != nil && !errors.Is(err, pidfile.ErrAlreadyRunning) && !errors.Is(err, context.DeadlineExceeded) {
		panic(err)
	}
	return err == nil
}

// record names the machine's first process and us by turns. After a crash that is
// not to be taken for one of us.
func (l *ours) record() bool {
	if l.pid++; l.pid%2 == 1 {
		return l.f.SetPID(1) == nil
	}
	return l.f.SetPID(os.Getpid()) == nil
}

func (l *ours) release() {
	if err := l.f.Release(); err != nil {
		panic(err)
	}
}

// testAndWrite is the negative control: it looks whether the file names a live
// process and writes its own PID if not, as python-pidfile does.
type testAndWrite struct{ path string }

func (l *testAndWrite) acquire(wait time.Duration) bool {
	for end := time.Now().Add(wait); ; time.Sleep(time.Millisecond) {
		text, _ := os.ReadFile(l.path)
		pid, err := strconv.Atoi(strings.TrimSpace(string(text)))
		if err != nil || unix.Kill(pid, 0) == unix.ESRCH {
			return l.write()
		}
		if !time.Now().Before(end) {
			return false
		}
	}
}

func (l *testAndWrite) write() bool {
	return os.WriteFile(l.path, []byte(strconv.Itoa(os.Getpid())), 0o644) == nil
}

func (l *testAndWrite) record() bool { return l.write() }
func (l *testAndWrite) release()     { _ = os.Remove(l.path) }

// A holding is the input of an operation in the model.
type holding struct {
	worker int
	name   string
}

// lockModel is a lock with a holder. A state is the holder's number, 0: none.
//
// A refusal is right if a worker has the lock; a wait that timed out says only that
// the time is over. A holder that was killed has it until an operation "crash",
// which is pending from the kill until the process has been reaped.
var lockModel = porcupine.Model{
	Init: func() any { return 0 },
	Step: func(state, input, output any) (bool, any) {
		holder, in, ok := state.(int), input.(holding), output.(bool)
		switch in.name {
		case "acquire", "wait":
			if ok {
				return holder == 0, in.worker
			}
			return in.name == "wait" || holder != 0, holder
		case "record":
			return ok && holder == in.worker, holder
		case "release":
			return holder == in.worker, 0
		case "perhaps": // an acquisition that was killed, and succeeded if it could
			if holder == 0 {
				return true, in.worker
			}
			return true, holder
		case "crash": // it had the lock, or not
			if holder == in.worker {
				return true, 0
			}
			return true, holder
		}
		panic(in.name)
	},
	DescribeOperation: func(in, out any) string { return fmt.Sprint(in, " ", out) },
}

func TestHistories(t *testing.T) {
	t.Run("ours", func(t *testing.T) {
		ops, kills := record(t, "ours")
		t.Logf("%d operations, %d SIGKILLs", len(ops), kills)
		if len(ops) < 300 || kills < 20 {
			t.Error("this tests little")
		}
		if got := porcupine.CheckOperationsTimeout(lockModel, ops, checks); got != porcupine.Ok {
			t.Errorf("as a lock's history it is %v", got)
		}
		// The checker can find an overlap in this very history.
		if got := porcupine.CheckOperationsTimeout(lockModel, overlapped(t, ops), checks); got != porcupine.Illegal {
			t.Errorf("with an overlap put in it is %v", got)
		}
	})
	t.Run("negative control", func(t *testing.T) {
		ops, kills := record(t, "test-and-write")
		t.Logf("%d operations, %d SIGKILLs", len(ops), kills)
		if got := porcupine.CheckOperationsTimeout(lockModel, ops, checks); got != porcupine.Illegal {
			t.Errorf("a broken lock's history is %v", got)
		}
	})
}

// overlapped returns ops with another's acquisition within the longest hold.
func overlapped(t *testing.T, ops []porcupine.Operation) []porcupine.Operation {
	var best porcupine.Operation
	held := map[int]int64{}
	var from, to int64
	for _, op := range ops {
		in := op.Input.(holding)
		switch {
		case op.Output.(bool) && (in.name == "acquire" || in.name == "wait"):
			held[in.worker] = op.Return
		case in.name == "release":
			if op.Call-held[in.worker] > to-from {
				best, from, to = op, held[in.worker], op.Call
			}
		}
	}
	if to-from < 3 {
		t.Fatal("no worker held it")
	}
	alien := porcupine.Operation{ClientId: best.ClientId, Input: holding{1 << 30, "acquire"}, Output: true, Call: from + 1, Return: to - 1}
	return append(append([]porcupine.Operation(nil), ops...), alien)
}

// A life is one worker process.
type life struct {
	cmd    *exec.Cmd
	stdin  interface{ Close() error }
	log    string
	killed int64 // when; 0: it ended by itself
	reaped int64 // then the kernel has long closed its files
}

// record lets the storm rage and returns what was done.
func record(t *testing.T, kind string) (ops []porcupine.Operation, kills int) {
	dir := t.TempDir()
	path := filepath.Join(dir, "a.pid")
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	var lives []*life
	begin := func() *life {
		l := &life{cmd: exec.Command(self), log: filepath.Join(dir, fmt.Sprintf("log%d", len(lives)))}
		l.cmd.Env = append(os.Environ(), "HISTORY="+kind, "HISTORY_PATH="+path)
		out, err := os.OpenFile(l.log, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o644)
		if err != nil {
			t.Fatal(err)
		}
		defer out.Close()
		l.cmd.Stdout, l.cmd.Stderr = out, os.Stderr
		if l.stdin, err = l.cmd.StdinPipe(); err != nil {
			t.Fatal(err)
		}
		if err := l.cmd.Start(); err != nil {
			t.Fatal(err)
		}
		lives = append(lives, l)
		return l
	}
	running := make([]*life, workers)
	for i := range running {
		running[i] = begin()
	}
	for end := time.Now().Add(storm); time.Now().Before(end) || kills < 30; kills++ {
		time.Sleep(time.Duration(20+rand.IntN(60)) * time.Millisecond) // the pace of the kills
		i := rand.IntN(workers)
		running[i].killed = clock()
		if err := running[i].cmd.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		_ = running[i].cmd.Wait() // it was killed
		running[i].reaped = clock()
		running[i].stdin.Close()
		running[i] = begin()
	}
	for _, l := range running {
		l.stdin.Close()
		if err := l.cmd.Wait(); err != nil {
			t.Errorf("a worker: %v", err)
		}
	}
	for i, l := range lives {
		ops = append(ops, l.operations(t, i+1)...)
	}
	return ops, kills
}

// operations reads a worker's log.
func (l *life) operations(t *testing.T, worker int) (ops []porcupine.Operation) {
	f, err := os.Open(l.log)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var open *porcupine.Operation
	holds := false
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		w := strings.Fields(lines.Text())
		if len(w) != 3 {
			t.Fatalf("%s: %q", l.log, lines.Text())
		}
		at, err := strconv.ParseInt(w[2], 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		if w[0] == "call" {
			open = &porcupine.Operation{ClientId: worker - 1, Input: holding{worker, w[1]}, Call: at}
			continue
		}
		open.Output, open.Return = w[1] == "true", at
		switch open.Input.(holding).name {
		case "release":
			holds = false
		case "record":
		default:
			holds = open.Output.(bool)
		}
		ops = append(ops, *open)
		open = nil
	}
	if l.killed == 0 {
		return ops
	}
	return append(ops, l.pending(worker, holds, open)...)
}

// pending is what the kill left undone: it took effect at some time, or not at all;
// then the kernel released the lock.
func (l *life) pending(worker int, holds bool, open *porcupine.Operation) (ops []porcupine.Operation) {
	crash := porcupine.Operation{ClientId: worker - 1, Input: holding{worker, "crash"}, Output: true, Call: l.killed, Return: l.reaped}
	if open == nil {
		if holds {
			ops = append(ops, crash)
		}
		return ops
	}
	switch open.Input.(holding).name {
	case "acquire", "wait":
		// Whether it got the lock is unknown: a state of the model cannot say
		// "perhaps", an operation can that is allowed to do nothing.
		open.Input = holding{worker, "perhaps"}
	case "release":
		open.Input = holding{worker, "crash"} // to release is all that a crash does
		open.Output, open.Return = true, l.reaped
		return append(ops, *open)
	case "record":
		return append(ops, crash) // it changes no other holding
	}
	open.Output, open.Return = true, l.reaped
	return append(ops, *open, crash)
}
