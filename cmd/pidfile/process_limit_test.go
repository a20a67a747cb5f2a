//go:build linux

package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/go-pidfile/pidfile/internal/testproc"
	"golang.org/x/sys/unix"
)

// TestProcessLimit: when COMMAND takes away the last process or thread that its user
// may have, at once, the wrapper goes on: it puts the file back, though nobody reads
// what it tells of that, it passes signals on, and returns COMMAND's exit code.
func TestProcessLimit(t *testing.T) {
	parallel(t)
	prlimit := testproc.Tool(t, "prlimit")
	for _, args := range [][]string{nil, {"--die-together"}, {"--tree"}, {"--group"}, {"--on-lost=stop"}} {
		t.Run(fmt.Sprint(args), func(t *testing.T) {
			dir, err := os.MkdirTemp("", "pidfile-public-")
			testproc.Must(t, err)
			t.Cleanup(func() { _ = os.RemoveAll(dir) })
			path, up := filepath.Join(dir, "a.pid"), filepath.Join(dir, "up")
			// All processes of the user count, and no less than one is there.
			const script = `"$1" --pid $PPID --nproc=1:1 && echo >"$2" && read line; exit 7`
			c := exec.Command(publicBinary(t), append(append([]string{"run"}, args...), path, "sh", "-c", script, "sh", prlimit, up)...)
			if os.Getuid() == 0 { // whom no limit stops
				const user = 54321
				testproc.Must(t, os.Chown(dir, user, user))
				ordinary(user, c)
			}
			keyboard, err := c.StdinPipe()
			testproc.Must(t, err)
			w := background(t, c)
			w.path = path
			testproc.Eventually(t, "COMMAND", func() bool { _, err := os.Stat(up); return err == nil || !testproc.Alive(w.Process.Pid) })
			for range 3 {
				// It may not be watched yet.
				testproc.Eventually(t, "the loss is seen", func() bool {
					_ = os.Remove(path)
					return testproc.Until(func() bool {
						_, err := os.Stat(path)
						return err == nil || !testproc.Alive(w.Process.Pid)
					})
				})
			}
			if len(args) > 0 && args[0] == "--on-lost=stop" {
				if code := w.wait(t); code != 124 && code != 143 {
					t.Errorf("exit code %d; stderr: %s", code, w.told())
				}
			} else {
				w.signal(t, unix.SIGWINCH)
				keyboard.Close()
				if code := w.wait(t); code != 7 {
					t.Errorf("exit code %d, want 7; stderr: %s", code, w.told())
				}
			}
			if strings.Contains(w.told(), "goroutine") {
				t.Errorf("it died: %s", w.told())
			}
		})
	}
}
