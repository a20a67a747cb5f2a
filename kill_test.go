//go:build linux

package pidfile_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/go-pidfile/pidfile"
	"github.com/go-pidfile/pidfile/internal/testproc"
	"golang.org/x/sys/unix"
)

// The kill test. In a PID namespace of its own, holders of PID files end and
// innocent processes take their PIDs at once, while others find and signal the
// holders as fast as they can. No innocent may ever be signalled.
//
// Every process there is cat: it dies of USR1, and so tells in its exit status
// whether it got one. A holder holds by a locked descriptor that it inherits.

func init() {
	helpers["kill test"] = killTestHelper
	helpers["find and signal"] = findAndSignalHelper
}

const (
	killRounds = "PIDFILE_TEST_ROUNDS"
	killNaive  = "PIDFILE_TEST_NAIVE" // the negative control: read, then kill(2)
)

// A toll is what the kill test counted.
type toll struct {
	Rounds     int64
	Reused     int64 // rounds in which an innocent got the holder's PID
	Unlocked   int64 // of these, those of a holder that did not lock
	Holders    int64 // holders that USR1 ended
	Innocents  int64 // innocents that any signal ended
	Signals    int64 // signals sent, as the senders know
	Finds      int64 // all that there was a file for
	NotRunning int64 // of these: an innocent has the PID, or no process
	Unproven   int64
	Races      int64 // found, but ended before the signal was sent
	Errors     []string
}

func TestNobodyInnocentIsSignalled(t *testing.T) {
	testproc.Root(t)
	rounds := testproc.Rounds(10_000, 200, 50)
	got := runKillTest(t, rounds, "")
	if got.Innocents != 0 {
		t.Errorf("%d innocent processes were signalled", got.Innocents)
	}
	// A thread that was started at the same moment may have taken the PID.
	if got.Rounds != int64(rounds) || got.Reused < got.Rounds*9/10 {
		t.Errorf("%d of %d rounds, and in %d of them the PID was reused", got.Rounds, rounds, got.Reused)
	}
	if got.Holders < got.Rounds/10 || got.Unlocked < got.Rounds/50 {
		t.Errorf("only %d holders were signalled, %d were unlocked: this tests little", got.Holders, got.Unlocked)
	}
	if got.NotRunning == 0 {
		t.Error("no hunter looked while an innocent had the PID: this tests nothing")
	}
}

// The same with the usual way, kill $(cat file), must hit innocents.
func TestNobodyInnocentIsSignalledNegativeControl(t *testing.T) {
	testproc.NotShort(t)
	testproc.Root(t)
	if got := runKillTest(t, 50, "1"); got.Innocents == 0 {
		t.Error("no innocent process was signalled: this test would find nothing")
	}
}

func runKillTest(t *testing.T, rounds int, naive string) (got toll) {
	t.Helper()
	dir := t.TempDir()
	h := start(t, "kill test", dir, env(killRounds, strconv.Itoa(rounds)), env(killNaive, naive), func(cmd *exec.Cmd) {
		cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWPID | unix.CLONE_NEWNS}
	})
	if err := json.Unmarshal([]byte(h.said), &got); err != nil {
		t.Fatalf("it said %q", h.said)
	}
	h.end()
	t.Logf("%+v", got)
	for _, err := range got.Errors {
		t.Error(err)
	}
	return got
}

// A killer is PID 1 of the namespace.
type killer struct {
	dir    string
	naive  bool
	rounds atomic.Int64

	forking sync.Mutex // its owner sets which PID is next
	mu      sync.Mutex
	toll    toll
}

// lanes is how many PID files there are, each with its holder.
const lanes = 4

func killTestHelper(dir string) {
	k := &killer{dir: dir, naive: os.Getenv(killNaive) != ""}
	rounds, err := strconv.Atoi(os.Getenv(killRounds))
	k.rounds.Store(int64(rounds))
	if err == nil {
		err = unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, "")
	}
	if err == nil {
		err = unix.Mount("proc", "/proc", "proc", 0, "")
	}
	if err == nil {
		err = k.run()
	}
	if err != nil {
		k.toll.Errors = append(k.toll.Errors, err.Error())
	}
	line, _ := json.Marshal(&k.toll)
	fmt.Printf("%s\n", line)
}

func (k *killer) run() error {
	// Another process does what the goroutines here do.
	other := exec.Command("/proc/self/exe")
	other.Env = append(os.Environ(), helperEnv+"=find and signal")
	other.Stderr = os.Stderr
	in, err := other.StdinPipe()
	if err != nil {
		return err
	}
	out, err := other.StdoutPipe()
	if err != nil {
		return err
	}
	if err := other.Start(); err != nil {
		return err
	}
	var wg sync.WaitGroup
	for lane := range lanes {
		wg.Go(func() {
			if err := k.lane(lane); err != nil {
				k.mu.Lock()
				k.toll.Errors = append(k.toll.Errors, err.Error())
				k.mu.Unlock()
			}
		})
	}
	wg.Wait()
	_ = in.Close()
	var its toll
	err = json.NewDecoder(out).Decode(&its)
	k.toll.add(&its)
	return errors.Join(err, other.Wait())
}

func (to *toll) add(from *toll) {
	to.Signals += from.Signals
	to.Finds += from.Finds
	to.NotRunning += from.NotRunning
	to.Unproven += from.Unproven
	to.Races += from.Races
	to.Errors = append(to.Errors, from.Errors...)
}

func laneFile(dir string, lane int) string { return filepath.Join(dir, fmt.Sprintf("%d.pid", lane)) }

// A hunter finds and signals the holders of files until it is told to stop.
type hunter struct {
	stop  atomic.Bool
	turns atomic.Int64
	done  chan struct{}
	toll  toll
}

func hunt(naive bool, files ...string) *hunter {
	h := &hunter{done: make(chan struct{})}
	go func() {
		defer close(h.done)
		for i := 0; !h.stop.Load(); i++ {
			path := files[i%len(files)]
			if _, err := os.Lstat(path); err != nil {
				time.Sleep(100 * time.Microsecond) // leave the CPU to those who make it
				continue
			}
			h.toll.Finds++
			if naive {
				h.naive(path)
			} else {
				h.find(path)
			}
			h.turns.Add(1)
			runtime.Gosched()
		}
	}()
	return h
}

func (h *hunter) find(path string) {
	p, err := pidfile.Find(path)
	if err == nil {
		defer p.Close()
		if err = p.Signal(unix.SIGUSR1); err == nil {
			h.toll.Signals++
			return
		}
		if errors.Is(err, pidfile.ErrNotRunning) {
			h.toll.Races++
			return
		}
	}
	switch {
	case errors.Is(err, pidfile.ErrNotRunning):
		h.toll.NotRunning++
	case errors.Is(err, pidfile.ErrUnproven):
		h.toll.Unproven++
	default:
		h.toll.Errors = append(h.toll.Errors, err.Error())
		h.stop.Store(true)
	}
}

func (h *hunter) naive(path string) {
	if pid, err := pidfile.Read(path); err == nil && pid > 1 && unix.Kill(pid, unix.SIGUSR1) == nil {
		h.toll.Signals++
	}
}

func findAndSignalHelper(dir string) {
	files := make([]string, lanes)
	for lane := range files {
		files[lane] = laneFile(dir, lane)
	}
	h := hunt(os.Getenv(killNaive) != "", files...)
	_, _ = io.Copy(io.Discard, os.Stdin)
	h.stop.Store(true)
	<-h.done
	all := h.toll
	_ = json.NewEncoder(os.Stdout).Encode(&all)
}

// lane lets one holder after the other end and be succeeded by an innocent.
func (k *killer) lane(lane int) error {
	path := laneFile(k.dir, lane)
	hunter := hunt(k.naive, path)
	var all toll
	defer func() {
		hunter.stop.Store(true)
		<-hunter.done
		all.add(&hunter.toll)
		k.mu.Lock()
		defer k.mu.Unlock()
		k.toll.add(&all)
		k.toll.Rounds += all.Rounds
		k.toll.Reused += all.Reused
		k.toll.Unlocked += all.Unlocked
		k.toll.Holders += all.Holders
		k.toll.Innocents += all.Innocents
	}()
	for round := 0; k.rounds.Add(-1) >= 0; round++ {
		all.Rounds++
		// Every lane has PIDs of its own.
		want := 1000*(lane+1) + round%500
		locks := round%10 != 0
		holder, err := k.holder(path, want, locks)
		if err != nil {
			return err
		}
		if how := k.end(holder, hunter, round); how == unix.SIGUSR1 {
			all.Holders++
		}
		// The PID is free from now on.
		innocent, err := k.fork(holder.cmd.Process.Pid, nil)
		if err != nil {
			return err
		}
		if innocent.cmd.Process.Pid == holder.cmd.Process.Pid {
			all.Reused++
			if !locks {
				all.Unlocked++
			}
		}
		// Those who look now find its PID in the file.
		for turns := hunter.turns.Load(); hunter.turns.Load() < turns+2 && !hunter.stop.Load(); {
			time.Sleep(50 * time.Microsecond)
		}
		_ = innocent.in.Close()
		if err := innocent.cmd.Wait(); err != nil {
			all.Innocents++
			if !k.naive {
				text, _ := os.ReadFile(path)
				all.Errors = append(all.Errors, fmt.Sprintf("round %d, locks %v: innocent PID %d: %v; the file: %q", round, locks, innocent.cmd.Process.Pid, err, text))
			}
		}
		if err := os.Remove(path); err != nil {
			return err
		}
	}
	return nil
}

// end ends the holder and says by which signal: the hunters' or our KILL, at
// any moment.
func (k *killer) end(holder *fork, hunter *hunter, round int) syscall.Signal {
	switch round % 3 {
	case 0: // the hunters have all the time that they need
		giveUp := time.AfterFunc(20*time.Second, func() { _ = holder.cmd.Process.Kill() })
		defer giveUp.Stop()
	case 1: // while they look
		for turns := hunter.turns.Load(); hunter.turns.Load() == turns && !hunter.stop.Load(); {
			time.Sleep(20 * time.Microsecond)
		}
		fallthrough
	case 2: // at once or soon
		for end := time.Now().Add(time.Duration(rand.IntN(300)) * time.Microsecond); time.Now().Before(end); {
		}
		_ = holder.cmd.Process.Kill()
	}
	_ = holder.cmd.Wait() // the status says it
	_ = holder.in.Close()
	status, ok := holder.cmd.ProcessState.Sys().(syscall.WaitStatus)
	if !ok || !status.Signaled() {
		return 0
	}
	return status.Signal()
}

// A fork is a child of the killer.
type fork struct {
	cmd *exec.Cmd
	in  io.Closer
}

// fork starts cat with the PID that is wanted, if it is free.
func (k *killer) fork(pid int, inherits *os.File) (*fork, error) {
	f := &fork{cmd: exec.Command("/bin/cat")}
	in, err := f.cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	f.in = in
	if inherits != nil {
		f.cmd.ExtraFiles = []*os.File{inherits}
	}
	k.forking.Lock()
	defer k.forking.Unlock()
	if err := os.WriteFile("/proc/sys/kernel/ns_last_pid", []byte(strconv.Itoa(pid-1)), 0); err != nil {
		return nil, err
	}
	return f, f.cmd.Start()
}

// holder starts a holder of path, with the file complete when it appears.
func (k *killer) holder(path string, pid int, locks bool) (*fork, error) {
	next := path + ".next"
	file, err := os.OpenFile(next, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o644)
	if err != nil {
		return nil, err
	}
	defer file.Close() // the holder has it, too
	var inherits *os.File
	if locks {
		inherits = file
		if err := unix.Flock(int(file.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
			return nil, err
		}
		if err := unix.FcntlFlock(file.Fd(), unix.F_OFD_SETLK, &unix.Flock_t{Type: unix.F_WRLCK}); err != nil {
			return nil, err
		}
	}
	h, err := k.fork(pid, inherits)
	if err != nil {
		return nil, err
	}
	if _, err := fmt.Fprintln(file, h.cmd.Process.Pid); err != nil {
		return nil, err
	}
	if locks {
		// It has had it for long: what is young is not judged by its age.
		before := time.Now().Add(-time.Minute)
		err = os.Chtimes(next, before, before)
	} else {
		// Age is judged to some 20 ms, which is much less than it takes to have a
		// PID reused that was not asked for.
		for err == nil && !older(file, 50*time.Millisecond) {
			time.Sleep(time.Millisecond)
		}
	}
	if err != nil {
		return nil, err
	}
	return h, os.Rename(next, path)
}

func older(file *os.File, age time.Duration) bool {
	fi, err := file.Stat()
	return err == nil && time.Since(fi.ModTime()) > age
}
