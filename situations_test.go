//go:build linux

package pidfile_test

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/go-pidfile/pidfile"
	"github.com/go-pidfile/pidfile/internal/testproc"
	"golang.org/x/sys/unix"
)

// What a file may say that must not stop a start.
func TestLeftOverTexts(t *testing.T) {
	for name, text := range map[string]string{
		"empty":           "",
		"newline":         "\n",
		"blanks":          "  \t \n",
		"letters":         "sshd\n",
		"NULs":            strings.Repeat("\x00", 4096), // as XFS left after a crash
		"zero":            "0\n",
		"minus one":       "-1\n",
		"minus our PID":   fmt.Sprintf("-%d\n", os.Getppid()),
		"plus":            "+1\n",
		"hexadecimal":     "0x1\n",
		"two numbers":     "1 1\n",
		"over maximum":    "4194305\n",
		"wraps to 1":      "4294967297\n",
		"wraps 64 bits":   "18446744073709551617\n",
		"a dead PID":      fmt.Sprintf("%d\n", testproc.DeadPID(t)),
		"the largest PID": "4194304\n",
		"our own":         fmt.Sprintf("%d\n", os.Getpid()),
		"our own, no \\n": fmt.Sprint(os.Getpid()),
		"init":            "1\n",
		"64 digits":       strings.Repeat("1", 64),
		"binary":          "\x7fELF\x02\x01\x01",
		"JSON":            `{"pid": 1}`,
	} {
		t.Run(name, func(t *testing.T) {
			path := tempPath(t)
			write(t, path, text)
			f, err := pidfile.Acquire(path)
			taken(t, f, err)
			absent(t, path)
		})
	}
}

func TestLeftOverOfAnotherProgram(t *testing.T) {
	sleep := exec.Command("sleep", "600")
	must(t, sleep.Start())
	defer func() { _ = sleep.Process.Kill(); _ = sleep.Wait() }()
	path := tempPath(t)
	write(t, path, fmt.Sprintf("%d\n", sleep.Process.Pid))
	f, err := pidfile.Acquire(path)
	taken(t, f, err)
}

func TestLeftOverOfZombie(t *testing.T) {
	h := start(t, "idle", "").says("idle")
	path := tempPath(t)
	write(t, path, fmt.Sprintf("%d\n", h.pid()))
	_, err := pidfile.Acquire(path) // it lives, and is the same program
	refused(t, err, path, h.pid(), false)
	must(t, h.in.Close())
	h.exited()
	f, err := pidfile.Acquire(path)
	taken(t, f, err)
}

// The PID is that of the same program, but of a process that cannot have
// written the file: it was not there yet.
func TestLeftOverOfReusedPID(t *testing.T) {
	h := start(t, "idle", "").says("idle")
	path := tempPath(t)
	write(t, path, fmt.Sprintf("%d\n", h.pid()))
	before := time.Now().Add(-longSince)
	must(t, os.Chtimes(path, before, before))
	f, err := pidfile.Acquire(path)
	taken(t, f, err)
}

// Programs that write PID files and never lock them are respected, if they are
// the same program as we.
func TestUnlockedHolder(t *testing.T) {
	for _, c := range []struct {
		name, mode string
		change     []func(*exec.Cmd)
	}{
		{"python-pidfile", "python", nil},
		{"postmaster.pid", "postmaster", nil},
		{"another argv[0]", "python", []func(*exec.Cmd){argv0("renamed")}},
	} {
		t.Run(c.name, func(t *testing.T) {
			path := tempPath(t)
			h := start(t, c.mode, path, c.change...).says("ok")
			before := content(t, path)
			_, err := pidfile.Acquire(path)
			refused(t, err, path, h.pid(), false)
			if got := content(t, path); got != before {
				t.Errorf("its text %q became %q", before, got)
			}
			h.end()
			f, err := pidfile.Acquire(path)
			taken(t, f, err)
		})
	}
}

// The same argv[0] alone makes a process the same program, as it does to
// python-pidfile.
func TestUnlockedHolderByName(t *testing.T) {
	sleep := exec.Command("sleep", "600")
	sleep.Args[0] = os.Args[0]
	must(t, sleep.Start())
	defer func() { _ = sleep.Process.Kill(); _ = sleep.Wait() }()
	path := tempPath(t)
	write(t, path, fmt.Sprintf("%d\n", sleep.Process.Pid))
	_, err := pidfile.Acquire(path)
	refused(t, err, path, sleep.Process.Pid, false)
}

// Config.Command says whose program counts.
func TestUnlockedHolderOfCommand(t *testing.T) {
	sleep := exec.Command("sleep", "600")
	must(t, sleep.Start())
	defer func() { _ = sleep.Process.Kill(); _ = sleep.Wait() }()
	path := tempPath(t)
	write(t, path, fmt.Sprintf("%d\n", sleep.Process.Pid))
	_, err := pidfile.Config{Command: []string{"sleep", "1"}}.Acquire(path)
	refused(t, err, path, sleep.Process.Pid, false)
	f, err := pidfile.Config{Command: []string{"cat"}}.Acquire(path)
	taken(t, f, err)
}

func TestPythonRespectsUs(t *testing.T) {
	path := tempPath(t)
	f := acquire(t, path)
	start(t, "python", path).says(fmt.Sprintf("running %d", os.Getpid()))
	taken(t, f, nil)
	start(t, "python", path).says("ok")
}

// flocker is flock(1), holding path.
func flocker(t *testing.T, path string) *helper {
	t.Helper()
	testproc.Tool(t, "flock")
	return startCmd(t, exec.Command("flock", path, "sh", "-c", "echo ready; cat")).says("ready")
}

func TestHeldByFlock(t *testing.T) {
	path := tempPath(t)
	h := flocker(t, path) // it makes the file, and leaves it empty
	_, err := pidfile.Acquire(path)
	refused(t, err, path, 0, true)
	if got := content(t, path); got != "" {
		t.Errorf("its file has %q now", got)
	}
	h.end()
	f, err := pidfile.Acquire(path)
	taken(t, f, err)
}

func TestFlockRespectsUs(t *testing.T) {
	testproc.Tool(t, "flock")
	path := tempPath(t)
	f := acquire(t, path)
	err := exec.Command("flock", "-n", path, "true").Run()
	var exit *exec.ExitError
	if !errors.As(err, &exit) || exit.ExitCode() != 1 {
		t.Errorf("flock -n: %v", err)
	}
	taken(t, f, nil)
}

func TestHeldByFcntl(t *testing.T) {
	path := tempPath(t)
	h := start(t, "fcntl", path).says("ok")
	_, err := pidfile.Acquire(path)
	refused(t, err, path, h.pid(), true) // the kernel tells the PID of that lock
	if got := content(t, path); got != "" {
		t.Errorf("its file has %q now", got)
	}
	h.end()
	f, err := pidfile.Acquire(path)
	taken(t, f, err)
}

func TestFcntlRespectsUs(t *testing.T) {
	path := tempPath(t)
	f := acquire(t, path)
	if h := start(t, "fcntl", path); h.said == "ok" {
		t.Error("fcntl got a lock on a held file")
	}
	taken(t, f, nil)
}

func TestWaitForStrangers(t *testing.T) {
	for _, c := range []struct {
		name  string
		start func(t *testing.T, path string) *helper
		asked func(t *testing.T, path string) // returns once we wait for it
		end   func(*helper)
	}{
		{"flock(1)", flocker, queued, (*helper).end},
		{"fcntl, exits", withMode("fcntl"), queued, (*helper).end},
		{"fcntl, killed", withMode("fcntl"), queued, (*helper).kill},
		{"unlocked, removes its file", withMode("python"), watched, func(h *helper) { h.tell("remove") }},
		{"unlocked, exits", withMode("python"), watched, (*helper).end},
		{"unlocked, killed", withMode("python"), watched, (*helper).kill},
	} {
		t.Run(c.name, func(t *testing.T) {
			path := tempPath(t)
			h := c.start(t, path)
			w := wait(t, path)
			c.asked(t, path)
			w.still()
			c.end(h)
			w.got()
		})
	}
}

func withMode(mode string) func(*testing.T, string) *helper {
	return func(t *testing.T, path string) *helper { return start(t, mode, path).says("ok") }
}

// watched waits until this process watches path, or its directory, by inotify(7).
func watched(t *testing.T, path string) {
	t.Helper()
	in, err := unix.InotifyInit1(unix.IN_CLOEXEC)
	must(t, err)
	defer unix.Close(in)
	_, _ = unix.InotifyAddWatch(in, path, unix.IN_ATTRIB) // it may be missing
	_, err = unix.InotifyAddWatch(in, filepath.Dir(path), unix.IN_ATTRIB)
	must(t, err)
	ours := strconv.Itoa(in)
	want := watchedInodes(ours)
	if len(want) == 0 {
		t.Fatal("the kernel does not tell what our own descriptor watches")
	}
	testproc.Eventually(t, path+" is watched", func() bool {
		fds, err := os.ReadDir("/proc/self/fdinfo")
		must(t, err)
		return slices.ContainsFunc(fds, func(fd os.DirEntry) bool {
			return fd.Name() != ours && slices.ContainsFunc(watchedInodes(fd.Name()), func(inode string) bool {
				return slices.Contains(want, inode)
			})
		})
	})
}

// watchedInodes is what a descriptor of ours watches, proc_pid_fdinfo(5): lines such as
// "inotify wd:1 ino:2a sdev:1c mask:4 ...".
func watchedInodes(fd string) (inodes []string) {
	text, _ := os.ReadFile("/proc/self/fdinfo/" + fd) // it may have been closed
	for line := range strings.Lines(string(text)) {
		if f := strings.Fields(line); len(f) > 3 && f[0] == "inotify" {
			inodes = append(inodes, f[2]+" "+f[3])
		}
	}
	return inodes
}

// tree is all there is to see of a directory.
func tree(t *testing.T, dir string) string {
	t.Helper()
	var all strings.Builder
	must(t, filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		var st unix.Stat_t
		if err := unix.Lstat(path, &st); err != nil {
			return err
		}
		fmt.Fprintln(&all, path, st.Ino, st.Mode, st.Nlink, st.Size, st.Mtim)
		return nil
	}))
	return all.String()
}

// Refused at once, without touching anything, and the error says why.
func TestRefusedPaths(t *testing.T) {
	for _, c := range []struct {
		name  string
		base  string // what is asked for
		make  func(t *testing.T, path string)
		cause error
		says  string
	}{
		{"symbolic link", "a.pid", func(t *testing.T, path string) {
			write(t, path+".target", "1\n")
			must(t, os.Symlink(path+".target", path))
		}, unix.ELOOP, "symbolic link"},
		{"dangling symbolic link", "a.pid", func(t *testing.T, path string) {
			must(t, os.Symlink(path+".target", path))
		}, unix.ELOOP, "symbolic link"},
		{"directory", "a.pid", func(t *testing.T, path string) {
			must(t, os.Mkdir(path, 0o755))
		}, unix.EISDIR, "is a directory"},
		{"FIFO", "a.pid", func(t *testing.T, path string) {
			must(t, unix.Mkfifo(path, 0o644))
		}, unix.EINVAL, "FIFO"},
		{"device", "a.pid", func(t *testing.T, path string) { // a second /dev/null
			testproc.Root(t)
			must(t, unix.Mknod(path, unix.S_IFCHR|0o666, int(unix.Mkdev(1, 3))))
		}, unix.EINVAL, "device"},
		{"socket", "a.pid", func(t *testing.T, path string) {
			listen(t, path)
		}, unix.EINVAL, "socket"},
		{"trailing slash", "a.pid/", nil, unix.EISDIR, "is a directory"},
		{"trailing slash after a file", "a.pid/", func(t *testing.T, path string) {
			write(t, strings.TrimSuffix(path, "/"), "1\n")
		}, unix.EISDIR, "is a directory"},
		{"missing directory", "no/such/a.pid", nil, fs.ErrNotExist, "no such directory"},
		{"a file as the directory", "file/a.pid", func(t *testing.T, path string) {
			write(t, filepath.Dir(path), "")
		}, unix.ENOTDIR, "not a directory"},
		{"too long a name", strings.Repeat("a", 256) + ".pid", nil, unix.ENAMETOOLONG, "file name too long"},
		{"NUL", "a\x00.pid", nil, unix.EINVAL, "invalid argument"},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir, err := os.MkdirTemp("", "pf")
			must(t, err)
			defer os.RemoveAll(dir)
			path := dir + "/" + c.base
			if c.make != nil {
				c.make(t, path)
			}
			before := tree(t, dir)
			for name, err := range map[string]error{"Acquire": acquireError(path), "Wait": waitError(t, path)} {
				var pathError *fs.PathError
				switch {
				case !errors.As(err, &pathError):
					t.Errorf("%s: error %v is not an *fs.PathError", name, err)
				case pathError.Path != path:
					t.Errorf("%s: error %q does not name %q", name, err, path)
				case !errors.Is(err, c.cause):
					t.Errorf("%s: error %q is not %q", name, err, c.cause)
				case !strings.Contains(err.Error(), c.says):
					t.Errorf("%s: error %q does not say %q", name, err, c.says)
				}
			}
			if after := tree(t, dir); after != before {
				t.Errorf("before:\n%safter:\n%s", before, after)
			}
		})
	}
}

// listen makes a socket at path. Its name may be of 107 bytes (unix(7)), and path
// may be longer.
func listen(t *testing.T, path string) {
	t.Helper()
	dir, err := os.Open(filepath.Dir(path))
	must(t, err)
	l, err := net.Listen("unix", fmt.Sprintf("/proc/self/fd/%d/%s", dir.Fd(), filepath.Base(path)))
	must(t, err)
	t.Cleanup(func() { l.Close(); dir.Close() })
}

func acquireError(path string) error {
	_, err := pidfile.Acquire(path)
	return err
}

func waitError(t *testing.T, path string) error {
	_, err := pidfile.AcquireContext(t.Context(), path)
	return err
}

func TestRefusedEmptyPath(t *testing.T) {
	dir := t.TempDir()
	t.Chdir(dir)
	before := tree(t, dir)
	err := acquireError("")
	if err == nil || !strings.Contains(err.Error(), "empty path") {
		t.Errorf("error %v", err)
	}
	if after := tree(t, dir); after != before {
		t.Errorf("before:\n%safter:\n%s", before, after)
	}
}

func TestFullDisk(t *testing.T) {
	testproc.Root(t)
	dir := t.TempDir()
	if err := unix.Mount("pidfile-test", dir, "tmpfs", 0, "size=64k"); err != nil {
		testproc.Skip(t, "mount", "no tmpfs can be mounted: ", err)
	}
	t.Cleanup(func() { must(t, unix.Unmount(dir, 0)) })
	filler := filepath.Join(dir, "filler")
	err := os.WriteFile(filler, bytes.Repeat([]byte("x"), 1<<20), 0o644)
	if !errors.Is(err, unix.ENOSPC) {
		t.Fatalf("the disk is not full: %v", err)
	}
	path := filepath.Join(dir, "a.pid")
	before := tree(t, dir)
	err = acquireError(path)
	var pathError *fs.PathError
	if !errors.Is(err, unix.ENOSPC) || !errors.As(err, &pathError) || pathError.Path != path {
		t.Errorf("error %v", err)
	}
	if after := tree(t, dir); after != before {
		t.Errorf("before:\n%safter:\n%s", before, after)
	}
	must(t, os.Remove(filler))
	f, err := pidfile.Acquire(path)
	taken(t, f, err)
}

func TestNoPermission(t *testing.T) {
	dir := testproc.PublicDir(t)
	path := filepath.Join(dir, "a.pid")
	before := tree(t, dir)
	h := start(t, "acquire", path, as(t, nobody))
	if !strings.Contains(h.said, path) || !strings.Contains(h.said, "permission denied") {
		t.Errorf("nothing there: %s", h.said)
	}
	if after := tree(t, dir); after != before {
		t.Errorf("before:\n%safter:\n%s", before, after)
	}
	t.Run("stale file of root", func(t *testing.T) {
		write(t, path, "4194304\n")
		before := tree(t, dir)
		h := start(t, "acquire", path, as(t, nobody))
		if !strings.Contains(h.said, path) || !strings.Contains(h.said, "permission denied") || !strings.Contains(h.said, "stale") {
			t.Errorf("root's: %s", h.said)
		}
		if after := tree(t, dir); after != before {
			t.Errorf("before:\n%safter:\n%s", before, after)
		}
	})
	t.Run("stale file that we may not read", func(t *testing.T) {
		must(t, os.Chmod(path, 0o600))
		h := start(t, "acquire", path, as(t, nobody))
		if !strings.Contains(h.said, path) || !strings.Contains(h.said, "permission denied") {
			t.Errorf("root's: %s", h.said)
		}
	})
}

func TestHolderSeenByAnotherUser(t *testing.T) {
	path := filepath.Join(testproc.PublicDir(t), "a.pid")
	f := acquire(t, path)
	start(t, "acquire", path, as(t, nobody)).says(fmt.Sprintf("running %d true", os.Getpid()))
	taken(t, f, nil)
}

// Root made the directory and the file, and gave the file to the daemon.
func TestInPlace(t *testing.T) {
	testproc.Root(t)
	path := filepath.Join(testproc.PublicDir(t), "a.pid")
	for _, left := range []string{"", "4194304\nand more\n"} {
		write(t, path, left)
		must(t, os.Chown(path, nobody, nobody))
		var before, now syscall.Stat_t
		must(t, syscall.Lstat(path, &before))
		for range 2 {
			h := start(t, "acquire", path, as(t, nobody)).says("ok")
			if got, want := content(t, path), fmt.Sprintf("%d\n", h.pid()); got != want {
				t.Errorf("the file says %q, want %q", got, want)
			}
			start(t, "acquire", path, as(t, nobody)).says(fmt.Sprintf("running %d true", h.pid()))
			_, err := pidfile.Acquire(path) // root, who could remove it
			refused(t, err, path, h.pid(), true)
			if said := h.tell("release"); said != "ok" {
				t.Errorf("release: %s", said)
			}
			if got := content(t, path); got != "" {
				t.Errorf("released, the file says %q", got)
			}
			h.end()
		}
		must(t, syscall.Lstat(path, &now))
		if now.Ino != before.Ino || now.Uid != nobody {
			t.Errorf("another file: %v, was %v", now, before)
		}
	}
}
