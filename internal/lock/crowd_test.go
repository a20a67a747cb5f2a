//go:build linux

package lock

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/go-pidfile/pidfile/internal/testproc"
	"golang.org/x/sys/unix"
)

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
// lock is followed by one fstat, as is the creation of every file.
func (r *role) crowd() {
	var grants, created atomic.Int64
	setFault(func(call string) syscall.Errno {
		switch call {
		case "fstat":
			grants.Add(1)
		case "tmpfile":
			created.Add(1)
		}
		return 0
	})
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
	e.Switches, e.CPU, e.Wakes = s-switches, c-cpu, grants.Load()-created.Load()
	if err := json.NewEncoder(os.Stdout).Encode(&e); err != nil {
		r.die(err)
	}
}

// No herd: with a hundred waiting processes a release wakes about one.
func TestCrowd(t *testing.T) {
	processes, turns := testproc.Rounds(100, 100, 30), testproc.Rounds(1000, 300, 60)
	checkLeaks(t)
	path := filepath.Join(tempIn(t, "/dev/shm"), "a.pid")
	h := mustHold(t, path)
	crowd := make([]*child, processes)
	for i := range crowd {
		crowd[i] = startChild(t, &role{Do: "crowd", Path: path})
		crowd[i].say("wait")
	}
	testproc.Eventually(t, "all sleep", func() bool { return sleepers(t, 0, h.ID()) == processes })
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
	if w := per(sum.Wakes); w > float64(processes)/4 {
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
	case <-time.After(testproc.Patience):
		t.Fatalf("no child said anything for %v", testproc.Patience)
	}
	return saying{}
}

// keepWaiting has the child that had its turn wait again once the next has the file,
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
