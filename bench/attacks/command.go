package main

import (
	"os"
	"os/exec"
	"os/signal"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// What COMMAND does, beside noting that it runs.
const (
	plain      = "plain"      // runs until its time is over, or TERM
	stays      = "stays"      // notes TERM and stays a while, to note a second
	victim     = "victim"     // holds nothing, notes signals, and stays
	stray      = "stray"      // ends at once, and leaves a child behind
	background = "background" // ends at once, and a child of it goes on
	closes     = "closes"     // closes all descriptors, then is plain
	reads      = "reads"      // reads the PID file, then is plain
)

// A job is what an instance is to do. Its fields are the last arguments of
// whatever is started, so peers.py knows their order, too.
type job struct {
	log, id, mode string
	duration      time.Duration // 0: until TERM
	path          string        // of the PID file
}

func (j job) args() []string {
	return []string{j.log, j.id, j.mode, j.duration.String(), j.path}
}

func jobOf(args []string) (job, error) {
	d, err := time.ParseDuration(args[3])
	return job{args[0], args[1], args[2], d, args[4]}, err
}

// linger is how long "stays" waits for a second signal.
const linger = 300 * time.Millisecond

// work is COMMAND, or what a library's user does while it holds the file.
func (j job) work() error {
	p, err := openPen(j.log, j.id)
	if err != nil {
		return err
	}
	caught := make(chan os.Signal, 64)
	signal.Notify(caught, syscall.SIGTERM, syscall.SIGWINCH)
	switch j.mode {
	case closes:
		if err := unix.CloseRange(3, ^uint(0), unix.CLOSE_RANGE_CLOEXEC); err != nil {
			return err
		}
		j.mode = plain
		return unix.Exec(self, append([]string{self, "command"}, j.args()...), os.Environ())
	case reads:
		if _, err := os.ReadFile(j.path); err != nil {
			return err
		}
	case background:
		child := j
		child.mode = plain
		cmd := exec.Command(self, append([]string{"command"}, child.args()...)...)
		cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
		return cmd.Start()
	case stray:
		if err := exec.Command("sleep", "1000").Start(); err != nil {
			return err
		}
		p.note(enter)
		p.note(exit)
		return nil
	}
	if j.mode == victim {
		p.note(ready)
		p.attend(j, caught)
	}
	p.note(enter)
	p.attend(j, caught)
	p.note(exit)
	return nil
}

// attend notes what happens until the job is over.
func (p pen) attend(j job, caught <-chan os.Signal) {
	var over <-chan time.Time
	if j.duration > 0 {
		over = time.After(j.duration)
	}
	pause := 20 * time.Millisecond
	if over != nil {
		pause = 2 * time.Millisecond // it may be killed soon
	}
	tick := time.NewTicker(pause)
	defer tick.Stop()
	for {
		select {
		case sig := <-caught:
			p.note(unix.SignalName(sig.(syscall.Signal)))
			if sig != syscall.SIGTERM {
				continue
			}
			switch j.mode {
			case stays:
				over = time.After(linger)
			case victim:
			default:
				return
			}
		case <-over:
			return
		case <-tick.C:
			if j.mode != victim { // which holds nothing
				p.note(beat)
			}
		}
	}
}
