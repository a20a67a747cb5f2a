package pidfile

import (
	"sync"
	"time"

	"github.com/go-pidfile/pidfile/internal/lock"
	"github.com/go-pidfile/pidfile/internal/watch"
)

// Lost returns a channel that is closed, within a second, once the path no longer
// names this file or its text was overwritten: the file was removed or replaced, and
// the next start would not see us, or a child has adopted it. [File.Err] tells which,
// and [File.Restore] can put back a file that was removed.
//
// The watch begins with the first call and ends with [File.Release], after which the
// channel stays as it is. That the path leads elsewhere is a loss too: a directory above
// the file was renamed, a symbolic link switched, or a file system mounted over it. On
// Linux the kernel tells us, by inotify(7) and /proc/self/mountinfo; where something
// cannot be watched, and on other systems, the path is looked at twice a second.
func (f *File) Lost() <-chan struct{} {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.watch == nil {
		f.watch = &lostWatch{lost: make(chan struct{}), done: make(chan struct{}), again: make(chan struct{}, 1)}
		if f.released {
			return f.watch.lost
		}
		go f.watch.run(f)
		if f.handed {
			f.watch.look() // at once: a child will adopt the file
		}
	}
	return f.watch.lost
}

// Err looks whether the file is still ours, and changes nothing. It returns
//   - nil while it is held;
//   - an error that matches [ErrHandedOff] if a process that it was handed to has
//     adopted it (see [File.HandOff]);
//   - an error that matches [ErrLost], as ErrHandedOff does too, if it was removed,
//     replaced or overwritten;
//   - an error that matches [fs.ErrClosed] after [File.Release];
//   - what the system said, if it cannot be told.
//
// It does not block, except as HandOff says.
func (f *File) Err() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.released {
		return f.closed("check")
	}
	return f.lost("check", f.hold.Check())
}

// A lostWatch is the goroutine behind Lost.
type lostWatch struct {
	lost  chan struct{} // closed: the file is lost
	done  chan struct{} // closed: the file is released
	again chan struct{} // the file was renewed: watch the new one
	once  sync.Once
}

func (w *lostWatch) fired() bool {
	select {
	case <-w.lost:
		return true
	default:
		return false
	}
}

func (w *lostWatch) stop() { w.once.Do(func() { close(w.done) }) }

func (w *lostWatch) look() {
	select {
	case w.again <- struct{}{}:
	default:
	}
}

// startGrace is how long a file is held before its watch is set up. Holders that
// are gone sooner do without: closing an inotify descriptor takes the kernel
// milliseconds.
const startGrace = 250 * time.Millisecond

func (w *lostWatch) run(f *File) {
	timer := time.NewTimer(startGrace)
	defer timer.Stop()
	var n *watch.Watch
	defer func() { n.Close() }()
	var changed <-chan struct{}
	for {
		select {
		case <-w.done:
			return
		case <-w.again:
			n.Close()
			n = nil
		case <-changed:
		case <-timer.C:
		}
		if n == nil {
			n = watch.File(f.path)
			changed = n.Changed()
		}
		if !f.check(w) { // after the watch is set: no change goes unseen
			return
		}
		if n.Partial() {
			timer.Reset(startGrace * 2)
		}
	}
}

// check closes w's channel and returns false if the path no longer names this
// file with its text.
func (f *File) check(w *lostWatch) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.released || f.hold.Check() != lock.ErrChanged {
		return true
	}
	close(w.lost)
	return false
}
