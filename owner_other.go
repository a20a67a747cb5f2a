//go:build !unix

package pidfile

import (
	"io/fs"
	"syscall"
)

const sigCont = syscall.Signal(0)

func owner(fs.FileInfo) int { return -1 }
