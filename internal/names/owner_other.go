//go:build !unix

package names

import (
	"io/fs"
	"os"
)

// Owner is ours: these systems have no UIDs.
func Owner(fs.FileInfo) int { return os.Getuid() }

// tmp is the user's own here.
func tmp() string { return os.TempDir() }
