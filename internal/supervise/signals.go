package supervise

import (
	"os"
	"os/signal"
	"syscall"
)

// Notify is signal.Notify for those of sigs that this process was not started to
// ignore. Those COMMAND ignores as well, which signal.Notify would undo.
func Notify(c chan<- os.Signal, sigs ...syscall.Signal) {
	for _, sig := range sigs {
		if !signal.Ignored(sig) {
			signal.Notify(c, sig)
		}
	}
}
