package main

import (
	"errors"
	"io/fs"
	"os"
	"strings"
	"time"

	"github.com/go-pidfile/pidfile"
	"github.com/spf13/cobra"
)

func cleanCommand() *cobra.Command {
	var dry, asJSON bool
	c := &cobra.Command{
		Use:   "clean [flags] {DIR|PIDFILE}...",
		Short: "Remove PID files that are proven stale",
		Long: `Remove each PIDFILE, and every PID file below each DIR, that is proven stale,
and say why. In a DIR these are *.pid, and pid and *.pid.oldbin if they have a
PID. It is done under the file's lock, so no start is disturbed.
Everything else is left alone.

Exit codes:
  0    done, also if there was nothing to do or to be removed
  125  a stale file could not be removed, or the command line is wrong`,
		Example: `  pidfile clean -n /run         # what would it remove?
  pidfile clean /run/old.pid`,
		Args: func(c *cobra.Command, args []string) error {
			if len(args) == 0 {
				return withHint(errors.New("clean needs a DIR or PIDFILE"), "'pidfile clean -n /run' shows what it would remove there")
			}
			return nil
		},
		RunE: func(_ *cobra.Command, args []string) error {
			all, err := cleanAll(args, dry)
			if err != nil {
				return err
			}
			return report(all, style{json: asJSON})
		},
		DisableFlagsInUseLine: true,
	}
	c.Flags().BoolVarP(&dry, "dry-run", "n", false, "only say what would be removed")
	c.Flags().BoolVar(&asJSON, "json", false, "print a JSON array of objects: path, pid, outcome, result, error")
	return c
}

// cleanAll cleans what the arguments name: files, and all below directories.
func cleanAll(args []string, dry bool) ([]outcome, error) {
	var named, dirs []string
	for _, arg := range args {
		if fi, err := os.Stat(arg); err == nil && fi.IsDir() {
			dirs = append(dirs, arg)
			continue
		}
		path, err := resolve(arg)
		if err != nil {
			return nil, err
		}
		named = append(named, path)
	}
	all := []outcome{}
	for _, path := range named {
		s, _ := pidfile.Inspect(path) // the error is in the evidence
		o, done := clean(s, dry)
		if !done {
			o.Outcome, o.Result = notRunning, "not running"
			if s.State != pidfile.Absent {
				o.Outcome, o.Result = leftAlone, "left alone, "+s.State.String()+": "+strings.Join(s.Evidence, "; ")
			}
		}
		all = append(all, o)
	}
	if len(dirs) == 0 {
		return all, nil
	}
	listAll(dirs, false, func(s pidfile.Status) {
		if s.PID == 0 && !strings.HasSuffix(s.Path, ".pid") {
			return // such a name alone makes no PID file
		}
		if o, done := clean(s, dry); done {
			all = append(all, o)
		}
	})
	return all, nil
}

// clean removes a stale file. An unknown one, too, if it proves stale under its
// lock: locks that cannot be seen can still be met. Of others it does nothing.
func clean(s pidfile.Status, dry bool) (o outcome, done bool) {
	o = outcome{Path: s.Path, PID: s.PID}
	why := strings.Join(s.Evidence, "; ")
	switch {
	case s.State == pidfile.Unknown && !dry && s.Clean() == nil:
		o.Outcome, o.Result = wasRemoved, "removed: "+why+"; but it could be locked"
		return o, true
	case s.State != pidfile.Stale:
		return o, false
	}
	if dry {
		o.Outcome, o.Result = wouldRemove, "would be removed: "+why
		if fi, err := os.Lstat(s.Path); s.PID == 0 && err == nil && time.Since(fi.ModTime()).Abs() < fresh {
			o.Outcome, o.Result = leftAlone, "would be left alone: it was written only just now, and may get its PID yet"
		}
		return o, true
	}
	switch err := s.Clean(); {
	case err == nil:
		o.Outcome, o.Result = wasRemoved, "removed: "+why
	case errors.Is(err, fs.ErrNotExist):
		o.Outcome, o.Result = notRunning, "gone already"
	case errors.Is(err, pidfile.ErrAlreadyRunning) || errors.Is(err, pidfile.ErrUnproven):
		o.Outcome, o.Result = leftAlone, "left alone: "+withoutPath(err) // it has changed since
	default:
		o.Outcome, o.Result, o.Error, o.code = leftAlone, "left alone", s.Path+": left alone: "+withoutPath(err), exitFailure
	}
	return o, true
}

// fresh is how recently a file without a PID may have been written and not be
// removed by pidfile.Clean.
const fresh = 10 * time.Second
