//go:build linux

package main

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// TestListJSON holds the names that programs rely on, and that they are those of
// status.
func TestListJSON(t *testing.T) {
	parallel(t)
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
	parallel(t)
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
