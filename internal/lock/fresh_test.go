//go:build linux

package lock

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// An empty file is left alone for a moment after it was created or emptied, once; any
// other left-over is replaced at once.
func TestFresh(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a.pid")
	if err := os.WriteFile(path, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	f := newFile(path)
	fd, err := f.open(false)
	if err != nil {
		t.Fatal(err)
	}
	defer closeFD(fd)
	st, err := fstat(fd)
	if err != nil {
		t.Fatal(err)
	}
	for _, age := range []time.Duration{-time.Hour, freshFor, time.Hour} {
		var h Hold
		st.mtime = time.Now().Add(-age)
		if h.isFresh(fd, st) {
			t.Errorf("a file that is %v old is fresh", age)
		}
	}
	var h Hold
	fresh := 0
	for start := time.Now(); time.Since(start) < 2*freshFor; { // it is emptied all the time
		st.mtime = time.Now()
		if h.isFresh(fd, st) {
			fresh++
		}
	}
	if fresh == 0 || h.isFresh(fd, st) {
		t.Errorf("fresh %d times, and in the end %v", fresh, h.isFresh(fd, st))
	}
}

// Every way to take a file waits, and then takes it.
func TestFreshIsTakenLater(t *testing.T) {
	for name, take := range map[string]func(h *Hold) error{
		"acquire": func(h *Hold) error {
			r, err := h.Acquire(&Options{PID: 1, Mode: 0o644})
			if r.Held {
				err = errors.New("refused")
			}
			return err
		},
		"wait": func(h *Hold) error { return h.Wait(context.Background(), &Options{PID: 1, Mode: 0o644}) },
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "a.pid")
			if err := os.WriteFile(path, nil, 0o644); err != nil {
				t.Fatal(err)
			}
			now := time.Now()
			if err := os.Chtimes(path, now, now); err != nil {
				t.Fatal(err)
			}
			if time.Since(now) > freshFor/2 {
				t.Skip("the machine is too busy")
			}
			var h Hold
			h.Prepare(path)
			if err := take(&h); err != nil {
				t.Fatal(err)
			}
			if age := time.Since(now); age < freshFor {
				t.Errorf("taken when it was %v old", age)
			}
			if text, err := os.ReadFile(path); err != nil || string(text) != "1\n" {
				t.Errorf("the file has %q (%v)", text, err)
			}
			if err := h.Release(); err != nil {
				t.Error(err)
			}
		})
	}
}

// A program that locks what it has created is respected, and is not hindered from it.
func TestFreshIsLocked(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a.pid")
	if err := os.WriteFile(path, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	f := newFile(path)
	fd, err := f.open(true)
	if err != nil {
		t.Fatal(err)
	}
	defer closeFD(fd)
	var h Hold
	h.Prepare(path)
	ahead := time.Now().Add(freshFor / 3)
	if err := os.Chtimes(path, ahead, ahead); err != nil {
		t.Fatal(err)
	}
	for time.Now().Before(ahead) {
	}
	if r, err := h.attempt(&Options{PID: 1, Mode: 0o644}); err != errFresh {
		if time.Since(ahead) < freshFor {
			t.Fatalf("a fresh file: %v, %v", r, err)
		}
		t.Skip("the machine is too busy")
	}
	if err := flock(fd, unix.LOCK_EX|unix.LOCK_NB); err != nil {
		t.Fatalf("it cannot be locked any more: %v", err)
	}
	if r, err := h.Acquire(&Options{PID: 1, Mode: 0o644}); err != nil || !r.Held || !r.Locked {
		t.Errorf("another's: %v, %v", r, err)
	}
}
