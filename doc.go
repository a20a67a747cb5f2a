// Package pidfile makes sure that one instance of a program runs, says who that
// instance is, and lets people act on it safely.
//
//	f, err := pidfile.Acquire("/run/backup.pid")
//	if err != nil {
//		log.Fatal(err) // acquire /run/backup.pid: already running: PID 812
//	}
//	defer f.Release()
//
// # To be the one
//
// Acquire takes a PID file or fails at once, AcquireContext waits for it, and Do
// holds it while a function runs. The kernel's lock on the file decides who is
// the holder, never its text, so neither a crash nor a recycled PID nor a file
// that was left behind keeps the next start out or lets a second one in. The text
// is the bare PID and a newline, for everybody who reads PID files; the lock is
// flock(2), for everybody who locks them. A file that names a live process of the
// same program counts as held even if it is not locked, as with python-pidfile.
//
// # To know who it is
//
// Inspect tells whether a PID file is running, stale or absent, with the evidence,
// and takes no lock; what cannot be told is Unknown, never Stale. List does so for
// all files of a directory, and Clean removes what is proven stale. Read only
// reads the text.
//
// # To act on it
//
// Find pins the process behind a PID file and proves that it is the holder; the
// methods of the Process it returns reach that process or none, whatever becomes
// of its PID.
//
// # Systems
//
// On Linux all of this holds. On macOS and the BSDs files are taken in place, by
// flock(2) alone: they are empty for a moment when they are made, programs that do
// not lock are not recognised, and Find is not supported. On other systems every
// function returns an error that matches errors.ErrUnsupported.
//
// The package starts no goroutine that it does not need (one a path while
// somebody waits, one or two a File whose Lost was called), installs no signal
// handler and prints nothing.
package pidfile
