package pidfile

import (
	"context"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/go-pidfile/pidfile/internal/lock"
)

// WaitEnd blocks until the process that holds the PID file at path has ended,
// or ctx is done, and returns its exit status where Process.Wait would. If
// nobody has the file it returns at once, with a nil status. Where it is locked
// but the process is not to be seen, WaitEnd blocks until the lock is free. It
// sends nothing, so the file need not be trusted as for Find.
//
// The error matches ctx.Err(); or ErrUnproven, with the evidence, if it cannot
// be told whether somebody has the file.
func WaitEnd(ctx context.Context, path string) (*ExitStatus, error) {
	v, h, err := pin(ctx, path)
	if err != nil {
		return nil, &fs.PathError{Op: "wait", Path: v.path, Err: err}
	}
	if h != nil {
		p := &Process{path: v.path, handle: h}
		defer p.Close()
		return p.Wait(ctx)
	}
	switch {
	case v.state == Unknown && !v.lockTells:
		return nil, v.refuse("wait", ErrUnproven)
	case v.state == Running || v.maybeLocked():
		if err := lock.WaitFree(ctx, v.path); err != nil {
			return nil, &fs.PathError{Op: "wait", Path: v.path, Err: err}
		}
	}
	return nil, nil
}

// glance is how often WaitStart looks where the kernel does not tell it: a lock
// taken on a file that was there already is no event.
const glance = time.Second

// WaitStart blocks until somebody has the PID file at path, or ctx is done, and
// returns what Inspect says then. The file's directory must exist. On Linux the
// kernel tells of new files, by inotify(7), and WaitStart looks once a second
// besides.
//
// The error matches ctx.Err(), or is Inspect's.
func WaitStart(ctx context.Context, path string) (Status, error) {
	if abs, err := filepath.Abs(path); err == nil {
		path = abs
	}
	if _, err := os.Stat(filepath.Dir(path)); err != nil {
		return Status{Path: path, State: Unknown, Evidence: []string{err.Error()}}, err
	}
	n := lock.WatchDir(filepath.Dir(path))
	defer n.Close()
	tick := time.NewTicker(glance)
	defer tick.Stop()
	for {
		v, err := examine(path, mode{})
		if err != nil || v.state == Running {
			return v.status(), err
		}
		select {
		case <-n.Changed():
		case <-tick.C:
		case <-ctx.Done():
			return v.status(), &fs.PathError{Op: "wait", Path: path, Err: ctx.Err()}
		}
	}
}
