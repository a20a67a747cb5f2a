package main

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"time"

	"github.com/go-pidfile/pidfile/bench/peers"
	"golang.org/x/sys/unix"
)

// The situations in which every way to tell whether somebody runs is asked, and
// what is true in them.
var situations = []struct {
	name string
	make func(*bench, string) (peers.Subject, error)
	runs bool
}{
	{"holder", (*bench).holderLives, true},
	{"dead", (*bench).holderDied, false},
	{"zombie", (*bench).holderIsZombie, false},
	{"reused", (*bench).pidWasReused, false},
}

// identities measures what the answer costs while the holder lives, and notes
// who answers right in which situation.
func (b *bench) identities() error {
	for _, s := range situations {
		path := b.memory(s.name + ".pid")
		subject, err := s.make(b, path)
		if err != nil {
			return fmt.Errorf("%s: %w", s.name, err)
		}
		for _, i := range peers.Identities {
			runs, err := i.Runs(subject)
			if err != nil {
				return fmt.Errorf("%s, %s: %w", i.Name, s.name, err)
			}
			right := 0.
			if runs == s.runs {
				right = 1
			}
			b.keep("right", s.name, i.Name, "of 1", right)
		}
		if s.runs {
			if err := b.timeIdentities(subject); err != nil {
				return err
			}
		}
	}
	return nil
}

func (b *bench) timeIdentities(subject peers.Subject) error {
	var turns []contestant
	n := max(1, b.size.batch/4)
	for _, i := range peers.Identities {
		turns = append(turns, contestant{i.Name, func() (float64, error) {
			began := time.Now()
			for range n {
				if runs, err := i.Runs(subject); err != nil || !runs {
					return 0, errors.Join(err, errors.New("not seen to run"))
				}
			}
			return float64(time.Since(began).Nanoseconds() / int64(n)), nil
		}})
	}
	return b.interleave("identity", "tmpfs", "ns", b.size.rounds, turns)
}

// holder starts a process that has the file by the library.
func (b *bench) holder(path string) (*worker, peers.Subject, error) {
	l, err := peers.Named(peers.Ours)
	if err != nil {
		return nil, peers.Subject{}, err
	}
	w, err := b.start(l)
	if err != nil {
		return nil, peers.Subject{}, err
	}
	if err := w.mustTake(l, path); err != nil {
		return nil, peers.Subject{}, err
	}
	subject, err := peers.NewSubject(path, w.pid())
	return w, subject, err
}

func (b *bench) holderLives(path string) (peers.Subject, error) {
	_, s, err := b.holder(path)
	return s, err
}

func (b *bench) holderDied(path string) (peers.Subject, error) {
	w, s, err := b.holder(path)
	if err == nil {
		w.kill()
	}
	return s, err
}

// holderIsZombie: it was killed, and its parent, us, has not reaped it.
func (b *bench) holderIsZombie(path string) (peers.Subject, error) {
	w, s, err := b.holder(path)
	if err != nil {
		return s, err
	}
	if err := w.cmd.Process.Kill(); err != nil {
		return s, err
	}
	_, err = w.out.ReadByte() // the end of its output: it is going
	for err != nil {
		ended, err := ended(s.PID)
		if ended || err != nil {
			return s, err
		}
		time.Sleep(time.Millisecond)
	}
	return s, errors.New("it said something")
}

// pidWasReused: the file and the notes are of a process that was killed an hour
// ago, and its PID now is another's.
func (b *bench) pidWasReused(path string) (peers.Subject, error) {
	w, s, err := b.holder(path)
	if err != nil {
		return s, err
	}
	w.kill()
	l, err := peers.Named(peers.Ours)
	if err != nil {
		return s, err
	}
	// The notes of a second are kept in milliseconds and in ticks: let them pass.
	time.Sleep(50 * time.Millisecond)
	innocent, err := b.start(l)
	if err != nil {
		return s, err
	}
	s.PID = innocent.pid()
	return s, rename(path, s.PID)
}

// ended tells whether a process has ended, reaped or not. A process of several
// threads may be called a zombie while the last of them still has its files.
func ended(pid int) (bool, error) {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ESRCH) {
		return true, nil
	}
	if err != nil {
		return false, err
	}
	threads, err := os.ReadDir(fmt.Sprintf("/proc/%d/task", pid))
	if errors.Is(err, fs.ErrNotExist) {
		return true, nil
	}
	end := bytes.LastIndex(stat, []byte(") "))
	return end >= 0 && bytes.HasPrefix(stat[end+2:], []byte("Z")) && len(threads) <= 1, err
}
