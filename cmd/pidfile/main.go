// The start of this program is a good part of what "pidfile run" costs, and one
// thread does its work: the runtime need not look for the container's CPU limit
// in /proc and /sys, nor watch it.
//
//go:debug containermaxprocs=0
//go:debug updatemaxprocs=0

// Command pidfile makes sure that one instance of a program runs, and says who
// it is.
package main

import (
	"errors"
	"fmt"
	"os"
	"strings"

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
		complain(fmt.Errorf("standard output: %w", stdout.err))
		return exitFailure
	case err == nil:
		return 0
	case errors.As(err, &code):
		return int(code)
	}
	complain(err)
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
	root.SetArgs(joinDelay(args))
	return root.Execute()
}

func newRoot() *cobra.Command {
	root := &cobra.Command{
		Use:   "pidfile COMMAND",
		Short: "One instance of a program, and the truth about it",
		Long: `pidfile makes sure that one instance of a program runs, and says who it is.

A PIDFILE argument with a slash in it or ".pid" at its end is a path. Any other
word is a name: NAME stands for /run/NAME.pid if you are root, and otherwise for
$XDG_RUNTIME_DIR/NAME.pid or, without that, a file in a private directory of
yours under the temporary directory.`,
		Example: `  pidfile run backup -- rsync -a /home /backup    # at most one at a time
  pidfile status backup                           # does it run? who is it?`,
		SilenceErrors:     true,
		SilenceUsage:      true,
		CompletionOptions: cobra.CompletionOptions{HiddenDefaultCmd: false},
	}
	root.SetFlagErrorFunc(func(c *cobra.Command, err error) error { return usage(c, err) })
	root.SetOut(&stdout)
	root.SetHelpCommand(helpCommand(root))
	root.AddCommand(runCommand(), startCommand(), restartCommand(), reloadCommand(), statusCommand(), stopCommand(), signalCommand(), waitCommand(),
		listCommand(), cleanCommand(), doctorCommand(), otherProcess(), versionCommand())
	return root
}

// usage is an error in the command line: nothing has been touched.
func usage(c *cobra.Command, err error) error {
	path := c.CommandPath()
	if !c.HasParent() && c.Name() != "pidfile" { // "run" on its own: see dispatch
		path = "pidfile " + path
	}
	return &hinted{err, "see '" + path + " --help'"}
}

func helpCommand(root *cobra.Command) *cobra.Command {
	return &cobra.Command{
		Use:   "help [COMMAND]",
		Short: "Help about any command",
		RunE: func(c *cobra.Command, args []string) error {
			about, rest, err := root.Find(args)
			if err != nil || len(rest) > 0 {
				return usage(root, fmt.Errorf("unknown command %q", strings.Join(args, " ")))
			}
			about.InitDefaultHelpFlag()
			return about.Help()
		},
	}
}
