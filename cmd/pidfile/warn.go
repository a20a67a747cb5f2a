package main

import (
	"fmt"
	"os"
	"path/filepath"
)

// warnUnstoppable tells root when it starts what its own stop will refuse to
// signal. In a directory that others may change, anybody's process may be named,
// and what could prove the opposite is missing here: COMMAND does not hold the
// lock, because of --close, or since it is foreign.
func warnUnstoppable(path, why string) {
	if os.Geteuid() != 0 {
		return
	}
	dir := filepath.Dir(path)
	if doubt := untrusted(dir); doubt != "" {
		note("warning: %s %s, and with %s nothing else proves whom %s names: 'pidfile stop' will refuse", dir, doubt, why, path)
		hint("put PIDFILE into a directory that only root can change, as /run")
	}
}

// untrusted says why others than root may put files into dir, or replace them; ""
// if they may not.
func untrusted(dir string) string {
	fi, err := os.Stat(dir)
	switch {
	case err != nil: // the start fails, and says why
	case owner(fi) != 0:
		return fmt.Sprintf("belongs to UID %d", owner(fi))
	case fi.Mode().Perm()&0o002 != 0 && fi.Mode()&os.ModeSticky == 0:
		return "may be changed by everybody"
	}
	return ""
}
