// Measure runs the benchmarks and writes what it measured as JSON. bench/run
// builds what it needs, and calls it.
package main

import (
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/go-pidfile/pidfile/bench/record"
)

// A bench is one run.
type bench struct {
	tools  string // the folder of the built programs
	python string // the interpreter, "" if there is none
	script string // the Python worker
	strace string // "" if there is none
	size   size
	places []place
	fresh  int // files that were used once

	mu   sync.Mutex
	live []*worker // what was started and not yet dismissed

	run record.Run
}

// A size says how much is measured.
type size struct {
	rounds    int           // of what takes microseconds
	batch     int           // so many a round
	fleets    int           // how often each fleet of waiters is started
	handovers int           // of each kind, by each of these fleets
	budget    time.Duration // or until this has passed
	idle      time.Duration // how long CPU while waiting is measured, by each fleet
	waiters   []int
	scans     int
	files     int
	starts    int // of each command
	peaks     int // of each command, for its memory
	pairs     int // two that start at once
	cycles    int // acquisitions while a reader reads
}

var sizes = map[string]size{
	"full":  {60, 400, 4, 60, 5 * time.Second, time.Second, []int{1, 10, 100}, 15, 10_000, 300, 9, 400, 20_000},
	"quick": {10, 100, 1, 15, time.Second, 200 * time.Millisecond, []int{1, 10, 100}, 2, 10_000, 30, 3, 50, 3_000},
	"smoke": {2, 10, 1, 2, 300 * time.Millisecond, 20 * time.Millisecond, []int{1, 3}, 1, 100, 2, 1, 3, 200},
}

func main() {
	mode := flag.String("mode", "full", "full, quick or smoke")
	tools := flag.String("tools", "", "the `folder` of pidfile, worker, worker-libbsd and child")
	script := flag.String("script", "", "the Python worker")
	out := flag.String("o", "", "the `file` to write")
	command := flag.String("command", strings.Join(os.Args, " "), "the command line to record")
	missing := flag.String("missing", "", "what is not installed")
	disk := flag.String("disk", "", "a `folder` on a disk")
	only := flag.String("only", "", "run the one part of that name")
	flag.Parse()
	b := &bench{tools: *tools, script: *script}
	b.run = record.Run{Command: *command, Mode: *mode, Missing: strings.Fields(*missing)}
	if err := b.all(*disk, *only); err != nil {
		fmt.Fprintln(os.Stderr, "measure:", err)
		os.Exit(1)
	}
	if err := b.run.Write(*out); err != nil {
		fmt.Fprintln(os.Stderr, "measure:", err)
		os.Exit(1)
	}
}

func (b *bench) all(disk, only string) error {
	var ok bool
	if b.size, ok = sizes[b.run.Mode]; !ok {
		return fmt.Errorf("no mode %q", b.run.Mode)
	}
	b.python = interpreter()
	b.strace, _ = exec.LookPath("strace") // it is among what may be missing
	if err := b.find(disk); err != nil {
		return err
	}
	defer b.leave()
	began := time.Now()
	b.run.Date = began.UTC().Format("2006-01-02 15:04 UTC")
	b.listPeers()
	for _, part := range []struct {
		name string
		run  func() error
	}{
		{"guarantees", b.guarantees},
		{"cycles", b.cycles},
		{"handover", b.handovers},
		{"identity", b.identities},
		{"scan", b.scans},
		{"commands", b.commands},
		{"wait", b.waitEnds},
	} {
		if only != "" && only != part.name {
			continue
		}
		started := time.Now()
		err := part.run()
		b.dismiss()
		if err != nil {
			return fmt.Errorf("%s: %w", part.name, err)
		}
		b.say("%s took %.0f s", part.name, time.Since(started).Seconds())
	}
	b.run.Seconds = time.Since(began).Seconds()
	return nil
}

func (b *bench) say(format string, args ...any) {
	fmt.Fprintf(os.Stderr, "bench: "+format+"\n", args...)
}

func (b *bench) tool(name string) string { return filepath.Join(b.tools, name) }

// interpreter returns the Python that is run in the end, not a script that
// chooses one.
func interpreter() string {
	out, err := exec.Command("python3", "-c", "import sys; print(sys.executable)").Output()
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(out))
}
