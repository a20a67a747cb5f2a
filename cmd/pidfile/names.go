package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/go-pidfile/pidfile"
	"github.com/go-pidfile/pidfile/internal/names"
)

// resolve returns the path that a PIDFILE argument stands for. Of a name it is
// pidfile.Path, but no directory is created: see createOwnDir.
func resolve(arg string) (string, error) {
	switch {
	case arg == "":
		return "", errors.New("PIDFILE is empty")
	case os.IsPathSeparator(arg[len(arg)-1]):
		return "", fmt.Errorf("PIDFILE %s names a directory: name a file in it", arg)
	case strings.ContainsRune(arg, filepath.Separator) || strings.HasSuffix(arg, ".pid"):
		return filepath.Abs(arg)
	case isNumber(arg):
		return "", withHint(errNumber(arg), "'kill "+arg+"' signals a PID; a file of that name is ./"+arg)
	}
	path, err := names.Path(arg, false)
	return path, hintPrivate(err)
}

// hintPrivate says what helps where the directory of names cannot be used. Removing it
// may not: processes may hold files in there.
func hintPrivate(err error) error {
	var perr *fs.PathError
	if !errors.Is(err, names.ErrNotPrivate) || !errors.As(err, &perr) {
		return err
	}
	fi, e := os.Lstat(perr.Path)
	switch {
	case e != nil:
		return err
	case fi.IsDir() && names.Owner(fi) == os.Getuid():
		return withHint(err, "'chmod 700 "+perr.Path+"' makes it so")
	}
	return withHint(err, fmt.Sprintf("it belongs to UID %d: have it removed, set PIDFILE_DIR, or give PIDFILE as a path", names.Owner(fi)))
}

// ownDir is where names live.
func ownDir() (string, error) {
	path, err := resolve("name")
	return filepath.Dir(path), err
}

// createOwnDir creates the directory of a name's path for a start, if it is the
// user's own that is missing.
func createOwnDir(path string) error {
	dir, err := ownDir()
	if err != nil || filepath.Dir(path) != dir {
		return nil
	}
	_, err = pidfile.Path("name") // the directory may be another's that was faster
	return hintPrivate(err)
}
