// Package names finds the PID files that are given by a name alone.
package names

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
)

// Variable is the environment variable that overrides the directory of names.
const Variable = "PIDFILE_DIR"

// Held is the environment variable that names COMMAND's PID file to it, and to those who
// ask a process whether the file is its own.
const Held = "PIDFILE_HELD"

// ErrNotPrivate is returned when the user's directory for names is not a directory,
// not the user's, or open to others.
var ErrNotPrivate = errors.New("not a private directory of yours (mode 0700)")

// Path returns the path of the PID file with that name. With create, it creates the
// directory for names if that is missing, unless it is the system's.
func Path(name string, create bool) (string, error) {
	invalid := func(c rune) bool { return c == 0 || c < 0x80 && os.IsPathSeparator(uint8(c)) }
	// The command takes a word that ends in .pid for a path, and digits for an error.
	digits := strings.Trim(name, "0123456789") == ""
	if digits || name == "." || name == ".." || strings.HasSuffix(name, ".pid") || strings.ContainsFunc(name, invalid) {
		return "", fmt.Errorf("invalid name %q for a PID file: use a word, or a path instead", name)
	}
	dir, err := directory(create)
	if err != nil {
		return "", err
	}
	return filepath.Join(dir, name+".pid"), nil
}

// directory is where names live: the system's directory for root, the user's own for
// others. It depends on nothing that differs between a login, cron and ssh, such as
// XDG_RUNTIME_DIR and TMPDIR: a name would be two files.
func directory(create bool) (string, error) {
	dir, uid := os.Getenv(Variable), os.Getuid()
	switch {
	case dir != "" && !filepath.IsAbs(dir):
		return "", fmt.Errorf("invalid %s %q: use an absolute path", Variable, dir)
	case dir != "":
		return dir, makeDir(dir, create)
	case uid == 0:
		return system(), nil
	}
	dir = own(uid)
	if err := makeDir(dir, create); err != nil {
		return "", err
	}
	if err := checkPrivate(dir, uid); err != nil && (create || !errors.Is(err, fs.ErrNotExist)) {
		return "", err
	}
	return dir, nil
}

func makeDir(dir string, create bool) error {
	if !create {
		return nil
	}
	if err := os.Mkdir(dir, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("the directory of names (see %s): %w", Variable, err)
	}
	return nil
}

// checkPrivate returns nil if dir is a directory of that user's alone. Any user can make
// one of its name.
func checkPrivate(dir string, uid int) error {
	fi, err := os.Lstat(dir)
	switch {
	case err != nil:
		return err
	case !fi.IsDir() || Owner(fi) != uid || fi.Mode().Perm() != 0o700:
		return &fs.PathError{Op: "use", Path: dir, Err: ErrNotPrivate}
	}
	return nil
}

// system is root's directory.
func system() string {
	if runtime.GOOS != "linux" {
		return "/var/run"
	}
	return "/run"
}

// own is that of an ordinary user.
func own(uid int) string { return filepath.Join(tmp(), ownPrefix+strconv.Itoa(uid)) }

const ownPrefix = "pidfile-"

// Dirs returns the directories that may have PID files of names: the system's, that of
// the variable, and our own or, for root, each user's, if they exist and are private.
func Dirs() []string {
	dirs := []string{system()}
	if dir := os.Getenv(Variable); filepath.IsAbs(dir) && !slices.Contains(dirs, filepath.Clean(dir)) {
		dirs = append(dirs, dir)
	}
	if uid := os.Getuid(); uid != 0 {
		if dir := own(uid); checkPrivate(dir, uid) == nil {
			dirs = append(dirs, dir)
		}
		return dirs
	}
	all, _ := filepath.Glob(filepath.Join(tmp(), ownPrefix+"*")) // the pattern is a good one
	for _, dir := range all {
		uid, err := strconv.Atoi(strings.TrimPrefix(filepath.Base(dir), ownPrefix))
		if err == nil && checkPrivate(dir, uid) == nil {
			dirs = append(dirs, dir)
		}
	}
	return dirs
}
