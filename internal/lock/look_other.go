//go:build !(darwin || dragonfly || freebsd || linux || netbsd || openbsd)

package lock

import (
	"errors"
	"io/fs"
)

func Dir(dir string) (mode uint32, uid, gid int, err error) {
	return 0, 0, 0, &fs.PathError{Op: "stat", Path: dir, Err: errors.ErrUnsupported}
}

func HasACL(string) bool { return false }
