//go:build linux

package main

import (
	"encoding/json"
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/go-pidfile/pidfile/internal/testproc"
)

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
	parallel(t)
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
	parallel(t)
	testproc.Tool(t, "flock")
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
	parallel(t)
	dir := t.TempDir()
	writeFile(t, filepath.Join(dir, "\x1b[2J\nx.pid"), "none\n")
	harmless(t, "list", call(t, "list", dir).stdout)
	harmless(t, "clean", call(t, "clean", "-n", dir).stdout)
}
