package main

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"
)

// A helper is another process that takes part in the storms.
type helper struct {
	number int // of all that there ever were
	cmd    *exec.Cmd
	in     io.WriteCloser
	out    *bufio.Reader
}

// enlist starts helpers until there are so many.
func (s *soak) enlist(n int) error {
	for len(s.crew) < n {
		number := int(s.counts.Killed) + len(s.crew) + 1 // never used twice
		if number >= maxProcesses {
			return fmt.Errorf("%d helpers: more than the witness can tell apart", number)
		}
		cmd := exec.Command("/proc/self/exe", "helper", filepath.Join(s.dir, "witness"), s.paths(), strconv.Itoa(number))
		cmd.Stderr = os.Stderr
		in, err := cmd.StdinPipe()
		if err != nil {
			return err
		}
		out, err := cmd.StdoutPipe()
		if err != nil {
			return err
		}
		if err := cmd.Start(); err != nil {
			return err
		}
		s.crew = append(s.crew, &helper{number, cmd, in, bufio.NewReader(out)})
	}
	return nil
}

// kill kills a helper, wherever it is, and reaps it.
func (s *soak) kill(i int) {
	h := s.crew[i]
	s.crew = append(s.crew[:i:i], s.crew[i+1:]...)
	s.witness.doomed(h.number)
	_ = h.cmd.Process.Kill() // it is our child, and not reaped
	_ = h.in.Close()
	_ = h.cmd.Wait()
	s.counts.Killed++
}

func (s *soak) dismiss() {
	for _, h := range s.crew {
		_ = h.cmd.Process.Kill()
		_ = h.in.Close()
		_ = h.cmd.Wait()
	}
	s.crew = nil
}

// tell sends a helper into a storm.
func (h *helper) tell(storm, size int, length time.Duration) error {
	_, err := fmt.Fprintf(h.in, "%d %d %d\n", storm, size, length)
	return err
}

// hear waits for its end of the storm, and returns how often it acquired.
func (h *helper) hear() (int64, error) {
	line, err := h.out.ReadString('\n')
	if err != nil {
		return 0, fmt.Errorf("helper %d: %w", h.number, err)
	}
	return strconv.ParseInt(strings.TrimSpace(line), 10, 64)
}

// help is the helper's side.
func help(args []string) {
	w, err := newWitness(args[0])
	if err != nil {
		panic(err)
	}
	number, err := strconv.Atoi(args[2])
	if err != nil {
		panic(err)
	}
	s := &soak{dir: strings.TrimSuffix(args[1], "/run"), witness: w}
	lines := bufio.NewScanner(os.Stdin)
	for lines.Scan() {
		var storm, size int
		var length time.Duration
		if _, err := fmt.Sscan(lines.Text(), &storm, &size, &length); err != nil {
			panic(err)
		}
		ctx, cancel := contextFor(length)
		var fights sync.WaitGroup
		before := s.tally.acquired.Load()
		for i := range 4 {
			fights.Go(func() { s.fight(ctx, storm, size, newToken(number, i)) })
		}
		fights.Wait()
		cancel()
		fmt.Println(s.tally.acquired.Load() - before)
	}
}
