//go:build linux

package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/go-pidfile/pidfile/internal/testproc"
)

// TestSandbox: old sandboxes answer calls that they do not know with EPERM or EACCES.
// Such a pidfd_open(2) is not taken for a lack of rights to the process; without
// linkat(2) the file is taken in place.
func TestSandbox(t *testing.T) {
	parallel(t)
	strace := testproc.Strace(t)
	dir := t.TempDir()
	path, other := filepath.Join(dir, "a.pid"), filepath.Join(dir, "b.pid")
	w := start(t, path, "sleep", "1000")
	w.command(t)
	inside := func(call, errno string, args ...string) result {
		trace := filepath.Join(dir, "trace")
		c := exec.Command(strace, append([]string{"-f", "-o", trace, "-e", "trace=" + call, "-e", "inject=" + call + ":error=" + errno, binary}, args...)...)
		r := finish(t, c)
		if text, _ := os.ReadFile(trace); !strings.Contains(string(text), "INJECTED") {
			t.Fatalf("%s: nothing was injected", call)
		}
		return r
	}
	for _, errno := range []string{"EPERM", "EACCES"} {
		if r := inside("pidfd_open", errno, "stop", path); r.code != 125 || !strings.Contains(r.stderr, "a sandbox forbids pidfd_open") {
			t.Errorf("exit code %d, want 125; stderr: %s", r.code, r.stderr)
		}
		inside("linkat", errno, "run", other, "cat", other).exits(t, "run", 0)
	}
	w.stop(t)
}
