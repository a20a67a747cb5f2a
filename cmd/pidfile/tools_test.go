//go:build linux

package main

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/go-pidfile/pidfile/internal/testproc"
	"golang.org/x/sys/unix"
)

// The tools of a Debian system and this command must agree on one file.

// tool runs another program to its end. The test is skipped where it is missing.
func tool(t *testing.T, name string, args ...string) result {
	t.Helper()
	testproc.Tool(t, name)
	return finish(t, exec.Command(name, args...))
}

// exits checks an exit code.
func (r result) exits(t *testing.T, what string, code int) {
	t.Helper()
	if r.code != code {
		t.Errorf("%s: exit code %d, want %d: %s%s", what, r.code, code, r.stdout, r.stderr)
	}
}

// A caseOfOurs is a file of this command's, and whether it is held.
type caseOfOurs struct {
	name string
	path string
	w    *wrapper // nil if nobody runs
	pid  int
}

// ours are files as "pidfile run" makes and leaves them.
func ours(t *testing.T) []caseOfOurs {
	t.Helper()
	dir := t.TempDir()
	at := func(name string) string { return filepath.Join(dir, name+".pid") }
	run := func(path string, args ...string) *wrapper {
		w := prepare(t, path, args...)
		w.Args = append([]string{binary, "run"}, append(args[:1:1], append([]string{path}, args[1:]...)...)...)
		w.begin(t)
		return w
	}
	held := start(t, at("held"), "sleep", "1000")
	closed := run(at("closed"), "--close", "sleep", "1000")
	exec := run(at("exec"), "--exec", "sleep", "1000")
	// Killed, both of them: what is left is stale.
	killed := start(t, at("stale"), "sleep", "1000")
	dead := killed.command(t)
	if err := killed.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	killed.wait(t)
	kill(t, dead, unix.SIGKILL)
	_, _ = unix.Wait4(dead, nil, 0, nil) // its PID is nobody's; ECHILD: not ours
	return []caseOfOurs{
		{"held", held.path, held, held.command(t)},
		{"closed", closed.path, closed, closed.command(t)},
		{"exec", exec.path, exec, exec.command(t)},
		{"stale", killed.path, nil, dead},
		{"absent", at("absent"), nil, 0},
	}
}

func TestPgrep(t *testing.T) {
	testproc.NotShort(t)
	parallel(t)
	testproc.Tool(t, "pgrep")
	for _, c := range ours(t) {
		t.Run(c.name, func(t *testing.T) {
			for _, args := range [][]string{{"-F", c.path}, {"-L", "-F", c.path}} {
				r := tool(t, "pgrep", args...)
				if c.w == nil {
					if r.code == 0 || r.stdout != "" {
						t.Errorf("pgrep %v: exit code %d: %s", args, r.code, r.stdout)
					}
					continue
				}
				r.is(t, 0, fmt.Sprintf(`^%d\n$`, c.pid))
			}
		})
	}
}

// TestPkill: pkill -L signals only if the file is locked.
func TestPkill(t *testing.T) {
	testproc.NotShort(t)
	parallel(t)
	testproc.Tool(t, "pkill")
	dir := t.TempDir()
	path, log := filepath.Join(dir, "a.pid"), filepath.Join(dir, "log")
	env, command := helperCommand(t, "signals")
	w := prepare(t, path, command)
	w.Env = append(env, "LOG="+log)
	w.begin(t)
	awaitReady(t, log)
	w.command(t)
	tool(t, "pkill", "-CONT", "-L", "-F", path).exits(t, "pkill -L", 0)
	sees(t, log, "SIGCONT")
	tool(t, "pkill", "-USR1", "-F", path).exits(t, "pkill", 0)
	sees(t, log, "SIGCONT", "SIGUSR1")
	tool(t, "pkill", "-KILL", "-L", "-F", path).exits(t, "pkill -KILL", 0)
	if code := w.wait(t); code != 137 {
		t.Errorf("run: exit code %d, want 137", code)
	}
	noFile(t, path)
	if r := tool(t, "pkill", "-CONT", "-L", "-F", path); r.code == 0 {
		t.Error("pkill finds the one that has ended")
	}
}

// TestKill: kill -0 $(cat FILE), what every init script does.
func TestKill(t *testing.T) {
	testproc.NotShort(t)
	parallel(t)
	for _, c := range ours(t) {
		r := tool(t, "sh", "-c", `kill -0 "$(cat "$0")"`, c.path)
		if (r.code == 0) != (c.w != nil) {
			t.Errorf("%s: exit code %d: %s", c.name, r.code, r.stderr)
		}
	}
	// And it is stopped like that.
	w := start(t, filepath.Join(t.TempDir(), "a.pid"), "sleep", "1000")
	w.command(t)
	tool(t, "sh", "-c", `kill $(cat "$0")`, w.path).exits(t, "kill", 0)
	if code := w.wait(t); code != 143 {
		t.Errorf("run: exit code %d, want 143", code)
	}
	noFile(t, w.path)
}

// TestStartStopDaemon: the same answers from both, and it stops ours.
func TestStartStopDaemon(t *testing.T) {
	testproc.NotShort(t)
	parallel(t)
	testproc.Tool(t, "start-stop-daemon")
	all := ours(t)
	for _, c := range all {
		want := 0
		if c.w == nil {
			want = map[string]int{"stale": 1, "absent": 3}[c.name]
		}
		tool(t, "start-stop-daemon", "--status", "--pidfile", c.path).exits(t, c.name+": start-stop-daemon --status", want)
		call(t, "status", c.path).exits(t, c.name+": status", want)
	}
	for _, c := range all {
		r := tool(t, "start-stop-daemon", "--stop", "--oknodo", "--retry", "60", "--pidfile", c.path)
		r.exits(t, c.name+": --stop", 0)
		if c.w == nil {
			continue
		}
		if code := c.w.wait(t); code != 143 {
			t.Errorf("%s: run: exit code %d, want 143", c.name, code)
		}
		if c.name != "exec" { // nobody is left to remove that
			noFile(t, c.path)
		}
	}
	// A start through it is refused as long as ours runs.
	w := start(t, filepath.Join(t.TempDir(), "a.pid"), "sleep", "1000")
	w.command(t)
	ran := w.path + ".ran"
	tool(t, "start-stop-daemon", "--start", "--pidfile", w.path, "--startas", "/bin/sh", "--", "-c", "echo >"+ran).exits(t, "--start", 1)
	noFile(t, ran)
	w.stop(t)
}

// TestFlock: flock(1) is kept out while ours runs, and only then.
func TestFlock(t *testing.T) {
	parallel(t)
	testproc.Tool(t, "flock")
	for _, c := range ours(t) {
		if c.name == "absent" {
			continue // flock(1) would make it
		}
		want := 0
		if c.w != nil {
			want = 1
		}
		tool(t, "flock", "-n", c.path, "true").exits(t, c.name+": flock -n", want)
		tool(t, "flock", "-n", "-s", c.path, "true").exits(t, c.name+": flock -n -s", want)
		if c.w == nil {
			continue
		}
		// One that waits gets it at the end, on the file that is gone by then.
		waiter := background(t, exec.Command("flock", c.path, "true"))
		testproc.Eventually(t, "flock's waiting", func() bool { return testproc.Blocked(c.path) > 0 })
		kill(t, c.pid, unix.SIGTERM)
		c.w.wait(t)
		if code := waiter.wait(t); code != 0 {
			t.Errorf("%s: the waiting flock: exit code %d", c.name, code)
		}
		if c.name == "exec" { // it leaves its file
			tool(t, "flock", "-n", c.path, "true").exits(t, "flock after the end", 0)
		} else {
			noFile(t, c.path)
		}
	}
}

// TestFuserLsof: who has the file open, by device and inode.
func TestFuserLsof(t *testing.T) {
	testproc.NotShort(t)
	parallel(t)
	for _, name := range []string{"fuser", "lsof"} {
		t.Run(name, func(t *testing.T) {
			testproc.Tool(t, name)
			for _, c := range ours(t) {
				if c.name == "absent" {
					continue
				}
				args := []string{c.path}
				if name == "lsof" {
					args = []string{"-w", "-t", "--", c.path}
				}
				r := tool(t, name, args...)
				var want, got []int
				if c.w != nil {
					want = append(want, c.w.Process.Pid)
					if c.name == "held" {
						want = append(want, c.pid)
					}
				}
				for _, f := range strings.Fields(r.stdout) {
					pid, err := strconv.Atoi(f)
					if err != nil {
						t.Fatalf("%s says %q", name, r.stdout)
					}
					got = append(got, pid)
				}
				slices.Sort(want)
				slices.Sort(got)
				if !slices.Equal(got, want) || (r.code == 0) != (c.w != nil) {
					t.Errorf("%s: exit code %d, PIDs %v, want %v: %s", c.name, r.code, got, want, r.stderr)
				}
			}
		})
	}
}

// TestFlockHolds: what flock(1) holds runs, but whom to signal is known only if
// the file names one of those that have the lock.
func TestFlockHolds(t *testing.T) {
	testproc.NotShort(t)
	parallel(t)
	testproc.Tool(t, "flock")
	dir := t.TempDir()
	t.Run("empty", func(t *testing.T) {
		path := filepath.Join(dir, "a.pid")
		w := background(t, exec.Command("flock", "-n", path, "sh", "-c", `echo $$ >"$0.up"; exec sleep 1000`, path))
		child := awaitPID(t, path+".up")
		r := call(t, "status", "--explain", path)
		r.is(t, 0, `: running, a process that left no PID\n`)
		r.is(t, 0, `the file is empty`)
		r.is(t, 0, fmt.Sprintf(`(?m)^  PID %d, .*has the lock.*: flock -n .*$`, w.Process.Pid))
		r.is(t, 0, fmt.Sprintf(`(?m)^  PID %d, .*has the lock.*: sleep 1000$`, child))
		if r := call(t, "stop", path); r.code != 4 || !strings.Contains(r.stderr, "not proven") {
			t.Errorf("stop: exit code %d: %s%s", r.code, r.stdout, r.stderr)
		}
		if code, _ := try(t, path, "true"); code != 75 {
			t.Errorf("run: exit code %d, want 75", code)
		}
		call(t, "clean", path).is(t, 0, "left alone, running")
		if !testproc.Alive(child) || !testproc.Alive(w.Process.Pid) {
			t.Error("somebody was harmed")
		}
		kill(t, child, unix.SIGTERM)
		w.wait(t)
		call(t, "status", path).is(t, 1, "stale")
		works(t, path)
	})
	t.Run("names", func(t *testing.T) {
		path := filepath.Join(dir, "b.pid")
		w := background(t, exec.Command("flock", "-n", path, "sh", "-c", `echo $$ >"$0"; echo up >"$0.up"; exec sleep 1000`, path))
		awaitText(t, path+".up")
		pid := awaitPID(t, path)
		call(t, "status", "--explain", path).is(t, 0, fmt.Sprintf("PID %d has the file open with the lock", pid))
		call(t, "stop", path).is(t, 0, fmt.Sprintf(`PID %d stopped \(TERM`, pid))
		w.wait(t)
		call(t, "status", path).is(t, 1, "stale")
	})
}

// TestStartStopDaemonsDaemon: a file that start-stop-daemon made, without a lock.
func TestStartStopDaemonsDaemon(t *testing.T) {
	testproc.NotShort(t)
	parallel(t)
	testproc.Tool(t, "start-stop-daemon")
	t.Cleanup(killOrphans)
	path := filepath.Join(t.TempDir(), "a.pid")
	begin := func() int {
		tool(t, "start-stop-daemon", "--start", "--make-pidfile", "--background", "--pidfile", path, "--exec", "/bin/sleep", "--", "1000").exits(t, "--start", 0)
		pid := awaitPID(t, path)
		testproc.Eventually(t, "sleep", func() bool {
			exe, _ := os.Readlink(fmt.Sprintf("/proc/%d/exe", pid))
			return strings.HasSuffix(exe, "/sleep") || filepath.Base(exe) == "coreutils" || filepath.Base(exe) == "busybox"
		})
		return pid
	}
	pid := begin()
	r := call(t, "status", "--explain", path)
	r.is(t, 0, fmt.Sprintf(`: running, PID %d \(/bin/sleep 1000\)`, pid))
	r.is(t, 0, "the file is not locked")
	r.is(t, 0, "existed when the file was written")
	refusedBy(t, path, pid, "/bin/sleep", "1000")
	call(t, "clean", path).is(t, 0, "left alone, running")
	call(t, "wait", "-t", "0.5", path).is(t, 124, "still running")
	call(t, "stop", path).is(t, 0, fmt.Sprintf(`PID %d stopped \(TERM`, pid))
	if testproc.Alive(pid) {
		t.Error("it lives")
	}
	call(t, "status", path).is(t, 1, "stale")
	// A zombie, which has us as its parent, runs by start-stop-daemon's measure.
	tool(t, "start-stop-daemon", "--status", "--pidfile", path).exits(t, "--status of a zombie", 0)
	_, _ = unix.Wait4(pid, nil, 0, nil)
	tool(t, "start-stop-daemon", "--status", "--pidfile", path).exits(t, "--status", 1)
	call(t, "stop", path).is(t, 0, "not running")
	// It writes over what is left, and what it left does not hinder us.
	pid = begin()
	reaped := make(chan struct{})
	go func() {
		_, _ = unix.Wait4(pid, nil, 0, nil)
		close(reaped)
	}()
	tool(t, "start-stop-daemon", "--stop", "--retry", "60", "--pidfile", path).exits(t, "--stop", 0)
	<-reaped
	works(t, path)
}

// TestPythonPidfile: as the package python-pidfile writes its file: no lock, no
// newline, and its own PID.
func TestPythonPidfile(t *testing.T) {
	testproc.NotShort(t)
	parallel(t)
	testproc.Tool(t, "python3")
	path := filepath.Join(t.TempDir(), "pidfile.pid")
	const script = `import os, sys, time
path = sys.argv[1]
with open(path, 'w') as f:
    f.write(str(os.getpid()))
try:
    print('up', flush=True)
    time.sleep(1000)
finally:
    os.remove(path)
`
	c := exec.Command("python3", "-c", script, path)
	stdout, err := c.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	w := background(t, c)
	up := make([]byte, 3)
	if _, err := stdout.Read(up); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(path)
	if err != nil || bytes.ContainsRune(text, '\n') {
		t.Fatalf("%q, %v", text, err)
	}
	pid, err := strconv.Atoi(string(text))
	if err != nil {
		t.Fatal(err)
	}
	r := call(t, "status", "--explain", path)
	r.is(t, 0, fmt.Sprintf(`: running, PID %d \(\S*python3? -c import os`, pid))
	r.is(t, 0, "the file is not locked")
	call(t, "list", filepath.Dir(path)).is(t, 0, fmt.Sprintf(`(?m)^running +%d .*python`, pid))
	// Its own program is refused; stop ends it.
	python := regexp.MustCompile(`\((\S*python3?) `).FindStringSubmatch(r.stdout)[1]
	refusedBy(t, path, pid, python, "-c", script, path)
	call(t, "signal", "CONT", path).is(t, 0, fmt.Sprintf("sent CONT to PID %d", pid))
	call(t, "stop", path).is(t, 0, fmt.Sprintf(`PID %d stopped \(TERM`, pid))
	if code := w.wait(t); code != 143 {
		t.Errorf("python: exit code %d, want 143", code)
	}
	// TERM is the end of a Python program without a "finally".
	call(t, "status", path).is(t, 1, "stale")
	works(t, path)
}
