package testproc

import (
	"fmt"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// Blocked counts the processes that wait for a flock(2) on path's file.
func Blocked(path string) int { return Queued(path, "FLOCK ") }

// Queued counts the processes that wait for a lock on path's file, of a kind that
// /proc/locks names, or "" for any.
func Queued(path, kind string) (n int) {
	var st unix.Stat_t
	if unix.Stat(path, &st) != nil {
		return 0
	}
	id := fmt.Sprintf(" %02x:%02x:%d ", unix.Major(st.Dev), unix.Minor(st.Dev), st.Ino)
	locks, _ := os.ReadFile("/proc/locks")
	for line := range strings.Lines(string(locks)) {
		if strings.Contains(line, "-> "+kind) && strings.Contains(line, id) {
			n++
		}
	}
	return n
}
