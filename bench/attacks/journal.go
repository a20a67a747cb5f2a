package main

import (
	"bytes"
	"cmp"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// What an instance notes in the journal.
const (
	enter = "enter" // it believes that it is the one
	beat  = "beat"  // it still does
	exit  = "exit"  // it is about to give up the file
	ready = "ready" // it holds nothing: a bystander
	// or the name of a signal that it got
)

// An entry is a line of the journal. Its time was read before it was written,
// so the process lived and held the file then.
type entry struct {
	At   int64 // CLOCK_MONOTONIC, ns
	PID  int
	ID   string // of the start
	What string
}

func (e entry) String() string { return fmt.Sprintf("%d %d %s %s", e.At, e.PID, e.ID, e.What) }

// A pen appends to a journal.
type pen struct {
	f  *os.File
	id string
}

func openPen(path, id string) (pen, error) {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	return pen{f, id}, err
}

func (p pen) note(what string) {
	if _, err := fmt.Fprintln(p.f, entry{monotonic(), os.Getpid(), p.id, what}); err != nil {
		panic(err)
	}
}

// monotonic is the time that all processes share.
func monotonic() int64 {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &ts); err != nil {
		panic(err)
	}
	return ts.Nano()
}

// A journal is what the instances of a cell noted. It may be read while they write.
type journal struct {
	path string

	mu      sync.Mutex
	file    *os.File // nil until somebody has written
	offset  int64
	entries []entry
}

// read returns all entries so far.
func (j *journal) read() []entry {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.file == nil {
		f, err := os.Open(j.path)
		if err != nil {
			return nil
		}
		j.file = f
	}
	text := make([]byte, 1<<16)
	for {
		n, err := j.file.ReadAt(text, j.offset)
		if err != nil && err != io.EOF {
			panic(err)
		}
		whole := text[:bytes.LastIndexByte(text[:n], '\n')+1]
		j.offset += int64(len(whole))
		for line := range strings.Lines(string(whole)) {
			j.entries = append(j.entries, parseEntry(line))
		}
		if n < len(text) {
			return j.entries[:len(j.entries):len(j.entries)]
		}
	}
}

func parseEntry(line string) entry {
	f := strings.Fields(line)
	if len(f) != 4 {
		panic(fmt.Sprintf("journal: %q", line))
	}
	at, err1 := strconv.ParseInt(f[0], 10, 64)
	pid, err2 := strconv.Atoi(f[1])
	if err1 != nil || err2 != nil {
		panic(fmt.Sprintf("journal: %q", line))
	}
	return entry{at, pid, f[2], f[3]}
}

// find returns the first entry of id that says what, and whether there is one.
func (j *journal) find(id, what string) (entry, bool) {
	for _, e := range j.read() {
		if e.ID == id && e.What == what {
			return e, true
		}
	}
	return entry{}, false
}

func (j *journal) count(id, what string) (n int) {
	for _, e := range j.read() {
		if e.ID == id && e.What == what {
			n++
		}
	}
	return n
}

// A hold lasts from the first to the last thing that an instance noted. One that
// was killed may have held on for longer, but surely held the file till then.
// So an overlap is never a false alarm.
type hold struct {
	ID          string
	PID         int
	First, Last int64
}

func (h hold) String() string {
	return fmt.Sprintf("%s (PID %d) %d to %d", h.ID, h.PID, h.First, h.Last)
}

func holds(entries []entry) (all []hold) {
	index := make(map[string]int)
	for _, e := range entries {
		key := fmt.Sprint(e.ID, " ", e.PID)
		i, seen := index[key]
		if !seen {
			if e.What != enter {
				continue // a bystander's, which has not entered anything
			}
			i = len(all)
			index[key] = i
			all = append(all, hold{ID: e.ID, PID: e.PID, First: e.At})
		}
		all[i].Last = max(all[i].Last, e.At)
	}
	return all
}

// crowded returns the most holds that there were at one time, and how many holds
// began while there was another.
func crowded(all []hold) (most []hold, overlaps int) {
	slices.SortFunc(all, func(a, b hold) int { return cmp.Compare(a.First, b.First) })
	var now []hold
	for _, h := range all {
		now = slices.DeleteFunc(now, func(o hold) bool { return o.Last <= h.First })
		if len(now) > 0 {
			overlaps++
		}
		now = append(now, h)
		if len(now) > len(most) {
			most = slices.Clone(now)
		}
	}
	return most, overlaps
}

// eventually waits until done, at most for limit, and returns whether it is.
func eventually(limit time.Duration, done func() bool) bool {
	for deadline := time.Now().Add(limit); !done(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(deadline) {
			return done()
		}
	}
	return true
}
