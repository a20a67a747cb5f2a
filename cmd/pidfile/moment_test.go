//go:build linux

package main

import (
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/go-pidfile/pidfile/internal/testproc"
	"golang.org/x/sys/unix"
)

// storyteller is a short COMMAND that tells what happened to it: once it has told
// "in" it ends with 7 by itself, with 9 by a TERM, and in no other way.
const storyteller = `trap "echo term >>$0; exit 9" TERM; echo in >>$0; sleep .004; trap "" TERM; echo out >>$0; exit 7`

// A termed is a run whose wrapper got a TERM, at a random moment or not at all.
type termed struct {
	code  int
	early bool // the TERM ended the wrapper itself
	story string
	left  []int  // processes
	file  string // what PIDFILE says, "" if it is gone
}

// wrong says what is wrong with it, for a PIDFILE that said stale before.
func (r termed) wrong(stale string) string {
	told := func(word string) bool { return slices.Contains(strings.Fields(r.story), word) }
	switch {
	case len(r.left) > 0:
		return fmt.Sprintf("COMMAND survived, as %d", r.left)
	case r.file != "" && !(r.early && r.file == stale): // which it had not come to look at
		return fmt.Sprintf("the file stays, and says %q", r.file)
	case r.early && told("in"):
		return "the wrapper ended before COMMAND"
	case r.code == 7 && !told("out"), r.code == 9 && !told("term"), r.code == 143 && told("in"):
		return fmt.Sprintf("exit code %d is a lie: COMMAND told %q", r.code, r.story)
	case r.code != 7 && r.code != 9 && r.code != 143:
		return fmt.Sprintf("exit code %d", r.code)
	}
	return ""
}

// term starts c, which has storyteller write to log, sends TERM after delay, if
// that is not negative, and returns how it went and how long it took.
func term(t *testing.T, c *exec.Cmd, path, log string, delay time.Duration) (r termed, took time.Duration) {
	t.Helper()
	_ = os.Remove(log)
	began := time.Now()
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	if delay >= 0 {
		time.Sleep(delay)
		_ = c.Process.Signal(unix.SIGTERM) // not reaped yet
	}
	r.code = exitCode(t, c.Wait())
	took = time.Since(began)
	r.early = c.ProcessState.Sys().(syscall.WaitStatus).Signaled()
	// COMMAND is reaped by the wrapper. If it were not, it would be ours.
	r.left = testproc.Children(os.Getpid())
	story, _ := os.ReadFile(log)
	file, _ := os.ReadFile(path)
	r.story, r.file = string(story), string(file)
	killOrphans()
	_ = os.Remove(path)
	return r, took
}

// TestTermAnywhere sends TERM to the wrapper at a random moment, from its start to
// the end of a short COMMAND. Whatever moment that is, COMMAND does not survive,
// the file does not stay, and the exit code is no lie.
func TestTermAnywhere(t *testing.T) {
	killOrphans() // of earlier tests
	dir := t.TempDir()
	path, log := filepath.Join(dir, "a.pid"), filepath.Join(dir, "log")
	stale := fmt.Sprintln(testproc.DeadPID(t))
	variants := [][]string{{}, {"--group"}, {"--tree"}, {"--die-together"}, {"--max-runtime=1m", "--close"}}
	command := func(i int) *exec.Cmd {
		return exec.Command(binary, slices.Concat([]string{"run"}, variants[i%len(variants)], []string{path, "sh", "-c", storyteller, log})...)
	}
	var span time.Duration // of an undisturbed one
	for i := range 10 {
		r, took := term(t, command(i), path, log, -1)
		if r.code != 7 || r.wrong("") != "" {
			t.Fatalf("without a TERM: %+v: %s", r, r.wrong(""))
		}
		span += took / 10
	}
	codes := map[string]int{}
	n := testproc.Rounds(2000, 200, 20)
	for i := range n {
		before := ""
		if i%2 == 1 {
			before = stale
			writeFile(t, path, stale)
		}
		r, _ := term(t, command(i), path, log, rand.N(span*11/10))
		if wrong := r.wrong(before); wrong != "" {
			t.Errorf("run %d, %v: %s: %+v", i, variants[i%len(variants)], wrong, r)
		}
		name := strconv.Itoa(r.code)
		if r.early {
			name = "early"
		}
		codes[name]++
	}
	t.Logf("%d runs in a span of %v: %v", n, span.Round(time.Microsecond), codes)
	for _, must := range []string{"early", "7", "9"} {
		if n >= 200 && codes[must] == 0 {
			t.Errorf("none was %s: the moments are not spread: %v", must, codes)
		}
	}
}

// TestTermNegativeControl has the same harness judge what a shell does in the
// place of pidfile.
func TestTermNegativeControl(t *testing.T) {
	testproc.NotShort(t)
	killOrphans() // of earlier tests
	dir := t.TempDir()
	path, log := filepath.Join(dir, "a.pid"), filepath.Join(dir, "log")
	naive := `echo $$ >"$1"; sh -c "$2" "$3"; code=$?; rm "$1"; exit $code`

	for i := range 500 {
		r, _ := term(t, exec.Command("sh", "-c", naive, "sh", path, storyteller, log), path, log, rand.N(10*time.Millisecond))
		if wrong := r.wrong(""); wrong != "" {
			t.Logf("caught at run %d: %s", i, wrong)
			return
		}
	}
	t.Error("a wrapper that does nothing about signals was never caught")
}

// TestStartsLeaveNothing: neither a process nor a file, however they end.
func TestStartsLeaveNothing(t *testing.T) {
	testproc.NotShort(t)
	dir := t.TempDir()
	path := filepath.Join(dir, "a.pid")
	files := func() (names []string) {
		entries, _ := os.ReadDir(dir)
		for _, e := range entries {
			names = append(names, e.Name())
		}
		return names
	}
	killOrphans() // of earlier tests
	for i := range testproc.Rounds(50, 5, 1) {
		for _, line := range []struct {
			args string
			code int
		}{
			{"start -q --ready 0 A sleep 1000", 0},
			{"restart -q --ready 1ms --group --tree A sleep 1000", 0},
			{"stop A", 0},
			{"start --ready 30s A false", 1},
			{"start --ready notify -t 20ms A sleep 1000", 124},
			{"start --foreign -t 20ms A sleep 1000", 124},
			{"start -q --ready 0 --die-together A sleep 1000", 0},
			{"stop -t 0 A", 0},
		} {
			args := strings.Fields(strings.ReplaceAll(line.args, "A", path))
			if out, code := output(t, args...); code != line.code {
				t.Fatalf("round %d: %v: exit code %d, want %d: %s", i, args, code, line.code, out)
			}
		}
		// Their wrappers are ours, since those who started them have ended.
		testproc.Eventually(t, "end of all processes", func() bool { return !slices.ContainsFunc(testproc.Children(os.Getpid()), testproc.Alive) })
		if left := files(); len(left) > 0 {
			t.Fatalf("round %d: left are %v", i, left)
		}
		killOrphans() // reaps
	}
}
