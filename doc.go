// Package pidfile keeps a program to at most one running instance, says which process
// that is, and lets other programs act on it safely.
//
//	f, err := pidfile.Acquire("/run/backup.pid")
//	if err != nil {
//		log.Fatal(err) // acquire /run/backup.pid: already running: PID 812
//	}
//	defer f.Release()
//
// # At most one
//
// [Acquire] takes a PID file or fails at once, [AcquireContext] waits for it, and [Do]
// holds it while a function runs. The kernel's lock on the file decides which process
// is the holder, never the text, so neither a crash nor a recycled PID nor a stale
// file keeps the next start out or lets a second one in. The text is the bare PID and
// a newline, for all programs that read PID files; the lock is flock(2), for all that
// lock them. A file that names a live process of the same program counts as held even
// if it is not locked, as with python-pidfile.
//
// [File.HandOff] and [Adopt] hand the file to a new version of the program, and
// [File.Lost] and [File.Err] tell when it is no longer held. [Path] tells where the
// command pidfile looks for a name.
//
// # Which process
//
// [Inspect] tells whether a PID file is running, stale or absent, with the evidence,
// and takes no lock; what cannot be told is [Unknown], never [Stale]. [List] does so
// for all files below a directory, [WaitRunning] and [WaitEnd] wait for a change, and
// [Clean] removes what is proven stale. [Read] only reads the text.
//
// # Acting on it
//
// [Find] pins the process behind a PID file and proves that it is the holder; the
// methods of the [Process] it returns reach that process or none, whatever becomes of
// its PID. If that fails, nothing is sent and the error says why.
//
// # Systems
//
// On Linux all of this holds. On macOS and the BSDs files are taken in place, by
// flock(2) alone: they are empty for an instant when they are created, programs that do not
// lock are not recognised, and Find is not supported. On other systems every function
// that touches a file returns an error that matches [errors.ErrUnsupported].
//
// The package starts no goroutine that it does not need (one a path while a caller
// waits, one or two a [File] whose Lost was called, one more for Do), installs no
// signal handler and prints nothing.
package pidfile
