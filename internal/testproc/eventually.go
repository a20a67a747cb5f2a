package testproc

import (
	"testing"
	"time"
)

// Patience is how long a condition that must come true may take on a loaded machine
// under the race detector.
const Patience = 20 * time.Second

// Eventually waits until ok is true, and fails the test if that takes too long.
func Eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for start := time.Now(); !ok(); time.Sleep(200 * time.Microsecond) {
		if time.Since(start) > Patience {
			t.Fatalf("not within %v: %s", Patience, what)
		}
	}
}
