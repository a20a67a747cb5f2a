package main

import (
	"fmt"
	"os"
	"slices"
	"strconv"
	"time"

	"github.com/go-pidfile/pidfile/bench/peers"
	"golang.org/x/sys/unix"
)

// handovers measures, with so many processes waiting, how long it takes from the
// beginning of a release, or from SIGKILL, until the next one has the file; how
// much CPU those who wait use meanwhile; and how much a release makes all of them
// use together.
func (b *bench) handovers() error {
	for i := range b.size.fleets {
		for _, n := range b.size.waiters {
			b.say("handover, fleet %d of %d: %d waiting", i+1, b.size.fleets, n)
			if err := b.each(func(l *peers.Lock, name string) error {
				if !l.Waits {
					return nil
				}
				defer b.dismiss()
				return b.handover(l, b.memory(fmt.Sprintf("h%d-%s", n, name)), n)
			}); err != nil {
				return err
			}
		}
	}
	return nil
}

// A fleet is a holder and those who wait for it.
type fleet struct {
	path   string
	settle time.Duration // until all who are to wait do so
	spawn  func() (*worker, error)
	crew   map[*worker]bool
	heard  chan word
	holder *worker
}

// A word is what one of the fleet said.
type word struct {
	from *worker
	answer
	err error
}

func (b *bench) handover(l *peers.Lock, path string, waiters int) error {
	f := &fleet{
		path:   path,
		settle: 5*time.Millisecond + time.Duration(waiters)*200*time.Microsecond,
		spawn:  func() (*worker, error) { return b.start(l) },
		crew:   map[*worker]bool{},
		heard:  make(chan word, 2*waiters+2),
	}
	defer f.disband()
	where := strconv.Itoa(waiters)
	if err := f.muster(waiters); err != nil {
		return err
	}
	cpu, err := f.cpu()
	if err != nil {
		return err
	}
	time.Sleep(b.size.idle)
	idle, err := f.since(cpu)
	if err != nil {
		return err
	}
	b.keep("cpu waiting", where, l.Name, "ns/s", float64(idle.total)/b.size.idle.Seconds())
	end := time.Now().Add(b.size.budget)
	for i := 0; i < b.size.handovers && time.Now().Before(end); i++ {
		took, spent, err := f.release()
		if err != nil {
			return err
		}
		b.keep("handover release", where, l.Name, "ns", float64(took))
		b.keep("cpu handover", where, l.Name, "ns", float64(spent.total))
		b.keep("woken", where, l.Name, "processes", float64(spent.awake))
	}
	end = time.Now().Add(b.size.budget)
	for i := 0; i < b.size.handovers && time.Now().Before(end); i++ {
		took, err := f.kill()
		if err != nil {
			return err
		}
		b.keep("handover kill", where, l.Name, "ns", float64(took))
	}
	return nil
}

// muster starts a holder, and then those who wait.
func (f *fleet) muster(waiters int) error {
	for i := range waiters + 1 {
		if err := f.recruit(); err != nil {
			return err
		}
		if i == 0 {
			w, err := f.next("ok")
			if err != nil {
				return err
			}
			f.holder = w.from
		}
	}
	time.Sleep(100*time.Millisecond + 10*f.settle)
	return nil
}

// recruit starts one who waits.
func (f *fleet) recruit() error {
	w, err := f.spawn()
	if err != nil {
		return err
	}
	f.crew[w] = true
	go func() {
		for {
			a, err := w.hear()
			f.heard <- word{w, a, err}
			if err != nil {
				return
			}
		}
	}()
	return w.tell("wait %s", f.path)
}

// next waits for somebody to say something.
func (f *fleet) next(what ...string) (word, error) {
	for {
		select {
		case w := <-f.heard:
			if !f.crew[w.from] {
				continue // it was killed
			}
			if w.err == nil && !slices.Contains(what, w.word) {
				w.err = fmt.Errorf("%q instead of %q", w.word, what)
			}
			return w, w.err
		case <-time.After(time.Minute):
			return word{}, fmt.Errorf("nobody said %q for a minute: a lost wake-up?", what)
		}
	}
}

// release makes the holder release, and returns how long it took until the next
// one had the file, and what all of them spent until they slept again.
func (f *fleet) release() (took int64, spent usage, err error) {
	cpu, err := f.cpu()
	if err != nil {
		return 0, spent, err
	}
	old := f.holder
	if err := old.tell("release"); err != nil {
		return 0, spent, err
	}
	var began, got int64
	for range 2 { // the two may be heard in any order
		w, err := f.next("ok", "released")
		if err != nil {
			return 0, spent, err
		}
		if w.word == "released" {
			began = w.number
			continue
		}
		got, f.holder = w.number, w.from
	}
	if err := old.tell("wait %s", f.path); err != nil {
		return 0, spent, err
	}
	time.Sleep(f.settle)
	spent, err = f.since(cpu)
	return got - began, spent, err
}

// kill kills the holder, and returns how long it took until the next one had the
// file. Another one comes to wait in its place.
func (f *fleet) kill() (took int64, err error) {
	delete(f.crew, f.holder)
	began := now()
	if err := f.holder.cmd.Process.Kill(); err != nil {
		return 0, err
	}
	w, err := f.next("ok")
	if err != nil {
		return 0, err
	}
	f.holder.kill()
	f.holder = w.from
	if err := f.recruit(); err != nil {
		return 0, err
	}
	time.Sleep(20*time.Millisecond + f.settle)
	return w.number - began, nil
}

func (f *fleet) disband() {
	for w := range f.crew {
		delete(f.crew, w)
		w.kill()
	}
}

// usage is CPU that the processes of a fleet used.
type usage struct {
	total int64 // nanoseconds
	awake int   // processes that used any
}

// cpu is what each process has used, all its threads together.
func (f *fleet) cpu() (map[*worker]int64, error) {
	used := map[*worker]int64{}
	for w := range f.crew {
		// clock_getcpuclockid(3): the CPU clock of another process.
		var t unix.Timespec
		if err := unix.ClockGettime(int32(^w.pid()<<3|2), &t); err != nil {
			return nil, os.NewSyscallError("clock_gettime", err)
		}
		used[w] = t.Nano()
	}
	return used, nil
}

func (f *fleet) since(before map[*worker]int64) (u usage, err error) {
	after, err := f.cpu()
	for w, t := range after {
		if t > before[w] {
			u.total += t - before[w]
			u.awake++
		}
	}
	return u, err
}
