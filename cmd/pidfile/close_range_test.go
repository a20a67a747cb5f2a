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

// TestStartWithoutCloseRange: the kernel does not know close_range(2), or not
// CLOSE_RANGE_CLOEXEC, and COMMAND inherits none of the caller's descriptors even so.
func TestStartWithoutCloseRange(t *testing.T) {
	parallel(t)
	strace := testproc.Strace(t)
	dir := t.TempDir()
	path, out := filepath.Join(dir, "a.pid"), filepath.Join(dir, "out")
	file, err := os.Create(filepath.Join(dir, "caller's"))
	testproc.Must(t, err)
	defer file.Close()
	trace := filepath.Join(dir, "trace")
	c := exec.Command(strace, "-f", "-o", trace, "-e", "trace=close_range", "-e", "inject=close_range:error=EINVAL",
		binary, "start", path, "--", "sh", "-c", `ls -l /proc/self/fd >"$1.new" && mv "$1.new" "$1"; exec sleep 1000`, "sh", out)
	c.ExtraFiles = slices.Repeat([]*os.File{file}, 5)
	background(t, c)
	testproc.Eventually(t, "COMMAND", func() bool { _, err := os.Stat(out); return err == nil })
	if text, _ := os.ReadFile(trace); !strings.Contains(string(text), "INJECTED") {
		t.Fatalf("nothing was injected:\n%s", text)
	}
	if text, _ := os.ReadFile(out); strings.Contains(string(text), file.Name()) {
		t.Errorf("COMMAND has the caller's file:\n%s", text)
	}
	call(t, "stop", path).is(t, 0, "stopped")
}
