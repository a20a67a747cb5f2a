package lock

import (
	"time"

	"github.com/go-pidfile/pidfile/internal/watch"
	"golang.org/x/sys/unix"
)

// waitUnlocked blocks until pid has ended or h's file, open as fd, has changed or gone:
// pid wrote it and never locks. It returns after ten seconds at the latest, since a
// process can also become another program.
func waitUnlocked(h *Hold, fd, pid int) {
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
	if w, err := watch.OpenFile(h.Path()); err == nil {
		defer closeFD(w)
		fds = append(fds, unix.PollFd{Fd: int32(w), Events: unix.POLLIN})
	}
	timeout := 10 * time.Second
	if len(fds) < 2 {
		timeout = pollInterval // one of the two events wakes no waiter
	}
	if now, err := h.file.statPath(); err != nil || now.id != before.id || !now.mtime.Equal(before.mtime) {
		return
	}
	_, _ = unix.Poll(fds, int(timeout.Milliseconds()))
}
