//go:build !unix

package main

import "os"

// openLog opens the log of COMMAND.
func openLog(path string, _ *account, flags int) (*os.File, error) {
	return os.OpenFile(path, flags, 0o644)
}
