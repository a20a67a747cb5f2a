//go:build linux

package pidfile_test

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/go-pidfile/pidfile"
	"github.com/go-pidfile/pidfile/internal/testproc"
)

// isOpen reports whether nothing is lost yet.
func isOpen(c <-chan struct{}) bool {
	select {
	case <-c:
		return false
	default:
		return true
	}
}

// closes returns how long it took until c was closed.
func closes(t *testing.T, c <-chan struct{}) time.Duration {
	t.Helper()
	begin := time.Now()
	select {
	case <-c:
	case <-time.After(20 * time.Second):
		t.Fatal("not closed after 20 s")
	}
	return time.Since(begin)
}

// Whatever takes the file away is noticed within a second. The best of three
// counts: others may need this machine, too.
func TestLost(t *testing.T) {
	t.Parallel()
	for name, take := range map[string]func(t *testing.T, path string){
		"rm": func(t *testing.T, path string) { must(t, os.Remove(path)) },
		"mv": func(t *testing.T, path string) { must(t, os.Rename(path, path+".old")) },
		"replaced": func(t *testing.T, path string) {
			write(t, path+".new", "1\n")
			must(t, os.Rename(path+".new", path))
		},
		"overwritten": func(t *testing.T, path string) { write(t, path, "1\n") },
		"emptied":     func(t *testing.T, path string) { must(t, os.Truncate(path, 0)) },
	} {
		for _, early := range []bool{true, false} {
			when := map[bool]string{true: "at once", false: "later"}[early]
			t.Run(name+" "+when, func(t *testing.T) {
				t.Parallel()
				best := time.Hour
				for try := 0; try < 3 && best > time.Second; try++ {
					path := tempPath(t)
					f := acquire(t, path)
					lost := f.Lost()
					if !early {
						watched(t, path)
					}
					if !isOpen(lost) {
						t.Fatal("lost before anything happened")
					}
					take(t, path)
					best = min(best, closes(t, lost))
					must(t, f.Release())
				}
				if best > time.Second {
					t.Errorf("noticed after %v at best", best)
				}
			})
		}
	}
}

func TestLostIsOneChannel(t *testing.T) {
	f := acquire(t, tempPath(t))
	lost := f.Lost()
	if f.Lost() != lost {
		t.Error("another channel")
	}
	taken(t, f, nil)
	if f.Lost() != lost || !isOpen(lost) {
		t.Error("Release changed the channel or closed it")
	}
}

func TestLostAfterRelease(t *testing.T) {
	f := acquire(t, tempPath(t))
	taken(t, f, nil)
	if !isOpen(f.Lost()) {
		t.Error("closed, and nothing was lost")
	}
}

func TestSetPIDIsNoLoss(t *testing.T) {
	t.Parallel()
	path := tempPath(t)
	f := acquire(t, path)
	lost := f.Lost()
	must(t, f.SetPID(1))
	watched(t, path)
	for pid := 2; pid <= 100; pid++ {
		must(t, f.SetPID(pid))
	}
	select { // a wrong notice would come now
	case <-lost:
		t.Error("SetPID was taken for a loss")
	case <-time.After(300 * time.Millisecond):
	}
	must(t, os.Remove(path))
	closes(t, lost) // the newest file is the one that is watched
	if err := f.SetPID(1); !errors.Is(err, pidfile.ErrLost) || !strings.Contains(err.Error(), path) {
		t.Errorf("SetPID of a lost file: %v", err)
	}
	must(t, f.Release())
	absent(t, path)
}

func TestRestore(t *testing.T) {
	t.Parallel()
	path := tempPath(t)
	f := acquire(t, path)
	must(t, f.SetPID(4194304))
	lost := f.Lost()
	for range 3 {
		must(t, os.Remove(path))
		closes(t, lost)
		must(t, f.Restore())
		if got := content(t, path); got != "4194304\n" {
			t.Errorf("restored with %q", got)
		}
		_, err := pidfile.Acquire(path)
		refused(t, err, path, 4194304, true)
		start(t, "acquire", path).says("running 4194304 true")
		again := f.Lost()
		if again == lost || !isOpen(again) {
			t.Fatal("Lost gives no new channel")
		}
		lost = again
	}
	must(t, f.Restore()) // nothing is lost: nothing to do
	if !isOpen(lost) || f.Lost() != lost {
		t.Error("Restore of a file that was not lost changed the channel")
	}
	must(t, f.Release())
	absent(t, path)
	if err := f.Restore(); !errors.Is(err, fs.ErrClosed) {
		t.Errorf("Restore after Release: %v", err)
	}
}

// Restore may come before the watch has noticed the loss. The file that it
// published is to be watched as well as any.
func TestRestoreBeforeNotice(t *testing.T) {
	t.Parallel()
	for range 3 {
		path := tempPath(t)
		f := acquire(t, path)
		f.Lost()
		watched(t, path)
		must(t, os.Remove(path))
		must(t, f.Restore())
		lost := f.Lost()
		select { // let the notice of the first loss arrive
		case <-lost:
			t.Fatal("restored, and lost again")
		case <-time.After(50 * time.Millisecond):
		}
		must(t, os.Remove(path))
		closes(t, lost)
		must(t, f.Release())
	}
}

// A waiter for a file that was lost and restored gets it after the release.
func TestRestoreAndWait(t *testing.T) {
	path := tempPath(t)
	f := acquire(t, path)
	must(t, os.Remove(path))
	must(t, f.Restore())
	w := wait(t, path)
	queued(t, path)
	w.still()
	must(t, f.Release())
	w.got()
}

func TestRestoreTaken(t *testing.T) {
	t.Parallel()
	for name, take := range map[string]func(t *testing.T, path string){
		"by another process": func(t *testing.T, path string) {
			must(t, os.Remove(path))
			start(t, "acquire", path).says("ok")
		},
		"by what is not a PID file": func(t *testing.T, path string) {
			must(t, os.Remove(path))
			write(t, path, strings.Repeat("#!/bin/sh\n", 10))
		},
		"by a link": func(t *testing.T, path string) {
			must(t, os.Remove(path))
			must(t, os.Symlink("/dev/null", path))
		},
		"by an overwriter": func(t *testing.T, path string) { write(t, path, "1") },
		"by a directory": func(t *testing.T, path string) {
			must(t, os.Remove(path))
			must(t, os.Mkdir(path, 0o755))
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			path := tempPath(t)
			f := acquire(t, path)
			take(t, path)
			before := tree(t, path)
			err := f.Restore()
			var pathError *fs.PathError
			if !errors.Is(err, pidfile.ErrLost) || !errors.As(err, &pathError) || pathError.Path != path {
				t.Errorf("Restore: %v", err)
			}
			closes(t, f.Lost())
			must(t, f.Release())
			if after := tree(t, path); after != before {
				t.Errorf("the other's file\nbefore: %safter:  %s", before, after)
			}
		})
	}
}

// What no process holds is replaced, as by any start.
func TestRestoreOverStale(t *testing.T) {
	t.Parallel()
	dead := fmt.Sprintln(testproc.DeadPID(t))
	for name, take := range map[string]func(t *testing.T, path string){
		"a dead PID": func(t *testing.T, path string) {
			write(t, path+".new", dead)
			must(t, os.Rename(path+".new", path))
		},
		"empty": func(t *testing.T, path string) {
			write(t, path+".new", "")
			must(t, os.Rename(path+".new", path))
		},
		"another program's PID": func(t *testing.T, path string) {
			write(t, path+".new", "1\n")
			must(t, os.Rename(path+".new", path))
		},
		"our own PID, unlocked": func(t *testing.T, path string) {
			write(t, path+".new", fmt.Sprint(os.Getpid()))
			must(t, os.Rename(path+".new", path))
		},
		"a holder that was killed": func(t *testing.T, path string) {
			must(t, os.Remove(path))
			h := start(t, "acquire", path).says("ok")
			h.kill()
		},
		"overwritten by a dead PID": func(t *testing.T, path string) { write(t, path, dead+"and more\n") },
		"another directory": func(t *testing.T, path string) {
			must(t, os.Rename(filepath.Dir(path), filepath.Dir(path)+".old"))
			must(t, os.Mkdir(filepath.Dir(path), 0o755))
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			path := filepath.Join(t.TempDir(), "d", "a.pid")
			must(t, os.Mkdir(filepath.Dir(path), 0o755))
			f := acquire(t, path)
			take(t, path)
			start := time.Now()
			must(t, f.Restore())
			if took := time.Since(start); took > 5*time.Second {
				t.Errorf("took %v", took)
			}
			if got, want := content(t, path), fmt.Sprintln(os.Getpid()); got != want {
				t.Errorf("the file has %q, want %q", got, want)
			}
			_, err := pidfile.Acquire(path)
			refused(t, err, path, os.Getpid(), true)
			must(t, f.Release())
			absent(t, path)
		})
	}
}

// The error of Restore names another holder.
func TestRestoreNamesHolder(t *testing.T) {
	path := tempPath(t)
	f := acquire(t, path)
	must(t, os.Remove(path))
	h := start(t, "acquire", path).says("ok")
	err := f.Restore()
	var other *pidfile.AlreadyRunningError
	if !errors.As(err, &other) || other.PID != h.pid() || !other.Locked || !errors.Is(err, pidfile.ErrLost) {
		t.Errorf("Restore: %v", err)
	}
	must(t, f.Release())
}

// The way to the file changes: Lost tells, and Restore publishes where it leads now. The
// file of before stays locked, and is ours again when the path leads back.
func TestRestoreWay(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	link := func(to string) {
		must(t, os.Symlink(to, filepath.Join(dir, "new")))
		must(t, os.Rename(filepath.Join(dir, "new"), filepath.Join(dir, "current")))
	}
	for _, d := range []string{"1", "2"} {
		must(t, os.Mkdir(filepath.Join(dir, d), 0o755))
	}
	link("1")
	path := filepath.Join(dir, "current", "a.pid")
	one, two := filepath.Join(dir, "1", "a.pid"), filepath.Join(dir, "2", "a.pid")
	f := acquire(t, path)
	first, err := os.Stat(one)
	must(t, err)
	for _, to := range []string{"2", "1", "2", "1"} {
		lost := f.Lost()
		watched(t, path)
		link(to)
		closes(t, lost)
		must(t, f.Restore())
		must(t, f.Err())
		for _, p := range []string{path, one, two} {
			_, err := pidfile.Acquire(p)
			refused(t, err, p, os.Getpid(), true)
		}
	}
	if now, err := os.Stat(one); err != nil || !os.SameFile(first, now) {
		t.Errorf("not the first file: %v", err)
	}
	must(t, f.Release())
	absent(t, path)
	for _, p := range []string{one, two} { // nothing is locked any more
		g := acquire(t, p)
		must(t, g.Release())
	}
}

// Release of a lost file leaves alone who took its place.
func TestReleaseAfterLoss(t *testing.T) {
	path := tempPath(t)
	f := acquire(t, path)
	must(t, os.Remove(path))
	h := start(t, "acquire", path).says("ok")
	must(t, f.Release())
	if got, want := content(t, path), fmt.Sprintf("%d\n", h.pid()); got != want {
		t.Errorf("the winner's file has %q, want %q", got, want)
	}
	_, err := pidfile.Acquire(path)
	refused(t, err, path, h.pid(), true)
}
