//go:build linux

package main

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/go-pidfile/pidfile/internal/testproc"
	"golang.org/x/sys/unix"
)

func init() {
	switch os.Getenv("PIDFILE_TEST_HELPER") {
	case "flood": // sends without end to the socket that the first line of stdin names, and says so when that was full for the first time
		name, _ := bufio.NewReader(os.Stdin).ReadString('\n')
		to := &unix.SockaddrUnix{Name: strings.TrimSpace(name)}
		fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			panic(err)
		}
		full := false
		for n := 0; ; n++ {
			err := unix.Sendto(fd, []byte("READY=1\nSTATUS=no"), unix.MSG_DONTWAIT, to)
			if err == unix.ECONNREFUSED {
				os.Exit(0)
			}
			if (err == unix.EAGAIN || n == 1e6) && !full { // it is emptied as fast as we can fill it
				full = true
				fmt.Println("full")
			}
		}
	case "notify at gate": // reads $GATE, and says that it is ready as sd_notify(3) does
		if _, err := os.ReadFile(os.Getenv("GATE")); err != nil {
			panic(err)
		}
		fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
		if err == nil {
			err = unix.Sendto(fd, []byte("READY=1"), 0, &unix.SockaddrUnix{Name: os.Getenv("NOTIFY_SOCKET")})
		}
		fmt.Println("sent:", err)
		select {}
	}
}

// notifySocket waits until a process has a datagram socket with an abstract name,
// and returns that.
func notifySocket(t *testing.T, pid int) (name string) {
	t.Helper()
	testproc.Eventually(t, "a socket", func() bool {
		sockets, _ := os.ReadFile("/proc/net/unix") // Num RefCount Protocol Flags Type St Inode Path
		fds, _ := filepath.Glob(fmt.Sprintf("/proc/%d/fd/*", pid))
		for _, fd := range fds {
			link, _ := os.Readlink(fd)
			inode, isSocket := strings.CutPrefix(strings.TrimSuffix(link, "]"), "socket:[")
			for line := range strings.Lines(string(sockets)) {
				f := strings.Fields(line)
				if isSocket && len(f) == 8 && f[6] == inode {
					name = f[7]
				}
			}
		}
		return name != ""
	})
	return name
}

// flood starts to fill a socket as a user whom nobody knows, and returns when it
// was full once.
func flood(t *testing.T, helper, socket string) *exec.Cmd {
	t.Helper()
	c := exec.Command(helper)
	c.Env = append(os.Environ(), "PIDFILE_TEST_HELPER=flood")
	c.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	c.Stdin = strings.NewReader(socket + "\n")
	out, err := c.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	if _, err := bufio.NewReader(out).ReadString('\n'); err != nil {
		t.Fatal(err)
	}
	return c
}

// TestNotifyFlood: another user, who can send to the socket as everybody can, and
// fills it all the time, does not keep READY=1 from being heard.
func TestNotifyFlood(t *testing.T) {
	testproc.NotShort(t)
	_, helper := public(t)
	for i := range testproc.Rounds(40, 12, 4) {
		dir := t.TempDir()
		path, gate := filepath.Join(dir, "a.pid"), filepath.Join(dir, "gate")
		if err := unix.Mkfifo(gate, 0o600); err != nil {
			t.Fatal(err)
		}
		env, command := helperCommand(t, "notify at gate")
		c := exec.Command(binary, "start", "-t", "20s", "--ready", "notify", path, command)
		c.Env = append(env, "GATE="+gate)
		w := background(t, c)
		others := flood(t, helper, notifySocket(t, w.Process.Pid))
		if err := os.WriteFile(gate, nil, 0); err != nil {
			t.Fatal(err)
		}
		code := w.wait(t)
		_ = others.Process.Kill()
		_ = others.Wait()
		if code != 0 {
			t.Fatalf("%d: exit code %d", i, code)
		}
		call(t, "stop", path).exits(t, "stop", 0)
	}
}
