//go:build unix && !linux

package supervise

import (
	"os"
	"os/signal"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/go-pidfile/pidfile/internal/lock"
	"golang.org/x/sys/unix"
)

type system struct {
	signals  chan os.Signal
	overtime atomic.Bool
}

func (s *Supervisor) catch() error {
	switch {
	case s.command.Tree:
		return &UnsupportedError{"Tree"}
	case s.command.DieTogether:
		return &UnsupportedError{"DieTogether"}
	}
	s.signals = make(chan os.Signal, 64)
	Notify(s.signals, passed[:]...)
	if s.command.Session {
		Notify(s.signals, stopKey)
	}
	return nil
}

func (s *Supervisor) cancel() []syscall.Signal {
	signal.Stop(s.signals)
	return nil
}

func raise([]syscall.Signal) {}

// start starts COMMAND and then records its PID: for the moment between, the
// file names this process.
func (s *Supervisor) start(b *lock.Pending) error {
	if err := b.Write(os.Getpid()); err != nil {
		return err
	}
	c := s.command
	attr := &os.ProcAttr{Dir: c.Dir, Env: c.Env, Files: []*os.File{os.Stdin, os.Stdout, os.Stderr}}
	if c.Output != nil {
		attr.Files = []*os.File{os.Stdin, c.Output, c.Output}
	}
	attr.Sys = &syscall.SysProcAttr{Setpgid: s.group && !c.Session, Setsid: c.Session}
	c.Account.setCredential(attr.Sys)
	if c.Umask != nil { // a child has its parent's
		defer unix.Umask(unix.Umask(*c.Umask))
	}
	p, err := os.StartProcess(c.Path, c.Args, attr)
	if err != nil {
		return err
	}
	s.pid = p.Pid
	b.OldSize = lock.MaxText // ours, maybe longer
	return b.Write(s.pid)
}

// wait passes signals on, in the background, until COMMAND has ended.
func (s *Supervisor) wait(longRun func()) (overtime bool) {
	longRun()
	if s.command.MaxRuntime > 0 {
		defer time.AfterFunc(s.command.MaxRuntime, func() {
			s.overtime.Store(true)
			s.stop()
		}).Stop()
	}
	go func() {
		for sig := range s.signals {
			if sig == stopKey {
				s.suspend()
			} else if s.group || (sig != os.Interrupt && sig != syscall.SIGQUIT) || !inForeground() {
				s.send(sig.(syscall.Signal))
			}
		}
	}()
	awaitEnd(s.pid)
	return s.overtime.Load()
}

// awaitEnd waits until our child has ended, and does not reap it: kqueue(2).
func awaitEnd(pid int) {
	queue, err := unix.Kqueue()
	if err != nil {
		return // reaping waits as well
	}
	defer unix.Close(queue)
	event := unix.Kevent_t{Fflags: unix.NOTE_EXIT}
	unix.SetKevent(&event, pid, unix.EVFILT_PROC, unix.EV_ADD|unix.EV_ONESHOT)
	for { // ESRCH: it has ended
		if _, err = unix.Kevent(queue, []unix.Kevent_t{event}, make([]unix.Kevent_t, 1), nil); err != unix.EINTR {
			return
		}
	}
}

func (s *Supervisor) stop() {
	if s.command.KillAfter > 0 {
		s.send(syscall.SIGTERM)
		time.Sleep(s.command.KillAfter)
	}
	for s.send(syscall.SIGKILL); s.immune.Load(); s.send(syscall.SIGKILL) {
		time.Sleep(time.Second)
	}
}

// suspend stops COMMAND's group, which our terminal cannot stop, and us.
func (s *Supervisor) suspend() {
	s.send(unix.SIGSTOP)
	_ = unix.Kill(os.Getpid(), unix.SIGSTOP)
}

func (s *Supervisor) send(sig syscall.Signal) {
	target := s.pid
	if s.group {
		target = -target
	}
	s.sent(s.pid, sig, unix.Kill(target, sig))
}

// asUser calls do with a's rights, which the whole process has so long.
func asUser(a *Account, do func()) error {
	ours, err := unix.Getgroups()
	if err != nil {
		return err
	}
	group := unix.Getegid()
	if err := unix.Setgroups(a.groups()); err != nil {
		return err
	}
	defer unix.Setgroups(ours) // as root again: cannot fail
	if err := unix.Setegid(a.GID); err != nil {
		return err
	}
	defer unix.Setegid(group)
	if err := unix.Seteuid(a.UID); err != nil {
		return err
	}
	defer unix.Seteuid(0)
	do()
	return nil
}

// RedirectStderr has this process write its errors to output from now on, as COMMAND
// does, and closes output.
func RedirectStderr(output *os.File) {
	_ = unix.Dup2(int(output.Fd()), 2) // a failure leaves what we say where it went
	output.Close()
}

// CloseOthersOnExec is for Linux.
func CloseOthersOnExec() {}

// SurvivePipe makes writing to a pipe without a reader an error like others: a
// supervisor must not die of telling something.
func SurvivePipe() { signal.Notify(make(chan os.Signal, 1), unix.SIGPIPE) }

// EndBySignals is for Linux.
func EndBySignals() {}
