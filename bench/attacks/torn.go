package main

import (
	"fmt"
	"os"
	"regexp"
	"sync"
	"sync/atomic"
	"time"
)

// All PIDs in a cell have four digits or more.
var wholePID = regexp.MustCompile(`^ *[0-9]{4,}\n?$`)

// A tally is what a reader saw.
type tally struct{ whole, none, empty, part atomic.Int64 }

func (t *tally) torn() int64 { return t.empty.Load() + t.part.Load() }

// read reads the path without a pause.
func (t *tally) read(path string, stop *atomic.Bool) {
	for !stop.Load() {
		text, err := os.ReadFile(path)
		switch {
		case err != nil:
			t.none.Add(1)
		case len(text) == 0:
			t.empty.Add(1)
		case wholePID.Match(text):
			t.whole.Add(1)
		default:
			t.part.Add(1)
		}
	}
}

// torn reads the file while it comes and goes, until it was seen torn or the time
// is over.
func torn(c *cell) finding {
	if !c.tool.hasPID {
		return notApplicable("its file names nobody")
	}
	long := 6 * time.Second
	if c.quick {
		long = time.Second
	}
	var saw tally
	var stop atomic.Bool
	var reader sync.WaitGroup
	reader.Go(func() { saw.read(c.path, &stop) })
	ran, rounds := 0, 0
	for began := time.Now(); time.Since(began) < long && (saw.torn() == 0 || rounds < 20); rounds++ {
		i := c.launch(c.tool.start, plain, time.Millisecond)
		if i.in() {
			ran++
			eventually(patience, func() bool { return !alive(i.commandPID()) })
		}
		i.wait(patience)
	}
	stop.Store(true)
	reader.Wait()
	evidence := fmt.Sprintf("%d of %d starts ran; the reader saw %d whole texts, %d empty ones, %d others, and %d times no file",
		ran, rounds, saw.whole.Load(), saw.empty.Load(), saw.part.Load(), saw.none.Load())
	if saw.whole.Load() == 0 {
		panic("nothing was seen: " + evidence)
	}
	if n := saw.torn(); n > 0 {
		return judge(false, fmt.Sprintf("**%d torn**", n), evidence)
	}
	return judge(true, "none", evidence)
}
