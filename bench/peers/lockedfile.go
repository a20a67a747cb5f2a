package peers

import "github.com/rogpeppe/go-internal/lockedfile"

func lockedfileWait(path string) (Release, error) {
	unlock, err := lockedfile.MutexAt(path).Lock()
	if err != nil {
		return nil, err
	}
	return func() error { unlock(); return nil }, nil
}
