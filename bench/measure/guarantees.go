package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/go-pidfile/pidfile/bench/peers"
	"github.com/go-pidfile/pidfile/bench/record"
)

// guarantees sees what each library guarantees, since figures of those that
// guarantee different things do not compare. What is read off a documentation
// is not asked here: every word comes from two or three processes that tried.
func (b *bench) guarantees() error {
	err := b.each(func(l *peers.Lock, name string) error {
		if l.Polls {
			return nil
		}
		b.say("guarantees of %s", l.Name)
		defer b.dismiss()
		g := &b.peer(l.Name).Guarantees
		path := b.memory("g" + name)
		for _, ask := range []func(*peers.Lock, string, *record.Guarantees) error{
			b.askRefused, b.askCrash, b.askReused, b.askBoth, b.askTorn,
		} {
			if err := ask(l, path, g); err != nil {
				return err
			}
			if err := absent(path); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil || b.strace == "" {
		return err
	}
	b.say("guarantees: whether inodes are compared")
	var asking sync.WaitGroup // together, since it is mostly waiting
	var failed error
	err = b.each(func(l *peers.Lock, name string) error {
		if l.Polls {
			return nil
		}
		asking.Go(func() {
			if err := b.askInode(l, b.memory("i"+name), &b.peer(l.Name).Guarantees); err != nil {
				b.mu.Lock()
				failed = errors.Join(failed, fmt.Errorf("%s: %w", l.Name, err))
				b.mu.Unlock()
			}
		})
		return nil
	})
	asking.Wait()
	for i := range peers.Locks {
		if l := &peers.Locks[i]; l.Polls { // the same lock
			b.peer(l.Name).Guarantees = b.peer("gofrs/flock").Guarantees
		}
	}
	return errors.Join(err, failed)
}

// absent removes a file if it is there.
func absent(path string) error {
	if err := os.Remove(path); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// take makes a worker try, or wait if it can only do that. It returns false if
// it was refused, or still waits when the patience ends.
func (w *worker) take(l *peers.Lock, path string, patience time.Duration) (bool, answer, error) {
	how := "wait %s"
	if l.Tries {
		how = "try %s 0"
	}
	if err := w.tell(how, path); err != nil {
		return false, answer{}, err
	}
	type heard struct {
		answer
		error
	}
	done := make(chan heard, 1)
	go func() { a, err := w.hear(); done <- heard{a, err} }()
	select {
	case h := <-done:
		return h.error == nil && h.word == "ok", h.answer, h.error
	case <-time.After(patience):
		if l.Tries {
			return false, answer{}, fmt.Errorf("%q: no answer in %v", w.cmd.Args, patience)
		}
		w.kill() // it can do nothing else any more
		return false, answer{}, nil
	}
}

// mustTake is take by one that is alone.
func (w *worker) mustTake(l *peers.Lock, path string) error {
	ok, a, err := w.take(l, path, patience)
	if err == nil && !ok {
		err = fmt.Errorf("cannot acquire what nobody has: %q", a.word)
	}
	return err
}

// patience is more than anybody who does not wait for another takes.
const patience = 20 * time.Second

func verdict(ok bool) string {
	if ok {
		return record.Yes
	}
	return record.No
}

// blocked is how long to wait for an answer that may not come.
func blocked(l *peers.Lock) time.Duration {
	if l.Tries {
		return patience
	}
	return 2 * time.Second
}

// askRefused: one holds; a second one tries. Then the first one releases.
func (b *bench) askRefused(l *peers.Lock, path string, g *record.Guarantees) error {
	holder, other, err := b.two(l)
	if err != nil {
		return err
	}
	if err := holder.mustTake(l, path); err != nil {
		return err
	}
	ok, a, err := other.take(l, path, blocked(l))
	if err != nil {
		return err
	}
	g.Refuses, g.Names = verdict(!ok), verdict(!ok && a.number == int64(holder.pid()))
	if _, err := holder.ask("released", "release"); err != nil {
		return err
	}
	_, err = os.Lstat(path)
	g.Cleans = verdict(errors.Is(err, fs.ErrNotExist))
	return nil
}

func (b *bench) two(l *peers.Lock) (x, y *worker, err error) {
	if x, err = b.start(l); err == nil {
		y, err = b.start(l)
	}
	return x, y, err
}

// askCrash: a holder is killed; another one tries.
func (b *bench) askCrash(l *peers.Lock, path string, g *record.Guarantees) error {
	holder, other, err := b.two(l)
	if err != nil {
		return err
	}
	if err := holder.mustTake(l, path); err != nil {
		return err
	}
	holder.kill()
	ok, _, err := other.take(l, path, blocked(l))
	g.Crash = verdict(ok)
	return err
}

// askReused: a holder was killed an hour ago, and its PID now is that of a live
// process of the same program, which has nothing to do with the file.
func (b *bench) askReused(l *peers.Lock, path string, g *record.Guarantees) error {
	holder, other, err := b.two(l)
	if err != nil {
		return err
	}
	innocent, err := b.start(l)
	if err != nil {
		return err
	}
	if err := holder.mustTake(l, path); err != nil {
		return err
	}
	holder.kill()
	if err := rename(path, innocent.pid()); err != nil {
		return err
	}
	ok, _, err := other.take(l, path, blocked(l))
	g.Reused = verdict(ok)
	return err
}

// rename lets a file that has a PID in it name another process, and makes it an
// hour old.
func rename(path string, pid int) error {
	if fi, err := os.Stat(path); err == nil && fi.Size() > 0 {
		if err := os.WriteFile(path, fmt.Appendln(nil, pid), 0o644); err != nil {
			return err
		}
	}
	old := time.Now().Add(-time.Hour)
	return os.Chtimes(path, old, old)
}

// askBoth: two try at the same moment, again and again, on the file of a process
// that is dead. Who got it keeps it until both have said how it went, so if both
// got it, both have it at once.
func (b *bench) askBoth(l *peers.Lock, path string, g *record.Guarantees) error {
	if !l.Tries {
		return nil
	}
	x, y, err := b.two(l)
	if err != nil {
		return err
	}
	for range b.size.pairs {
		if err := os.WriteFile(path, []byte("4194304\n"), 0o644); err != nil { // above every kernel's maximum
			return err
		}
		at := now() + 200_000
		if err := errors.Join(x.tell("try %s %d", path, at), y.tell("try %s %d", path, at)); err != nil {
			return err
		}
		a, errA := x.hear()
		c, errC := y.hear()
		if errA != nil && errC != nil {
			return errors.Join(errA, errC)
		}
		g.Rounds++
		if a.word == "ok" && c.word == "ok" {
			g.Both++
		}
		for w, got := range map[*worker]answer{x: a, y: c} {
			if got.word == "ok" {
				// If both have it, the second finds its file removed.
				if err := w.tell("release"); err != nil {
					return err
				}
				_, _ = w.hear()
			}
		}
	}
	return nil
}

// askTorn: one acquires and releases without end; a reader reads the file as
// often as it can, and counts what is no whole PID.
func (b *bench) askTorn(l *peers.Lock, path string, g *record.Guarantees) error {
	w, err := b.start(l)
	if err != nil {
		return err
	}
	done := make(chan error, 1)
	go func() {
		_, err := w.ask("took", "cycle %s %d", path, b.size.cycles)
		done <- err
	}()
	pid := strconv.Itoa(w.pid())
	for {
		select {
		case err := <-done:
			return err
		default:
		}
		text, err := os.ReadFile(path)
		if err != nil {
			continue // not there at this instant
		}
		g.Reads++
		if strings.TrimSuffix(string(text), "\n") != pid {
			g.Torn++
		}
	}
}

// held is how long the slow one is held up in askInode.
const held = 1500 * time.Millisecond

// askInode: one process has opened the file, and is held up just before it locks
// it. Meanwhile the holder is killed, somebody removes the file, and a third process
// acquires. Then the first goes on: will it believe that it is the one?
func (b *bench) askInode(l *peers.Lock, path string, g *record.Guarantees) error {
	for range 3 { // in vain if the machine is so slow that he was not held up long enough
		var err error
		g.Inode, err = b.overtake(l, path)
		if err != nil || g.Inode != "" {
			return err
		}
		if err := absent(path); err != nil {
			return err
		}
	}
	return nil
}

func (b *bench) overtake(l *peers.Lock, path string) (string, error) {
	holder, third, err := b.two(l)
	if err != nil {
		return "", err
	}
	defer third.kill()
	defer holder.kill()
	slow, err := b.start(l, b.strace, "-f", "-qq", "-o", "/dev/null", "-e", "trace=flock",
		"-e", fmt.Sprintf("inject=flock:delay_enter=%d", held.Microseconds()))
	if err != nil {
		return "", err
	}
	defer slow.kill()
	if err := holder.mustTake(l, path); err != nil {
		return "", err
	}
	type result struct {
		ok  bool
		err error
	}
	done := make(chan result, 1)
	go func() {
		ok, _, err := slow.take(l, path, 10*held)
		done <- result{ok, err}
	}()
	since := time.Now()
	for !opened(slow.pid(), path) {
		select {
		case r := <-done: // it did not stop between open and lock: it takes none
			return "no lock", r.err
		case <-time.After(time.Millisecond):
			since = time.Now()
		}
	}
	for range 3 { // held up, or only passing by?
		time.Sleep(held / 30)
		if !opened(slow.pid(), path) {
			return "no lock", (<-done).err
		}
	}
	holder.kill()
	if err := absent(path); err != nil {
		return "", err
	}
	if err := third.mustTake(l, path); err != nil {
		return "", err
	}
	late := time.Since(since) > held*9/10
	r := <-done
	if late {
		return "", r.err
	}
	return verdict(!r.ok), r.err
}

// opened tells whether the child of a process has a file open.
func opened(parent int, path string) bool {
	children, _ := os.ReadFile(fmt.Sprintf("/proc/%d/task/%[1]d/children", parent))
	for _, child := range strings.Fields(string(children)) {
		links, _ := filepath.Glob("/proc/" + child + "/fd/*")
		for _, link := range links {
			if to, err := os.Readlink(link); err == nil && to == path {
				return true
			}
		}
	}
	return false
}
