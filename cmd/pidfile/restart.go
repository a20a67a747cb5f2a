package main

import (
	"github.com/spf13/cobra"
)

func restartCommand() *cobra.Command {
	return launchCommand(&launcher{restart: true}, &cobra.Command{
		Use:   "restart [flags] PIDFILE [--] COMMAND [ARG...]",
		Short: "Stop the running one, and start it again",
		Long: `Stop the running process, as 'pidfile stop' does (TERM, and KILL after
--kill-after); once it is proven to have ended, start COMMAND, as 'pidfile
start' does. If nothing is running, COMMAND is started all the same.

Exit codes:
  0    it is ready
  1    COMMAND ended before it was ready
  4    the running process is not proven to be the holder, or we are not
       permitted to signal it: nothing was sent or started
  124  it was not ready in time (-t), and was stopped
  125  pidfile itself failed, or the command line is wrong
  126  COMMAND cannot be executed
  127  COMMAND was not found`,
		Example: `  pidfile restart web -- /usr/bin/web
  pidfile restart --kill-after 1m --foreign /run/nginx.pid -- nginx`,
	})
}
