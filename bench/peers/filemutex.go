package peers

import (
	"errors"

	"github.com/alexflint/go-filemutex"
)

func filemutexTry(path string) (Release, error) {
	m, err := filemutex.New(path)
	if err != nil {
		return nil, err
	}
	if err := m.TryLock(); err != nil {
		_ = m.Close() // it was opened for this attempt only
		if errors.Is(err, filemutex.AlreadyLocked) {
			return nil, &Held{}
		}
		return nil, err
	}
	return m.Close, nil
}

func filemutexWait(path string) (Release, error) {
	m, err := filemutex.New(path)
	if err != nil {
		return nil, err
	}
	if err := m.Lock(); err != nil {
		return nil, err
	}
	return m.Close, nil
}
