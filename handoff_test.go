//go:build linux

package pidfile_test

import (
	"bufio"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/go-pidfile/pidfile"
	"github.com/go-pidfile/pidfile/internal/testproc"
	"golang.org/x/sys/unix"
)

func init() {
	helpers["heir"] = heirHelper
	helpers["parent of an heir"] = parentOfHeirHelper
	helpers["generation"] = generationHelper
	helpers["contender"] = contenderHelper
	helpers["mortal parent"] = mortalParentHelper
	helpers["mortal child"] = mortalChildHelper
}

const inheritedEnv = "PIDFILE_INHERITED"

// An heir is a process that does what it is told, when it is told.
func heirHelper(path string) {
	var f *pidfile.File
	fmt.Println("ready")
	for in := bufio.NewScanner(os.Stdin); in.Scan(); {
		command, arg, _ := strings.Cut(in.Text(), " ")
		if arg == "" {
			arg = path
		}
		switch command {
		case "adopt":
			got, err := pidfile.Adopt(arg)
			if err == nil {
				f = got
			}
			fmt.Println(heirVerdict(err))
		case "release":
			fmt.Println(verdict(f.Release()))
		case "pid":
			fmt.Println(f.PID())
		case "env":
			fmt.Printf("%q\n", os.Getenv(inheritedEnv))
		case "descriptors": // that a child of the heir's has beyond the usual three
			out, err := exec.Command("find", "/proc/self/fd", "-lname", "*pid*").Output()
			fmt.Printf("%q %v\n", out, err)
		case "exit":
			return
		}
	}
}

func heirVerdict(err error) string {
	switch {
	case errors.Is(err, pidfile.ErrNotInherited):
		return "not inherited"
	case errors.Is(err, pidfile.ErrLost):
		return "lost"
	}
	return verdict(err)
}

// startHeir starts an heir of these files, the first of which is its own.
func startHeir(t *testing.T, f *pidfile.File, more ...*pidfile.File) *helper {
	t.Helper()
	return start(t, "heir", f.Path(), func(cmd *exec.Cmd) {
		for _, f := range append([]*pidfile.File{f}, more...) {
			must(t, f.HandOff(cmd))
		}
	}).says("ready")
}

func (h *helper) answers(command, want string) {
	h.t.Helper()
	if got := h.tell(command); got != want {
		h.t.Fatalf("%s: the other process said %q, want %q", command, got, want)
	}
}

// names checks what the file says, and that it is held.
func names(t *testing.T, path string, pid int) {
	t.Helper()
	if got, want := content(t, path), fmt.Sprintf("%d\n", pid); got != want {
		t.Errorf("the file says %q, want %q", got, want)
	}
	_, err := pidfile.Acquire(path)
	refused(t, err, path, pid, true)
}

// alone checks that the directory of path has nothing else.
func alone(t *testing.T, path string) {
	t.Helper()
	entries, err := os.ReadDir(filepath.Dir(path))
	must(t, err)
	for _, e := range entries {
		if e.Name() != filepath.Base(path) {
			t.Errorf("left in the directory: %s", e.Name())
		}
	}
}

func isLost(t *testing.T, what string, err error) {
	t.Helper()
	var e *fs.PathError
	if !errors.Is(err, pidfile.ErrLost) || !errors.As(err, &e) || !filepath.IsAbs(e.Path) {
		t.Errorf("%s: %v, want ErrLost", what, err)
	}
}

func TestHandOver(t *testing.T) {
	path := tempPath(t)
	f, err := pidfile.Config{Mode: 0o640}.Acquire(path)
	must(t, err)
	if os.Getuid() == 0 {
		must(t, os.Chown(path, nobody, nobody))
	}
	before := owned(t, path)
	heir := startHeir(t, f)
	names(t, path, os.Getpid())
	heir.answers("adopt", "ok")
	names(t, path, heir.pid())
	if after := owned(t, path); after != before {
		t.Errorf("the file was %s and is %s", before, after)
	}
	s, err := pidfile.Inspect(path)
	if err != nil || s.State != pidfile.Running || s.Process == nil || s.Process.PID != heir.pid() {
		t.Errorf("Inspect: %+v, %v", s, err)
	}
	isLost(t, "SetPID", f.SetPID(1))
	isLost(t, "Restore", f.Restore())
	if err := f.Err(); !errors.Is(err, pidfile.ErrHandedOff) {
		t.Errorf("Err: %v, want ErrHandedOff", err)
	}
	must(t, f.Release())
	names(t, path, heir.pid())
	heir.answers("env", `""`)
	heir.answers("adopt", "not inherited")
	heir.answers("descriptors", `"" <nil>`)
	heir.answers("release", "ok")
	absent(t, path)
	alone(t, path)
}

func owned(t *testing.T, path string) string {
	t.Helper()
	fi, err := os.Lstat(path)
	must(t, err)
	st := fi.Sys().(*syscall.Stat_t)
	return fmt.Sprintf("%v %d:%d", fi.Mode(), st.Uid, st.Gid)
}

func TestAdoptAfterTheParentIsKilled(t *testing.T) {
	path := tempPath(t)
	parent := start(t, "parent of an heir", path).says("ready")
	parent.exitedAfterKill()
	_, err := pidfile.Acquire(path)
	refused(t, err, path, parent.pid(), true)
	parent.answers("adopt", "ok") // it is the heir that listens
	pid, err := strconv.Atoi(parent.tell("pid"))
	must(t, err)
	if pid == parent.pid() {
		t.Fatal("it is the parent that listens")
	}
	names(t, path, pid)
	parent.answers("release", "ok")
	absent(t, path)
	alone(t, path)
}

// parentOfHeirHelper lets its heir have its standard input and output.
func parentOfHeirHelper(path string) {
	f, err := pidfile.Acquire(path)
	if err != nil {
		fmt.Println(verdict(err))
		return
	}
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), helperEnv+"=heir")
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	if err = f.HandOff(cmd); err == nil {
		err = cmd.Run()
	}
	if err != nil {
		fmt.Println(err)
	}
}

// exitedAfterKill kills h and waits until it has ended, and leaves its standard
// input and output to its child.
func (h *helper) exitedAfterKill() {
	h.t.Helper()
	must(h.t, h.cmd.Process.Kill())
	h.exited()
}

// The heir that is killed has the file with it, whether its parent lives or not.
func TestHeirIsKilled(t *testing.T) {
	path := tempPath(t)
	f := acquire(t, path)
	heir := startHeir(t, f)
	heir.answers("adopt", "ok")
	heir.kill()
	next, err := pidfile.Acquire(path)
	must(t, err)
	must(t, f.Release())
	names(t, path, os.Getpid())
	taken(t, next, nil)
	alone(t, path)
}

// An heir that ends without adopting changes nothing, and there can be others.
func TestHandOffAgain(t *testing.T) {
	path := tempPath(t)
	f := acquire(t, path)
	for range 3 {
		startHeir(t, f).kill()
		names(t, path, os.Getpid())
	}
	must(t, f.Restore())
	first, second := startHeir(t, f), startHeir(t, f)
	second.answers("adopt", "ok")
	names(t, path, second.pid())
	first.answers("adopt", "lost")
	first.answers("adopt", "not inherited") // and its descriptors are gone
	must(t, f.Release())
	names(t, path, second.pid())
	// The first has nothing that keeps the file from the next.
	second.kill()
	f, err := pidfile.Acquire(path)
	taken(t, f, err)
}

func TestTwoAdoptAtOnce(t *testing.T) {
	path := tempPath(t)
	for range 8 {
		f := acquire(t, path)
		heirs := []*helper{startHeir(t, f), startHeir(t, f)}
		said := make([]string, 2)
		for _, h := range heirs {
			fmt.Fprintln(h.in, "adopt")
		}
		for i, h := range heirs {
			said[i] = h.line()
		}
		if !slices.Contains(said, "ok") || !slices.Contains(said, "lost") {
			t.Fatalf("%q", said)
		}
		winner := heirs[slices.Index(said, "ok")]
		names(t, path, winner.pid())
		must(t, f.Release())
		names(t, path, winner.pid())
		winner.answers("release", "ok")
		absent(t, path)
		for _, h := range heirs {
			h.end()
		}
	}
}

func TestReleaseBeforeAdopt(t *testing.T) {
	path := tempPath(t)
	f := acquire(t, path)
	heir, other := startHeir(t, f), startHeir(t, f)
	must(t, f.Release())
	absent(t, path)
	heir.answers("adopt", "lost")
	f, err := pidfile.Acquire(path) // the heirs do not keep us out
	must(t, err)
	other.answers("adopt", "lost")
	names(t, path, os.Getpid())
	taken(t, f, nil)
}

func TestAdoptWhatWasTaken(t *testing.T) {
	for name, take := range map[string]func(t *testing.T, path string){
		"removed": func(t *testing.T, path string) { must(t, os.Remove(path)) },
		"another process's": func(t *testing.T, path string) {
			must(t, os.Remove(path))
			start(t, "acquire", path).says("ok")
		},
		"overwritten": func(t *testing.T, path string) { write(t, path, "1") },
		"replaced": func(t *testing.T, path string) {
			write(t, path+".new", "1")
			must(t, os.Rename(path+".new", path))
		},
	} {
		t.Run(name, func(t *testing.T) {
			path := tempPath(t)
			f := acquire(t, path)
			heir := startHeir(t, f)
			take(t, path)
			dir := filepath.Dir(path)
			before := tree(t, dir)
			heir.answers("adopt", "lost")
			if after := tree(t, dir); after != before {
				t.Errorf("before: %safter:  %s", before, after)
			}
			must(t, f.Release())
			if after := tree(t, dir); after != before {
				t.Errorf("before: %safter the release:  %s", before, after)
			}
		})
	}
}

// What replaces the file makes worthless what was handed down before, and only
// that.
func TestSetPIDAndRestoreAfterHandOff(t *testing.T) {
	path := tempPath(t)
	f := acquire(t, path)
	early := startHeir(t, f)
	must(t, f.SetPID(1))
	must(t, f.SetPID(os.Getpid()))
	late := startHeir(t, f)
	early.answers("adopt", "lost")
	must(t, os.Remove(path))
	must(t, f.Restore())
	last := startHeir(t, f)
	late.answers("adopt", "lost")
	names(t, path, os.Getpid())
	last.answers("adopt", "ok")
	must(t, f.Release())
	names(t, path, last.pid())
	last.answers("release", "ok")
	absent(t, path)
}

func TestLostTellsOfAdoption(t *testing.T) {
	for name, early := range map[string]bool{"Lost, then HandOff": true, "HandOff, then Lost": false} {
		t.Run(name, func(t *testing.T) {
			best := time.Hour
			for try := 0; try < 3 && best > time.Second; try++ {
				f := acquire(t, tempPath(t))
				if early {
					f.Lost()
				}
				heir := startHeir(t, f)
				lost := f.Lost()
				if !isOpen(lost) {
					t.Fatal("lost before it was adopted")
				}
				heir.answers("adopt", "ok")
				best = min(best, closes(t, lost))
				isLost(t, "Restore", f.Restore())
				must(t, f.Release())
			}
			if best > time.Second {
				t.Errorf("noticed after %v at best", best)
			}
		})
	}
}

// An heir that was quick, and has ended, had the file all the same.
func TestRestoreAfterTheHeirsRelease(t *testing.T) {
	path := tempPath(t)
	f := acquire(t, path)
	heir := startHeir(t, f)
	heir.answers("adopt", "ok")
	heir.answers("release", "ok")
	isLost(t, "Restore", f.Restore())
	if err := f.Err(); !errors.Is(err, pidfile.ErrHandedOff) {
		t.Errorf("Err: %v, want ErrHandedOff", err)
	}
	must(t, f.Release())
	absent(t, path)
}

func TestSeveralFiles(t *testing.T) {
	one, two, three := acquire(t, tempPath(t)), acquire(t, tempPath(t)), acquire(t, tempPath(t))
	heir := startHeir(t, one, two, three)
	heir.answers("env", `"3:4 5:6 7:8"`)
	heir.answers("adopt "+three.Path(), "ok")
	heir.answers("env", `"3:4 5:6"`)
	heir.answers("adopt "+one.Path(), "ok")
	heir.answers("adopt "+tempPath(t), "not inherited")
	names(t, two.Path(), os.Getpid())
	for _, f := range []*pidfile.File{one, two, three} {
		must(t, f.Release())
	}
	names(t, one.Path(), heir.pid())
	names(t, three.Path(), heir.pid())
	heir.answers("adopt "+two.Path(), "lost")
	heir.answers("env", `""`)
}

// The file is found by whatever name.
func TestAdoptByAnotherName(t *testing.T) {
	path := tempPath(t)
	f := acquire(t, path)
	link := filepath.Join(t.TempDir(), "dir")
	must(t, os.Symlink(filepath.Dir(path), link))
	heir := startHeir(t, f)
	heir.answers("adopt "+filepath.Join(link, "a.pid"), "ok")
	must(t, f.Release())
	names(t, path, heir.pid())
	heir.answers("release", "ok")
	absent(t, path)
}

func TestHandOffAfterRelease(t *testing.T) {
	f := acquire(t, tempPath(t))
	must(t, f.Release())
	cmd := exec.Command("true")
	var e *fs.PathError
	if err := f.HandOff(cmd); !errors.Is(err, fs.ErrClosed) || !errors.As(err, &e) || e.Path != f.Path() {
		t.Errorf("HandOff: %v", err)
	}
	if cmd.ExtraFiles != nil || cmd.Env != nil {
		t.Errorf("it has %v, %v", cmd.ExtraFiles, cmd.Env)
	}
}

// HandOff leaves alone what the command has already.
func TestHandOffAppends(t *testing.T) {
	f := acquire(t, tempPath(t))
	defer f.Release()
	t.Setenv(inheritedEnv, "7:8") // from our own parent: not the command's
	fresh := exec.Command("true")
	must(t, f.HandOff(fresh))
	if !slices.Contains(fresh.Env, inheritedEnv+"=3:4") || !slices.Contains(fresh.Env, "PATH="+os.Getenv("PATH")) {
		t.Errorf("%q", fresh.Env)
	}
	for _, old := range []string{"", "A=1", "3:4", "5:6", "0:1", "garbage"} {
		cmd := exec.Command("true")
		cmd.ExtraFiles = append(make([]*os.File, 0, 10), os.Stdin, os.Stdout)
		mine := cmd.ExtraFiles[:4]
		cmd.Env = []string{"A=1", inheritedEnv + "=" + old, "B=2"}
		must(t, f.HandOff(cmd))
		want := "5:6"
		if old == "3:4" {
			want = "3:4 5:6"
		}
		if !slices.Equal(cmd.Env, []string{"A=1", "B=2", inheritedEnv + "=" + want}) {
			t.Errorf("after %q: %q", old, cmd.Env)
		}
		if len(cmd.ExtraFiles) != 4 || cmd.ExtraFiles[0] != os.Stdin || mine[2] != nil {
			t.Errorf("%v, %v", cmd.ExtraFiles, mine)
		}
	}
}

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

// openFiles is what our descriptors are, without those that nobody uses any more.
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
	deed := func(dev, ino uint64, pid int, path string) string {
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
		deed(sys.Dev, sys.Ino+1, holder.pid(), path),  // another file's
		deed(sys.Dev, sys.Ino, 4194305, path),         // no PID
		deed(sys.Dev, sys.Ino, holder.pid(), "a.pid"), // no absolute path
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
	_, err = text.WriteAt([]byte(deed(sys.Dev, sys.Ino, holder.pid(), path)), 0)
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

// The chain: each process hands the file to the next, while others want it.

const (
	generationsEnv = "PIDFILE_TEST_GENERATIONS" // how many are still to come
	chainLogEnv    = "PIDFILE_TEST_LOG"
	chainNaiveEnv  = "PIDFILE_TEST_CHAIN_NAIVE" // the negative control: release, then acquire
)

func monotonic() int64 {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &ts); err != nil {
		panic(err)
	}
	return ts.Nano()
}

// A logbook is a file to which many processes append what they do, and when.
type logbook struct{ *os.File }

func openLog(path string) logbook {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o666)
	if err != nil {
		panic(err)
	}
	return logbook{f}
}

func (l logbook) note(id, event string) {
	if _, err := fmt.Fprintf(l, "%d %s %s\n", monotonic(), id, event); err != nil {
		panic(err)
	}
}

// An entry is one line of it.
type entry struct {
	ns        int64
	id, event string
}

func readLog(t *testing.T, path string) (all []entry) {
	t.Helper()
	for line := range strings.Lines(content(t, path)) {
		var e entry
		if _, err := fmt.Sscan(line, &e.ns, &e.id, &e.event); err != nil {
			t.Fatalf("%q: %v", line, err)
		}
		all = append(all, e)
	}
	return all
}

// generationHelper is one process of the chain.
func generationHelper(path string) {
	fail := func(what string, err error) {
		fmt.Println(what, err)
		os.Exit(1)
	}
	log, me := openLog(os.Getenv(chainLogEnv)), strconv.Itoa(os.Getpid())
	log.note(me, "adopting")
	f, err := pidfile.Adopt(path)
	if errors.Is(err, pidfile.ErrNotInherited) {
		f, err = pidfile.AcquireContext(context.Background(), path)
	}
	if err != nil {
		fail("adopt:", err)
	}
	log.note(me, "adopted")
	fmt.Println("ok")
	left, _ := strconv.Atoi(os.Getenv(generationsEnv))
	naive := os.Getenv(chainNaiveEnv) != ""
	if left > 0 {
		if naive {
			if err := f.Release(); err != nil {
				fail("release:", err)
			}
		}
		if err := nextGeneration(f, left-1, naive); err != nil {
			fail("next:", err)
		}
	} else {
		_, _ = io.Copy(io.Discard, os.Stdin) // the last waits until the test closes it
	}
	log.note(me, "releasing")
	if err := f.Release(); err != nil && !naive {
		fail("release:", err)
	}
}

func nextGeneration(f *pidfile.File, left int, naive bool) error {
	cmd := exec.Command("/proc/self/exe")
	cmd.Args = os.Args
	cmd.Env = append(os.Environ(), fmt.Sprintf("%s=%d", generationsEnv, left))
	cmd.Stdin, cmd.Stderr = os.Stdin, os.Stderr
	if !naive {
		if err := f.HandOff(cmd); err != nil {
			return err
		}
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	if left%10 == 0 && !naive {
		<-f.Lost()
	}
	if line, _ := bufio.NewReader(out).ReadString('\n'); line != "ok\n" {
		return fmt.Errorf("it said %q", line)
	}
	return nil
}

// contenderHelper tries to take the file until its standard input ends, and
// tells how often it tried and how often it got it.
func contenderHelper(path string) {
	var over atomic.Bool
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		over.Store(true)
	}()
	fmt.Println("contends")
	tries, got := 0, 0
	for ; !over.Load(); tries++ {
		f, err := pidfile.Acquire(path)
		if err == nil {
			got++
			err = f.Release()
		}
		if err != nil && !errors.Is(err, pidfile.ErrAlreadyRunning) {
			fmt.Println(err)
			return
		}
	}
	fmt.Println(tries, got)
}

// A chainResult is what was seen of a chain.
type chainResult struct {
	Tries, Stolen int   // of the contenders
	Reads, PIDs   int   // of the reader, and different ones
	Inspections   int   // all of them saw it running
	Early         int   // waiters that got it before the last had released it
	Overlap       int   // reads of a PID that was not the holder's at that time
	Wrong         []any // texts and verdicts that must never be seen
}

// runChain lets n processes hand the file on, with everybody looking. The first
// is started with change.
func runChain(t *testing.T, path string, n int, naive bool, change ...func(*exec.Cmd)) (res chainResult) {
	t.Helper()
	logPath := filepath.Join(publicDir(t), "log")
	write(t, logPath, "")
	must(t, os.Chmod(logPath, 0o666)) // whoever the processes run as
	change = append(change, env(generationsEnv, strconv.Itoa(n-1)), env(chainLogEnv, logPath))
	if naive {
		change = append(change, env(chainNaiveEnv, "1"))
	}
	first := start(t, "generation", path, change...).says("ok")
	contenders := []*helper{start(t, "contender", path), start(t, "contender", path)}
	var waiters []*helper
	if !naive { // who waits would get it, and keep it from the chain
		for range 2 {
			waiters = append(waiters, start(t, "wait", path).says("waits"))
		}
	}

	over := make(chan struct{})
	var watchers sync.WaitGroup
	saw := map[int]*seen{}
	if !naive {
		watchers.Go(func() { readChain(path, over, saw, &res) })
		watchers.Go(func() { inspectChain(t, path, over, &res) })
	}
	last := lastOf(t, logPath, n)
	close(over)
	watchers.Wait()
	for _, c := range contenders {
		_ = c.in.Close()
		var tries, got int
		if _, err := fmt.Sscan(c.line(), &tries, &got); err != nil {
			t.Fatal(err)
		}
		res.Tries += tries
		res.Stolen += got
	}
	if !naive {
		names(t, path, last)
		queued(t, path) // still
	}
	_ = first.in.Close() // which is that of the whole chain
	got := make([]int64, len(waiters))
	var wg sync.WaitGroup
	for i, w := range waiters {
		wg.Go(func() {
			if line := w.line(); line != "ok" {
				t.Errorf("the waiter said %q", line)
			}
			got[i] = monotonic()
			if said := w.tell("release"); said != "ok" {
				t.Errorf("the waiter's release: %q", said)
			}
		})
	}
	wg.Wait()
	judgeChain(t, readLog(t, logPath), saw, got, &res)
	t.Logf("%+v", res)
	return res
}

// lastOf waits until n processes have had the file, and all but the last have
// come to their release, and returns the PID of the last one.
func lastOf(t *testing.T, logPath string, n int) int {
	t.Helper()
	for end := time.Now().Add(5 * time.Minute); ; time.Sleep(5 * time.Millisecond) {
		log := readLog(t, logPath)
		releasing := slices.DeleteFunc(slices.Clone(log), func(e entry) bool { return e.event != "releasing" })
		adopted := slices.DeleteFunc(log, func(e entry) bool { return e.event != "adopted" })
		if len(adopted) == n && len(releasing) == n-1 {
			return pidOf(t, adopted[n-1].id)
		}
		if time.Now().After(end) {
			t.Fatalf("still only %d of %d have had the file", len(adopted), n)
		}
	}
}

func pidOf(t *testing.T, pid string) int {
	t.Helper()
	n, err := strconv.Atoi(pid)
	must(t, err)
	return n
}

// A seen is when a PID was read: a read that began then, and one that ended.
type seen struct{ lastBegin, firstEnd int64 }

func readChain(path string, over chan struct{}, saw map[int]*seen, res *chainResult) {
	for ; ; res.Reads++ {
		select {
		case <-over:
			return
		default:
		}
		begin := monotonic()
		text, err := os.ReadFile(path)
		end := monotonic()
		pid, _ := strconv.Atoi(strings.TrimSuffix(string(text), "\n"))
		if err != nil || string(text) != strconv.Itoa(pid)+"\n" {
			res.Wrong = append(res.Wrong, fmt.Sprintf("read %q, %v", text, err))
			return
		}
		if saw[pid] == nil {
			saw[pid] = &seen{firstEnd: end}
			res.PIDs++
		}
		saw[pid].lastBegin = begin
	}
}

func inspectChain(t *testing.T, path string, over chan struct{}, res *chainResult) {
	for {
		select {
		case <-over:
			return
		default:
		}
		s, err := pidfile.Inspect(path)
		if err != nil || s.State != pidfile.Running || !s.Locked {
			t.Errorf("Inspect: %+v, %v", s, err)
			return
		}
		res.Inspections++
	}
}

// judgeChain compares what was read, and when the waiters got it, with what the
// processes of the chain did.
func judgeChain(t *testing.T, log []entry, saw map[int]*seen, waiters []int64, res *chainResult) {
	t.Helper()
	slices.SortStableFunc(log, func(a, b entry) int { return cmp.Compare(a.ns, b.ns) })
	at := map[string]int64{}
	var order []string
	for _, e := range log {
		at[e.id+e.event] = e.ns
		if e.event == "adopted" {
			order = append(order, e.id)
		}
	}
	for i, id := range order {
		s := saw[pidOf(t, id)]
		if s == nil {
			continue // nobody happened to read it
		}
		delete(saw, pidOf(t, id))
		if s.firstEnd < at[id+"adopting"] || i+1 < len(order) && s.lastBegin > at[order[i+1]+"adopted"] {
			res.Overlap++
		}
	}
	for pid := range saw {
		res.Wrong = append(res.Wrong, fmt.Sprintf("read PID %d, which is nobody's", pid))
	}
	for _, ns := range waiters {
		if ns < at[order[len(order)-1]+"releasing"] {
			res.Early++
		}
	}
}

func (res *chainResult) check(t *testing.T) {
	t.Helper()
	if res.Stolen != 0 || res.Early != 0 || res.Overlap != 0 || len(res.Wrong) != 0 {
		t.Errorf("%+v", *res)
	}
	if res.Tries < 1000 {
		t.Errorf("only %d tries to take it: this tests little", res.Tries)
	}
}

func TestChain(t *testing.T) {
	path := tempPath(t)
	res := runChain(t, path, testproc.Rounds(60, 30, 20), false)
	res.check(t)
	if res.Reads < 1000 || res.PIDs < 10 || res.Inspections < 10 {
		t.Errorf("only %d reads of %d PIDs and %d inspections: this tests little", res.Reads, res.PIDs, res.Inspections)
	}
	absent(t, path)
	alone(t, path)
}

// The same with what everybody does, release and start anew, must be noticed.
func TestChainNegativeControl(t *testing.T) {
	if res := runChain(t, tempPath(t), 20, true); res.Stolen == 0 {
		t.Error("nobody got in between: this test would find nothing")
	}
}

// A file that root made for another user, in a directory that this one may not
// change: it is written in place, and the lock goes from hand to hand.
func TestChainInPlace(t *testing.T) {
	needRoot(t)
	dir := publicDir(t)
	path := filepath.Join(dir, "a.pid")
	write(t, path, "")
	must(t, os.Chown(path, nobody, nobody))
	var before, after unix.Stat_t
	must(t, unix.Stat(path, &before))
	first := start(t, "generation", path, as(t, nobody), env(generationsEnv, "0"), env(chainLogEnv, "/dev/null")).says("ok")
	names(t, path, first.pid())
	first.end()
	if content(t, path) != "" {
		t.Error("not emptied on release")
	}
	must(t, unix.Stat(path, &after))
	if before.Ino != after.Ino {
		t.Fatal("it was not taken in place: this tests nothing")
	}

	heir := start(t, "parent of an heir", path, as(t, nobody)).says("ready")
	parent := heir.pid()
	names(t, path, parent)
	heir.answers("adopt", "ok")
	pid := pidOf(t, heir.tell("pid"))
	if pid == parent {
		t.Fatal("it is the parent that listens")
	}
	names(t, path, pid)
	must(t, unix.Stat(path, &after))
	if before.Ino != after.Ino {
		t.Fatal("it was not adopted in place: this tests nothing")
	}
	// The parent's death leaves the lock with the heir.
	heir.exitedAfterKill()
	names(t, path, pid)
	heir.answers("release", "ok")
	if got := content(t, path); got != "" {
		t.Errorf("released, and the file has %q", got)
	}
	heir.end()
	alone(t, path)
}

// The parent's release is not to unlock what it shares with its heir, in every
// generation.
func TestChainInPlaceReleases(t *testing.T) {
	needRoot(t)
	path := filepath.Join(publicDir(t), "a.pid")
	write(t, path, "")
	must(t, os.Chown(path, nobody, nobody))
	logPath := filepath.Join(publicDir(t), "log")
	write(t, logPath, "")
	must(t, os.Chmod(logPath, 0o666))
	const n = 8
	first := start(t, "generation", path, as(t, nobody), env(generationsEnv, strconv.Itoa(n-1)), env(chainLogEnv, logPath)).says("ok")
	contender := start(t, "contender", path).says("contends")
	last := lastOf(t, logPath, n)
	first.exited()
	names(t, path, last)
	_ = contender.in.Close()
	var tries, got int
	if _, err := fmt.Sscan(contender.line(), &tries, &got); err != nil || got != 0 || tries < 100 {
		t.Errorf("%d tries, %d successes, %v", tries, got, err)
	}
	_ = first.in.Close()
	until(t, "the last one has emptied it", func() bool { return content(t, path) == "" })
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	f, err := pidfile.AcquireContext(ctx, path) // and now it gives the lock back
	taken(t, f, err)
}

// SIGKILL: parent and child kill themselves at any moment of a hand-over, while
// another process wants the file. A process may kill itself and nobody else: so
// nobody innocent is ever hit.

const (
	mortalRoundEnv = "PIDFILE_TEST_ROUND"
	mortalWithin   = "PIDFILE_TEST_WITHIN" // microseconds, "" for ever
)

// doom kills this process within the time that it was given.
func doom(log logbook, id string) {
	within, err := strconv.Atoi(os.Getenv(mortalWithin))
	if err != nil {
		return
	}
	go func() {
		time.Sleep(time.Duration(rand.IntN(within+1)) * time.Microsecond)
		log.note(id, "killed")
		_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
	}()
}

func mortalParentHelper(path string) {
	log, id := openLog(os.Getenv(chainLogEnv)), os.Getenv(mortalRoundEnv)+"parent"
	f, err := pidfile.AcquireContext(context.Background(), path)
	if err != nil {
		log.note(id, "failed:"+strings.ReplaceAll(err.Error(), " ", "_"))
		return
	}
	log.note(id, "enter")
	cmd := exec.Command("/proc/self/exe")
	within := ""
	if rand.IntN(2) == 0 {
		within = strconv.Itoa(1 << rand.IntN(14))
	}
	cmd.Env = append(os.Environ(), helperEnv+"=mortal child", mortalWithin+"="+within)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err == nil {
		err = f.HandOff(cmd)
	}
	doom(log, id)
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		log.note(id, "failed:"+strings.ReplaceAll(err.Error(), " ", "_"))
	}
	if rand.IntN(4) > 0 { // else it does not wait for the child
		_, _ = bufio.NewReader(out).ReadString('\n')
	}
	log.note(id, "exit")
	if err := f.Release(); err != nil {
		log.note(id, "failed:"+strings.ReplaceAll(err.Error(), " ", "_"))
	}
}

func mortalChildHelper(path string) {
	log, id := openLog(os.Getenv(chainLogEnv)), os.Getenv(mortalRoundEnv)+"child"
	signal.Ignore(syscall.SIGPIPE) // the parent that it tells of it may be dead
	doom(log, id)
	log.note(id, "adopting")
	f, err := pidfile.Adopt(path)
	if err != nil {
		log.note(id, map[bool]string{true: "lost", false: "failed:" + strings.ReplaceAll(err.Error(), " ", "_")}[errors.Is(err, pidfile.ErrLost)])
		return
	}
	log.note(id, "enter")
	fmt.Println("adopted")
	time.Sleep(time.Duration(rand.IntN(3000)) * time.Microsecond)
	log.note(id, "exit")
	if err := f.Release(); err != nil {
		log.note(id, "failed:"+strings.ReplaceAll(err.Error(), " ", "_"))
	}
}

// A hold is a time in which nobody else may have the file.
type hold struct {
	id       string
	from, to int64
}

func TestSIGKILLDuringHandOver(t *testing.T) {
	rounds := testproc.Rounds(3000, 100, 40)
	path := tempPath(t)
	logPath := filepath.Join(t.TempDir(), "log")
	log := openLog(logPath)
	defer log.Close()
	var contending sync.Mutex
	over, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		for i := 0; ; i++ {
			select {
			case <-over:
				return
			default:
			}
			contending.Lock()
			contend(t, log, path, fmt.Sprintf("%dcontender", i))
			contending.Unlock()
			time.Sleep(time.Duration(rand.IntN(200)) * time.Microsecond)
		}
	}()
	for round := range rounds {
		mortalRound(t, path, logPath, round)
		contending.Lock()
		// All are dead, but the kernel may not be ready with them.
		ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
		f, err := pidfile.AcquireContext(ctx, path)
		cancel()
		taken(t, f, err)
		absent(t, path)
		alone(t, path)
		contending.Unlock()
		if t.Failed() {
			t.Fatalf("round %d", round)
		}
	}
	close(over)
	<-ended
	holds, count := mortalHolds(t, readLog(t, logPath))
	t.Logf("%v", count)
	slices.SortFunc(holds, func(a, b hold) int { return cmp.Compare(a.from, b.from) })
	for i := 1; i < len(holds); i++ {
		if a, b := holds[i-1], holds[i]; b.from < a.to {
			t.Errorf("%+v and %+v overlap", a, b)
		}
	}
	for _, what := range []string{"parent killed before the adoption", "child killed before the adoption", "child killed after the adoption", "handed over", "released first", "contender"} {
		if count[what] < 1 {
			t.Errorf("%s: only %d times", what, count[what])
		}
	}
}

func contend(t *testing.T, log logbook, path, id string) {
	f, err := pidfile.Acquire(path)
	if errors.Is(err, pidfile.ErrAlreadyRunning) {
		return
	}
	if err != nil {
		t.Error(err)
		return
	}
	log.note(id, "enter")
	time.Sleep(time.Duration(rand.IntN(300)) * time.Microsecond)
	log.note(id, "exit")
	if err := f.Release(); err != nil {
		t.Error(err)
	}
}

// mortalRound runs a parent and its child until both have ended.
func mortalRound(t *testing.T, path, logPath string, round int) {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	within := ""
	if rand.IntN(2) == 0 {
		within = strconv.Itoa(1 << rand.IntN(17))
	}
	cmd.Env = append(os.Environ(), helperEnv+"=mortal parent", helperPath+"="+path, "GORACE=atexit_sleep_ms=0",
		chainLogEnv+"="+logPath, mortalRoundEnv+"="+strconv.Itoa(round), mortalWithin+"="+within)
	// Both have its end as their standard error, which nobody writes to but a
	// runtime that panics.
	r, w, err := os.Pipe()
	must(t, err)
	defer r.Close()
	cmd.Stderr = w
	err = cmd.Start()
	w.Close()
	must(t, err)
	said, err := io.ReadAll(r)
	must(t, err)
	if len(said) > 0 {
		t.Errorf("round %d: %s", round, said)
	}
	_ = cmd.Wait() // killed or not
}

// mortalHolds says when the file was somebody's, as far as it is certain: a
// child that was killed while it adopted the file has adopted it or not.
func mortalHolds(t *testing.T, log []entry) (holds []hold, count map[string]int) {
	t.Helper()
	slices.SortStableFunc(log, func(a, b entry) int { return cmp.Compare(a.ns, b.ns) })
	at := map[string]map[string]int64{}
	for _, e := range log {
		if at[e.id] == nil {
			at[e.id] = map[string]int64{}
		}
		if at[e.id]["killed"] != 0 {
			continue // it is dead, and only does not know it yet
		}
		at[e.id][e.event] = e.ns
		if strings.HasPrefix(e.event, "failed:") {
			t.Errorf("%s %s", e.id, e.event)
		}
	}
	first := func(times ...int64) int64 {
		times = slices.DeleteFunc(times, func(ns int64) bool { return ns == 0 })
		return slices.Min(times)
	}
	count = map[string]int{}
	for id, parent := range at {
		round, isParent := strings.CutSuffix(id, "parent")
		switch {
		case strings.HasSuffix(id, "contender"):
			holds = append(holds, hold{id, parent["enter"], parent["exit"]})
			count["contender"]++
			continue
		case !isParent || parent["enter"] == 0:
			continue
		}
		child := at[round+"child"]
		end := first(parent["exit"], parent["killed"])
		switch {
		case child["enter"] != 0:
			// It has the lock from its first instant.
			end = first(child["exit"], child["killed"])
			count["handed over"]++
			if parent["killed"] != 0 && parent["killed"] < child["adopting"] {
				count["parent killed before the adoption"]++
			}
			if child["killed"] != 0 {
				count["child killed after the adoption"]++
			}
		case child["killed"] != 0:
			if child["adopting"] != 0 {
				end = first(end, child["adopting"])
			}
			count["child killed before the adoption"]++
		case child["lost"] != 0:
			count["released first"]++
			if parent["exit"] == 0 && parent["killed"] == 0 {
				t.Errorf("round %s: lost, and nobody had released it", round)
			}
		}
		holds = append(holds, hold{id, parent["enter"], end})
	}
	return holds, count
}

// Err tells what became of the file, and changes nothing.
func TestErr(t *testing.T) {
	is := func(f *pidfile.File, want error, handedOff bool) {
		t.Helper()
		if err := f.Err(); !errors.Is(err, want) || errors.Is(err, pidfile.ErrHandedOff) != handedOff {
			t.Errorf("Err: %v, want %v", err, want)
		}
	}
	f := acquire(t, tempPath(t))
	is(f, nil, false)
	heir := startHeir(t, f)
	is(f, nil, false)
	must(t, os.Remove(f.Path()))
	is(f, pidfile.ErrLost, false)
	absent(t, f.Path()) // asking did not put it back
	must(t, f.Restore())
	is(f, nil, false)
	heir.answers("adopt", "lost") // what it was given is gone
	is(f, nil, false)
	heir = startHeir(t, f)
	heir.answers("adopt", "ok")
	is(f, pidfile.ErrLost, true)
	must(t, f.Release())
	is(f, fs.ErrClosed, false)
}
