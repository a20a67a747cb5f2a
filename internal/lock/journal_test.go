//go:build linux

package lock

import (
	"cmp"
	"encoding/binary"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/go-pidfile/pidfile/internal/testproc"
)

// An event is one line of a worker's log.
type event struct {
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

const eventSize = 24

// logEvent appends an event. One write, so SIGKILL leaves a whole one or none.
func (r *role) logEvent(kind, who uint32) {
	var b [eventSize]byte
	binary.LittleEndian.PutUint64(b[0:], uint64(testproc.Monotonic()))
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

// readEvents returns all events below dir.
func readEvents(t testing.TB, dir string) (events []event) {
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
		for ; len(text) >= eventSize; text = text[eventSize:] {
			events = append(events, event{
				int64(binary.LittleEndian.Uint64(text)),
				binary.LittleEndian.Uint64(text[8:]),
				binary.LittleEndian.Uint32(text[16:]),
				binary.LittleEndian.Uint32(text[20:]),
			})
		}
	}
	return events
}

// spans turns events into spans. The hold of a process that was killed ends with
// its killer's note: what it still logs afterwards does not count.
func spans(events []event, killed map[uint64]int64) (all []testproc.Span, cut int) {
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
	slices.SortStableFunc(events, func(a, b event) int { return cmp.Compare(a.ns, b.ns) })
	for _, m := range events {
		h := holder{m.inc, m.who}
		if m.ns >= end(m.inc) {
			continue
		}
		switch m.kind {
		case enter:
			open[h] = m.ns
		case exit:
			all = append(all, testproc.Span{From: open[h], To: m.ns, Who: fmt.Sprint("incarnation ", m.inc)})
			delete(open, h)
		}
	}
	for h, from := range open {
		all = append(all, testproc.Span{From: from, To: end(h.inc), Who: fmt.Sprint("incarnation ", h.inc)})
		cut++
	}
	return all, cut
}

func TestOverlapJudge(t *testing.T) {
	events := []event{
		{10, 1, enter, 0}, {20, 1, exit, 0}, {20, 2, enter, 0}, // killed at 30
		{30, 3, enter, 0}, {35, 2, exit, 0}, {36, 2, enter, 0}, {40, 3, exit, 0},
	}
	all, cut := spans(slices.Clone(events), map[uint64]int64{2: 30})
	if n, why := testproc.Overlaps(all); n != 0 || cut != 1 || len(all) != 3 {
		t.Errorf("%d overlaps (%s), %d cut of %d; want 0, 1 of 3", n, why, cut, len(all))
	}
	all, _ = spans(events, nil)
	if n, _ := testproc.Overlaps(all); n != 2 {
		t.Errorf("%d overlaps, want 2: none was killed", n)
	}
}
