//go:build unix

package pidfile

import (
	"io/fs"
	"syscall"
)

const sigCont = syscall.SIGCONT

// owner returns the user who owns a file, -1 if that is not known.
func owner(fi fs.FileInfo) int {
	if st, ok := fi.Sys().(*syscall.Stat_t); ok {
		return int(st.Uid)
	}
	return -1
}
