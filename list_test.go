//go:build linux

package pidfile_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-pidfile/pidfile"
	"github.com/go-pidfile/pidfile/internal/testproc"
	"golang.org/x/sys/unix"
)

func init() {
	helpers["list"] = func(dir string) {
		var all []listed
		for s, err := range pidfile.List(dir) {
			all = append(all, listed{s, class(err)})
		}
		_ = json.NewEncoder(os.Stdout).Encode(all)
	}
	helpers["clean loop"] = loopHelper(func(path string) { _ = clean(path) })
}

// clean leaves the CPU to others if there is nothing to do.
func clean(path string) error {
	err := pidfile.Clean(path)
	if errors.Is(err, fs.ErrNotExist) {
		time.Sleep(50 * time.Microsecond)
	}
	return err
}

// A listed is what List yields.
type listed struct {
	pidfile.Status
	Error string
}

func list(dirs ...string) (all []listed) {
	for s, err := range pidfile.List(dirs...) {
		all = append(all, listed{s, class(err)})
	}
	return all
}

// brief is what is listed, without the directory.
func brief(dir string, all []listed) (lines []string) {
	for _, l := range all {
		name, err := filepath.Rel(dir, l.Path)
		if err != nil {
			name = l.Path
		}
		lines = append(lines, fmt.Sprintf("%s %v %s", name, l.State, l.Error))
	}
	return lines
}

func compareLines(t *testing.T, got, want []string) {
	t.Helper()
	if !slices.Equal(got, want) {
		t.Errorf("listed %q, want %q", got, want)
	}
}

func TestList(t *testing.T) {
	dir := testproc.PublicDir(t)
	at := func(name string) string { return filepath.Join(dir, name) }
	must(t, os.MkdirAll(at("b/c/d"), 0o755))
	must(t, os.MkdirAll(at("e.pid"), 0o755)) // a directory of that name
	write(t, at("a.pid"), "4194304\n")
	write(t, at("b/c/d/deep.pid"), "rubbish\n")
	aged(t, at("b/c/d/deep.pid"))
	write(t, at("b/c/other"), "1\n")
	write(t, at("b/pid"), "4194304\n") // as dbus-daemon names it
	write(t, at("b/n.pid.oldbin"), "4194304\n")
	write(t, at("e.pid/x.pid"), "4194304\n")
	must(t, unix.Mkfifo(at("fifo.pid"), 0o644))
	must(t, os.Symlink(at("a.pid"), at("link.pid")))
	must(t, os.Symlink(at("b"), at("linked")))
	must(t, os.Symlink(at("nowhere"), at("dangling.pid")))
	write(t, at(".pid"), "4194304\n")
	h := start(t, "acquire", at("b/held.pid")).says("ok")
	c := cat(t)
	write(t, at("unlocked.pid"), fmt.Sprintln(c.pid()))
	before := tree(t, dir)
	want := []string{
		".pid stale ok", "a.pid stale ok", "b/c/d/deep.pid stale ok", "b/held.pid running ok", "b/n.pid.oldbin stale ok", "b/pid stale ok",
		"e.pid/x.pid stale ok", "unlocked.pid running ok",
	}
	all := list(dir)
	compareLines(t, brief(dir, all), want)
	for _, l := range all {
		s, err := pidfile.Inspect(l.Path)
		must(t, err)
		if s.State != l.State || s.PID != l.PID || s.Locked != l.Locked || (s.Process == nil) != (l.Process == nil) || !slices.Equal(s.Evidence, l.Evidence) {
			t.Errorf("listed %+v, inspected %+v", l.Status, s)
		}
		switch filepath.Base(l.Path) {
		case "held.pid":
			if !l.Locked || l.Process == nil || l.Process.PID != h.pid() {
				t.Errorf("%+v", l.Status)
			}
		case "unlocked.pid":
			if l.Locked || l.Process == nil || l.Process.PID != c.pid() {
				t.Errorf("%+v", l.Status)
			}
		}
	}
	t.Run("relative", func(t *testing.T) {
		t.Chdir(filepath.Dir(dir))
		compareLines(t, brief(dir, list(filepath.Base(dir))), want)
	})
	t.Run("several directories", func(t *testing.T) {
		compareLines(t, brief(dir, list(at("e.pid"), at("b/c"))), []string{"e.pid/x.pid stale ok", "b/c/d/deep.pid stale ok"})
	})
	t.Run("twice", func(t *testing.T) { // a Seq2 may be ranged over again
		seq, n := pidfile.List(dir), 0
		for range 2 {
			for range seq {
				n++
			}
		}
		if n != 2*len(want) {
			t.Errorf("%d", n)
		}
	})
	t.Run("early break", func(t *testing.T) {
		for stop := range len(want) {
			n := 0
			for range pidfile.List(dir, dir) {
				if n++; n > stop {
					break
				}
			}
			if n != stop+1 {
				t.Errorf("%d", n)
			}
		}
	})
	t.Run("missing directory", func(t *testing.T) {
		compareLines(t, brief(dir, list(at("no"), at("e.pid"))), []string{"no unknown no file", "e.pid/x.pid stale ok"})
	})
	t.Run("a file instead", func(t *testing.T) {
		compareLines(t, brief(dir, list(at("a.pid"))), []string{"a.pid stale ok"})
	})
	t.Run("nothing", func(t *testing.T) {
		compareLines(t, brief(dir, list(t.TempDir())), nil)
	})
	if after := tree(t, dir); after != before {
		t.Errorf("before:\n%safter:\n%s", before, after)
	}
}

func TestListUnreadable(t *testing.T) {
	testproc.Root(t)
	dir := testproc.PublicDir(t)
	at := func(name string) string { return filepath.Join(dir, name) }
	must(t, os.Mkdir(at("b"), 0o700))
	must(t, os.Mkdir(at("c"), 0o744)) // its names may be read, its files not
	for _, name := range []string{"a.pid", "b/x.pid", "c/x.pid", "d.pid", "secret.pid"} {
		write(t, at(name), "4194304\n")
	}
	must(t, os.Chmod(at("secret.pid"), 0o600))
	h := start(t, "list", dir, as(t, nobody))
	var all []listed
	must(t, json.Unmarshal([]byte(h.said), &all))
	for _, l := range all {
		if l.State == pidfile.Unknown && (len(l.Evidence) != 1 || !bytes.Contains([]byte(l.Evidence[0]), []byte("permission denied"))) {
			t.Errorf("%s: evidence %q", l.Path, l.Evidence)
		}
	}
	compareLines(t, brief(dir, all), []string{
		"a.pid stale ok", "b unknown EACCES", "c/x.pid unknown EACCES", "d.pid stale ok", "secret.pid unknown ok",
	})
}

func TestListDefault(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "a.pid")
	write(t, path, "4194304\n")
	has := func() bool {
		return slices.ContainsFunc(list(), func(l listed) bool { return l.Path == path })
	}
	t.Setenv("XDG_RUNTIME_DIR", dir)
	if !has() {
		t.Error("nothing of $XDG_RUNTIME_DIR is listed")
	}
	t.Setenv("XDG_RUNTIME_DIR", "")
	if has() {
		t.Errorf("%s is listed by default", dir)
	}
	for _, l := range list() {
		if !filepath.IsAbs(l.Path) || !bytes.HasPrefix([]byte(l.Path), []byte("/run")) {
			t.Errorf("%s is listed by default", l.Path)
		}
	}
}

// What a running file costs more than a stale file.
func TestListCost(t *testing.T) {
	testproc.NotShort(t)
	dirs := map[string]string{"stale": t.TempDir(), "unlocked": t.TempDir(), "held": t.TempDir(), "inherited": t.TempDir(), "flock(1)": t.TempDir()}
	n, few := testproc.Rounds(100, 40, 15), 5
	for i := range n {
		name := fmt.Sprintf("%03d.pid", i)
		write(t, filepath.Join(dirs["stale"], name), "4194304\n")
		c := quickCat(t, nil)
		write(t, filepath.Join(dirs["unlocked"], name), fmt.Sprintln(c.Process.Pid))
		held := acquire(t, filepath.Join(dirs["held"], name))
		t.Cleanup(func() { _ = held.Release() })
		for dir, named := range map[string]bool{"inherited": true, "flock(1)": false} {
			if dir == "flock(1)" && i >= few {
				continue
			}
			f, err := os.Create(filepath.Join(dirs[dir], name))
			must(t, err)
			must(t, unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB))
			c := quickCat(t, f)
			if named {
				_, err = fmt.Fprintln(f, c.Process.Pid)
				must(t, err)
			}
			must(t, f.Close())
		}
	}
	cost := func(name string, times int) time.Duration {
		want := n
		if name == "flock(1)" {
			want = few
		}
		best := time.Hour
		for range times { // others may need this machine, too
			begin, found := time.Now(), 0
			for s, err := range pidfile.List(dirs[name]) {
				must(t, err)
				found++
				if (s.State == pidfile.Running) != (name != "stale") || (s.Process != nil) != slices.Contains([]string{"unlocked", "held", "inherited"}, name) {
					t.Fatalf("%+v", s)
				}
			}
			best = min(best, time.Since(begin))
			if found != want {
				t.Fatalf("listed %d", found)
			}
		}
		return best / time.Duration(want)
	}
	stale := cost("stale", 20)
	for name, times := range map[string]int{"unlocked": 20, "held": 20, "inherited": 20, "flock(1)": 1} {
		limit := max(500*time.Microsecond, 20*stale)
		more := cost(name, times) - stale
		for range 5 { // a machine may be busy all of that time
			if more > limit && times > 1 {
				more = min(more, cost(name, times)-stale)
			}
		}
		t.Logf("%s: %v more a file than a stale file, which costs %v", name, more, stale)
		// flock(1)'s, which names no process, and has ended, takes a look through all
		// of /proc for all of them.
		if more > limit && name != "flock(1)" && !raceEnabled() {
			t.Errorf("%s: %v more, want at most %v", name, more, limit)
		}
	}
}

// raceEnabled reports whether the race detector makes this slower than it is.
func raceEnabled() bool {
	info, ok := debug.ReadBuildInfo()
	return ok && slices.ContainsFunc(info.Settings, func(s debug.BuildSetting) bool { return s.Key == "-race" && s.Value == "true" })
}

// quickCat is cat, ended with the test.
func quickCat(t *testing.T, inherits *os.File) *exec.Cmd {
	t.Helper()
	cmd := exec.Command("cat")
	in, err := cmd.StdinPipe()
	must(t, err)
	if inherits != nil {
		cmd.ExtraFiles = []*os.File{inherits}
	}
	must(t, cmd.Start())
	t.Cleanup(func() { _ = in.Close(); _ = cmd.Wait() })
	return cmd
}

// A storm of starts on one path, where stale files appear whenever it is free,
// and a process that cleans up.
type cleanStorm struct {
	path, left string // left is where stale files are made
	stop       atomic.Bool
	starts     atomic.Int64
	taken      atomic.Int64 // held files that were removed
	inside     atomic.Int32 // holders
	overlaps   atomic.Int64
	cleaned    atomic.Int64
	hurried    atomic.Int64 // called stale, but then another was faster
}

// starter starts, and looks whether its file stays.
func (s *cleanStorm) starter(t *testing.T) {
	for !s.stop.Load() {
		f, err := pidfile.Acquire(s.path)
		if errors.Is(err, pidfile.ErrAlreadyRunning) {
			runtime.Gosched()
			continue
		}
		if err != nil {
			t.Error(err)
			return
		}
		s.starts.Add(1)
		if s.inside.Add(1) != 1 {
			s.overlaps.Add(1)
		}
		first, err := os.Lstat(s.path)
		for end := time.Now().Add(time.Duration(rand.IntN(100)) * time.Microsecond); time.Now().Before(end); {
			runtime.Gosched()
		}
		if err == nil {
			var last fs.FileInfo
			last, err = os.Lstat(s.path)
			if err == nil && !os.SameFile(first, last) {
				err = fs.ErrNotExist
			}
		}
		if err != nil {
			s.taken.Add(1)
		}
		s.inside.Add(-1)
		if err := f.Release(); err != nil {
			t.Error(err)
			return
		}
		time.Sleep(time.Duration(rand.IntN(300)) * time.Microsecond) // others may come
	}
}

// leaver makes a stale file whenever the path is free.
func (s *cleanStorm) leaver(t *testing.T) {
	for !s.stop.Load() {
		if err := os.WriteFile(s.left, []byte("4194304\n"), 0o644); err != nil {
			t.Error(err)
			return
		}
		for !s.stop.Load() && os.Link(s.left, s.path) != nil {
			time.Sleep(20 * time.Microsecond)
		}
		_ = os.Remove(s.left) // one name is enough
	}
}

// run runs the storm until enough has happened.
func (s *cleanStorm) run(t *testing.T, dir string, clean func(path string) error, enough func() bool) {
	s.path, s.left = filepath.Join(dir, "a.pid"), filepath.Join(dir, "left")
	var all sync.WaitGroup
	all.Go(func() { s.starter(t) })
	all.Go(func() { s.starter(t) })
	all.Go(func() { s.leaver(t) })
	all.Go(func() {
		for !s.stop.Load() {
			switch err := clean(s.path); {
			case err == nil:
				s.cleaned.Add(1)
			case errors.Is(err, pidfile.ErrAlreadyRunning), errors.Is(err, fs.ErrNotExist), errors.Is(err, pidfile.ErrUnproven):
				s.hurried.Add(1)
			default:
				t.Error(err)
				s.stop.Store(true)
			}
			runtime.Gosched()
		}
	})
	for end := time.Now().Add(4 * testproc.Patience); !enough() && !s.stop.Load() && time.Now().Before(end); {
		time.Sleep(time.Millisecond)
	}
	s.stop.Store(true)
	all.Wait()
	t.Logf("%d starts, %d cleaned, %d not; %d held files were removed, %d overlaps",
		s.starts.Load(), s.cleaned.Load(), s.hurried.Load(), s.taken.Load(), s.overlaps.Load())
}

func TestCleanRemovesNoHeldFile(t *testing.T) {
	var s cleanStorm
	dir, enough := t.TempDir(), testproc.Rounds(1000, 60, 15)
	n := looked(t, "clean loop", filepath.Join(dir, "a.pid"), func() { // two other processes
		s.run(t, dir, clean, func() bool { return s.cleaned.Load() >= int64(enough) && s.starts.Load() >= 2*int64(enough) })
	})
	t.Logf("%d more calls of Clean elsewhere", n)
	if s.taken.Load() != 0 || s.overlaps.Load() != 0 {
		t.Error("a held file was removed")
	}
	if s.cleaned.Load() < 10 || s.starts.Load() < 10 {
		t.Error("this tests little")
	}
}

// To remove by verdict, without the lock, does remove held files.
func TestCleanRemovesNoHeldFileNegativeControl(t *testing.T) {
	testproc.NotShort(t)
	var s cleanStorm
	s.run(t, t.TempDir(), func(path string) error {
		if st, err := pidfile.Inspect(path); err != nil || st.State != pidfile.Stale {
			return fs.ErrNotExist
		}
		time.Sleep(100 * time.Microsecond) // as a reader of the verdict needs
		return os.Remove(path)
	}, func() bool { return s.taken.Load() >= 1 })
	if s.taken.Load() == 0 {
		t.Error("no held file was removed: this test would find nothing")
	}
}
