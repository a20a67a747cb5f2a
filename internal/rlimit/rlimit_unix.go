//go:build unix

package rlimit

import "syscall"

// NoFile is the limit as it was, and Known whether it could be read.
var (
	NoFile syscall.Rlimit
	Known  bool
)

func init() { Known = syscall.Getrlimit(syscall.RLIMIT_NOFILE, &NoFile) == nil }
