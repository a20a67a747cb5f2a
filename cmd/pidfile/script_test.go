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
	"time"

	"github.com/go-pidfile/pidfile/internal/testproc"
	"github.com/rogpeppe/go-internal/testscript"
	"golang.org/x/sys/unix"
)

// binary is the command under test, built once; its directory leads PATH.
var binary string

// patience is how long a condition may take on a loaded machine. Nothing takes
// that long that goes well.
const patience = 30 * time.Second

func TestMain(m *testing.M) {
	os.Setenv("TERM", "xterm") // a dumb one is shown no progress
	if mode := os.Getenv("PIDFILE_TEST_HELPER"); mode != "" {
		helper(mode) // COMMAND
	}
	os.Exit(testMain(m))
}

func testMain(m *testing.M) int {
	unix.Umask(0o022) // other users run it as well
	dir, err := os.MkdirTemp("", "pidfile-cmd-")
	if err != nil {
		panic(err)
	}
	defer os.RemoveAll(dir)
	if err := os.Chmod(dir, 0o755); err != nil {
		panic(err)
	}
	binary = filepath.Join(dir, "pidfile")
	build := exec.Command("go", "build", "-ldflags=-s -w", "-o", binary, ".")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "go build: %v\n%s", err, out)
		return 1
	}
	// What a script starts in the background must not keep its pipes open.
	if err := os.WriteFile(filepath.Join(dir, "bg"), []byte("#!/bin/sh\nexec \"$@\" </dev/null >/dev/null 2>&1\n"), 0o755); err != nil {
		panic(err)
	}
	os.Setenv("PATH", dir+":"+os.Getenv("PATH"))
	os.Unsetenv("PIDFILE_HELD")
	// Orphans of killed wrappers come to us: none goes unseen, and no PID of
	// theirs is another's before we have reaped it.
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		panic(err)
	}
	defer killOrphans()
	return testproc.Main(m)
}

// TestScripts runs testdata/script: one behaviour a file. Beyond the usual
// there are the commands
//
//	exits N COMMAND...  run COMMAND, whose exit code must be N
//	await FILE          wait until FILE has a whole line
//	setenv NAME FILE    set NAME to the text of FILE
//	blocked FILE        wait until a process waits for the flock(2) of FILE
//	gone PID            wait until there is no such process, or a zombie
//
// a program bg, which runs its arguments with all output thrown away, $HELPER,
// which is the helper that $PIDFILE_TEST_HELPER names,
// and the conditions [root] and [knownbugs]: what does not work yet is skipped
// unless PIDFILE_KNOWN_BUGS is set.
func TestScripts(t *testing.T) {
	testscript.RunT(scriptT{t}, testscript.Params{
		Dir: "testdata/script",
		Setup: func(e *testscript.Env) error {
			if err := scriptNeeds(e); err != nil {
				return err
			}
			// A Unix user's work lies in public directories.
			if err := os.Chmod(filepath.Dir(e.WorkDir), 0o755); err != nil {
				return err
			}
			self, err := os.Executable()
			if err != nil {
				return err
			}
			e.Setenv("HELPER", self)
			e.Setenv("UNIQUE", "pidfile-test-"+strconv.Itoa(os.Getpid())+"-"+filepath.Base(e.WorkDir))
			return os.Chmod(e.WorkDir, 0o755)
		},
		Condition: func(cond string) (bool, error) {
			switch cond {
			case "root":
				return os.Getuid() == 0, nil
			case "knownbugs":
				return os.Getenv("PIDFILE_KNOWN_BUGS") != "", nil
			}
			return false, fmt.Errorf("unknown condition %q", cond)
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"exits":   scriptExits,
			"await":   scriptAwait,
			"setenv":  scriptSetenv,
			"blocked": scriptBlocked,
			"gone":    scriptGone,
		},
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
	})
}

// A scriptT counts what is skipped. A script says "needs root to mount", for example.
type scriptT struct{ *testing.T }

func (t scriptT) Skip(args ...any) {
	t.Helper()
	text := fmt.Sprint(args...)
	need, why, _ := strings.Cut(strings.TrimPrefix(text, "needs "), " ")
	switch need {
	case "root":
		testproc.Skip(t.T, need, why)
	default:
		testproc.Skip(t.T, strings.TrimSuffix(need, ":"), why)
	}
}

func (t scriptT) Run(name string, f func(testscript.T)) {
	t.T.Run(name, func(t *testing.T) { f(scriptT{t}) })
}

func (t scriptT) Verbose() bool { return testing.Verbose() }

// scriptPrograms are those that a script runs, as far as these may be missing.
var scriptPrograms = regexp.MustCompile(`(?m)^(?:\[[^]]+\] )*(?:exec|exits \d+) (?:bg )?([a-z][a-z0-9-]*)|\b(flock|nsenter|ps|setpriv|unshare) -`)

// scriptNeeds skips a script that runs what is not installed.
func scriptNeeds(e *testscript.Env) error {
	name := strings.TrimPrefix(filepath.Base(e.WorkDir), "script-")
	text, err := os.ReadFile(filepath.Join("testdata/script", name+".txtar"))
	if err != nil {
		return err
	}
	for _, m := range scriptPrograms.FindAllStringSubmatch(string(text), -1) {
		if program := m[1] + m[2]; program != "bg" && program != "pidfile" {
			testproc.Tool(e.T().(scriptT).T, program)
		}
	}
	return nil
}

func scriptExits(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: exits CODE COMMAND...")
	}
	code := 0
	if err := ts.Exec(args[1], args[2:]...); err != nil {
		var failed *exec.ExitError
		if !errors.As(err, &failed) {
			ts.Fatalf("%v", err)
		}
		code = failed.ExitCode()
	}
	if want := args[0]; strconv.Itoa(code) != want {
		ts.Fatalf("exit code %d, want %s", code, want)
	}
}

func scriptAwait(ts *testscript.TestScript, neg bool, args []string) {
	file := ts.MkAbs(args[0])
	if !until(func() bool {
		text, _ := os.ReadFile(file)
		return bytes.HasSuffix(text, []byte("\n"))
	}) {
		ts.Fatalf("%s does not appear", args[0])
	}
}

func scriptSetenv(ts *testscript.TestScript, neg bool, args []string) {
	ts.Setenv(args[0], strings.TrimSpace(ts.ReadFile(args[1])))
}

func scriptBlocked(ts *testscript.TestScript, neg bool, args []string) {
	if !until(func() bool { return blocked(ts.MkAbs(args[0])) > 0 }) {
		ts.Fatalf("nobody waits for %s", args[0])
	}
}

func scriptGone(ts *testscript.TestScript, neg bool, args []string) {
	pid, err := strconv.Atoi(args[0])
	ts.Check(err)
	if !until(func() bool { return !alive(pid) }) {
		ts.Fatalf("PID %d does not end", pid)
	}
}

// until reports whether cond becomes true.
func until(cond func() bool) bool {
	for deadline := time.Now().Add(patience); !cond(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(deadline) {
			return false
		}
	}
	return true
}

// eventually fails the test unless cond becomes true.
func eventually(t *testing.T, what string, cond func() bool) {
	t.Helper()
	if !until(cond) {
		t.Fatalf("does not come: %s", what)
	}
}

// blocked counts the processes that wait for a flock(2) on path's file.
func blocked(path string) (n int) {
	var st unix.Stat_t
	if unix.Stat(path, &st) != nil {
		return 0
	}
	id := fmt.Sprintf(" %02x:%02x:%d ", unix.Major(st.Dev), unix.Minor(st.Dev), st.Ino)
	locks, _ := os.ReadFile("/proc/locks")
	for line := range strings.Lines(string(locks)) {
		if strings.Contains(line, "-> FLOCK") && strings.Contains(line, id) {
			n++
		}
	}
	return n
}

// procState returns the letter of /proc/PID/stat, 0 if there is no such process.
// One whose first thread has ended before others, as during an execve(2), is no
// zombie.
func procState(pid int) byte {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0
	}
	f := bytes.Fields(stat[bytes.LastIndexByte(stat, ')')+1:])
	const threads = 20 - 3 // num_threads of proc_pid_stat(5)
	if string(f[0]) == "Z" && string(f[threads]) != "1" {
		return 'S'
	}
	return f[0][0]
}

// TestJSON holds the names that programs rely on.
func TestJSON(t *testing.T) {
	dir := t.TempDir()
	held, stale := filepath.Join(dir, "held.pid"), filepath.Join(dir, "stale.pid")
	w := start(t, held, "sleep", "100")
	pid := w.command(t)
	writeFile(t, stale, "none\n")
	out, code := output(t, "status", "--json", held, stale, filepath.Join(dir, "absent.pid"))
	if code != 3 {
		t.Errorf("exit code %d, want 3", code)
	}
	var all []map[string]any
	if err := json.Unmarshal(out, &all); err != nil || len(all) != 3 {
		t.Fatalf("%v in\n%s", err, out)
	}
	keys := func(m map[string]any) string {
		var names []string
		for name := range m {
			names = append(names, name)
		}
		slices.Sort(names)
		return strings.Join(names, " ")
	}
	if got, want := keys(all[0]), "evidence locked path pid process state"; got != want {
		t.Errorf("fields of a running one: %s; want %s", got, want)
	}
	process, _ := all[0]["process"].(map[string]any)
	if os.Getuid() != 0 {
		process["user"] = "" // whom no passwd(5) names has none
	}
	if got, want := keys(process), "args executable pid started uid user"; got != want {
		t.Errorf("fields of its process: %s; want %s", got, want)
	}
	for _, s := range all[1:] {
		if got, want := keys(s), "evidence locked path state"; got != want {
			t.Errorf("fields of a %v one: %s; want %s", s["state"], got, want)
		}
	}
	if all[0]["state"] != "running" || all[0]["path"] != held || all[0]["locked"] != true ||
		all[0]["pid"] != float64(pid) || process["pid"] != float64(pid) || process["uid"] != float64(os.Getuid()) {
		t.Errorf("a running one is told as\n%s", out)
	}
	if started, err := time.Parse(time.RFC3339Nano, fmt.Sprint(process["started"])); err != nil || time.Since(started).Abs() > patience {
		t.Errorf("started: %v, %v", process["started"], err)
	}
	if all[1]["state"] != "stale" || all[2]["state"] != "absent" {
		t.Errorf("states %v and %v, want stale and absent", all[1]["state"], all[2]["state"])
	}
	w.stop(t)
}

// TestHelp asks every command that "pidfile --help" names for its own help.
func TestHelp(t *testing.T) {
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

// output runs the command and returns its stdout and exit code.
func output(t *testing.T, args ...string) ([]byte, int) {
	t.Helper()
	out, err := exec.Command(binary, args...).Output()
	return out, exitCode(t, err)
}

// exitCode is what a shell calls it.
func exitCode(t *testing.T, err error) int {
	t.Helper()
	var failed *exec.ExitError
	switch {
	case err == nil:
		return 0
	case !errors.As(err, &failed):
		t.Fatal(err)
	case failed.Sys().(syscall.WaitStatus).Signaled():
		return 128 + int(failed.Sys().(syscall.WaitStatus).Signal())
	}
	return failed.ExitCode()
}

func writeFile(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}
