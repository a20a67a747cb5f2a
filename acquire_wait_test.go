//go:build linux

package pidfile_test

import (
	"context"
	"errors"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/go-pidfile/pidfile"
)

func TestAcquireContext(t *testing.T) {
	path := tempPath(t)
	f, err := pidfile.AcquireContext(context.Background(), path)
	taken(t, f, err)
}

func TestAcquireContextWaitsForThisProcess(t *testing.T) {
	path := tempPath(t)
	f := acquire(t, path)
	w := wait(t, path)
	queued(t, path)
	w.still()
	must(t, f.Release())
	w.got()
	absent(t, path)
}

func TestAcquireContextWaitsForAnotherProcess(t *testing.T) {
	for name, end := range map[string]func(*helper){
		"release": func(h *helper) { h.tell("release") },
		"exit":    (*helper).end, // without a release
		"SIGKILL": (*helper).kill,
	} {
		t.Run(name, func(t *testing.T) {
			path := tempPath(t)
			h := start(t, "acquire", path).says("ok")
			w := wait(t, path)
			queued(t, path)
			w.still()
			end(h)
			w.got()
		})
	}
}

// Several wait, here and elsewhere: all get it, one after the other.
func TestAcquireContextMany(t *testing.T) {
	path := tempPath(t)
	f := acquire(t, path)
	other := start(t, "wait", path).says("waits")
	done := make(chan error)
	const n = 20
	for range n {
		go func() {
			f, err := pidfile.AcquireContext(context.Background(), path)
			if err == nil {
				err = f.Release()
			}
			done <- err
		}()
	}
	queued(t, path)
	must(t, f.Release())
	if said := other.line(); said != "ok" {
		t.Errorf("the other process: %s", said)
	}
	if said := other.tell("release"); said != "ok" {
		t.Errorf("its release: %s", said)
	}
	for range n {
		must(t, <-done)
	}
	absent(t, path)
}

func TestAcquireContextDeadline(t *testing.T) {
	path := tempPath(t)
	h := start(t, "acquire", path).says("ok")
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Millisecond)
	defer cancel()
	_, err := pidfile.AcquireContext(ctx, path)
	refused(t, err, path, h.pid(), true)
	if !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("error %v", err)
	}
}

func TestAcquireContextAlreadyDone(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	path := tempPath(t)
	_, err := pidfile.AcquireContext(ctx, path)
	if !errors.Is(err, context.Canceled) || errors.Is(err, pidfile.ErrAlreadyRunning) || !strings.Contains(err.Error(), path) {
		t.Errorf("the path is free: %v", err)
	}
	absent(t, path)
	write(t, path, "1\n")
	_, err = pidfile.AcquireContext(ctx, path)
	if !errors.Is(err, context.Canceled) || errors.Is(err, pidfile.ErrAlreadyRunning) {
		t.Errorf("the path has a stale file: %v", err)
	}
	must(t, os.Remove(path))
	h := start(t, "acquire", path).says("ok")
	_, err = pidfile.AcquireContext(ctx, path)
	refused(t, err, path, h.pid(), true)
	if !errors.Is(err, context.Canceled) {
		t.Errorf("held: %v", err)
	}
}

// The quickest of many counts: others may need this machine, too.
func TestCancellationIsNoticedAtOnce(t *testing.T) {
	path := tempPath(t)
	f := acquire(t, path)
	best := time.Hour
	for range 20 {
		w := wait(t, path)
		queued(t, path)
		begin := time.Now()
		w.cancel()
		<-w.done
		best = min(best, time.Since(begin))
		if !errors.Is(w.err, context.Canceled) || !errors.Is(w.err, pidfile.ErrAlreadyRunning) {
			t.Errorf("error %v", w.err)
		}
	}
	if best > 10*time.Millisecond {
		t.Errorf("the quickest cancellation took %v", best)
	}
	taken(t, f, nil)
}
