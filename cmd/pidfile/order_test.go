//go:build linux

package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/go-pidfile/pidfile/internal/testproc"
	"golang.org/x/sys/unix"
)

// A family is a wrapper, its COMMAND and COMMAND's child.
type family struct {
	*wrapper
	command, child int
	// What COMMAND is: one that keeps the lock it inherited, one that closed all
	// descriptors, as its child has, or one that dies together with its wrapper.
	closed, together bool
}

// raiseFamily starts a family on path.
func raiseFamily(t *testing.T, path string, flags []string, closed bool) *family {
	t.Helper()
	log := filepath.Join(filepath.Dir(path), "child")
	_ = os.Remove(log)
	// COMMAND waits at its own FIFO: its standard input ends with the wrapper.
	if err := unix.Mkfifo(log+".fifo", 0o600); err != nil && err != unix.EEXIST {
		t.Fatal(err)
	}
	script := `sleep 1000 & echo $! >"$0"; read x <>"$0.fifo"`
	if closed {
		script = `for fd in 3 4 5 6 7 8 9; do eval "exec $fd>&-"; done; ` + script
	}
	f := &family{closed: closed, together: slices.Contains(flags, "--die-together")}
	f.wrapper = prepare(t, path, "sh", "-c", script, log)
	f.Args = slices.Insert(f.Args, 2, flags...)
	f.begin(t)
	testproc.Eventually(t, "COMMAND's child", func() bool {
		text, _ := os.ReadFile(log)
		f.child, _ = strconv.Atoi(strings.TrimSpace(string(text)))
		return strings.HasSuffix(string(text), "\n")
	})
	f.command = f.wrapper.command(t)
	if open := hasOpen(f.command, path) || hasOpen(f.child, path); open == closed {
		t.Fatalf("COMMAND or its child has the lock: %v", open)
	}
	return f
}

// hasOpen reports whether pid has path's file open.
func hasOpen(pid int, path string) bool {
	file, err := os.Stat(path)
	if err != nil {
		return false
	}
	fds, _ := filepath.Glob(fmt.Sprintf("/proc/%d/fd/*", pid))
	return slices.ContainsFunc(fds, func(fd string) bool {
		fi, err := os.Stat(fd)
		return err == nil && os.SameFile(fi, file)
	})
}

// asserts checks what is to be seen of a family: the file, the lock, the status,
// and the next start.
func (f *family) asserts(t *testing.T, after string) (state string) {
	t.Helper()
	_, err := os.Stat(f.path)
	var status []map[string]any
	out, statusCode := output(t, "status", "--json", f.path)
	if err := json.Unmarshal(out, &status); err != nil || len(status) != 1 {
		t.Fatalf("%v in\n%s", err, out)
	}
	locked, pid := status[0]["locked"] == true, status[0]["pid"]
	code, stderr := try(t, f.path, "sh", "-c", "exit 8")
	wrong := func(want string) {
		t.Helper()
		t.Errorf("after the kill of %s: %s: status exits %d: %s; the next start exits %d: %s", after, want, statusCode, out, code, stderr)
	}
	switch {
	case testproc.Alive(f.command):
		state = "COMMAND runs"
		if err != nil || statusCode != 0 || pid != float64(f.command) || code != 75 || !strings.Contains(stderr, fmt.Sprintf("PID %d ", f.command)) {
			wrong("COMMAND runs")
		}
		if locked != (testproc.Alive(f.Process.Pid) || !f.closed) {
			wrong("the lock")
		}
	case err == nil && testproc.Alive(f.child) && !f.closed:
		state = "its child keeps the lock"
		if statusCode != 0 || !locked || code != 75 {
			wrong("its child has the lock")
		}
		if _, code := output(t, "stop", f.path); code != 4 || !testproc.Alive(f.child) {
			t.Errorf("stop exits %d, want 4; the child lives: %v", code, testproc.Alive(f.child))
		}
	case err == nil:
		state = "a stale file"
		if statusCode != 1 || locked || code != 8 {
			wrong("a stale file")
		}
		noFile(t, f.path)
	default:
		state = "no file"
		if statusCode != 3 || code != 8 {
			wrong("no file")
		}
		noFile(t, f.path)
	}
	return state
}

// TestKillOrders kills wrapper, COMMAND and its child, in every order. With -short
// each order is tried with one kind of family.
func TestKillOrders(t *testing.T) {
	parallel(t)
	kinds := []struct {
		name   string
		flags  []string
		closed bool
	}{
		{"inherits", nil, false},
		{"closes", nil, true},
		{"dies together", []string{"--die-together"}, false},
	}
	for i, order := range []string{"wrapper COMMAND child", "wrapper child COMMAND", "COMMAND wrapper child", "COMMAND child wrapper", "child wrapper COMMAND", "child COMMAND wrapper"} {
		t.Run(order, func(t *testing.T) {
			for j, kind := range kinds {
				for k, atOnce := range []bool{false, true} {
					if testing.Short() && (j != i%3 || k != i/3) {
						continue
					}
					t.Run(fmt.Sprintf("%s, at once: %v", kind.name, atOnce), func(t *testing.T) {
						parallel(t)
						path, seen := filepath.Join(t.TempDir(), "a.pid"), map[string]int{}
						for range testproc.Rounds(33, 1, 1) {
							f := raiseFamily(t, path, kind.flags, kind.closed)
							f.killAll(t, strings.Fields(order), atOnce, seen)
							works(t, path)
						}
						t.Logf("%v", seen)
					})
				}
			}
		})
	}
}

// killAll kills in that order. At once means that the wrapper is killed before it
// may have seen that COMMAND has ended; else it has, and has tidied up.
func (f *family) killAll(t *testing.T, order []string, atOnce bool, seen map[string]int) {
	t.Helper()
	for k, who := range order {
		switch who {
		case "wrapper":
			_ = f.Process.Kill() // it knows whether it has ended
			code := f.wrapper.wait(t)
			if code != 137 {
				t.Errorf("exit code %d, want 137: %s", code, &f.stderr)
			}
			if f.together {
				testproc.Eventually(t, "COMMAND's end", func() bool { return !testproc.Alive(f.command) })
			}
		case "COMMAND":
			if !testproc.Alive(f.command) && f.together {
				continue
			}
			if atOnce && k+1 < len(order) && order[k+1] == "wrapper" {
				if err := unix.Kill(f.command, unix.SIGKILL); err != nil {
					t.Fatal(err)
				}
				eventuallyEnds(t, f)
				continue
			}
			kill(t, f.command, unix.SIGKILL)
			if code := f.wrapper.wait(t); code != 137 {
				t.Errorf("exit code %d, want 137: %s", code, &f.stderr)
			}
		case "child":
			kill(t, f.child, unix.SIGKILL)
		}
		state := f.asserts(t, strings.Join(order[:k+1], ", "))
		seen[state]++
	}
}

// eventuallyEnds kills the wrapper at once, and returns when COMMAND has ended.
func eventuallyEnds(t *testing.T, f *family) {
	t.Helper()
	_ = f.Process.Kill()
	testproc.Eventually(t, "COMMAND's end", func() bool { return !testproc.Alive(f.command) })
}

// TestReplaceAtOnce has several stop and replace one: at no time two run, one of
// them is left, and those that were stopped say so.
func TestReplaceAtOnce(t *testing.T) {
	testproc.NotShort(t)
	parallel(t)
	dir := t.TempDir()
	path, log := filepath.Join(dir, "a.pid"), filepath.Join(dir, "log")
	old := start(t, path, "sleep", "1000")
	old.command(t)
	var all []*wrapper
	for range 3 {
		w := prepare(t, path, "sh", "-c", `echo in >>"$0"; trap "echo out >>$0; exit 9" TERM; while :; do sleep .01; done`, log)
		w.Args = slices.Insert(w.Args, 2, "--replace", "-q")
		w.begin(t)
		all = append(all, w)
	}
	if code := old.wait(t); code != 143 {
		t.Errorf("the old one: exit code %d, want 143", code)
	}
	var last *wrapper
	testproc.Eventually(t, "all but one to end", func() bool {
		running := 0
		for _, w := range all {
			select {
			case <-w.ended:
			default:
				last = w
				running++
			}
		}
		return running == 1
	})
	last.command(t)
	codes := map[int]int{}
	last.signal(t, unix.SIGTERM)
	for _, w := range all {
		code := w.wait(t)
		if codes[code]++; code != 9 && code != 143 { // 143: before it had set its trap
			t.Errorf("exit code %d: %s", code, &w.stderr)
		}
	}
	noFile(t, path)
	text, _ := os.ReadFile(log)
	within := 0
	for _, word := range strings.Fields(string(text)) {
		if within++; word == "out" {
			within -= 2
		}
		if within > 1+codes[143] || within < 0 { // those tell no end
			t.Fatalf("two ran at once: %q", text)
		}
	}
	t.Logf("%v: %q", codes, text)
}
