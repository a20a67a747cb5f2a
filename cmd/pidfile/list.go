package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/go-pidfile/pidfile"
	"github.com/spf13/cobra"
)

func listCommand() *cobra.Command {
	var (
		asJSON bool
		states []string
	)
	c := &cobra.Command{
		Use:   "list [flags] [DIR or PIDFILE...]",
		Short: "List all PID files and their processes",
		Long: `List every PID file (*.pid, pid, *.pid.oldbin) below each DIR, by default below
/run and the directories of names (root: of all users): its state, PID, user,
age of the process, and command. A PIDFILE can be given as well.

Exit codes:
  0    always, also if there are none
  125  the command line is wrong, or there is no such DIR`,
		Example: `  pidfile list
  pidfile list --state stale --json /var/run`,
		RunE: func(_ *cobra.Command, args []string) error {
			dirs, files, err := listed(args)
			if err != nil {
				return err
			}
			all := []pidfile.Status{} // [] in JSON
			add := func(s pidfile.Status) {
				if len(states) == 0 || slices.Contains(states, s.State.String()) {
					all = append(all, s)
				}
			}
			for _, path := range files {
				s, _ := pidfile.Inspect(path) // the error is in the evidence
				add(s)
			}
			listAll(dirs, len(args) == 0, add)
			if asJSON {
				printJSON(all)
			} else {
				printTable(all)
			}
			return nil
		},
		DisableFlagsInUseLine: true,
	}
	c.Flags().BoolVar(&asJSON, "json", false, "print an array of objects, as status does")
	c.Flags().Var(&listValue{&states, "running|stale|unknown", checkState, true}, "state", "only those in this state; repeatable")
	return c
}

// listed takes the directories and the PID files apart that were named.
func listed(args []string) (dirs, files []string, err error) {
	for _, arg := range args {
		if fi, err := os.Stat(arg); err == nil && fi.IsDir() {
			dirs = append(dirs, arg)
			continue
		}
		path, err := resolve(arg)
		if err != nil {
			return nil, nil, err
		}
		if _, err := os.Lstat(path); err != nil {
			if !strings.ContainsRune(arg, filepath.Separator) {
				return nil, nil, fmt.Errorf("%s: no such directory, and no %s", arg, path)
			}
			return nil, nil, err
		}
		files = append(files, path)
	}
	return dirs, files, nil
}

// listAll calls add for every PID file below dirs, and tells which directories it
// may not read: all of them, or in one line how many.
func listAll(dirs []string, summary bool, add func(pidfile.Status)) {
	denied := 0
	if len(dirs) == 0 && !summary {
		return // files were named
	}
	for s, err := range pidfile.List(dirs...) {
		switch {
		case err == nil || isFile(s.Path):
			add(s)
		case summary && errors.Is(err, fs.ErrPermission):
			denied++
		default:
			infof("%v", err) // a directory: nothing is known of its files
		}
	}
	if denied > 0 {
		infof("%d directories cannot be read: root sees all", denied)
	}
}

func isFile(path string) bool {
	fi, err := os.Lstat(path)
	return err == nil && !fi.IsDir()
}
