package main

import (
	"fmt"
	"os"
	"path/filepath"

	"github.com/go-pidfile/pidfile/internal/names"
	"github.com/go-pidfile/pidfile/internal/supervise"
)

// warnForeign tells root when it starts what its own stop will refuse to signal.
// In a directory that others may change, any process may be named, and a foreign
// COMMAND does not hold the lock, which could prove the opposite.
func warnForeign(path string, a *supervise.Account) {
	if os.Geteuid() != 0 {
		return
	}
	uid := 0
	if a != nil {
		uid = a.UID // a process's own user is trusted about it
	}
	dir := filepath.Dir(path)
	if doubt := untrusted(dir, uid); doubt != "" {
		note("warning: %s %s, and with --foreign nothing else proves which process %s names: 'pidfile stop' will refuse", dir, doubt, path)
		hint("put PIDFILE into a directory that only root can change, such as /run, or use stop --program")
	}
}

// untrusted says why others than root and user uid may put files into dir, or
// replace them; "" if they may not.
func untrusted(dir string, uid int) string {
	fi, err := os.Stat(dir)
	switch {
	case err != nil: // the start fails, and says why
	case names.Owner(fi) != 0 && names.Owner(fi) != uid:
		return fmt.Sprintf("belongs to UID %d", names.Owner(fi))
	case fi.Mode().Perm()&0o002 != 0 && fi.Mode()&os.ModeSticky == 0:
		return "may be changed by everybody"
	}
	return ""
}
