package main

import (
	"regexp"
	"slices"

	"github.com/go-pidfile/pidfile/internal/lock"
	"github.com/go-pidfile/pidfile/internal/names"
	"github.com/go-pidfile/pidfile/internal/proc"
)

// A COMMAND that is not foreign, and writes PIDFILE all the same.

// writesItself reports whether the file at path is not what we have published for the
// process command, but what that or its child has put there.
func writesItself(path string, command int) bool {
	v, err := lock.Look(path)
	switch {
	case err != nil || v.PID == 0:
		return false
	case v.PID == command:
		return !v.OFDLocked && v.OFDErr == nil
	}
	return descends(v.PID, command) || !v.OFDLocked && proc.HasEnv(v.PID, names.Held+"="+path)
}

// useForeign is what helps then.
const useForeign = "use 'pidfile start --foreign', or give pidfile another path"

// descends reports whether process pid is a descendant of another.
func descends(pid, of int) bool {
	const most = 64 // processes may change while we climb
	for n := 0; pid > 1 && n < most; n++ {
		if pid = proc.Parent(pid); pid == of {
			return true
		}
	}
	return false
}

// mentions reports whether COMMAND's arguments, or its words, name PIDFILE. (What
// names /var/run/a.pid names /run/a.pid, too.)
func (l *launcher) mentions(log []string) bool {
	whole := regexp.MustCompile(regexp.QuoteMeta(l.path) + `([^\w./-]|\.?(\s|$))`) // not a.pid.conf
	return slices.ContainsFunc(slices.Concat(l.command.Args, log), whole.MatchString)
}
