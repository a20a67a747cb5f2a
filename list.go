package pidfile

import (
	"errors"
	"io/fs"
	"iter"
	"os"
	"path/filepath"
	"strings"

	"github.com/go-pidfile/pidfile/internal/lock"
	"github.com/go-pidfile/pidfile/internal/proc"
)

// List inspects every regular file whose name ends in ".pid" below dirs, in
// lexical order; without dirs below /run and, if that is set, below
// $XDG_RUNTIME_DIR. Symbolic links are followed in dirs only, not below them.
//
// Each pair is what Inspect would return, judged by the locks as they were when
// List began. A directory that cannot be read is a pair too: Unknown, its path,
// and the error. Nothing is fatal.
func List(dirs ...string) iter.Seq2[Status, error] {
	if len(dirs) == 0 {
		dirs = []string{"/run"}
		// Mostly below /run, where it is met anyway.
		if own := os.Getenv("XDG_RUNTIME_DIR"); own != "" && !strings.HasPrefix(own, "/run/") {
			dirs = append(dirs, own)
		}
	}
	return func(yield func(Status, error) bool) {
		table := proc.ReadLocks()
		for _, dir := range dirs {
			if !list(dir, table, yield) {
				return
			}
		}
	}
}

// list lists one directory. It returns false if yield did.
func list(dir string, table *proc.LockTable, yield func(Status, error) bool) bool {
	if abs, err := filepath.Abs(dir); err == nil {
		dir = abs
	}
	if real, err := filepath.EvalSymlinks(dir); err == nil {
		dir = real // as /var/run is
	}
	more := true
	_ = filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			s := Status{Path: path, State: Unknown, Evidence: []string{err.Error()}}
			more = yield(s, err)
		case d.Type().IsRegular() && strings.HasSuffix(path, ".pid"):
			j, err := judge(path, care{table: table, direct: true})
			if j.state == Absent {
				return nil // gone since
			}
			s := j.status()
			s.listed = true
			more = yield(s, err)
		}
		if !more {
			return fs.SkipAll
		}
		return nil
	})
	return more
}

// Clean removes the file at path if it is proven stale, and does it under its
// lock, so that no start is disturbed. The error, an *fs.PathError or an
// *AlreadyRunningError, matches
//   - fs.ErrNotExist if there is no file,
//   - ErrAlreadyRunning if it is not stale,
//   - ErrUnproven if that cannot be told,
//   - syscall.ELOOP, EISDIR or EINVAL if path names a symbolic link, a directory
//     or another thing that is no regular file; ENOTDIR if its directory is none,
//   - fs.ErrPermission if we may not look, or may not remove it; EROFS if nobody
//     may; ENOLCK if the file system gives no locks,
//   - errors.ErrUnsupported on systems without flock(2),
//
// or whatever else the system says. Then nothing has changed.
//
// Clean does not block, beyond what Inspect does. It may be called by any
// goroutine.
func Clean(path string) error { return clean(path, false) }

// Clean is Clean(s.Path). If s is from List, it is done only if no symbolic link
// has come into the path since: who may change a directory that List went through
// cannot have a file removed elsewhere.
func (s Status) Clean() error { return clean(s.Path, s.listed) }

func clean(path string, direct bool) error {
	j, err := judge(path, care{direct: direct})
	switch {
	case err != nil:
		return err
	case j.state == Absent:
		return &fs.PathError{Op: "clean", Path: j.path, Err: fs.ErrNotExist}
	case j.state == Running:
		return j.running()
	case j.state == Unknown && !j.unseen: // what is unseen only, the lock will tell
		return j.refuse("clean", ErrUnproven)
	}
	remove := lock.Remove
	if direct {
		remove = lock.RemoveDirect
	}
	err = remove(j.path, func(v lock.View) error {
		under := judgement{path: j.path, view: v}
		if under.judgeUnlocked(); under.state == Running {
			return under.running()
		}
		if under.state != Stale {
			return under.refuse("clean", ErrUnproven)
		}
		return nil
	})
	if errors.Is(err, lock.ErrHeld) {
		j.locked = true // since we looked
		return j.running()
	}
	return err
}

// running is Clean's error for a file that somebody has.
func (j *judgement) running() error {
	return &AlreadyRunningError{Op: "clean", Path: j.path, PID: j.view.PID, Locked: j.locked}
}
