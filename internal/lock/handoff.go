package lock

import (
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"weak"
)

// A handoff is what a holder gives its children, and what it keeps of that. The two
// numbers are the Hold's, as its fd is. What is given is a copy for each command,
// which that one alone owns: see Inherit.
type handoff struct {
	lock int // what is copied
	own  int // the hand-off lock on a description that nobody else has, -1 if there is none
	// The copies that this process may still have.
	locks  []weak.Pointer[os.File]
	copies []*os.File // only where own is -1
}

// A Pair is the descriptor numbers of a lock and its hand-off lock in a child.
type Pair struct{ Lock, Handoff int }

// ErrNotInherited: none of the descriptors is that of the path's file.
var ErrNotInherited = errors.New("nobody handed the PID file to this process")

// A record is the text of a hand-off lock: which file it belongs to, and what became of
// that. It also proves to a child that the descriptor is a hand-off lock, and not
// something else that has the number.
type record struct {
	state state
	id    ID
	pid   int // what the file says
	path  string
}

// A state is what became of a file that was handed down.
type state byte

const (
	unclaimed state = 'U' // it is the one's who made the hand-off lock
	replaced  state = 'R' // a child has put its own in its place
	shared    state = 'S' // a child has written its PID into it, and has its lock
)

// maxRecord is enough for every path that a system call takes.
const maxRecord = 8192

// text writes the PID with all the digits that it can have, so that another
// one changes nothing but digits.
func (d record) text() string {
	pid := strconv.Itoa(d.pid)
	return strings.Join([]string{string(d.state), "pidfile",
		strconv.FormatUint(d.id.Dev, 10), strconv.FormatUint(d.id.Ino, 10),
		"0000000"[min(7, len(pid)):] + pid, d.path}, " ")
}

// parseRecord reads what text wrote, and nothing else.
func parseRecord(text string) (d record, ok bool) {
	f := strings.SplitN(text, " ", 6)
	if len(f) != 6 || len(text) >= maxRecord || !filepath.IsAbs(f[5]) {
		return d, false
	}
	d.state, d.path = state(text[0]), f[5]
	d.id.Dev, _ = strconv.ParseUint(f[2], 10, 64)
	d.id.Ino, _ = strconv.ParseUint(f[3], 10, 64)
	d.pid, _ = strconv.Atoi(f[4])
	return d, d.pid <= MaxPID && d.text() == text
}
