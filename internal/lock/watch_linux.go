package lock

import (
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

// waitStranger blocks until pid has ended or h's file, open as fd, has changed
// or gone: pid wrote it and never locks. At the latest it returns after ten
// seconds, since a process can also become another program.
func waitStranger(h *Hold, fd, pid int) {
	before, err := fstat(fd)
	if err != nil {
		time.Sleep(10 * time.Millisecond)
		return
	}
	fds := make([]unix.PollFd, 0, 2)
	if p, err := unix.PidfdOpen(pid, 0); err == nil {
		defer closeFD(p)
		fds = append(fds, unix.PollFd{Fd: int32(p), Events: unix.POLLIN})
	}
	if in, err := watch(h.Path(), fileEvents); err == nil {
		defer closeFD(in)
		fds = append(fds, unix.PollFd{Fd: int32(in), Events: unix.POLLIN})
	}
	timeout := 10 * time.Second
	if len(fds) < 2 {
		timeout = 100 * time.Millisecond // half blind: look often
	}
	if now, err := h.file.statPath(); err != nil || now.id != before.id || !now.mtime.Equal(before.mtime) {
		return
	}
	_, _ = unix.Poll(fds, int(timeout.Milliseconds()))
}

// What is watched: that a file is unlinked, renamed, replaced or written; and
// that files come into a directory, or change there.
const (
	fileEvents = unix.IN_ATTRIB | unix.IN_MODIFY | unix.IN_MOVE_SELF | unix.IN_DELETE_SELF | unix.IN_DONT_FOLLOW
	dirEvents  = unix.IN_CREATE | unix.IN_MOVED_TO | unix.IN_MODIFY | unix.IN_ONLYDIR
)

// watch returns an inotify(7) descriptor that becomes readable on events of the
// file or directory at path.
func watch(path string, events uint32) (int, error) {
	in, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
	if err != nil {
		return -1, err
	}
	if _, err := unix.InotifyAddWatch(in, path, events); err != nil {
		closeFD(in)
		return -1, err
	}
	return in, nil
}

// A Notice tells of changes to a file and to its directory's name.
type Notice struct {
	f       *os.File
	changed chan struct{}
}

// Watch asks the kernel for a Notice about the file at path. Where none can be
// had (no file, or the user's inotify instances are used up) it returns nil.
func Watch(path string) *Notice {
	in, err := watch(path, fileEvents)
	if err != nil {
		return nil
	}
	// Without its directory's name the file is noticed all the same.
	_, _ = unix.InotifyAddWatch(in, filepath.Dir(path), unix.IN_MOVE_SELF|unix.IN_DELETE_SELF)
	return newNotice(in)
}

// WatchDir asks for a Notice about new and changed files in a directory. It
// returns nil where none can be had.
func WatchDir(dir string) *Notice {
	in, err := watch(dir, dirEvents)
	if err != nil {
		return nil
	}
	return newNotice(in)
}

func newNotice(in int) *Notice {
	n := &Notice{os.NewFile(uintptr(in), "inotify"), make(chan struct{}, 1)}
	go n.run()
	return n
}

func (n *Notice) run() {
	var buf [4096]byte
	for {
		if _, err := n.f.Read(buf[:]); err != nil {
			return // closed
		}
		select {
		case n.changed <- struct{}{}:
		default:
		}
	}
}

// Changed is sent to after changes. It is nil if n is nil.
func (n *Notice) Changed() <-chan struct{} {
	if n == nil {
		return nil
	}
	return n.changed
}

// Close ends the Notice.
func (n *Notice) Close() {
	if n != nil {
		_ = n.f.Close() // nothing was written
	}
}
