package testproc

import (
	"flag"
	"os"
	"strconv"
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

// SideBySide has a TestMain run up to n tests at once that have called t.Parallel,
// unless -parallel says how many: these wait, for others or for their time, more than
// they compute.
func SideBySide(n int) {
	flag.Parse()
	given := false
	flag.Visit(func(f *flag.Flag) { given = given || f.Name == "test.parallel" })
	if given {
		return
	}
	if err := flag.Set("test.parallel", strconv.Itoa(n)); err != nil {
		panic(err)
	}
}

// NotShort skips the test with -short. It is for races, negative controls and
// comparisons, each of which takes its time, where others cover the ground.
func NotShort(t testing.TB) {
	t.Helper()
	if testing.Short() {
		t.Skip("takes its time: not with -short")
	}
}
