//go:build linux

package main

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/go-pidfile/pidfile/internal/testproc"
	"golang.org/x/sys/unix"
)

// kill ends our descendant pid and returns when it is gone or a zombie.
func kill(t *testing.T, pid int, sig syscall.Signal) {
	t.Helper()
	if err := unix.Kill(pid, sig); err != nil {
		t.Fatalf("kill %d: %v", pid, err)
	}
	testproc.Eventually(t, fmt.Sprintf("end of %d", pid), func() bool { return !testproc.Alive(pid) })
}

// killOrphans ends and reaps all children. They are ours until then, so their
// PIDs are nobody else's. Beside other tests, see parallel, it does nothing: what
// is left then ends with TestMain.
func killOrphans() {
	if sideBySide.Load() > 0 {
		return
	}
	for {
		pids := testproc.Children(os.Getpid())
		if len(pids) == 0 {
			return
		}
		for _, pid := range pids {
			_ = unix.Kill(pid, unix.SIGKILL)
			_, _ = unix.Wait4(pid, nil, 0, nil)
		}
	}
}

// opens waits until a process has n descriptors of a kind, as /proc names it.
func opens(t *testing.T, pid, n int, kind string) {
	t.Helper()
	testproc.Eventually(t, fmt.Sprintf("%d times %s of PID %d", n, kind, pid), func() bool {
		fds, _ := filepath.Glob(fmt.Sprintf("/proc/%d/fd/*", pid))
		fds = slices.DeleteFunc(fds, func(fd string) bool {
			target, _ := os.Readlink(fd)
			return !strings.Contains(target, kind)
		})
		return len(fds) >= n
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
		testproc.Eventually(t, fmt.Sprintf("PID %d stopped: %v", pid, want), func() bool { return (testproc.State(pid) == 'T') == want })
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
