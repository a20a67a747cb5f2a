//go:build linux

package pidfile_test

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/go-pidfile/pidfile"
	"github.com/go-pidfile/pidfile/internal/testproc"
	"golang.org/x/sys/unix"
)

func TestAcquire(t *testing.T) {
	path := tempPath(t)
	f := acquire(t, path)
	if f.Path() != path {
		t.Errorf("Path() = %s", f.Path())
	}
	if pid, err := pidfile.Read(path); pid != os.Getpid() || err != nil {
		t.Errorf("Read: %d, %v", pid, err)
	}
	taken(t, f, nil)
	absent(t, path)
}

func TestAcquireTwiceInOneProcess(t *testing.T) {
	path := tempPath(t)
	f := acquire(t, path)
	_, err := pidfile.Acquire(path)
	refused(t, err, path, os.Getpid(), true)
	taken(t, f, nil)
	f, err = pidfile.Acquire(path)
	taken(t, f, err)
}

func TestAcquireHeldByAnotherProcess(t *testing.T) {
	path := tempPath(t)
	h := start(t, "acquire", path).says("ok")
	_, err := pidfile.Acquire(path)
	refused(t, err, path, h.pid(), true)
	if said := h.tell("release"); said != "ok" {
		t.Errorf("its release: %s", said)
	}
	f, err := pidfile.Acquire(path)
	taken(t, f, err)
}

func TestAcquireAfterSIGKILL(t *testing.T) {
	path := tempPath(t)
	for range 5 {
		h := start(t, "acquire", path).says("ok")
		h.kill()
		if pid, err := pidfile.Read(path); pid != h.pid() || err != nil {
			t.Fatalf("what it left: %d, %v", pid, err)
		}
		f, err := pidfile.Acquire(path)
		taken(t, f, err)
	}
}

func TestAcquireHardLinked(t *testing.T) {
	path := tempPath(t)
	f := acquire(t, path)
	second := path + "2"
	must(t, os.Link(path, second))
	_, err := pidfile.Acquire(second)
	refused(t, err, second, os.Getpid(), true)
	taken(t, f, nil)
}

func TestMode(t *testing.T) {
	defer syscall.Umask(syscall.Umask(0o077))
	for _, c := range []struct{ mode, want fs.FileMode }{
		{0, 0o644}, {0o600, 0o600}, {0o640, 0o640}, {0o444, 0o444}, {0o666, 0o666}, {0o755, 0o755},
	} {
		path := tempPath(t)
		f, err := pidfile.Config{Mode: c.mode}.Acquire(path)
		must(t, err)
		fi, err := os.Lstat(path)
		must(t, err)
		if fi.Mode() != c.want {
			t.Errorf("mode %#o made %v", c.mode, fi.Mode())
		}
		must(t, f.SetPID(1)) // another file: it has that mode too
		fi, err = os.Lstat(path)
		must(t, err)
		if fi.Mode() != c.want {
			t.Errorf("mode %#o made %v after SetPID", c.mode, fi.Mode())
		}
		must(t, f.Release())
	}
}

func TestConfigRefused(t *testing.T) {
	path := tempPath(t)
	for _, c := range []pidfile.Config{
		{Mode: fs.ModeSetuid | 0o644}, {Mode: fs.ModeDir},
	} {
		if _, err := c.Acquire(path); err == nil || !strings.Contains(err.Error(), path) {
			t.Errorf("%+v: %v", c, err)
		}
	}
	absent(t, path)
}

func TestRelativePath(t *testing.T) {
	dir := t.TempDir()
	t.Chdir(dir)
	f := acquire(t, "a.pid")
	t.Chdir("/")
	if want := filepath.Join(dir, "a.pid"); f.Path() != want {
		t.Errorf("Path() = %s, want %s", f.Path(), want)
	}
	must(t, f.SetPID(1))
	must(t, f.SetPID(os.Getpid()))
	taken(t, f, nil)
	absent(t, filepath.Join(dir, "a.pid"))
}

func TestDefaultPath(t *testing.T) {
	t.Chdir(t.TempDir())
	f := acquire(t, pidfile.DefaultPath)
	if filepath.Base(f.Path()) != "pidfile" {
		t.Errorf("Path() = %s", f.Path())
	}
	taken(t, f, nil)
}

func TestSetPID(t *testing.T) {
	path := tempPath(t)
	f := acquire(t, path)
	for _, pid := range []int{1, 4194304, 42, os.Getpid()} {
		must(t, f.SetPID(pid))
		if got, err := pidfile.Read(path); got != pid || err != nil || f.PID() != pid {
			t.Errorf("SetPID(%d): PID() = %d, Read = %d, %v", pid, f.PID(), got, err)
		}
		_, err := pidfile.Acquire(path)
		refused(t, err, path, pid, true)
	}
	for _, pid := range []int{0, -1, 4194305} {
		if err := f.SetPID(pid); err == nil || !strings.Contains(err.Error(), path) {
			t.Errorf("SetPID(%d): %v", pid, err)
		}
	}
	taken(t, f, nil)
	if err := f.SetPID(1); !errors.Is(err, fs.ErrClosed) {
		t.Errorf("SetPID after Release: %v", err)
	}
	absent(t, path)
	entries, err := os.ReadDir(filepath.Dir(path))
	if len(entries) != 0 || err != nil {
		t.Errorf("left in the directory: %v, %v", entries, err)
	}
}

// A reader at any moment sees one of the PIDs, whole.
func TestSetPIDIsAtomic(t *testing.T) {
	path := tempPath(t)
	f := acquire(t, path)
	must(t, f.SetPID(1))
	stop, reads := make(chan struct{}), make(chan int)
	go func() {
		n := 0
		defer func() { reads <- n }()
		for ; ; n++ {
			select {
			case <-stop:
				return
			default:
			}
			if pid, err := pidfile.Read(path); err != nil || pid != 1 && pid != 4194304 {
				t.Errorf("read %d, %v", pid, err)
				return
			}
		}
	}()
	for range testproc.Rounds(5000, 200, 50) {
		must(t, f.SetPID(4194304))
		must(t, f.SetPID(1))
	}
	close(stop)
	if n := <-reads; n < 10 {
		t.Logf("only %d reads", n)
	}
	must(t, f.Release())
}

func TestReleaseTwice(t *testing.T) {
	f := acquire(t, tempPath(t))
	must(t, f.Release())
	if err := f.Release(); !errors.Is(err, fs.ErrClosed) || !strings.Contains(err.Error(), f.Path()) {
		t.Errorf("second release: %v", err)
	}
}

func TestReleaseLeavesAnothersFile(t *testing.T) {
	for name, change := range map[string]func(path string) error{
		"removed and made again": func(path string) error {
			if err := os.Remove(path); err != nil {
				return err
			}
			return os.WriteFile(path, []byte("1"), 0o600)
		},
		"replaced by rename": func(path string) error {
			if err := os.WriteFile(path+".new", []byte("1"), 0o600); err != nil {
				return err
			}
			return os.Rename(path+".new", path)
		},
		"overwritten in place": func(path string) error { return os.WriteFile(path, []byte("1"), 0o600) },
	} {
		t.Run(name, func(t *testing.T) {
			path := tempPath(t)
			f := acquire(t, path)
			must(t, change(path))
			must(t, f.Release())
			if got := content(t, path); got != "1" {
				t.Errorf("the other's file has %q", got)
			}
		})
	}
}

// A File that its owner forgot keeps its lock.
func TestForgottenFileKeepsItsLock(t *testing.T) {
	path := tempPath(t)
	func() { acquire(t, path) }()
	for range 5 {
		runtime.GC()
		garbage := make([]byte, 1<<20)
		runtime.KeepAlive(garbage)
	}
	start(t, "acquire", path).says(fmt.Sprintf("running %d true", os.Getpid()))
}

func TestChildDoesNotInherit(t *testing.T) {
	path := tempPath(t)
	h := start(t, "parent", path)
	child, err := strconv.Atoi(h.said)
	if err != nil {
		t.Fatal(h.said)
	}
	_ = h.cmd.Process.Kill()
	_, _ = h.cmd.Process.Wait()
	if err := unix.Kill(child, 0); err != nil {
		t.Fatalf("the child is to outlive its parent: %v", err)
	}
	f, err := pidfile.Acquire(path)
	taken(t, f, err)
	h.end()
}
