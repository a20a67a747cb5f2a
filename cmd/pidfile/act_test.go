//go:build linux

package main

import (
	"bytes"
	"encoding/json"
	"errors"
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
	"unsafe"

	"github.com/go-pidfile/pidfile/internal/testproc"
	"golang.org/x/sys/unix"
)

// With this in the environment the test's executable becomes the command under
// test, in a world without O_TMPFILE.
const noTmpfileEnv = "PIDFILE_TEST_NO_TMPFILE"

func init() {
	if command := os.Getenv(noTmpfileEnv); command != "" {
		os.Unsetenv(noTmpfileEnv)
		withoutTmpfile(append([]string{command}, os.Args[1:]...))
	}
}

// withoutTmpfile becomes argv under a seccomp(2) filter that lets each
// openat(2) with O_TMPFILE fail as on vfat. It does not return.
func withoutTmpfile(argv []string) {
	const (
		load   = unix.BPF_LD | unix.BPF_W | unix.BPF_ABS
		equal  = unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K
		subset = unix.BPF_JMP | unix.BPF_JSET | unix.BPF_K
		end    = unix.BPF_RET | unix.BPF_K
		flags  = 16 + 2*8 // offset of the third argument in struct seccomp_data
	)
	filter := []unix.SockFilter{
		{Code: load, K: 0},
		{Code: equal, Jf: 3, K: unix.SYS_OPENAT},
		{Code: load, K: flags},
		{Code: subset, Jf: 1, K: unix.O_TMPFILE &^ unix.O_DIRECTORY},
		{Code: end, K: unix.SECCOMP_RET_ERRNO | uint32(unix.EOPNOTSUPP)},
		{Code: end, K: unix.SECCOMP_RET_ALLOW},
	}
	prog := unix.SockFprog{Len: uint16(len(filter)), Filter: &filter[0]}
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		panic(err)
	}
	if _, _, e := unix.Syscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, unix.SECCOMP_FILTER_FLAG_TSYNC, uintptr(unsafe.Pointer(&prog))); e != 0 {
		fmt.Fprintln(os.Stderr, "seccomp:", e)
		os.Exit(99)
	}
	panic(syscall.Exec(argv[0], argv, os.Environ()))
}

// A result is what a command that has ended said.
type result struct {
	stdout, stderr string
	code           int
}

// call runs the command under test to its end.
func call(t *testing.T, args ...string) result {
	t.Helper()
	return finish(t, exec.Command(binary, args...))
}

// finish runs any command to its end.
func finish(t *testing.T, c *exec.Cmd) result {
	t.Helper()
	var stdout, stderr bytes.Buffer
	c.Stdout, c.Stderr = &stdout, &stderr
	code := exitCode(t, c.Run())
	return result{stdout.String(), stderr.String(), code}
}

// is checks an exit code and that stdout matches a pattern.
func (r result) is(t *testing.T, code int, pattern string) {
	t.Helper()
	if r.code != code || !regexp.MustCompile(pattern).MatchString(r.stdout) {
		t.Errorf("exit code %d, want %d; stdout, to match %q: %s; stderr: %s", r.code, code, pattern, r.stdout, r.stderr)
	}
}

// outcomes decodes what stop, signal, wait and clean print with --json.
func (r result) outcomes(t *testing.T) (all []outcome) {
	t.Helper()
	if err := json.Unmarshal([]byte(r.stdout), &all); err != nil {
		t.Fatalf("%v in %q; stderr: %s", err, r.stdout, r.stderr)
	}
	return all
}

// background starts any command; it is ended with the test.
func background(t *testing.T, c *exec.Cmd) *wrapper {
	t.Helper()
	w := &wrapper{Cmd: c, ended: make(chan struct{})}
	told, err := os.Create(filepath.Join(t.TempDir(), "stderr"))
	if err != nil {
		t.Fatal(err)
	}
	w.Stderr = told
	if err := w.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		w.err = w.Cmd.Wait()
		told.Close()
		close(w.ended)
	}()
	t.Cleanup(func() {
		_ = w.Process.Kill()
		<-w.ended
		killOrphans()
	})
	return w
}

// opens waits until a process has a descriptor of a kind, as /proc names it.
func opens(t *testing.T, pid int, kind string) {
	t.Helper()
	eventually(t, fmt.Sprintf("a %s of PID %d", kind, pid), func() bool {
		fds, _ := filepath.Glob(fmt.Sprintf("/proc/%d/fd/*", pid))
		return slices.ContainsFunc(fds, func(fd string) bool {
			target, _ := os.Readlink(fd)
			return strings.Contains(target, kind)
		})
	})
}

// awaitText waits until a file has a whole line, and returns all of it.
func awaitText(t *testing.T, path string) (text string) {
	t.Helper()
	eventually(t, path, func() bool {
		b, _ := os.ReadFile(path)
		text = string(b)
		return strings.HasSuffix(text, "\n")
	})
	return strings.TrimSpace(text)
}

func awaitPID(t *testing.T, path string) int {
	t.Helper()
	pid, err := strconv.Atoi(awaitText(t, path))
	if err != nil {
		t.Fatal(err)
	}
	return pid
}

// TestStopTogether: several are asked at once. Each ends only after all were
// asked; one after the other would need KILL.
func TestStopTogether(t *testing.T) {
	dir := t.TempDir()
	const n = 4
	asked := filepath.Join(dir, "asked")
	script := `trap 'echo >>"$1"; while [ $(wc -l <"$1") -lt $2 ]; do sleep .02; done; exit 0' TERM
		echo up >"$3"; while :; do sleep .05; done`
	args := []string{"stop", "-t", "1m", "--json"}
	var all []*wrapper
	var pids []int
	for i := range n {
		path := filepath.Join(dir, fmt.Sprintf("%d.pid", i))
		up := filepath.Join(dir, fmt.Sprintf("up%d", i))
		w := start(t, path, "sh", "-c", script, "sh", asked, strconv.Itoa(n), up)
		awaitText(t, up)
		all, pids, args = append(all, w), append(pids, w.command(t)), append(args, path)
	}
	r := call(t, args...)
	r.is(t, 0, "")
	for i, o := range r.outcomes(t) {
		if o.Path != all[i].path || o.PID != pids[i] || !strings.Contains(o.Result, fmt.Sprintf("PID %d stopped (TERM, ", pids[i])) || o.Error != "" {
			t.Errorf("the %dth of %v: %+v", i, pids, o)
		}
		if code := all[i].wait(t); code != 0 {
			t.Errorf("the %dth: exit code %d", i, code)
		}
		noFile(t, all[i].path)
	}
}

// TestStopSuccessor: two shell loops keep the program running under one file; as
// soon as one has been stopped, the other's takes over. Stop tells who that is.
func TestStopSuccessor(t *testing.T) {
	dir := t.TempDir()
	path, enough := filepath.Join(dir, "a.pid"), filepath.Join(dir, "enough")
	loop := `while [ ! -e "$2" ]; do pidfile run -q -w --exec "$1" sleep 1000; done`
	var loops []*wrapper
	for range 2 {
		loops = append(loops, background(t, exec.Command("sh", "-c", loop, "sh", path, enough)))
	}
	pattern := regexp.MustCompile(`: PID (\d+) stopped \((?:TERM|KILL), [^)]*\)(?:; PID (\d+) has taken its place)?\n$`)
	var stopped []string
	successor := ""
	tries := 0
	told := until(func() bool {
		tries++
		r := call(t, "stop", path)
		if r.code == 4 { // a start is under way: its PID is not there yet
			return false
		}
		if r.code == 0 && strings.HasSuffix(r.stdout, ": not running\n") {
			return false // one has ended, the other is not there yet
		}
		m := pattern.FindStringSubmatch(r.stdout)
		if r.code != 0 || m == nil {
			t.Fatalf("stop: exit code %d: %s%s", r.code, r.stdout, r.stderr)
		}
		if slices.Contains(stopped, m[1]) {
			t.Fatalf("PID %s was stopped twice", m[1])
		}
		stopped = append(stopped, m[1])
		successor = m[2]
		return successor != ""
	})
	if !told {
		t.Fatalf("no successor was told of in %d tries", tries)
	}
	t.Logf("told in try %d", tries)
	if slices.Contains(stopped, successor) {
		t.Errorf("the successor %s is one that was stopped: %v", successor, stopped)
	}
	if pid, err := strconv.Atoi(successor); err != nil || !alive(pid) {
		t.Errorf("the successor %s does not live", successor)
	}
	writeFile(t, enough, "")
	eventually(t, "the end of both loops", func() bool {
		call(t, "stop", path)
		for _, w := range loops {
			select {
			case <-w.ended:
			default:
				return false
			}
		}
		return true
	})
	call(t, "status", path).is(t, 1, "stale") // the last with --exec leaves its file
}

// TestStopThenRun: "stop && run", the usual way to restart, works: the wrapper's
// end belongs to the program's.
func TestStopThenRun(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a.pid")
	const kept = "; its lock is still held: see 'pidfile status --explain "
	if !until(func() bool {
		w := start(t, path, "sleep", "1000")
		pid := w.command(t)
		w.signal(t, unix.SIGSTOP) // as good as a machine that is too busy for it
		stopped(t, true, w.Process.Pid)
		var stdout bytes.Buffer
		c := exec.Command(binary, "stop", path)
		c.Stdout = &stdout
		stop := background(t, c)
		eventually(t, "stop's end, or that it waits for the wrapper", func() bool { return blocked(path) > 0 || !alive(c.Process.Pid) })
		w.signal(t, unix.SIGCONT)
		code := stop.wait(t)
		if code != 0 || !strings.Contains(stdout.String(), fmt.Sprintf("PID %d stopped (TERM, ", pid)) {
			t.Fatalf("stop: exit code %d: %s", code, &stdout)
		}
		if strings.Contains(stdout.String(), kept) { // too busy for this test, too
			w.wait(t)
			return false
		}
		works(t, path)
		w.wait(t)
		return true
	}) {
		t.Error("stop never waits for the wrapper")
	}
	// If the lock is not given back, that is told, and not waited for.
	w := start(t, path, "sleep", "1000")
	pid := w.command(t)
	w.signal(t, unix.SIGSTOP)
	stopped(t, true, w.Process.Pid)
	call(t, "stop", path).is(t, 0, fmt.Sprintf(`: PID %d stopped \(TERM, [^)]*\)%s`, pid, regexp.QuoteMeta(kept+path+"'")))
	w.signal(t, unix.SIGCONT)
	w.wait(t)
	works(t, path)
}

// TestStopWhileItEnds: what runs has just ended, and its wrapper has not given the
// file back yet. Stop waits for that instead of saying that nothing is proven.
func TestStopWhileItEnds(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a.pid")
	if !until(func() bool {
		w := start(t, path, "sleep", "1000")
		pid := w.command(t)
		w.signal(t, unix.SIGSTOP)
		stopped(t, true, w.Process.Pid)
		kill(t, pid, unix.SIGKILL)
		var stdout bytes.Buffer
		c := exec.Command(binary, "stop", "--json", path)
		c.Stdout = &stdout
		stop := background(t, c)
		eventually(t, "stop's end, or that it waits for the wrapper", func() bool { return blocked(path) > 0 || !alive(c.Process.Pid) })
		w.signal(t, unix.SIGCONT)
		code := stop.wait(t)
		w.wait(t)
		noFile(t, path)
		if code == 4 && strings.Contains(stdout.String(), "has ended") { // too busy for this test
			return false
		}
		if code != 0 || !strings.Contains(stdout.String(), `"result": "not running"`) {
			t.Fatalf("stop: exit code %d: %s", code, &stdout)
		}
		return true
	}) {
		t.Error("stop never waits for the wrapper")
	}
}

// TestStopProgress: a terminal shows who is waited for, and what comes.
func TestStopProgress(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a.pid")
	w := start(t, path, "sh", "-c", `trap "" TERM; echo up >"$0"; exec sleep 1000`, path+".up")
	awaitText(t, path+".up")
	pid := w.command(t)
	p := newPseudoTerminal(t)
	c := p.run(t, exec.Command(binary, "stop", "-t", "1", path))
	if code := c.wait(t); code != 0 {
		t.Errorf("exit code %d", code)
	}
	<-p.ended
	screen := p.shows()
	// The first picture may come before the process is found.
	if !strings.Contains(screen, "pidfile: stopping") && !strings.Contains(screen, fmt.Sprintf("of 1s for PID %d, then KILL", pid)) {
		t.Errorf("it is not shown what is waited for: %q", screen)
	}
	if want := fmt.Sprintf("\r\x1b[K%s: PID %d stopped (KILL, ", path, pid); !strings.Contains(screen, want) {
		t.Errorf("the terminal shows %q, without %q at the end", screen, want)
	}
	if code := w.wait(t); code != 137 {
		t.Errorf("the wrapper's exit code %d", code)
	}
}

// TestSignalNames: all ways to write a signal, and that each comes as it is.
func TestSignalNames(t *testing.T) {
	dir := t.TempDir()
	path, log := filepath.Join(dir, "a.pid"), filepath.Join(dir, "log")
	env, command := helperCommand(t, "signals")
	w := prepare(t, path, command)
	w.Env = append(env, "LOG="+log)
	w.begin(t)
	awaitReady(t, log)
	pid := w.command(t)
	var want []string
	for _, one := range []struct{ arg, name string }{
		{"HUP", "SIGHUP"}, {"SIGHUP", "SIGHUP"}, {"1", "SIGHUP"}, {"hup", "SIGHUP"}, {"sighup", "SIGHUP"}, {"SigHup", "SIGHUP"},
		{"usr1", "SIGUSR1"}, {"12", "SIGUSR2"}, {"WINCH", "SIGWINCH"}, {"15", "SIGTERM"}, {"SIGTERM", "SIGTERM"},
		{"int", "SIGINT"}, {"SIGQUIT", "SIGQUIT"}, {"18", "SIGCONT"},
	} {
		call(t, "signal", one.arg, path).is(t, 0, fmt.Sprintf(`^%s: sent %s to PID %d\n$`, path, strings.ToUpper(one.arg), pid))
		want = append(want, one.name)
		sees(t, log, want...)
	}
	for _, bad := range []string{"FOO", "0", "65", "SIG", "", "SIGSIGHUP", "1x", "HUP ", "HUP,INT", "+1", "01", "-1", "0x1", "1.0"} {
		if r := call(t, "signal", "--", bad, path); r.code != 125 || r.stdout != "" || !strings.Contains(r.stderr, "invalid signal") {
			t.Errorf("signal %q: exit code %d, want 125: %s%s", bad, r.code, r.stdout, r.stderr)
		}
	}
	call(t, "signal", "USR1", path).is(t, 0, "")
	sees(t, log, append(want, "SIGUSR1")...) // and nothing in between
	call(t, "signal", "KILL", path).is(t, 0, "")
	if code := w.wait(t); code != 137 {
		t.Errorf("exit code %d, want 137", code)
	}
	noFile(t, path)
}

// TestWaitEnds: wait sleeps until the process has ended, and exits as it did.
func TestWaitEnds(t *testing.T) {
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
			t.Run(fmt.Sprint(one.ends, args), func(t *testing.T) {
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
	opens(t, c.Process.Pid, "pidfd")
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
	dir := t.TempDir()
	var all []*wrapper
	args := []string{"wait"}
	for i := range 3 {
		w := start(t, filepath.Join(dir, fmt.Sprintf("%d.pid", i)), "sh", "-c", "read x; exit 1")
		w.command(t)
		all, args = append(all, w), append(args, w.path)
	}
	c := background(t, exec.Command(binary, args...))
	opens(t, c.Process.Pid, "pidfd")
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
	dir := t.TempDir()
	t.Run("new", func(t *testing.T) {
		path := filepath.Join(dir, "a.pid")
		var stdout bytes.Buffer
		c := exec.Command(binary, "wait", "--running", "--json", path)
		c.Stdout = &stdout
		waiter := background(t, c)
		opens(t, c.Process.Pid, "inotify")
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
		needs(t, "flock")
		path := filepath.Join(dir, "b.pid")
		writeFile(t, path, fmt.Sprintln(deadPID(t)))
		c := background(t, exec.Command(binary, "wait", "--running", path))
		opens(t, c.Process.Pid, "inotify")
		holder := background(t, exec.Command("flock", path, "sleep", "1000"))
		if code := c.wait(t); code != 0 {
			t.Errorf("exit code %d", code)
		}
		_ = holder
	})
	t.Run("both", func(t *testing.T) {
		one, two := filepath.Join(dir, "c.pid"), filepath.Join(dir, "d.pid")
		c := background(t, exec.Command(binary, "wait", "--running", one, two))
		opens(t, c.Process.Pid, "inotify")
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

// TestStrayChild: wrapper and COMMAND are killed, a child of COMMAND's keeps the
// lock. It is named, and harmed by nobody.
func TestStrayChild(t *testing.T) {
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

	for _, args := range [][]string{{"stop", path}, {"stop", "-t", "0", path}, {"signal", "TERM", path}} {
		if r := call(t, args...); r.code != 4 || !strings.Contains(r.stderr, fmt.Sprintf("PID %d (sleep)", child)) {
			t.Errorf("%v: exit code %d, want 4, and the child's name: %s", args, r.code, r.stderr)
		}
	}
	call(t, "clean", path).is(t, 0, "left alone, running")
	call(t, "wait", "-t", "20ms", path).is(t, 124, "still running")
	if code, _ := try(t, path, "true"); code != 75 {
		t.Errorf("a second start: exit code %d, want 75", code)
	}
	if !alive(child) {
		t.Fatal("the child was harmed")
	}
	c := background(t, exec.Command(binary, "wait", path))
	eventually(t, "a waiter", func() bool { return blocked(path) > 0 })
	kill(t, child, unix.SIGKILL)
	if code := c.wait(t); code != 0 {
		t.Errorf("wait: exit code %d", code)
	}
	works(t, path)
}

// TestInNamespace: where flock(1)'s locks from outside cannot be seen, as in a
// container, nothing that others may have locked is stale, and what takes a lock
// is sure nonetheless.
func TestInNamespace(t *testing.T) {
	testproc.Root(t)
	needs(t, "unshare")
	needs(t, "flock")
	dir := testproc.MemoryDir(t) // older than the namespace
	dead, locked := filepath.Join(dir, "dead.pid"), filepath.Join(dir, "locked.pid")
	writeFile(t, dead, "4194304\n")
	writeFile(t, locked, "4194304\n")
	background(t, exec.Command("flock", locked, "sh", "-c", "echo up >"+dir+"/up; exec sleep 1000"))
	awaitText(t, filepath.Join(dir, "up"))
	inside := func(args ...string) result {
		return finish(t, exec.Command("unshare", append([]string{"-p", "-f", "--mount-proc", binary}, args...)...))
	}
	for _, path := range []string{dead, locked} {
		inside("status", path).is(t, 4, `: unknown, names PID 4194304: the file is not locked, as far as can be seen from here; .*cannot be seen`)
	}
	inside("list", dir).is(t, 0, `(?s)^STATE .*unknown  4194304 .*dead\.pid.*unknown  4194304 .*locked\.pid`)
	inside("stop", dead).is(t, 0, `: not running\n$`)
	inside("wait", dead).is(t, 0, `: not running\n$`)
	inside("wait", "-t", "20ms", locked).is(t, 124, `: still running\n$`)
	if r := inside("stop", locked); r.code != 4 || !strings.Contains(r.stderr, "not proven") {
		t.Errorf("stop: exit code %d: %s%s", r.code, r.stdout, r.stderr)
	}
	inside("clean", "-n", dir).is(t, 0, `^$`)
	inside("clean", "-n", dead).is(t, 0, `left alone, unknown`)
	inside("clean", locked).is(t, 0, `left alone, unknown`)
	inside("clean", dir).is(t, 0, `^`+dead+`: removed: .*but it could be locked\n$`)
	noFile(t, dead)
	if _, err := os.Lstat(locked); err != nil {
		t.Error(err)
	}
}

// TestListJSON holds the names that programs rely on, and that they are those of
// status.
func TestListJSON(t *testing.T) {
	dir := t.TempDir()
	held, stale := filepath.Join(dir, "held.pid"), filepath.Join(dir, "stale.pid")
	w := start(t, held, "sleep", "1000")
	w.command(t)
	writeFile(t, stale, "none\n")
	list, code := output(t, "list", "--json", dir)
	status, _ := output(t, "status", "--json", held, stale)
	started := regexp.MustCompile(`"started": ".*"`)
	if code != 0 || !bytes.Equal(started.ReplaceAll(list, nil), started.ReplaceAll(status, nil)) {
		t.Errorf("exit code %d; list says\n%s and status\n%s", code, list, status)
	}
	w.stop(t)
	if !bytes.Equal(started.Find(list), started.Find(status)) {
		t.Errorf("list says\n%s and status\n%s", list, status)
	}
}

// TestListTerminal: a terminal gets colours, and lines no longer than it is wide.
func TestListTerminal(t *testing.T) {
	dir := t.TempDir()
	held := filepath.Join(dir, "held.pid")
	long := strings.Repeat("long äöü 漢字 ", 40)
	w := start(t, held, "sh", "-c", "read x; exit 0", "sh", long)
	w.command(t)
	writeFile(t, filepath.Join(dir, "stale.pid"), "none\n")
	if err := os.Mkdir(filepath.Join(dir, "x.pid"), 0o755); err != nil { // no file
		t.Fatal(err)
	}
	show := func(width uint16, env ...string) (lines []string, raw string) {
		p := newPseudoTerminal(t)
		p.resize(t, width)
		c := exec.Command(binary, "list", dir)
		c.Env = append(slices.DeleteFunc(os.Environ(), func(s string) bool { return strings.HasPrefix(s, "NO_COLOR=") }), env...)
		if code := p.run(t, c).wait(t); code != 0 {
			t.Errorf("exit code %d", code)
		}
		<-p.ended
		raw = p.shows()
		for line := range strings.SplitSeq(strings.TrimSuffix(raw, "\r\n"), "\r\n") {
			lines = append(lines, regexp.MustCompile("\x1b\\[[0-9]*m").ReplaceAllString(line, ""))
		}
		if len(lines) != 3 {
			t.Fatalf("%d lines, want 3: %q", len(lines), raw)
		}
		return lines, raw
	}
	wide := uint16(len(held) + 130)
	for _, width := range []uint16{wide, 100, 40, 12} {
		lines, raw := show(width)
		for _, line := range lines {
			n := len([]rune(line)) + strings.Count(line, "漢") + strings.Count(line, "字") // two columns each
			if n > int(width) || strings.ContainsAny(line, "\x1b\r\n") {
				t.Errorf("%d columns of %d: %q", n, width, line)
			}
		}
		if !strings.HasSuffix(lines[1], "…") {
			t.Errorf("width %d: it is not shown that the line was cut: %q", width, lines[1])
		}
		for _, colour := range []string{"\x1b[32m", "\x1b[33m"} {
			if !strings.Contains(raw, "\r\n"+colour) {
				t.Errorf("width %d: no colour %q in %q", width, colour, raw)
			}
		}
		if ends := strings.Count(raw, "\x1b[0m"); ends != 2 {
			t.Errorf("width %d: %d colours end, not 2: %q", width, ends, raw)
		}
		if width == wide && !regexp.MustCompile(`held\.pid +sh -c read x; exit 0 sh long äöü 漢字 long`).MatchString(lines[1]) {
			t.Errorf("the command is not shown: %q", lines[1])
		}
	}
	if lines, raw := show(100, "NO_COLOR=1"); strings.Contains(raw, "\x1b") || columns(lines[1]) < 99 {
		t.Errorf("with NO_COLOR the terminal shows %q", raw)
	}
	// An empty one is none, no-color.org.
	if _, raw := show(100, "NO_COLOR="); !strings.Contains(raw, "\x1b[32m") {
		t.Errorf("with an empty NO_COLOR the terminal shows %q", raw)
	}
	// No terminal: all of it, and no colour.
	r := call(t, "list", dir)
	r.is(t, 0, regexp.QuoteMeta(strings.TrimSpace(long))+" *\n")
	if strings.ContainsAny(r.stdout, "\x1b…") {
		t.Errorf("a pipe gets %q", r.stdout)
	}
	w.stdin.Close()
	w.wait(t)
}

// hostile is a command line that talks to a terminal: it sets the title, clears
// the screen, begins a line of its own, rings, and writes from right to left.
const hostile = "\x1b]0;title\x07\x1b[2J\nrunning  1 \r\x9b31m\u009b31m\u202egnp\xff\x7f"

// harmless checks that a text is printable, line by line.
func harmless(t *testing.T, what, text string) {
	t.Helper()
	for line := range strings.Lines(text) {
		if i := strings.IndexFunc(strings.TrimSuffix(line, "\n"), func(r rune) bool {
			return r < ' ' || r >= 0x7f && r < 0xa0 || r == 0x202e || r == 0xfffd
		}); i >= 0 {
			t.Errorf("%s prints what a terminal obeys: %q", what, line)
		}
	}
}

// TestHostileCommandLine: what stands in a command line is its user's text.
func TestHostileCommandLine(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "a.pid")
	w := start(t, path, "sh", "-c", "read x; exit 0", "sh", hostile)
	w.command(t)
	for _, args := range [][]string{
		{"list", dir}, {"status", path}, {"status", "--explain", path},
		{"wait", "--running", path}, {"run", path, "true"},
	} {
		r := call(t, args...)
		harmless(t, args[0]+" "+args[1], r.stdout+r.stderr)
		if args[0] == "list" && args[1] == dir && strings.Count(r.stdout, "\n") != 2 {
			t.Errorf("not two lines: %q", r.stdout)
		}
	}
	var all []struct{ Process struct{ Args []string } }
	out, _ := output(t, "status", "--json", path)
	harmless(t, "status --json", string(out))
	if err := json.Unmarshal(out, &all); err != nil {
		t.Fatalf("%v in %s", err, out)
	}
	if got, want := all[0].Process.Args[4], strings.ToValidUTF8(hostile, ""); strings.ReplaceAll(got, "\ufffd", "") != want {
		t.Errorf("JSON has %q, want %q", got, want)
	}
	w.stdin.Close()
	w.wait(t)
}

// TestHostileName: the same for the name that a process gives itself, which
// stands in the evidence.
func TestHostileName(t *testing.T) {
	needs(t, "flock")
	dir := t.TempDir()
	path, locked := filepath.Join(dir, "a.pid"), filepath.Join(dir, "locked.pid")
	c := exec.Command("sleep", "1000")
	c.Args[0] = hostile
	w := background(t, c)
	writeFile(t, path, fmt.Sprintln(w.Process.Pid))
	writeFile(t, locked, fmt.Sprintln(w.Process.Pid))
	holder := background(t, exec.Command("flock", locked, "sh", "-c", "echo up >"+locked+".up; exec sleep 1000"))
	awaitText(t, locked+".up")
	_ = holder
	for _, args := range [][]string{{"status", "--explain", path}, {"clean", path}, {"doctor", path}, {"stop", locked}, {"signal", "CONT", locked}, {"status", "--explain", locked}} {
		r := call(t, args...)
		harmless(t, args[0], r.stdout+r.stderr)
	}
}

// TestHostileFileName: and for names of files that others made.
func TestHostileFileName(t *testing.T) {
	dir := t.TempDir()
	writeFile(t, filepath.Join(dir, "\x1b[2J\nx.pid"), "none\n")
	harmless(t, "list", call(t, "list", dir).stdout)
	harmless(t, "clean", call(t, "clean", "-n", dir).stdout)
}

// TestDoctorJSON holds the names that programs rely on.
func TestDoctorJSON(t *testing.T) {
	dir := t.TempDir()
	check := func(code int) (all []map[string]any) {
		t.Helper()
		r := call(t, "doctor", "--json", dir)
		if err := json.Unmarshal([]byte(r.stdout), &all); err != nil || r.code != code || len(all) < 5 || r.stderr != "" {
			t.Fatalf("%v; exit code %d, want %d: %s%s", err, r.code, code, r.stdout, r.stderr)
		}
		fine := true
		for _, f := range all {
			ok, isBool := f["ok"].(bool)
			what, _ := f["what"].(string)
			hint, _ := f["hint"].(string)
			if !isBool || what == "" || !ok && hint == "" {
				t.Errorf("a finding: %v", f)
			}
			for field := range f {
				if !slices.Contains([]string{"id", "what", "ok", "hint"}, field) {
					t.Errorf("an undocumented field: %v", f)
				}
			}
			fine = fine && ok
		}
		if fine != (code == 0) {
			t.Errorf("exit code %d, but all is fine: %v", code, fine)
		}
		if left, err := os.ReadDir(dir); err != nil || len(left) != 0 {
			t.Errorf("left in %s: %v %v", dir, left, err)
		}
		return all
	}
	check(0)
	if err := os.Chmod(dir, 0o777); err != nil {
		t.Fatal(err)
	}
	check(1)
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
}

// TestDoctorWithoutTmpfile: where a file cannot be born locked all is fine, but
// that is told.
func TestDoctorWithoutTmpfile(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	c := exec.Command(self, "doctor", dir)
	c.Env = append(os.Environ(), noTmpfileEnv+"="+binary)
	r := finish(t, c)
	if r.code == 99 {
		testproc.Skip(t, "seccomp", r.stderr)
	}
	withoutBirth(t, dir, r)
	// The start and the stop of such a file.
	path := filepath.Join(dir, "a.pid")
	w := prepare(t, path, "sleep", "1000")
	w.Path, w.Env = self, append(os.Environ(), noTmpfileEnv+"="+binary)
	w.begin(t)
	pid := w.command(t)
	call(t, "status", "--explain", path).is(t, 0, fmt.Sprintf("PID %d has the file open with the lock", pid))
	call(t, "stop", path).is(t, 0, fmt.Sprintf(`PID %d stopped \(TERM`, pid))
	w.wait(t)
	noFile(t, path)
}

func withoutBirth(t *testing.T, dir string, r result) {
	t.Helper()
	r.is(t, 0, `(?m)^ok    two processes take one file in turns`)
	r.is(t, 0, `(?m)^note  files are created locked: no \(O_TMPFILE and link: .*\)$`)
	r.is(t, 0, `(?m)^`+dir+`: fine$`)
	if left, err := os.ReadDir(dir); err != nil || slices.ContainsFunc(left, func(e os.DirEntry) bool { return strings.Contains(e.Name(), "doctor") }) {
		t.Errorf("left in %s: %v %v", dir, left, err)
	}
}

// TestDoctorFAT tries a file system without links and O_TMPFILE: FAT's, by the
// kernel or by FUSE.
func TestDoctorFAT(t *testing.T) {
	testproc.Root(t)
	needs(t, "unshare")
	var why []string
	for _, fat := range []struct{ name, mkfs, mount string }{
		{"vfat", "mkfs.vfat", `mount -t vfat -o loop,umask=022 "$0" "$1"`},
		{"exfat", "mkfs.exfat", `mount -t exfat -o loop,umask=022 "$0" "$1"`},
		// Its daemon ends with the mount, which ends with the namespace.
		{"exfat, by FUSE", "mkfs.exfat", `mount.exfat-fuse -o umask=022 "$(losetup --find --show "$0")" "$1"`},
	} {
		if _, err := exec.LookPath(fat.mkfs); err != nil {
			why = append(why, fat.name+": no "+fat.mkfs)
			continue
		}
		dir := t.TempDir()
		image, mount := filepath.Join(dir, "image"), filepath.Join(dir, "m")
		writeFile(t, image, "")
		if err := errors.Join(os.Truncate(image, 8<<20), os.Mkdir(mount, 0o755)); err != nil {
			t.Fatal(err)
		}
		if r := finish(t, exec.Command(fat.mkfs, image)); r.code != 0 {
			t.Fatalf("%s: %s", fat.mkfs, r.stderr)
		}
		// A mount namespace of its own: it ends with the shell, whatever comes.
		r := finish(t, exec.Command("unshare", "-m", "sh", "-c", `exec 2>&1
			trap 'umount "$1" && losetup -j "$0" | cut -d: -f1 | xargs -r losetup -d' EXIT
			`+fat.mount+` || { trap "" EXIT; losetup -j "$0" | cut -d: -f1 | xargs -r losetup -d; exit 99; }
			pidfile doctor "$1" || exit
			pidfile run "$1/a.pid" sh -c 'pidfile status --explain "$0"' "$1/a.pid" || exit
			ls -A "$1"`, image, mount))
		if r.code == 99 {
			why = append(why, fat.name+": "+strings.TrimSpace(r.stdout))
			continue
		}
		t.Logf("%s:\n%s", fat.name, r.stdout)
		withoutBirth(t, mount, r)
		r.is(t, 0, `(?m)^`+regexp.QuoteMeta(mount)+`/a\.pid: running, PID`)
		if strings.HasSuffix(r.stdout, "pid\n") || strings.Contains(r.stdout, ".link\n") {
			t.Errorf("files are left: %s", r.stdout)
		}
		return
	}
	testproc.Skip(t, "FAT", "none can be mounted here: ", strings.Join(why, "; "))
}

// TestHelpOfActs: each help names all exit codes that the command has.
func TestHelpOfActs(t *testing.T) {
	for name, codes := range map[string][]int{
		"status": {0, 1, 3, 4, 125}, "stop": {0, 1, 4, 125}, "signal": {0, 3, 4, 125}, "wait": {0, 4, 124, 125},
		"list": {0, 125}, "clean": {0, 125}, "doctor": {0, 1, 125},
	} {
		r := call(t, name, "--help")
		r.is(t, 0, `(?m)^Usage:\n  pidfile `+name+` \[flags\] .*(PIDFILE|DIR)`)
		r.is(t, 0, `(?m)^Examples:\n(  pidfile `+name+` ?.*\n)+`)
		for _, code := range codes {
			r.is(t, 0, fmt.Sprintf(`(?m)^Exit codes[^\n]*:(\n.+)*\n  %d +[a-z]`, code))
		}
		for _, flag := range []string{"--json", "--help"} {
			r.is(t, 0, `(?m)^Flags:\n(.*\n)*.*`+flag+` `)
		}
		for line := range strings.Lines(r.stdout) {
			if n := len([]rune(line)); n > 100 || strings.Contains(line, "\t") {
				t.Errorf("%s: a line of %d columns, or with a tabulator: %q", name, n, line)
			}
		}
		if r.stderr != "" {
			t.Errorf("%s: stderr: %s", name, r.stderr)
		}
		// A mistake is answered by one line and a hint, not by the whole help.
		r = call(t, name, "--no-such-flag")
		if r.code != 125 || r.stdout != "" || strings.Count(r.stderr, "\n") != 2 || !strings.Contains(r.stderr, "pidfile "+name+" --help") {
			t.Errorf("%s --no-such-flag: exit code %d: %s%s", name, r.code, r.stdout, r.stderr)
		}
	}
}
