package peers

import (
	"context"
	"time"

	"github.com/gofrs/flock"
)

func gofrsTry(path string) (Release, error) {
	f := flock.New(path)
	return gofrsTook(f, func() (bool, error) { return f.TryLock() })
}

func gofrsWait(path string) (Release, error) {
	f := flock.New(path)
	return gofrsTook(f, func() (bool, error) { return true, f.Lock() })
}

func gofrsPoll1(path string) (Release, error)   { return gofrsPoll(path, time.Millisecond) }
func gofrsPoll100(path string) (Release, error) { return gofrsPoll(path, 100*time.Millisecond) }

func gofrsPoll(path string, every time.Duration) (Release, error) {
	f := flock.New(path)
	return gofrsTook(f, func() (bool, error) { return f.TryLockContext(context.Background(), every) })
}

func gofrsTook(f *flock.Flock, lock func() (bool, error)) (Release, error) {
	ok, err := lock()
	if err != nil {
		return nil, err
	}
	if !ok {
		return nil, &Held{}
	}
	return f.Unlock, nil
}
