//go:build linux

package pidfile_test

import (
	"bufio"
	"errors"
	"fmt"
	"io/fs"
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
