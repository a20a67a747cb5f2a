package testproc

import (
	"os"
	"testing"
)

// Long reports whether tests run with their full numbers: PIDFILE_LONG=1, the only
// switch beside -short.
func Long() bool { return os.Getenv("PIDFILE_LONG") != "" }

// Rounds is how often a race is tried, or how many take part in it: with
// PIDFILE_LONG=1, by default, and with -short.
func Rounds(long, brief, short int) int {
	switch {
	case Long():
		return long
	case testing.Short():
		return short
	}
	return brief
}
