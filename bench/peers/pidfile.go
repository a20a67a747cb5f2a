package peers

import (
	"context"
	"errors"

	"github.com/go-pidfile/pidfile"
)

func oursAcquire(path string) (Release, error) {
	f, err := pidfile.Acquire(path)
	if err == nil {
		return f.Release, nil
	}
	if running, ok := errors.AsType[*pidfile.AlreadyRunningError](err); ok {
		return nil, &Held{running.PID}
	}
	return nil, err
}

func oursWait(path string) (Release, error) {
	f, err := pidfile.AcquireContext(context.Background(), path)
	if err != nil {
		return nil, err
	}
	return f.Release, nil
}
