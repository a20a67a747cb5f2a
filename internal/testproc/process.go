package testproc

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

// Patience is how long a condition may take on a loaded machine. Nothing takes that
// long that goes well.
const Patience = 30 * time.Second

// Until reports whether cond becomes true.
func Until(cond func() bool) bool {
	pause := time.Millisecond
	for deadline := time.Now().Add(Patience); !cond(); time.Sleep(pause) {
		if time.Now().After(deadline) {
			return false
		}
		pause = min(pause*5/4, 20*time.Millisecond) // a long wait leaves the CPU to what it waits for
	}
	return true
}

// Eventually fails the test unless cond becomes true.
func Eventually(t testing.TB, what string, cond func() bool) {
	t.Helper()
	if !Until(cond) {
		t.Fatalf("does not come: %s", what)
	}
}

// Must fails the test if one of the errors is not nil.
func Must(t testing.TB, errs ...error) {
	t.Helper()
	for _, err := range errs {
		if err != nil {
			t.Fatal(err)
		}
	}
}

// State returns the letter of /proc/PID/stat, 0 if there is no such process. One
// whose first thread has ended before others, as during an execve(2), is no zombie.
func State(pid int) byte {
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

// Alive reports whether a process is there and has not ended.
func Alive(pid int) bool {
	s := State(pid)
	return s != 0 && s != 'Z' && s != 'X'
}

// Children returns the children of a process. Those of os.Getpid are those that it
// started, and the orphans that came to it.
func Children(pid int) (pids []int) {
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

// DeadPID is the PID of no process, since a moment ago.
func DeadPID(t testing.TB) int {
	t.Helper()
	c := exec.Command("true")
	if err := c.Run(); err != nil {
		t.Fatal(err)
	}
	return c.Process.Pid
}
