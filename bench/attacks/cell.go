package main

import (
	"encoding/json"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// A verdict is the result of an attack on a tool.
type verdict string

const (
	withstood verdict = "withstood"
	fails     verdict = "fails"
	na        verdict = "n/a"     // the tool has no such function
	absent    verdict = "missing" // the tool is not installed
	broken    verdict = "error"   // the attack could not be carried out
)

// A finding is a verdict with its evidence.
type finding struct {
	Tool     string   `json:"tool"`
	Verdict  verdict  `json:"verdict"`
	Cell     string   `json:"cell"`     // a few words for the table
	Evidence []string `json:"evidence"` // the first line is the summary
	Command  string   `json:"command,omitempty"`
	Millis   int64    `json:"ms"`
}

// judge makes a finding: withstood if ok.
func judge(ok bool, cell string, evidence ...string) finding {
	v := fails
	if ok {
		v = withstood
	}
	return finding{Verdict: v, Cell: cell, Evidence: evidence}
}

func notApplicable(why string) finding {
	return finding{Verdict: na, Cell: "n/a", Evidence: []string{why}}
}

// A cell is one attack on one tool. It runs as PID 1 in namespaces of its own:
// no signal leaves them, all that it started ends with it, and its directory is
// a tmpfs that nobody else sees.
type cell struct {
	tool    *tool    // of an attack on a start
	stopper *stopper // of an attack on the stop side
	quick   bool
	bin     string // where the pidfile command, peers.py and test-and-write.sh are
	dir     string
	path    string // of the PID file
	log     journal
	starts  int
	outputs int

	spareThreads sync.Once
	env          []string // beside the driver's
	tried        []string // the first command line
}

// firstPID is the first PID in a cell: all have four digits, so that a part of
// one can be told from a whole one.
const firstPID = 1000

func newCell(dir, bin string, quick bool) (*cell, error) {
	if os.Getpid() != 1 {
		return nil, fmt.Errorf("not PID 1 of a namespace")
	}
	for _, m := range []struct {
		source, target, kind string
		flags                uintptr
		data                 string
	}{
		{"none", "/", "", unix.MS_REC | unix.MS_PRIVATE, ""},
		{"proc", "/proc", "proc", unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC, ""},
		{"tmpfs", dir, "tmpfs", 0, "size=64m,mode=0700"},
	} {
		if err := unix.Mount(m.source, m.target, m.kind, m.flags, m.data); err != nil {
			return nil, fmt.Errorf("mount %s: %w", m.target, err)
		}
	}
	if err := os.WriteFile("/proc/sys/kernel/ns_last_pid", fmt.Append(nil, firstPID-1), 0); err != nil {
		return nil, err
	}
	// A stopper may signal its PID 1. (To ignore these would be inherited.)
	signal.Notify(make(chan os.Signal, 1), syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP)
	startReaper()
	c := &cell{quick: quick, bin: bin, dir: dir, path: filepath.Join(dir, "a.pid")}
	c.log.path = filepath.Join(dir, "journal")
	return c, nil
}

// runCell is the process "cell ATTACK TOOL DIR BIN QUICK". It prints the finding.
func runCell(args []string) error {
	a, ok := attackNamed(args[0])
	if !ok {
		return fmt.Errorf("no attack %q", args[0])
	}
	c, err := newCell(args[2], args[3], args[4] == "true")
	if err != nil {
		return err
	}
	for _, t := range tools() {
		if t.name == args[1] && !a.onStoppers {
			c.tool = &t
		}
	}
	for _, s := range stoppers() {
		if s.name == args[1] && a.onStoppers {
			c.useStopper(s)
		}
	}
	began := time.Now()
	f := c.suffer(a)
	f.Tool, f.Millis, f.Command, f.Evidence = args[1], time.Since(began).Milliseconds(), strings.Join(c.tried, " "), c.readable(f.Evidence)
	killAll()
	return json.NewEncoder(os.Stdout).Encode(f)
}

// suffer carries out the attack.
func (c *cell) suffer(a attack) (f finding) {
	defer func() {
		if r := recover(); r != nil {
			f = finding{Verdict: broken, Cell: "error", Evidence: []string{fmt.Sprint(r)}}
		}
	}()
	return a.run(c)
}

// must stops the cell: the attack could not be carried out.
func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

func check(err error) {
	if err != nil {
		panic(err)
	}
}

// An instance is a start of the tool.
type instance struct {
	*process
	c  *cell
	id string
}

// launch starts the tool, or whatever argv makes of the job, and does not wait.
func (c *cell) launch(argv func(*cell, job) []string, mode string, d time.Duration) *instance {
	return c.launchBehind(nil, argv, mode, d)
}

// launchBehind puts words before the command line.
func (c *cell) launchBehind(words []string, argv func(*cell, job) []string, mode string, d time.Duration) *instance {
	c.starts++
	i := &instance{c: c, id: fmt.Sprint("start", c.starts)}
	line := argv(c, job{log: c.log.path, id: i.id, mode: mode, duration: d, path: c.path})
	if c.tried == nil {
		c.tried = c.readable(line)
	}
	i.process = must(c.start(0, append(words, line...)...))
	return i
}

// readable shortens a command line for people.
func (c *cell) readable(line []string) (words []string) {
	r := strings.NewReplacer(c.dir+"/", "", c.bin+"/", "", self, "attacks")
	for _, w := range line {
		words = append(words, r.Replace(w))
	}
	return words
}

// entered returns whether the instance is in, and since which entry.
func (i *instance) entered() (entry, bool) { return i.c.log.find(i.id, enter) }

// pid returns the PID of COMMAND.
func (i *instance) commandPID() int {
	e, ok := i.entered()
	if !ok {
		panic(i.id + " is not in")
	}
	return e.PID
}

// decided returns whether it is known what became of the start.
func (i *instance) decided() bool {
	if _, in := i.entered(); in {
		return true
	}
	on := i.c.tool != nil && i.c.tool.detaches && i.hasEnded() && i.status.ExitStatus() == 0
	return i.hasEnded() && !on
}

// patience is how long a start may take on a busy machine.
const patience = 10 * time.Second

// in waits until it is known whether the start succeeded.
func (i *instance) in() bool {
	eventually(patience, i.decided)
	_, in := i.entered()
	return in
}

// how says what became of the start.
func (i *instance) how() string {
	if e, in := i.entered(); in {
		return fmt.Sprintf("%s ran, as PID %d", i.id, e.PID)
	}
	return fmt.Sprintf("%s did not run: %s", i.id, i.said())
}

// hold makes the tool run a COMMAND, which must succeed.
func (c *cell) hold(mode string) *instance {
	i := c.launch(c.tool.start, mode, 0)
	if !i.in() {
		panic("the first start: " + i.how())
	}
	return i
}

// try starts the tool once more, in plain mode.
func (c *cell) try() *instance {
	i := c.launch(c.tool.start, plain, 0)
	i.in()
	return i
}

// tryLong tries until a start succeeds, or the limit is over.
func (c *cell) tryLong(limit time.Duration) (last *instance) {
	for deadline := time.Now().Add(limit); ; {
		last = c.try()
		if _, in := last.entered(); in || time.Now().After(deadline) {
			return last
		}
	}
}

// works checks that the tool runs a COMMAND at all: one that refuses whatever it is
// asked would withstand a lot.
func (c *cell) works() {
	c.hold(plain).finish()
	check(os.RemoveAll(c.path))
}

// finish ends an instance in good order, if it runs.
func (i *instance) finish() {
	if _, in := i.entered(); in && alive(i.commandPID()) {
		kill(i.commandPID(), unix.SIGTERM)
		if !eventually(patience, func() bool { return !alive(i.commandPID()) }) {
			panic(i.id + " does not end on TERM")
		}
	}
	if _, in := i.entered(); !in && !i.hasEnded() { // it hangs
		kill(i.process.pid, unix.SIGKILL)
	}
	if !i.wait(patience) {
		panic("does not end: " + i.how())
	}
}

// hangs returns whether a start neither succeeded nor was refused.
func (i *instance) hangs() bool { return !i.hasEnded() && !i.decided() }

// text returns the PID file's, or why there is none.
func (c *cell) text() string {
	text, err := os.ReadFile(c.path)
	if err != nil {
		return "no file"
	}
	if len(text) > 40 {
		return fmt.Sprintf("%q…", text[:40])
	}
	return fmt.Sprintf("%q", text)
}

// overlaps describes who held the file at once, from the journal.
func (c *cell) overlaps() (most int, evidence []string) {
	all := holds(c.log.read())
	example, n := crowded(all)
	evidence = []string{fmt.Sprintf("%d held the file; at most %d at once; %d began while another held it", len(all), len(example), n)}
	if len(example) > 1 {
		for _, h := range example[:min(3, len(example))] {
			evidence = append(evidence, "at once: "+h.String())
		}
	}
	return len(example), evidence
}
