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
	"syscall"
	"testing"
	"time"

	"github.com/go-pidfile/pidfile/internal/testproc"
	"golang.org/x/sys/unix"
)

// reader is an ordinary user, who may read the PID file of root's service.
const reader = 1234

// ordinary makes a command an ordinary user's.
func ordinary(uid uint32, c *exec.Cmd) *exec.Cmd {
	c.Dir = "/"
	c.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uid, Gid: uid}}
	return c
}

// keptOut is the situation after a crash: the wrapper and COMMAND were killed, and
// another user, who may only read the file, has its lock. It returns the PID that the file
// names and that of the user's process.
func keptOut(t *testing.T) (path string, dead, holder int) {
	t.Helper()
	testproc.Root(t)
	testproc.Tool(t, "flock")
	dir := testproc.PublicDir(t)
	path = filepath.Join(dir, "a.pid")
	w := start(t, path, "sleep", "1000")
	dead = w.command(t)
	c := background(t, ordinary(reader, exec.Command("flock", path, "sleep", "1000")))
	testproc.Eventually(t, "a waiter", func() bool { return testproc.Blocked(path) > 0 })
	if err := w.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	w.wait(t)
	kill(t, dead, unix.SIGKILL)
	testproc.Eventually(t, "the user's lock", func() bool { return testproc.Blocked(path) == 0 })
	return path, dead, c.Process.Pid
}

// TestStrayChild: wrapper and COMMAND are killed, a child of COMMAND's keeps the
// lock. It is named, and harmed by nobody.
func TestStrayChild(t *testing.T) {
	parallel(t)
	dir := t.TempDir()
	path, up := filepath.Join(dir, "a.pid"), filepath.Join(dir, "child")
	w := prepare(t, path, "sh", "-c", `sleep 1000 & echo $! >"$0"; wait`, up)
	w.Args[0] = "pidfile" // not its path, which may be so long that it is cut
	w.begin(t)
	pid, child := w.command(t), awaitPID(t, up)
	line := func(pid int, role, command string) string {
		return fmt.Sprintf(`(?m)^  PID %d, \S+, %s.*: %s`, pid, role, command)
	}
	r := call(t, "status", "--explain", path)
	r.is(t, 0, line(w.Process.Pid, "has the lock too", "pidfile run"))
	r.is(t, 0, line(pid, "holder", "sh -c sleep"))
	r.is(t, 0, line(child, "has the lock too", "sleep 1000\n"))

	if err := w.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	w.wait(t)
	kill(t, pid, unix.SIGKILL)
	r = call(t, "status", path)
	r.is(t, 0, "running, PID "+strconv.Itoa(pid))
	r.is(t, 0, "not provably by the process that it names")
	r.is(t, 0, fmt.Sprintf(`the lock is held by PID %d \(sleep\)`, child))
	r = call(t, "status", "--explain", path)
	r.is(t, 0, "not provably by the process that it names")
	r.is(t, 0, line(child, "has the lock", "sleep 1000\n"))
	if n := strings.Count(r.stdout, fmt.Sprintf("PID %d", child)); n != 1 {
		t.Errorf("the child is named %d times: %s", n, r.stdout)
	}
	if n := strings.Count(r.stdout, "  PID "+strconv.Itoa(pid)+", "); n != 0 {
		t.Errorf("the dead one is a holder: %s", r.stdout)
	}

	t.Run("refused", func(t *testing.T) {
		for _, args := range [][]string{{"stop", path}, {"stop", "-t", "0", path}, {"signal", "TERM", path}} {
			t.Run(strings.Join(args[:len(args)-1], " "), func(t *testing.T) {
				parallel(t)
				if r := call(t, args...); r.code != 4 || !strings.Contains(r.stderr, fmt.Sprintf("PID %d (sleep)", child)) {
					t.Errorf("exit code %d, want 4, and the child's name: %s", r.code, r.stderr)
				}
			})
		}
	})
	call(t, "clean", path).is(t, 0, "left alone, running")
	call(t, "wait", "-t", "2s", path).is(t, 124, "still running")
	if code, _ := try(t, path, "true"); code != 75 {
		t.Errorf("a second start: exit code %d, want 75", code)
	}
	if !testproc.Alive(child) {
		t.Fatal("the child was harmed")
	}
	c := background(t, exec.Command(binary, "wait", path))
	testproc.Eventually(t, "a waiter", func() bool { return testproc.Blocked(path) > 0 })
	kill(t, child, unix.SIGKILL)
	if code := c.wait(t); code != 0 {
		t.Errorf("wait: exit code %d", code)
	}
	works(t, path)
}

// TestReaderKeepsOut: nothing says that a dead process runs, who has the lock is
// named, and no way around it is taken that was not asked for.
func TestReaderKeepsOut(t *testing.T) {
	testproc.NotShort(t)
	parallel(t)
	for _, c := range []struct {
		code int
		args []string
	}{
		{4, []string{"start", "PATH", "--", "sleep", "1000"}},
		{4, []string{"start", "-q", "-E", "9", "PATH", "--", "sleep", "1000"}},
		{75, []string{"run", "PATH", "true"}},
		{4, []string{"stop", "PATH"}},
		{4, []string{"signal", "TERM", "PATH"}},
		{4, []string{"restart", "PATH", "--", "sleep", "1000"}},
		{75, []string{"run", "--replace", "PATH", "true"}},
	} {
		t.Run(strings.Join(c.args, " "), func(t *testing.T) {
			parallel(t)
			path, dead, holder := keptOut(t)
			c.args[slices.Index(c.args, "PATH")] = path
			lock := fmt.Sprintf("the lock is held by PID %d (flock), user %d", holder, reader)
			r := call(t, c.args...)
			if r.code != c.code || !strings.Contains(r.stderr, lock) || r.stdout != "" {
				t.Errorf("exit code %d, want %d, and %q: %s%s", r.code, c.code, lock, r.stdout, r.stderr)
			}
			if strings.Contains(r.stderr, fmt.Sprintf("already running: PID %d", dead)) {
				t.Errorf("a dead process runs: %s", r.stderr)
			}
			if c.args[0] == "start" && !strings.Contains(r.stderr, "pidfile stop --holders") {
				t.Errorf("it does not say what helps: %s", r.stderr)
			}
			call(t, "status", path).is(t, 0, regexp.QuoteMeta(lock))
			if !testproc.Alive(holder) {
				t.Error("the holder was harmed")
			}
		})
	}
}

// TestHolders: root ends who has the lock.
func TestHolders(t *testing.T) {
	parallel(t)
	for name, row := range map[string]struct {
		args []string
		out  string
	}{
		"stop":    {[]string{"stop", "--holders"}, "stopped"},
		"restart": {[]string{"restart", "--holders"}, "started, PID"},
		"run":     {[]string{"run", "--replace", "--holders"}, ""},
		"no kill": {[]string{"stop", "--holders", "--no-kill"}, "stopped"},
	} {
		t.Run(name, func(t *testing.T) {
			parallel(t)
			path, _, holder := keptOut(t)
			args := append(row.args, path)
			switch row.args[0] {
			case "restart":
				args = append(args, "--", "sleep", "1000")
			case "run":
				args = append(args, "--", "true")
			}
			r := call(t, args...)
			r.is(t, 0, row.out)
			if r.stderr != "" {
				t.Error(r.stderr)
			}
			if testproc.Alive(holder) {
				t.Error("the holder lives")
			}
			call(t, "stop", path).is(t, 0, "")
			if code, stderr := try(t, path, "true"); code != 0 {
				t.Errorf("the next start: exit code %d: %s", code, stderr)
			}
		})
	}
}

// TestHoldersOfOthers: an ordinary user ends nobody else's process, and is told.
func TestHoldersOfOthers(t *testing.T) {
	parallel(t)
	path, _, holder := keptOut(t)
	r := finish(t, ordinary(4321, exec.Command(publicBinary(t), "stop", "--holders", path)))
	if r.code != 4 || !strings.Contains(r.stderr, "not permitted") || !strings.Contains(r.stderr, fmt.Sprintf("PID %d (flock), user %d", holder, reader)) {
		t.Errorf("exit code %d: %s%s", r.code, r.stdout, r.stderr)
	}
	if !testproc.Alive(holder) {
		t.Error("the holder was harmed")
	}
	// The file is root's: its user alone may not have a say in it.
	finish(t, ordinary(reader, exec.Command(publicBinary(t), "stop", "--holders", path))).is(t, 0, "stopped")
}

// publicBinary is the command under test, where every user may run it.
func publicBinary(t *testing.T) string {
	t.Helper()
	path := filepath.Join(testproc.PublicDir(t), "pidfile")
	text, err := os.ReadFile(binary)
	testproc.Must(t, err, writeProgram(path, text))
	return path
}

// TestHoldersOfAnotherFile: the attacker makes the name lead to another service's
// file. --holders goes no further than stop does.
func TestHoldersOfAnotherFile(t *testing.T) {
	parallel(t)
	testproc.Root(t)
	dir := t.TempDir()
	victim := start(t, filepath.Join(dir, "victim.pid"), "sleep", "1000")
	pid := victim.command(t)
	link := filepath.Join(dir, "theirs")
	if err := os.Symlink(dir, link); err != nil {
		t.Fatal(err)
	}
	if err := os.Lchown(link, reader, reader); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(link, "victim.pid")
	for _, args := range [][]string{{"stop", path}, {"stop", "--holders", path}, {"signal", "TERM", path}, {"reload", path},
		{"stop", "--program", "cat", path}, {"run", "--replace", "--holders", path, "true"}} {
		r := call(t, args...)
		if want := map[bool]int{true: 75, false: 4}[args[0] == "run"]; r.code != want || !strings.Contains(r.stderr, "not trusted") {
			t.Errorf("%v: exit code %d, want %d: %s%s", args, r.code, want, r.stdout, r.stderr)
		}
	}
	if !testproc.Alive(pid) || !testproc.Alive(victim.Process.Pid) {
		t.Fatal("the victim was harmed")
	}
	// The caller's word.
	call(t, "signal", "--program", "sleep", "CONT", path).is(t, 0, "sent CONT")
	call(t, "stop", "--program", "sleep", path).is(t, 0, "stopped")
	victim.wait(t)
}

// TestStartOfZombie: what has ended, and is not reaped, does not run.
func TestStartOfZombie(t *testing.T) {
	parallel(t)
	path := filepath.Join(t.TempDir(), "a.pid")
	w := start(t, path, "sleep", "1000")
	pid := w.command(t)
	w.signal(t, unix.SIGSTOP)
	stopped(t, true, w.Process.Pid)
	kill(t, pid, unix.SIGKILL)
	r := call(t, "start", path, "--", "sleep", "1000")
	if r.code != 4 || !strings.Contains(r.stderr, fmt.Sprintf("PID %d has ended", pid)) || !strings.Contains(r.stderr, fmt.Sprintf("held by PID %d", w.Process.Pid)) {
		t.Errorf("exit code %d: %s%s", r.code, r.stdout, r.stderr)
	}
	w.signal(t, unix.SIGCONT)
	w.wait(t)
	works(t, path)
}

// TestStartAtTheEnd: a start while the old one ends either finds it alive, or starts.
func TestStartAtTheEnd(t *testing.T) {
	testproc.NotShort(t)
	race(t, testproc.Rounds(1000, 20, 5), func(path string, command *os.Process) []*exec.Cmd {
		var out bytes.Buffer
		c := exec.Command(binary, "start", "--ready", "10ms", path, "--", "sleep", "1000")
		c.Stdout, c.Stderr = &out, new(bytes.Buffer)
		if err := c.Start(); err != nil {
			t.Fatal(err)
		}
		all := atTheEnd(command, func() *exec.Cmd { return c })
		t.Cleanup(func() { killOrphans() })
		return all
	}, 0)
	killOrphans()
}

// TestFewDescriptors: where descriptors run out, every command ends.
func TestFewDescriptors(t *testing.T) {
	testproc.NotShort(t)
	parallel(t)
	path := filepath.Join(t.TempDir(), "a.pid")
	w := start(t, path, "sleep", "1000")
	pid := w.command(t)
	for n := 6; n < 16; n++ {
		for _, args := range []string{"signal CONT", "status", "wait -t 10ms", "signal TERM"} {
			if n > 6 && args == "signal TERM" {
				continue
			}
			c := exec.Command("sh", "-c", fmt.Sprintf(`ulimit -n %d; exec "$0" %s "$1"`, n, args), binary, path)
			var out bytes.Buffer
			c.Stdout, c.Stderr = &out, &out
			if err := c.Start(); err != nil {
				t.Fatal(err)
			}
			late := time.AfterFunc(testproc.Patience, func() { _ = c.Process.Kill() })
			code := exitCode(t, c.Wait())
			late.Stop()
			if code != 0 && code != 4 && code != 124 && code != 125 {
				t.Errorf("%d descriptors: %s: exit code %d: %s", n, args, code, &out)
			}
		}
	}
	_ = pid
}
