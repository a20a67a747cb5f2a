//go:build linux

package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/go-pidfile/pidfile/internal/testproc"
	"golang.org/x/sys/unix"
)

func init() {
	if os.Getenv("PIDFILE_TEST_HELPER") == "hung" { // mounts FUSE by descriptor 3 on $MOUNT, and becomes its arguments
		err := unix.Mount("hung", os.Getenv("MOUNT"), "fuse", unix.MS_NOSUID|unix.MS_NODEV, "fd=3,rootmode=40755,user_id=0,group_id=0")
		if err == nil {
			unix.CloseOnExec(3)
			err = unix.Exec(os.Args[1], os.Args[1:], os.Environ())
		}
		fmt.Fprintln(os.Stderr, err)
		os.Exit(99)
	}
}

// TestHungFileSystem: a file system that never answers does not keep a command from
// ending at its time, or at a TERM.
func TestHungFileSystem(t *testing.T) {
	parallel(t)
	for _, row := range []struct {
		code int
		args []string
	}{{124, []string{"wait", "-t", "100ms"}}, {124, []string{"wait", "--running", "-t", "100ms"}},
		{4, []string{"stop", "-t", "100ms"}}, {4, []string{"signal", "HUP"}}} {
		t.Run(row.args[0], func(t *testing.T) {
			parallel(t)
			if row.args[0] == "signal" && testing.Short() {
				t.Skip("the command gives up after ten seconds")
			}
			w := onHungFileSystem(t, row.args...)
			if code := w.wait(t); code != row.code {
				t.Errorf("exit code %d, want %d: %s", code, row.code, text(w.Stderr.(*os.File).Name()))
			}
		})
	}
	t.Run("TERM", func(t *testing.T) {
		parallel(t)
		w := onHungFileSystem(t, "wait")
		testproc.Eventually(t, "a call that hangs", func() bool {
			tasks, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/wchan", w.Process.Pid))
			for _, task := range tasks {
				text, _ := os.ReadFile(task)
				if strings.Contains(string(text), "fuse") || strings.Contains(string(text), "request_wait_answer") {
					return true
				}
			}
			return false
		})
		w.signal(t, unix.SIGTERM)
		if code := w.wait(t); code != 143 {
			t.Errorf("exit code %d", code)
		}
	})
}

// onHungFileSystem starts a command with a PID file on a FUSE whose server never
// answers. It is mounted for the command alone: lsof(8) of another test would look
// at it too, and hang.
func onHungFileSystem(t *testing.T, args ...string) *wrapper {
	t.Helper()
	testproc.Root(t)
	env, helper := helperCommand(t, "hung")
	fuse, err := os.OpenFile("/dev/fuse", os.O_RDWR, 0)
	if err != nil {
		testproc.Skip(t, "/dev/fuse", err)
	}
	dir := t.TempDir()
	c := exec.Command(helper, append([]string{binary}, append(args, filepath.Join(dir, "a.pid"))...)...)
	c.Env = append(env, "MOUNT="+dir)
	c.ExtraFiles = []*os.File{fuse}
	c.SysProcAttr = &syscall.SysProcAttr{Unshareflags: unix.CLONE_NEWNS}
	w := background(t, c)
	t.Cleanup(func() { fuse.Close() }) // before it is waited for: ends every call that hangs
	return w
}
