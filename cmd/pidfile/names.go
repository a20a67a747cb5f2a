package main

import (
	"errors"
	"fmt"
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

func hintPrivate(err error) error {
	if errors.Is(err, names.ErrNotPrivate) {
		return withHint(err, "remove it, set PIDFILE_DIR, or give PIDFILE as a path")
	}
	return err
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
