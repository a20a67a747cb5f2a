// Package rlimit remembers how many files the process could open when it
// started. Package os raises that limit for Go programs (go.dev/issue/46279),
// which COMMAND must not inherit.
//
// It must import nothing but syscall: packages are initialized in the order of
// their import paths, as far as their imports allow (Go specification, "Program
// initialization"), so this one comes before os.
package rlimit
