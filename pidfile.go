package pidfile

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/go-pidfile/pidfile/internal/hook"
	"github.com/go-pidfile/pidfile/internal/lock"
	"github.com/go-pidfile/pidfile/internal/proc"
)

// DefaultPath is the path that python-pidfile uses by default: a file in the
// current directory. Services rather use /run/NAME.pid.
const DefaultPath = "pidfile"

// A Config sets how a PID file is taken. The zero value is the default, and
// what the package's functions use. A Config may be used by several goroutines.
type Config struct {
	// Wait makes Do wait until the file is free, as AcquireContext does. Acquire
	// and AcquireContext do not look at it.
	Wait bool

	// Mode is the permission bits of a file that is created, whatever the
	// umask; 0 is 0o644, so that every user can see which process runs. A file
	// that others may write is refused as evidence when it comes to signals.
	Mode fs.FileMode

	// Command is the command line, its executable first, on whose behalf the
	// file is taken; nil is the calling process. It matters only where an
	// unlocked file names a live process: that counts as running if it is the
	// same program (see Acquire).
	Command []string

	set func(*lock.Options) // the command's: see package hook
}

func init() {
	hook.SetOptions = func(config any, set func(*lock.Options)) { config.(*Config).set = set }
}

// Acquire makes the calling process the holder of the PID file at path, or fails at
// once. It is [Config.Acquire] with the default Config.
func Acquire(path string) (*File, error) { return Config{}.Acquire(path) }

// AcquireContext is like Acquire, but waits until the file is free or ctx is
// done. It is [Config.AcquireContext] with the default Config.
func AcquireContext(ctx context.Context, path string) (*File, error) {
	return Config{}.AcquireContext(ctx, path)
}

// Do runs fn while it holds the PID file at path. It is [Config.Do] with the default
// Config.
func Do(ctx context.Context, path string, fn func(context.Context) error) error {
	return Config{}.Do(ctx, path, fn)
}

// Acquire makes the calling process the holder of the PID file at path and
// writes its PID, in decimal with a newline, into it. On Linux the file appears
// complete and locked: no reader ever sees it empty.
//
// If the file is held, by another process or by this one, the error is an
// [*AlreadyRunningError], which matches [ErrAlreadyRunning] and tells the PID. That
// is so if the file is locked (by this package, flock(1), pidfile(3), or with
// fcntl(2)), and also if it is not locked but names a live process, neither
// zombie nor ourselves, that existed when the file was written and is the same
// program: the same argv[0] or the same executable. This is how python-pidfile
// and programs like it are respected. Everything else in the file (a dead PID,
// another program's, ours, garbage, a PID of which /proc tells us nothing, as
// with hidepid or in a chroot without it) is a stale file, and is replaced.
//
// Other errors are [*fs.PathError]: a missing directory, no permission, a full
// disk, a file system without locks, or a path that does not name a regular file
// (symbolic links are not followed). They leave everything as it was.
//
// Acquire does not wait for a holder. When the file is locked, but not as this package
// locks a file that it holds, Acquire looks again for up to 50 ms (500 ms if the file
// names a dead process), since that may be a start that just replaces a stale file. It
// may be called by any goroutine.
//
// The lock ends with Release or with the process. A File that its owner forgot
// keeps it: no finalizer takes it away. A child process does not inherit the
// lock; see [File.HandOff].
//
// Outside Linux the file is empty for an instant between its creation and its
// text, programs that do not lock are not recognised, and on systems without
// flock(2) the error matches [errors.ErrUnsupported].
func (c Config) Acquire(path string) (*File, error) {
	f, err := c.prepare("acquire", path)
	if err != nil {
		return nil, err
	}
	r, err := f.hold.Acquire(&f.opts)
	if err != nil {
		return nil, err
	}
	if r.Held {
		return nil, &AlreadyRunningError{Op: "acquire", Path: f.path, PID: r.PID, Locked: r.Locked}
	}
	return f, nil
}

// AcquireContext is like Acquire, but blocks until the file is free or ctx is
// done. It blocks in the kernel and uses no CPU meanwhile; however many wait
// in this process on one path, one thread does. Among waiting processes the
// kernel's queue decides, roughly first come, first served. A waiter waits for
// the holder that it found: if that one's file is removed by hand, it waits until
// that holder has ended all the same, and then for the holder that came after it.
//
// If ctx ends first, which is noticed at once, the error matches both ctx.Err()
// and [ErrAlreadyRunning]. If ctx is already done, nothing is taken or waited for.
func (c Config) AcquireContext(ctx context.Context, path string) (*File, error) {
	f, err := c.prepare("acquire", path)
	if err != nil {
		return nil, err
	}
	if err := ctx.Err(); err != nil {
		if r := lock.Peek(f.path, c.running); r.Held {
			return nil, f.gaveUp(r, err)
		}
		return nil, fmt.Errorf("acquire %s: %w", f.path, err)
	}
	err = f.hold.Wait(ctx, &f.opts)
	if err != nil {
		if err == ctx.Err() {
			err = f.gaveUp(lock.Peek(f.path, c.running), err)
		}
		return nil, err
	}
	return f, nil
}

// gaveUp is the error of a wait that its context ended.
func (f *File) gaveUp(r lock.Refusal, err error) error {
	return fmt.Errorf("%w: %w", &AlreadyRunningError{Op: "acquire", Path: f.path, PID: r.PID, Locked: r.Locked}, err)
}

// Do acquires the PID file at path, or fails at once as Acquire does (with c.Wait it
// waits as AcquireContext does); calls fn; and releases the file when fn returns,
// panics or calls [runtime.Goexit]. It returns the errors of fn and of the release,
// joined if there are two. If ctx is already done, it returns ctx.Err() and runs
// nothing.
//
// The context of fn is done when ctx is, and when the file is lost: replaced,
// overwritten, or removed and not to be put back. Then [context.Cause] of it matches
// [ErrLost]. A file that was merely removed or emptied, or whose place a stale file has
// taken, is put back, as [File.Restore] does, and fn goes on.
func (c Config) Do(ctx context.Context, path string, fn func(context.Context) error) (err error) {
	if err := ctx.Err(); err != nil {
		return err
	}
	acquire := func() (*File, error) { return c.Acquire(path) }
	if c.Wait {
		acquire = func() (*File, error) { return c.AcquireContext(ctx, path) }
	}
	f, err := acquire()
	if err != nil {
		return err
	}
	defer func() {
		if e := f.Release(); e != nil {
			err = errors.Join(err, e)
		}
	}()
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	go f.keep(ctx, cancel)
	return fn(ctx)
}

// keep puts the file back when it is removed, until ctx is done. If it cannot, it
// cancels ctx with the cause.
func (f *File) keep(ctx context.Context, cancel context.CancelCauseFunc) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-f.Lost():
		}
		switch err := f.Restore(); {
		case err == nil:
		case errors.Is(err, ErrLost) || errors.Is(err, fs.ErrClosed):
			cancel(err)
			return
		default:
			cancel(&fs.PathError{Op: "restore", Path: f.path, Err: fmt.Errorf("%w: %w", ErrLost, err)})
			return
		}
	}
}

// self is our PID, which a Go program keeps for life: asking costs a system call.
var self = os.Getpid()

// prepare checks the arguments and touches nothing.
func (c Config) prepare(op, path string) (*File, error) {
	if path == "" {
		return nil, &fs.PathError{Op: op, Path: path, Err: errors.New("empty path")}
	}
	if strings.IndexByte(path, 0) >= 0 {
		return nil, &fs.PathError{Op: op, Path: path, Err: syscall.EINVAL}
	}
	if os.IsPathSeparator(path[len(path)-1]) {
		return nil, &fs.PathError{Op: op, Path: path, Err: syscall.EISDIR}
	}
	if c.Mode&^fs.ModePerm != 0 {
		return nil, &fs.PathError{Op: op, Path: path, Err: fmt.Errorf("invalid mode %v: only permission bits count", c.Mode)}
	}
	abs, err := filepath.Abs(path)
	if err != nil {
		return nil, &fs.PathError{Op: op, Path: path, Err: err}
	}
	f := &File{path: abs, opts: lock.Options{PID: self, Mode: uint32(c.Mode), Running: runsSelf}}
	if len(c.Command) > 0 {
		f.opts.Running = c.running
	}
	if c.Mode == 0 {
		f.opts.Mode = 0o644
	}
	if c.set != nil {
		c.set(&f.opts)
	}
	f.hold.Prepare(abs)
	return f, nil
}

func runsSelf(pid int, written time.Time) bool { return Config{}.running(pid, written) }

// running is the rule for programs that never lock: process pid, named by a
// file written then, is running if it lives, may be the writer, and is the same
// program. A zero time is unknown.
func (c Config) running(pid int, written time.Time) bool {
	if pid == self {
		return false
	}
	i, err := proc.Lookup(pid)
	if err != nil || i.Zombie() {
		return false
	}
	may := written.IsZero() || proc.ReadClock().Judge(i.Start, written) <= proc.Unclear
	return !i.Hidden && may && c.program().Runs(&i)
}

// program is the one that "the same program" means.
func (c Config) program() proc.Program {
	if len(c.Command) == 0 {
		return proc.Self()
	}
	file, err := exec.LookPath(c.Command[0])
	if err != nil {
		file = c.Command[0] // its argv[0] can still be compared
	}
	return proc.Command(file, c.Command)
}

// A File is a held PID file. Its methods may be called by several goroutines.
type File struct {
	path string
	opts lock.Options

	mu       sync.Mutex
	hold     lock.Hold
	released bool
	handed   bool       // to a child, by HandOff
	watch    *lostWatch // nil until Lost is called
}

// Path returns the absolute path of the file.
func (f *File) Path() string { return f.path }

// PID returns the recorded PID.
func (f *File) PID() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.hold.PID()
}

// SetPID records another PID, such as that of a process that was started to do
// the work. Readers see the old or the new PID, never a mixture: a second file,
// locked from the start, is renamed over the first. (Where that is not possible, the
// file is written in place.) The errors match [ErrLost] if the file is no longer ours
// and [fs.ErrClosed] after Release, or tell what prevented the writing, such as
// ENAMETOOLONG for a file whose name leaves no room for the six characters that
// the second one has more; the old PID then stays. SetPID does not block.
func (f *File) SetPID(pid int) error {
	if pid <= 0 || pid > lock.MaxPID {
		return &fs.PathError{Op: "record", Path: f.path, Err: fmt.Errorf("invalid PID %d", pid)}
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.released {
		return f.closed("record")
	}
	err := f.lost("record", f.hold.Record(pid))
	if err == nil && f.watch != nil {
		f.watch.look()
	}
	return err
}

// Restore publishes the file again after it was removed or replaced: with the same PID,
// locked from the start, where the path leads now. If what is there is a stale file, as
// Acquire understands it, it is replaced. One that was merely emptied gets its text again.
// It returns nil if that was done or if the file was not lost at all, and [File.Lost] then
// returns a new channel. It tries once, for up to 0.1 s; a missing directory or a full
// disk are errors that may pass.
//
// The error matches [ErrLost] if the path is another's now: it matches
// [ErrAlreadyRunning] too, by an [*AlreadyRunningError] with the PID, if that is another
// holder, or a live process that wrote its PID over ours; otherwise it says why what is
// there cannot be replaced. It matches [ErrHandedOff] if a child has adopted the file,
// and [fs.ErrClosed] after Release.
func (f *File) Restore() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.released {
		return f.closed("restore")
	}
	if err := f.lost("restore", f.hold.Renew(&f.opts)); err != nil {
		return err
	}
	switch {
	case f.watch == nil:
	case f.watch.fired():
		f.watch = nil
	default: // it has not noticed yet
		f.watch.look()
	}
	return nil
}

// Release removes the file and unlocks it, in this order, so that a waiter
// finds the path free. It unlocks explicitly: a child that inherited the
// descriptor does not keep the next start out. A file that is no longer ours, because
// it was removed, replaced or overwritten, is left as it is, which is not an error.
//
// Where the directory may not be changed, the file is emptied instead. If that
// fails too the error says so; the file is unlocked even then, and a stale file.
// A second call returns an error that matches [fs.ErrClosed]. It does not block.
func (f *File) Release() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.released {
		return f.closed("release")
	}
	f.released = true
	if f.watch != nil {
		f.watch.stop()
	}
	return f.hold.Release()
}

func (f *File) closed(op string) error {
	return &fs.PathError{Op: op, Path: f.path, Err: fs.ErrClosed}
}

// lost gives lock.ErrChanged its public name.
func (f *File) lost(op string, err error) error {
	if !errors.Is(err, lock.ErrChanged) {
		return err
	}
	lost := ErrLost
	if f.hold.HandedOff() {
		lost = ErrHandedOff
	} else if c := (*lock.ChangedError)(nil); errors.As(err, &c) {
		lost = &takenError{&AlreadyRunningError{Op: op, Path: f.path, PID: c.PID, Locked: c.Locked}}
		if c.Err != nil {
			lost = &takenError{c.Err}
		}
	}
	return &fs.PathError{Op: op, Path: f.path, Err: lost}
}
