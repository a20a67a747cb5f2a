package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/go-pidfile/pidfile"
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
	}
	path, err := pidfile.Path(arg)
	if errors.Is(err, pidfile.ErrUntrusted) {
		err = &hinted{err, "remove it, set XDG_RUNTIME_DIR, or give PIDFILE as a path"}
	}
	return path, err
}

// ownDir is where names live.
func ownDir() (string, error) {
	path, err := resolve("name")
	return filepath.Dir(path), err
}
