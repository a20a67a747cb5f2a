// Package names finds the PID files that are given by a name alone.
package names

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

// ErrNotPrivate is returned when the user's directory for names is not a directory,
// not the user's, or open to others.
var ErrNotPrivate = errors.New("not a private directory of yours (mode 0700)")

// Path returns the path of the PID file with that name. With create, it creates the
// user's directory for names in [os.TempDir] if that is missing.
func Path(name string, create bool) (string, error) {
	invalid := func(c rune) bool { return c == 0 || c < 0x80 && os.IsPathSeparator(uint8(c)) }
	if name == "" || name == "." || name == ".." || strings.ContainsFunc(name, invalid) {
		return "", fmt.Errorf("invalid name %q for a PID file: use a word, or a path instead", name)
	}
	dir, err := directory(create)
	if err != nil {
		return "", err
	}
	return filepath.Join(dir, name+".pid"), nil
}

// directory is where names live: the system's directory for root, the user's own for
// others.
func directory(create bool) (string, error) {
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
	if create {
		if err := os.Mkdir(dir, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
			return "", err
		}
	}
	// Any user can make a directory of that name: it must be ours and private.
	fi, err := os.Lstat(dir)
	switch {
	case !create && errors.Is(err, fs.ErrNotExist):
		return dir, nil
	case err != nil:
		return "", err
	case !fi.IsDir() || Owner(fi) != uid || fi.Mode().Perm() != 0o700:
		return "", &fs.PathError{Op: "use", Path: dir, Err: ErrNotPrivate}
	}
	return dir, nil
}
