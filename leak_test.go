//go:build linux

package pidfile_test

import (
	"context"
	"errors"
	"os"
	"runtime"
	"testing"
	"time"

	"github.com/go-pidfile/pidfile"
)

func descriptors(t *testing.T) int {
	t.Helper()
	fds, err := os.ReadDir("/proc/self/fd")
	must(t, err)
	return len(fds)
}

// leakless runs f and checks that nothing is left of it. What ends in the
// background may take its time.
func leakless(t *testing.T, f func()) {
	t.Helper()
	fds, goroutines := descriptors(t), runtime.NumGoroutine()
	f()
	end := time.Now().Add(10 * time.Second)
	for descriptors(t) > fds || runtime.NumGoroutine() > goroutines {
		if time.Now().After(end) {
			t.Fatalf("before: %d descriptors, %d goroutines; after: %d, %d", fds, goroutines, descriptors(t), runtime.NumGoroutine())
		}
		time.Sleep(time.Millisecond)
	}
}

func TestLeaks(t *testing.T) {
	path := tempPath(t)
	t.Run("acquire and release", func(t *testing.T) {
		leakless(t, func() {
			for range 500 {
				must(t, acquire(t, path).Release())
			}
		})
	})
	t.Run("refused", func(t *testing.T) {
		leakless(t, func() {
			f := acquire(t, path)
			for range 200 {
				if _, err := pidfile.Acquire(path); !errors.Is(err, pidfile.ErrAlreadyRunning) {
					t.Fatal(err)
				}
			}
			must(t, f.Release())
		})
	})
	t.Run("stale files", func(t *testing.T) {
		leakless(t, func() {
			for range 100 {
				write(t, path, "4194304\n")
				must(t, acquire(t, path).Release())
			}
		})
	})
	t.Run("errors", func(t *testing.T) {
		dir := t.TempDir()
		leakless(t, func() {
			for range 100 {
				for _, path := range []string{dir, dir + "/no/a.pid", ""} {
					if acquireError(path) == nil {
						t.Fatal("no error")
					}
				}
			}
		})
	})
	t.Run("SetPID", func(t *testing.T) {
		f := acquire(t, path)
		must(t, f.SetPID(1))
		// Locks on earlier files, for who queues there, are kept: a few.
		for range 20 {
			must(t, f.SetPID(1))
		}
		leakless(t, func() {
			for pid := 1; pid <= 200; pid++ {
				must(t, f.SetPID(pid))
			}
		})
		must(t, f.Release())
	})
	t.Run("Lost and Restore", func(t *testing.T) {
		leakless(t, func() {
			f := acquire(t, path)
			for range 2 { // each takes a quarter of a second
				lost := f.Lost()
				must(t, os.Remove(path))
				<-lost
				must(t, f.Restore())
			}
			must(t, f.Release())
		})
	})
	t.Run("Lost, released at once", func(t *testing.T) {
		leakless(t, func() {
			for range 100 {
				f := acquire(t, path)
				f.Lost()
				must(t, f.Release())
			}
		})
	})
	t.Run("waits given up", func(t *testing.T) {
		leakless(t, func() {
			f := acquire(t, path)
			for i := range 100 {
				ctx, cancel := context.WithTimeout(context.Background(), time.Duration(i)*30*time.Microsecond)
				if _, err := pidfile.AcquireContext(ctx, path); !errors.Is(err, context.DeadlineExceeded) {
					t.Fatal(err)
				}
				cancel()
			}
			must(t, f.Release())
		})
		absent(t, path)
	})
	t.Run("100 waits at once, given up", func(t *testing.T) {
		leakless(t, func() {
			f := acquire(t, path)
			ctx, cancel := context.WithCancel(context.Background())
			done := make(chan error)
			for range 100 {
				go func() { _, err := pidfile.AcquireContext(ctx, path); done <- err }()
			}
			queued(t, path)
			cancel()
			for range 100 {
				if err := <-done; !errors.Is(err, context.Canceled) {
					t.Error(err)
				}
			}
			must(t, f.Release())
		})
		absent(t, path)
	})
}
