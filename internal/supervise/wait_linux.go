package supervise

import (
	"fmt"
	"syscall"
	"time"
	"unsafe"

	"github.com/go-pidfile/pidfile/internal/proc"
	"golang.org/x/sys/unix"
)

// siginfo is a caught signal, as the handler writes it: the beginning of siginfo_t.
type siginfo struct{ sig, code, pid int32 }

// Codes of signals, as far as they count here: sigaction(2).
const (
	siKernel   = 0x80
	siUser     = 0  // kill(2)
	siTkill    = -6 // tgkill(2)
	cldStopped = 5  // a child has stopped
)

// byHand reports whether a process has sent it.
func (c siginfo) byHand() bool { return c.code <= 0 }

// ours reports whether we have brought it on ourselves: by writing to a pipe that
// has no reader, or beyond RLIMIT_FSIZE, or by signalling our own group.
func (c siginfo) ours() bool {
	return (c.code == siUser || c.code == siTkill) && int(c.pid) == unix.Getpid()
}

// shared reports whether COMMAND gets the signal from the kernel as we do, and
// would get it twice: a terminal signals its whole foreground group for a key or
// a new size, and the end of a session's leader is a HUP to all. A HUP to the
// leader itself, when the terminal is gone, is for it alone.
func (c siginfo) shared(pid int) bool {
	group, err := unix.Getpgid(pid)
	if c.code != siKernel || err != nil || group != unix.Getpgrp() {
		return false
	}
	switch syscall.Signal(c.sig) {
	case unix.SIGINT, unix.SIGQUIT, unix.SIGWINCH, unix.SIGCONT:
		return true
	case unix.SIGHUP:
		leader, err := unix.Getsid(0)
		return err == nil && leader != unix.Getpid()
	}
	return false // a timer, set by the program that became us, or a limit
}

// shortRun is how long a COMMAND may take and still count as short.
const shortRun = 100 * time.Millisecond

// system is what a Supervisor has on Linux. All is done in one thread, which sleeps in
// poll(2).
type system struct {
	pipe  [2]int // caught signals
	pidfd int32  // COMMAND's; -1 if there is none
	tty   int    // in whose foreground COMMAND's group is; -1: none
	keys  bool   // our own group was there before

	stopped bool // a signal to stop was passed on: if COMMAND stops, so do we

	alarm    time.Time // when to send the next signal of our own
	ending   bool      // we have sent TERM
	overtime bool      // because of MaxRuntime

	orphans *orphans // nil if we do not get those of COMMAND
}

func (s *Supervisor) catch() error {
	if s.command.Tree {
		if err := proc.Usable(); err != nil { // other processes would be taken for COMMAND's
			return fmt.Errorf("--tree: %w: mount its own: mount -t proc proc /proc", err)
		}
	}
	s.pidfd, s.tty = -1, -1
	if s.group && !s.command.Session {
		s.tty, s.keys = ourTerminal()
	}
	if err := unix.Pipe2(s.pipe[:], unix.O_CLOEXEC|unix.O_NONBLOCK); err != nil {
		return err
	}
	if s.command.Tree || unix.Getpid() == 1 {
		s.orphans = newOrphans()
	}
	if s.command.Tree {
		if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
			unix.Close(s.pipe[0])
			unix.Close(s.pipe[1])
			return err
		}
	}
	if s.command.Session {
		catch(s.pipe[1], stopKey)
	} else {
		catch(s.pipe[1])
	}
	return nil
}

// next returns a caught signal.
func (s *Supervisor) next() (c siginfo, ok bool) {
	for {
		n, err := unix.Read(s.pipe[0], (*[unsafe.Sizeof(c)]byte)(unsafe.Pointer(&c))[:])
		if err != unix.EINTR {
			return c, n == int(unsafe.Sizeof(c))
		}
	}
}

func (s *Supervisor) cancel() (pending []syscall.Signal) {
	uncatch()
	for c, ok := s.next(); ok; c, ok = s.next() {
		pending = append(pending, syscall.Signal(c.sig))
	}
	unix.Close(s.pipe[0])
	unix.Close(s.pipe[1])
	if s.keys {
		s.foreground(unix.Getpgrp()) // the child that failed may have put its own there
	}
	return pending
}

func raise(pending []syscall.Signal) {
	for _, sig := range pending {
		if sig != unix.SIGCHLD {
			_ = unix.Kill(unix.Getpid(), sig)
		}
	}
}

func (s *Supervisor) wait(longRun func()) (overtime bool) {
	if s.pidfd < 0 { // before Linux 5.3: let a thread wait
		go func() {
			for unix.Waitid(unix.P_PID, s.pid, nil, unix.WEXITED|unix.WNOWAIT, nil) == unix.EINTR {
			}
			unix.Close(s.pipe[1]) // its end is as good as a descriptor's becoming readable
		}()
	}
	if s.command.MaxRuntime > 0 {
		s.alarm = time.Now().Add(s.command.MaxRuntime)
	}
	defer catchJobs(false)
	defer s.takeTerminal()
	fds := []unix.PollFd{{Fd: int32(s.pipe[0]), Events: unix.POLLIN}, {Fd: s.pidfd, Events: unix.POLLIN}}
	short := time.Now().Add(shortRun) // until then
	for {
		_, err := unix.Poll(fds, untilFirst(short, s.alarm))
		if err != nil && err != unix.EINTR {
			return s.overtime // cannot happen; reaping waits as well
		}
		if !short.IsZero() && !time.Now().Before(short) {
			short = time.Time{}
			longRun()
		}
		s.forward()
		ended := fds[1].Revents != 0 || fds[0].Revents&unix.POLLHUP != 0
		if s.orphans != nil {
			if ended && s.command.Tree {
				fds[1].Fd = -1 // it stays readable
				s.orphans.alone = true
			}
			s.orphans.reap(s.pid)
			if s.orphans.alone {
				s.orphans.catchUp(s.sent)
				ended = s.orphans.none(s.pid)
			}
		}
		if ended {
			return s.overtime
		}
		s.checkStopped()
		s.checkAlarm()
	}
}

// untilFirst is the time until the first of two moments, zero ones being never,
// as poll(2) takes it: in milliseconds, rounded up, -1 for ever.
func untilFirst(a, b time.Time) int {
	if a.IsZero() || !b.IsZero() && b.Before(a) {
		a = b
	}
	if a.IsZero() {
		return -1
	}
	ms := max(0, time.Until(a)+time.Millisecond-1) / time.Millisecond
	return int(min(ms, 1<<30)) // a longer wait goes round again
}

// askStop, in the place of a signal, is a call of stop.
const askStop = -1

func (s *Supervisor) stop() {
	c := siginfo{sig: askStop}
	_, _ = unix.Write(s.pipe[1], (*[unsafe.Sizeof(c)]byte)(unsafe.Pointer(&c))[:])
}

// forward passes caught signals on.
func (s *Supervisor) forward() {
	for c, ok := s.next(); ok; c, ok = s.next() {
		switch sig := syscall.Signal(c.sig); {
		case c.sig == askStop:
			s.end()
		case c.ours():
		case sig == unix.SIGTSTP || sig == unix.SIGTTIN || sig == unix.SIGTTOU:
			s.stopWith(c)
		case sig == unix.SIGCHLD && !c.byHand(): // for what looks at our children each time
			if c.code == cldStopped && int(c.pid) == s.pid && s.stopped {
				s.stopped = false
				stopOurselves(stopKey, false)
			}
		case !c.shared(s.pid):
			if sig == unix.SIGCONT {
				s.stopped = false
				catchJobs(true)
				s.giveTerminal()
			}
			s.send(sig)
		}
	}
}

// send sends a signal to COMMAND or its group, or to what they left behind.
func (s *Supervisor) send(sig syscall.Signal) {
	if s.orphans != nil {
		if s.orphans.send(sig, s.sent); s.orphans.alone {
			return
		}
	}
	target := s.pid
	if s.group {
		target = -target // a group as long as its leader is not reaped
	}
	s.sent(s.pid, sig, unix.Kill(target, sig))
}

// killAgain is how long after a KILL that was not allowed the next is tried.
const killAgain = time.Second

// checkAlarm ends COMMAND if its time has run out.
func (s *Supervisor) checkAlarm() {
	if s.alarm.IsZero() || time.Now().Before(s.alarm) {
		return
	}
	s.overtime = s.overtime || !s.ending
	if s.ending {
		s.alarm = time.Time{}
		if s.send(unix.SIGKILL); s.immune.Load() {
			s.alarm = time.Now().Add(killAgain)
		}
		return
	}
	s.end()
}

// end sends TERM, and CONT for whoever is stopped, and sees that KILL follows.
func (s *Supervisor) end() {
	if s.ending {
		return
	}
	s.ending = true
	s.alarm = time.Now().Add(s.command.KillAfter)
	if s.command.KillAfter > 0 {
		s.send(unix.SIGTERM)
		s.send(unix.SIGCONT)
	}
}
