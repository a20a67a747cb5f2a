//go:build linux

package pidfile_test

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-pidfile/pidfile"
	"github.com/go-pidfile/pidfile/internal/testproc"
	"golang.org/x/sys/unix"
)

// What commands are given is theirs: a caller that starts one while the File is
// released or changed starts it with its own descriptors.

func init() { helpers["given"] = givenHelper }

const givenAdopts = "PIDFILE_TEST_GIVEN_ADOPTS"

// givenHelper says what is wrong with the descriptors that it was given, if
// anything is, and adopts the file if it is to.
func givenHelper(path string) {
	if err := given(path); err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	if os.Getenv(givenAdopts) == "" {
		return
	}
	f, err := pidfile.Adopt(path)
	switch {
	case errors.Is(err, pidfile.ErrLost):
	case err == nil:
		fmt.Println("adopted")
		err = f.Release()
		fallthrough
	default:
		if err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
	}
}

// given checks that 3 is a PID file with a PID, and 4 a memfd that names it.
func given(path string) error {
	if v := os.Getenv(inheritedEnv); v != "3:4" {
		return fmt.Errorf("%s=%q", inheritedEnv, v)
	}
	var st unix.Stat_t
	if err := unix.Fstat(3, &st); err != nil {
		return err
	}
	link, _ := os.Readlink("/proc/self/fd/4")
	text := make([]byte, 4096)
	n, err := unix.Pread(4, text, 0)
	if err != nil {
		return fmt.Errorf("4 is %s: %w", link, err)
	}
	want := fmt.Sprintf(" pidfile %d %d ", st.Dev, st.Ino)
	if record := string(text[:n]); !strings.HasPrefix(link, "/memfd:") || !strings.Contains(record, want) || !strings.HasSuffix(record, " "+path) {
		lock, _ := os.Readlink("/proc/self/fd/3")
		return fmt.Errorf("3 is %s, 4 is %s and says %.200q", lock, link, record)
	}
	n, err = unix.Pread(3, text, 0)
	if pid := bytes.TrimRight(text[:n], "\n"); err != nil || len(pid) != n-1 || len(bytes.Trim(pid, "0123456789")) > 0 {
		return fmt.Errorf("3 says %.200q, %v", text[:n], err)
	}
	return nil
}

// givenScript is given as far as a shell can do it, which is started sooner.
const givenScript = `
read -r pid </proc/self/fd/3
read -r state word dev ino named path </proc/self/fd/4
case $PIDFILE_INHERITED/$pid/$word in
3:4/*[!0-9]*/* | 3:4//*) ;;
3:4/*/pidfile) [ "$path" = "$1" ] && exit ;;
esac
ls -l /proc/self/fd
echo "$PIDFILE_INHERITED; 3 says $pid, 4 says $state $word $dev $ino $named $path"
exit 1`

// givenCommand is a command that looks at what it is given.
func givenCommand(path string, adopts bool) *exec.Cmd {
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), helperEnv+"=given", helperPath+"="+path, "GORACE=atexit_sleep_ms=0")
	if adopts {
		cmd.Env = append(cmd.Env, givenAdopts+"=1")
	}
	return cmd
}

func TestHandOffBesideAll(t *testing.T) {
	rounds := testproc.Rounds(20_000, 200, 15)
	path := tempPath(t)
	var file atomic.Pointer[pidfile.File]
	file.Store(acquire(t, path))
	var started, adopted, setPID, restored, released atomic.Int64

	var calm sync.RWMutex // locked: an adoption gets its chance
	over := make(chan struct{})
	var beside sync.WaitGroup
	loop := func(f func()) {
		beside.Go(func() {
			for {
				select {
				case <-over:
					return
				default:
					f()
					time.Sleep(rand.N(3 * time.Millisecond))
				}
			}
		})
	}
	change := func(f func()) {
		loop(func() {
			calm.RLock()
			defer calm.RUnlock()
			f()
		})
	}
	count := func(what string, n *atomic.Int64, err error) {
		switch {
		case err == nil:
			n.Add(1)
		case !errors.Is(err, fs.ErrClosed) && !errors.Is(err, pidfile.ErrLost):
			t.Errorf("%s: %v", what, err)
		}
	}
	change(func() { count("SetPID", &setPID, file.Load().SetPID(os.Getpid())) })
	change(func() {
		_ = os.Remove(path) // or it is not there
		count("Restore", &restored, file.Load().Restore())
	})
	change(func() {
		count("Release", &released, file.Load().Release())
		for { // until the child has released it that has adopted it
			f, err := pidfile.Acquire(path)
			if err == nil {
				file.Store(f)
				break
			}
			if !errors.Is(err, pidfile.ErrAlreadyRunning) {
				t.Errorf("Acquire: %v", err)
				break
			}
		}
	})
	loop(runtime.GC)
	decoy := filepath.Join(t.TempDir(), "decoy")
	write(t, decoy, "a secret of the parent's\n")
	loop(func() { // takes every number that becomes free
		var files []*os.File
		for range 8 {
			f, err := os.Open(decoy)
			if err != nil {
				t.Error(err)
				return
			}
			files = append(files, f)
		}
		for _, f := range files {
			f.Close()
		}
	})

	enough := func() bool {
		return started.Load() >= int64(rounds) && min(setPID.Load(), restored.Load(), released.Load()) >= 20 && adopted.Load() > 0
	}
	end := time.Now().Add(2 * time.Minute)
	if rounds > 1000 {
		end = end.Add(20 * time.Minute)
	}
	var starters sync.WaitGroup
	for range 3 {
		starters.Go(func() {
			one := func() {
				cmd := exec.Command("sh", "-c", givenScript, "sh", path)
				if rand.IntN(40) == 0 {
					cmd = givenCommand(path, true)
					if rand.IntN(2) == 0 {
						calm.Lock()
						defer calm.Unlock()
					}
				}
				var out bytes.Buffer
				cmd.Stdout, cmd.Stderr = &out, &out
				err := file.Load().HandOff(cmd)
				if errors.Is(err, fs.ErrClosed) {
					return
				}
				if err == nil {
					err = cmd.Run()
				}
				if err != nil {
					t.Errorf("%v: %s", err, &out)
				}
				started.Add(1)
				if out.String() == "adopted\n" {
					adopted.Add(1)
				}
			}
			for !enough() && !t.Failed() && time.Now().Before(end) {
				one()
			}
		})
	}
	starters.Wait()
	close(over)
	beside.Wait()
	if err := file.Load().Release(); err != nil {
		t.Error(err)
	}
	t.Logf("%d commands, adopted by %d; SetPID %d, Restore %d, Release %d", started.Load(), adopted.Load(), setPID.Load(), restored.Load(), released.Load())
	if !enough() && !t.Failed() {
		t.Error("in all that time: too few")
	}
}

// A command can be started whatever was done to the File after HandOff.
func TestStartAfterTheFileIsGone(t *testing.T) {
	for name, change := range map[string]func(f *pidfile.File) error{
		"nothing": func(f *pidfile.File) error { return nil },
		"SetPID":  func(f *pidfile.File) error { return f.SetPID(1) },
		"Restore": func(f *pidfile.File) error {
			if err := os.Remove(f.Path()); err != nil {
				return err
			}
			return f.Restore()
		},
		"Release": func(f *pidfile.File) error { return f.Release() },
		"another command's files closed": func(f *pidfile.File) error {
			var other exec.Cmd
			return errors.Join(f.HandOff(&other), other.ExtraFiles[0].Close(), other.ExtraFiles[1].Close())
		},
	} {
		t.Run(name, func(t *testing.T) {
			path := tempPath(t)
			f := acquire(t, path)
			cmd := givenCommand(path, true)
			must(t, f.HandOff(cmd))
			must(t, change(f))
			out, err := cmd.Output()
			must(t, err)
			want := "" // lost
			if name == "nothing" || name == "another command's files closed" {
				want = "adopted\n"
			}
			if string(out) != want {
				t.Errorf("%q, want %q", out, want)
			}
			if err := f.Release(); name != "Release" {
				must(t, err)
			}
			absent(t, path)
		})
	}
}

// A daemon that tries its upgrade again and again does not run out of descriptors.
func TestHandOffIsCollected(t *testing.T) {
	collectFiles() // of other tests
	f := acquire(t, tempPath(t))
	before := descriptors(t)
	most := 0
	for round := range 100 {
		cmd := exec.Command("true")
		must(t, f.HandOff(cmd))
		must(t, cmd.Run())
		most = max(most, descriptors(t))
		if round%10 == 9 {
			runtime.GC()
			// Two are the File's, two the last command's.
			testproc.Eventually(t, "the commands' descriptors are closed", func() bool { return descriptors(t) <= before+4 })
		}
	}
	t.Logf("%d descriptors, at most %d", before, most)
	must(t, f.Release())
	collectFiles()
	if after := descriptors(t); after >= before {
		t.Errorf("%d descriptors while it was held, %d after", before, after)
	}
}

// collectedLeakless is leakless for what is left to the garbage collector.
func collectedLeakless(t *testing.T, f func()) {
	t.Helper()
	collectFiles()
	leakless(t, func() { f(); collectFiles() })
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
