//go:build linux

package lock

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/go-pidfile/pidfile/internal/testproc"
	"golang.org/x/sys/unix"
)

// The copies that HandOff returns, each owned by a command.

// handing returns the holder of a new file. It is without /proc if bare.
func handing(t *testing.T, bare bool) *Hold {
	t.Helper()
	t.Cleanup(func() { setFault(nil) })
	setFault((&raceRule{Bare: bare}).fault)
	h := new(Hold)
	h.Prepare(filepath.Join(t.TempDir(), "a.pid"))
	if r, err := h.Acquire(&Options{PID: os.Getpid(), Mode: 0o644}); err != nil || r.Held {
		t.Fatal(r, err)
	}
	return h
}

func copies(t *testing.T, h *Hold) (held, handoffLock *os.File) {
	t.Helper()
	held, handoffLock, err := h.HandOff()
	if err != nil {
		t.Fatal(err)
	}
	return held, handoffLock
}

// collectFiles has closed every os.File that was garbage when it was called.
func collectFiles() {
	for range 3 { // the queue is taken in batches, and a batch from its end
		done := make(chan struct{})
		runtime.SetFinalizer(new([64]byte), func(*[64]byte) { close(done) })
		for closed := false; !closed; {
			runtime.GC()
			select {
			case <-done:
				closed = true
			case <-time.After(time.Millisecond):
			}
		}
	}
}

// both runs f with a description of the hand-off lock that is the parent's own, and where
// the parent takes it as a process does.
func both(t *testing.T, f func(t *testing.T, bare bool)) {
	for _, bare := range []bool{false, true} {
		t.Run(fmt.Sprintf("bare=%v", bare), func(t *testing.T) { f(t, bare) })
	}
}

// Nothing that happens to the copies ends the hand-off lock while it is taken.
func TestHandoffLockStaysTaken(t *testing.T) {
	both(t, func(t *testing.T, bare bool) {
		h := handing(t, bare)
		for range 100 {
			copies(t, h)
		}
		if (h.handoff.own < 0) != bare {
			t.Fatalf("own description: %d", h.handoff.own)
		}
		other, err := dup(h.handoff.lock)
		if err != nil {
			t.Fatal(err)
		}
		defer closeFD(other) // not before: that would end it, if bare
		looks := 0
		setFault(func(call string) syscall.Errno {
			if call == "unlink" {
				collectFiles()
				looks++
				lk := unix.Flock_t{Type: unix.F_WRLCK}
				if err := unix.FcntlFlock(uintptr(other), unix.F_OFD_GETLK, &lk); err != nil || lk.Type != unix.F_WRLCK {
					t.Errorf("the hand-off lock is free: %+v, %v", lk, err)
				}
			}
			return 0
		})
		if err := h.Release(); err != nil {
			t.Error(err)
		}
		if looks == 0 {
			t.Error("nothing was looked at")
		}
	})
}

func TestReleaseRacesAdoptWhileCollecting(t *testing.T) {
	both(t, func(t *testing.T, bare bool) {
		for name, r := range raceWays {
			t.Run(name, func(t *testing.T) {
				over, ended := make(chan struct{}), make(chan struct{})
				go func() {
					defer close(ended)
					for {
						select {
						case <-over:
							return
						default:
							runtime.GC()
						}
					}
				}()
				r.Bare, r.Waste = bare, true
				res := race(t, r, 1, testproc.Rounds(150, 50, 15))
				close(over)
				<-ended
				for _, w := range res.wrong {
					t.Error(w)
				}
				res.checkMet(t)
			})
		}
	})
}

// What the parent still has for a command, started or not, does not keep a file
// locked that a child has adopted in place: it is free when the child ends.
func TestReleaseWithdrawsCopies(t *testing.T) {
	both(t, func(t *testing.T, bare bool) {
		h := handing(t, bare)
		setFault((&raceRule{Bare: bare, Fails: map[string]syscall.Errno{"tmpfile": unix.EACCES}}).fault)
		held, handoffLock := copies(t, h)
		late, lateLock := copies(t, h)
		var child Hold
		child.Prepare(h.Path())
		if _, err := child.Adopt([]Pair{pairOf(t, held, handoffLock)}, faultNext); err != nil || child.id != h.id {
			t.Fatalf("%v, or it was not adopted in place", err)
		}
		if err := h.Release(); err != nil {
			t.Fatal(err)
		}
		if unlocked(h.Path()) {
			t.Error("the child's file is not locked")
		}
		// The numbers are still the commands', and no other file's.
		st, err := fstat(int(late.Fd()))
		if err != nil || !bare && st.id != child.id {
			t.Errorf("%+v, %v", st, err)
		}
		flags, err := unix.FcntlInt(late.Fd(), unix.F_GETFD, 0)
		if err != nil || flags&unix.FD_CLOEXEC == 0 {
			t.Errorf("flags %#x, %v", flags, err)
		}
		// A command that is started only now.
		var second Hold
		second.Prepare(h.Path())
		_, err = second.Adopt([]Pair{pairOf(t, late, lateLock)}, faultNext+1)
		if want := map[bool]error{false: ErrChanged, true: ErrNotInherited}[bare]; err != want {
			t.Errorf("a late adoption: %v, want %v", err, want)
		}
		closeFD(child.fd) // it is killed
		if !unlocked(h.Path()) {
			t.Error("the child has ended, and its file is still locked")
		}
		for _, f := range []*os.File{held, handoffLock, late, lateLock} {
			if err := f.Close(); err != nil {
				t.Error(err)
			}
		}
	})
}

// pairOf is what a child would have of these.
func pairOf(t *testing.T, held, handoffLock *os.File) (p Pair) {
	t.Helper()
	var err, e error
	p.Lock, err = dup(int(held.Fd()))
	p.Handoff, e = dup(int(handoffLock.Fd()))
	if err != nil || e != nil {
		t.Fatal(err, e)
	}
	return p
}

// A command that is started meanwhile gets its file with or without the lock, and
// no other file.
func TestReleaseWithdrawsBesideStart(t *testing.T) {
	const script = `
read -r pid </proc/self/fd/3
read -r state word rest </proc/self/fd/4
[ "$word" = pidfile ] && [ "$pid" = "$1" ] && exit
ls -l /proc/self/fd
exit 1`
	for range testproc.Rounds(500, 100, 30) {
		h := handing(t, false)
		setFault((&raceRule{Fails: map[string]syscall.Errno{"tmpfile": unix.EACCES}}).fault)
		held, handoffLock := copies(t, h)
		var child Hold
		child.Prepare(h.Path())
		if _, err := child.Adopt([]Pair{pairOf(t, held, handoffLock)}, faultNext); err != nil {
			t.Fatal(err)
		}
		setFault(nil)
		released := make(chan error)
		go func() {
			err := h.Release()
			for range 10 { // for which there may be a number free
				f, e := os.Open(os.DevNull)
				if e == nil {
					defer f.Close()
				}
				err = errors.Join(err, e)
			}
			released <- err
		}()
		cmd := exec.Command("sh", "-c", script, "sh", strconv.Itoa(faultNext))
		cmd.ExtraFiles = []*os.File{held, handoffLock}
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("%v: %s", err, out)
		}
		if err := errors.Join(<-released, child.Release(), held.Close(), handoffLock.Close()); err != nil {
			t.Error(err)
		}
		if t.Failed() {
			return
		}
	}
}

// Copies that no child adopts keep no process waiting for a file that is free.
func TestWaitFreeDespiteCopies(t *testing.T) {
	for name, change := range map[string]func(h *Hold) error{
		"released":           func(h *Hold) error { return h.Release() },
		"recorded, released": func(h *Hold) error { return errors.Join(h.Record(faultNext), h.Release()) },
		"renewed, released": func(h *Hold) error {
			return errors.Join(os.Remove(h.Path()), h.Renew(&Options{}), h.Release())
		},
	} {
		t.Run(name, func(t *testing.T) {
			h := handing(t, false)
			setFault(nil) // WaitFree has a goroutine
			held, handoffLock := copies(t, h)
			defer held.Close()
			defer handoffLock.Close()
			ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
			defer cancel()
			free := make(chan error, 1)
			go func() { free <- WaitFree(ctx, h.Path()) }()
			for waits := false; !waits; { // until it has the file open
				freeWaits.Lock()
				_, waits = freeWaits.m[h.ID()]
				freeWaits.Unlock()
				runtime.Gosched()
			}
			if err := change(h); err != nil {
				t.Fatal(err)
			}
			if err := <-free; err != nil {
				t.Errorf("released, and a waiter: %v", err)
			}
		})
	}
}
