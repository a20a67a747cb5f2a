package peers

import (
	"fmt"
	"os"

	"github.com/moby/moby/v2/pkg/pidfile"
)

func mobyAcquire(path string) (Release, error) {
	if err := pidfile.Write(path, self); err != nil {
		var pid int
		// The only way to learn the PID, or that this is a refusal.
		if _, e := fmt.Sscanf(err.Error(), "process with PID %d is still running", &pid); e == nil {
			return nil, &Held{pid}
		}
		return nil, err
	}
	return func() error { return os.Remove(path) }, nil
}
