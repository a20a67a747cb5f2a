package main

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/go-pidfile/pidfile"
	"github.com/spf13/cobra"
)

func listCommand() *cobra.Command {
	var (
		asJSON bool
		states []string
	)
	c := &cobra.Command{
		Use:   "list [flags] [DIR...]",
		Short: "List all PID files and who is behind them",
		Long: `List every *.pid file below each DIR, by default below /run and your own directory:
its state, PID, user, age of the process, and command.

Exit codes:
  0    always, also if there are none
  125  the command line is wrong`,
		Example: `  pidfile list
  pidfile list --state stale --json /var/run`,
		RunE: func(c *cobra.Command, args []string) error {
			for _, s := range states {
				var state pidfile.State
				if err := state.UnmarshalText([]byte(s)); err != nil || state == pidfile.Absent {
					return usage(c, fmt.Errorf("--state: %q is none of running, stale, unknown", s))
				}
			}
			dirs, err := existing(args)
			if err != nil {
				return err
			}
			all := []pidfile.Status{} // [] in JSON
			for s, err := range pidfile.List(dirs...) {
				if err != nil && !strings.HasSuffix(s.Path, ".pid") {
					note("%v", err) // a directory: nothing is known of its files
					continue
				}
				if len(states) == 0 || slices.Contains(states, s.State.String()) {
					all = append(all, s)
				}
			}
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
	c.Flags().StringSliceVar(&states, "state", nil, "only those that are `STATE`: running, stale or unknown")
	return c
}

// existing checks the directories that were named; without any it returns the
// default ones that exist.
func existing(args []string) ([]string, error) {
	if len(args) > 0 {
		for _, dir := range args {
			if _, err := os.Stat(dir); err != nil {
				return nil, err
			}
		}
		return args, nil
	}
	dirs := []string{"/run"}
	if own, err := ownDir(); err == nil && !strings.HasPrefix(own+"/", "/run/") {
		dirs = append(dirs, own)
	}
	return dirs, nil
}

// colours of the states.
var colours = map[pidfile.State]string{
	pidfile.Running: "\x1b[32m",
	pidfile.Stale:   "\x1b[33m",
	pidfile.Unknown: "\x1b[31m",
}

// printTable prints a table fitted to the terminal's width.
func printTable(all []pidfile.Status) {
	rows := [][]string{{"STATE", "PID", "USER", "AGE", "PIDFILE", "COMMAND"}}
	for _, s := range all {
		row := []string{s.State.String(), "-", "-", "-", printable(s.Path), ""}
		if s.PID != 0 {
			row[1] = strconv.Itoa(s.PID)
		}
		if p := s.Process; p != nil {
			row[2] = printable(cmp.Or(p.User, strconv.Itoa(p.UID)))
			row[3] = age(time.Since(p.Started))
			row[5] = commandLine(p, 0)
		}
		rows = append(rows, row)
	}
	widths := make([]int, len(rows[0]))
	for _, row := range rows {
		for i, cell := range row {
			widths[i] = max(widths[i], columns(cell))
		}
	}
	tty := isTerminal(os.Stdout)
	width := 0
	if tty {
		width, _ = terminalSize(os.Stdout.Fd())
	}
	for i, row := range rows {
		var line strings.Builder
		for k, cell := range row {
			if k == len(row)-1 {
				line.WriteString(cell)
			} else {
				line.WriteString(pad(cell, widths[k]) + "  ")
			}
		}
		text := cut(strings.TrimRight(line.String(), " "), width)
		if tty && i > 0 && os.Getenv("NO_COLOR") == "" {
			state := row[0]
			stdout.writeRaw(colours[all[i-1].State] + state + "\x1b[0m")
			text = strings.TrimPrefix(text, state)
		}
		printLine("%s", text)
	}
}

func cleanCommand() *cobra.Command {
	var dry, asJSON bool
	c := &cobra.Command{
		Use:   "clean [flags] [DIR or PIDFILE...]",
		Short: "Remove PID files that are proven stale",
		Long: `Remove each PIDFILE, and every *.pid file below each DIR (by default /run and your
own directory), that is proven stale, and say why. It is done under the file's
lock, so no start is disturbed. Everything else is left alone.

Exit codes:
  0    done, also if there was nothing to do or to be removed
  125  a stale file could not be removed, or the command line is wrong`,
		Example: `  pidfile clean -n              # what would go?
  pidfile clean /run/old.pid`,
		RunE: func(c *cobra.Command, args []string) error {
			all, err := cleanAll(args, dry)
			if err != nil {
				return err
			}
			return report(all, asJSON)
		},
		DisableFlagsInUseLine: true,
	}
	c.Flags().BoolVarP(&dry, "dry-run", "n", false, "only say what would be removed")
	c.Flags().BoolVar(&asJSON, "json", false, "print an array of objects: path, pid, result, error")
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
	if len(args) == 0 {
		dirs, _ = existing(nil)
	}
	all := []outcome{}
	for _, path := range named {
		s, _ := pidfile.Inspect(path) // the error is in the evidence
		o, done := clean(s, dry)
		if !done {
			o.Result = s.State.String()
			if s.State != pidfile.Absent {
				o.Result = "left alone, " + s.State.String() + ": " + strings.Join(s.Evidence, "; ")
			}
		}
		all = append(all, o)
	}
	if len(dirs) == 0 {
		return all, nil
	}
	for s, err := range pidfile.List(dirs...) {
		if err != nil && !strings.HasSuffix(s.Path, ".pid") {
			note("%v", err) // a directory: nothing is known of its files
		}
		if o, done := clean(s, dry); done {
			all = append(all, o)
		}
	}
	return all, nil
}

// clean removes a stale file. An unknown one, too, if it proves stale under its
// lock: locks that cannot be seen can still be met. Of others it does nothing.
func clean(s pidfile.Status, dry bool) (o outcome, done bool) {
	o = outcome{Path: s.Path, PID: s.PID}
	why := strings.Join(s.Evidence, "; ")
	switch {
	case s.State == pidfile.Unknown && !dry && s.Clean() == nil:
		o.Result = "removed: " + why + "; but it could be locked"
		return o, true
	case s.State != pidfile.Stale:
		return o, false
	}
	if dry {
		o.Result = "would be removed: " + why
		return o, true
	}
	switch err := s.Clean(); {
	case err == nil:
		o.Result = "removed: " + why
	case errors.Is(err, fs.ErrNotExist):
		o.Result = "gone already"
	case errors.Is(err, pidfile.ErrAlreadyRunning) || errors.Is(err, pidfile.ErrUnproven):
		o.Result = fmt.Sprintf("left alone: %v", err) // it has changed since
	default:
		o.Result, o.Error, o.code = "left alone", fmt.Sprintf("left alone: %v", err), exitFailure
	}
	return o, true
}
