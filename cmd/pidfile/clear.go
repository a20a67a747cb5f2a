package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/go-pidfile/pidfile/internal/lock"
	"github.com/go-pidfile/pidfile/internal/names"
	"github.com/go-pidfile/pidfile/internal/proc"
)

// What is at PIDFILE when a foreign COMMAND is to be started: COMMAND itself, which
// runs already, or what COMMAND would trip over. Many daemons refuse to start if their
// file names a live process, whatever that is, and some signal it.

// clear removes a stale file, and that of another program's process. It returns
// lock.ErrHeld if the file is locked, and errRuns if COMMAND runs already without that.
func (l *launcher) clear() error {
	taken := 0 // the PID of the live process whose file it was
	err := lock.Remove(l.path, func(v lock.View) (err error) {
		taken, err = l.inTheWay(&v)
		return err
	})
	switch {
	case errors.Is(err, lock.ErrHeld):
		return lock.ErrHeld
	case errors.Is(err, fs.ErrNotExist), err == errLeave:
		return nil
	case err != nil:
		return err
	case taken != 0 && !l.quiet:
		sayTakenOver(l.path, taken, &l.command)
	}
	return nil
}

var (
	errRuns  = errors.New("COMMAND runs")
	errLeave = errors.New("it is in no start's way")
)

// inTheWay returns nil if the file, which is not locked, is to be removed, and the
// PID that it names if that is a live process's.
func (l *launcher) inTheWay(v *lock.View) (pid int, err error) {
	switch {
	case v.NotPIDFile != "":
		return 0, fmt.Errorf("%s: it is not a PID file: %s", l.path, v.NotPIDFile)
	case v.TextErr != nil:
		return 0, v.TextErr
	case l.isReserved(v):
		return 0, errLeave
	case v.PID == 0 && (v.Empty || v.Minus != 0 || time.Since(v.Written).Abs() < fresh):
		return 0, errLeave
	case v.PID == 0, v.PID == os.Getpid():
		return 0, nil
	}
	i, err := proc.Lookup(v.PID)
	switch {
	case err == proc.ErrGone:
		return 0, nil
	case err != nil || i.Hidden:
		return 0, l.cannotTell()
	case i.Zombie():
		return 0, nil
	}
	written := v.OtherClock || proc.ReadClock().Judge(i.Start, v.Written) <= proc.Unclear
	if written && l.isCommand(&i) {
		return 0, errRuns
	}
	return v.PID, nil
}

// isCommand reports whether a process is COMMAND: the same program, or, since COMMAND
// may be a script that starts it, one that was started with this PIDFILE by us or has
// its name. PID 1 was not started by us: a container's file names another machine's.
func (l *launcher) isCommand(i *proc.Info) bool {
	if proc.Command(l.command.Path, l.command.Args).Runs(i) {
		return true
	}
	return i.PID != 1 && (i.FitsName(l.path) || proc.HasEnv(i.PID, names.Held+"="+l.path))
}

// isReserved reports whether the file is one that COMMAND's user owns, in a directory
// where that user could not create it again: init scripts prepare such files.
func (l *launcher) isReserved(v *lock.View) bool {
	a := l.command.Account
	if a == nil || a.UID == 0 || v.UID != a.UID {
		return false
	}
	dir, err := os.Stat(filepath.Dir(l.path))
	return err == nil && names.Owner(dir) != a.UID && dir.Mode().Perm()&0o002 == 0
}

func (l *launcher) cannotTell() error {
	return withHint(fmt.Errorf("%s: it cannot be told whether it runs", l.path), "'pidfile status --explain "+l.path+"' tells more")
}
