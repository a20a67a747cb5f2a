// Package rlimit remembers how many files the process could open when it
// started. Package syscall raises that limit for Go programs when it is
// initialized (go.dev/issue/46279), and COMMAND must not inherit that.
//
// It must import nothing: packages are initialized in the order of their import
// paths, as far as their imports allow (Go specification, "Program
// initialization"), so this one comes before syscall. It knows the limit on
// linux/amd64 and linux/arm64; elsewhere COMMAND gets the raised one.
package rlimit

// NoFile is the soft and the hard limit, as prlimit64(2) takes it, if Known.
var (
	NoFile [2]uint64
	Known  bool
)
