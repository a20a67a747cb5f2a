//go:build linux

package main

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"testing"
)

// TestHelp asks every command that "pidfile --help" names for its own help.
func TestHelp(t *testing.T) {
	parallel(t)
	root, code := output(t, "--help")
	if code != 0 {
		t.Fatalf("pidfile --help: exit code %d", code)
	}
	_, list, _ := strings.Cut(string(root), "\nRun:\n")
	list, _, _ = strings.Cut(list, "Flags:\n")
	var names []string
	for line := range strings.Lines(list) {
		if name, ok := strings.CutPrefix(line, "  "); ok { // no title
			names = append(names, strings.Fields(name)[0])
		}
	}
	for _, must := range []string{"run", "status", "version", "completion", "help"} {
		if !slices.Contains(names, must) {
			t.Errorf("pidfile --help does not name %s:\n%s", must, root)
		}
	}
	for _, name := range names {
		t.Run(name, func(t *testing.T) {
			long, code := output(t, name, "--help")
			also, code2 := output(t, "help", name)
			if code != 0 || code2 != 0 || !bytes.Equal(long, also) {
				t.Errorf("'%s --help' and 'help %s' differ, or fail with %d and %d", name, name, code, code2)
			}
			wants := []string{"Usage:\n  pidfile " + name}
			switch name {
			case "version", "completion", "help": // nothing to choose
			default:
				wants = append(wants, "Examples:\n")
			}
			for line := range strings.Lines(string(long)) {
				if columns(strings.TrimSuffix(line, "\n")) > 80 {
					t.Errorf("too wide for a terminal of 80 columns: %q", line)
				}
			}
			wants = append(wants, "\nExit codes", "\n  125 ")
			for _, want := range wants {
				if !bytes.Contains(long, []byte(want)) {
					t.Errorf("no %q in the help of %s:\n%s", want, name, long)
				}
			}
		})
	}
}

// TestHelpOfActs: each help names all exit codes that the command has.
func TestHelpOfActs(t *testing.T) {
	parallel(t)
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
