package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"time"

	"github.com/go-pidfile/pidfile/bench/record"
)

// commands measures what the commands cost: to run COMMAND, to be refused, in
// memory, and from the end of one COMMAND to the beginning of the next.
func (b *bench) commands() error {
	truth, err := exec.LookPath("true")
	if err != nil {
		return err
	}
	var starts, refusals []contestant
	for n, c := range b.installed() {
		path := b.memory(fmt.Sprintf("c%02d.pid", n))
		argv := func() []string { return c.argv(c.program, path, []string{truth}) }
		if c.background {
			argv = func() []string { // the one before may still run
				b.fresh++
				return c.argv(c.program, fmt.Sprintf("%s.%d", path, b.fresh), []string{truth})
			}
		}
		starts = append(starts, contestant{c.name, func() (float64, error) { return spend(argv(), true) }})
		if err := b.peak(c, argv); err != nil {
			return err
		}
		if c.program == "" {
			continue
		}
		if err := b.commandGuarantees(c, path); err != nil {
			return fmt.Errorf("%s: %w", c.name, err)
		}
		held := b.memory(fmt.Sprintf("r%02d.pid", n))
		s, err := b.newStage(held)
		if err != nil {
			return err
		}
		defer s.close()
		if _, err := s.run(c); err != nil {
			return fmt.Errorf("%s: %w", c.name, err)
		}
		refused := c.argv(c.program, held, s.argv)
		refusals = append(refusals, contestant{c.name, func() (float64, error) { return spend(refused, false) }})
		if c.wait == nil {
			continue
		}
		if err := b.commandHandovers(c, b.memory(fmt.Sprintf("w%02d.pid", n))); err != nil {
			return fmt.Errorf("%s: %w", c.name, err)
		}
	}
	if err := b.interleave("command", "tmpfs", "ns", b.size.starts, starts); err != nil {
		return err
	}
	return b.interleave("command refused", "tmpfs", "ns", b.size.starts, refusals)
}

// spend runs a command to its end, which must be a success or not, and returns
// the nanoseconds that took. os.StartProcess is vfork and exec.
func spend(argv []string, success bool) (float64, error) {
	began := time.Now()
	p, err := os.StartProcess(argv[0], argv, &os.ProcAttr{Env: os.Environ(), Files: []*os.File{nil, nil, nil}})
	if err != nil {
		return 0, err
	}
	state, err := p.Wait()
	took := time.Since(began)
	if err == nil && state.Success() != success {
		err = fmt.Errorf("%q: %v", argv, state)
	}
	return float64(took.Nanoseconds()), err
}

// peak measures memory: of the command and of COMMAND, whichever had more.
func (b *bench) peak(c command, fresh func() []string) error {
	for range b.size.peaks {
		argv := fresh()
		out, err := exec.Command(b.tool("child"), append([]string{"peak"}, argv...)...).Output()
		if err != nil {
			return fmt.Errorf("%q: %w", argv, err)
		}
		kib, err := strconv.ParseFloat(strings.TrimSpace(string(out)), 64)
		if err != nil {
			return err
		}
		b.keep("command peak", "tmpfs", c.name, "KiB", kib)
	}
	return nil
}

// run starts a command, and returns when its COMMAND has reported.
func (s *stage) run(c command) (report, error) {
	if _, err := s.begin(c.argv(c.program, s.path, s.argv)); err != nil {
		return report{}, err
	}
	return s.next("ok", patience)
}

// last is the command that was started last.
func (s *stage) last() *instance { return s.began[len(s.began)-1] }

// commandGuarantees is like guarantees, for a command.
func (b *bench) commandGuarantees(c command, path string) error {
	g := &b.peer(c.name).Guarantees
	b.say("guarantees of %s", c.name)
	for _, ask := range []func(*stage, command, *record.Guarantees, size) error{
		askCommandNames, askCommandRefused, askCommandCrash, askCommandReused, askCommandBoth,
	} {
		s, err := b.newStage(path)
		if err != nil {
			return err
		}
		err = ask(s, c, g, b.size)
		s.close()
		if err := errors.Join(err, absent(path)); err != nil {
			return err
		}
	}
	return nil
}

// askCommandNames: COMMAND looks at once whether the file has its PID.
func askCommandNames(s *stage, c command, g *record.Guarantees, _ size) error {
	i, err := s.begin(c.argv(c.program, s.path, s.reader))
	if err != nil {
		return err
	}
	r, err := s.next("ok", patience)
	if err != nil {
		return err
	}
	g.Names = verdict(r.text == strconv.Itoa(r.pid))
	return s.endOf(i)
}

// askCommandRefused: a second one is started; then the first COMMAND ends.
func askCommandRefused(s *stage, c command, g *record.Guarantees, _ size) error {
	if _, err := s.run(c); err != nil {
		return err
	}
	first := s.last()
	second, err := s.begin(c.argv(c.program, s.path, s.argv))
	if err != nil {
		return err
	}
	ok, err := second.ended(patience)
	if err != nil {
		return err
	}
	g.Refuses = verdict(!ok)
	if err := s.endOf(first); err != nil {
		return err
	}
	_, err = os.Lstat(s.path)
	g.Cleans = verdict(errors.Is(err, fs.ErrNotExist))
	return nil
}

// endOf lets the one COMMAND end, and waits for the command that runs it.
func (s *stage) endOf(i *instance) error {
	if err := s.finish(); err != nil {
		return err
	}
	if _, err := s.next("released", patience); err != nil {
		return err
	}
	_, err := i.ended(patience)
	return err
}

// startsAgain tells whether a next start gets as far as COMMAND.
func (s *stage) startsAgain(c command) (bool, error) {
	i, err := s.begin(c.argv(c.program, s.path, s.argv))
	if err != nil {
		return false, err
	}
	reported := make(chan error, 1)
	go func() { _, err := s.next("ok", patience); reported <- err }()
	if c.background {
		if ok, err := i.ended(patience); err != nil || !ok {
			return false, err
		}
		return true, <-reported
	}
	select {
	case err := <-reported:
		return err == nil, err
	case <-i.done:
		return false, nil
	}
}

// askCommandCrash: the command and COMMAND are killed; another one is started.
func askCommandCrash(s *stage, c command, g *record.Guarantees, _ size) error {
	r, err := s.run(c)
	if err != nil {
		return err
	}
	if err := s.crash(r.pid); err != nil {
		return err
	}
	ok, err := s.startsAgain(c)
	g.Crash = verdict(ok)
	return err
}

// crash kills a command and its COMMAND, and returns when both have ended.
func (s *stage) crash(command int) error {
	s.last().killAll(command)
	if _, err := s.last().ended(patience); err != nil {
		return err
	}
	for end := time.Now().Add(patience); time.Now().Before(end); time.Sleep(time.Millisecond) {
		if over, err := ended(command); over || err != nil {
			return err
		}
	}
	return fmt.Errorf("process %d does not end", command)
}

// askCommandReused: the same, and the PID in the file is by now that of another
// process of the same program, which has nothing to do with the file.
func askCommandReused(s *stage, c command, g *record.Guarantees, _ size) error {
	r, err := s.run(c)
	if err != nil {
		return err
	}
	if err := s.crash(r.pid); err != nil {
		return err
	}
	if _, err := s.begin(s.argv); err != nil { // COMMAND, by itself
		return err
	}
	innocent, err := s.next("ok", patience)
	if err != nil {
		return err
	}
	if err := rename(s.path, innocent.pid); errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("no file is left of a crash: %w", err)
	} else if err != nil {
		return err
	}
	ok, err := s.startsAgain(c)
	g.Reused = verdict(ok)
	return err
}

// askCommandBoth: two are started at the same moment, on the file of a process
// that is dead. A COMMAND that was started waits until it is known of both
// whether they were.
func askCommandBoth(s *stage, c command, g *record.Guarantees, size size) error {
	for range max(1, size.pairs/4) {
		if err := os.WriteFile(s.path, []byte("4194304\n"), 0o644); err != nil {
			return err
		}
		var two []*instance
		for range 2 {
			i, err := s.begin(c.argv(c.program, s.path, s.argv))
			if err != nil {
				return err
			}
			two = append(two, i)
		}
		started, err := s.countStarted(two)
		if err != nil {
			return err
		}
		g.Rounds++
		if started == 2 {
			g.Both++
		}
		for range started {
			if err := s.finish(); err != nil {
				return err
			}
			if _, err := s.next("released", patience); err != nil {
				return err
			}
		}
		for _, i := range two {
			if _, err := i.ended(patience); err != nil {
				return err
			}
		}
	}
	return nil
}

// countStarted waits until each of two has reported or was refused.
func (s *stage) countStarted(two []*instance) (started int, err error) {
	for end := time.Now().Add(patience); time.Now().Before(end); {
		refused := 0
		for _, i := range two {
			select {
			case <-i.done:
				if i.err != nil {
					refused++
				}
			default:
			}
		}
		if started+refused == 2 {
			return started, nil
		}
		r, err := s.any(5 * time.Millisecond)
		switch {
		case errors.Is(err, os.ErrDeadlineExceeded):
		case err != nil:
			return started, err
		case r.word == "ok":
			started++
		}
	}
	return started, errors.New("two starts, and neither refused nor started")
}

// commandHandovers measures from the end of one COMMAND, or its death and its
// wrapper's, to the first instruction of the next, which waits for it.
func (b *bench) commandHandovers(c command, path string) error {
	b.say("handover of %s", c.name)
	for _, kill := range []bool{false, true} {
		s, err := b.newStage(path)
		if err != nil {
			return err
		}
		err = b.commandHandover(s, c, kill)
		s.close()
		if err := errors.Join(err, absent(path)); err != nil {
			return err
		}
	}
	return nil
}

func (b *bench) commandHandover(s *stage, c command, kill bool) error {
	r, err := s.run(c)
	if err != nil {
		return err
	}
	what := "command handover release"
	if kill {
		what = "command handover kill"
	}
	end := time.Now().Add(2 * b.size.budget)
	for i := 0; i < b.size.handovers && time.Now().Before(end); i++ {
		holder := s.last()
		if _, err := s.begin(c.wait(c.program, s.path, s.argv)); err != nil {
			return err
		}
		time.Sleep(20 * time.Millisecond) // until it waits
		began := now()
		if kill {
			holder.killAll(r.pid)
		} else if err := s.finish(); err != nil {
			return err
		} else if done, err := s.next("released", patience); err != nil {
			return err
		} else {
			began = done.at
		}
		if r, err = s.next("ok", patience); err != nil {
			return err
		}
		b.keep(what, "1", c.name, "ns", float64(r.at-began))
		if _, err := holder.ended(patience); err != nil {
			return err
		}
	}
	return nil
}
