package pidfile

import (
	"io/fs"

	"github.com/go-pidfile/pidfile/internal/lock"
)

// Read returns the PID that the file at path names, which says nothing about whether
// a process has that PID: ask [Inspect] for the truth.
//
// A PID is decimal digits alone on the first line, from 1 to the kernel's maximum
// (4194304), with or without blanks around it; later lines are not read. Any other
// text is [ErrMalformed], and at most 64 bytes are read. A missing file is
// [fs.ErrNotExist]. A symbolic link, a directory, a FIFO or a device is refused
// without being opened. The error is an [*fs.PathError].
//
// Read does not block, takes no lock, and may be called by any goroutine.
func Read(path string) (pid int, err error) {
	text, err := lock.ReadText(path)
	if err != nil {
		return 0, err
	}
	pid, err = lock.ParsePID(text)
	if err != nil {
		return 0, &fs.PathError{Op: "read", Path: path, Err: err}
	}
	return pid, nil
}
