//go:build !(darwin || dragonfly || freebsd || linux || netbsd || openbsd)

package lock

import (
	"errors"
	"io/fs"
	"path/filepath"
)

func Dir(path string) (mode uint32, uid int, err error) {
	return 0, 0, &fs.PathError{Op: "stat", Path: filepath.Dir(path), Err: errors.ErrUnsupported}
}
