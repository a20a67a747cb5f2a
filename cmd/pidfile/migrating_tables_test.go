//go:build linux

package main

import (
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/go-pidfile/pidfile/internal/testproc"
)

// TestMigratingFlags: what docs/MIGRATING.md names of this command exists. In its
// tables these are the last column's words in backquotes that begin with one of
// our commands, or with a dash.
func TestMigratingFlags(t *testing.T) {
	parallel(t)
	help := make(map[string]string)
	for _, c := range []string{"run", "start", "restart", "reload", "stop", "signal", "wait", "status", "list"} {
		help[c] = call(t, c, "--help").stdout
	}
	flag := regexp.MustCompile(`^--?[a-zA-Z][a-z-]*`)
	checked := 0
	for line := range strings.Lines(readMigrating(t)) {
		cells := strings.Split(strings.ReplaceAll(line, `\|`, "¦"), "|")
		if len(cells) < 4 {
			continue
		}
		for _, span := range regexp.MustCompile("`([^`]+)`").FindAllStringSubmatch(cells[len(cells)-2], -1) {
			words := strings.Fields(span[1])
			if words[0] == "pidfile" {
				words = words[1:]
			}
			text, ours := help[words[0]], help[words[0]] != ""
			if strings.HasPrefix(words[0], "-") {
				text, ours = help["run"]+help["start"], true
			}
			if !ours {
				continue
			}
			for _, word := range words {
				if word == "FILE" {
					break // COMMAND's are its own
				}
				name := flag.FindString(word)
				if name == "" {
					continue
				}
				checked++
				if !regexp.MustCompile(`(?m)^ +(-\w, )?` + regexp.QuoteMeta(name) + `[, ]`).MatchString(text) {
					t.Errorf("%q: there is no %s", span[1], name)
				}
			}
		}
	}
	if checked < 40 {
		t.Errorf("only %d flags were found: are the tables still what they were?", checked)
	}
}

// TestMigratingOptions: the tables name each option of the tools' own --help, if
// the tool has the version that the section names.
func TestMigratingOptions(t *testing.T) {
	parallel(t)
	doc := readMigrating(t)
	for _, c := range []struct{ section, tool, version string }{
		{"flock(1)", "flock", "util-linux 2.38"},
		{"start-stop-daemon(8) of dpkg", "start-stop-daemon", "1.21"},
		{"daemon(1)", "daemon", "daemon-0.8"},
		{"timeout(1)", "timeout", "(GNU coreutils) 9.1"},
	} {
		t.Run(c.tool, func(t *testing.T) {
			testproc.Tool(t, c.tool)
			if v := finish(t, exec.Command(c.tool, "--version")); !strings.Contains(v.stdout+v.stderr, c.version) {
				testproc.Skip(t, c.version, "this is ", strings.TrimSpace(v.stdout+v.stderr))
			}
			_, section, ok := strings.Cut(doc, "\n## "+c.section+"\n")
			if !ok {
				t.Fatalf("no section %q", c.section)
			}
			section, _, _ = strings.Cut(section, "\n## ")
			r := finish(t, exec.Command(c.tool, "--help"))
			options := regexp.MustCompile(`(?m)^[\s|]*(?:-\w[,|] ?)*(--[a-z][a-z-]*)`).FindAllStringSubmatch(r.stdout+r.stderr, -1)
			if len(options) < 5 {
				t.Fatalf("only %v in %s", options, r.stdout)
			}
			for _, o := range options {
				if slices.Contains([]string{"--help", "--version"}, o[1]) {
					continue
				}
				if !regexp.MustCompile(regexp.QuoteMeta(o[1]) + "[` ]").MatchString(section) {
					t.Errorf("section %q does not have %s", c.section, o[1])
				}
			}
		})
	}
}
