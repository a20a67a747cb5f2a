// The start of this program is a good part of what "pidfile run" costs, and one
// thread does its work: the runtime need not look for the container's CPU limit
// in /proc and /sys, nor watch it.
//
//go:debug containermaxprocs=0
//go:debug updatemaxprocs=0

// Command pidfile keeps a program to at most one running instance, and tells which
// process that is.
package main

import (
	"errors"
	"fmt"
	"os"

	"github.com/spf13/cobra"
)

// Exit codes, as documented in every command's help.
const (
	exitRunning  = 75  // EX_TEMPFAIL of sysexits.h: try again later
	exitTimeout  = 124 // these four as in timeout(1), env(1) and nohup(1)
	exitFailure  = 125
	exitNotExec  = 126
	exitNotFound = 127
)

// An exit ends the command with a code; what there was to say has been said.
type exit int

func (e exit) Error() string { return "exit" }

func main() { os.Exit(execute(os.Args[1:])) }

// execute runs the command line and returns the exit code.
func execute(args []string) int {
	err := dispatch(args)
	var code exit
	switch {
	case err == nil && stdout.err != nil:
		printError(fmt.Errorf("standard output: %w", stdout.err))
		return exitFailure
	case err == nil:
		return 0
	case errors.As(err, &code):
		return int(code)
	}
	printError(err)
	return exitFailure
}

// dispatch runs the command that args name.
func dispatch(args []string) error {
	// "run" is what scripts and crontabs call a thousand times: it does without
	// the other commands, which cost it as much as all its own work.
	if len(args) > 0 && args[0] == "run" {
		c := runCommand()
		if c.ParseFlags(args[1:]) == nil && c.ValidateArgs(c.Flags().Args()) == nil {
			return c.RunE(c, c.Flags().Args())
		}
	}
	root := newRoot() // and this also prints help, and what is wrong
	root.SetArgs(args)
	return root.Execute()
}

func newRoot() *cobra.Command {
	cobra.EnableCommandSorting = false // they are in groups
	var askVersion bool
	root := &cobra.Command{
		Use:   "pidfile COMMAND",
		Short: "Keep a program to at most one running instance",
		Long: `pidfile keeps a program to at most one running instance, tells which process
that is, and acts on it safely.

A PIDFILE argument with a slash in it or ".pid" at its end is a path. Any other
word is a name: NAME stands for /run/NAME.pid if you are root, and otherwise for
/tmp/pidfile-UID/NAME.pid, in a private directory of yours; $PIDFILE_DIR replaces
either directory. Digits alone are an error.

Exit codes: see each command; 125 always means that pidfile itself failed or
that the command line is wrong.`,
		Example: `  pidfile run backup -- rsync -a /home /backup    # at most one at a time
  pidfile status backup                           # is it running? which process?`,
		Args: func(c *cobra.Command, args []string) error {
			if len(args) > 0 {
				return unknownCommand(c, args[0])
			}
			return nil
		},
		RunE: func(c *cobra.Command, args []string) error {
			if askVersion {
				printLine("pidfile %s", version())
				return nil
			}
			return c.Help()
		},
		DisableFlagsInUseLine: true,
		SilenceErrors:         true,
		SilenceUsage:          true,
		CompletionOptions:     cobra.CompletionOptions{DisableDefaultCmd: true},
	}
	root.Flags().BoolVarP(&askVersion, "version", "v", false, "print the version")
	root.SetFlagErrorFunc(func(c *cobra.Command, err error) error { return usage(c, err) })
	root.SetOut(&stdout)
	root.SetHelpFunc(printHelp)
	help := helpCommand(root)
	root.SetHelpCommand(help)
	for _, group := range []struct {
		title    string
		commands []*cobra.Command
	}{
		{"Run", []*cobra.Command{runCommand(), startCommand(), restartCommand()}},
		{"Ask", []*cobra.Command{statusCommand(), listCommand(), waitCommand()}},
		{"Act", []*cobra.Command{stopCommand(), reloadCommand(), signalCommand(), cleanCommand()}},
		{"Set up", []*cobra.Command{doctorCommand(), completionCommand(), versionCommand(), help}},
	} {
		root.AddGroup(&cobra.Group{ID: group.title, Title: group.title})
		for _, c := range group.commands {
			c.GroupID = group.title
			root.AddCommand(c)
		}
	}
	root.AddCommand(otherProcess())
	addCompletions(root)
	return root
}
