//go:build !linux

package testproc

// setMachine is for the tests that start processes, which are Linux's.
func setMachine() {}
