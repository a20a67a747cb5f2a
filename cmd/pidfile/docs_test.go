//go:build linux

package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/go-pidfile/pidfile/internal/testproc"
)

// TestConsoleBlocks runs the console blocks of the documents, and compares what
// is printed with what stands there. Everything else in a document is prose. With
// UPDATE_DOCS=1 the blocks, and the picture of a terminal, are written anew.
//
// A block that cannot be run has the line "<!-- not run: REASON -->" before it.
func TestConsoleBlocks(t *testing.T) {
	parallel(t)
	testproc.Root(t) // whose name they show
	testproc.Tool(t, "bash")
	testproc.Tool(t, "perl")
	block := regexp.MustCompile("(?ms)^(<!-- not run: [^\n]+ -->\n)?```console\n(.*?)^```$")
	ran := 0
	for path, text := range documents(t) {
		updated := block.ReplaceAllStringFunc(text, func(whole string) string {
			m := block.FindStringSubmatch(whole)
			if m[1] != "" {
				return whole
			}
			ran++
			got := session(t, m[2])
			if got == m[2] {
				return whole
			}
			if os.Getenv("UPDATE_DOCS") == "" {
				t.Errorf("%s says\n%s\nbut the command prints\n%s\nto write it anew: UPDATE_DOCS=1 go test -run TestConsoleBlocks ./cmd/pidfile", path, m[2], got)
			}
			return "```console\n" + got + "```"
		})
		if updated != text && os.Getenv("UPDATE_DOCS") != "" {
			if err := os.WriteFile(path, []byte(updated), 0o644); err != nil {
				t.Fatal(err)
			}
		}
	}
	if ran < 4 {
		t.Errorf("only %d blocks were found: is the pattern right?", ran)
	}
}

// session runs the command lines of a console block, and returns what the block
// should be.
func session(t *testing.T, block string) string {
	t.Helper()
	var lines strings.Builder
	for line := range strings.Lines(block) {
		if command, ok := strings.CutPrefix(line, "$ "); ok {
			lines.WriteString(command)
		}
	}
	c := exec.Command("../../docs/session.sh")
	c.Stdin = strings.NewReader(lines.String())
	c.Stderr = os.Stderr
	out, err := c.Output()
	if err != nil {
		t.Fatalf("docs/session.sh: %v", err)
	}
	return string(out)
}

// TestTerminalPicture draws the picture of README again.
func TestTerminalPicture(t *testing.T) {
	parallel(t)
	testproc.Tool(t, "bash")
	testproc.Tool(t, "perl")
	const picture = "../../docs/terminal.svg"
	c := exec.Command("../../docs/terminal.sh")
	c.Env = append(os.Environ(), "PIDFILE_BIN="+filepath.Dir(binary))
	drawn, err := c.Output()
	if err != nil {
		t.Fatalf("docs/terminal.sh: %v", err)
	}
	if os.Getenv("UPDATE_DOCS") != "" {
		if err := os.WriteFile(picture, drawn, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	stored, err := os.ReadFile(picture)
	if err != nil {
		t.Fatal(err)
	}
	if string(stored) != string(drawn) {
		t.Error("docs/terminal.svg is out of date: docs/terminal.sh >docs/terminal.svg")
	}
}

// TestReadme: it is short, and its program compiles.
func TestReadme(t *testing.T) {
	parallel(t)
	text := documents(t)["../../README.md"]
	if n := strings.Count(text, "\n"); n > 200 {
		t.Errorf("README.md has %d lines, more than 200", n)
	}
	program := regexp.MustCompile("(?s)```go\n(package main.*?)```").FindStringSubmatch(text)
	if program == nil {
		t.Fatal("README.md has no program")
	}
	file := filepath.Join(t.TempDir(), "main.go")
	if err := os.WriteFile(file, []byte(program[1]), 0o644); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("go", "vet", file).CombinedOutput(); err != nil {
		t.Errorf("go vet: %v\n%s", err, out)
	}
}

// TestLinks: what a document refers to in this repository is there.
func TestLinks(t *testing.T) {
	all := documents(t)
	link := regexp.MustCompile(`\]\(([^)#:]*)(#[^)]+)?\)`)
	for path, text := range all {
		for _, m := range link.FindAllStringSubmatch(text, -1) {
			target := path
			if m[1] != "" {
				target = filepath.Join(filepath.Dir(path), m[1])
			}
			if _, err := os.Stat(target); err != nil {
				t.Errorf("%s: %s: %v", path, m[0], err)
			}
			if there, ok := all[target]; ok && m[2] != "" && !hasAnchor(there, m[2][1:]) {
				t.Errorf("%s: %s: there is no such section", path, m[0])
			}
		}
	}
}

// hasAnchor tells whether a heading of text has the anchor that GitHub gives it.
func hasAnchor(text, anchor string) bool {
	drop := regexp.MustCompile(`[^\p{L}\p{N} _-]`)
	for _, m := range regexp.MustCompile(`(?m)^#+ (.*)$`).FindAllStringSubmatch(text, -1) {
		name := drop.ReplaceAllString(strings.ToLower(m[1]), "")
		if strings.ReplaceAll(name, " ", "-") == anchor {
			return true
		}
	}
	return false
}

// documents are the texts of README.md, of what lies beside it and of docs.
func documents(t *testing.T) map[string]string {
	t.Helper()
	all := make(map[string]string)
	for _, pattern := range []string{"../../*.md", "../../docs/*.md", "../../model/*.md", "../../bench/*.md", "../../bench/attacks/*.md"} {
		paths, _ := filepath.Glob(pattern)
		for _, path := range paths {
			text, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			all[path] = string(text)
		}
	}
	return all
}
