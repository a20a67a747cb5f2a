//go:build !linux

package main

// examineSystem knows nothing of other systems than Linux.
func examineSystem(string) []finding {
	return []finding{{What: "this system: files are taken in place, by flock alone", OK: true}}
}
