//go:build linux

package lock

import (
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/go-pidfile/pidfile/internal/testproc"
	"golang.org/x/sys/unix"
)

func TestRecord(t *testing.T) {
	good := record{unclaimed, ID{Dev: 1, Ino: 2}, 4194304, "/run/a b\n.pid"}
	for _, d := range []record{good, {replaced, ID{Dev: 1<<64 - 1, Ino: 1<<64 - 1}, 1, "/"}, {shared, ID{}, 0, "/a"}} {
		if got, ok := parseRecord(d.text()); !ok || got != d {
			t.Errorf("%q was read as %+v, %v", d.text(), got, ok)
		}
	}
	short := good
	if short.pid = 1; len(short.text()) != len(good.text()) {
		t.Error("another PID has another length")
	}
	text := good.text()
	for _, bad := range []string{
		"", " ", text[1:], text + strings.Repeat("a", maxRecord), "UU" + text[1:],
		strings.Replace(text, "pidfile", "pidfil", 1), strings.Replace(text, " 1 ", " -1 ", 1),
		strings.Replace(text, " 1 ", " 01 ", 1), strings.Replace(text, " 1 ", " 18446744073709551616 ", 1),
		strings.Replace(text, "4194304", "41943040", 1), strings.Replace(text, "4194304", "+194304", 1),
		strings.Replace(text, "/run", "run", 1), strings.ReplaceAll(text, " ", ""),
	} {
		if d, ok := parseRecord(bad); ok {
			t.Errorf("%.100q was read as %+v", bad, d)
		}
	}
	for i := range text { // cut off anywhere
		if d, ok := parseRecord(text[:i]); ok && !strings.HasPrefix(good.path, d.path) {
			t.Errorf("%q was read as %+v", text[:i], d)
		}
	}
}

// A call that failed leaves the file with the parent, and the child may try again.
func init() {
	faultCases = append(faultCases, []faultCase{
		{"inherit", nil, (*faultRun).held, (*faultRun).inherit, (*faultRun).uninherited},
		{"adopt", nil, (*faultRun).handedDown, (*faultRun).adopt, (*faultRun).unadopted},
		{"adopt without anonymous files", noAnonymous, (*faultRun).handedDown, (*faultRun).adopt, (*faultRun).unadopted},
		{"adopt in a read-only directory", noDirWr, (*faultRun).staleHandedDown, (*faultRun).adopt, (*faultRun).unadopted},
		{"adopt after a crash in adopt", nil, (*faultRun).handedDownAfterCrash, (*faultRun).adopt, (*faultRun).unadopted},
		{"release after inherit", nil, (*faultRun).inherited, (*faultRun).release, nil},
		{"release after inherit in a read-only directory", noDirWr, (*faultRun).staleInherited, (*faultRun).release, nil},
		{"release after adoption", nil, (*faultRun).adopted, (*faultRun).releaseToChild, nil},
		{"release after adoption in a read-only directory", noDirWr, (*faultRun).staleAdopted, (*faultRun).releaseToChild, nil},
		{"record after inherit", nil, (*faultRun).inherited, (*faultRun).record, (*faultRun).unrecorded},
		{"record in place after inherit", noAnonymous, (*faultRun).inherited, (*faultRun).record, (*faultRun).unrecorded},
		{"renew after inherit", nil, (*faultRun).inheritedThenRemoved, (*faultRun).renew, (*faultRun).unrenewed},
	}...)
}

// faultPair is what x.other, the parent, handed to x.h, which is of the same
// process here.
var faultPair []Pair

func (x *faultRun) inherited() { x.held(); x.mustInherit(&x.h) }

func (x *faultRun) staleInherited() { x.stale(); x.inherited() }

func (x *faultRun) inheritedThenRemoved() {
	x.inherited()
	if err := os.Remove(x.path); err != nil {
		x.Fatal(err)
	}
}

func (x *faultRun) handedDown() {
	x.heldByOther()
	x.taken = false // x.h may have it
	faultPair = []Pair{x.mustInherit(&x.other)}
}

func (x *faultRun) staleHandedDown() { x.stale(); x.handedDown() }

func (x *faultRun) handedDownAfterCrash() {
	x.handedDown()
	x.write(sparePath(x.path), "4194003\n")
}

// adopted: x.h is the parent, and x.other has adopted its file.
func (x *faultRun) adopted() {
	x.held()
	pair := x.mustInherit(&x.h)
	x.other.Prepare(x.path)
	if _, err := x.other.Adopt([]Pair{pair}, faultNext); err != nil {
		x.Fatal(err)
	}
}

func (x *faultRun) staleAdopted() { x.stale(); x.adopted() }

// mustInherit returns copies of what a child of h's process would have.
func (x *faultRun) mustInherit(h *Hold) Pair {
	held, handoffLock, err := h.HandOff()
	if err != nil {
		x.Fatal(err)
	}
	defer held.Close() // we are the command
	defer handoffLock.Close()
	if h == &x.h && !strings.Contains(x.Name(), "adoption") {
		return Pair{} // no child uses them
	}
	return Pair{x.copy(held), x.copy(handoffLock)}
}

func (x *faultRun) copy(f *os.File) int {
	fd, err := dup(int(f.Fd()))
	if err != nil {
		x.Fatal(err)
	}
	return fd
}

func (x *faultRun) inherit() error {
	held, handoffLock, err := x.h.HandOff()
	if err == nil {
		_, _ = held.Close(), handoffLock.Close()
	}
	return err
}

func (x *faultRun) uninherited() { x.holds() }

func (x *faultRun) adopt() error {
	i, err := x.h.Adopt(faultPair, faultNext)
	defer unfaulted()()
	if err == nil && (i != 0 || x.h.PID() != faultNext || x.other.Check() != ErrChanged) {
		x.Errorf("adopted %d, PID %d, the parent: %v", i, x.h.PID(), x.other.Check())
	}
	if err == nil && !x.h.created {
		_ = os.Remove(sparePath(x.path)) // what a crash left, and it could not remove
	}
	return err
}

func (x *faultRun) unadopted() {
	if x.h.fd >= 0 {
		x.Error("failed, and holds the file")
	}
	if err := x.other.Check(); err != nil {
		x.Errorf("failed, and the parent has lost the file: %v, the directory has %q", err, x.dir())
	}
	if err := x.adopt(); err != nil {
		x.Errorf("adopt again: %v", err)
		return
	}
	x.holds()
}

func (x *faultRun) releaseToChild() error {
	err := x.h.Release()
	defer unfaulted()()
	if err := x.other.Check(); err != nil {
		x.Errorf("the child: %v, the directory has %q", err, x.dir())
	}
	if unlocked(x.path) {
		x.Error("the child's file is not locked")
	}
	return err
}

// unfaulted ends the faults for a while.
func unfaulted() func() {
	f := fault.Swap(nil)
	return func() { fault.Store(f) }
}

// unlocked reports whether no process has the file at path locked.
func unlocked(path string) bool {
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return true
	}
	defer closeFD(fd)
	return unix.Flock(fd, unix.LOCK_EX|unix.LOCK_NB) == nil
}

// The race: a parent releases the file while children adopt it. The children
// are processes that last, and get the descriptors through a socket, so that
// there can be thousands of rounds; to inherit them is the same to the kernel.

// A raceRule says in which place the race is and what the protocol is without.
type raceRule struct {
	Path   string
	Fails  map[string]syscall.Errno // calls that fail in the children
	Denied bool                     // the file cannot be unlinked
	Bare   bool                     // the parent has no /proc
	Waste  bool                     // the parent leaves its copies to the collector
}

const raceEnv = "PIDFILE_LOCK_TEST_RACE"

// In a process that is to adopt, this comes before TestMain.
func init() {
	if text := os.Getenv(raceEnv); text != "" {
		if err := adopter(text); err != nil {
			fmt.Fprintln(os.Stderr, "adopter:", err)
			os.Exit(3)
		}
		os.Exit(0)
	}
}

// fault is what the calls meet. The pauses are where the other side must not
// come in between; they make it likely that it tries.
func (r *raceRule) fault(call string) syscall.Errno {
	switch {
	case r.Fails[call] != 0:
		return r.Fails[call]
	case r.Bare && call == "reopen":
		return unix.ENOENT
	case call == "unlink" || call == "rename":
		spin(time.Duration(rand.IntN(200)) * time.Microsecond)
		if r.Denied && call == "unlink" {
			return unix.EACCES
		}
	}
	return 0
}

func spin(d time.Duration) {
	for begin := time.Now(); time.Since(begin) < d; {
	}
}

// raceSocket is the adopter's end of the socket.
const raceSocket = 3

// adopter adopts what it is sent, says how that went, and releases it on demand.
func adopter(text string) error {
	var r raceRule
	if err := json.Unmarshal([]byte(text), &r); err != nil {
		return err
	}
	setFault(r.fault)
	for {
		pair, err := receivePair(raceSocket)
		if err != nil || pair == nil {
			return err // the parent has closed its end
		}
		var h Hold
		h.Prepare(r.Path)
		_, err = h.Adopt(pair, os.Getpid())
		word := "adopted"
		if err != nil {
			word = err.Error()
		}
		if err := send(raceSocket, word); err != nil {
			return err
		}
		if _, err := hear(raceSocket); err != nil {
			return err
		}
		word = "nothing to release"
		if err == nil {
			word = "released"
			if err := h.Release(); err != nil {
				word = err.Error()
			}
		}
		if err := send(raceSocket, word); err != nil {
			return err
		}
	}
}

func send(socket int, word string, fds ...int) error {
	var rights []byte
	if len(fds) > 0 {
		rights = unix.UnixRights(fds...)
	}
	return unix.Sendmsg(socket, []byte(word), rights, nil, 0)
}

func hear(socket int) (string, error) {
	var buf [1024]byte
	var n int
	err := retry("", func() (err error) { n, err = unix.Read(socket, buf[:]); return err })
	return string(buf[:max(n, 0)]), err
}

func receivePair(socket int) ([]Pair, error) {
	var buf [16]byte
	oob := make([]byte, unix.CmsgSpace(8))
	var n, oobn int
	err := retry("", func() (err error) {
		n, oobn, _, _, err = unix.Recvmsg(socket, buf[:], oob, 0)
		return err
	})
	if err != nil || n == 0 {
		return nil, err
	}
	messages, err := unix.ParseSocketControlMessage(oob[:oobn])
	if err != nil || len(messages) != 1 {
		return nil, fmt.Errorf("%d control messages, %v", len(messages), err)
	}
	fds, err := unix.ParseUnixRights(&messages[0])
	if err != nil || len(fds) != 2 {
		return nil, fmt.Errorf("%d descriptors, %v", len(fds), err)
	}
	return []Pair{{fds[0], fds[1]}}, nil
}

// A raceResult is what the rounds of a race came to.
type raceResult struct {
	rounds, adopted, lost int
	want                  int      // how often each is to be first
	wrong                 []string // what must never be
}

// met reports whether each side was the first often enough: then they have been close
// all the time, see race.
func (r *raceResult) met() bool { return min(r.adopted, r.lost) >= r.want }

func (r *raceResult) checkMet(t *testing.T) {
	t.Helper()
	if !r.met() && !testing.Short() {
		t.Errorf("adopted %d times, released before %d times, want %d each", r.adopted, r.lost, r.want)
	}
}

// race lets the parent, this process, hand the file to children that adopt it at once.
// It releases the file at the same time, or, if there are several children, after they
// have shown which is the first. This goes on until each of parent and child was the first
// so often, or there were so many rounds for several children; until a round went wrong;
// or until the time is over, of which there is less with -short.
func race(t *testing.T, r raceRule, children, want int) (res raceResult) {
	t.Helper()
	limit := time.Now().Add(time.Duration(testproc.Rounds(120_000, 60_000, 300)) * time.Millisecond)
	res.want = want
	r.Path = filepath.Join(t.TempDir(), "a.pid")
	defer func() { setFault(nil) }()
	ours := r
	ours.Fails = nil // these are the children's
	setFault(ours.fault)
	sockets := make([]int, children)
	for i := range sockets {
		sockets[i] = startAdopter(t, &r)
	}
	delay := 100 * time.Microsecond
	done := func() bool { return children == 1 && res.met() || children > 1 && res.rounds >= want }
	for !done() && len(res.wrong) == 0 && time.Now().Before(limit) {
		res.rounds++
		adopted := r.round(t, &res, sockets, delay)
		// The side that was first waits longer next time: so they collide on any machine.
		if res.adopted += adopted; adopted > 0 {
			delay = delay * 9 / 10
		} else {
			res.lost++
			delay = min(delay*11/10+time.Microsecond, 10*time.Millisecond)
		}
	}
	t.Logf("%+v: %d rounds, adopted in %d, released before in %d; wrong: %q", r, res.rounds, res.adopted, res.lost, res.wrong)
	return res
}

func startAdopter(t *testing.T, r *raceRule) int {
	t.Helper()
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	theirs := os.NewFile(uintptr(pair[1]), "socket")
	defer theirs.Close()
	text, err := json.Marshal(r)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), raceEnv+"="+string(text), "GORACE=atexit_sleep_ms=0")
	cmd.ExtraFiles = []*os.File{theirs}
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		closeFD(pair[0])
		if err := cmd.Wait(); err != nil {
			t.Errorf("adopter: %v", err)
		}
	})
	return pair[0]
}

// round returns how many children have adopted the file.
func (r *raceRule) round(t *testing.T, res *raceResult, sockets []int, delay time.Duration) (adopted int) {
	t.Helper()
	wrong := func(format string, args ...any) { res.wrong = append(res.wrong, fmt.Sprintf(format, args...)) }
	ok := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	var h Hold
	h.Prepare(r.Path)
	if refusal, err := h.Acquire(&Options{PID: os.Getpid(), Mode: 0o644}); err != nil || refusal.Held {
		t.Fatalf("round %d: %+v, %v", res.rounds, refusal, err)
	}
	held, handoffLock, err := h.HandOff()
	ok(err)
	for _, s := range sockets {
		ok(send(s, "adopt", int(held.Fd()), int(handoffLock.Fd())))
	}
	runtime.KeepAlive(held)
	runtime.KeepAlive(handoffLock)
	if !r.Waste {
		ok(held.Close())
		ok(handoffLock.Close())
	}
	release := func() {
		if err := h.Release(); err != nil {
			wrong("release: %v", err)
		}
	}
	if len(sockets) == 1 {
		spin(time.Duration(rand.Int64N(int64(2*delay) + 1)))
		release()
	}
	words := make([]string, len(sockets))
	for i, s := range sockets {
		words[i], err = hear(s)
		ok(err)
		switch {
		case words[i] == "adopted":
			adopted++
		case words[i] != ErrChanged.Error():
			wrong("the child: %s", words[i])
		}
	}
	if len(sockets) > 1 {
		if adopted != 1 {
			wrong("%d have adopted the file", adopted)
		}
		release()
	}
	r.judge(adopted, wrong)
	for i, s := range sockets {
		ok(send(s, "release"))
		word, err := hear(s)
		ok(err)
		if words[i] == "adopted" && word != "released" {
			wrong("the child's release: %s", word)
		}
	}
	r.judge(0, wrong)
	// A broken protocol may leave anything.
	_ = os.Remove(r.Path)
	return adopted
}

// judge looks at the path after the parent's release.
func (r *raceRule) judge(adopted int, wrong func(string, ...any)) {
	text, err := os.ReadFile(r.Path)
	switch {
	case adopted == 0 && r.Denied:
		if err != nil || len(text) != 0 || !unlocked(r.Path) {
			wrong("released, and the file has %q, %v, and is free: %v", text, err, unlocked(r.Path))
		}
	case adopted == 0:
		if !errors.Is(err, os.ErrNotExist) {
			wrong("released, and the file has %q, %v", text, err)
		}
	case err != nil || unlocked(r.Path):
		wrong("adopted, and the file has %q, %v, and is free: %v", text, err, unlocked(r.Path))
	case string(text) == strconv.Itoa(os.Getpid())+"\n":
		wrong("adopted, and the file still names the parent")
	}
	names, err := os.ReadDir(filepath.Dir(r.Path))
	if err != nil || slices.ContainsFunc(names, func(e os.DirEntry) bool { return e.Name() != filepath.Base(r.Path) }) {
		wrong("the directory has %v, %v", names, err)
	}
}

// The ways in which a child can make the file its own.
var raceWays = map[string]raceRule{
	"replaced":                {},
	"replaced, made in place": {Fails: noAnonymous},
	"shared":                  {Fails: map[string]syscall.Errno{"tmpfile": unix.EACCES}},
	"shared, not unlinked":    {Fails: map[string]syscall.Errno{"tmpfile": unix.EACCES}, Denied: true},
}

func TestReleaseRacesAdopt(t *testing.T) {
	for name, r := range raceWays {
		t.Run(name, func(t *testing.T) {
			res := race(t, r, 1, testproc.Rounds(400, 100, 25))
			for _, w := range res.wrong {
				t.Error(w)
			}
			res.checkMet(t)
		})
	}
}

// withoutHandoffLock leaves out that the hand-off lock is taken.
var withoutHandoffLock = testproc.Patch{
	File: "handoff.go",
	Old:  "func take(handoffLock, setlkw int) error {\n",
	New:  "func take(handoffLock, setlkw int) error {\n\treturn nil\n",
}

func TestReleaseRacesAdoptWithoutHandoffLock(t *testing.T) {
	if withoutHandoffLock.Control(t) {
		racesGoWrong(t, 1)
	}
}

// racesGoWrong fails if the races find nothing.
func racesGoWrong(t *testing.T, children int) {
	for name, r := range raceWays {
		t.Run(name, func(t *testing.T) {
			if res := race(t, r, children, 10_000); len(res.wrong) == 0 {
				t.Error("nothing went wrong: this test would find nothing")
			}
		})
	}
}

func TestTwoAdopt(t *testing.T) {
	for name, r := range raceWays {
		t.Run(name, func(t *testing.T) {
			for _, w := range race(t, r, 2, testproc.Rounds(500, 150, 40)).wrong {
				t.Error(w)
			}
		})
	}
}

func TestTwoAdoptWithoutHandoffLock(t *testing.T) {
	if withoutHandoffLock.Control(t) {
		racesGoWrong(t, 2)
	}
}
