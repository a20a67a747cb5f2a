package pidfile

import (
	"context"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/go-pidfile/pidfile/internal/lock"
	"github.com/go-pidfile/pidfile/internal/watch"
)

// WaitEnd blocks until the process that holds the PID file at path has ended, or ctx
// is done, and returns its exit status where [Process.Wait] would, else nil. Where the
// file is locked but the process cannot be seen, it blocks until the lock is free.
// It sends nothing, so the file need not be trusted as it must be for [Find].
//
// The error matches ctx.Err(); [ErrNotRunning] if there was no holder, which is told
// at once; or [ErrUnproven], with the evidence, if it cannot be told whether there is
// one, or it names PID 1 and is not locked: waiting for that would never end.
func WaitEnd(ctx context.Context, path string) (*ExitStatus, error) {
	return Finder{}.WaitEnd(ctx, path)
}

// WaitEnd is like the function WaitEnd, but [ErrUnproven] for a process that is not as
// f's fields say.
func (f Finder) WaitEnd(ctx context.Context, path string) (*ExitStatus, error) {
	v, h, err := pin(ctx, path, f)
	if err != nil {
		return nil, &fs.PathError{Op: "wait", Path: v.path, Err: err}
	}
	if h != nil {
		p := &Process{path: v.path, handle: h}
		defer p.Close()
		if v.doubtsInit() || f.excludes(&v) {
			return nil, v.refuse("wait", ErrUnproven)
		}
		return p.Wait(ctx)
	}
	locked := v.state == Running || v.maybeLocked() // as it seems
	v.confirm()
	switch {
	case v.state == Absent || v.state == Stale:
		return nil, v.refuse("wait", ErrNotRunning)
	case !locked:
		return nil, v.refuse("wait", ErrUnproven)
	}
	if err := lock.WaitFree(ctx, v.path); err != nil {
		return nil, &fs.PathError{Op: "wait", Path: v.path, Err: err}
	}
	return nil, nil
}

// pollInterval is how often WaitRunning looks where the kernel does not tell it: a
// lock taken on a file that was there already is no event.
const pollInterval = time.Second

// WaitRunning blocks until the PID file at path is [Running], or ctx is done, and
// returns what [Inspect] says then. The file's directory must exist. On Linux the
// kernel tells of new files, by inotify(7), and WaitRunning looks once a second
// besides.
//
// The error matches ctx.Err(), or is Inspect's.
func WaitRunning(ctx context.Context, path string) (Status, error) {
	if abs, err := filepath.Abs(path); err == nil {
		path = abs
	}
	if _, err := os.Stat(filepath.Dir(path)); err != nil {
		return Status{Path: path, State: Unknown, Evidence: []string{err.Error()}}, err
	}
	n := watch.Dir(filepath.Dir(path))
	defer n.Close()
	tick := time.NewTicker(pollInterval)
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
