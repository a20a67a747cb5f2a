//go:build linux

package lock

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/go-pidfile/pidfile/internal/testproc"
	"golang.org/x/sys/unix"
)

// Every system call on every path fails once, with each of these. Only PIDFILE_LONG=1
// tries all; else it is a sample of them for each call, every time the same.
var faultErrnos = []syscall.Errno{
	unix.ENOSPC, unix.EIO, unix.EINTR, unix.EACCES, unix.ENOLCK, unix.EMFILE, unix.EDQUOT,
}

const (
	faultPID  = 4194001                  // what our Hold records
	faultNext = 42                       // what Record changes it to: shorter, so there is something to cut
	stalePID  = "4194304\nlater lines\n" // longer than ours: there is something to cut
	otherPID  = "4194302\n"              // what another process's file says
)

// A faultCase is one way through the protocol.
type faultCase struct {
	name string
	// standing are conditions of the place, such as a file system without
	// anonymous files: they hold for every call, and do not count as the fault.
	standing map[string]syscall.Errno
	// prepare makes the situation in which act is called, without the fault.
	prepare func(x *faultRun)
	// act is what the fault hits. x.h is to be held after it if it succeeds.
	act func(x *faultRun) error
	// check judges the state after act failed. Success is judged in one place.
	check func(x *faultRun)
}

// A faultRun is one execution of a faultCase.
type faultRun struct {
	testing.TB
	path   string
	h      Hold
	other  Hold // another process's, in the cases of a refusal
	fd     int  // another process's fcntl lock
	taken  bool // another process has the file
	before string
	r      Refusal
	err    error
}

var (
	noAnonymous = map[string]syscall.Errno{"tmpfile": unix.EOPNOTSUPP}
	noDirWr     = map[string]syscall.Errno{"tmpfile": unix.EACCES, "unlink": unix.EACCES}
)

var faultCases = []faultCase{
	{"acquire absent", nil, (*faultRun).nothing, (*faultRun).acquire, (*faultRun).nothingNew},
	{"acquire stale", nil, (*faultRun).stale, (*faultRun).acquire, (*faultRun).nothingNew},
	{"acquire absent without anonymous files", noAnonymous, (*faultRun).nothing, (*faultRun).acquire, (*faultRun).nothingNew},
	{"acquire stale without anonymous files", noAnonymous, (*faultRun).stale, (*faultRun).acquire, (*faultRun).nothingNew},
	{"acquire stale in a read-only directory", noDirWr, (*faultRun).stale, (*faultRun).acquire, (*faultRun).nothingNew},
	{"refused by a holder", nil, (*faultRun).heldByOther, (*faultRun).acquire, (*faultRun).otherUntouched},
	{"refused by a program that never locks", nil, (*faultRun).unlockedOther, (*faultRun).acquire, (*faultRun).otherUntouched},
	{"refused by fcntl", nil, (*faultRun).fcntlOther, (*faultRun).acquire, (*faultRun).otherUntouched},
	{"refused by fcntl without anonymous files", noAnonymous, (*faultRun).fcntlOther, (*faultRun).acquire, (*faultRun).otherUntouched},
	{"release", nil, (*faultRun).held, (*faultRun).release, nil},
	{"release without anonymous files", noAnonymous, (*faultRun).held, (*faultRun).release, nil},
	{"release in a read-only directory", noDirWr, (*faultRun).heldInPlace, (*faultRun).release, nil},
	{"record", nil, (*faultRun).held, (*faultRun).record, (*faultRun).unrecorded},
	{"record after a crash in record", nil, (*faultRun).heldAfterCrash, (*faultRun).record, (*faultRun).unrecorded},
	{"record in place", noAnonymous, (*faultRun).held, (*faultRun).record, (*faultRun).unrecorded},
	{"renew", nil, (*faultRun).heldThenRemoved, (*faultRun).renew, (*faultRun).unrenewed},
	{"renew without anonymous files", noAnonymous, (*faultRun).heldThenRemoved, (*faultRun).renew, (*faultRun).unrenewed},
	{"renew emptied", nil, (*faultRun).heldThenEmptied, (*faultRun).renew, (*faultRun).unfilled},
	{"renew emptied without anonymous files", noAnonymous, (*faultRun).heldThenEmptied, (*faultRun).renew, (*faultRun).unfilled},
}

// TestFaults runs in a process of its own: fault is a plain variable, and a
// goroutine that another test left waiting in the kernel would read it; and no
// other test's descriptors are to be counted.
func TestFaults(t *testing.T) {
	const env = "PIDFILE_TEST_FAULTS"
	if os.Getenv(env) == "" {
		t.Parallel()
		cmd := exec.Command(os.Args[0], "-test.run=^TestFaults$", "-test.count=1", "-test.timeout=5m", fmt.Sprintf("-test.short=%v", testing.Short()))
		cmd.Env = append(os.Environ(), env+"=1")
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		return
	}
	t.Run("supplanted", testSupplanted)
	for _, c := range faultCases {
		t.Run(c.name, func(t *testing.T) {
			calls := c.run(t, -1, 0)
			if len(calls) < 3 {
				t.Fatalf("only %v were called: faults are not injected", calls)
			}
			for n := range calls {
				for k := range testproc.Rounds(len(faultErrnos), 2, 1) {
					e := faultErrnos[(n+2*k)%len(faultErrnos)]
					t.Run(fmt.Sprintf("%d-%s-%s", n, calls[n], unix.ErrnoName(e)), func(t *testing.T) {
						c.run(t, n, e)
					})
				}
			}
		})
	}
}

// run goes through c once, failing call number n, and returns the calls.
func (c *faultCase) run(t testing.TB, n int, e syscall.Errno) (calls []string) {
	x := &faultRun{TB: t, path: filepath.Join(t.TempDir(), "a.pid"), fd: -1}
	descriptors := faultFDs(t)
	setFault(func(call string) syscall.Errno { return c.standing[call] })
	defer func() { setFault(nil) }()
	x.h.Prepare(x.path)
	c.prepare(x)
	x.before = x.dir()

	setFault(func(call string) syscall.Errno {
		calls = append(calls, call)
		if len(calls)-1 == n {
			return e
		}
		return c.standing[call]
	})
	x.err = c.act(x)
	setFault(func(call string) syscall.Errno { return c.standing[call] })

	switch {
	case x.err != nil:
		c.failed(x, n, e)
	case x.taken || x.r.Held:
		x.refused(n >= 0 && calls[n] == "setlk" && e == unix.EACCES)
	case x.h.fd >= 0:
		x.holds()
	}
	x.clean()
	if now := faultFDs(t); now != descriptors {
		t.Errorf("%d descriptors before, %d after", descriptors, now)
	}
	return calls
}

func (c *faultCase) failed(x *faultRun, n int, e syscall.Errno) {
	switch {
	case n < 0:
		x.Fatalf("without a fault: %v", x.err)
	case e == unix.EINTR:
		x.Errorf("EINTR was not survived: %v", x.err)
	case !errors.Is(x.err, e):
		x.Errorf("%v does not wrap %v", x.err, e)
	case !strings.Contains(x.err.Error(), x.path) && !strings.Contains(x.err.Error(), sparePath(x.path)):
		x.Errorf("%q does not name %s", x.err, x.path)
	}
	if c.check != nil {
		c.check(x)
	}
}

// refused is a refusal: right if the file has a holder. EACCES of a lock means
// that, fcntl(2), so a fault may say so too.
func (x *faultRun) refused(saidSo bool) {
	if !x.r.Held {
		x.Error("the file has a holder, and it was taken")
	}
	if !x.taken && !saidSo {
		x.Error("refused, and the file has no holder")
	}
	x.otherUntouched()
}

// holds: x.h has the file, all of it, and keeps others out.
func (x *faultRun) holds() {
	if err := x.h.Check(); err != nil {
		x.Errorf("held, but %v", err)
	}
	want := strconv.Itoa(x.h.PID()) + "\n"
	if got := x.dir(); got != "a.pid="+want {
		x.Errorf("the directory has %q, want a.pid=%q", got, want)
	}
	if fi, err := os.Lstat(x.path); err != nil || fi.Mode() != 0o644 && !strings.Contains(x.Name(), "stale") {
		x.Errorf("mode %v, %v", fi.Mode(), err)
	}
	var second Hold
	second.Prepare(x.path)
	if r, err := second.Acquire(&Options{PID: 7, Mode: 0o644}); err != nil || !r.Held || !r.Locked || r.PID != x.h.PID() {
		x.Errorf("a second Acquire: %+v, %v", r, err)
	}
}

// clean lets go of everything, and shows that the path can be taken then.
func (x *faultRun) clean() {
	if x.h.fd >= 0 {
		if err := x.h.Release(); err != nil {
			x.Errorf("release: %v", err)
		}
	}
	if x.other.fd > 0 {
		if err := x.other.Release(); err != nil {
			x.Errorf("the other's release: %v", err)
		}
	}
	if x.fd >= 0 {
		closeFD(x.fd)
	}
	var next Hold
	next.Prepare(x.path)
	if r, err := next.Acquire(&Options{PID: 7, Mode: 0o644}); err != nil || r.Held {
		x.Fatalf("the next start: %+v, %v", r, err)
	}
	if err := next.Release(); err != nil {
		x.Errorf("the next release: %v", err)
	}
}

// dir is what the directory has: names and texts.
func (x *faultRun) dir() string {
	entries, err := os.ReadDir(filepath.Dir(x.path))
	if err != nil {
		x.Fatal(err)
	}
	var all []string
	for _, e := range entries {
		text, err := os.ReadFile(filepath.Join(filepath.Dir(x.path), e.Name()))
		if err != nil {
			x.Fatal(err)
		}
		all = append(all, e.Name()+"="+string(text))
	}
	return strings.Join(all, " ")
}

func faultFDs(t testing.TB) int {
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(entries)
}

// The situations.

func (x *faultRun) nothing() {}

func (x *faultRun) stale() { x.write(x.path, stalePID) }

func (x *faultRun) write(path, text string) {
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		x.Fatal(err)
	}
}

func (x *faultRun) held() {
	if err := x.acquire(); err != nil || x.r.Held {
		x.Fatal(x.r, err)
	}
}

func (x *faultRun) heldInPlace() { x.stale(); x.held() }

func (x *faultRun) heldAfterCrash() {
	x.held()
	x.write(sparePath(x.path), "4194003\n")
}

func (x *faultRun) heldThenRemoved() {
	x.held()
	if err := os.Remove(x.path); err != nil {
		x.Fatal(err)
	}
}

func (x *faultRun) heldThenEmptied() {
	x.held()
	if err := os.Truncate(x.path, 0); err != nil {
		x.Fatal(err)
	}
}

func (x *faultRun) heldByOther() {
	x.taken = true
	x.other.Prepare(x.path)
	pid, _ := ParsePID([]byte(otherPID))
	if r, err := x.other.Acquire(&Options{PID: pid, Mode: 0o644}); err != nil || r.Held {
		x.Fatal(r, err)
	}
}

func (x *faultRun) unlockedOther() {
	x.taken = true
	x.write(x.path, otherPID)
}

// fcntlOther locks as a program would that uses fcntl(2). A lock of an open
// file conflicts within a process, unlike the classic one.
func (x *faultRun) fcntlOther() {
	x.taken = true
	x.write(x.path, stalePID) // only its lock speaks for it
	fd, err := unix.Open(x.path, unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		x.Fatal(err)
	}
	if err := unix.FcntlFlock(uintptr(fd), unix.F_OFD_SETLK, &unix.Flock_t{Type: unix.F_WRLCK}); err != nil {
		x.Fatal(err)
	}
	x.fd = fd
}

// The acts.

func (x *faultRun) acquire() (err error) {
	o := &Options{PID: faultPID, Mode: 0o644, Running: func(pid int, _ time.Time) bool {
		return strconv.Itoa(pid)+"\n" == otherPID
	}}
	x.r, err = x.h.Acquire(o)
	return err
}

func (x *faultRun) release() error { return x.h.Release() }

func (x *faultRun) record() error {
	err := x.h.Record(faultNext)
	if err == nil && x.h.PID() != faultNext {
		x.Errorf("recorded PID %d", x.h.PID())
	}
	return err
}

func (x *faultRun) renew() error { return x.h.Renew(&Options{}) }

// The state after an error.

func (x *faultRun) nothingNew() {
	if x.h.fd >= 0 {
		x.Error("failed, and holds the file")
	}
	if got := x.dir(); got != x.before {
		x.Errorf("left %q in the directory, which had %q", got, x.before)
	}
}

func (x *faultRun) otherUntouched() {
	if x.h.fd >= 0 {
		x.Error("failed or refused, and holds the file")
	}
	if got := x.dir(); got != x.before {
		x.Errorf("another process's file was touched: %q, want %q", got, x.before)
	}
	if x.other.fd > 0 {
		if err := x.other.Check(); err != nil {
			x.Errorf("the holder: %v", err)
		}
	}
}

func (x *faultRun) unrecorded() {
	if x.h.PID() != faultPID {
		x.Errorf("failed, and PID is %d", x.h.PID())
	}
	if err := x.h.Check(); err != nil {
		x.Errorf("failed, and the old PID did not stay: %v, the directory has %q", err, x.dir())
	}
	if got := strings.Split(x.dir(), " "); got[len(got)-1] != fmt.Sprintf("a.pid=%d\n", faultPID) {
		x.Errorf("failed, and the directory has %q", got)
	}
	// Once the fault is over it works.
	if err := x.h.Record(faultNext); err != nil {
		x.Errorf("record again: %v", err)
		return
	}
	x.holds()
}

func (x *faultRun) unrenewed() {
	if got := x.dir(); got != "" {
		x.Errorf("failed, and left %q", got)
	}
	if err := x.h.Renew(&Options{}); err != nil {
		x.Errorf("renew again: %v", err)
		return
	}
	x.holds()
}

func (x *faultRun) unfilled() {
	if got := x.dir(); got != "a.pid=" {
		x.Errorf("failed, and left %q", got)
	}
	if err := x.h.Renew(&Options{}); err != nil {
		x.Errorf("renew again: %v", err)
		return
	}
	x.holds()
}

// supplanted removes the file, whichever process has it, and starts another holder.
func (x *faultRun) supplanted() {
	if x.taken {
		return
	}
	if err := os.Remove(x.path); err != nil {
		x.Fatal(err)
	}
	defer unfaulted()()
	x.heldByOther()
	x.before = x.dir()
}

// testSupplanted has the file removed by hand, and another process start, in the middle
// of what takes the file's place: that one is not touched, and not overlooked. It is
// not a race: the middle is a function of ours.
func testSupplanted(t *testing.T) {
	acquire := func(x *faultRun) {
		r, err := x.h.Acquire(&Options{PID: faultPID, Mode: 0o644, Running: func(int, time.Time) bool {
			x.supplanted()
			return false
		}})
		if pid, _ := ParsePID([]byte(otherPID)); err != nil || !r.Held || !r.Locked || r.PID != pid {
			x.Errorf("acquire: %+v, %v; want refused by %d", r, err, pid)
		}
	}
	for _, c := range []struct {
		name     string
		standing map[string]syscall.Errno
		act      func(x *faultRun)
	}{
		{"acquire", nil, acquire},
		{"acquire without anonymous files", noAnonymous, acquire},
		{"acquire in a read-only directory", noDirWr, acquire},
		{"remove", nil, func(x *faultRun) {
			err := Remove(x.path, func(View) error { x.supplanted(); return nil })
			if !errors.Is(err, ErrHeld) {
				x.Errorf("remove: %v", err)
			}
		}},
		{"record", nil, func(x *faultRun) {
			if err := os.Remove(x.path); err != nil {
				x.Fatal(err)
			}
			x.held()
			setFault(func(call string) syscall.Errno {
				if call == "link" { // the second file's
					x.supplanted()
				}
				return 0
			})
			if err := x.h.Record(faultNext); err != ErrChanged {
				x.Errorf("record: %v", err)
			}
			setFault(nil)
			_ = flock(x.h.fd, unix.LOCK_UN)
			x.h.closeAll()
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			x := &faultRun{TB: t, path: filepath.Join(t.TempDir(), "a.pid"), fd: -1}
			setFault(func(call string) syscall.Errno { return c.standing[call] })
			defer func() { setFault(nil) }()
			x.stale()
			x.h.Prepare(x.path)
			c.act(x)
			if !x.taken {
				t.Fatal("no process came between")
			}
			x.otherUntouched()
		})
	}
}

// sparePath is where the spare file of the PID file at path is.
func sparePath(path string) string {
	f := newFile(path)
	spare := f.spare()
	return spare.path
}
