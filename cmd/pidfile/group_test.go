//go:build linux

package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/go-pidfile/pidfile/internal/testproc"
	"golang.org/x/sys/unix"
)

// TestGroupJobControl: with --group COMMAND's group has the terminal, so that it
// can read it and gets the keys; for the shell it is a job as any other.
func TestGroupJobControl(t *testing.T) {
	parallel(t)
	bash := testproc.Tool(t, "bash")
	p := newPseudoTerminal(t)
	dir := t.TempDir()
	path := filepath.Join(dir, "a.pid")
	c := exec.Command(bash, "--norc", "--noprofile", "-i")
	c.Env = append(os.Environ(), "TERM=dumb", "HOME="+dir, "HISTFILE=", "PS1=READY> ", "P="+path,
		`COMMAND=echo up; while read x; do echo "[$x]"; done`)
	shell := p.run(t, c)
	p.waitScreen(t, "READY> ")
	p.types(t, `pidfile run --group $P sh -c "$COMMAND"`+"\n")
	pid := (&wrapper{path: path}).command(t)
	parent := parentOf(t, pid)
	if groupOf(pid) != pid || groupOf(parent) == pid || parentOf(t, parent) != shell.Process.Pid {
		t.Fatalf("COMMAND %d is of group %d, its parent %d of group %d", pid, groupOf(pid), parent, groupOf(parent))
	}
	p.waitScreen(t, "up\r\n")
	for i := range 5 {
		testproc.Eventually(t, "COMMAND in the foreground", func() bool { return foreground(p) == pid })
		p.types(t, fmt.Sprintf("line %d\n", i))
		p.waitScreen(t, fmt.Sprintf("[line %d]\r\n", i))
		p.types(t, "\x1a") // Ctrl-Z
		stopped(t, true, pid, parent)
		testproc.Eventually(t, "the shell's prompt", func() bool { return strings.Count(p.shows(), "Stopped") == i+1 })
		testproc.Eventually(t, "the shell in the foreground", func() bool { return foreground(p) == shell.Process.Pid })
		if _, code := output(t, "status", path); code != 0 {
			t.Errorf("status of a stopped one exits %d", code)
		}
		p.types(t, "fg\n")
		stopped(t, false, pid, parent)
	}
	// In the background it is stopped when it reads, as any job is.
	p.types(t, "\x1a")
	stopped(t, true, pid, parent)
	testproc.Eventually(t, "the shell in the foreground", func() bool { return foreground(p) == shell.Process.Pid })
	p.types(t, "bg\n")
	asked := 0
	testproc.Eventually(t, "COMMAND in the foreground", func() bool {
		// The shell may take it back, since it sees late that it was stopped again.
		if n := strings.Count(p.shows(), "READY> "); foreground(p) == shell.Process.Pid && n > asked {
			asked = n
			p.types(t, "fg\n")
		}
		return foreground(p) == pid
	})
	p.types(t, "again\n")
	p.waitScreen(t, "[again]\r\n")

	p.types(t, "\x03") // Ctrl-C
	testproc.Eventually(t, "end of the wrapper", func() bool { return !testproc.Alive(parent) })
	noFile(t, path)
	p.types(t, "echo code-$?\n")
	p.waitScreen(t, "code-130\r\n")
	p.types(t, "exit 0\nexit 0\n")
	shell.wait(t)
}

// TestGroupWithoutJobControl: under a shell without it, or none, there is nobody
// to continue a stopped job, and after the run the terminal is whose it was.
func TestGroupWithoutJobControl(t *testing.T) {
	parallel(t)
	dir := t.TempDir()
	path, bad := filepath.Join(dir, "a.pid"), filepath.Join(dir, "bad")
	if err := writeProgram(bad, []byte("#!/no/such/interpreter\n")); err != nil {
		t.Fatal(err)
	}
	t.Run("no shell", func(t *testing.T) {
		p := newPseudoTerminal(t)
		w := p.run(t, exec.Command(binary, "run", "--group", path, "sh", "-c", `echo up; while read x; do echo "[$x]"; done`))
		p.waitScreen(t, "up\r\n")
		p.types(t, "\x1aone\n")
		p.waitScreen(t, "[one]\r\n")
		p.types(t, "\x03")
		if code := w.wait(t); code != 130 {
			t.Errorf("exit code %d, want 130", code)
		}
		noFile(t, path)
	})
	for name, command := range map[string]string{"ends": "true", "cannot be executed": bad} {
		t.Run(name, func(t *testing.T) {
			p := newPseudoTerminal(t)
			w := p.run(t, exec.Command("sh", "-c", `"$0" run --group "$@"; echo up; read x; echo "[$x]"`, binary, path, command))
			p.waitScreen(t, "up\r\n")
			p.types(t, "one\n")
			p.waitScreen(t, "[one]\r\n")
			w.wait(t)
		})
	}
}

// TestLaunchShows: start and restart on a terminal.
func TestLaunchShows(t *testing.T) {
	parallel(t)
	dir := t.TempDir()
	path := filepath.Join(dir, "a.pid")
	t.Run("start", func(t *testing.T) {
		path := path + ".pid" // which ends with this test
		p := newPseudoTerminal(t)
		w := p.run(t, exec.Command(binary, "start", "--ready", "1s", path, "sleep", "1000"))
		p.waitScreen(t, "to have lived for 1s: 0s")
		if code := w.wait(t); code != 0 {
			t.Errorf("exit code %d: %q", code, p.shows())
		}
		<-p.ended // nobody has the terminal
		call(t, "stop", path).exits(t, "stop", 0)
	})
	t.Run("broken off", func(t *testing.T) {
		if _, code := output(t, "start", "-q", path, "sh", "-c", "trap '' TERM; while :; do sleep .05; done"); code != 0 {
			t.Fatal("start fails")
		}
		pid := (&wrapper{path: path}).command(t)
		p := newPseudoTerminal(t)
		w := p.run(t, exec.Command(binary, "restart", "--kill-after", "1h", path, "sleep", "1000"))
		p.waitScreen(t, "of 1h for PID")
		p.types(t, "\x03")
		if code := w.wait(t); code != 130 {
			t.Errorf("exit code %d, want 130: %q", code, p.shows())
		}
		<-p.ended
		if now := (&wrapper{path: path}).command(t); now != pid || !testproc.Alive(pid) {
			t.Errorf("PID %d runs, want %d", now, pid)
		}
		if _, code := output(t, "stop", "-t", "0", path); code != 0 {
			t.Errorf("stop exits %d", code)
		}
	})
	t.Run("interrupted before it is ready", func(t *testing.T) {
		p := newPseudoTerminal(t)
		w := p.run(t, exec.Command(binary, "start", "--ready", "1h", "-t", "2h", path, "sleep", "1000"))
		p.waitScreen(t, "to have lived for 1h0m0s")
		w.signal(t, unix.SIGTERM)
		if code := w.wait(t); code != 143 {
			t.Errorf("exit code %d, want 143: %q", code, p.shows())
		}
		if _, code := output(t, "stop", path); code != 0 {
			t.Errorf("stop exits %d", code)
		}
		noFile(t, path)
	})
}
