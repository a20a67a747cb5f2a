package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/go-pidfile/pidfile/bench/peers"
)

// floorWait is a process that opens a pidfd, polls, and ends.
const floorWait = "raw pidfd_open, poll"

// waitEnds measures, in turns, from SIGKILL of a holder to the end of a command
// that waits for it.
func (b *bench) waitEnds() error {
	path := b.memory("wait.pid")
	waits := map[string]func(pid int) []string{
		floorWait:      func(pid int) []string { return []string{b.tool("child"), "waitpid", fmt.Sprint(pid)} },
		"pidfile wait": func(int) []string { return []string{b.tool("pidfile"), "wait", path} },
	}
	if pidwait, err := exec.LookPath("pidwait"); err == nil {
		waits["pidwait -F"] = func(int) []string { return []string{pidwait, "-F", path} }
	}
	var turns []contestant
	for name, argv := range waits {
		turns = append(turns, contestant{name, func() (float64, error) { return b.waitEnd(path, argv) }})
	}
	return b.interleave("wait for the end", "1", "ns", max(2, b.size.starts/3), turns)
}

func (b *bench) waitEnd(path string, argv func(pid int) []string) (float64, error) {
	l, err := peers.Named(peers.Ours)
	if err != nil {
		return 0, err
	}
	holder, err := b.start(l)
	if err != nil {
		return 0, err
	}
	if err := holder.mustTake(l, path); err != nil {
		return 0, err
	}
	cmd := exec.Command(argv(holder.pid())[0], argv(holder.pid())[1:]...)
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		return 0, err
	}
	if err := waits(cmd.Process.Pid); err != nil {
		return 0, err
	}
	began := now()
	if err := holder.cmd.Process.Kill(); err != nil {
		return 0, err
	}
	reaped := make(chan struct{})
	go func() { holder.kill(); close(reaped) }()
	err = cmd.Wait()
	took := now() - began
	<-reaped
	return float64(took), err
}

// waits returns when a process has had a pidfd for a while.
func waits(pid int) error {
	for end := time.Now().Add(patience); time.Now().Before(end); time.Sleep(time.Millisecond) {
		links, _ := filepath.Glob(fmt.Sprintf("/proc/%d/fd/*", pid))
		for _, link := range links {
			if to, _ := os.Readlink(link); strings.Contains(to, "pidfd") {
				time.Sleep(10 * time.Millisecond)
				return nil
			}
		}
	}
	return fmt.Errorf("process %d does not wait for another", pid)
}
