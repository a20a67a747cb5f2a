//go:build linux

package main

import (
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strconv"
	"syscall"
	"testing"

	"github.com/go-pidfile/pidfile/internal/testproc"
	"golang.org/x/sys/unix"
)

// catchable are all signals that a process can catch, but for the two that the C
// library keeps for itself, and those that Go's runtime keeps: see
// TestRuntimeSignals.
func catchable() (sigs []syscall.Signal) {
	for sig := syscall.Signal(1); sig <= 64; sig++ {
		switch sig {
		case unix.SIGKILL, unix.SIGSTOP, unix.SIGURG, unix.SIGPROF, 32, 33, 34:
		default:
			sigs = append(sigs, sig)
		}
	}
	return sigs
}

// logAllSignals is a COMMAND: see helper.
func logAllSignals() {
	c := make(chan os.Signal, 1024)
	for _, sig := range catchable() {
		signal.Notify(c, sig)
	}
	log, err := os.OpenFile(os.Getenv("LOG"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		panic(err)
	}
	fmt.Fprintln(log, "ready")
	for sig := range c {
		fmt.Fprintln(log, int(sig.(syscall.Signal)))
	}
}

// TestAllSignals: COMMAND gets every signal that can be caught, once and in order, as
// if it had been sent to COMMAND itself.
func TestAllSignals(t *testing.T) {
	parallel(t)
	for _, args := range [][]string{nil, {"--group"}, {"--tree"}} {
		t.Run(fmt.Sprint(args), func(t *testing.T) {
			dir := t.TempDir()
			path, log := filepath.Join(dir, "a.pid"), filepath.Join(dir, "log")
			env, command := helperCommand(t, "all signals")
			w := prepare(t, path)
			w.Args = append(append([]string{binary, "run"}, args...), path, command)
			w.Env = append(env, "LOG="+log)
			w.begin(t)
			awaitReady(t, log)
			var want []string
			for _, sig := range catchable() {
				w.signal(t, sig)
				want = append(want, strconv.Itoa(int(sig)))
				if !testproc.Until(func() bool { return len(logged(log)) >= len(want) }) {
					t.Fatalf("COMMAND did not get signal %d (%v)", int(sig), sig)
				}
			}
			sees(t, log, want...)
			kill(t, w.command(t), unix.SIGKILL)
			if code := w.wait(t); code != 137 {
				t.Errorf("exit code %d, want 137; stderr: %s", code, &w.stderr)
			}
		})
	}
}

// TestRuntimeSignals: URG, which Go's runtime sends itself, is passed on only where
// somebody sent it, and so are PROF and RTMIN.
func TestRuntimeSignals(t *testing.T) {
	parallel(t)
	dir := t.TempDir()
	path, log := filepath.Join(dir, "a.pid"), filepath.Join(dir, "log")
	w := start(t, path, "sh", "-c", `for s in URG PROF 34 USR1; do trap "echo $s >>'$1'" $s; done; echo ready >"$1"; while :; do sleep .02; done`, "sh", log)
	awaitReady(t, log)
	w.signal(t, unix.SIGURG)
	testproc.Eventually(t, "URG", func() bool { return slices.Contains(logged(log), "URG") })
	w.signal(t, unix.SIGPROF)
	testproc.Eventually(t, "PROF", func() bool { return slices.Contains(logged(log), "PROF") })
	w.signal(t, syscall.Signal(34))
	testproc.Eventually(t, "RTMIN", func() bool { return slices.Contains(logged(log), "34") })
	w.signal(t, unix.SIGUSR1)
	sees(t, log, "URG", "PROF", "34", "USR1")
	kill(t, w.command(t), unix.SIGKILL)
	w.wait(t)
}

// TestStopByHand: a COMMAND that a signal stops stops with the wrapper that got it, as
// one job, and both go on by one CONT; one that catches it does not stop the wrapper.
func TestStopByHand(t *testing.T) {
	parallel(t)
	sh := testproc.Tool(t, "sh")
	for _, sig := range []syscall.Signal{unix.SIGTSTP, unix.SIGTTIN, unix.SIGTTOU} {
		path := filepath.Join(t.TempDir(), "a.pid")
		w := prepare(t, path, sh, "-c", "while :; do sleep .02; done")
		// A job: in a group of its own, whose parent is in the session.
		w.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
		w.begin(t)
		pid := w.command(t)
		w.signal(t, sig)
		stopped(t, true, pid, w.Process.Pid)
		w.signal(t, unix.SIGCONT)
		stopped(t, false, pid, w.Process.Pid)
		w.stop(t)
	}
}

// TestPipeSignal: PIPE is passed on if it was sent, and not if the wrapper has brought
// it on itself, also once it has told something.
func TestPipeSignal(t *testing.T) {
	parallel(t)
	dir := t.TempDir()
	path, log := filepath.Join(dir, "a.pid"), filepath.Join(dir, "log")
	env, command := helperCommand(t, "all signals")
	c := exec.Command(binary, "run", path, command)
	c.Env = append(env, "LOG="+log)
	r, told, err := os.Pipe()
	testproc.Must(t, err)
	c.Stderr = told
	w := &wrapper{Cmd: c, path: path, ended: make(chan struct{})}
	testproc.Must(t, c.Start())
	told.Close()
	go func() { w.err = c.Wait(); close(w.ended) }()
	t.Cleanup(func() { _ = c.Process.Kill(); <-w.ended })
	awaitReady(t, log)
	pid := w.command(t)
	w.signal(t, unix.SIGPIPE)
	sees(t, log, "13")
	r.Close() // nobody hears that the file is put back
	testproc.Eventually(t, "the file is put back", func() bool {
		_ = os.Remove(path)
		return testproc.Until(func() bool { _, err := os.Stat(path); return err == nil })
	})
	w.signal(t, unix.SIGPIPE)
	sees(t, log, "13", "13")
	kill(t, pid, unix.SIGKILL)
	if code := w.wait(t); code != 137 {
		t.Errorf("exit code %d, want 137", code)
	}
}
