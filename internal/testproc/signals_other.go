//go:build !linux

package testproc

// catchIgnored is for the tests that start processes, which are Linux's.
func catchIgnored() {}
