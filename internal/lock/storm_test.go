//go:build linux

package lock

import (
	"bytes"
	"cmp"
	"context"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
	"unsafe"

	"github.com/go-pidfile/pidfile/internal/testproc"
	"golang.org/x/sys/unix"
)

// The storm: many processes take one PID file again and again while their
// parent kills holders. Whether two ever held it at once is judged afterwards,
// from what they logged, never from a second lock.

// A role is what a copy of the test binary does instead of running the tests.
type role struct {
	Do     string
	Path   string
	Log    string // where enter and exit are noted
	Page   string // the counters shared with the parent
	Slot   int    // ours among the counters
	Inc    uint64 // incarnation: unique for each process of a storm
	Wait   bool   // waits for the file; else it fails at once
	Hasty  int    // this many goroutines wait, and give up at random; 0 is one that does not
	Record bool   // sometimes records its PID anew while it holds the file
	Broken bool   // the protocol is: errors are to be expected
	Rounds int

	log   *os.File
	count *counters
}

const roleEnv = "PIDFILE_LOCK_TEST_ROLE"

func TestMain(m *testing.M) {
	text, ok := os.LookupEnv(roleEnv)
	if !ok {
		os.Exit(testproc.Main(m))
	}
	var r role
	if err := json.Unmarshal([]byte(text), &r); err != nil {
		r.die(err)
	}
	switch r.Do {
	case "storm":
		r.storm()
	case "read":
		r.read()
	case "stranger":
		r.stranger()
	case "leak":
		r.leak()
	case "block":
		_, _ = io.Copy(io.Discard, os.Stdin) // until our parent has enough of us
	case "wait":
		r.wait()
	case "crowd":
		r.crowd()
	default:
		r.die(fmt.Errorf("unknown role %q", r.Do))
	}
	os.Exit(0)
}

func (r *role) die(err error) {
	fmt.Fprintf(os.Stderr, "%s process %d: %v\n", r.Do, os.Getpid(), err)
	os.Exit(3)
}

// command returns the command that plays r.
func (r *role) command(t testing.TB, wrap ...string) *exec.Cmd {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	text, err := json.Marshal(r)
	if err != nil {
		t.Fatal(err)
	}
	args := append(wrap, exe)
	cmd := exec.Command(args[0], args[1:]...)
	// The race detector sleeps for a second at each exit unless told not to.
	cmd.Env = append(os.Environ(), roleEnv+"="+string(text), "GORACE="+os.Getenv("GORACE")+" atexit_sleep_ms=0")
	cmd.Stderr = os.Stderr
	return cmd
}

func monotonic() int64 {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &ts); err != nil {
		panic(err)
	}
	return ts.Nano()
}

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

// A mark is one line of a worker's log.
type mark struct {
	ns   int64
	inc  uint64
	kind uint32
	who  uint32 // of several in the process
}

const (
	enter = iota + 1
	exit
	strayed // a stranger locked an inode that the path does not name
)

const markSize = 24

// note appends a mark. One write, so SIGKILL leaves a whole one or none.
func (r *role) note(kind, who uint32) {
	var b [markSize]byte
	binary.LittleEndian.PutUint64(b[0:], uint64(monotonic()))
	binary.LittleEndian.PutUint64(b[8:], r.Inc)
	binary.LittleEndian.PutUint32(b[16:], kind)
	binary.LittleEndian.PutUint32(b[20:], who)
	if _, err := r.log.Write(b[:]); err != nil {
		r.die(err)
	}
}

func (r *role) openLog() {
	var err error
	if r.log, err = os.OpenFile(r.Log, os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o600); err != nil {
		r.die(err)
	}
}

// readMarks returns all marks below dir.
func readMarks(t testing.TB, dir string) (marks []mark) {
	t.Helper()
	names, err := filepath.Glob(filepath.Join(dir, "*.log"))
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		for ; len(text) >= markSize; text = text[markSize:] {
			marks = append(marks, mark{
				int64(binary.LittleEndian.Uint64(text)),
				binary.LittleEndian.Uint64(text[8:]),
				binary.LittleEndian.Uint32(text[16:]),
				binary.LittleEndian.Uint32(text[20:]),
			})
		}
	}
	return marks
}

// A span is one time that somebody held the file.
type span struct {
	from, to int64
	inc      uint64
}

// spans turns marks into spans. The hold of a process that was killed ends with
// its killer's note: what it still logs afterwards does not count.
func spans(marks []mark, killed map[uint64]int64) (all []span, cut int) {
	type holder struct {
		inc uint64
		who uint32
	}
	open := map[holder]int64{}
	end := func(inc uint64) int64 {
		if ns, ok := killed[inc]; ok {
			return ns
		}
		return math.MaxInt64
	}
	slices.SortStableFunc(marks, func(a, b mark) int { return cmp.Compare(a.ns, b.ns) })
	for _, m := range marks {
		h := holder{m.inc, m.who}
		if m.ns >= end(m.inc) {
			continue
		}
		switch m.kind {
		case enter:
			open[h] = m.ns
		case exit:
			all = append(all, span{open[h], m.ns, m.inc})
			delete(open, h)
		}
	}
	for h, from := range open {
		all = append(all, span{from, end(h.inc), h.inc})
		cut++
	}
	return all, cut
}

// overlaps counts the spans that begin before an earlier one has ended.
func overlaps(all []span) (n int, example string) {
	slices.SortFunc(all, func(a, b span) int { return cmp.Compare(a.from, b.from) })
	var last span
	for _, s := range all {
		if s.from < last.to {
			if n++; n == 1 {
				example = fmt.Sprintf("incarnation %d from %d to %d, and %d from %d to %d", last.inc, last.from, last.to, s.inc, s.from, s.to)
			}
		}
		if s.to > last.to {
			last = s
		}
	}
	return n, example
}

func TestOverlapJudge(t *testing.T) {
	marks := []mark{
		{10, 1, enter, 0}, {20, 1, exit, 0}, {20, 2, enter, 0}, // killed at 30
		{30, 3, enter, 0}, {35, 2, exit, 0}, {36, 2, enter, 0}, {40, 3, exit, 0},
	}
	all, cut := spans(slices.Clone(marks), map[uint64]int64{2: 30})
	if n, why := overlaps(all); n != 0 || cut != 1 || len(all) != 3 {
		t.Errorf("%d overlaps (%s), %d cut of %d; want 0, 1 of 3", n, why, cut, len(all))
	}
	all, _ = spans(marks, nil)
	if n, _ := overlaps(all); n != 2 {
		t.Errorf("%d overlaps, want 2: nobody was killed", n)
	}
}

// untilEOF is a context that ends when the parent closes our standard input, as
// it also does when it dies.
func untilEOF() context.Context {
	ctx, cancel := context.WithCancel(context.Background())
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		cancel()
	}()
	return ctx
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
	if r.Hasty == 0 {
		for ctx.Err() == nil {
			r.turn(ctx, 0)
		}
		return
	}
	var wg sync.WaitGroup
	for who := range r.Hasty {
		wg.Go(func() { r.hasty(ctx, uint32(who)) })
	}
	wg.Wait()
}

// hasty waits and gives up after a moment, and has patience in the end.
func (r *role) hasty(ctx context.Context, who uint32) {
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
	r.note(enter, who)
	r.count.acquired.Add(1)
	linger()
	if r.Record && rand.IntN(4) == 0 {
		if err := h.Record(os.Getpid()); err != nil {
			r.die(fmt.Errorf("record: %w", err))
		}
		r.count.recorded.Add(1)
	}
	r.note(exit, who)
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
	killAny     bool // kill whomever, not the holder
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

// The outcome of a storm.
type outcome struct {
	spans, cut, overlaps int
	example              string
	acquired, refused    uint64
	canceled, recorded   uint64
	saw                  reading
}

// stormTime is how long a storm lasts at least.
func stormTime() time.Duration {
	if os.Getenv("PIDFILE_STORM") == "long" {
		return 10 * time.Second
	}
	return 1500 * time.Millisecond
}

// places are directories on file systems of different kinds.
func places(t testing.TB) map[string]string {
	t.Helper()
	wd, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	return map[string]string{"tmpfs": "/dev/shm", "disk": wd}
}

// tempIn makes a directory below dir that goes with the test. If that cannot be, as
// in a /dev/shm that does not exist, it is where t.TempDir would be.
func tempIn(t testing.TB, dir string) string {
	t.Helper()
	name, err := os.MkdirTemp(dir, ".pidfile-test-")
	if err != nil {
		t.Log(err)
		return t.TempDir()
	}
	t.Cleanup(func() { os.RemoveAll(name) })
	return name
}

// run makes the storm in a directory below place and returns what came of it.
func (s *storm) run(t testing.TB, place string) outcome {
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
		r.Hasty = 0 // somebody always has patience
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

// kill kills the worker that holds the file, or any, and starts another.
func (s *storm) kill() {
	slot := rand.IntN(len(s.workers))
	if !s.killAny {
		if slot = s.findHolder(); slot < 0 {
			return // to kill those who only start would keep all from starting
		}
		s.held++
	}
	w := s.workers[slot]
	s.killed[w.inc] = monotonic()
	if err := w.cmd.Process.Kill(); err != nil {
		s.t.Errorf("worker %d had ended: %v", slot, err)
	}
	s.kills++
	if err := w.cmd.Wait(); !wasKilled(err) {
		s.t.Errorf("worker %d: %v", slot, err)
	}
	s.workers[slot] = s.start(slot)
}

// findHolder waits a moment for the file to name a worker; -1 if it does not.
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

func wasKilled(err error) bool {
	e, ok := err.(*exec.ExitError)
	return ok && e.Sys().(syscall.WaitStatus).Signal() == syscall.SIGKILL
}

// awaitWorkers waits until all have ended of themselves: nobody is stuck.
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

func (s *storm) judge() (o outcome) {
	all, cut := spans(readMarks(s.t, s.logs), s.killed)
	o.spans, o.cut = len(all), cut
	o.overlaps, o.example = overlaps(all)
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
func (s *storm) check(o outcome) {
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

// mustHold takes path, which must be free.
func mustHold(t testing.TB, path string) *Hold {
	t.Helper()
	h := new(Hold)
	h.Prepare(path)
	r, err := h.Acquire(&Options{PID: os.Getpid(), Mode: 0o644})
	if err != nil || r.Held {
		t.Fatalf("acquire: %+v, %v; want it free", r, err)
	}
	return h
}

func mustRelease(t testing.TB, h *Hold) {
	t.Helper()
	if err := h.Release(); err != nil {
		t.Fatalf("release: %v", err)
	}
}

func TestStorm(t *testing.T) {
	for kind, place := range places(t) {
		for _, wait := range []bool{false, true} {
			name := kind + map[bool]string{false: "/acquire", true: "/wait"}[wait]
			t.Run(name, func(t *testing.T) {
				s := &storm{role: role{Wait: wait}, processes: 20, atLeast: stormTime(), wantHeld: 50, wantEvents: 200}
				s.check(s.run(t, place))
			})
		}
	}
}

// Here the holders also rename a second file over the first now and then.
func TestStormRecord(t *testing.T) {
	for _, wait := range []bool{false, true} {
		t.Run(map[bool]string{false: "acquire", true: "wait"}[wait], func(t *testing.T) {
			s := &storm{role: role{Wait: wait, Record: true}, processes: 10, atLeast: stormTime(), wantHeld: 50, wantEvents: 100}
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
				s := &storm{role: role{Wait: wait, Broken: true}, processes: 20, atLeast: time.Second, noReader: true, noKills: true}
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

// Strangers: flock(1) locks without comparing inodes, creates the file empty
// and never removes it. So two of them, or one and one of ours, can each hold
// "the file" if one of them locked an inode that the path no longer names: the
// fault of flock(1) alone. What our protocol promises is this: while flock(1)
// holds the inode that the path names, nobody can unlink it (that takes its
// lock), so it stays the path's, and nobody of ours gets in. And nobody takes
// the path from one of ours. So flock(1)'s holds count from the moment when the
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
		r.note(strayed, 0)
		os.Exit(exitStrayed)
	}
	r.note(enter, 0)
	linger()
	r.note(exit, 0)
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
			s := &storm{role: role{Wait: wait}, processes: 4, strangers: 3, atLeast: stormTime(), wantHeld: 20, noReader: true}
			o := s.run(t, "/dev/shm")
			c := &s.stranger
			t.Logf("flock(1): %d holds of the path's inode, %d of another, %d refusals", c.held.Load(), c.strayed.Load(), c.refused.Load())
			s.check(o)
		})
	}
}

// leak plays a holder whose child inherits the descriptor: it takes the file,
// starts the child, says so, releases when told to, and ends with its input.
func (r *role) leak() {
	if r.Rounds == 1 { // the file cannot be removed: it stays
		fault = func(call string) syscall.Errno {
			if call == "unlink" {
				return syscall.EACCES
			}
			return 0
		}
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
	eventually(t, "the waiter sleeps", func() bool { return sleepers(t, os.Getpid(), id) == 1 })
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
	c := startChild(t, &role{Do: "leak", Path: path, Rounds: 1})
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
