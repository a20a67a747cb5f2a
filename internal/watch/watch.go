// Package watch tells of changes to files, by inotify(7) on Linux. Elsewhere, and where
// the kernel gives no watch, there is nothing to tell: a caller looks now and then as
// well, and first once the watch is set, so that no change is missed.
package watch

// A Watch tells of changes. A nil Watch never does.
type Watch struct {
	changed chan struct{}
	stop    func()
	partial func() bool // nil: never
}

// File watches the file at path, which must be absolute: that it is written, changes its
// mode or owner, is renamed, removed or created; and that the path leads elsewhere, since a
// directory above it was renamed, a symbolic link was switched, or something was mounted. It
// returns nil if it cannot: the user's inotify instances are used up.
func File(path string) *Watch { return file(path) }

// Dir watches for new and changed files in a directory. It returns nil if it cannot.
func Dir(dir string) *Watch { return directory(dir) }

// Changed returns the channel that is sent to after changes, one time for several.
// It is nil for a nil Watch.
func (w *Watch) Changed() <-chan struct{} {
	if w == nil {
		return nil
	}
	return w.changed
}

// Partial reports whether the Watch, in its present state, may miss a change: a caller
// looks now and then as well. That is so for a nil Watch.
func (w *Watch) Partial() bool { return w == nil || w.partial != nil && w.partial() }

// Close ends the Watch.
func (w *Watch) Close() {
	if w != nil {
		w.stop()
	}
}
