// Package peers holds the ways to be the one instance that the benchmarks compare:
// this project's, other libraries', and the bare system calls, which are the floor.
package peers

import "fmt"

// A Release gives up what was acquired.
type Release func() error

// Held is the error of a refusal. PID is the holder's, 0 if the peer does not
// tell it with the refusal.
type Held struct{ PID int }

func (h *Held) Error() string { return fmt.Sprintf("held by PID %d", h.PID) }

// A Lock is one peer.
type Lock struct {
	Name   string
	Module string // whose version is reported: a Go module or a Debian package
	Detail string // what exactly is called

	// Worker is the program that runs it: "" is the worker, LibBSD the same
	// with cgo, Python the interpreter.
	Worker string

	// Acquire takes the file or fails at once with a *Held; Wait blocks. One
	// of them may be nil if the peer cannot do it. Both are nil here for
	// what another program runs; then Tries and Waits tell.
	Acquire, Wait func(path string) (Release, error)
	Tries, Waits  bool

	// Polls marks a way of waiting of a peer that is listed already.
	Polls bool
}

// The programs that run peers which are not plain Go.
const (
	LibBSD = "libbsd"
	Python = "python3"
)

// The floors: the bare system calls of a PID file that goes, and of a lock file
// that stays.
const (
	Floor     = "raw calls"
	FloorStay = "raw flock, file stays"
	Ours      = "pidfile"
)

// Locks is every peer, the floors first.
var Locks = finish([]Lock{
	{Name: Floor, Detail: "open, flock, write, unlink, close", Acquire: rawAcquire},
	{Name: FloorStay, Detail: "open, flock, close; the file stays and stays empty", Acquire: rawTry, Wait: rawWait},
	{Name: Ours, Detail: "Acquire, AcquireContext, Release", Acquire: oursAcquire, Wait: oursWait},
	{Name: "libbsd pidfile(3)", Module: "libbsd-dev", Detail: "pidfile_open, pidfile_write, pidfile_remove by cgo", Worker: LibBSD, Acquire: libbsdAcquire, Tries: true},
	{Name: "gofrs/flock", Module: "github.com/gofrs/flock", Detail: "TryLock, Lock, Unlock", Acquire: gofrsTry, Wait: gofrsWait},
	{Name: "gofrs/flock, each 1 ms", Module: "github.com/gofrs/flock", Detail: "TryLockContext, its way to wait with a context", Wait: gofrsPoll1, Polls: true},
	{Name: "gofrs/flock, each 100 ms", Module: "github.com/gofrs/flock", Detail: "TryLockContext, its way to wait with a context", Wait: gofrsPoll100, Polls: true},
	{Name: "go-filemutex", Module: "github.com/alexflint/go-filemutex", Detail: "New, TryLock or Lock, Close", Acquire: filemutexTry, Wait: filemutexWait},
	{Name: "lockedfile", Module: "github.com/rogpeppe/go-internal", Detail: "MutexAt, Lock, unlock; cannot fail at once", Wait: lockedfileWait},
	{Name: "nightlyone/lockfile", Module: "github.com/nightlyone/lockfile", Detail: "New, TryLock, Unlock; cannot wait", Acquire: nightlyoneAcquire},
	{Name: "moby pidfile", Module: "github.com/moby/moby/v2", Detail: "Write, os.Remove; cannot wait", Acquire: mobyAcquire},
	{Name: "trbs/pid (Python)", Module: Python, Detail: "its algorithm, in one long-lived Python process; cannot wait", Worker: Python, Tries: true},
	{Name: "python-pidfile (Python)", Module: Python, Detail: "its algorithm, in one long-lived Python process; cannot wait", Worker: Python, Tries: true},
})

func finish(locks []Lock) []Lock {
	for i := range locks {
		l := &locks[i]
		l.Tries = l.Tries || l.Acquire != nil
		l.Waits = l.Waits || l.Wait != nil
	}
	return locks
}

// Named returns the peer of that name.
func Named(name string) (*Lock, error) {
	for i := range Locks {
		if Locks[i].Name == name {
			return &Locks[i], nil
		}
	}
	return nil, fmt.Errorf("no peer %q", name)
}
