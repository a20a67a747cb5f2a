//go:build darwin || dragonfly || freebsd || netbsd || openbsd

package lock

import "time"

// waitUnlocked gives the process that wrote h's file and never locks some time to end.
// kqueue(2) could tell; a look ten times a second is simpler.
func waitUnlocked(*Hold, int, int) { time.Sleep(100 * time.Millisecond) }
