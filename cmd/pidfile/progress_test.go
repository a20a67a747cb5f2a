//go:build linux

package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/go-pidfile/pidfile/internal/testproc"
)

func TestSpan(t *testing.T) {
	for d, want := range map[time.Duration]string{
		time.Minute: "1m", time.Hour: "1h", 90 * time.Second: "1m30s", 10 * time.Second: "10s",
		time.Hour + time.Second: "1h0m1s", 1200 * time.Millisecond: "1.2s", 20 * time.Minute: "20m",
	} {
		if got := span(d); got != want {
			t.Errorf("span(%v) = %q, want %q", d, got, want)
		}
	}
}

// TestProgressBackground: a waiter in the background leaves the terminal to the one
// who types there, and draws again once it is in the foreground.
func TestProgressBackground(t *testing.T) {
	parallel(t)
	bash := testproc.Tool(t, "bash")
	holder := start(t, filepath.Join(t.TempDir(), "a.pid"), "sh", "-c", "read x; exit 0")
	holder.command(t)
	p := newPseudoTerminal(t)
	c := exec.Command(bash, "--norc", "--noprofile", "-i")
	c.Env = append(os.Environ(), "TERM=xterm", "HOME="+t.TempDir(), "HISTFILE=", "PS1=READY> ", "P="+holder.path)
	shell := p.run(t, c)
	p.waitScreen(t, "READY> ")
	p.types(t, "pidfile run --wait $P true &\n")
	testproc.Eventually(t, "a waiter", func() bool { return testproc.Blocked(holder.path) == 1 })
	time.Sleep(3 * progressDelay) // it would have drawn by now
	if strings.Contains(p.shows(), "waiting") {
		t.Errorf("drawn in the background: %q", p.shows())
	}
	p.types(t, "fg\n")
	p.waitScreen(t, "s for PID ")
	p.types(t, "\x1a") // Ctrl-Z
	p.waitScreen(t, "Stopped")
	p.types(t, "bg\n")
	p.waitScreen(t, "]+ pidfile run")
	before := strings.Count(p.shows(), "waiting")
	time.Sleep(1500 * time.Millisecond)
	if strings.Count(p.shows(), "waiting") != before {
		t.Errorf("drawn in the background after bg: %q", p.shows())
	}
	holder.stdin.Close()
	holder.wait(t)
	p.types(t, "wait; exit 0\nexit 0\n")
	shell.wait(t)
}

// TestProgressNever: neither a short wait nor a terminal that cannot erase shows one.
func TestProgressNever(t *testing.T) {
	parallel(t)
	path := filepath.Join(t.TempDir(), "a.pid")
	p := newPseudoTerminal(t)
	w := p.run(t, exec.Command(binary, "run", "-w", path, "true"))
	w.wait(t)
	<-p.ended
	if got := p.shows(); got != "" {
		t.Errorf("a free file: the terminal shows %q", got)
	}
	holder := start(t, path, "sh", "-c", "read x; exit 0")
	holder.command(t)
	p = newPseudoTerminal(t)
	c := exec.Command(binary, "run", "-t", "700ms", path, "true")
	c.Env = append(os.Environ(), "TERM=dumb")
	w = p.run(t, c)
	w.wait(t)
	<-p.ended
	if got := p.shows(); strings.Contains(got, "waiting") || strings.Contains(got, "\x1b") {
		t.Errorf("a dumb terminal shows %q", got)
	}
	holder.stdin.Close()
	holder.wait(t)
}
