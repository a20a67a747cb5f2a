package main

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"

	"github.com/go-pidfile/pidfile/bench/peers"
	"golang.org/x/sys/unix"
)

// A worker is a process that uses one peer: see worker/main.go for what it is
// told and what it answers.
type worker struct {
	cmd *exec.Cmd
	in  io.WriteCloser
	out *bufio.Reader
}

// available says whether a peer's worker can run here.
func (b *bench) available(l *peers.Lock) bool {
	switch l.Worker {
	case peers.LibBSD:
		_, err := os.Stat(b.tool("worker-libbsd"))
		return err == nil
	case peers.Python:
		return b.python != ""
	}
	return true
}

// start starts a worker, under a command if one is given.
func (b *bench) start(l *peers.Lock, under ...string) (*worker, error) {
	argv := append(under, b.tool("worker"), l.Name)
	switch l.Worker {
	case peers.LibBSD:
		argv = append(under, b.tool("worker-libbsd"), l.Name)
	case peers.Python:
		argv = append(under, b.python, "-u", b.script, l.Name)
	}
	w, err := spawn(argv, false)
	if err == nil {
		b.mu.Lock()
		b.live = append(b.live, w)
		b.mu.Unlock()
	}
	return w, err
}

// dismiss ends all workers.
func (b *bench) dismiss() {
	for _, w := range b.live {
		w.kill()
	}
	b.live = nil
}

// spawn starts a process whose input we write and whose output we read, in a
// process group of its own if asked.
func spawn(argv []string, group bool) (*worker, error) {
	cmd := exec.Command(argv[0], argv[1:]...)
	cmd.Stderr = os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: group}
	in, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	return &worker{cmd, in, bufio.NewReader(out)}, nil
}

// tell sends a command.
func (w *worker) tell(format string, args ...any) error {
	_, err := fmt.Fprintf(w.in, format+"\n", args...)
	return err
}

// An answer is a line of a worker.
type answer struct {
	word   string
	number int64
	rest   string
}

// hear waits for an answer.
func (w *worker) hear() (answer, error) {
	line, err := w.out.ReadString('\n')
	if err != nil {
		return answer{}, fmt.Errorf("%q: no answer: %w", w.cmd.Args, err)
	}
	word, rest, _ := strings.Cut(strings.TrimSpace(line), " ")
	if word == "error" {
		return answer{}, fmt.Errorf("%q: %s", w.cmd.Args, rest)
	}
	number, rest, _ := strings.Cut(rest, " ")
	n, err := strconv.ParseInt(number, 10, 64)
	if err != nil {
		return answer{}, fmt.Errorf("%q: %q", w.cmd.Args, line)
	}
	return answer{word, n, rest}, nil
}

// ask sends a command and waits for the answer, which must begin with a word.
func (w *worker) ask(word, format string, args ...any) (answer, error) {
	if err := w.tell(format, args...); err != nil {
		return answer{}, err
	}
	a, err := w.hear()
	if err == nil && a.word != word {
		err = fmt.Errorf("%q: %q instead of %q", w.cmd.Args, a.word, word)
	}
	return a, err
}

func (w *worker) pid() int { return w.cmd.Process.Pid }

// kill ends the worker by SIGKILL and reaps it. It may have been reaped before.
func (w *worker) kill() {
	_ = w.cmd.Process.Kill()
	_ = w.in.Close()
	_ = w.cmd.Wait()
}

func now() int64 {
	var t unix.Timespec
	_ = unix.ClockGettime(unix.CLOCK_MONOTONIC, &t) // cannot fail
	return t.Nano()
}
