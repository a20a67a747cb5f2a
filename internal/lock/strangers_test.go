//go:build linux

package lock

import (
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-pidfile/pidfile/internal/testproc"
	"golang.org/x/sys/unix"
)

// Strangers: flock(1) locks without comparing inodes, creates the file empty
// and never removes it. So two of them, or one and one of ours, can each hold
// "the file" if one of them locked an inode that the path no longer names: the
// fault of flock(1) alone. What our protocol promises is this: while flock(1)
// holds the inode that the path names, no process can unlink it (that takes its
// lock), so it stays the path's, and none of ours gets in. And none takes
// the path from one of ours. So flock(1)'s holds count from the time when the
// path was seen to name the locked inode; the others do not.

type strangerCount struct{ held, strayed, refused atomic.Int64 }

func (c *strangerCount) valid() int { return int(c.held.Load()) }

// exitStrayed is how a stranger's command says that its hold does not count.
const exitStrayed = 40

// stranger plays the command that flock(1) runs.
func (r *role) stranger() {
	const inherited = 3 // the only descriptor that flock(1) opens
	r.openLog()
	mine, err := fstat(inherited)
	if err != nil {
		r.die(err)
	}
	there, err := statat(unix.AT_FDCWD, r.Path)
	if err != nil && err != unix.ENOENT {
		r.die(err)
	}
	if err != nil || there.id != mine.id {
		r.logEvent(strayed, 0)
		os.Exit(exitStrayed)
	}
	r.logEvent(enter, 0)
	linger()
	r.logEvent(exit, 0)
}

// startStrangers starts the loops and returns what stops them.
func (s *storm) startStrangers() (stop func()) {
	var stopped atomic.Bool
	var wg sync.WaitGroup
	for i := range s.strangers {
		r := role{Do: "stranger", Path: s.Path, Inc: 1<<32 + uint64(i), Log: filepath.Join(s.logs, fmt.Sprintf("flock%d.log", i))}
		wg.Go(func() {
			for !stopped.Load() {
				s.callFlock(&r)
			}
		})
	}
	return func() {
		stopped.Store(true)
		wg.Wait()
	}
}

// callFlock runs flock(1) once. Its end is the end of its command's hold.
func (s *storm) callFlock(r *role) {
	err := r.command(s.t, "flock", "-n", r.Path).Run()
	code := 0
	if e, ok := err.(*exec.ExitError); ok {
		code, err = e.ExitCode(), nil
	}
	switch {
	case err == nil && code == 0:
		s.stranger.held.Add(1)
	case err == nil && code == 1:
		s.stranger.refused.Add(1)
		time.Sleep(time.Duration(rand.IntN(5000)) * time.Microsecond) // as our losers do
	case err == nil && code == exitStrayed:
		s.stranger.strayed.Add(1)
	default:
		s.t.Errorf("flock: %v, exit code %d", err, code)
	}
}

func TestStormStrangers(t *testing.T) {
	testproc.Tool(t, "flock")
	for _, wait := range []bool{false, true} {
		t.Run(map[bool]string{false: "acquire", true: "wait"}[wait], func(t *testing.T) {
			s := &storm{role: role{Wait: wait}, processes: 4, strangers: 3, atLeast: stormTime(), wantHeld: testproc.Rounds(20, 20, 2), noReader: true}
			o := s.run(t, "/dev/shm")
			c := &s.stranger
			t.Logf("flock(1): %d holds of the path's inode, %d of another, %d refusals", c.held.Load(), c.strayed.Load(), c.refused.Load())
			s.check(o)
		})
	}
}
