//go:build linux

package main

import (
	"bytes"
	"fmt"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/go-pidfile/pidfile/internal/testproc"
)

// TestWaitEnds: wait sleeps until the process has ended, and exits as it did.
func TestWaitEnds(t *testing.T) {
	parallel(t)
	for _, one := range []struct {
		ends   string
		code   int
		result string
	}{
		{"exit 0", 0, "exit status 0"},
		{"exit 7", 7, "exit status 7"},
		{"exit 255", 255, "exit status 255"},
		{"kill -KILL $$", 137, "signal: killed"},
		{"kill -TERM $$", 143, "signal: terminated"},
	} {
		for _, args := range [][]string{nil, {"--exit-code"}, {"--exit-code", "--json", "-t", "1h"}} {
			if testing.Short() && len(args) == 1 {
				continue
			}
			t.Run(fmt.Sprint(one.ends, args), func(t *testing.T) {
				parallel(t)
				// How it ended is known only if its parent reaps it within 50 ms:
				// a loaded machine needs a second try.
				for range 50 {
					if waitEnds(t, one.ends, one.code, one.result, args) {
						return
					}
				}
				t.Error("the kernel never tells how it ended")
			})
		}
	}
}

func waitEnds(t *testing.T, ends string, code int, how string, args []string) bool {
	path := filepath.Join(t.TempDir(), "a.pid")
	w := start(t, path, "sh", "-c", "read x; "+ends)
	pid := w.command(t)
	var stdout, stderr bytes.Buffer
	c := exec.Command(binary, append(append([]string{"wait"}, args...), path)...)
	c.Stdout, c.Stderr = &stdout, &stderr
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	opens(t, c.Process.Pid, 2, "pidfd") // the second is for the wait itself: all is proven by then
	w.stdin.Close()
	r := result{code: exitCode(t, c.Wait()), stdout: stdout.String(), stderr: stderr.String()}
	if got := w.wait(t); got != code {
		t.Fatalf("run: exit code %d, want %d", got, code)
	}
	said := fmt.Sprintf("PID %d has ended", pid)
	switch {
	case strings.Contains(r.stdout+r.stderr, said) && !strings.Contains(r.stdout, said+": "):
		want := 0
		if args != nil {
			want = 125
		}
		if r.code != want {
			t.Errorf("the end is not known: exit code %d, want %d", r.code, want)
		}
		return false
	case args == nil:
		code = 0
	}
	r.is(t, code, regexp.QuoteMeta(said+": "+how))
	if r.stderr != "" {
		t.Errorf("stderr: %s", r.stderr)
	}
	if slices.Contains(args, "--json") {
		if o := r.outcomes(t); len(o) != 1 || o[0].Path != path || o[0].PID != pid || o[0].Result != said+": "+how {
			t.Errorf("%+v", o)
		}
	}
	return true
}

// TestWaitSeveral: the last one counts.
func TestWaitSeveral(t *testing.T) {
	parallel(t)
	dir := t.TempDir()
	var all []*wrapper
	args := []string{"wait"}
	for i := range 3 {
		w := start(t, filepath.Join(dir, fmt.Sprintf("%d.pid", i)), "sh", "-c", "read x; exit 1")
		w.command(t)
		all, args = append(all, w), append(args, w.path)
	}
	c := background(t, exec.Command(binary, args...))
	opens(t, c.Process.Pid, 1, "pidfd")
	for _, w := range all {
		select {
		case <-c.ended:
			t.Fatal("wait has returned too early")
		default:
		}
		w.stdin.Close()
		w.wait(t)
	}
	if code := c.wait(t); code != 0 {
		t.Errorf("exit code %d", code)
	}
}

// TestWaitRunning: a start ends it, not the first file.
func TestWaitRunning(t *testing.T) {
	parallel(t)
	dir := t.TempDir()
	t.Run("new", func(t *testing.T) {
		path := filepath.Join(dir, "a.pid")
		var stdout bytes.Buffer
		c := exec.Command(binary, "wait", "--running", "--json", path)
		c.Stdout = &stdout
		waiter := background(t, c)
		opens(t, c.Process.Pid, 1, "inotify")
		writeFile(t, filepath.Join(dir, "other.pid"), "1\n")
		w := start(t, path, "sleep", "1000")
		pid := w.command(t)
		if code := waiter.wait(t); code != 0 {
			t.Errorf("exit code %d", code)
		}
		o := result{stdout: stdout.String()}.outcomes(t)
		if len(o) != 1 || o[0].Path != path || !strings.HasPrefix(o[0].Result, "running, PID") || !strings.Contains(o[0].Result, strconv.Itoa(o[0].PID)) {
			t.Errorf("%+v; COMMAND is %d", o, pid)
		}
		w.stop(t)
	})
	// A lock on a file that is there already is no event: it is seen nonetheless.
	t.Run("stale file", func(t *testing.T) {
		testproc.Tool(t, "flock")
		path := filepath.Join(dir, "b.pid")
		writeFile(t, path, fmt.Sprintln(testproc.DeadPID(t)))
		c := background(t, exec.Command(binary, "wait", "--running", path))
		opens(t, c.Process.Pid, 1, "inotify")
		holder := background(t, exec.Command("flock", path, "sleep", "1000"))
		if code := c.wait(t); code != 0 {
			t.Errorf("exit code %d", code)
		}
		_ = holder
	})
	t.Run("both", func(t *testing.T) {
		one, two := filepath.Join(dir, "c.pid"), filepath.Join(dir, "d.pid")
		c := background(t, exec.Command(binary, "wait", "--running", one, two))
		opens(t, c.Process.Pid, 1, "inotify")
		start(t, one, "sleep", "1000").command(t)
		select {
		case <-c.ended:
			t.Error("one of two runs, and wait has returned")
		default:
		}
		start(t, two, "sleep", "1000").command(t)
		if code := c.wait(t); code != 0 {
			t.Errorf("exit code %d", code)
		}
	})
}
