//go:build linux

package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/go-pidfile/pidfile/internal/testproc"
	"golang.org/x/sys/unix"
)

// becomesRoot is "pidfile run ARGS" of an ordinary user with a COMMAND that becomes
// root, as sudo(8) does, and then runs script. up is there once it runs.
func becomesRoot(t *testing.T, script string, args ...string) (w *wrapper, up string) {
	t.Helper()
	testproc.Root(t)
	const user = 54323
	dir, err := os.MkdirTemp("", "pidfile-public-")
	testproc.Must(t, err)
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	sudo, err := os.ReadFile(testproc.Tool(t, "setpriv"))
	testproc.Must(t, err)
	file := filepath.Join(dir, "sudo")
	testproc.Must(t, os.WriteFile(file, sudo, 0o755), os.Chmod(file, 0o755|os.ModeSetuid), os.Chown(dir, user, user))
	path, up := filepath.Join(dir, "a.pid"), filepath.Join(dir, "up")
	c := exec.Command(publicBinary(t), append(append([]string{"run"}, args...), path,
		file, "--reuid=0", "--regid=0", "--clear-groups", "sh", "-c", `echo >"$0"; `+script, up)...)
	w = background(t, ordinary(user, c))
	w.path = path
	if !testproc.Until(func() bool { _, err := os.Stat(up); return err == nil }) {
		t.Fatalf("COMMAND did not become root; stderr: %s", w.told())
	}
	return w, up
}

// TestSignalNotAllowed: a COMMAND that has become another user cannot be stopped by
// --max-runtime. That is told, and not that it was stopped; KILL is tried again.
func TestSignalNotAllowed(t *testing.T) {
	parallel(t)
	w, up := becomesRoot(t, `while [ -e "$0" ]; do sleep .05; done; exit 9`, "--max-runtime=.2s", "--kill-after=.2s")
	testproc.Eventually(t, "the warning", func() bool { return strings.Contains(w.told(), "KILL was not allowed") })
	if !strings.Contains(w.told(), "TERM was not allowed") {
		t.Errorf("stderr: %s", w.told())
	}
	testproc.Must(t, os.Remove(up)) // ends it
	if code := w.wait(t); code != 9 || strings.Contains(w.told(), "stopped after") || strings.Count(w.told(), "KILL") != 1 {
		t.Errorf("exit code %d, want COMMAND's own, 9; stderr: %s", code, w.told())
	}
}

// TestSignalNotPassedOn: nor can a TERM be passed on to it, and that is told.
func TestSignalNotPassedOn(t *testing.T) {
	parallel(t)
	w, up := becomesRoot(t, `while [ -e "$0" ]; do sleep .05; done; exit 9`)
	w.signal(t, unix.SIGTERM)
	testproc.Eventually(t, "the warning", func() bool { return strings.Contains(w.told(), "TERM was not allowed") })
	testproc.Must(t, os.Remove(up))
	if code := w.wait(t); code != 9 {
		t.Errorf("exit code %d, want 9; stderr: %s", code, w.told())
	}
}

// TestKillAllowedLater: the KILL that was not allowed comes when it is.
func TestKillAllowedLater(t *testing.T) {
	parallel(t)
	w, _ := becomesRoot(t, `until [ -e "$0.go" ]; do sleep .05; done; exec setpriv --reuid=54323 --regid=54323 --clear-groups sleep 1000`,
		"--max-runtime=.2s", "--kill-after=.2s")
	testproc.Eventually(t, "the warning", func() bool { return strings.Contains(w.told(), "KILL was not allowed") })
	testproc.Must(t, os.WriteFile(strings.TrimSuffix(w.path, "a.pid")+"up.go", nil, 0o644))
	if code := w.wait(t); code != 124 {
		t.Errorf("exit code %d, want 124; stderr: %s", code, w.told())
	}
}
