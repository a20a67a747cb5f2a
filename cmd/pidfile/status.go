package main

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/go-pidfile/pidfile"
	"github.com/go-pidfile/pidfile/internal/supervise"
	"github.com/spf13/cobra"
)

// lsb are the exit codes of status for each state, as the Linux Standard Base
// defines them for init scripts.
var lsb = map[pidfile.State]int{
	pidfile.Running: 0,
	pidfile.Stale:   1,
	pidfile.Absent:  3,
	pidfile.Unknown: 4,
}

func statusCommand() *cobra.Command {
	var (
		explain, asJSON, quiet bool
		finder                 pidfile.Finder
	)
	c := &cobra.Command{
		Use:   "status [flags] PIDFILE...",
		Short: "Tell whether it is running, and which process it is",
		Long: `Tell the state of each PIDFILE, in a line each. No lock is taken, so no start is
hindered.

Exit codes, as for init scripts (LSB); of several the highest:
  0    running
  1    not running, but a stale PIDFILE is left
  3    not running
  4    unknown: it cannot be determined
  125  the command line is wrong`,
		Example: `  pidfile status backup
  pidfile status --explain /run/nginx.pid      # and why we think so`,
		Args: atLeastOne("status"),
		RunE: func(c *cobra.Command, args []string) error {
			all, err := inspectAll(args, finder)
			if err != nil {
				return err
			}
			switch {
			case quiet:
			case asJSON && explain:
				printJSON(withOpeners(all))
			case asJSON:
				printJSON(all)
			default:
				for _, s := range all {
					printStatus(s, explain)
				}
			}
			worst := 0
			for _, s := range all {
				worst = max(worst, lsb[s.State])
			}
			if worst != 0 {
				return exit(worst)
			}
			return nil
		},
		DisableFlagsInUseLine: true,
	}
	c.Flags().BoolVar(&explain, "explain", false, "print the evidence, and every process that has the file open")
	c.Flags().BoolVar(&asJSON, "json", false, "print a JSON array of objects: path, state, pid, process, locked, evidence; with --explain, openers")
	c.Flags().BoolVarP(&quiet, "quiet", "q", false, "print nothing: the exit code tells")
	finderFlags(c, &finder)
	return c
}

// An explained status has every process that has the file open.
type explained struct {
	pidfile.Status
	Openers []opener `json:"openers"`
}

func withOpeners(all []pidfile.Status) []explained {
	more := make([]explained, len(all))
	for i, s := range all {
		openers, _ := openersOf(s.Path) // the evidence says what is wrong
		more[i] = explained{s, append([]opener{}, openers...)}
	}
	return more
}

// inspectAll resolves all names before it looks at the first file.
func inspectAll(args []string, finder pidfile.Finder) ([]pidfile.Status, error) {
	supervise.EndBySignals()
	paths, err := resolveAll(args)
	if err != nil {
		return nil, err
	}
	all := make([]pidfile.Status, len(paths))
	for i, path := range paths {
		all[i], _ = finder.Inspect(path) // the error is in the evidence
	}
	return all, nil
}

// printStatus prints a verdict in a line, with its evidence below if asked.
func printStatus(s pidfile.Status, explain bool) {
	line := fmt.Sprintf("%s: %s", s.Path, s.State)
	switch {
	case s.State == pidfile.Absent:
		line = s.Path + ": not running"
	case s.State == pidfile.Running:
		line += ", " + describe(s)
		if s.Doubt != "" && !explain {
			line += ", in doubt: " + s.Doubt
		}
	case s.PID != 0:
		line += fmt.Sprintf(", names PID %d", s.PID)
	}
	if (s.State == pidfile.Unknown || s.State == pidfile.Running && s.Process == nil) && !explain {
		line += ": " + strings.Join(s.Evidence, "; ")
	}
	printLine("%s", line)
	if !explain {
		return
	}
	openers, _ := openersOf(s.Path) // the evidence says what is wrong
	for i, e := range s.Evidence {
		if !named(s.EvidenceHolder(i), openers) {
			printLine("  %s", e)
		}
	}
	printOpeners(s, openers)
}

// named reports whether printOpeners names the process pid as one that has the lock.
func named(pid int, openers []opener) bool {
	return slices.ContainsFunc(openers, func(o opener) bool { return o.Holds && o.Process.PID == pid })
}

// printOpeners prints every process that has the file open: a lock that is kept
// by a stray child is found so.
func printOpeners(s pidfile.Status, openers []opener) {
	holder := slices.ContainsFunc(openers, func(o opener) bool { return o.Holds && o.Process.PID == s.PID })
	for _, o := range openers {
		p := o.Process
		role := "has it open, without the lock"
		switch {
		case o.Holds && p.PID == s.PID:
			role = "holder"
		case o.Holds && holder:
			role = "has the lock too (the wrapper, or it was inherited)"
		case o.Holds:
			role = "has the lock"
		}
		printLine("  PID %d, %s, %s: %s", p.PID, cmp.Or(p.User, strconv.Itoa(p.UID)), role, commandLine(p, 60))
	}
}
