//go:build unix

package pidfile

import (
	"io/fs"
	"syscall"
)

// owner returns the UID of a file, -1 if it is not known.
func owner(fi fs.FileInfo) int {
	if st, ok := fi.Sys().(*syscall.Stat_t); ok {
		return int(st.Uid)
	}
	return -1
}
