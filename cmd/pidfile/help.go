package main

import (
	"cmp"
	"fmt"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

func helpCommand(root *cobra.Command) *cobra.Command {
	return &cobra.Command{
		Use:   "help [COMMAND]",
		Short: "Help about any command",
		Long: `Print the help of COMMAND, as 'pidfile COMMAND --help' does.

Exit codes:
  0    done
  125  there is no such command`,
		RunE: func(c *cobra.Command, args []string) error {
			about, rest, err := root.Find(args)
			if err != nil || len(rest) > 0 {
				return unknownCommand(root, strings.Join(args, " "))
			}
			about.InitDefaultHelpFlag()
			return about.Help()
		},
		DisableFlagsInUseLine: true,
	}
}

// flagGroups are the titles under which the help of a command with many flags has
// them, in this order.
var flagGroups = []struct{ title, flags string }{
	{"If it is running", "wait timeout replace holders conflict-exit-code"},
	{"The process", "user env chdir umask group exec close log foreign"},
	{"Its start", "ready"},
	{"Its end", "max-runtime kill-after tree die-together"},
	{"The file", "mode on-lost"},
	{"Other", "quiet help"},
}

const (
	helpWidth = 80
	manyFlags = 12
)

// printHelp prints the help of a command.
func printHelp(c *cobra.Command, _ []string) {
	w := c.OutOrStdout()
	fmt.Fprintf(w, "%s\n\nUsage:\n  %s\n", cmp.Or(c.Long, c.Short), c.UseLine())
	if c.Example != "" {
		fmt.Fprintf(w, "\nExamples:\n%s\n", c.Example)
	}
	for _, group := range c.Groups() {
		fmt.Fprintf(w, "\n%s:\n", group.Title)
		for _, sub := range c.Commands() {
			if sub.GroupID == group.ID {
				fmt.Fprintf(w, "  %-11s %s\n", sub.Name(), sub.Short)
			}
		}
	}
	flags := c.Flags()
	if n := countFlags(flags); n < manyFlags {
		fmt.Fprintf(w, "\nFlags:\n%s", flags.FlagUsagesWrapped(helpWidth))
		return
	}
	for _, group := range flagGroups {
		some := pflag.NewFlagSet("", pflag.ContinueOnError)
		some.SortFlags = false
		for name := range strings.FieldsSeq(group.flags) {
			if f := flags.Lookup(name); f != nil {
				some.AddFlag(f)
			}
		}
		if some.HasFlags() {
			fmt.Fprintf(w, "\n%s:\n%s", group.title, some.FlagUsagesWrapped(helpWidth))
		}
	}
}

func countFlags(flags *pflag.FlagSet) (n int) {
	flags.VisitAll(func(*pflag.Flag) { n++ })
	return n
}
