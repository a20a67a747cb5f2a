//go:build !unix

package pidfile

import (
	"io/fs"
	"os"
)

// owner is ours: these systems have no UIDs.
func owner(fs.FileInfo) int { return os.Getuid() }
