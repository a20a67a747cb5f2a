package testproc

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

// A Patch is one change of a source file of the package under test, which leaves out
// something that its tests must miss. Old stands there exactly once.
type Patch struct{ File, Old, New string }

// building admits one build at a time: the next may find what it needs in the cache.
var building sync.Mutex

const controlEnv = "PIDFILE_TEST_CONTROL"

// Control is for a test that is a negative control. It builds the package's tests with
// the patch, runs the calling test in that build, where Control returns true and the test
// has to find what is broken, and then returns false. With -short the test is skipped.
func (p Patch) Control(t *testing.T) bool {
	t.Helper()
	if os.Getenv(controlEnv) != "" {
		return true
	}
	if testing.Short() {
		t.Skip("a negative control, which is built: not with -short")
	}
	t.Parallel()
	cmd := exec.Command(p.build(t), "-test.run=^"+t.Name()+"$", "-test.v", "-test.timeout=2m")
	cmd.Env = append(os.Environ(), controlEnv+"=1")
	out, err := cmd.CombinedOutput()
	t.Logf("without %q:\n%s", p.Old, out)
	if err != nil {
		t.Error(err)
	}
	if !strings.Contains(string(out), "--- PASS: "+t.Name()+" ") {
		t.Error("the test did not run")
	}
	return false
}

// build returns the path of the patched build.
func (p Patch) build(t *testing.T) string {
	t.Helper()
	Tool(t, "go")
	file, err := filepath.Abs(p.File)
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if n := strings.Count(string(text), p.Old); n != 1 {
		t.Fatalf("%s has %q %d times, want once", p.File, p.Old, n)
	}
	dir := t.TempDir()
	patched, overlay, exe := filepath.Join(dir, "patched.go"), filepath.Join(dir, "overlay.json"), filepath.Join(dir, "patched.test")
	write := func(path, text string) {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write(patched, strings.Replace(string(text), p.Old, p.New, 1))
	replace, err := json.Marshal(map[string]map[string]string{"Replace": {file: patched}})
	if err != nil {
		t.Fatal(err)
	}
	write(overlay, string(replace))
	building.Lock()
	defer building.Unlock()
	if out, err := exec.Command("go", "test", "-c", "-vet=off", "-ldflags=-s -w", "-overlay", overlay, "-o", exe, ".").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return exe
}
