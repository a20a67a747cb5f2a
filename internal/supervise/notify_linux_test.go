package supervise

import (
	"fmt"
	"os"
	"os/exec"
	"syscall"
	"testing"
	"time"

	"github.com/go-pidfile/pidfile/internal/testproc"
	"golang.org/x/sys/unix"
)

func TestMain(m *testing.M) {
	if name := os.Getenv("SUPERVISE_TEST_FILL"); name != "" {
		fill(name)
	}
	os.Exit(testproc.Main(m))
}

// fill sends to a socket until it was full, or has been emptied as fast as that goes
// a million times, and exits.
func fill(name string) {
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	for range 1_000_000 {
		if err != nil {
			break
		}
		err = unix.Sendto(fd, []byte("READY=1\nSTATUS=no"), unix.MSG_DONTWAIT, &unix.SockaddrUnix{Name: name})
	}
	if err != nil && err != unix.EAGAIN {
		fmt.Println(err)
		os.Exit(1)
	}
	os.Exit(0)
}

// fillAsOther does that as a user who is neither root nor COMMAND's.
func fillAsOther(t *testing.T, name string) {
	t.Helper()
	c := exec.Command("/proc/self/exe") // which that user may run wherever it lies
	c.Env = []string{"SUPERVISE_TEST_FILL=" + name}
	c.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	if out, err := c.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
}

// TestNotifyBurst: the socket is emptied also as long as there is no COMMAND, so
// that one who does not insist finds room; and what COMMAND said before its PID
// was known counts, though it has become another user.
func TestNotifyBurst(t *testing.T) {
	testproc.Root(t)
	for i := range testproc.Rounds(40, 12, 4) {
		s, err := ListenNotify(nil)
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		fillAsOther(t, s.Name())
		fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			t.Fatal(err)
		}
		defer unix.Close(fd)
		s.mu.Lock()
		s.users = nil // as if we, who are COMMAND here, had become another user
		s.mu.Unlock()
		late := time.Now().Add(20 * time.Second)
		for unix.Sendto(fd, []byte("READY=1"), unix.MSG_DONTWAIT, &unix.SockaddrUnix{Name: s.Name()}) != nil {
			if time.Now().After(late) {
				t.Fatalf("%d: there is no room", i)
			}
			time.Sleep(time.Millisecond)
		}
		s.SetCommand(os.Getpid())
		select {
		case <-s.Ready():
		case <-time.After(20 * time.Second):
			t.Fatalf("%d: READY=1 was not heard", i)
		}
	}
	s, err := ListenNotify(nil)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	fillAsOther(t, s.Name())
	command := exec.Command(testproc.Tool(t, "sleep"), "1000") // of whom the other is no child
	testproc.Must(t, command.Start())
	defer func() { _ = command.Process.Kill(); _ = command.Wait() }()
	s.SetCommand(command.Process.Pid)
	fillAsOther(t, s.Name())
	select {
	case <-s.Ready():
		t.Error("another user's READY=1 was believed")
	case <-time.After(50 * time.Millisecond):
	}
}
