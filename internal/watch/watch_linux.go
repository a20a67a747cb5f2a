package watch

import (
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

const (
	selfEvents = unix.IN_MOVE_SELF | unix.IN_DELETE_SELF
	fileEvents = selfEvents | unix.IN_ATTRIB | unix.IN_MODIFY | unix.IN_DONT_FOLLOW
	linkEvents = selfEvents | unix.IN_ATTRIB | unix.IN_DONT_FOLLOW
	// Nothing that happens in a directory of the way.
	wayEvents = selfEvents | unix.IN_ONLYDIR | unix.IN_DONT_FOLLOW
	// Of the directory in which the next element is missing.
	missEvents = wayEvents | unix.IN_CREATE | unix.IN_MOVED_TO
	dirEvents  = unix.IN_CREATE | unix.IN_MOVED_TO | unix.IN_MODIFY | unix.IN_ONLYDIR
)

// OpenFile returns an inotify descriptor that becomes readable when the file at path is
// changed, renamed or removed: for a caller that polls other descriptors besides.
func OpenFile(path string) (fd int, err error) { return open(path, fileEvents) }

func open(path string, events uint32) (int, error) {
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
	if err != nil || path == "" {
		return fd, err
	}
	if _, err := unix.InotifyAddWatch(fd, path, events); err != nil {
		_ = unix.Close(fd)
		return -1, err
	}
	return fd, nil
}

func file(path string) *Watch {
	fd, err := open("", 0)
	if err != nil {
		return nil
	}
	y := &way{fd: fd, path: path}
	// Before the first look, so that no mount comes between.
	mounts, c := openMounts()
	y.blind = c == nil
	y.look()
	w := start(fd, y.changed)
	w.partial = y.partial.Load
	closeFD := w.stop
	w.stop = func() {
		y.close() // no look is to use the number from now on
		if mounts != nil {
			_ = mounts.Close()
		}
		closeFD()
	}
	if c != nil {
		go func() {
			// The function is called once the kernel says that something was mounted
			// or unmounted, proc(5). No thread waits for that.
			_ = c.Read(func(uintptr) bool {
				y.look()
				w.tell()
				return false
			})
		}()
	}
	return w
}

// openMounts opens what tells of mounts. It returns nil where it cannot.
func openMounts() (*os.File, syscall.RawConn) {
	f, err := os.Open("/proc/self/mountinfo")
	if err != nil {
		return nil, nil
	}
	c, err := f.SyscallConn()
	if err != nil || f.SetReadDeadline(time.Time{}) != nil { // it cannot be polled
		_ = f.Close()
		return nil, nil
	}
	return f, c
}

func directory(dir string) *Watch {
	fd, err := open(dir, dirEvents)
	if err != nil {
		return nil
	}
	return start(fd, func([]byte) bool { return true })
}

// start reads fd's events until it is closed, and tells of those that event wants.
func start(fd int, event func([]byte) bool) *Watch {
	f := os.NewFile(uintptr(fd), "inotify")
	w := &Watch{
		changed: make(chan struct{}, 1),
		stop:    func() { _ = f.Close() }, // nothing was written
	}
	go func() {
		var buf [4096]byte
		for {
			n, err := f.Read(buf[:])
			if err != nil {
				return
			}
			if event(buf[:n]) {
				w.tell()
			}
		}
	}()
	return w
}

func (w *Watch) tell() {
	select {
	case w.changed <- struct{}{}:
	default:
	}
}
