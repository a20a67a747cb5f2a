//go:build linux

package pidfile_test

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/go-pidfile/pidfile"
	"golang.org/x/sys/unix"
)

// handDown makes this process what a child of f's would be, without one.
func handDown(t *testing.T, f *pidfile.File) {
	t.Helper()
	var cmd exec.Cmd
	must(t, f.HandOff(&cmd))
	var fds []string
	for _, file := range cmd.ExtraFiles {
		fd, err := unix.FcntlInt(file.Fd(), unix.F_DUPFD_CLOEXEC, 3)
		must(t, err)
		fds = append(fds, strconv.Itoa(fd))
		must(t, file.Close()) // we are the command
	}
	t.Setenv(inheritedEnv, strings.Join(fds, ":"))
}

// openFiles is what our descriptors are, without those that are garbage.
func openFiles(t *testing.T) string {
	t.Helper()
	collectFiles()
	fds, err := os.ReadDir("/proc/self/fd")
	must(t, err)
	var all []string
	for _, fd := range fds {
		if target, err := os.Readlink("/proc/self/fd/" + fd.Name()); err == nil { // the one that ReadDir used is closed
			all = append(all, fd.Name()+" "+target)
		}
	}
	return strings.Join(all, "\n")
}

func TestAdoptMalformed(t *testing.T) {
	path := tempPath(t)
	for _, value := range []string{
		" ", "x", "3", "3:", ":4", "3:4:5", " 3:4", "3:4 ", "3:4  5:6", "3:4,5:6", "03:4", "3:04", "+3:4", "3:-4",
		"1:2", "0:0", "3:2", "3:3", "-1:-1", "99999999999999999999:4", "4294967299:4", "2147483648:4", "3:4\n", "3:4\t5:6",
		"0x3:4", "3.0:4", "٣:٤", "3:4\xff", strings.Repeat("3:4 ", 100_000) + "x",
	} {
		t.Setenv(inheritedEnv, value)
		before := openFiles(t)
		f, err := pidfile.Adopt(path)
		var e *fs.PathError
		if f != nil || !errors.As(err, &e) || e.Path != path || errors.Is(err, pidfile.ErrNotInherited) || errors.Is(err, pidfile.ErrLost) {
			t.Errorf("%.50q: %v", value, err)
		}
		if after := openFiles(t); after != before {
			t.Fatalf("%.50q: before:\n%s\nafter:\n%s", value, before, after)
		}
	}
	absent(t, path)
}

// Numbers of descriptors that are something else: nothing happens to them.
func TestAdoptSomethingElse(t *testing.T) {
	path := tempPath(t)
	holder := start(t, "acquire", path).says("ok")
	held, err := os.Open(path)
	must(t, err)
	defer held.Close()
	dir, err := os.Open(filepath.Dir(path))
	must(t, err)
	defer dir.Close()
	r, w, err := os.Pipe()
	must(t, err)
	defer r.Close()
	defer w.Close()
	pipe := int(r.Fd()) // makes it block: a read would hang
	text, err := os.CreateTemp(t.TempDir(), "")
	must(t, err)
	defer text.Close()
	st, err := held.Stat()
	must(t, err)
	sys := st.Sys().(*syscall.Stat_t)
	record := func(dev, ino uint64, pid int, path string) string {
		return fmt.Sprintf("U pidfile %d %d %07d %s", dev, ino, pid, path)
	}
	adopt := func(lock, handoffLock int) error {
		t.Helper()
		t.Setenv(inheritedEnv, fmt.Sprintf("%d:%d", lock, handoffLock))
		before := openFiles(t)
		f, err := pidfile.Adopt(path)
		if f != nil {
			t.Errorf("adopted %d:%d", lock, handoffLock)
		}
		if after := openFiles(t); after != before && errors.Is(err, pidfile.ErrNotInherited) {
			t.Errorf("before:\n%s\nafter:\n%s", before, after)
		}
		return err
	}
	fd := func(f *os.File) int { return int(f.Fd()) }
	for _, pair := range [][2]int{
		{1 << 20, 1<<20 + 1}, {pipe, fd(w)}, {fd(dir), fd(held)}, {fd(held), fd(dir)}, {fd(held), pipe}, {fd(held), fd(text)},
	} {
		if err := adopt(pair[0], pair[1]); !errors.Is(err, pidfile.ErrNotInherited) {
			t.Errorf("%v: %v", pair, err)
		}
	}
	for _, s := range []string{
		"", "1\n", strings.Repeat("U", 1<<20),
		record(sys.Dev, sys.Ino+1, holder.pid(), path),  // another file's
		record(sys.Dev, sys.Ino, 4194305, path),         // no PID
		record(sys.Dev, sys.Ino, holder.pid(), "a.pid"), // no absolute path
	} {
		must(t, text.Truncate(0))
		_, err := text.WriteAt([]byte(s), 0)
		must(t, err)
		if err := adopt(fd(held), fd(text)); !errors.Is(err, pidfile.ErrNotInherited) {
			t.Errorf("%.50q: %v", s, err)
		}
	}
	names(t, path, holder.pid())
	// Even a perfect forgery is without the lock. It is used up.
	must(t, text.Truncate(0))
	_, err = text.WriteAt([]byte(record(sys.Dev, sys.Ino, holder.pid(), path)), 0)
	must(t, err)
	copies := make([]int, 2)
	for i, f := range []*os.File{held, text} {
		copies[i], err = unix.FcntlInt(f.Fd(), unix.F_DUPFD_CLOEXEC, 3)
		must(t, err)
	}
	if err := adopt(copies[0], copies[1]); !errors.Is(err, pidfile.ErrLost) {
		t.Errorf("forged: %v", err)
	}
	names(t, path, holder.pid())
	if said := holder.tell("release"); said != "ok" {
		t.Error(said)
	}
}

func TestAdoptNotInherited(t *testing.T) {
	path := tempPath(t)
	for range 2 {
		_, err := pidfile.Adopt(path)
		var e *fs.PathError
		if !errors.Is(err, pidfile.ErrNotInherited) || !errors.As(err, &e) || e.Op != "adopt" || e.Path != path {
			t.Errorf("%v", err)
		}
		t.Setenv(inheritedEnv, "")
	}
	for _, path := range []string{"", "a\x00b", "a/"} {
		var e *fs.PathError
		if _, err := pidfile.Adopt(path); !errors.As(err, &e) || e.Op != "adopt" || e.Path != path {
			t.Errorf("%q: %v", path, err)
		}
	}
	absent(t, path)
}

func TestHandOffLeaks(t *testing.T) {
	path := tempPath(t)
	t.Run("hand off", func(t *testing.T) {
		collectedLeakless(t, func() {
			for range 50 {
				f := acquire(t, path)
				for range 3 {
					var cmd exec.Cmd
					must(t, f.HandOff(&cmd))
				}
				must(t, f.SetPID(1))
				var cmd exec.Cmd
				must(t, f.HandOff(&cmd))
				must(t, f.Release())
			}
		})
	})
	t.Run("adopt", func(t *testing.T) {
		collectedLeakless(t, func() {
			for range 50 {
				f := acquire(t, path)
				handDown(t, f)
				mine, err := pidfile.Adopt(path)
				must(t, err)
				isLost(t, "SetPID", f.SetPID(1))
				must(t, f.Release())
				taken(t, mine, nil)
			}
		})
	})
	t.Run("lost", func(t *testing.T) {
		collectedLeakless(t, func() {
			for range 50 {
				f := acquire(t, path)
				handDown(t, f)
				must(t, f.Release())
				_, err := pidfile.Adopt(path)
				isLost(t, "Adopt", err)
			}
		})
	})
}

// The methods may be called by several goroutines, and so may Adopt.
func TestHandOffAtOnce(t *testing.T) {
	path := tempPath(t)
	for range 50 {
		f := acquire(t, path)
		handDown(t, f)
		var wg sync.WaitGroup
		var adopted atomic.Int32
		for range 4 {
			wg.Go(func() {
				mine, err := pidfile.Adopt(path)
				if err == nil {
					adopted.Add(1)
					err = mine.Release()
				}
				if err != nil && !errors.Is(err, pidfile.ErrNotInherited) {
					t.Error(err)
				}
			})
			wg.Go(func() {
				var cmd exec.Cmd
				if err := f.HandOff(&cmd); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		if adopted.Load() != 1 {
			t.Fatalf("adopted by %d", adopted.Load())
		}
		must(t, f.Release())
		absent(t, path)
	}
}
