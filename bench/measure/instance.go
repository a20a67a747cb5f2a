package main

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// A stage is where COMMANDs report, whatever runs them: see child/main.go.
type stage struct {
	path    string // of the PID file
	out, in string
	toChild *os.File
	lines   *bufio.Reader
	output  *os.File
	argv    []string // of the COMMAND
	reader  []string // of one that reads the PID file first
	began   []*instance
}

// newStage makes the FIFOs for one PID file.
func (b *bench) newStage(path string) (*stage, error) {
	s := &stage{path: path, out: path + ".out", in: path + ".in"}
	s.argv = []string{b.tool("child"), "report", "-", s.out, s.in}
	s.reader = []string{b.tool("child"), "report", s.path, s.out, s.in}
	for _, fifo := range []string{s.out, s.in} {
		if err := unix.Mkfifo(fifo, 0o600); err != nil {
			return nil, &os.PathError{Op: "mkfifo", Path: fifo, Err: err}
		}
	}
	var err error
	// For both directions: so nobody is blocked in open, or sees an end.
	if s.output, err = os.OpenFile(s.out, os.O_RDWR, 0); err != nil {
		return nil, err
	}
	if s.toChild, err = os.OpenFile(s.in, os.O_RDWR, 0); err != nil {
		return nil, err
	}
	s.lines = bufio.NewReader(s.output)
	return s, nil
}

// A report is a line of a COMMAND.
type report struct {
	word string
	at   int64
	pid  int
	text string
}

// next waits for a report, which must begin with the word.
func (s *stage) next(word string, patience time.Duration) (report, error) {
	r, err := s.any(patience)
	if err == nil && r.word != word {
		err = fmt.Errorf("COMMAND says %q instead of %q", r.word, word)
	}
	return r, err
}

func (s *stage) any(patience time.Duration) (report, error) {
	if err := s.output.SetReadDeadline(time.Now().Add(patience)); err != nil {
		return report{}, err
	}
	line, err := s.lines.ReadString('\n')
	if err != nil {
		return report{}, fmt.Errorf("COMMAND says nothing: %w", err)
	}
	f := strings.SplitN(strings.TrimSuffix(line, "\n"), " ", 4)
	if len(f) < 3 {
		return report{}, fmt.Errorf("COMMAND says %q", line)
	}
	at, errAt := strconv.ParseInt(f[1], 10, 64)
	pid, errPID := strconv.Atoi(f[2])
	r := report{word: f[0], at: at, pid: pid}
	if len(f) > 3 {
		r.text = f[3]
	}
	return r, errors.Join(errAt, errPID)
}

// finish lets one COMMAND end.
func (s *stage) finish() error {
	_, err := s.toChild.Write([]byte{'\n'})
	return err
}

// An instance is a started command, in a process group of its own.
type instance struct {
	cmd  *exec.Cmd
	done chan struct{} // closed when it has ended
	err  error         // how, after that
}

// begin starts a command. What it writes to stderr is not shown: a refusal is
// told by the exit code.
func (s *stage) begin(argv []string) (*instance, error) {
	cmd := exec.Command(argv[0], argv[1:]...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	i := &instance{cmd: cmd, done: make(chan struct{})}
	go func() { i.err = cmd.Wait(); close(i.done) }()
	s.began = append(s.began, i)
	return i, nil
}

// ended waits until the command has ended, and tells whether it succeeded.
func (i *instance) ended(patience time.Duration) (success bool, err error) {
	select {
	case <-i.done:
		return i.err == nil, nil
	case <-time.After(patience):
		return false, fmt.Errorf("%q does not end", i.cmd.Args)
	}
}

// killAll kills the command and what it has in its process group, and a COMMAND
// that may be elsewhere: one that has reported and not been told to end, so its
// PID is its own.
func (i *instance) killAll(command int) {
	select {
	case <-i.done:
	default: // not reaped, so its PID is its own too
		_ = unix.Kill(-i.cmd.Process.Pid, unix.SIGKILL)
	}
	if command > 0 {
		_ = unix.Kill(command, unix.SIGKILL) // the group's kill may have done it
	}
}

// close ends all that is left, and removes the FIFOs.
func (s *stage) close() {
	for _, i := range s.began {
		select {
		case <-i.done:
		default:
			_ = unix.Kill(-i.cmd.Process.Pid, unix.SIGKILL)
			<-i.done
		}
	}
	for range s.began {
		_ = s.finish() // for COMMANDs elsewhere
	}
	time.Sleep(20 * time.Millisecond) // until they have read it
	s.output.Close()
	s.toChild.Close()
	_ = os.Remove(s.out)
	_ = os.Remove(s.in)
}
