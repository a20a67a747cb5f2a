// Package testproc is what the tests of several packages share: it makes a test's
// children alike on every machine, and counts what a machine lacks.
package testproc

import (
	"fmt"
	"maps"
	"os"
	"os/exec"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"testing"
)

// Main is m.Run for the TestMain of a package. The children of its tests have no
// signal ignored, umask 022, and speak English, however "go test" itself was started. At its
// end it prints one line if tests were skipped:
//
//	example.com/module/package: 12 skipped: needs root 9, strace 3
//
// "go test ./..." throws away what a package prints that passes, unless it is run
// with -v. So the line is also appended to the file that the environment variable
// PIDFILE_TEST_SKIPPED names, if any.
func Main(m *testing.M) (code int) {
	setMachine()
	_ = os.Setenv("LC_ALL", "C") // neither empty nor with a NUL
	code = m.Run()
	line := skips.String()
	if line == "" {
		return code
	}
	fmt.Println(line)
	if path := os.Getenv("PIDFILE_TEST_SKIPPED"); path != "" {
		if err := appendLine(path, line); err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
	}
	return code
}

func appendLine(path, line string) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o666)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintln(f, line)
	if e := f.Close(); err == nil {
		err = e
	}
	return err
}

// skips are this process's.
var skips skipCount

type skipCount struct {
	mu sync.Mutex
	of map[string]int // by what was needed
}

func (c *skipCount) add(need string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.of == nil {
		c.of = map[string]int{}
	}
	c.of[need]++
}

// String is the line that Main prints, "" if nothing was skipped.
func (c *skipCount) String() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	sum, needs := 0, slices.Sorted(maps.Keys(c.of))
	slices.SortStableFunc(needs, func(a, b string) int { return c.of[b] - c.of[a] })
	for i, need := range needs {
		sum += c.of[need]
		needs[i] = fmt.Sprintf("%s %d", need, c.of[need])
	}
	if sum == 0 {
		return ""
	}
	return fmt.Sprintf("%s: %d skipped: needs %s", packageName(), sum, strings.Join(needs, ", "))
}

func packageName() string {
	if info, ok := debug.ReadBuildInfo(); ok {
		return strings.TrimSuffix(info.Path, ".test")
	}
	return os.Args[0]
}

// Skip skips the test, which needs something that this machine or user lacks. It
// is a word or two, such as "root", by which the skips are counted.
func Skip(t testing.TB, need string, why ...any) {
	t.Helper()
	skips.add(need)
	t.Skip("SKIPPED: needs " + need + detail(why))
}

// Lack is Skip for what can be installed: where the environment has CI=true, the
// test fails.
func Lack(t testing.TB, need string, why ...any) {
	t.Helper()
	if os.Getenv("CI") == "true" {
		t.Fatal("NOT TESTED, though CI=true: needs " + need + detail(why))
	}
	Skip(t, need, why...)
}

func detail(why []any) string {
	if len(why) == 0 {
		return ""
	}
	return ": " + fmt.Sprint(why...)
}

// Root skips the test unless this is root.
func Root(t testing.TB) {
	t.Helper()
	if os.Getuid() != 0 {
		Skip(t, "root")
	}
}

// Tool returns the path of an installed program.
func Tool(t testing.TB, name string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		Lack(t, name, err)
	}
	return path
}

// Has reports whether a program is installed, for a part of a test that is skipped
// without it, and counted so.
func Has(t testing.TB, name string) bool {
	t.Helper()
	_, err := exec.LookPath(name)
	switch {
	case err == nil:
		return true
	case os.Getenv("CI") == "true":
		t.Errorf("NOT TESTED, though CI=true: %v", err)
	default:
		SkipPart(t, name, err)
	}
	return false
}

// SkipPart counts a part of the test as skipped. The test goes on.
func SkipPart(t testing.TB, need string, why ...any) {
	t.Helper()
	skips.add(need)
	t.Log("SKIPPED IN PART: needs " + need + detail(why))
}

// Strace returns the path of strace(1), if it may trace here: many containers
// forbid that.
func Strace(t testing.TB) string {
	t.Helper()
	path := Tool(t, "strace")
	if out, err := exec.Command(path, "-o", os.DevNull, "true").CombinedOutput(); err != nil {
		Lack(t, "strace", fmt.Sprintf("%v: %s", err, out))
	}
	return path
}

// PublicDir makes a directory whose parents every user may enter; t.TempDir's not. It
// goes with the test.
func PublicDir(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "pidfile-public-")
	Must(t, err)
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	Must(t, os.Chmod(dir, 0o755))
	return dir
}

// MemoryDir makes a directory on /dev/shm that goes with the test. On a machine
// without it, it is where t.TempDir would be.
func MemoryDir(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("/dev/shm", ".pidfile-test-")
	if err != nil {
		t.Logf("no /dev/shm: %v", err)
		return t.TempDir()
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) }) // as t.TempDir's, but for what is mounted there
	return dir
}
