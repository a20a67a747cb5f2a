//go:build linux

package testproc

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

func TestMain(m *testing.M) { os.Exit(Main(m)) }

const innerEnv = "PIDFILE_TEST_INNER"

// TestInner is what TestMachine runs as go test would, on a poor machine.
func TestInner(t *testing.T) {
	if os.Getenv(innerEnv) == "" {
		return
	}
	out, err := exec.Command("sh", "-c", `grep SigIgn /proc/self/status; echo "LC_ALL=$LC_ALL"; umask`).Output()
	fmt.Printf("%s%v\n", out, err)
	for range 2 {
		t.Run("root", func(t *testing.T) { Skip(t, "root") })
	}
	t.Run("tool", func(t *testing.T) { Tool(t, "no-such-tool") })
	t.Run("part", func(t *testing.T) { Has(t, "no-such-tool") })
	t.Run("other", func(t *testing.T) { Skip(t, "FAT", "no ", "mkfs") })
}

// inner runs TestInner with HUP, INT, QUIT and TSTP ignored.
func inner(t *testing.T, env ...string) (out string, err error) {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	c := exec.Command("sh", "-c", `trap "" HUP INT QUIT TSTP; umask 077; exec "$0" -test.run='^TestInner$' -test.v`, self)
	c.Env = append(os.Environ(), append(env, innerEnv+"=1", "LC_ALL=de_DE.UTF-8")...)
	text, err := c.CombinedOutput()
	return string(text), err
}

func TestMachine(t *testing.T) {
	const line = "github.com/go-pidfile/pidfile/internal/testproc: 5 skipped: needs no-such-tool 2, root 2, FAT 1\n"
	file := filepath.Join(t.TempDir(), "skipped")
	out, err := inner(t, "CI=", "PIDFILE_TEST_SKIPPED="+file)
	if err != nil {
		t.Errorf("%v: %s", err, out)
	}
	for _, want := range []string{
		"SigIgn:\t0000000000000000\nLC_ALL=C\n0022\n<nil>\n",
		"SKIPPED: needs root\n", "SKIPPED: needs no-such-tool: ", "SKIPPED IN PART: needs no-such-tool: ",
		"SKIPPED: needs FAT: no mkfs\n", "\n" + line,
	} {
		if !strings.Contains(out, want) {
			t.Errorf("no %q in:\n%s", want, out)
		}
	}
	if text, err := os.ReadFile(file); string(text) != line {
		t.Errorf("the file says %q, %v", text, err)
	}
}

// TestMachineOfCI: what can be installed must be.
func TestMachineOfCI(t *testing.T) {
	out, err := inner(t, "CI=true", "PIDFILE_TEST_SKIPPED=")
	if err == nil || strings.Count(out, "NOT TESTED, though CI=true") != 2 {
		t.Errorf("%v: %s", err, out)
	}
	for _, want := range []string{"--- FAIL: TestInner/tool", "--- FAIL: TestInner/part", "--- SKIP: TestInner/root", "--- SKIP: TestInner/other"} {
		if !strings.Contains(out, want) {
			t.Errorf("no %q in:\n%s", want, out)
		}
	}
}
