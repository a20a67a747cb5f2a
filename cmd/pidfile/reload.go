package main

import (
	"github.com/spf13/cobra"
)

func reloadCommand() *cobra.Command {
	var (
		signal namedSignal
		a      sender
	)
	c := &cobra.Command{
		Use:   "reload [flags] PIDFILE...",
		Short: "Tell the holder to reload its configuration",
		Long: `Send HUP, or the signal that --signal names, to the process that provably holds
PIDFILE: 'pidfile signal HUP', under the name that init scripts use.

` + aboutTrust + `

Exit codes; of several the highest:
  0    sent
  3    not running; 0 with --if-running
  4    not proven to be the holder, not trusted, or not permitted: nothing was
       sent
  125  the command line is wrong, or this system has no handles on processes`,
		Example: `  pidfile reload /run/nginx.pid
  pidfile reload --signal USR1 web
  pidfile reload -q --if-running web    # in logrotate's postrotate`,
		Args: atLeastOne("reload"),
		RunE: func(_ *cobra.Command, args []string) error {
			return a.send(signal, args)
		},
		DisableFlagsInUseLine: true,
	}
	c.Flags().Var(signalValue(&signal, "HUP"), "signal", "send this signal instead")
	a.define(c)
	return c
}
