//go:build linux

package main

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/go-pidfile/pidfile/internal/testproc"
	"golang.org/x/sys/unix"
)

// A pseudoTerminal is a terminal whose keyboard and screen are the test's.
type pseudoTerminal struct {
	fd       int // of keyboard
	keyboard *os.File
	tty      *os.File

	mu     sync.Mutex
	screen bytes.Buffer
	ended  chan struct{} // nobody has it open any more
}

func newPseudoTerminal(t *testing.T) *pseudoTerminal {
	t.Helper()
	fd, err := unix.Open("/dev/ptmx", unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		testproc.Skip(t, "pseudoterminals", err)
	}
	// Not Fd: it would make the reads block, and Close wait for them.
	keyboard := os.NewFile(uintptr(fd), "/dev/ptmx")
	if err := unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	n, err := unix.IoctlGetInt(fd, unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	tty, err := os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		testproc.Skip(t, "pseudoterminals", err)
	}
	p := &pseudoTerminal{fd: fd, keyboard: keyboard, tty: tty, ended: make(chan struct{})}
	p.resize(t, 80)
	go p.watch()
	t.Cleanup(func() { tty.Close(); keyboard.Close() })
	return p
}

func (p *pseudoTerminal) watch() {
	defer close(p.ended)
	buf := make([]byte, 4096)
	for {
		n, err := p.keyboard.Read(buf)
		p.mu.Lock()
		p.screen.Write(buf[:n])
		p.mu.Unlock()
		if err != nil {
			return // EIO: the last one has closed it
		}
	}
}

func (p *pseudoTerminal) resize(t *testing.T, width uint16) {
	t.Helper()
	if err := unix.IoctlSetWinsize(p.fd, unix.TIOCSWINSZ, &unix.Winsize{Row: 24, Col: width}); err != nil {
		t.Fatal(err)
	}
}

func (p *pseudoTerminal) shows() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.screen.String()
}

func (p *pseudoTerminal) types(t *testing.T, keys string) {
	t.Helper()
	if _, err := p.keyboard.WriteString(keys); err != nil {
		t.Fatal(err)
	}
}

// run starts c as the leader of a session on this terminal. The test keeps the
// keyboard only, so that ended tells when all is over.
func (p *pseudoTerminal) run(t *testing.T, c *exec.Cmd) *wrapper {
	t.Helper()
	c.Stdin, c.Stdout, c.Stderr = p.tty, p.tty, p.tty
	c.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	w := &wrapper{Cmd: c, ended: make(chan struct{})}
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	p.tty.Close()
	go func() {
		w.err = c.Wait()
		close(w.ended)
	}()
	t.Cleanup(func() {
		_ = c.Process.Kill()
		<-w.ended
		killOrphans()
	})
	return w
}

func (p *pseudoTerminal) waitScreen(t *testing.T, text string) {
	t.Helper()
	if !testproc.Until(func() bool { return strings.Contains(p.shows(), text) }) {
		t.Fatalf("the terminal does not show %q, but %q", text, p.shows())
	}
}

// TestKeys: the terminal's keys send a signal to the whole foreground group, and
// so to COMMAND too: it is not passed on as well. What kill(1) sends is.
func TestKeys(t *testing.T) {
	parallel(t)
	p := newPseudoTerminal(t)
	dir := t.TempDir()
	path, log := filepath.Join(dir, "a.pid"), filepath.Join(dir, "log")
	env, command := helperCommand(t, "signals")
	c := exec.Command(binary, "run", path, command)
	c.Env = append(env, "LOG="+log)
	w := p.run(t, c)
	awaitReady(t, log)
	pid := (&wrapper{path: path}).command(t)
	var want []string
	for range 5 {
		for _, event := range []struct {
			send func()
			name string
		}{
			{func() { p.types(t, "\x03") }, "SIGINT"},
			{func() { w.signal(t, unix.SIGINT) }, "SIGINT"},
			{func() { p.types(t, "\x1c") }, "SIGQUIT"},
			{func() { w.signal(t, unix.SIGQUIT) }, "SIGQUIT"},
			{func() { p.resize(t, 100+uint16(len(want))) }, "SIGWINCH"},
			{func() { w.signal(t, unix.SIGWINCH) }, "SIGWINCH"},
			{func() { w.signal(t, unix.SIGHUP) }, "SIGHUP"},
		} {
			event.send()
			want = append(want, event.name)
			// It must be there before the mark is sent: a signal that is
			// pending twice is one.
			sees(t, log, want...)
			// The wrapper takes signals in turn, lower numbers first of those
			// that are pending: the mark is the last to come.
			testproc.Eventually(t, "nothing pending", func() bool { return !pending(w.Process.Pid) })
			w.signal(t, unix.SIGUSR2)
			want = append(want, "SIGUSR2")
			sees(t, log, want...)
		}
	}
	kill(t, pid, unix.SIGKILL)
	if code := w.wait(t); code != 137 {
		t.Errorf("exit code %d, want 137: %s", code, p.shows())
	}
	noFile(t, path)
}

// TestCtrlC: what a user sees who breaks off a run.
func TestCtrlC(t *testing.T) {
	parallel(t)
	p := newPseudoTerminal(t)
	path := filepath.Join(t.TempDir(), "a.pid")
	w := p.run(t, exec.Command(binary, "run", path, "sleep", "1000"))
	(&wrapper{path: path}).command(t)
	p.types(t, "\x03")
	if code := w.wait(t); code != 130 {
		t.Errorf("exit code %d, want 130", code)
	}
	noFile(t, path)
	<-p.ended
	if got := p.shows(); got != "^C" {
		t.Errorf("the terminal shows %q", got)
	}
}

// TestHangUp: a terminal that goes away sends HUP to its session's leader only.
// If that is pidfile, COMMAND must hear of it; if it is a shell, the shell's end
// sends it to both, and COMMAND gets it once.
func TestHangUp(t *testing.T) {
	parallel(t)
	t.Run("leader", func(t *testing.T) {
		p := newPseudoTerminal(t)
		dir := t.TempDir()
		path, log := filepath.Join(dir, "a.pid"), filepath.Join(dir, "log")
		env, command := helperCommand(t, "signals")
		c := exec.Command(binary, "run", path, command)
		c.Env = append(env, "LOG="+log)
		w := p.run(t, c)
		awaitReady(t, log)
		p.keyboard.Close()
		testproc.Eventually(t, "a HUP", func() bool { return slices.Contains(logged(log), "SIGHUP") })
		w.signal(t, unix.SIGUSR2)
		testproc.Eventually(t, "the mark", func() bool { return slices.Contains(logged(log), "SIGUSR2") })
		if n := strings.Count(strings.Join(logged(log), " "), "SIGHUP"); n != 1 {
			t.Errorf("COMMAND got %v", logged(log))
		}
	})
	t.Run("shell", func(t *testing.T) {
		p := newPseudoTerminal(t)
		dir := t.TempDir()
		path, log := filepath.Join(dir, "a.pid"), filepath.Join(dir, "log")
		env, command := helperCommand(t, "signals")
		// The shell runs it in its own group, and ends by the HUP.
		c := exec.Command("sh", "-c", `"$0" run "$@" & echo $! >"$LOG.pid"; wait`, binary, path, command)
		c.Env = append(env, "LOG="+log)
		w := p.run(t, c)
		awaitReady(t, log)
		text, _ := os.ReadFile(log + ".pid")
		pid, err := strconv.Atoi(strings.TrimSpace(string(text)))
		if err != nil {
			t.Fatal(err)
		}
		p.keyboard.Close()
		w.wait(t)
		testproc.Eventually(t, "a HUP", func() bool { return slices.Contains(logged(log), "SIGHUP") })
		testproc.Eventually(t, "nothing pending", func() bool { return !pending(pid) })
		if err := unix.Kill(pid, unix.SIGUSR2); err != nil {
			t.Fatal(err)
		}
		testproc.Eventually(t, "the mark", func() bool { return slices.Contains(logged(log), "SIGUSR2") })
		if n := strings.Count(strings.Join(logged(log), " "), "SIGHUP"); n != 1 {
			t.Errorf("COMMAND got %v", logged(log))
		}
	})
}

// TestJobControl: under an interactive shell Ctrl-Z stops both, fg and bg let
// both go on, and Ctrl-C reaches COMMAND once.
func TestJobControl(t *testing.T) {
	parallel(t)
	bash := testproc.Tool(t, "bash")
	p := newPseudoTerminal(t)
	dir := t.TempDir()
	path, log := filepath.Join(dir, "a.pid"), filepath.Join(dir, "log")
	env, command := helperCommand(t, "signals")
	c := exec.Command(bash, "--norc", "--noprofile", "-i")
	c.Env = append(env, "LOG="+log, "TERM=dumb", "HOME="+dir, "HISTFILE=", "PS1=READY> ", "COMMAND="+command, "P="+path)
	shell := p.run(t, c)
	p.waitScreen(t, "READY> ")
	p.types(t, "pidfile run $P $COMMAND\n")
	awaitReady(t, log)
	pid := (&wrapper{path: path}).command(t)
	parent := parentOf(t, pid)
	if parentOf(t, parent) != shell.Process.Pid {
		t.Fatalf("COMMAND's parent %d is not the shell's child", parent)
	}
	for i := range 3 {
		p.types(t, "\x1a") // Ctrl-Z
		stopped(t, true, pid, parent)
		testproc.Eventually(t, "the shell's prompt", func() bool { return strings.Count(p.shows(), "Stopped") == i+1 })
		if _, code := output(t, "status", path); code != 0 {
			t.Errorf("status of a stopped one exits %d", code)
		}
		p.types(t, "fg\n")
		stopped(t, false, pid, parent)
		testproc.Eventually(t, "the foreground", func() bool { return foreground(p) == groupOf(parent) })
		before := slices.DeleteFunc(logged(log), func(s string) bool { return s == "SIGCONT" })
		p.types(t, "\x03") // Ctrl-C
		testproc.Eventually(t, "INT", func() bool { return strings.Count(strings.Join(logged(log), " "), "SIGINT") > i })
		testproc.Eventually(t, "nothing pending", func() bool { return !pending(parent) })
		if err := unix.Kill(parent, unix.SIGUSR1); err != nil {
			t.Fatal(err)
		}
		want := append(before, "SIGINT", "SIGUSR1")
		testproc.Eventually(t, "the mark", func() bool { return strings.Count(strings.Join(logged(log), " "), "SIGUSR1") > i })
		if got := slices.DeleteFunc(logged(log), func(s string) bool { return s == "SIGCONT" }); !slices.Equal(got, want) {
			t.Errorf("COMMAND got %v, want %v", got, want)
		}
	}
	if !slices.Contains(logged(log), "SIGCONT") {
		t.Error("COMMAND was never told to go on")
	}
	// In the background the keys are not for us, and kill(1) reaches it still.
	p.types(t, "\x1a")
	stopped(t, true, pid, parent)
	p.types(t, "bg\n")
	stopped(t, false, pid, parent)
	if err := unix.Kill(parent, unix.SIGINT); err != nil {
		t.Fatal(err)
	}
	testproc.Eventually(t, "INT", func() bool { return strings.Count(strings.Join(logged(log), " "), "SIGINT") == 4 })
	kill(t, pid, unix.SIGKILL)
	testproc.Eventually(t, "end of the wrapper", func() bool { return !testproc.Alive(parent) })
	noFile(t, path)
	p.types(t, "exit 0\nexit 0\n")
	shell.wait(t)
}

// foreground is the terminal's foreground process group.
func foreground(p *pseudoTerminal) int {
	group, err := unix.IoctlGetInt(p.fd, unix.TIOCGPGRP)
	if err != nil {
		return -2
	}
	return group
}

// TestInteractiveShell: COMMAND may be a shell with job control of its own.
func TestInteractiveShell(t *testing.T) {
	parallel(t)
	bash := testproc.Tool(t, "bash")
	p := newPseudoTerminal(t)
	dir := t.TempDir()
	path := filepath.Join(dir, "a.pid")
	c := exec.Command(binary, "run", path, bash, "--norc", "--noprofile", "-i")
	c.Env = append(os.Environ(), "TERM=dumb", "HOME="+dir, "HISTFILE=", "PS1=READY> ")
	w := p.run(t, c)
	p.waitScreen(t, "READY> ")
	p.types(t, "read -p 'line'': ' x; echo code-$?\n")
	p.waitScreen(t, "line: ")
	p.types(t, "\x03") // breaks off the shell's line, not the shell
	testproc.Eventually(t, "a second prompt", func() bool { return strings.Count(p.shows(), "READY> ") >= 2 })
	// Not before it says so: until then it is bash's child, and may not mind Ctrl-C.
	p.types(t, "sh -c 'printf u%s p; exec sleep 1000'\n")
	p.waitScreen(t, "up")
	pid := (&wrapper{path: path}).command(t)
	testproc.Eventually(t, "sleep in the foreground", func() bool { g := foreground(p); return g > 0 && g != groupOf(pid) && g != groupOf(w.Process.Pid) })
	p.types(t, "\x03")
	testproc.Eventually(t, "the shell in the foreground", func() bool { return foreground(p) == groupOf(pid) })
	p.types(t, "exit 9\n")
	if code := w.wait(t); code != 9 {
		t.Errorf("exit code %d, want 9: %q", code, p.shows())
	}
	noFile(t, path)
}

// TestProgress: on a terminal a wait shows whom it waits for, and takes that away.
func TestProgress(t *testing.T) {
	parallel(t)
	const erase = "\r\x1b[K"
	hold := func(t *testing.T) (*wrapper, int) {
		w := start(t, filepath.Join(t.TempDir(), "a.pid"), "sh", "-c", "read x; exit 0")
		return w, w.command(t)
	}
	t.Run("wait", func(t *testing.T) {
		holder, pid := hold(t)
		p := newPseudoTerminal(t)
		w := p.run(t, exec.Command(binary, "run", "-w", holder.path, "echo", "output"))
		p.waitScreen(t, fmt.Sprintf("s for PID %d (sh -c read x; exit 0, up ", pid))
		testproc.Eventually(t, "a waiter", func() bool { return testproc.Blocked(holder.path) == 1 })
		holder.stdin.Close()
		if code := w.wait(t); code != 0 {
			t.Errorf("exit code %d", code)
		}
		<-p.ended
		screen := p.shows()
		if strings.Contains(screen[:strings.LastIndex(screen, erase)], "output") || !strings.HasSuffix(screen, "\x1b[K"+erase+"output\r\n") {
			t.Errorf("the terminal shows %q", screen)
		}
	})
	t.Run("narrow", func(t *testing.T) {
		holder, _ := hold(t)
		p := newPseudoTerminal(t)
		p.resize(t, 30)
		w := p.run(t, exec.Command(binary, "run", "-w", holder.path, "true"))
		p.waitScreen(t, "pidfile: waiting")
		testproc.Eventually(t, "a waiter", func() bool { return testproc.Blocked(holder.path) == 1 })
		holder.stdin.Close()
		w.wait(t)
		<-p.ended
		for line := range strings.SplitSeq(p.shows(), "\r") {
			if n := columns(strings.TrimSuffix(line, "\x1b[K")); n > 29 {
				t.Errorf("%d columns of 30: %q", n, line)
			}
		}
	})
	t.Run("timeout", func(t *testing.T) {
		holder, pid := hold(t)
		p := newPseudoTerminal(t)
		w := p.run(t, exec.Command(binary, "run", "-t", "1200ms", holder.path, "true"))
		if code := w.wait(t); code != 75 {
			t.Errorf("exit code %d, want 75", code)
		}
		<-p.ended
		screen := p.shows()
		if !strings.Contains(screen, "waiting 0s of 1.2s for PID ") || !strings.Contains(screen, "waiting 1s of 1.2s for PID ") {
			t.Errorf("the time is not shown: %q", screen)
		}
		if !strings.Contains(screen, erase+"pidfile: error: "+holder.path+": already running: PID "+strconv.Itoa(pid)) {
			t.Errorf("the line is not taken away before the error: %q", screen)
		}
		holder.stdin.Close()
		holder.wait(t)
	})
	t.Run("quiet", func(t *testing.T) {
		holder, _ := hold(t)
		p := newPseudoTerminal(t)
		w := p.run(t, exec.Command(binary, "run", "-w", "-q", holder.path, "true"))
		testproc.Eventually(t, "a waiter", func() bool { return testproc.Blocked(holder.path) == 1 })
		holder.stdin.Close()
		w.wait(t)
		<-p.ended
		if got := p.shows(); got != "" {
			t.Errorf("the terminal shows %q", got)
		}
	})
	t.Run("broken off", func(t *testing.T) {
		holder, _ := hold(t)
		p := newPseudoTerminal(t)
		w := p.run(t, exec.Command(binary, "run", "-w", holder.path, "true"))
		p.waitScreen(t, "waiting ")
		testproc.Eventually(t, "a waiter", func() bool { return testproc.Blocked(holder.path) == 1 })
		p.types(t, "\x03")
		if code := w.wait(t); code != 130 {
			t.Errorf("exit code %d, want 130", code)
		}
		if _, code := output(t, "status", holder.path); code != 0 {
			t.Errorf("status exits %d", code)
		}
		holder.stdin.Close()
		holder.wait(t)
	})
}
