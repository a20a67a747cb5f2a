package pidfile

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

// Path returns the path of the PID file that the command pidfile means by a name:
// NAME.pid in /run (outside Linux /var/run) for root, and for other users in
// $XDG_RUNTIME_DIR, if that is set, or in the directory pidfile-UID of
// [os.TempDir], which Path creates. So a program that acquires Path("backup") is
// stopped by "pidfile stop backup".
//
// An empty name, "." and "..", and a name with a path separator or a NUL in it are
// errors. So is a pidfile-UID that is not a directory, not ours, or open to others:
// that error matches [ErrUntrusted].
func Path(name string) (string, error) {
	invalid := func(c rune) bool { return c == 0 || c < 0x80 && os.IsPathSeparator(uint8(c)) }
	if name == "" || name == "." || name == ".." || strings.ContainsFunc(name, invalid) {
		return "", fmt.Errorf("invalid name %q of a PID file: use a word, or a path in its place", name)
	}
	dir, err := nameDir()
	if err != nil {
		return "", err
	}
	return filepath.Join(dir, name+".pid"), nil
}

// nameDir is where names live: the system's directory for root, the user's own for
// others.
func nameDir() (string, error) {
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
	if err := os.Mkdir(dir, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return "", err
	}
	// Any user can make a directory of that name: it must be ours and private.
	fi, err := os.Lstat(dir)
	if err != nil {
		return "", err
	}
	if !fi.IsDir() || owner(fi) != uid || fi.Mode().Perm() != 0o700 {
		return "", &fs.PathError{Op: "use", Path: dir, Err: fmt.Errorf("%w: not a private directory of yours (mode 0700)", ErrUntrusted)}
	}
	return dir, nil
}
