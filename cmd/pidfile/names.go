package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
)

// resolve returns the path that a PIDFILE argument stands for.
func resolve(arg string) (string, error) {
	switch {
	case arg == "":
		return "", errors.New("PIDFILE is empty")
	case os.IsPathSeparator(arg[len(arg)-1]):
		return "", fmt.Errorf("PIDFILE %s names a directory: name a file in it", arg)
	case strings.ContainsRune(arg, filepath.Separator) || strings.HasSuffix(arg, ".pid"):
		return filepath.Abs(arg)
	case isNumber(arg):
		return "", &hinted{errNumber(arg), "'kill " + arg + "' signals a PID; a file of that name is ./" + arg}
	case arg == "." || arg == "..":
		return "", fmt.Errorf("PIDFILE %q is a directory", arg)
	}
	dir, err := ownDir()
	if err != nil {
		return "", err
	}
	return filepath.Join(dir, arg+".pid"), nil
}

// ownDir is where names live: the system's directory for root, the user's own
// for others.
func ownDir() (string, error) {
	uid := os.Getuid()
	if uid == 0 {
		if runtime.GOOS != "linux" {
			return "/var/run", nil
		}
		return "/run", nil
	}
	if dir := os.Getenv("XDG_RUNTIME_DIR"); filepath.IsAbs(dir) {
		return dir, nil
	}
	dir := filepath.Join(os.TempDir(), "pidfile-"+strconv.Itoa(uid))
	// Any user can make a directory of that name: it must be ours and private.
	fi, err := os.Lstat(dir)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return dir, nil // see createOwnDir
	case err != nil:
		return "", err
	}
	if !fi.IsDir() || owner(fi) != uid || fi.Mode().Perm() != 0o700 {
		return "", &hinted{fmt.Errorf("%s is not a private directory of yours (mode 0700)", dir),
			"remove it, set XDG_RUNTIME_DIR, or give PIDFILE as a path"}
	}
	return dir, nil
}

// createOwnDir creates the directory of a name's path for a start, if it is the
// user's own that is missing.
func createOwnDir(path string) error {
	dir, err := ownDir()
	if err != nil || filepath.Dir(path) != dir || os.Getuid() == 0 || filepath.Dir(dir) != filepath.Clean(os.TempDir()) {
		return nil
	}
	if err := os.Mkdir(dir, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	_, err = ownDir() // it may be another's that was faster
	return err
}
