package watch

import (
	"bytes"
	"encoding/binary"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

// A way is the elements of a path, each watched by itself: directories, the symbolic links
// among them, and the file. Where one is missing, its directory is watched for it.
type way struct {
	path    string
	blind   bool        // mounts are not seen
	partial atomic.Bool // of the last look: something could not be watched

	mu      sync.Mutex
	fd      int // of inotify; -1 once it is closed
	watched map[int]bool
	missing string // the element that is not there, "" if none
}

// maxSteps bounds a look: a path has at most 40 links, path_resolution(7), but elements may
// also change while they are looked at.
const maxSteps = 1000

// changed reads inotify events, and reports whether one of them is about the way. Then that
// is looked at anew before that is told: no change after that goes unseen.
func (y *way) changed(events []byte) bool {
	if !y.concerns(events) {
		return false
	}
	y.look()
	return true
}

func (y *way) concerns(events []byte) bool {
	y.mu.Lock()
	defer y.mu.Unlock()
	for len(events) >= unix.SizeofInotifyEvent {
		mask := binary.NativeEndian.Uint32(events[4:])
		end := unix.SizeofInotifyEvent + int(binary.NativeEndian.Uint32(events[12:]))
		name := string(bytes.TrimRight(events[unix.SizeofInotifyEvent:end], "\x00"))
		events = events[end:]
		switch {
		case mask&unix.IN_IGNORED != 0: // a watch that we have removed, or that has told more
		case name == "" || name == y.missing:
			return true
		}
	}
	return false
}

func (y *way) close() {
	y.mu.Lock()
	defer y.mu.Unlock()
	y.fd = -1
}

// look watches what the path leads through now, and nothing else.
func (y *way) look() {
	y.mu.Lock()
	defer y.mu.Unlock()
	if y.fd < 0 {
		return
	}
	before := y.watched
	w := walk{way: y, at: "/", rest: strings.Split(y.path, "/"), partial: y.blind}
	y.watched, y.missing = map[int]bool{}, ""
	for steps := 0; len(w.rest) > 0 && w.step(); steps++ {
		if steps == maxSteps {
			w.partial = true
			break
		}
	}
	for wd := range before {
		if !y.watched[wd] {
			_, _ = unix.InotifyRmWatch(y.fd, uint32(wd)) // or it is gone with its inode
		}
	}
	y.partial.Store(w.partial)
}

// A walk is one look at a way.
type walk struct {
	*way
	at      string // the directory that was come to; no link leads to it
	rest    []string
	missed  string // the directory that was watched for what is missing in it
	partial bool
}

// step goes through one element. It returns false if the way ends there. An element is
// watched before what is behind it is looked at.
func (w *walk) step() bool {
	name := w.rest[0]
	path := filepath.Join(w.at, name)
	if name == "" || name == "." || name == ".." {
		w.at, w.rest = path, w.rest[1:]
		return true
	}
	last := len(w.rest) == 1
	fi, err := os.Lstat(path)
	switch {
	case os.IsNotExist(err):
		if w.missed == w.at {
			return false
		}
		w.missed, w.missing = w.at, name
		w.watch(w.at, missEvents)
		return true // and look again
	case err != nil:
		w.partial = true
		return false
	case last:
		w.watch(path, fileEvents)
		return false
	case fi.Mode().Type() == os.ModeSymlink:
		w.watch(path, linkEvents)
		target, err := os.Readlink(path)
		if err != nil {
			return true // it is another thing by now
		}
		w.rest = append(strings.Split(target, "/"), w.rest[1:]...)
		if filepath.IsAbs(target) {
			w.at = "/"
		}
		return true
	case !fi.IsDir():
		w.watch(path, linkEvents)
		return false
	}
	if w.watch(path, wayEvents) == unix.ENOTDIR {
		return true // it is another thing by now
	}
	w.at, w.rest = path, w.rest[1:]
	return true
}

// watch watches what is at path. That a directory may not be read, or that the user has no
// watches left, makes the look a partial one.
func (w *walk) watch(path string, events uint32) error {
	wd, err := unix.InotifyAddWatch(w.fd, path, events)
	switch err {
	case nil:
		w.watched[wd] = true
	case unix.ENOENT, unix.ENOTDIR:
	default:
		w.partial = true
	}
	return err
}
