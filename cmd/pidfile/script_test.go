//go:build linux

package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/go-pidfile/pidfile/internal/testproc"
	"github.com/rogpeppe/go-internal/testscript"
)

// TestScripts runs testdata/script: one behaviour a file. Beyond the usual
// there are the commands
//
//	exits N COMMAND...  run COMMAND, whose exit code must be N; again if the machine was busy
//	await FILE          wait until FILE has a whole line
//	setenv NAME FILE    set NAME to the text of FILE
//	blocked FILE        wait until a process waits for the flock(2) of FILE
//	gone PID            wait until there is no such process, or a zombie
//
// a program bg, which runs its arguments with all output thrown away, $HELPER,
// which is the helper that $PIDFILE_TEST_HELPER names,
// and the condition [root]. One that takes more than a second begins with
//
//	[short] skip 'takes its time: not with -short'
func TestScripts(t *testing.T) {
	parallel(t)
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
			e.Defer(func() {
				if e.T().(scriptT).Failed() {
					endScript(e.WorkDir, "UNIQUE="+e.Getenv("UNIQUE"))
				}
			})
			return os.Chmod(e.WorkDir, 0o755)
		},
		Condition: func(cond string) (bool, error) {
			if cond != "root" {
				return false, fmt.Errorf("unknown condition %q", cond)
			}
			return os.Getuid() == 0, nil
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
	if testing.Short() && strings.Contains(text, "-short") {
		t.T.Skip(text)
	}
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

// endScript ends the processes of a script that has failed, by their directory or
// environment. One that stays in the background has testscript's pipe open, so that
// it would wait for ever.
func endScript(dir, variable string) {
	entries, _ := os.ReadDir("/proc")
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil || pid == os.Getpid() {
			continue
		}
		p, err := os.FindProcess(pid) // a handle: if it ends now, no other is meant
		if err != nil {
			continue
		}
		cwd, _ := os.Readlink("/proc/" + e.Name() + "/cwd")
		env, _ := os.ReadFile("/proc/" + e.Name() + "/environ")
		if strings.HasPrefix(cwd+"/", dir+"/") || slices.Contains(strings.Split(string(env), "\x00"), variable) {
			_ = p.Kill()
		}
		_ = p.Release()
	}
}

func scriptExits(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: exits CODE COMMAND...")
	}
	code := 0
	for range 10 {
		err := ts.Exec(args[1], args[2:]...)
		var failed *exec.ExitError
		switch {
		case err == nil:
			code = 0
		case errors.As(err, &failed):
			code = failed.ExitCode()
		default:
			ts.Fatalf("%v", err)
		}
		if !strings.Contains(ts.ReadFile("stderr")+ts.ReadFile("stdout"), unanswered) {
			break
		}
	}
	if want := args[0]; strconv.Itoa(code) != want {
		ts.Fatalf("exit code %d, want %s", code, want)
	}
}

func scriptAwait(ts *testscript.TestScript, neg bool, args []string) {
	file := ts.MkAbs(args[0])
	if !testproc.Until(func() bool {
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
	if !testproc.Until(func() bool { return testproc.Blocked(ts.MkAbs(args[0])) > 0 }) {
		ts.Fatalf("nobody waits for %s", args[0])
	}
}

func scriptGone(ts *testscript.TestScript, neg bool, args []string) {
	pid, err := strconv.Atoi(args[0])
	ts.Check(err)
	if !testproc.Until(func() bool { return !testproc.Alive(pid) }) {
		ts.Fatalf("PID %d does not end", pid)
	}
}
