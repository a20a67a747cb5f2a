//go:build linux

package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/go-pidfile/pidfile/internal/testproc"
	"golang.org/x/sys/unix"
)

// orphanage leaves $2 orphans to its parent, waits for it to reap them, and ends
// with 7. It tells how many have not been reaped.
const orphanage = `
i=0
while [ $i -lt $2 ]; do (true &); i=$((i+1)); done
zombies() { ps -o stat= --ppid $PPID | grep -c Z; }
i=0
while [ $(zombies) -gt 0 ] && [ $i -lt $1 ]; do i=$((i+1)); sleep .05; done
echo zombies: $(zombies)
exit 7`

// TestOrphans: as PID 1, and as subreaper (--tree), pidfile reaps what COMMAND
// leaves behind while COMMAND runs, and the exit code is COMMAND's.
func TestOrphans(t *testing.T) {
	parallel(t)
	testproc.Tool(t, "ps")
	n := strconv.Itoa(testproc.Rounds(1000, 200, 20))
	namespace := []string{"unshare", "--pid", "--fork", "--mount-proc"}
	unshared := exec.Command(namespace[0], append(namespace[1:], "true")...).Run() == nil
	for _, c := range []struct {
		name string
		line []string
	}{
		{"PID 1", slices.Concat(namespace, []string{binary, "run"})},
		{"PID 1 tree", slices.Concat(namespace, []string{binary, "run", "--tree"})},
		{"PID 1 group", slices.Concat(namespace, []string{binary, "run", "--group"})},
		{"tree", []string{binary, "run", "--tree"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			if c.line[0] == "unshare" && !unshared {
				testproc.Skip(t, "PID namespaces")
			}
			parallel(t)
			path := filepath.Join(t.TempDir(), "a.pid")
			out, code := runLine(t, append(c.line, path, "sh", "-c", orphanage, "sh", "400", n))
			if code != 7 || !strings.Contains(out, "zombies: 0\n") {
				t.Errorf("exit code %d, want 7: %s", code, out)
			}
			noFile(t, path)
		})
	}
	t.Run("negative control", func(t *testing.T) {
		parallel(t)
		if !unshared {
			testproc.Skip(t, "PID namespaces")
		}
		env, helper := helperCommand(t, "blind")
		c := exec.Command(namespace[0], slices.Concat(namespace[1:], []string{helper, "sh", "-c", orphanage, "sh", "2", n})...)
		c.Env = env
		out, err := c.CombinedOutput()
		if exitCode(t, err) != 7 || !strings.Contains(string(out), "zombies: "+n+"\n") {
			t.Errorf("a PID 1 that does not reap: %v, %s", err, out)
		}
	})
	t.Run("PID 1 waits for the tree", func(t *testing.T) {
		parallel(t)
		if !unshared {
			testproc.Skip(t, "PID namespaces")
		}
		dir := t.TempDir()
		path, done := filepath.Join(dir, "a.pid"), filepath.Join(dir, "done")
		script := `i=0; while [ $i -lt 100 ]; do (sh -c "sleep .3; echo >>$0" &); i=$((i+1)); done; exit 7`
		out, code := runLine(t, slices.Concat(namespace, []string{binary, "run", "--tree", path, "sh", "-c", script, done}))
		text, _ := os.ReadFile(done)
		if code != 7 || len(text) != 100 {
			t.Errorf("exit code %d, want 7; %d orphans of 100 came to their end: %s", code, len(text), out)
		}
		noFile(t, path)
	})
}

// TestWaitAsPID1: a container that waits for the file can be stopped, though the
// kernel spares PID 1.
func TestWaitAsPID1(t *testing.T) {
	parallel(t)
	testproc.Tool(t, "unshare")
	if exec.Command("unshare", "--pid", "--fork", "true").Run() != nil {
		testproc.Skip(t, "PID namespaces")
	}
	holder := start(t, filepath.Join(t.TempDir(), "a.pid"), "sleep", "1000")
	holder.command(t)
	for _, flag := range []string{"--wait", "--timeout=1h"} {
		c := exec.Command("unshare", "--pid", "--fork", binary, "run", "-q", flag, holder.path, "true")
		w := background(t, c)
		one := 0
		testproc.Eventually(t, "a waiting PID 1", func() bool {
			if kids := testproc.Children(c.Process.Pid); len(kids) == 1 {
				one = kids[0]
			}
			return one > 0 && testproc.Blocked(holder.path) > 0
		})
		if err := unix.Kill(one, unix.SIGTERM); err != nil {
			t.Fatalf("%s: %v", flag, err)
		}
		if code := w.wait(t); code != 143 {
			t.Errorf("%s: exit code %d, want 143", flag, code)
		}
	}
}

func runLine(t *testing.T, line []string) (string, int) {
	t.Helper()
	out, err := exec.Command(line[0], line[1:]...).CombinedOutput()
	return string(out), exitCode(t, err)
}

// TestInNamespace: where flock(1)'s locks from outside cannot be seen, as in a
// container, nothing that others may have locked is stale, and what takes a lock
// is sure nonetheless.
func TestInNamespace(t *testing.T) {
	parallel(t)
	testproc.Root(t)
	testproc.Tool(t, "unshare")
	testproc.Tool(t, "flock")
	dir := testproc.MemoryDir(t) // older than the namespace
	dead, locked := filepath.Join(dir, "dead.pid"), filepath.Join(dir, "locked.pid")
	writeFile(t, dead, "4194304\n")
	writeFile(t, locked, "4194304\n")
	background(t, exec.Command("flock", locked, "sh", "-c", "echo up >"+dir+"/up; exec sleep 1000"))
	awaitText(t, filepath.Join(dir, "up"))
	inside := func(args ...string) result {
		return finish(t, exec.Command("unshare", append([]string{"-p", "-f", "--mount-proc", binary}, args...)...))
	}
	for _, path := range []string{dead, locked} {
		inside("status", path).is(t, 4, `: unknown, names PID 4194304: the file is not locked, as far as can be seen from here; .*cannot be seen`)
	}
	inside("list", dir).is(t, 0, `(?s)^STATE .*unknown  4194304 .*dead\.pid.*unknown  4194304 .*locked\.pid`)
	inside("stop", dead).is(t, 0, `: not running\n$`)
	inside("wait", dead).is(t, 0, `: not running\n$`)
	inside("wait", "-t", "500ms", locked).is(t, 124, `: still running\n$`)
	if r := inside("stop", locked); r.code != 4 || !strings.Contains(r.stderr, "not proven") {
		t.Errorf("stop: exit code %d: %s%s", r.code, r.stdout, r.stderr)
	}
	inside("clean", "-n", dir).is(t, 0, `^$`)
	inside("clean", "-n", dead).is(t, 0, `left alone, unknown`)
	inside("clean", locked).is(t, 0, `left alone, unknown`)
	inside("clean", dir).is(t, 0, `^`+dead+`: removed: .*but it could be locked\n$`)
	noFile(t, dead)
	if _, err := os.Lstat(locked); err != nil {
		t.Error(err)
	}
}
