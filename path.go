package pidfile

import (
	"errors"
	"fmt"
	"io/fs"

	"github.com/go-pidfile/pidfile/internal/names"
)

// Path returns the path of the PID file that the command pidfile means by a name:
// NAME.pid in /run (outside Linux /var/run) for root, and for other users in the
// directory /tmp/pidfile-UID, which Path creates, private; $PIDFILE_DIR, an absolute
// path, overrides both. So a program that acquires Path("backup") is stopped by
// "pidfile stop backup". XDG_RUNTIME_DIR and TMPDIR do not matter: a login, cron and ssh
// differ in them, and a name is one file.
//
// An empty name, "." and "..", digits alone, a name that ends in ".pid", and one with a
// path separator or a NUL in it are errors. So is a pidfile-UID that is not a directory,
// not ours, or open to others: that error matches [ErrUntrusted].
func Path(name string) (string, error) {
	path, err := names.Path(name, true)
	var perr *fs.PathError
	if errors.Is(err, names.ErrNotPrivate) && errors.As(err, &perr) {
		perr.Err = fmt.Errorf("%w: %w", ErrUntrusted, names.ErrNotPrivate)
	}
	return path, err
}
