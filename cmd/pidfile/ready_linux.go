package main

import (
	"net"
	"os"
	"slices"
	"strings"
	"sync"

	"golang.org/x/sys/unix"
)

// A readySocket hears from COMMAND that it is ready: sd_notify(3).
type readySocket struct {
	conn  *net.UnixConn
	users []int
	pid   int // COMMAND's, who may have become yet another user
	ready chan struct{}

	mu     sync.Mutex
	status string
}

// listenReady makes a socket in the abstract namespace, which every user can
// reach and which leaves no file. Its name is the kernel's choice, so that nobody
// can have taken it. The kernel says who sends, too: what is neither from root,
// nor from us, nor from COMMAND or its user is not heard.
func listenReady(a *account) (*readySocket, error) {
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{})
	if err != nil {
		return nil, err
	}
	s := &readySocket{conn: conn, users: []int{0, os.Geteuid()}, ready: make(chan struct{})}
	if a != nil {
		s.users = append(s.users, a.uid)
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
	return s, nil
}

// Name is what NOTIFY_SOCKET is to be set to.
func (s *readySocket) Name() string { return s.conn.LocalAddr().String() }

// Listen begins to hear COMMAND, whose PID is pid. What came before waits.
func (s *readySocket) Listen(pid int) {
	s.pid = pid
	go s.listen()
}

// Ready is closed when COMMAND has said so.
func (s *readySocket) Ready() <-chan struct{} { return s.ready }

// Status is the last STATUS= of COMMAND.
func (s *readySocket) Status() string {
	if s == nil {
		return ""
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.status
}

func (s *readySocket) Close() error { return s.conn.Close() }

// listen reads messages until READY=1 or Close.
func (s *readySocket) listen() {
	text, oob := make([]byte, 8192), make([]byte, 1024)
	for {
		n, m, _, _, err := s.conn.ReadMsgUnix(text, oob)
		if err != nil {
			return
		}
		if !s.trusts(oob[:m]) {
			continue
		}
		for line := range strings.Lines(string(text[:n])) {
			line = strings.TrimSuffix(line, "\n")
			if status, ok := strings.CutPrefix(line, "STATUS="); ok {
				s.mu.Lock()
				s.status = status
				s.mu.Unlock()
			}
			if line == "READY=1" {
				close(s.ready)
				return
			}
		}
	}
}

// trusts reports whether a message is from one whom we hear. Descriptors that
// came with it are closed.
func (s *readySocket) trusts(oob []byte) (trusted bool) {
	messages, err := unix.ParseSocketControlMessage(oob)
	if err != nil {
		return false
	}
	for i := range messages {
		if fds, err := unix.ParseUnixRights(&messages[i]); err == nil {
			for _, fd := range fds {
				unix.Close(fd)
			}
		}
		if who, err := unix.ParseUnixCredentials(&messages[i]); err == nil {
			trusted = trusted || int(who.Pid) == s.pid || slices.Contains(s.users, int(who.Uid))
		}
	}
	return trusted
}
