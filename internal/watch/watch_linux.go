package watch

import (
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

const (
	fileEvents = unix.IN_ATTRIB | unix.IN_MODIFY | unix.IN_MOVE_SELF | unix.IN_DELETE_SELF | unix.IN_DONT_FOLLOW
	dirEvents  = unix.IN_CREATE | unix.IN_MOVED_TO | unix.IN_MODIFY | unix.IN_ONLYDIR
)

// OpenFile returns an inotify descriptor that becomes readable when the file at path is
// changed, renamed or removed: for a caller that polls other descriptors besides.
func OpenFile(path string) (fd int, err error) { return open(path, fileEvents) }

func open(path string, events uint32) (int, error) {
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
	if err != nil {
		return -1, err
	}
	if _, err := unix.InotifyAddWatch(fd, path, events); err != nil {
		_ = unix.Close(fd)
		return -1, err
	}
	return fd, nil
}

func file(path string) *Watch {
	fd, err := open(path, fileEvents)
	if err != nil {
		return nil
	}
	// Without its directory's name the file is watched all the same.
	_, _ = unix.InotifyAddWatch(fd, filepath.Dir(path), unix.IN_MOVE_SELF|unix.IN_DELETE_SELF)
	return start(fd)
}

func directory(dir string) *Watch {
	fd, err := open(dir, dirEvents)
	if err != nil {
		return nil
	}
	return start(fd)
}

func start(fd int) *Watch {
	f := os.NewFile(uintptr(fd), "inotify")
	w := &Watch{
		changed: make(chan struct{}, 1),
		stop:    func() { _ = f.Close() }, // nothing was written
	}
	go w.run(f)
	return w
}

// run reads events, whatever they say, until f is closed.
func (w *Watch) run(f *os.File) {
	var buf [4096]byte
	for {
		if _, err := f.Read(buf[:]); err != nil {
			return
		}
		select {
		case w.changed <- struct{}{}:
		default:
		}
	}
}
