//go:build linux

package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/go-pidfile/pidfile/internal/testproc"
)

// hostilePath sets a terminal's title, colours it, and begins a line of its own.
const hostilePath = "\x1b]0;evil\a\x1b[31m\nx"

// TestHostilePath: whoever may make a directory chooses what stands in a path.
// No command prints it as it is: to a pipe, or to a terminal, where the progress
// lines are.
func TestHostilePath(t *testing.T) {
	testproc.NotShort(t)
	parallel(t)
	dir := filepath.Join(t.TempDir(), hostilePath)
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	at := func(name string) string { return filepath.Join(dir, name) }
	held, absent, stale := at("held.pid"), at("absent.pid"), at("stale.pid")
	writeFile(t, stale, "4194304\n")
	w := start(t, held, "sleep", "1000")
	w.command(t)
	for _, args := range [][]string{
		{"doctor", dir}, {"doctor", held}, {"doctor", at("missing/a.pid")},
		{"status", held, absent, stale}, {"status", "--explain", held}, {"status", "--json", held},
		{"signal", "CONT", held}, {"signal", "CONT", absent}, {"reload", absent},
		{"list", dir}, {"list", at("missing")}, {"clean", "-n", stale, held}, {"clean", "-n", dir}, {"clean", stale},
		{"wait", "-t", "0.1", held}, {"wait", "--running", "-t", "0.1", absent}, {"wait", "--running", held},
		{"run", held, "true"}, {"run", "-t", "0.1", held, "true"}, {"run", dir + "/", "true"},
		{"run", absent, at("no-such-command")}, {"run", "--chdir", at("missing"), absent, "true"},
		{"start", held, "true"}, {"start", absent, "false"}, {"start", absent, at("no-such-command")},
		{"start", "--log", at("missing/log"), absent, "true"}, {"start", "--log", at("log"), absent, "sh", "-c", "printf '" + hostilePath + "'"},
		{"start", "--ready", "notify", "-t", "0.1", absent, "sleep", "1000"},
		{"start", "--foreign", held, "true"}, {"start", "--foreign", "-t", "0.1", absent, "sleep", "1000"},
		{"start", at("started.pid"), "sleep", "1000"}, {"restart", at("started.pid"), "sleep", "1000"}, {"stop", at("started.pid")},
		{"stop", absent}, {"stop", held},
	} {
		if args[0] != "stop" && args[0] != "restart" {
			r := call(t, args...)
			harmless(t, strings.Join(args[:2], " "), r.stdout+r.stderr)
		}
		p := newPseudoTerminal(t)
		p.run(t, exec.Command(binary, args...)).wait(t)
		<-p.ended
		if p.shows() == "" && args[0] != "wait" { // wait may say nothing
			t.Errorf("%q shows nothing", args)
		}
		harmless(t, strings.Join(args[:2], " ")+" on a terminal", own(p.shows()))
	}
}

// own takes away from a screen what this command itself tells a terminal.
func own(screen string) string {
	return strings.NewReplacer("\r", "", "\x1b[K", "", "\x1b[32m", "", "\x1b[33m", "", "\x1b[0m", "").Replace(screen)
}
