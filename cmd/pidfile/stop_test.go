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
	"golang.org/x/sys/unix"
)

// TestStopTogether: several are asked at once. Each ends only after all were
// asked; one after the other would need KILL.
func TestStopTogether(t *testing.T) {
	parallel(t)
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
	parallel(t)
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
	told := testproc.Until(func() bool {
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
	if pid, err := strconv.Atoi(successor); err != nil || !testproc.Alive(pid) {
		t.Errorf("the successor %s does not live", successor)
	}
	writeFile(t, enough, "")
	testproc.Eventually(t, "the end of both loops", func() bool {
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
	testproc.NotShort(t)
	parallel(t)
	path := filepath.Join(t.TempDir(), "a.pid")
	const kept = "; its lock is still held: see 'pidfile status --explain "
	if !testproc.Until(func() bool {
		w := start(t, path, "sleep", "1000")
		pid := w.command(t)
		w.signal(t, unix.SIGSTOP) // as good as a machine that is too busy for it
		stopped(t, true, w.Process.Pid)
		var stdout bytes.Buffer
		c := exec.Command(binary, "stop", path)
		c.Stdout = &stdout
		stop := background(t, c)
		testproc.Eventually(t, "stop's end, or that it waits for the wrapper", func() bool { return testproc.Blocked(path) > 0 || !testproc.Alive(c.Process.Pid) })
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
	parallel(t)
	path := filepath.Join(t.TempDir(), "a.pid")
	if !testproc.Until(func() bool {
		w := start(t, path, "sleep", "1000")
		pid := w.command(t)
		w.signal(t, unix.SIGSTOP)
		stopped(t, true, w.Process.Pid)
		kill(t, pid, unix.SIGKILL)
		var stdout bytes.Buffer
		c := exec.Command(binary, "stop", "--json", path)
		c.Stdout = &stdout
		stop := background(t, c)
		testproc.Eventually(t, "stop's end, or that it waits for the wrapper", func() bool { return testproc.Blocked(path) > 0 || !testproc.Alive(c.Process.Pid) })
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
	parallel(t)
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
	parallel(t)
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
