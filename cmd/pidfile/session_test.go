//go:build linux

package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"unsafe"

	"github.com/go-pidfile/pidfile/internal/testproc"
	"golang.org/x/sys/unix"
)

func init() {
	switch os.Getenv("PIDFILE_TEST_HELPER") {
	case "tiocsti": // types $TEXT into the terminal that it has, by each way to it, and writes to $LOG what came of that
		log, err := os.OpenFile(os.Getenv("LOG"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o666)
		if err != nil {
			panic(err)
		}
		fds := []int{0, 1, 2}
		if fd, err := unix.Open("/dev/tty", unix.O_RDWR, 0); err == nil {
			fds = append(fds, fd)
			fmt.Fprintln(log, "has /dev/tty")
		}
		for _, fd := range fds {
			_, _, _ = unix.Syscall(unix.SYS_IOCTL, uintptr(fd), unix.TIOCSCTTY, 0)
			for _, c := range []byte(os.Getenv("TEXT")) {
				if _, _, e := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), unix.TIOCSTI, uintptr(unsafe.Pointer(&c))); e != 0 {
					fmt.Fprintln(log, "TIOCSTI:", unix.ErrnoName(e))
					break
				}
				fmt.Fprintln(log, "typed")
			}
			// TIOCLINUX of a virtual console: select all, and paste.
			selection := append([]byte{2}, make([]byte, 11)...)
			for _, call := range [][]byte{selection, {3}} {
				_, _, _ = unix.Syscall(unix.SYS_IOCTL, uintptr(fd), unix.TIOCLINUX, uintptr(unsafe.Pointer(&call[0])))
			}
		}
		leader, _ := unix.Getsid(0)
		fmt.Fprintln(log, "session of its own:", leader == os.Getpid())
		os.Exit(0)
	}
}

// public makes a directory that every user may use, and in it a helper that every
// user may run: the directory of go test is root's own.
func public(t *testing.T) (dir, helper string) {
	t.Helper()
	testproc.Root(t)
	dir = t.TempDir()
	if err := os.Chmod(dir, 0o777); err != nil {
		t.Fatal(err)
	}
	for up := filepath.Dir(dir); up != filepath.Clean(os.TempDir()); up = filepath.Dir(up) {
		if err := os.Chmod(up, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	self, err := os.ReadFile("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	helper = filepath.Join(dir, "helper")
	if err := writeProgram(helper, self); err != nil {
		t.Fatal(err)
	}
	return dir, helper
}

// rootShell starts an interactive shell on a terminal, with what run needs to run
// the helper as another user.
func rootShell(t *testing.T, mode string) (*pseudoTerminal, *wrapper, string) {
	t.Helper()
	testproc.Root(t)
	testproc.Tool(t, "bash")
	dir, helper := public(t)
	p := newPseudoTerminal(t)
	c := exec.Command("bash", "--norc", "--noprofile", "-i")
	c.Env = append(os.Environ(), "LC_ALL=C", "TERM=dumb", "HOME="+dir, "HISTFILE=", "PS1=READY> ", "PIDFILE_TEST_HELPER="+mode,
		"LOG="+dir+"/log", "TEXT=touch "+dir+"/pwned\n", "P="+dir+"/a.pid", "COMMAND="+helper)
	shell := p.run(t, c)
	p.waitScreen(t, "READY> ")
	return p, shell, dir
}

const asOther = "--user 65533:65533 --env PIDFILE_TEST_HELPER --env LOG --env TEXT"

// TestTypeForRoot: what root runs as another user on a terminal cannot type for
// root's shell, which would run it.
func TestTypeForRoot(t *testing.T) {
	parallel(t)
	legacy, _ := os.ReadFile("/proc/sys/dev/tty/legacy_tiocsti")
	if strings.TrimSpace(string(legacy)) == "0" {
		t.Log("NOT TESTED: this kernel refuses TIOCSTI anyway (dev.tty.legacy_tiocsti=0); the session is")
	}
	for _, flags := range []string{"", "--group", "--tree", "--die-together"} {
		t.Run(flags, func(t *testing.T) {
			p, shell, dir := rootShell(t, "tiocsti")
			p.types(t, "pidfile run "+flags+" "+asOther+" $P $COMMAND; echo co''de-$?\n")
			p.waitScreen(t, "code-")
			p.types(t, "echo en''d\nexit 0\n")
			shell.wait(t)
			<-p.ended
			if !strings.Contains(p.shows(), "code-0") || !strings.Contains(p.shows(), "end") {
				t.Fatalf("the terminal shows %q", p.shows())
			}
			log, err := os.ReadFile(dir + "/log")
			if err != nil || !strings.Contains(string(log), "session of its own: true") ||
				strings.Contains(string(log), "typed") || strings.Contains(string(log), "has /dev/tty") {
				t.Errorf("COMMAND: %s, %v", log, err)
			}
			noFile(t, dir+"/pwned")
		})
	}
	// With --exec there would be nobody to leave the session for COMMAND.
	t.Run("--exec", func(t *testing.T) {
		p, shell, dir := rootShell(t, "tiocsti")
		p.types(t, "pidfile run --exec "+asOther+" $P $COMMAND; echo co''de-$?\n")
		p.waitScreen(t, "code-125")
		p.waitScreen(t, "on a terminal")
		p.types(t, "exit 0\n")
		shell.wait(t)
		noFile(t, dir+"/log")
		noFile(t, dir+"/pwned")
	})
	// Who leads the terminal's session himself has no shell behind him: as in a
	// container, the terminal is COMMAND's.
	t.Run("leader", func(t *testing.T) {
		testproc.Root(t)
		for _, flag := range []string{"--tree", "--exec"} {
			p := newPseudoTerminal(t)
			w := p.run(t, exec.Command(binary, "run", flag, "--user", "65533:65533", filepath.Join(t.TempDir(), "a.pid"), "sh", "-c", ": </dev/tty && echo has it"))
			if code := w.wait(t); code != 0 {
				t.Errorf("exit code %d: %s", code, p.shows())
			}
			<-p.ended
			if p.shows() != "has it\r\n" {
				t.Errorf("the terminal shows %q", p.shows())
			}
		}
	})
}

// TestKeysOfOtherUser: in its own session COMMAND is out of the keys' reach, but
// they do what they do: Ctrl-C and Ctrl-\ reach it and its children once, Ctrl-Z
// stops all, and fg has all go on.
func TestKeysOfOtherUser(t *testing.T) {
	parallel(t)
	p, shell, dir := rootShell(t, "signals")
	log := dir + "/log"
	p.types(t, "pidfile run "+asOther+" --env COMMAND $P sh -c '$COMMAND & exec $COMMAND'\n")
	testproc.Eventually(t, "COMMAND and its child", func() bool {
		text, _ := os.ReadFile(log)
		return strings.Count(string(text), "ready\n") == 2
	})
	pid := (&wrapper{path: dir + "/a.pid"}).command(t)
	child, wrapper := testproc.Children(pid)[0], parentOf(t, pid)
	got := func(signal string, n int) {
		t.Helper()
		testproc.Eventually(t, fmt.Sprintf("%s, %d in all", signal, n), func() bool {
			return strings.Count(strings.Join(logged(log), " "), signal) == n
		})
	}
	for i := range 3 {
		p.types(t, "\x03") // Ctrl-C
		got("SIGINT", 2*i+2)
		p.types(t, "\x1c") // Ctrl-\
		got("SIGQUIT", 2*i+2)
		p.types(t, "\x1a") // Ctrl-Z
		stopped(t, true, pid, child, wrapper)
		testproc.Eventually(t, "the shell's prompt", func() bool { return strings.Count(p.shows(), "Stopped") == i+1 })
		p.types(t, "fg\n")
		stopped(t, false, pid, child, wrapper)
		testproc.Eventually(t, "the foreground", func() bool { return foreground(p) == groupOf(wrapper) })
		got("SIGCONT", 2*i+2)
	}
	got("SIGINT", 6)
	got("SIGQUIT", 6)
	_ = unix.Kill(-pid, unix.SIGKILL) // COMMAND's group, a test's own
	testproc.Eventually(t, "end of the wrapper", func() bool { return !testproc.Alive(wrapper) })
	noFile(t, dir+"/a.pid")
	p.types(t, "exit 0\n")
	shell.wait(t)
}
