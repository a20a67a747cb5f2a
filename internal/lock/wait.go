//go:build darwin || dragonfly || freebsd || linux || netbsd || openbsd

package lock

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// A queue is the waiters of this process on one path, served by one goroutine
// that blocks in the kernel. When all have gone it may still be blocked there; what it
// gets then it unlocks, unless another has begun to wait by then.
type queue struct {
	path    string
	on      ID // the inode that it is blocked on
	waiters []*waiter
}

// A waiter is one call of Wait. During its turn it is not in the queue.
type waiter struct {
	h    *Hold
	o    *Options
	gone bool // its context ended during its turn
	done chan error
}

var queues = struct {
	sync.Mutex
	m map[string]*queue
}{m: map[string]*queue{}}

func (h *Hold) wait(ctx context.Context, o *Options) error {
	if r, err := h.attempt(o); !again(r, err) && (err != nil || !r.Held) {
		if err != nil {
			h.file.unpin()
		}
		return err
	}
	h.file.unpin()
	w := &waiter{h: h, o: o, done: make(chan error, 1)}
	q := join(h, w)
	select {
	case err := <-w.done:
		return err
	case <-ctx.Done():
	}
	if q.leave(w) {
		return ctx.Err()
	}
	if err := <-w.done; err != errAgain { // its turn ends in microseconds
		return err
	}
	return ctx.Err()
}

// join puts w into the queue for h's path. A queue that is blocked on a file
// that is no longer there waits for a process that has nothing to do with w: it
// keeps its waiters, if it has any, and w starts another.
func join(h *Hold, w *waiter) *queue {
	there, err := h.file.statPath()
	path := h.Path()
	queues.Lock()
	defer queues.Unlock()
	q := queues.m[path]
	if q == nil || q.on != (ID{}) && (err == unix.ENOENT || err == nil && q.on != there.id) {
		q = &queue{path: path}
		queues.m[path] = q
		go q.serve()
	}
	q.waiters = append(q.waiters, w)
	return q
}

// blocks notes what the queue is about to block on. It returns false if another
// queue has taken its place and no waiter is in it.
func (q *queue) blocks(fd int) bool {
	st, err := fstat(fd)
	queues.Lock()
	defer queues.Unlock()
	if q.on = (ID{}); err == nil {
		q.on = st.id
	}
	return queues.m[q.path] == q || len(q.waiters) > 0
}

// options are those of the first waiter.
func (q *queue) options() *Options {
	queues.Lock()
	defer queues.Unlock()
	if len(q.waiters) == 0 {
		return &Options{}
	}
	return q.waiters[0].o
}

// leave takes w out of the queue, unless it is w's turn.
func (q *queue) leave(w *waiter) bool {
	queues.Lock()
	defer queues.Unlock()
	i := slices.Index(q.waiters, w)
	if i < 0 {
		w.gone = true
		return false
	}
	q.waiters = slices.Delete(q.waiters, i, i+1)
	return true
}

// next returns the waiter whose turn it is. If there is none, the queue no longer
// exists.
func (q *queue) next() *waiter {
	queues.Lock()
	defer queues.Unlock()
	if len(q.waiters) == 0 {
		if queues.m[q.path] == q {
			delete(queues.m, q.path)
		}
		return nil
	}
	w := q.waiters[0]
	q.waiters = slices.Delete(q.waiters, 0, 1)
	return w
}

// requeue puts w, whose turn was in vain, in front again.
func (q *queue) requeue(w *waiter) {
	queues.Lock()
	defer queues.Unlock()
	if w.gone {
		w.done <- errAgain
		return
	}
	q.waiters = slices.Insert(q.waiters, 0, w)
}

// leftBehind reports whether the path names another file than fd, or none.
func (h *Hold) leftBehind(fd int) bool {
	mine, err := fstat(fd)
	if err != nil {
		return false
	}
	there, err := h.file.statPath()
	return err == unix.ENOENT || err == nil && there.id != mine.id
}

// serve takes the file for one waiter after the other.
func (q *queue) serve() {
	var h Hold
	h.prepare(q.path)
	defer func() {
		h.file.unpin()
		h.releaseRetained()
	}()
	for {
		fd, err := q.block(&h)
		if err == errSuperseded {
			return
		}
		w := q.next()
		if w == nil {
			if fd >= 0 {
				unlockAndClose(fd)
			}
			return
		}
		var r refusal
		if err == nil {
			r, err = h.take(fd, w.o)
		}
		switch {
		case r.Held: // by a process that flock does not keep out
			q.requeue(w)
			_ = flock(fd, unix.LOCK_UN)
			if r.Locked {
				_ = waitOFD(fd) // then look again, whatever it says
			} else {
				waitUnlocked(&h, fd, r.PID)
			}
			closeFD(fd)
		case err == nil:
			if fd >= 0 && !h.has(fd) {
				h.retain(fd)
			}
			*w.h = h
			h = Hold{}
			h.prepare(q.path)
			w.done <- nil
		case err == errAgain:
			q.requeue(w)
			if fd >= 0 && h.leftBehind(fd) {
				h.retain(fd)
			} else if fd >= 0 {
				unlockAndClose(fd) // the path's own: we shall want it again
			}
		default:
			if fd >= 0 {
				unlockAndClose(fd)
			}
			w.done <- err
		}
	}
}

// errSuperseded: another queue serves the path, and this one has no waiters.
var errSuperseded = errors.New("superseded")

// block opens the file that is at the path and blocks until it is locked. fd is -1 if
// there is none.
func (q *queue) block(h *Hold) (fd int, err error) {
	h.file.unpin()
	fd, st, err := h.open(q.options())
	if err == unix.ENOENT {
		return -1, nil
	}
	if err != nil {
		return -1, err
	}
	if st.size == 0 && h.isFresh(fd, st) {
		closeFD(fd)
		time.Sleep(freshFor / 10)
		return -1, errAgain
	}
	if !q.blocks(fd) {
		closeFD(fd)
		return -1, errSuperseded
	}
	if err = flock(fd, unix.LOCK_EX); err != nil { // blocks
		closeFD(fd)
		return -1, h.lockError(err)
	}
	return fd, nil
}
