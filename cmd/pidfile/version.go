package main

import (
	"runtime/debug"

	"github.com/spf13/cobra"
)

func versionCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "version",
		Short: "Print the version",
		Long: `Print the version, as 'pidfile --version' does.

Exit codes:
  0    done
  125  the command line is wrong`,
		Args: cobra.NoArgs,
		Run:  func(*cobra.Command, []string) { printLine("pidfile %s", version()) },
	}
}

// version is the module's, as the go command recorded it.
func version() string {
	if info, ok := debug.ReadBuildInfo(); ok && info.Main.Version != "" {
		return info.Main.Version
	}
	return "(devel)"
}
