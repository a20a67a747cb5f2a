package supervise

import (
	"slices"
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
	go a.reap(child, over)
	return sync.OnceFunc(func() {
		close(over)
		a.check() // reap may not have seen that it ended
	})
}

func (a *Adopted) check() {
	if len(a.Left()) == 0 {
		a.tell()
	}
}

func (a *Adopted) reap(child int, over <-chan struct{}) {
	for {
		// It is not reaped by this call, so that no signal of ours can miss it.
		var info childInfo
		switch err := unix.Waitid(unix.P_ALL, 0, (*unix.Siginfo)(unsafe.Pointer(&info)), unix.WEXITED|unix.WNOWAIT, nil); {
		case err == unix.EINTR:
			continue
		case err != nil: // no children at all
			<-over
			a.tell()
			return
		}
		if pid := int(info.u.pid); pid == child {
			<-over
			child = 0 // another may get its PID
		} else {
			a.mu.Lock()
			_, _ = unix.Wait4(pid, nil, unix.WNOHANG, nil)
			delete(a.before, pid)
			a.mu.Unlock()
		}
		select {
		case <-over:
			a.check()
		default:
		}
	}
}

// Gone is closed when the child was reaped and no process that it left behind lives.
func (a *Adopted) Gone() <-chan struct{} {
	if a == nil {
		return nil
	}
	return a.gone
}

// Left returns the PIDs of those that live, but these.
func (a *Adopted) Left(but ...int) (pids []int) {
	if a == nil {
		return nil
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.left(but)
}

func (a *Adopted) left(but []int) (pids []int) {
	for _, pid := range offspring("self") {
		if i, err := proc.Lookup(pid); err == nil && !i.Zombie() && !a.before[pid] && !slices.Contains(but, pid) {
			pids = append(pids, pid)
		}
	}
	return pids
}

// Signal sends a signal to those that live, but to this one. It sends none if there
// were processes before the child: what these leave behind looks the same.
func (a *Adopted) Signal(sig syscall.Signal, but int) {
	if a == nil || a.others {
		return
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, pid := range a.left([]int{but}) {
		_ = unix.Kill(pid, sig) // EPERM: it has become another user
	}
}
