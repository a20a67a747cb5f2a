//go:build !unix

package main

import (
	"io/fs"
	"os"
)

func owner(fs.FileInfo) int { return os.Getuid() }
