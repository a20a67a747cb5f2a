//go:build linux

package pidfile_test

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-pidfile/pidfile"
	"github.com/go-pidfile/pidfile/internal/testproc"
	"golang.org/x/sys/unix"
)

func init() {
	helpers["inspect loop"] = loopHelper(func(path string) { _, _ = pidfile.Inspect(path) })
	helpers["inspect"] = func(path string) {
		s, _ := pidfile.Inspect(path)
		_ = json.NewEncoder(os.Stdout).Encode(s)
	}
	helpers["acquire loop"] = loopHelper(func(path string) {
		if f, err := pidfile.Acquire(path); err == nil {
			_ = f.Release()
		}
	})
	helpers["churn"] = churnHelper
	helpers["headless"] = headlessHelper
	helpers["shared lock loop"] = loopHelper(sharedLook)
}

// loopHelper does one thing to a path again and again, and then says how often.
func loopHelper(f func(path string)) func(path string) {
	return func(path string) {
		var stop atomic.Bool
		go func() {
			_ = bufio.NewScanner(os.Stdin).Scan()
			stop.Store(true)
		}()
		fmt.Println("loops")
		n := 0
		for ; !stop.Load(); n++ {
			f(path)
			runtime.Gosched()
		}
		fmt.Println(n)
	}
}

// sharedLook asks whether a file is locked with a shared lock, as many do.
func sharedLook(path string) {
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return
	}
	if unix.Flock(fd, unix.LOCK_SH|unix.LOCK_NB) == nil {
		_ = unix.Flock(fd, unix.LOCK_UN)
	}
	_ = unix.Close(fd)
}

// looked runs f while two processes do mode to path, and returns how often they
// did.
func looked(t *testing.T, mode, path string, f func()) (n int) {
	t.Helper()
	a, b := start(t, mode, path).says("loops"), start(t, mode, path).says("loops")
	f()
	return number(t, a.tell("stop")) + number(t, b.tell("stop"))
}

// A starter starts once on path, and ends. No other starts there, so each
// start must succeed.
type starter struct {
	name   string
	starts int
	start  func(path string) error
}

func starters() []starter {
	return []starter{
		{"Acquire", testproc.Rounds(2_000, 400, 50), func(path string) error {
			f, err := pidfile.Acquire(path)
			if err == nil {
				err = f.Release()
			}
			return err
		}},
		{"Acquire of a stale file", testproc.Rounds(1_000, 200, 25), func(path string) error {
			if err := os.WriteFile(path, []byte("4194304\n"), 0o644); err != nil {
				return err
			}
			f, err := pidfile.Acquire(path)
			if err == nil {
				err = f.Release()
			}
			return err
		}},
		{"flock(1)", testproc.Rounds(200, 50, 10), func(path string) error { return exec.Command("flock", "-n", path, "true").Run() }},
		{"open, flock and unlock", testproc.Rounds(10_000, 2_000, 300), func(path string) error { return openAndFlock(path, true) }},
		// A look into /proc/PID/fd has another reference to the open file for
		// microseconds, and close(2) unlocks with the last one only: of 200,000
		// starts some 50 failed as long as each look was such a one.
		{"open, flock and close", testproc.Rounds(50_000, 10_000, 1_000), func(path string) error { return openAndFlock(path, false) }},
	}
}

// openAndFlock is how trbs/pid and many others start.
func openAndFlock(path string, unlock bool) error {
	fd, err := unix.Open(path, unix.O_RDWR|unix.O_CREAT|unix.O_CLOEXEC, 0o644)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	if err := unix.Flock(fd, unix.LOCK_EX|unix.LOCK_NB); err != nil {
		return err
	}
	_, err = unix.Pwrite(fd, fmt.Appendln(nil, os.Getpid()), 0)
	if unlock {
		_ = unix.Flock(fd, unix.LOCK_UN)
	}
	return err
}

// A look makes no start fail. See also TestInspectLooksAt.
func TestInspectDisturbsNoStart(t *testing.T) {
	for _, s := range starters() {
		t.Run(s.name, func(t *testing.T) {
			if s.name == "flock(1)" {
				testproc.Tool(t, "flock")
			}
			path, failed := tempPath(t), 0
			n := looked(t, "inspect loop", path, func() {
				for range s.starts {
					if err := s.start(path); err != nil {
						if failed++; failed < 5 {
							t.Log(err)
						}
					}
				}
			})
			t.Logf("%d of %d starts failed beside %d looks", failed, s.starts, n)
			if failed > 0 {
				t.Error("starts failed")
			}
			if n < 20 {
				t.Errorf("only %d looks", n)
			}
		})
	}
}

// A shared lock, which is how it is mostly done, does make some fail.
func TestInspectDisturbsNoStartNegativeControl(t *testing.T) {
	testproc.NotShort(t)
	path := tempPath(t)
	starts, failed := 0, 0
	n := looked(t, "shared lock loop", path, func() {
		for end := time.Now().Add(30 * time.Second); failed == 0 && time.Now().Before(end); starts++ {
			if openAndFlock(path, true) == unix.EWOULDBLOCK {
				failed++
			}
		}
	})
	t.Logf("%d of %d starts failed beside %d looks", failed, starts, n)
	if failed == 0 {
		t.Error("no start failed: this test would find nothing")
	}
}

// traced inspects path in another process, under strace(1) with these arguments,
// and returns the trace.
func traced(t *testing.T, path string, args ...string) (s pidfile.Status, trace []byte) {
	t.Helper()
	strace := testproc.Strace(t)
	to := filepath.Join(t.TempDir(), "trace")
	h := start(t, "inspect", path, func(cmd *exec.Cmd) {
		cmd.Args = slices.Concat([]string{"strace", "-f", "-qq", "-o", to}, args, []string{cmd.Path})
		cmd.Path = strace
	})
	must(t, json.Unmarshal([]byte(h.said), &s))
	h.end()
	trace, err := os.ReadFile(to)
	must(t, err)
	return s, trace
}

// looksAt inspects path in another process, and returns whose descriptors that
// one looks at, as often as it does.
func looksAt(t *testing.T, path string) (s pidfile.Status, pids []int) {
	t.Helper()
	s, text := traced(t, path, "-e", "trace=open,openat")
	if !bytes.Contains(text, []byte(`"/proc/locks"`)) {
		t.Fatalf("no /proc/locks in the trace: this tests nothing\n%s", text)
	}
	for _, m := range regexp.MustCompile(`"/proc/(\d+)/fd"`).FindAllSubmatch(text, -1) {
		pids = append(pids, number(t, string(m[1])))
	}
	return s, pids
}

// To look at a process's descriptors can disturb it, and to look at those of
// all processes takes long: so they are looked at if nothing else tells who has the lock.
func TestInspectLooksAt(t *testing.T) {
	// It looks again where locks of others come and go too fast: the best of several counts.
	looks := func(t *testing.T, path string, right func(s pidfile.Status, pids []int) bool) {
		t.Helper()
		var s pidfile.Status
		var pids []int
		for range 10 {
			if s, pids = looksAt(t, path); right(s, pids) {
				return
			}
		}
		t.Errorf("%+v, looked at the descriptors of %v", s, pids)
	}
	ours := func(s pidfile.Status) bool { return s.Process != nil && s.Process.PID == os.Getpid() }
	t.Run("none: it took the lock, and then wrote its PID", func(t *testing.T) {
		path := tempPath(t)
		f := acquire(t, path)
		looks(t, path, func(s pidfile.Status, pids []int) bool { return ours(s) && len(pids) == 0 })
		taken(t, f, nil)
	})
	t.Run("its own: it took the lock, but the file is older", func(t *testing.T) {
		path := tempPath(t)
		f := acquire(t, path)
		aged(t, path)
		looks(t, path, func(s pidfile.Status, pids []int) bool { return ours(s) && len(pids) == 1 })
		taken(t, f, nil)
	})
	t.Run("the locker's: the file says nothing", func(t *testing.T) {
		path := tempPath(t)
		h := flocker(t, path)
		looks(t, path, func(_ pidfile.Status, pids []int) bool { return slices.Equal(pids, []int{h.pid()}) })
	})
	t.Run("all processes', once: the locker has ended", func(t *testing.T) {
		path := tempPath(t)
		flocker(t, filepath.Join(t.TempDir(), "b.pid")) // there is a flock(1)
		h := startCmd(t, exec.Command("sh", "-c", `exec 9>"$1"; flock 9; echo ready; exec cat`, "sh", path)).says("ready")
		looks(t, path, func(s pidfile.Status, pids []int) bool {
			first := slices.Index(pids, 1)
			return slices.ContainsFunc(s.Evidence, func(e string) bool { return strings.Contains(e, fmt.Sprintf("held by PID %d (cat)", h.pid())) }) &&
				first >= 0 && !slices.Contains(pids[first+1:], 1)
		})
	})
}

// Inspect opens nothing for writing, changes nothing and takes no lock.
func TestInspectOnlyReads(t *testing.T) {
	c := cat(t)
	for name, text := range map[string]string{
		"dead": "4194304\n", "malformed": "-1\n", "unlocked": fmt.Sprintln(c.pid()), "held": "",
	} {
		t.Run(name, func(t *testing.T) {
			path := tempPath(t)
			write(t, path, text)
			if name == "held" {
				must(t, os.Remove(path))
				start(t, "acquire", path).says("ok")
			}
			in, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
			must(t, err)
			defer unix.Close(in)
			_, err = unix.InotifyAddWatch(in, path, unix.IN_ALL_EVENTS)
			must(t, err)
			_, err = unix.InotifyAddWatch(in, filepath.Dir(path), unix.IN_ALL_EVENTS)
			must(t, err)
			before := tree(t, filepath.Dir(path))
			for range 10 {
				_, err = pidfile.Inspect(path)
				must(t, err)
				_, _ = pidfile.Read(path)
				if p, err := pidfile.Find(path); err == nil {
					must(t, p.Close())
				}
				for _, err := range pidfile.List(filepath.Dir(path)) {
					must(t, err)
				}
			}
			if after := tree(t, filepath.Dir(path)); after != before {
				t.Errorf("before:\n%safter:\n%s", before, after)
			}
			events := happened(t, in)
			if events&unix.IN_CLOSE_NOWRITE == 0 {
				t.Errorf("events %#x: it was not even read", events)
			}
			if events&^(unix.IN_OPEN|unix.IN_ACCESS|unix.IN_CLOSE_NOWRITE|unix.IN_ISDIR) != 0 {
				t.Errorf("events %#x: something else than reading", events)
			}
		})
	}
}

// happened is all events that wait on an inotify descriptor.
func happened(t *testing.T, in int) (mask uint32) {
	t.Helper()
	var buf [64 << 10]byte
	for {
		n, err := unix.Read(in, buf[:])
		if err == unix.EAGAIN {
			return mask
		}
		must(t, err)
		for at := 0; at < n; {
			e := decodeEvent(buf[at:])
			mask |= e.mask
			at += unix.SizeofInotifyEvent + int(e.len)
		}
	}
}

type event struct{ mask, len uint32 }

// decodeEvent reads what inotify(7) says: wd, mask, cookie, len.
func decodeEvent(b []byte) event {
	return event{binary.NativeEndian.Uint32(b[4:]), binary.NativeEndian.Uint32(b[12:])}
}

// What cannot be seen is not judged as if it were not there.
func TestInspectWithoutTable(t *testing.T) {
	testproc.NotShort(t)
	path := tempPath(t)
	write(t, path, "4194304\n")
	look := func(want pidfile.State) {
		t.Helper()
		s, trace := traced(t, path, "-P", "/proc/locks", "-e", "inject=openat:error=EMFILE")
		if !bytes.Contains(trace, []byte("INJECTED")) {
			t.Fatalf("nothing was injected:\n%s", trace)
		}
		if s.State != want || want == unknown && !strings.Contains(strings.Join(s.Evidence, "; "), "/proc/locks: too many open files") {
			t.Errorf("%+v, want %v", s, want)
		}
	}
	look(unknown)
	h := flocker(t, path)
	look(running) // its descriptor was seen
	h.end()
	f := acquire(t, path)
	look(running)
	taken(t, f, nil)
}

const churnEnv = "PIDFILE_TEST_CHURN" // the number of files, of which half is locked

// churnHelper takes and drops hundreds of locks on files beside path.
func churnHelper(path string) {
	n, err := strconv.Atoi(os.Getenv(churnEnv))
	if err != nil {
		n = 400
	}
	var fds []int
	for i := range n {
		fd, err := unix.Open(fmt.Sprintf("%s.%d", path, i), unix.O_RDWR|unix.O_CREAT|unix.O_CLOEXEC, 0o600)
		if err != nil {
			fmt.Println(err)
			return
		}
		fds = append(fds, fd)
	}
	loopHelper(func(string) {
		fd := fds[rand.IntN(len(fds))]
		how := unix.LOCK_EX
		if rand.IntN(2) == 0 {
			how = unix.LOCK_UN
		}
		_ = unix.Flock(fd, how)
	})(path)
}

// The kernel's table of locks is read in parts, and changes in between: a lock
// that stays is seen nonetheless.
func TestInspectSeesLockAmongMany(t *testing.T) {
	path := tempPath(t)
	fd, err := unix.Open(path, unix.O_RDWR|unix.O_CREAT|unix.O_CLOEXEC, 0o600)
	must(t, err)
	defer unix.Close(fd)
	write(t, path, fmt.Sprintln(os.Getpid()))
	looks := testproc.Rounds(300, 30, 10)
	for i := range testproc.Rounds(10, 5, 2) { // it goes to another place in the table
		h := start(t, "churn", fmt.Sprintf("%s.%d", path, i%2))
		h.says("loops")
		must(t, unix.Flock(fd, unix.LOCK_EX|unix.LOCK_NB))
		missed := 0
		for range looks {
			s, err := pidfile.Inspect(path)
			must(t, err)
			if !s.Locked {
				missed++
			}
		}
		must(t, unix.Flock(fd, unix.LOCK_UN))
		h.end()
		if missed > 0 {
			t.Fatalf("round %d: the lock was missed in %d of %d looks", i, missed, looks)
		}
	}
}

// Where only the table tells of a lock, and others come and go faster than it can
// be read, it is not called a stale file for that. The table is about as long as the
// part that the kernel gives at once, which makes it look whole when it is not.
func TestInspectSeesBareLockAmongMany(t *testing.T) {
	testproc.NotShort(t)
	path := tempPath(t)
	fd, err := unix.Open(path, unix.O_RDWR|unix.O_CREAT|unix.O_CLOEXEC, 0o600)
	must(t, err)
	defer unix.Close(fd)
	start(t, "churn", path, env(churnEnv, "120")).says("loops")
	seen := map[pidfile.State]int{}
	for range testproc.Rounds(20, 4, 1) { // it goes to another place in the table
		must(t, unix.Flock(fd, unix.LOCK_EX))
		for range 10 {
			s, err := pidfile.Inspect(path)
			must(t, err)
			seen[s.State]++
		}
		must(t, unix.Flock(fd, unix.LOCK_UN))
	}
	t.Logf("%v", seen)
	if seen[pidfile.Stale] > 0 || seen[pidfile.Running] == 0 {
		t.Errorf("seen %v", seen)
	}
}

// A file that is looked at while it comes and goes is absent or its holder's.
func TestInspectBesideStarts(t *testing.T) {
	path := tempPath(t)
	n := looked(t, "acquire loop", path, func() {
		seen := map[pidfile.State]int{}
		enough := testproc.Rounds(300, 50, 10)
		for end := time.Now().Add(20 * time.Second); (seen[pidfile.Running] < enough || seen[pidfile.Absent] < enough) && time.Now().Before(end); {
			s, err := pidfile.Inspect(path)
			must(t, err)
			seen[s.State]++
			if s.State != pidfile.Absent && (s.State != pidfile.Running || !s.Locked || s.Process != nil && s.Process.PID != s.PID) {
				t.Errorf("%+v", s)
			}
		}
		t.Logf("%v", seen)
		if seen[pidfile.Running] < 10 || seen[pidfile.Absent] < 10 {
			t.Errorf("seen %v: this tests little", seen)
		}
	})
	t.Logf("%d starts", n)
}

// headlessHelper takes the file, if any, and ends its first thread, after which
// /proc calls the process a zombie: what pthread_exit(3) in main does.
func headlessHelper(path string) {
	if path != "" {
		f, err := pidfile.Acquire(path)
		if err != nil {
			fmt.Println(err)
			return
		}
		defer runtime.KeepAlive(f)
	}
	for isZombie := false; !isZombie; {
		go func() {
			runtime.LockOSThread()
			if unix.Gettid() == unix.Getpid() {
				_, _, _ = unix.Syscall(unix.SYS_EXIT, 0, 0, 0)
			}
			select {} // the next one gets another thread
		}()
		runtime.Gosched()
		stat, err := os.ReadFile("/proc/self/stat")
		isZombie = err == nil && strings.Contains(string(stat), ") Z ")
	}
	fmt.Println("ok")
	_, _ = io.Copy(io.Discard, os.Stdin)
}
