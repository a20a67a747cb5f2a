package main

import (
	"github.com/spf13/cobra"
)

func restartCommand() *cobra.Command {
	return launchCommand(&launcher{restart: true}, &cobra.Command{
		Use:   "restart [flags] PIDFILE [--] COMMAND [ARG...]",
		Short: "Stop it if it runs, and start it again",
		Long: `Stop what runs, as 'pidfile stop' does (TERM, and KILL after --kill-after), and when
it is proven to be gone start COMMAND, as 'pidfile start' does.

Exit codes:
  0    it is ready
  1    COMMAND ended before it was ready
  4    what runs is not proven to be the holder: nothing was sent or started
  124  it was not ready in time (-t), and was stopped
  125  pidfile itself failed
  126  COMMAND cannot be executed
  127  COMMAND was not found`,
		Example: `  pidfile restart web -- /usr/bin/web
  pidfile restart --kill-after 1m --foreign /run/nginx.pid -- nginx`,
	})
}
