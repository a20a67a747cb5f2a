//go:build linux

package lock

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"
	"unsafe"

	"github.com/go-pidfile/pidfile/internal/testproc"
	"golang.org/x/sys/unix"
)

// The storm: many processes take one PID file again and again while their
// parent kills holders. Whether two ever held it at once is judged afterwards,
// from what they logged, never from a second lock.

// counters are one worker's, in memory shared with its parent: they outlive a
// SIGKILL.
type counters struct {
	acquired, refused, canceled, recorded atomic.Uint64
	_                                     [4]uint64
}

// mapCounters maps n counters at path.
func mapCounters(path string, n int) ([]counters, error) {
	size := n * int(unsafe.Sizeof(counters{}))
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if st, err := f.Stat(); err != nil || st.Size() < int64(size) {
		if err := f.Truncate(int64(size)); err != nil {
			return nil, err
		}
	}
	mem, err := unix.Mmap(int(f.Fd()), 0, size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return nil, err
	}
	return unsafe.Slice((*counters)(unsafe.Pointer(&mem[0])), n), nil
}

// storm plays a worker.
func (r *role) storm() {
	r.openLog()
	page, err := mapCounters(r.Page, r.Slot+1)
	if err != nil {
		r.die(err)
	}
	r.count = &page[r.Slot]
	ctx := untilEOF()
	if r.Cancel == 0 {
		for ctx.Err() == nil {
			r.turn(ctx, 0)
		}
		return
	}
	var wg sync.WaitGroup
	for who := range r.Cancel {
		wg.Go(func() { r.cancel(ctx, uint32(who)) })
	}
	wg.Wait()
}

// cancel waits and cancels at random, and does not in the end.
func (r *role) cancel(ctx context.Context, who uint32) {
	for ctx.Err() == nil {
		short, cancel := context.WithTimeout(ctx, time.Duration(rand.IntN(3000))*time.Microsecond)
		if !r.turn(short, who) {
			r.count.canceled.Add(1)
		}
		cancel()
	}
	if !r.turn(context.Background(), who) {
		r.die(fmt.Errorf("the last wait failed"))
	}
}

// turn takes the file once, if it can.
func (r *role) turn(ctx context.Context, who uint32) bool {
	var h Hold
	h.Prepare(r.Path)
	if !r.take(ctx, &h) {
		return false
	}
	r.logEvent(enter, who)
	r.count.acquired.Add(1)
	linger()
	if r.Record && rand.IntN(4) == 0 {
		if err := h.Record(os.Getpid()); err != nil {
			r.die(fmt.Errorf("record: %w", err))
		}
		r.count.recorded.Add(1)
	}
	r.logEvent(exit, who)
	if err := h.Release(); err != nil && !r.Broken {
		r.die(fmt.Errorf("release: %w", err))
	}
	return true
}

func (r *role) take(ctx context.Context, h *Hold) bool {
	o := &Options{PID: os.Getpid(), Mode: 0o644}
	if r.Wait {
		err := h.Wait(ctx, o)
		if err != nil && err != ctx.Err() && !r.Broken {
			r.die(fmt.Errorf("wait: %w", err))
		}
		return err == nil
	}
	refusal, err := h.Acquire(o)
	if err != nil && !r.Broken {
		r.die(fmt.Errorf("acquire: %w", err))
	}
	if refusal.Held {
		r.count.refused.Add(1)
		// The losers must leave the processors to those who start.
		time.Sleep(time.Duration(rand.IntN(1000)) * time.Microsecond)
	}
	return err == nil && !refusal.Held
}

// linger passes up to a millisecond, busy or asleep.
func linger() {
	d := time.Duration(rand.IntN(1000)) * time.Microsecond
	if rand.IntN(2) == 0 {
		time.Sleep(d)
		return
	}
	for start := time.Now(); time.Since(start) < d; {
	}
}

// A reading is what the process that never stops reading saw.
type reading struct {
	Reads, Absent, Bad int
	Example            string // of a text that is not whole
}

// read plays the reader.
func (r *role) read() {
	ctx := untilEOF()
	var saw reading
	for ctx.Err() == nil {
		text, err := readOnce(r.Path)
		switch {
		case err == unix.ENOENT:
			saw.Absent++
		case err != nil:
			r.die(err)
		case whole(text):
			saw.Reads++
		default:
			if saw.Bad++; saw.Bad == 1 {
				saw.Example = string(text)
			}
		}
	}
	if err := json.NewEncoder(os.Stdout).Encode(saw); err != nil {
		r.die(err)
	}
}

func readOnce(path string) ([]byte, error) {
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	defer closeFD(fd)
	var buf [64]byte
	n, err := unix.Read(fd, buf[:])
	return buf[:max(n, 0)], err
}

// whole reports whether text is digits and a newline.
func whole(text []byte) bool {
	if len(text) < 2 || text[len(text)-1] != '\n' {
		return false
	}
	for _, c := range text[:len(text)-1] {
		if c < '0' || c > '9' {
			return false
		}
	}
	return true
}

// A storm is the parent's side.
type storm struct {
	role        // of the workers
	processes   int
	strangers   int  // loops of flock(1)
	killAny     bool // kill any, not the holder
	wantHeld    int  // go on until so many seemed to be holders when killed
	wantEvents  int  // and until so many refusals, cancellations and kills happened
	atLeast     time.Duration
	atMost      time.Duration
	noReader    bool
	noKills     bool
	t           testing.TB
	dir, logs   string
	page        []counters
	stopR       *os.File
	stopW       *os.File
	workers     []*worker
	nextInc     uint64
	killed      map[uint64]int64
	kills, held int
	stranger    strangerCount
}

type worker struct {
	cmd *exec.Cmd
	inc uint64
}

// A stormResult is what came of a storm.
type stormResult struct {
	spans, cut, overlaps int
	example              string
	acquired, refused    uint64
	canceled, recorded   uint64
	saw                  reading
}

// stormTime is how long a storm lasts at least, however much has happened.
func stormTime() time.Duration {
	return time.Duration(testproc.Rounds(10_000, 250, 0)) * time.Millisecond
}

// run makes the storm in a directory below place and returns what came of it.
func (s *storm) run(t testing.TB, place string) stormResult {
	t.Helper()
	checkLeaks(t)
	s.t, s.dir, s.logs = t, tempIn(t, place), tempIn(t, "/dev/shm")
	s.Do, s.Path, s.Page = "storm", filepath.Join(s.dir, "a.pid"), filepath.Join(s.logs, "page")
	s.killed = map[uint64]int64{}
	if s.atMost == 0 {
		s.atMost = s.atLeast + 30*time.Second
	}
	var err error
	if s.page, err = mapCounters(s.Page, s.processes); err != nil {
		t.Fatal(err)
	}
	if s.stopR, s.stopW, err = os.Pipe(); err != nil {
		t.Fatal(err)
	}
	defer s.end()
	for slot := range s.processes {
		s.workers = append(s.workers, s.start(slot))
	}
	reader, out := s.startReader()
	stopStrangers := s.startStrangers()
	s.rage()
	stopStrangers()
	s.stopW.Close()
	s.awaitWorkers()
	o := s.judge()
	if reader != nil {
		if err := reader.Wait(); err != nil {
			t.Errorf("reader: %v", err)
		} else if err := json.Unmarshal(out.Bytes(), &o.saw); err != nil {
			t.Errorf("reader: %v", err)
		}
	}
	return o
}

// end closes what run opened, and so ends what run started.
func (s *storm) end() {
	s.stopW.Close() // again, mostly
	s.stopR.Close()
	if len(s.page) > 0 {
		size := len(s.page) * int(unsafe.Sizeof(s.page[0]))
		_ = unix.Munmap(unsafe.Slice((*byte)(unsafe.Pointer(&s.page[0])), size))
		s.page = nil
	}
}

func (s *storm) start(slot int) *worker {
	r := s.role
	s.nextInc++
	r.Slot, r.Inc = slot, s.nextInc
	r.Log = filepath.Join(s.logs, strconv.Itoa(slot)+".log")
	if slot < 2 {
		r.Cancel = 0 // these two never cancel
	}
	cmd := r.command(s.t)
	cmd.Stdin = s.stopR
	if err := cmd.Start(); err != nil {
		s.t.Fatal(err)
	}
	return &worker{cmd, r.Inc}
}

func (s *storm) startReader() (*exec.Cmd, *bytes.Buffer) {
	if s.noReader {
		return nil, nil
	}
	r := role{Do: "read", Path: s.Path}
	cmd, out := r.command(s.t), new(bytes.Buffer)
	cmd.Stdin, cmd.Stdout = s.stopR, out
	if err := cmd.Start(); err != nil {
		s.t.Fatal(err)
	}
	return cmd, out
}

// rage kills every 20 ms until enough has happened.
func (s *storm) rage() {
	start := time.Now()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for range tick.C {
		if s.enough(time.Since(start)) {
			return
		}
		if !s.noKills {
			s.kill()
		}
	}
}

func (s *storm) enough(d time.Duration) bool {
	if d > s.atMost {
		s.t.Errorf("after %v only %d kills of holders and %d events, want %d and %d", d, s.held, s.events(), s.wantHeld, s.wantEvents)
		return true
	}
	return d >= s.atLeast && s.held >= s.wantHeld && s.events() >= s.wantEvents && s.stranger.valid() >= s.strangers*5 &&
		s.idle() == nil // on a loaded machine some may be killed before they have begun
}

func (s *storm) events() int {
	n := s.kills
	for i := range s.page {
		n += int(s.page[i].refused.Load() + s.page[i].canceled.Load())
	}
	return n
}

// kill kills the worker that holds the file, or any, and starts another one.
func (s *storm) kill() {
	slot := rand.IntN(len(s.workers))
	if !s.killAny {
		if slot = s.findHolder(); slot < 0 {
			return // to kill those who only start would keep all from starting
		}
		s.held++
	}
	w := s.workers[slot]
	s.killed[w.inc] = testproc.Monotonic()
	if err := w.cmd.Process.Kill(); err != nil {
		s.t.Errorf("worker %d had ended: %v", slot, err)
	}
	s.kills++
	if err := w.cmd.Wait(); !wasKilled(err) {
		s.t.Errorf("worker %d: %v", slot, err)
	}
	s.workers[slot] = s.start(slot)
}

// findHolder waits up to 5 ms for the file to name a worker; -1 if it does not.
func (s *storm) findHolder() int {
	for start := time.Now(); time.Since(start) < 5*time.Millisecond; {
		text, err := readOnce(s.Path)
		if err != nil {
			continue
		}
		pid, _ := ParsePID(text)
		for i, w := range s.workers {
			if w.cmd.Process.Pid == pid {
				return i
			}
		}
	}
	return -1
}

// awaitWorkers waits until all have ended of themselves: none is stuck.
func (s *storm) awaitWorkers() {
	timer := time.AfterFunc(30*time.Second, func() {
		for slot, w := range s.workers {
			if w.cmd.Process.Kill() == nil {
				s.t.Errorf("worker %d (PID %d) is stuck", slot, w.cmd.Process.Pid)
			}
		}
	})
	defer timer.Stop()
	for slot, w := range s.workers {
		if err := w.cmd.Wait(); err != nil {
			s.t.Errorf("worker %d: %v", slot, err)
		}
	}
}

func (s *storm) judge() (o stormResult) {
	all, cut := spans(readEvents(s.t, s.logs), s.killed)
	o.spans, o.cut = len(all), cut
	o.overlaps, o.example = testproc.Overlaps(all)
	for i := range s.page {
		c := &s.page[i]
		o.acquired += c.acquired.Load()
		o.refused += c.refused.Load()
		o.canceled += c.canceled.Load()
		o.recorded += c.recorded.Load()
	}
	s.t.Logf("%d acquisitions, %d refusals, %d cancellations, %d records, %d SIGKILLs (%d while holding): %d holds logged, %d overlaps",
		o.acquired, o.refused, o.canceled, o.recorded, s.kills, o.cut, o.spans, o.overlaps)
	return o
}

// check asserts what must be true after every storm.
func (s *storm) check(o stormResult) {
	t := s.t
	t.Helper()
	if o.overlaps != 0 {
		t.Errorf("%d overlaps in %d holds, such as %s", o.overlaps, o.spans, o.example)
	}
	if s.idle() != nil {
		t.Errorf("workers %v never got the file", s.idle())
	}
	if !s.noReader {
		t.Logf("reader: %d texts, %d times no file, %d bad", o.saw.Reads, o.saw.Absent, o.saw.Bad)
		if o.saw.Bad != 0 || o.saw.Reads == 0 {
			t.Errorf("the reader saw %d texts that are not whole, such as %q, of %d", o.saw.Bad, o.saw.Example, o.saw.Reads)
		}
	}
	s.checkDirectory("a.pid", ".a.pid.next") // the second: killed in Record
	start := time.Now()
	h := mustHold(t, s.Path)
	if d := time.Since(start); d > time.Second {
		t.Errorf("the next start took %v", d)
	}
	s.checkDirectory("a.pid")
	mustRelease(t, h)
	s.checkDirectory()
}

// idle lists the workers that never got the file. It reads the logs because in
// the end the counters are unmapped.
func (s *storm) idle() (slots []int) {
	for slot := range s.processes {
		st, err := os.Stat(filepath.Join(s.logs, strconv.Itoa(slot)+".log"))
		if err != nil || st.Size() == 0 {
			slots = append(slots, slot)
		}
	}
	return slots
}

func (s *storm) checkDirectory(allowed ...string) {
	s.t.Helper()
	entries, err := os.ReadDir(s.dir)
	if err != nil {
		s.t.Fatal(err)
	}
	for _, e := range entries {
		if !slices.Contains(allowed, e.Name()) {
			s.t.Errorf("left behind: %s", e.Name())
		}
	}
}

func TestStorm(t *testing.T) {
	for kind, place := range places(t) {
		for _, wait := range []bool{false, true} {
			name := kind + map[bool]string{false: "/acquire", true: "/wait"}[wait]
			t.Run(name, func(t *testing.T) {
				s := &storm{role: role{Wait: wait}, processes: testproc.Rounds(20, 20, 8), atLeast: stormTime(), wantHeld: testproc.Rounds(50, 25, 5), wantEvents: testproc.Rounds(200, 60, 15)}
				s.check(s.run(t, place))
			})
		}
	}
}

// Here the holders also rename a second file over the first now and then.
func TestStormRecord(t *testing.T) {
	for _, wait := range []bool{false, true} {
		t.Run(map[bool]string{false: "acquire", true: "wait"}[wait], func(t *testing.T) {
			s := &storm{role: role{Wait: wait, Record: true}, processes: testproc.Rounds(10, 10, 5), atLeast: stormTime(), wantHeld: testproc.Rounds(50, 25, 5), wantEvents: testproc.Rounds(100, 40, 10)}
			s.check(s.run(t, "/dev/shm"))
		})
	}
}

// withoutCompare leaves out the comparison of inodes after the lock.
var withoutCompare = testproc.Patch{
	File: "acquire.go",
	Old:  "err == unix.ENOENT || err == nil && there.id != id:",
	New:  "err == unix.ENOENT || err == nil && there.id != id && false:",
}

// The negative control: without the comparison the same storm must show overlaps, else
// it proves nothing.
func TestStormWithoutCompare(t *testing.T) {
	if !withoutCompare.Control(t) {
		return
	}
	for _, wait := range []bool{false, true} {
		t.Run(map[bool]string{false: "acquire", true: "wait"}[wait], func(t *testing.T) {
			for start := time.Now(); ; {
				s := &storm{role: role{Wait: wait, Broken: true}, processes: 20, atLeast: 200 * time.Millisecond, noReader: true, noKills: true}
				if s.run(t, "/dev/shm").overlaps > 0 {
					return
				}
				if time.Since(start) > 20*time.Second {
					t.Fatal("no overlap was seen though the protocol is broken")
				}
			}
		})
	}
}
