//go:build unix

package supervise

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"github.com/go-pidfile/pidfile/internal/names"
	"golang.org/x/sys/unix"
)

// OpenLog opens the log of a COMMAND that runs as a; nil is as we do. flags are
// O_RDONLY, or what makes it COMMAND's output.
//
// It is opened with that user's rights: where the user may change the way to it,
// we would else open, or make, whatever file of root's the user likes. Only where
// those do not suffice, and only root could have put the file there, as in
// /var/log, is it opened with ours. Neither way leads through a link at its end,
// to anything but a regular file, or to one that has another name as well.
//
// An error may have a method Hint() string, which says what helps.
func OpenLog(path string, a *Account, flags int) (*os.File, error) {
	if path == os.DevNull {
		return os.OpenFile(path, flags, 0)
	}
	flags |= unix.O_NOFOLLOW | unix.O_NONBLOCK | unix.O_NOCTTY | unix.O_CLOEXEC
	fd, err := -1, error(nil)
	open := func() { fd, err = unix.Open(path, flags, 0o644) }
	if a == nil || a.UID == 0 {
		open()
	} else {
		if err := asUser(a, open); err != nil {
			return nil, fmt.Errorf("become %s: %w", a.Name, err)
		}
		if err == unix.EACCES && a.cannotChange(filepath.Dir(path), maxLinks) {
			open()
		}
	}
	if err != nil {
		return nil, logError(path, a, err)
	}
	var st unix.Stat_t
	if err = unix.Fstat(fd, &st); err == nil {
		err = unix.SetNonblock(fd, false)
	}
	switch {
	case err != nil:
		err = &fs.PathError{Op: "open", Path: path, Err: err}
	case st.Mode&unix.S_IFMT != unix.S_IFREG:
		err = fmt.Errorf("%s is not a regular file", path)
	case st.Nlink != 1:
		err = fmt.Errorf("%s has %d names: it may be another's file", path, st.Nlink)
	default:
		return os.NewFile(uintptr(fd), path), nil
	}
	unix.Close(fd)
	return nil, err
}

// A hintError knows what helps.
type hintError struct {
	err  error
	hint string
}

func (e *hintError) Error() string { return e.err.Error() }
func (e *hintError) Unwrap() error { return e.err }
func (e *hintError) Hint() string  { return e.hint }

// logError says why a log could not be opened, and what helps.
func logError(path string, a *Account, err error) error {
	fi, there := os.Lstat(path)
	switch {
	case there == nil && fi.Mode()&fs.ModeSymlink != 0:
		return &hintError{fmt.Errorf("%s is a symbolic link", path), "name the file that it leads to"}
	case there == nil && !fi.Mode().IsRegular():
		return fmt.Errorf("%s is not a regular file", path)
	}
	err = &fs.PathError{Op: "open", Path: path, Err: err}
	if a != nil && a.UID != 0 {
		return &hintError{fmt.Errorf("as user %s: %w", a.Name, err),
			"name a file that " + a.Name + " may write, or one that is in a directory which only root can change"}
	}
	return err
}

// maxLinks is how many symbolic links a way may have.
const maxLinks = 8

// cannotChange reports whether only root, and not a, can change where dir leads.
// The last directory may also be writable for a group that a is not in, as
// /var/log is for syslog's: what that group could put there OpenLog refuses.
func (a *Account) cannotChange(dir string, links int) bool {
	elements := strings.FieldsFunc(dir, func(r rune) bool { return r == '/' })
	way := "/"
	for i := 0; ; i++ {
		fi, err := os.Lstat(way)
		if err != nil || names.Owner(fi) != 0 {
			return false
		}
		last := i == len(elements)
		switch mode := fi.Mode(); {
		case mode&fs.ModeSymlink != 0: // one of root's
			to, err := os.Readlink(way)
			if err != nil || links == 0 || filepath.Clean(to) != to { // Clean knows nothing of links
				return false
			}
			if !filepath.IsAbs(to) {
				to = filepath.Join(filepath.Dir(way), to)
			}
			return a.cannotChange(filepath.Join(append([]string{to}, elements[i:]...)...), links-1)
		case !mode.IsDir() || mode.Perm()&0o002 != 0:
			return false
		case mode.Perm()&0o020 != 0 && (!last || a.member(fi)):
			return false
		}
		if last {
			return true
		}
		way = filepath.Join(way, elements[i])
	}
}

// member reports whether a is in a file's group.
func (a *Account) member(fi fs.FileInfo) bool {
	st, ok := fi.Sys().(*syscall.Stat_t)
	return !ok || int(st.Gid) == a.GID || slices.Contains(a.Groups, st.Gid)
}
