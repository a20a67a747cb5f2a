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
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// patience is how long a condition may take on a loaded machine. Nothing takes
// that long that goes well.
const patience = 30 * time.Second

// until reports whether cond becomes true.
func until(cond func() bool) bool {
	for deadline := time.Now().Add(patience); !cond(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(deadline) {
			return false
		}
	}
	return true
}

// eventually fails the test unless cond becomes true.
func eventually(t *testing.T, what string, cond func() bool) {
	t.Helper()
	if !until(cond) {
		t.Fatalf("does not come: %s", what)
	}
}

// procState returns the letter of /proc/PID/stat, 0 if there is no such process.
// One whose first thread has ended before others, as during an execve(2), is no
// zombie.
func procState(pid int) byte {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0
	}
	f := bytes.Fields(stat[bytes.LastIndexByte(stat, ')')+1:])
	const threads = 20 - 3 // num_threads of proc_pid_stat(5)
	if string(f[0]) == "Z" && string(f[threads]) != "1" {
		return 'S'
	}
	return f[0][0]
}

func alive(pid int) bool {
	s := procState(pid)
	return s != 0 && s != 'Z' && s != 'X'
}

// kill ends our descendant pid and returns when it is gone or a zombie.
func kill(t *testing.T, pid int, sig syscall.Signal) {
	t.Helper()
	if err := unix.Kill(pid, sig); err != nil {
		t.Fatalf("kill %d: %v", pid, err)
	}
	eventually(t, fmt.Sprintf("end of %d", pid), func() bool { return !alive(pid) })
}

// children returns the children of this process: those it started, and the
// orphans that came to it.
func children() (pids []int) {
	tasks, _ := filepath.Glob("/proc/self/task/*/children")
	for _, task := range tasks {
		text, _ := os.ReadFile(task)
		for _, s := range strings.Fields(string(text)) {
			if pid, err := strconv.Atoi(s); err == nil {
				pids = append(pids, pid)
			}
		}
	}
	return pids
}

func childrenOf(pid int) (pids []int) {
	tasks, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", pid))
	for _, task := range tasks {
		text, _ := os.ReadFile(task)
		for _, s := range strings.Fields(string(text)) {
			if pid, err := strconv.Atoi(s); err == nil {
				pids = append(pids, pid)
			}
		}
	}
	return pids
}

// killOrphans ends and reaps all children. They are ours until then, so their
// PIDs are nobody else's. Beside other tests, see parallel, it does nothing: what
// is left then ends with TestMain.
func killOrphans() {
	if sideBySide.Load() > 0 {
		return
	}
	for {
		pids := children()
		if len(pids) == 0 {
			return
		}
		for _, pid := range pids {
			_ = unix.Kill(pid, unix.SIGKILL)
			_, _ = unix.Wait4(pid, nil, 0, nil)
		}
	}
}

// deadPID is the PID of nobody, of a moment ago.
func deadPID(t *testing.T) int {
	t.Helper()
	c := exec.Command("true")
	if err := c.Run(); err != nil {
		t.Fatal(err)
	}
	return c.Process.Pid
}

// blocked counts the processes that wait for a flock(2) on path's file.
func blocked(path string) (n int) {
	var st unix.Stat_t
	if unix.Stat(path, &st) != nil {
		return 0
	}
	id := fmt.Sprintf(" %02x:%02x:%d ", unix.Major(st.Dev), unix.Minor(st.Dev), st.Ino)
	locks, _ := os.ReadFile("/proc/locks")
	for line := range strings.Lines(string(locks)) {
		if strings.Contains(line, "-> FLOCK") && strings.Contains(line, id) {
			n++
		}
	}
	return n
}

// opens waits until a process has a descriptor of a kind, as /proc names it.
func opens(t *testing.T, pid int, kind string) {
	t.Helper()
	eventually(t, fmt.Sprintf("a %s of PID %d", kind, pid), func() bool {
		fds, _ := filepath.Glob(fmt.Sprintf("/proc/%d/fd/*", pid))
		return slices.ContainsFunc(fds, func(fd string) bool {
			target, _ := os.Readlink(fd)
			return strings.Contains(target, kind)
		})
	})
}

// pending reports whether a process has signals that it did not take yet.
func pending(pid int) bool {
	status, _ := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	for line := range strings.Lines(string(status)) {
		if strings.HasPrefix(line, "SigPnd:") || strings.HasPrefix(line, "ShdPnd:") {
			if strings.Trim(line[7:], "0 \t\n") != "" {
				return true
			}
		}
	}
	return false
}

// stopped waits until processes are stopped, or all go on.
func stopped(t *testing.T, want bool, pids ...int) {
	t.Helper()
	for _, pid := range pids {
		eventually(t, fmt.Sprintf("PID %d stopped: %v", pid, want), func() bool { return (procState(pid) == 'T') == want })
	}
}

func parentOf(t *testing.T, pid int) int {
	t.Helper()
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		t.Fatal(err)
	}
	f := strings.Fields(string(stat[bytes.LastIndexByte(stat, ')')+2:]))
	ppid, _ := strconv.Atoi(f[1])
	return ppid
}

func groupOf(pid int) int {
	group, err := unix.Getpgid(pid)
	if err != nil {
		return -1
	}
	return group
}
