//go:build linux

package main

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/go-pidfile/pidfile/internal/testproc"
	"golang.org/x/sys/unix"
)

// What COMMAND, another user or a slip of the hand may do to a PID file and by
// it. Each test runs what it defends against.

// writeInherited is COMMAND that wants its PID file to name another process.
func writeInherited() {
	for fd := 3; fd < 256; fd++ {
		var st unix.Stat_t
		if unix.Fstat(fd, &st) != nil || st.Mode&unix.S_IFMT != unix.S_IFREG {
			continue
		}
		fmt.Println("inherited", fd)
		_ = unix.Flock(fd, unix.LOCK_UN)
		if _, err := unix.Pwrite(fd, []byte(os.Getenv("VICTIM")+"\n"), 0); err == nil {
			fmt.Println("wrote", fd)
		}
		if unix.Ftruncate(fd, 1<<20) == nil {
			fmt.Println("filled", fd)
		}
	}
	if unix.Truncate(os.Getenv("PIDFILE_HELD"), 0) == nil {
		fmt.Println("truncated")
	}
	os.Exit(0)
}

// victim is a process of ours that nothing may end.
func victim(t *testing.T) *exec.Cmd {
	t.Helper()
	c := exec.Command("sleep", "1000")
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if !testproc.Alive(c.Process.Pid) {
			t.Error("the victim was ended")
		}
		_ = c.Process.Kill()
		_ = c.Wait()
	})
	return c
}

// TestCommandCannotWrite: what COMMAND inherits keeps the file locked, and no
// more: not to write another's PID into root's file.
func TestCommandCannotWrite(t *testing.T) {
	parallel(t)
	needRootHere(t)
	v := victim(t)
	env, self := helperCommand(t, "write")
	copied := filepath.Join(openDirectory(t), "command") // where another user may execute it
	program, err := os.ReadFile(self)
	if err == nil {
		err = writeProgram(copied, program)
	}
	if err != nil {
		t.Fatal(err)
	}
	self = copied
	env = append(env, "VICTIM="+strconv.Itoa(v.Process.Pid))
	for name, c := range map[string]struct {
		flags   []string
		text    string // of a stale file that is there
		in      string // where the file is
		command []string
	}{
		"new":             {},
		"over stale":      {text: "4194304\n"},
		"waiting":         {flags: []string{"--wait"}},
		"another user":    {flags: []string{"--user", "65533:65533"}},
		"exec":            {flags: []string{"--exec"}},
		"exec, user":      {flags: []string{"--exec", "--user", "65533:65533"}},
		"exec over stale": {flags: []string{"--exec", "--user", "65533:65533"}, text: "4194304\n"},
		"drops rights":    {command: []string{"setpriv", "--reuid=65533", "--clear-groups", "--"}},
	} {
		t.Run(name, func(t *testing.T) {
			dir := openDirectory(t)
			path := filepath.Join(dir, "web.pid")
			if c.text != "" {
				writeFile(t, path, c.text)
			}
			args := append(append([]string{"run"}, c.flags...), path)
			args = append(append(args, c.command...), self)
			cmd := exec.Command(binary, args...)
			cmd.Env, cmd.Stderr = env, os.Stderr
			for _, flag := range c.flags { // --user gives COMMAND an environment of its own
				if flag == "--user" {
					args := append([]string{"run"}, c.flags...)
					args = append(args, path, "env", "PIDFILE_TEST_HELPER=write", "VICTIM="+strconv.Itoa(v.Process.Pid), self)
					cmd.Args = append([]string{binary}, args...)
				}
			}
			out, err := cmd.Output()
			if err != nil || !bytes.Contains(out, []byte("inherited")) {
				t.Errorf("%v: COMMAND inherits nothing: %q", err, out)
			}
			root := len(c.command) == 0 && !strings.Contains(strings.Join(c.flags, " "), "--user")
			if bytes.Contains(out, []byte("wrote")) || bytes.Contains(out, []byte("filled")) || !root && bytes.Contains(out, []byte("truncated")) {
				t.Errorf("COMMAND: %q", out)
			}
			if _, err := os.Lstat(path); err == nil && !strings.HasPrefix(name, "exec") {
				t.Error("the file is left")
			}
			if out, code := output(t, "stop", path); code != 0 {
				t.Errorf("stop: exit code %d: %s", code, out)
			}
		})
	}
}

// openDirectory is a directory of root's that everybody may search.
func openDirectory(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("/tmp", "pidfile-hands")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	return dir
}

func needRootHere(t *testing.T) {
	t.Helper()
	testproc.Root(t)
}

// TestHeirIsSeen: whoever has merely inherited the lock, and cannot write, keeps
// every start out, at once, and is found by stop.
func TestHeirIsSeen(t *testing.T) {
	fastest := func(path string, pid int) time.Duration {
		best := testproc.Patience
		for range 8 {
			began := time.Now()
			refusedBy(t, path, pid)
			best = min(best, time.Since(began))
		}
		return best
	}
	sure := start(t, filepath.Join(t.TempDir(), "a.pid"), "sleep", "1000")
	atOnce := fastest(sure.path, sure.command(t)) // by the write lock
	for _, flags := range [][]string{{}, {"--exec"}} {
		t.Run(strings.Join(append([]string{"run"}, flags...), " "), func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "a.pid")
			w := &wrapper{Cmd: exec.Command(binary, append(append([]string{"run"}, flags...), path, "sleep", "1000")...), path: path, ended: make(chan struct{})}
			w.begin(t)
			pid := w.command(t)
			if len(flags) == 0 {
				w.signal(t, unix.SIGKILL)
				w.wait(t)
			}
			if took := fastest(path, pid); took > atOnce+40*time.Millisecond { // a doubtful refusal takes 50
				t.Errorf("a refused start takes %v, and beside a wrapper %v", took, atOnce)
			}
			out, code := output(t, "status", "--explain", path)
			if code != 0 || !bytes.Contains(out, []byte("has the file open with the lock")) && !bytes.Contains(out, []byte("took the lock")) {
				t.Errorf("status: exit code %d: %s", code, out)
			}
			if out, code := output(t, "stop", path); code != 0 || !bytes.Contains(out, fmt.Appendf(nil, "PID %d stopped", pid)) {
				t.Errorf("stop: exit code %d: %s", code, out)
			}
		})
	}
}

// TestSwappedDirectory: a user exchanges her directory for a symbolic link to
// root's, while root starts something there. The files of root's own services stay.
func TestSwappedDirectory(t *testing.T) {
	testproc.NotShort(t)
	needRootHere(t)
	theirs, ours := openDirectory(t), openDirectory(t)
	service := start(t, filepath.Join(ours, "x.pid"), "sleep", "1000")
	service.command(t)
	before, err := os.Lstat(service.path)
	if err != nil {
		t.Fatal(err)
	}
	d, link := filepath.Join(theirs, "d"), filepath.Join(theirs, "link")
	if err := errors.Join(os.Mkdir(d, 0o755), os.Symlink(ours, link)); err != nil {
		t.Fatal(err)
	}
	stop, swaps := make(chan struct{}), make(chan int)
	go func() {
		n := 0
		for {
			select {
			case <-stop:
				swaps <- n
				return
			default:
				if unix.Renameat2(unix.AT_FDCWD, d, unix.AT_FDCWD, link, unix.RENAME_EXCHANGE) == nil {
					n++
				}
			}
		}
	}()
	codes := map[int]int{}
	for range testproc.Rounds(400, 30, 15) {
		for _, args := range [][]string{{"run", "-q", filepath.Join(d, "x.pid"), "true"}, {"clean", filepath.Join(d, "x.pid")}} {
			_, code := output(t, args...)
			codes[code]++
		}
		if now, err := os.Lstat(service.path); err != nil || !os.SameFile(before, now) {
			t.Errorf("the file of the running service: %v", err)
			break
		}
	}
	close(stop)
	if n := <-swaps; n < 1000 || codes[0] == 0 || codes[75] == 0 {
		t.Errorf("%d exchanges, exit codes %v: the attack did not take place", n, codes)
	}
	service.stop(t)
}

// TestNotPIDFile: who forgets to name the PID file loses nothing.
func TestNotPIDFile(t *testing.T) {
	parallel(t)
	ls, err := os.ReadFile("/bin/ls")
	if err != nil {
		t.Fatal(err)
	}
	passwd, err := os.ReadFile("/etc/passwd")
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		text []byte
		mode fs.FileMode
		size int64
	}{
		"script":           {[]byte("#!/bin/sh\ntar c /\n"), 0o755, 0},
		"empty program":    {nil, 0o755, 0},
		"copy of a binary": {ls, 0o644, 0},
		"passwd":           {passwd, 0o644, 0},
		"long line":        {bytes.Repeat([]byte("1"), 65), 0o644, 0},
		"image":            {nil, 0o644, 10 << 30},
		"text":             {[]byte("listen = 127.0.0.1\nport = 8080\nlog = /var/log/app.log\nworkers = 4\n"), 0o644, 0},
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "backup.sh")
			writeFile(t, path, string(c.text))
			if err := errors.Join(os.Chmod(path, c.mode), truncateTo(path, c.size)); err != nil {
				t.Fatal(err)
			}
			before, _ := os.Lstat(path)
			for _, args := range [][]string{{"run", path, "true"}, {"run", "--wait", path, "true"}, {"run", "--exec", path, "true"},
				{"run", "--replace", path, "true"}, {"start", path, "sleep", "1000"}} {
				cmd := exec.Command(binary, args...)
				out, err := cmd.CombinedOutput()
				if code := exitCode(t, err); code != 125 || !bytes.Contains(out, []byte(path+": not a PID file: ")) || !bytes.Contains(out, []byte("name the PID file first")) {
					t.Errorf("%s: exit code %d: %s", args, code, out)
				}
			}
			if out, _ := output(t, "clean", path); !bytes.Contains(out, []byte("left alone")) {
				t.Errorf("clean: %s", out)
			}
			if out, code := output(t, "status", path); code != 4 || !bytes.Contains(out, []byte("not a PID file")) {
				t.Errorf("status: exit code %d: %s", code, out)
			}
			after, err := os.Lstat(path)
			if err != nil || !os.SameFile(before, after) || before.Size() != after.Size() || !before.ModTime().Equal(after.ModTime()) {
				t.Errorf("the file was touched: %v", err)
			}
			if c.size == 0 {
				if text, err := os.ReadFile(path); !bytes.Equal(text, c.text) {
					t.Errorf("the file was written: %v", err)
				}
			}
		})
	}
}

func truncateTo(path string, size int64) error {
	if size == 0 {
		return nil
	}
	return os.Truncate(path, size)
}

// TestKernelFile: what looks like a file and is the kernel's state is not written.
func TestKernelFile(t *testing.T) {
	parallel(t)
	needRootHere(t)
	script := `hostname before && "$0" run /proc/sys/kernel/hostname true; code=$?; hostname; exit $code`
	cmd := exec.Command("unshare", "--uts", "sh", "-c", script, binary)
	cmd.Stderr = new(bytes.Buffer)
	out, err := cmd.Output()
	if code := exitCode(t, err); code != 125 || string(out) != "before\n" {
		t.Errorf("exit code %d, the host is called %q: %s", code, out, cmd.Stderr)
	}
}

// TestPostmaster: a file whose first line is a PID is a PID file, whatever follows.
func TestPostmaster(t *testing.T) {
	parallel(t)
	path := filepath.Join(t.TempDir(), "postmaster.pid")
	writeFile(t, path, fmt.Sprintf("%d\n", testproc.DeadPID(t))+strings.Repeat("/var/lib/postgresql/15/main\n5432\n", 400))
	works(t, path)
}

// TestReadLock: a read lock, which everybody may take who may read a file, keeps
// no start out.
func TestReadLock(t *testing.T) {
	parallel(t)
	path := filepath.Join(t.TempDir(), "a.pid")
	writeFile(t, path, fmt.Sprintf("%d\n", testproc.DeadPID(t)))
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := unix.FcntlFlock(f.Fd(), unix.F_OFD_SETLK, &unix.Flock_t{Type: unix.F_RDLCK}); err != nil {
		t.Fatal(err)
	}
	if out, code := output(t, "status", path); code != 1 {
		t.Errorf("status: exit code %d: %s", code, out)
	}
	works(t, path)
}

// TestCleanFollowsNoLink: a user exchanges a directory below the one that root
// cleans for a link to root's own. What is stale there stays.
func TestCleanFollowsNoLink(t *testing.T) {
	testproc.NotShort(t)
	needRootHere(t)
	theirs, ours := openDirectory(t), openDirectory(t)
	stale := filepath.Join(ours, "x.pid")
	writeFile(t, stale, fmt.Sprintln(testproc.DeadPID(t)))
	d, link := filepath.Join(theirs, "d"), filepath.Join(theirs, "link")
	if err := errors.Join(os.Mkdir(d, 0o755), os.Symlink(ours, link)); err != nil {
		t.Fatal(err)
	}
	stop, swaps := make(chan struct{}), make(chan int)
	go func() {
		n := 0
		for {
			select {
			case <-stop:
				swaps <- n
				return
			default:
				if unix.Renameat2(unix.AT_FDCWD, d, unix.AT_FDCWD, link, unix.RENAME_EXCHANGE) == nil {
					n++
				}
			}
		}
	}()
	cleaned := 0
	for range testproc.Rounds(4000, 40, 20) {
		for _, dir := range []string{d, link} { // one of them is the directory
			_ = os.WriteFile(filepath.Join(dir, "y.pid"), fmt.Appendln(nil, deadestPID), 0o644)
		}
		_ = os.Remove(filepath.Join(ours, "y.pid"))
		_, code := output(t, "clean", theirs)
		if code == 0 {
			cleaned++
		}
		if _, err := os.Lstat(stale); err != nil {
			t.Errorf("root's file: %v", err)
			break
		}
	}
	close(stop)
	if n := <-swaps; n < 1000 || cleaned == 0 {
		t.Errorf("%d exchanges, %d times cleaned: the attack did not take place", n, cleaned)
	}
}

// deadestPID is above what the kernel gives, unless it was told to go so far.
const deadestPID = 4194304
