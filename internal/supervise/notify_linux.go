package supervise

import (
	"net"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/go-pidfile/pidfile/internal/proc"
	"golang.org/x/sys/unix"
)

// A NotifySocket hears from COMMAND that it is ready: sd_notify(3).
//
// Any process can send to it, and few messages fill it, unix(7): so it is emptied
// from the beginning on, as fast as that goes, and what comes from other processes
// than those that we hear is dropped at once.
type NotifySocket struct {
	conn  *net.UnixConn
	users []int
	ready chan struct{}

	mu     sync.Mutex
	pid    int           // COMMAND's, which may run as yet another user by now; 0: not known yet
	adopts int           // the process that gets the orphans of COMMAND, if that is a child of ours; 0: none
	early  map[int][]int // other users' processes that said READY=1 before, and their ancestors
	no     int           // a process that was just found not to be COMMAND's
	noTime time.Time     // and when
	status string
	said   bool // ready is closed
}

// maxEarly bounds early: COMMAND's PID is known a moment after it has started.
const maxEarly = 1 << 16

// ListenNotify makes a socket in the abstract namespace, which every user can
// reach and which leaves no file. Its name is the kernel's choice, so that it
// cannot be taken already. The kernel says who sends, too: what is neither from root, nor
// from us, nor from COMMAND's user, nor from COMMAND or a process that descends from
// it, as whatever user that runs by now, is not heard.
func ListenNotify(a *Account) (*NotifySocket, error) {
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{})
	if err != nil {
		return nil, err
	}
	s := &NotifySocket{conn: conn, users: []int{0, os.Geteuid()}, ready: make(chan struct{}), early: map[int][]int{}}
	if a != nil {
		s.users = append(s.users, a.UID)
	}
	raw, err := conn.SyscallConn()
	if err == nil {
		var e error
		err = raw.Control(func(fd uintptr) { e = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_PASSCRED, 1) })
		if err == nil {
			err = e
		}
	}
	if err != nil {
		conn.Close()
		return nil, err
	}
	go raw.Read(s.drain) // until READY=1, or Close, which is no error
	return s, nil
}

// Name is what NOTIFY_SOCKET is to be set to.
func (s *NotifySocket) Name() string { return s.conn.LocalAddr().String() }

// SetCommand says which PID COMMAND has.
func (s *NotifySocket) SetCommand(pid int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.pid = pid
	if run := proc.Parent(pid); proc.Parent(run) == os.Getpid() {
		s.adopts = run // as a subreaper: its children are COMMAND and what became its own
	}
	for from, ancestors := range s.early {
		if s.descends(from, ancestors) {
			s.setReady()
		}
	}
	s.early = nil
}

// Ready is closed when COMMAND has said so.
func (s *NotifySocket) Ready() <-chan struct{} { return s.ready }

func (s *NotifySocket) setReady() {
	if !s.said {
		s.said = true
		close(s.ready)
	}
}

// Status is the last STATUS= of COMMAND.
func (s *NotifySocket) Status() string {
	if s == nil {
		return ""
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.status
}

func (s *NotifySocket) Close() error { return s.conn.Close() }

// drain reads all messages that are there. It reports whether there is nothing
// more to wait for.
func (s *NotifySocket) drain(fd uintptr) bool {
	var text [8192]byte
	var oob [1024]byte
	for {
		n, m, _, _, err := unix.RecvmsgBuffers(int(fd), [][]byte{text[:]}, oob[:], unix.MSG_DONTWAIT|unix.MSG_CMSG_CLOEXEC)
		switch {
		case err == unix.EAGAIN:
			return false
		case err == unix.EINTR:
		case err != nil:
			return true
		case s.hear(string(text[:n]), sender(oob[:m])):
			return true
		}
	}
}

// descends reports whether a process is COMMAND or descends from it.
func (s *NotifySocket) descends(pid int, ancestors []int) bool {
	return pid == s.pid || slices.Contains(ancestors, s.pid) || s.adopts != 0 && slices.Contains(ancestors, s.adopts)
}

// stranger reports whether a process is none of COMMAND's. One who floods us is not
// looked at each time.
func (s *NotifySocket) stranger(pid int) bool {
	if pid == s.no && time.Since(s.noTime) < 10*time.Millisecond {
		return true
	}
	if s.descends(pid, ancestors(pid)) {
		return false
	}
	s.no, s.noTime = pid, time.Now()
	return true
}

// ancestors returns a process's parent, its parent's and so on, but for PID 1.
func ancestors(pid int) (pids []int) {
	for range 100 { // what ends meanwhile could lead in a circle
		if pid = proc.Parent(pid); pid <= 1 {
			break
		}
		pids = append(pids, pid)
	}
	return pids
}

// hear takes a message. It reports whether COMMAND is ready.
func (s *NotifySocket) hear(text string, from *unix.Ucred) (ready bool) {
	if from == nil {
		return false
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	pid := int(from.Pid)
	trusted := pid == s.pid || slices.Contains(s.users, int(from.Uid))
	if !trusted && s.pid != 0 {
		if trusted = !s.stranger(pid); !trusted {
			return false
		}
	}
	for line := range strings.Lines(text) {
		line = strings.TrimSuffix(line, "\n")
		status, isStatus := strings.CutPrefix(line, "STATUS=")
		switch {
		case line == "READY=1" && trusted:
			s.setReady()
		case line == "READY=1" && len(s.early) < maxEarly:
			if _, known := s.early[pid]; !known {
				s.early[pid] = ancestors(pid)
			}
		case isStatus && trusted:
			s.status = status
		}
	}
	return s.said
}

// sender returns whom a message is from, nil if that cannot be told. Descriptors
// that came with it are closed.
func sender(oob []byte) (from *unix.Ucred) {
	messages, err := unix.ParseSocketControlMessage(oob)
	if err != nil {
		return nil
	}
	for i := range messages {
		if fds, err := unix.ParseUnixRights(&messages[i]); err == nil {
			for _, fd := range fds {
				unix.Close(fd)
			}
		}
		if who, err := unix.ParseUnixCredentials(&messages[i]); err == nil {
			from = who
		}
	}
	return from
}
