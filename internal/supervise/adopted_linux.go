package supervise

import (
	"sync"
	"syscall"
	"unsafe"

	"github.com/go-pidfile/pidfile/internal/proc"
	"golang.org/x/sys/unix"
)

// Adopted are the processes that a child of ours leaves behind, and that become our
// children since we are their subreaper, PR_SET_CHILD_SUBREAPER(2const). It is for a
// process that has started one child by itself, not as a Supervisor. On systems other
// than Linux, and where /proc cannot be used, there is none: nil, whose methods tell
// nothing and do nothing.
//
// What was there before the child is none of them, see orphans: it is never signalled.
type Adopted struct {
	others bool // there were children before
	gone   chan struct{}
	tell   func() // closes gone

	mu     sync.Mutex // held while a process is reaped, or signalled
	before map[int]bool
	child  int // until it was reaped: not ours to reap or to signal
	last   syscall.Signal
	sent   map[int]bool // the processes that got it
}

// Adopt makes this process the subreaper, before the child is started.
func Adopt() *Adopted {
	if proc.Usable() != nil || unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != nil {
		return nil
	}
	a := &Adopted{before: newOrphans().before, gone: make(chan struct{})}
	a.others = len(a.before) > 0
	a.tell = sync.OnceFunc(func() { close(a.gone) })
	return a
}

// Reap reaps, in the background, all children that end but this one: the caller waits
// for it, and then calls what Reap returned. From then on no other child must be
// started. Reap is called once.
func (a *Adopted) Reap(child int) (reaped func()) {
	if a == nil {
		return func() {}
	}
	over := make(chan struct{})
	a.child = child
	go a.reap(over)
	return sync.OnceFunc(func() {
		a.mu.Lock()
		a.child = 0 // another may get its PID
		a.mu.Unlock()
		close(over)
		a.check() // reap may not have seen that it ended
	})
}

// check tells if nothing is left. One that has ended and is not reaped counts: its child
// may have become ours since the list was read.
func (a *Adopted) check() {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, pid := range offspring("self") {
		if !a.before[pid] {
			return
		}
	}
	a.tell()
}

func (a *Adopted) reap(over <-chan struct{}) {
	for {
		// It is not reaped by this call, so that no signal of ours can miss it.
		var info childInfo
		err := unix.Waitid(unix.P_ALL, 0, (*unix.Siginfo)(unsafe.Pointer(&info)), unix.WEXITED|unix.WNOWAIT, nil)
		switch {
		case err == unix.EINTR:
			continue
		case err != nil: // no children at all
			<-over
			a.tell()
			return
		}
		if !a.reapOne(int(info.u.pid)) {
			<-over
		}
		select {
		case <-over:
			a.check()
		default:
		}
	}
}

// reapOne reaps a process that has ended, unless that is the child.
func (a *Adopted) reapOne(pid int) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	if pid == a.child {
		return false
	}
	_, _ = unix.Wait4(pid, nil, unix.WNOHANG, nil)
	delete(a.before, pid)
	delete(a.sent, pid)
	a.send() // to its children, which are ours now
	return true
}

// Gone is closed when the child was reaped and no process that it left behind lives.
func (a *Adopted) Gone() <-chan struct{} {
	if a == nil {
		return nil
	}
	return a.gone
}

// Left returns the PIDs of those that live.
func (a *Adopted) Left() []int {
	if a == nil {
		return nil
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.left()
}

func (a *Adopted) left() (pids []int) {
	for _, pid := range offspring("self") {
		if i, err := proc.Lookup(pid); err == nil && !i.Zombie() && !a.before[pid] {
			pids = append(pids, pid)
		}
	}
	return pids
}

// Signal sends a signal to those that live, and to those that they leave behind when
// they end; not to the child, as long as it is not reaped. It reports false, and sends
// none, if there were processes before the child: what these leave behind looks the
// same.
func (a *Adopted) Signal(sig syscall.Signal) bool {
	if a == nil || a.others {
		return false
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.last, a.sent = sig, map[int]bool{}
	a.send()
	return true
}

func (a *Adopted) send() {
	if a.last == 0 {
		return
	}
	for _, pid := range a.left() {
		if pid != a.child && !a.sent[pid] {
			_ = unix.Kill(pid, a.last) // EPERM: it has become another user
			a.sent[pid] = true
		}
	}
}
