//go:build linux

package main

import (
	"bytes"
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
	"testing"
	"time"

	"github.com/go-pidfile/pidfile/internal/testproc"
)

// race runs rounds of a race with a COMMAND that has just started, and checks the
// exit codes of what it returns. At the end the file is gone and a start works.
func race(t *testing.T, n int, round func(path string, command *os.Process) []*exec.Cmd, allowed ...int) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "a.pid")
	codes, busy := map[int]int{}, 0
	for range n {
		w := exec.Command(binary, "run", path, "sleep", "1000")
		if err := w.Start(); err != nil {
			t.Fatal(err)
		}
		var pid int
		testproc.Eventually(t, "a PID in "+path, func() bool {
			text, _ := os.ReadFile(path)
			pid, _ = strconv.Atoi(string(text[:max(0, len(text)-1)]))
			return pid > 0
		})
		command, err := os.FindProcess(pid) // a handle, while it lives for certain
		if err != nil {
			t.Fatal(err)
		}
		for _, c := range round(path, command) {
			err := c.Wait()
			code := exitCode(t, err)
			codes[code]++
			stderr, _ := c.Stderr.(*bytes.Buffer)
			switch {
			case slices.Contains(allowed, code):
			case code == 4 && (strings.Contains(stderr.String(), "the file keeps changing") || strings.Contains(stderr.String(), unanswered)):
				busy++ // each time that it looked again, the machine had taken its time
			default:
				t.Errorf("%v: exit code %d: %s", c.Args[1:], code, c.Stderr)
			}
		}
		_ = w.Process.Kill() // if it has not ended
		_ = w.Wait()
		killOrphans()
		_ = command.Release()
		_ = os.Remove(path)
		if t.Failed() {
			break
		}
	}
	t.Logf("exit codes: %v; %d could not tell", codes, busy)
	if busy > 1+n/4 {
		t.Errorf("%d of %d could not tell", busy, n)
	}
}

// begun starts a command that says on stderr what is wrong.
func begun(t *testing.T, args ...string) *exec.Cmd {
	t.Helper()
	c := exec.Command(binary, args...)
	c.Stderr = new(bytes.Buffer)
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	return c
}

// Two stops at once, one of which finds what the other has just ended.
func TestTwoStops(t *testing.T) {
	race(t, testproc.Rounds(1000, 25, 5), func(path string, command *os.Process) []*exec.Cmd {
		return []*exec.Cmd{begun(t, "stop", path), begun(t, "stop", path)}
	}, 0)
}

// A stop within 3 ms of COMMAND's own end.
func TestStopAtTheEnd(t *testing.T) {
	testproc.NotShort(t)
	race(t, testproc.Rounds(1000, 25, 5), func(path string, command *os.Process) []*exec.Cmd {
		return atTheEnd(command, func() *exec.Cmd { return begun(t, "stop", path) })
	}, 0)
}

// A signal within 3 ms of it: it is sent, or there is nobody to send it to.
func TestSignalAtTheEnd(t *testing.T) {
	testproc.NotShort(t)
	race(t, testproc.Rounds(1000, 25, 5), func(path string, command *os.Process) []*exec.Cmd {
		return atTheEnd(command, func() *exec.Cmd { return begun(t, "signal", "CONT", path) })
	}, 0, 3)
}

// atTheEnd begins a command and kills COMMAND at about the time when it looks.
func atTheEnd(command *os.Process, begin func() *exec.Cmd) []*exec.Cmd {
	c := begin()
	time.Sleep(time.Duration(rand.IntN(6000)) * time.Microsecond) // the start of a command takes some ms
	_ = command.Kill()                                            // which may have been stopped already
	return []*exec.Cmd{c}
}

// Status never says of a file that is just being released that another host has it.
func TestStatusAtTheEnd(t *testing.T) {
	testproc.NotShort(t)
	far := regexp.MustCompile("another PID namespace")
	race(t, testproc.Rounds(1000, 25, 5), func(path string, command *os.Process) []*exec.Cmd {
		var wrong bytes.Buffer
		var c *exec.Cmd
		atTheEnd(command, func() *exec.Cmd {
			c = exec.Command(binary, "status", path)
			c.Stdout = &wrong
			if err := c.Start(); err != nil {
				t.Fatal(err)
			}
			return c
		})
		_ = c.Wait()
		if far.MatchString(wrong.String()) {
			t.Errorf("status says %s", wrong.String())
		}
		return nil
	})
}

// Rivals that replace each other: each runs COMMAND until it is replaced. None gives
// up, and none sleeps for nothing.
func TestRivalReplace(t *testing.T) {
	testproc.NotShort(t)
	rivals := testproc.Rounds(20, 20, 8)
	began := time.Now()
	path := filepath.Join(t.TempDir(), "a.pid")
	var before int
	for range rivals { // one after the other, which is as fast as it can be
		w := begun(t, "run", "--replace", path, "sleep", "1000")
		testproc.Eventually(t, "another PID in "+path, func() bool {
			text, _ := os.ReadFile(path)
			pid, _ := strconv.Atoi(strings.TrimSpace(string(text)))
			if pid == 0 || pid == before {
				return false
			}
			before = pid
			return true
		})
		go func() { _ = w.Wait() }()
	}
	call(t, "stop", path).is(t, 0, "stopped")
	floor, fastest := time.Since(began), testproc.Patience
	slow := func() bool { return fastest > 3*floor+time.Second }
	// A machine that is busy now may be less so later.
	for n := testproc.Rounds(20, 2, 1); n > 0 || n > -8 && slow(); n-- {
		path := filepath.Join(t.TempDir(), "a.pid")
		ended := make(chan string, rivals)
		began := time.Now()
		for range rivals {
			c := begun(t, "run", "--replace", path, "sleep", "1000")
			go func() {
				err := c.Wait()
				ended <- fmt.Sprintf("exit code %d: %s", exitCode(t, err), c.Stderr)
			}()
		}
		for range rivals - 1 {
			select {
			case how := <-ended:
				if how != "exit code 143: " {
					t.Error(how)
				}
			case <-time.After(testproc.Patience):
				t.Fatal("the rivals do not come to an end")
			}
		}
		took := time.Since(began)
		t.Logf("%d rivals took %v, and one after the other %v", rivals, took, floor)
		fastest = min(fastest, took)                                        // a busy machine is none of their sleep
		call(t, "wait", "--running", "-t", "30s", path).is(t, 0, "running") // the last of them may not have it yet
		call(t, "stop", path).is(t, 0, "stopped")
		if how := <-ended; how != "exit code 143: " {
			t.Error(how)
		}
		noFile(t, path)
	}
	if slow() {
		t.Errorf("some have slept: %v at least, and one after the other %v", fastest, floor)
	}
	killOrphans()
}

// Rival restarts: none fails to because of another.
func TestRivalRestart(t *testing.T) {
	testproc.NotShort(t)
	path := filepath.Join(t.TempDir(), "a.pid")
	for range testproc.Rounds(250, 5, 2) {
		var all sync.WaitGroup
		for range 4 {
			c := begun(t, "restart", path, "--", "sleep", "1000")
			all.Go(func() {
				// 1: COMMAND was replaced before it was ready.
				if code := exitCode(t, c.Wait()); code != 0 && code != 1 {
					t.Errorf("restart: exit code %d: %s", code, c.Stderr)
				}
			})
		}
		all.Wait()
	}
	call(t, "stop", path).is(t, 0, "")
	killOrphans()
}
