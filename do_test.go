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
	"github.com/go-pidfile/pidfile/internal/testproc"
)

func TestDo(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	problem := errors.New("problem")
	held := func(t *testing.T, path string) {
		t.Helper()
		_, err := pidfile.Acquire(path)
		refused(t, err, path, os.Getpid(), true)
	}
	t.Run("returns", func(t *testing.T) {
		path := tempPath(t)
		must(t, pidfile.Do(ctx, path, func(c context.Context) error {
			held(t, path)
			mine := content(t, path)
			write(t, path+".stale", "4194304\n")
			must(t, os.Rename(path+".stale", path))
			testproc.Eventually(t, "the stale file is replaced", func() bool { return content(t, path) == mine })
			held(t, path)
			return c.Err()
		}))
		absent(t, path)
	})
	t.Run("the file is removed", func(t *testing.T) {
		path := tempPath(t)
		must(t, pidfile.Do(ctx, path, func(c context.Context) error {
			must(t, os.Remove(path))
			testproc.Eventually(t, "it is put back", func() bool { _, err := os.Lstat(path); return err == nil })
			held(t, path)
			mine := content(t, path)
			write(t, path+".stale", "4194304\n")
			must(t, os.Rename(path+".stale", path))
			testproc.Eventually(t, "the stale file is replaced", func() bool { return content(t, path) == mine })
			held(t, path)
			return c.Err()
		}))
		absent(t, path)
	})
	t.Run("the file is lost", func(t *testing.T) {
		path := tempPath(t)
		err := pidfile.Do(ctx, path, func(c context.Context) error {
			must(t, os.Remove(path))
			must(t, os.Mkdir(path, 0o755))
			<-c.Done()
			return context.Cause(c)
		})
		isLost(t, "Do", err)
	})
	t.Run("the context ends", func(t *testing.T) {
		path := tempPath(t)
		ctx, cancel := context.WithCancelCause(ctx)
		err := pidfile.Do(ctx, path, func(c context.Context) error {
			cancel(problem)
			<-c.Done()
			return context.Cause(c)
		})
		if err != problem {
			t.Errorf("error %v", err)
		}
	})
	t.Run("waits", func(t *testing.T) {
		path := tempPath(t)
		f := acquire(t, path)
		config := pidfile.Config{Wait: true}
		short, cancel := context.WithTimeout(ctx, 5*time.Millisecond)
		defer cancel()
		err := config.Do(short, path, func(context.Context) error { t.Error("ran"); return nil })
		if !errors.Is(err, context.DeadlineExceeded) || !errors.Is(err, pidfile.ErrAlreadyRunning) {
			t.Errorf("error %v", err)
		}
		_, err = config.Acquire(path) // does not wait
		refused(t, err, path, os.Getpid(), true)
		time.AfterFunc(10*time.Millisecond, func() { must(t, f.Release()) })
		must(t, config.Do(ctx, path, func(context.Context) error { held(t, path); return nil }))
	})
	t.Run("fails", func(t *testing.T) {
		path := tempPath(t)
		err := pidfile.Do(ctx, path, func(context.Context) error { held(t, path); return problem })
		if err != problem {
			t.Errorf("error %v", err)
		}
		absent(t, path)
	})
	t.Run("panics", func(t *testing.T) {
		path := tempPath(t)
		func() {
			defer func() {
				if p := recover(); p != problem {
					t.Errorf("recovered %v", p)
				}
			}()
			_ = pidfile.Do(ctx, path, func(context.Context) error { held(t, path); panic(problem) })
		}()
		absent(t, path)
	})
	t.Run("Goexit", func(t *testing.T) {
		path := tempPath(t)
		done := make(chan struct{})
		go func() {
			defer close(done)
			_ = pidfile.Do(ctx, path, func(context.Context) error { runtime.Goexit(); return nil })
		}()
		<-done
		absent(t, path)
	})
	t.Run("context done", func(t *testing.T) {
		path := tempPath(t)
		done, cancel := context.WithCancel(ctx)
		cancel()
		err := pidfile.Do(done, path, func(context.Context) error { t.Error("ran"); return nil })
		if !errors.Is(err, context.Canceled) {
			t.Errorf("error %v", err)
		}
		absent(t, path)
	})
	t.Run("held", func(t *testing.T) {
		path := tempPath(t)
		f := acquire(t, path)
		err := pidfile.Do(ctx, path, func(context.Context) error { t.Error("ran"); return nil })
		refused(t, err, path, os.Getpid(), true)
		taken(t, f, nil)
	})
}
