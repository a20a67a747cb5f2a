package main

import (
	"errors"
	"fmt"

	"github.com/go-pidfile/pidfile"
	"github.com/spf13/cobra"
)

func signalCommand() *cobra.Command {
	var a sender
	c := &cobra.Command{
		Use:   "signal [flags] SIGNAL PIDFILE...",
		Short: "Send the holder a signal",
		Long: `Send SIGNAL (HUP, SIGHUP, 1 or RTMIN+3) to the process that provably holds
PIDFILE.

` + aboutTrust + `

Exit codes; of several the highest:
  0    sent
  3    not running; 0 with --if-running
  4    not proven to be the holder, not trusted, or not permitted: nothing was
       sent
  125  the command line is wrong, or this system has no handles on processes`,
		Example: `  pidfile signal HUP /run/nginx.pid
  pidfile signal USR1 backup`,
		Args: func(c *cobra.Command, args []string) error {
			if len(args) < 2 {
				return usage(c, errors.New("signal needs SIGNAL and PIDFILE"))
			}
			return nil
		},
		RunE: func(c *cobra.Command, args []string) error {
			s, err := parseNamedSignal(args[0])
			if err != nil {
				return usage(c, err)
			}
			return a.send(s, args[1:])
		},
		DisableFlagsInUseLine: true,
	}
	a.define(c)
	return c
}

// A sender is one "pidfile signal" or "reload".
type sender struct {
	finder    pidfile.Finder
	ifRunning bool // else it is a success too
	style     style
}

func (a *sender) define(c *cobra.Command) {
	finderFlags(c, &a.finder)
	c.Flags().BoolVar(&a.ifRunning, "if-running", false, "exit 0 if it is not running")
	defineStyle(c.Flags(), &a.style)
}

// send sends the signal to the holder of each PIDFILE.
func (a *sender) send(s namedSignal, args []string) error {
	return each(args, a.style, nil, func(path string) outcome {
		o := a.sendTo(s, path)
		if o.code == exitNotRunning && a.ifRunning {
			o.code = 0
		}
		return o
	})
}

func (a *sender) sendTo(s namedSignal, path string) outcome {
	p, o := find(path, a.finder, answerTime)
	if p == nil {
		return o
	}
	defer p.Close()
	switch err := p.Signal(s.sig); {
	case errors.Is(err, pidfile.ErrNotRunning):
		o.Outcome, o.Result, o.code = notRunning, "not running", exitNotRunning
	case err != nil:
		return unsent(path, err)
	default:
		o.Outcome, o.Signal = signalSent, s.name
		o.Result = fmt.Sprintf("sent %s to PID %d", s.name, o.PID)
	}
	return o
}
