//go:build linux

package lock

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/go-pidfile/pidfile/internal/testproc"
	"golang.org/x/sys/unix"
)

// leak plays a holder whose child inherits the descriptor: it takes the file,
// starts the child, says so, releases when told to, and ends with its input.
func (r *role) leak() {
	if r.Stays {
		setFault(func(call string) syscall.Errno {
			if call == "unlink" {
				return syscall.EACCES
			}
			return 0
		})
	}
	var h Hold
	h.Prepare(r.Path)
	if refusal, err := h.Acquire(&Options{PID: os.Getpid(), Mode: 0o644}); err != nil || refusal.Held {
		r.die(fmt.Errorf("acquire: %+v, %v", refusal, err))
	}
	child := r.childWith(h.fd)
	fmt.Println("held")
	var line string
	_, _ = fmt.Scanln(&line)
	if err := h.Release(); err != nil {
		r.die(err)
	}
	fmt.Println("released")
	_, _ = io.Copy(io.Discard, os.Stdin)
	child()
}

// childWith starts a child that has fd, and returns what ends it.
func (r *role) childWith(fd int) (end func()) {
	env, _ := json.Marshal(role{Do: "block"})
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), roleEnv+"="+string(env))
	dup, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		r.die(err)
	}
	f := os.NewFile(uintptr(dup), "lock")
	cmd.ExtraFiles = []*os.File{f}
	in, err := cmd.StdinPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		r.die(err)
	}
	f.Close()
	return func() {
		in.Close()
		_ = cmd.Wait() // it says nothing
	}
}

// A clean release lets the next in though a child of the holder still has the descriptor.
func TestReleaseDespiteChild(t *testing.T) {
	t.Run("waiter", func(t *testing.T) { releaseToWaiter(t, false) })
	t.Run("next", func(t *testing.T) { releaseToNext(t, false) })
}

// withoutUnlock leaves out the explicit unlock.
var withoutUnlock = testproc.Patch{
	File: "hold.go",
	Old:  "if e := flock(h.locked(), unix.LOCK_UN); e != nil && err == nil {",
	New:  "if e := error(nil); e != nil && err == nil {",
}

func TestReleaseDespiteChildWithoutUnlock(t *testing.T) {
	if withoutUnlock.Control(t) {
		t.Run("waiter", func(t *testing.T) { releaseToWaiter(t, true) })
		t.Run("next", func(t *testing.T) { releaseToNext(t, true) })
	}
}

// releaseToWaiter has a waiter sleep on the file when it is released.
func releaseToWaiter(t *testing.T, broken bool) {
	checkLeaks(t)
	path := filepath.Join(t.TempDir(), "a.pid")
	c := startChild(t, &role{Do: "leak", Path: path})
	c.expect("held")
	id := idOf(t, path)
	got := waitAsync(context.Background(), path)
	testproc.Eventually(t, "the waiter sleeps", func() bool { return sleepers(t, os.Getpid(), id) == 1 })
	c.say("release")
	c.expect("released")
	if broken {
		// An unlock takes the waiter from the kernel's queue before it returns,
		// so that it still sleeps now does not depend on time.
		if sleepers(t, os.Getpid(), id) != 1 {
			t.Error("the waiter was let in though the lock was not released")
		}
		c.end()
	}
	mustRelease(t, receive(t, got)) // if it is not broken, while the child lives
	c.end()
}

// releaseToNext has the file stay, and the next come only then.
func releaseToNext(t *testing.T, broken bool) {
	checkLeaks(t)
	path := filepath.Join(t.TempDir(), "a.pid")
	c := startChild(t, &role{Do: "leak", Path: path, Stays: true})
	c.expect("held")
	c.say("release")
	c.expect("released")
	h := new(Hold)
	h.Prepare(path)
	r, err := h.Acquire(&Options{PID: os.Getpid(), Mode: 0o644})
	if err != nil {
		t.Fatal(err)
	}
	if r.Held != broken {
		t.Errorf("refused: %v, want %v", r.Held, broken)
	}
	if !r.Held {
		mustRelease(t, h)
	}
	c.end()
	mustRelease(t, mustHold(t, path))
}
