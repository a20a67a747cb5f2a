//go:build linux

package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/go-pidfile/pidfile/internal/testproc"
)

const bashCompletion = "/usr/share/bash-completion/bash_completion"

// TestCompletion asks the real shells what they complete.
func TestCompletion(t *testing.T) {
	parallel(t)
	work := t.TempDir()
	for _, dir := range []string{"folder", "bin"} {
		if err := os.Mkdir(filepath.Join(work, dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	writeFile(t, filepath.Join(work, "stale.pid"), "4194304\n")
	writeFile(t, filepath.Join(work, "text"), "")
	if err := writeProgram(filepath.Join(work, "bin", "xyzzy-program"), []byte("#!/bin/sh\n")); err != nil {
		t.Fatal(err)
	}
	cases := []struct {
		line string
		want []string // among what is offered
		not  string   // in none of it
	}{
		{"pidfile sta", []string{"start", "status"}, "stop"},
		{"pidfile run --on-lost ", []string{"restore", "stop", "ignore"}, "text"},
		{"pidfile list --state ", []string{"running", "stale", "unknown"}, "text"},
		{"pidfile start --ready ", []string{"notify"}, "text"},
		{"pidfile signal ", []string{"HUP", "TERM"}, "text"},
		{"pidfile stop --sig", []string{"--signal"}, "--json"},
		{"pidfile stop --signal ", []string{"USR1"}, "text"},
		{"pidfile run --", []string{"--wait", "--user", "--max-runtime"}, "`"},
		{"pidfile status ./st", []string{"./stale.pid"}, "text"},
		{"pidfile status ./", []string{"./stale.pid", "./folder/"}, "text"},
		{"pidfile run --chdir ./f", []string{"./folder/"}, "text"},
		{"pidfile run a.pid xyzzy", []string{"xyzzy-program"}, "text"},
		{"pidfile completion ", []string{"bash", "zsh", "fish"}, "text"},
		{"pidfile help st", []string{"start", "status", "stop"}, "run"},
	}
	if testing.Short() {
		cases = cases[:5]
	}
	for shell, ask := range map[string]func(t *testing.T, line string) []string{
		"bash": func(t *testing.T, line string) []string { return askBash(t, work, line) },
		"fish": func(t *testing.T, line string) []string { return askFish(t, work, line) },
		"zsh":  func(t *testing.T, line string) []string { return askZsh(t, work, line) },
	} {
		t.Run(shell, func(t *testing.T) {
			for _, c := range cases {
				got := ask(t, c.line)
				for _, want := range c.want {
					if !slices.Contains(got, want) && !slices.Contains(got, strings.TrimSuffix(want, "/")) {
						t.Errorf("%q: %q is not offered, but %q", c.line, want, got)
					}
				}
				if slices.ContainsFunc(got, func(s string) bool { return strings.Contains(s, c.not) }) {
					t.Errorf("%q: %q is offered: %q", c.line, c.not, got)
				}
			}
		})
	}
}

func askShell(t *testing.T, work string, args ...string) string {
	t.Helper()
	c := exec.Command(args[0], args[1:]...)
	c.Dir = work
	c.Env = append(os.Environ(), "HOME="+work, "PATH="+filepath.Join(work, "bin")+":"+os.Getenv("PATH"))
	out, err := c.Output()
	if err != nil {
		t.Fatalf("%s: %v: %s", args[0], err, err.(*exec.ExitError).Stderr)
	}
	return string(out)
}

// askBash runs the function that bash would call for the Tab key.
func askBash(t *testing.T, work, line string) []string {
	t.Helper()
	bash := testproc.Tool(t, "bash")
	if _, err := os.Stat(bashCompletion); err != nil {
		testproc.Skip(t, "bash-completion", err)
	}
	const script = `
source "$1"; source <(pidfile completion bash)
COMP_LINE=$2 COMP_POINT=${#2} COMP_TYPE=9
read -ra COMP_WORDS <<<"$2"
[[ $2 != *' ' ]] || COMP_WORDS+=('')
COMP_CWORD=$((${#COMP_WORDS[@]} - 1))
compopt() { :; }
__start_pidfile
printf '%s\n' "${COMPREPLY[@]}"`
	var words []string
	for l := range strings.Lines(askShell(t, work, bash, "--norc", "-c", script, "bash", bashCompletion, line)) {
		word, _, _ := strings.Cut(strings.TrimSpace(l), " ")
		words = append(words, word)
	}
	return words
}

func askFish(t *testing.T, work, line string) []string {
	t.Helper()
	fish := testproc.Tool(t, "fish")
	var words []string
	for l := range strings.Lines(askShell(t, work, fish, "--no-config", "-c", "pidfile completion fish | source; complete -C "+"'"+line+"'")) {
		word, _, _ := strings.Cut(strings.TrimSuffix(l, "\n"), "\t")
		words = append(words, word)
	}
	return words
}

// askZsh takes what the completion function would show from compadd and _describe.
func askZsh(t *testing.T, work, line string) []string {
	t.Helper()
	zsh := testproc.Tool(t, "zsh")
	const script = `
compdef() { : } # compinit takes seconds
source <(pidfile completion zsh)
_describe() { for last; do :; done; local name; for name; do [[ $name = completions ]] && print -l -- $completions; done; return 0 }
_arguments() { print -l -- *(/); return 0 }
words=(${(z)1}); [[ $1 != *' ' ]] || words+=('')
CURRENT=$#words
_pidfile`
	var shown []string
	for l := range strings.Lines(askShell(t, work, zsh, "-f", "-c", script, "zsh", line)) {
		word, _, _ := strings.Cut(strings.TrimSuffix(l, "\n"), ":")
		shown = append(shown, word)
		if word == "folder" { // the shell's own for directories
			shown = append(shown, "./folder")
		}
	}
	return shown
}
