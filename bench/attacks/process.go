package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// The cell is PID 1 of its namespace: it reaps the processes that it started and
// all orphans. So os/exec, which reaps too, is not used here.
var reaper struct {
	sync.Mutex
	children map[int]*process
}

// A process is a child of the cell.
type process struct {
	pid    int
	argv   []string
	output string        // the file that stdout and stderr go to
	ended  chan struct{} // closed once it is reaped
	status syscall.WaitStatus
}

func startReaper() {
	reaper.children = make(map[int]*process)
	sigchld := make(chan os.Signal, 1)
	signal.Notify(sigchld, syscall.SIGCHLD)
	go func() {
		for range sigchld {
			reap()
		}
	}()
}

func reap() {
	reaper.Lock()
	defer reaper.Unlock()
	for {
		var status syscall.WaitStatus
		pid, err := syscall.Wait4(-1, &status, syscall.WNOHANG, nil)
		if err == syscall.EINTR {
			continue
		}
		if err != nil || pid == 0 {
			return
		}
		if p := reaper.children[pid]; p != nil {
			delete(reaper.children, pid)
			p.status = status
			close(p.ended)
		}
	}
}

// start starts a process in the process group group, 0 for one of its own. It has
// no input, and no descriptors but the standard ones.
func (c *cell) start(group int, argv ...string) (*process, error) {
	return c.startAfter(func() error { return nil }, group, argv)
}

// startAfter calls last just before the fork.
func (c *cell) startAfter(last func() error, group int, argv []string) (*process, error) {
	reaper.Lock()
	defer reaper.Unlock()
	null, err := os.Open(os.DevNull)
	if err != nil {
		return nil, err
	}
	defer null.Close()
	c.outputs++
	output, err := os.Create(filepath.Join(c.dir, fmt.Sprintf("output.%d", c.outputs)))
	if err != nil {
		return nil, err
	}
	defer output.Close()
	attr := &syscall.ProcAttr{
		Dir:   c.dir,
		Env:   append(os.Environ(), c.env...),
		Files: []uintptr{null.Fd(), output.Fd(), output.Fd()},
		Sys:   &syscall.SysProcAttr{Setpgid: true, Pgid: group},
	}
	err = last()
	var pid int
	if err == nil {
		pid, err = syscall.ForkExec(argv[0], argv, attr)
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", argv[0], err)
	}
	p := &process{pid: pid, argv: argv, output: output.Name(), ended: make(chan struct{})}
	reaper.children[pid] = p
	return p, nil
}

// startAs starts a process that has the PID pid.
func (c *cell) startAs(pid int, argv ...string) (*process, error) {
	c.spareThreads.Do(spareThreads)
	last, err := os.OpenFile("/proc/sys/kernel/ns_last_pid", os.O_WRONLY, 0)
	if err != nil {
		return nil, err
	}
	defer last.Close()
	text := fmt.Append(nil, pid-1)
	// The kernel gives the next free PID after this one.
	set := func() error { _, err := unix.Pwrite(int(last.Fd()), text, 0); return err }
	for range 50 {
		p, err := c.startAfter(set, 0, argv)
		if err != nil || p.pid == pid {
			return p, err
		}
		kill(p.pid, unix.SIGKILL) // another took the PID, and it may be free again
	}
	// A thread of this program's own has it, and keeps it, as long as the cell lasts.
	return nil, fmt.Errorf("no process got the PID %d", pid)
}

// has returns whether the process has ended.
func (p *process) hasEnded() bool {
	select {
	case <-p.ended:
		return true
	default:
		return false
	}
}

func (p *process) wait(limit time.Duration) bool {
	select {
	case <-p.ended:
		return true
	case <-time.After(limit):
		return false
	}
}

// spareThreads has the runtime make threads, so that it seldom makes one between
// the setting of the last PID and the fork: threads have PIDs, too.
func spareThreads() {
	var all sync.WaitGroup
	for range 16 {
		all.Go(func() { _ = unix.Nanosleep(&unix.Timespec{Nsec: 10e6}, nil) }) // an early end does no harm
	}
	all.Wait()
}

// said is how the process ended and what it wrote, in one short line.
func (p *process) said() string {
	how := "still runs"
	if p.hasEnded() {
		how = fmt.Sprintf("exit code %d", p.status.ExitStatus())
		if p.status.Signaled() {
			how = "ended by " + unix.SignalName(p.status.Signal())
		}
	}
	text, err := os.ReadFile(p.output)
	if text = bytes.TrimSpace(text); err == nil && len(text) > 0 {
		line, _, _ := bytes.Cut(text, []byte("\n"))
		if bytes.HasPrefix(line, []byte("panic: ")) || len(line) > 160 {
			line = line[:min(len(line), 160)]
		}
		how += fmt.Sprintf(", %q", line)
	}
	return how
}

// kill signals a process of the cell. There are no others in its namespace.
func kill(pid int, sig syscall.Signal) {
	if os.Getpid() != 1 {
		panic("kill outside of a cell")
	}
	if err := unix.Kill(pid, sig); err != nil && !errors.Is(err, unix.ESRCH) {
		panic(err)
	}
}

// killAll ends everything in the namespace but the cell itself, and waits for it.
func killAll() {
	if !eventually(10*time.Second, func() bool {
		kill(-1, unix.SIGKILL)
		return len(processes()) == 0
	}) {
		panic(fmt.Sprintf("processes that do not end: %v", processes()))
	}
}

// processes lists the PIDs in the namespace, but for the cell's.
func processes() (pids []int) {
	dirs, err := filepath.Glob("/proc/[0-9]*")
	if err != nil {
		panic(err)
	}
	for _, dir := range dirs {
		if pid, err := strconv.Atoi(filepath.Base(dir)); err == nil && pid != 1 {
			pids = append(pids, pid)
		}
	}
	return pids
}

// stateOf returns the letter of a process's state, 0 if there is no such process.
func stateOf(pid int) byte {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0
	}
	rest := text[bytes.LastIndexByte(text, ')')+1:]
	return bytes.TrimSpace(rest)[0]
}

// alive returns whether any thread of the process lives: its first may be a zombie
// while others still hold its descriptors.
func alive(pid int) bool {
	switch stateOf(pid) {
	case 0, 'X':
		return false
	case 'Z':
		threads, err := os.ReadDir(fmt.Sprintf("/proc/%d/task", pid))
		return err == nil && len(threads) > 1
	}
	return true
}

// blockedIn returns whether a thread of a process sleeps in the system call nr.
func blockedIn(pid, nr int) bool {
	tasks, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/syscall", pid))
	return err == nil && slices.ContainsFunc(tasks, func(task string) bool {
		text, err := os.ReadFile(task)
		return err == nil && strings.HasPrefix(string(text), fmt.Sprint(nr, " "))
	})
}
