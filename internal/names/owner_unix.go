//go:build unix

package names

import (
	"io/fs"
	"syscall"
)

// Owner returns the UID of a file, -1 if it is not known.
func Owner(fi fs.FileInfo) int {
	if st, ok := fi.Sys().(*syscall.Stat_t); ok {
		return int(st.Uid)
	}
	return -1
}

// tmp is /tmp whatever TMPDIR says, which differs between a user's sessions.
func tmp() string { return "/tmp" }
