//go:build darwin || dragonfly || freebsd || netbsd || openbsd

package lock

import "time"

// waitStranger gives the process that wrote h's file and never locks some time
// to end. It could be told by kqueue(2); a look ten times a second is simpler.
func waitStranger(*Hold, int, int) { time.Sleep(100 * time.Millisecond) }
