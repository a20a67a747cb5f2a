package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	mobypid "github.com/docker/docker/pkg/pidfile"
	"github.com/go-pidfile/pidfile"
	"github.com/gofrs/flock"
	"github.com/nightlyone/lockfile"
)

var errRefused = errors.New("refused")

// libraries acquire a path, each in the way that its documentation shows, and
// return what releases it.
var libraries = map[string]func(path string, wait bool) (release func() error, err error){
	"pidfile": func(path string, wait bool) (func() error, error) {
		acquire := pidfile.Acquire
		if wait {
			acquire = func(path string) (*pidfile.File, error) {
				return pidfile.AcquireContext(context.Background(), path)
			}
		}
		f, err := acquire(path)
		if err != nil {
			return nil, err
		}
		go func() {
			<-f.Lost()
			_ = f.Restore() // it says so if the path has another holder by now
		}()
		return f.Release, nil
	},
	"gofrs": func(path string, wait bool) (func() error, error) {
		f := flock.New(path)
		if wait {
			return f.Unlock, f.Lock()
		}
		got, err := f.TryLock()
		if err == nil && !got {
			err = errRefused
		}
		return f.Unlock, err
	},
	"nightlyone": func(path string, _ bool) (func() error, error) {
		f, err := lockfile.New(path)
		if err != nil {
			return nil, err
		}
		return f.Unlock, f.TryLock()
	},
	"moby": func(path string, _ bool) (func() error, error) {
		return func() error { return os.Remove(path) }, mobypid.Write(path, os.Getpid())
	},
}

// useLibrary is the process "library NAME start|wait PATH JOB…".
func useLibrary(args []string) error {
	acquire, known := libraries[args[0]]
	if !known {
		return fmt.Errorf("no library %q", args[0])
	}
	j, err := jobOf(args[3:])
	if err != nil {
		return err
	}
	if err := passGate(); err != nil {
		return err
	}
	release, err := acquire(args[2], args[1] == "wait")
	if err != nil {
		return err
	}
	return errors.Join(j.work(), release())
}

// passGate waits until the gate opens, if there is one, and then for the next tenth
// of a second, at last without sleeping: so those who have a CPU go at once.
func passGate() error {
	gate := os.Getenv("GATE")
	if gate == "" {
		return nil
	}
	f, err := os.Open(gate)
	if err != nil {
		return err
	}
	defer f.Close()
	const tenth = int64(100 * time.Millisecond)
	next := (monotonic()/tenth + 1) * tenth
	time.Sleep(time.Duration(next-monotonic()) - time.Millisecond)
	for monotonic() < next {
	}
	return nil
}
