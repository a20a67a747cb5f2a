package supervise

import (
	"net"
	"os"
	"slices"
	"strings"
	"sync"

	"golang.org/x/sys/unix"
)

// A NotifySocket hears from COMMAND that it is ready: sd_notify(3).
//
// Everybody can send to it, and few messages fill it, unix(7): so it is emptied
// from the beginning on, as fast as that goes, and what is from others than those
// whom we hear is dropped at once.
type NotifySocket struct {
	conn  *net.UnixConn
	users []int
	ready chan struct{}

	mu     sync.Mutex
	pid    int          // COMMAND's, who may have become yet another user; 0: not known yet
	early  map[int]bool // other users' processes that said READY=1 before
	status string
	said   bool // ready is closed
}

// maxEarly bounds early: COMMAND's PID is known a moment after it has started.
const maxEarly = 1 << 16

// ListenNotify makes a socket in the abstract namespace, which every user can
// reach and which leaves no file. Its name is the kernel's choice, so that nobody
// can have taken it. The kernel says who sends, too: what is neither from root,
// nor from us, nor from COMMAND or its user is not heard.
func ListenNotify(a *Account) (*NotifySocket, error) {
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{})
	if err != nil {
		return nil, err
	}
	s := &NotifySocket{conn: conn, users: []int{0, os.Geteuid()}, ready: make(chan struct{}), early: map[int]bool{}}
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
	if s.early[pid] {
		s.setReady()
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

// hear takes a message. It reports whether COMMAND is ready.
func (s *NotifySocket) hear(text string, from *unix.Ucred) (ready bool) {
	if from == nil {
		return false
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	trusted := int(from.Pid) == s.pid || slices.Contains(s.users, int(from.Uid))
	if !trusted && s.pid != 0 {
		return false
	}
	for line := range strings.Lines(text) {
		line = strings.TrimSuffix(line, "\n")
		status, isStatus := strings.CutPrefix(line, "STATUS=")
		switch {
		case line == "READY=1" && trusted:
			s.setReady()
		case line == "READY=1" && len(s.early) < maxEarly:
			s.early[int(from.Pid)] = true
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
