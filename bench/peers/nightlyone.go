package peers

import (
	"errors"

	"github.com/nightlyone/lockfile"
)

func nightlyoneAcquire(path string) (Release, error) {
	l, err := lockfile.New(path)
	if err != nil {
		return nil, err
	}
	err = l.TryLock()
	if errors.Is(err, lockfile.ErrBusy) {
		held := &Held{}
		if owner, err := l.GetOwner(); err == nil {
			held.PID = owner.Pid // one call away, as its documentation shows
		}
		return nil, held
	}
	if err != nil {
		return nil, err
	}
	return l.Unlock, nil
}
