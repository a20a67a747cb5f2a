//go:build darwin || dragonfly || freebsd || linux || netbsd || openbsd

package lock

import (
	"context"
	"slices"
	"sync"

	"golang.org/x/sys/unix"
)

// A queue is the waiters of this process on one path, served by one goroutine
// that blocks in the kernel. When all have gone it may still be blocked there;
// what it gets then it gives back, unless somebody waits again by then.
type queue struct {
	path    string
	on      ID // the inode that it is blocked on
	waiters []*waiter
}

// A waiter is one call of Wait. While it is its turn it is not in the queue.
type waiter struct {
	h    *Hold
	o    *Options
	left bool // its context ended during its turn
	done chan error
}

var queues = struct {
	sync.Mutex
	m map[string]*queue
}{m: map[string]*queue{}}

// Wait takes the file as soon as nobody has it. It returns the error of ctx,
// and holds nothing, if that is done first.
func (h *Hold) Wait(ctx context.Context, o *Options) error {
	if r, err := h.attempt(o); err != errAgain && (err != nil || !r.Held) {
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
// that is no longer there waits for somebody who has nothing to do with w: it
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
// queue has taken its place and nobody waits for it.
func (q *queue) blocks(fd int) bool {
	st, err := fstat(fd)
	queues.Lock()
	defer queues.Unlock()
	if q.on = (ID{}); err == nil {
		q.on = st.id
	}
	return queues.m[q.path] == q || len(q.waiters) > 0
}

// options are those of the waiter who is first.
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
		w.left = true
		return false
	}
	q.waiters = slices.Delete(q.waiters, i, i+1)
	return true
}

// next returns the waiter whose turn it is. If there is none, the queue has
// ceased to exist.
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

// back puts w, whose turn was in vain, in front again.
func (q *queue) back(w *waiter) {
	queues.Lock()
	defer queues.Unlock()
	if w.left {
		w.done <- errAgain
		return
	}
	q.waiters = slices.Insert(q.waiters, 0, w)
}

// left reports whether the path has left the file fd: names another file, or none.
func (h *Hold) left(fd int) bool {
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
	h.Prepare(q.path)
	defer func() {
		h.file.unpin()
		h.releaseRetained()
	}()
	for {
		h.file.unpin()
		fd, err := h.open(q.options())
		if err == nil {
			if !q.blocks(fd) {
				closeFD(fd)
				return
			}
			if err = flock(fd, unix.LOCK_EX); err != nil { // blocks
				closeFD(fd)
				fd, err = -1, h.lockError(err)
			}
		}
		w := q.next()
		if w == nil {
			if fd >= 0 {
				unlockAndClose(fd)
			}
			return
		}
		var r refusal
		switch err {
		case nil:
			r, err = h.settle(fd, w.o)
		case unix.ENOENT:
			err = h.createNew(w.o)
		}
		switch {
		case r.Held: // by somebody whom flock does not keep out
			q.back(w)
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
			h.Prepare(q.path)
			w.done <- nil
		case err == errAgain:
			q.back(w)
			if fd >= 0 && h.left(fd) {
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
