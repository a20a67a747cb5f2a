package supervise

import (
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Job control for a COMMAND that leads a process group of its own on a terminal.
// What a shell does for its jobs we do for COMMAND: its group has the
// terminal's foreground while it runs, we take that back when it stops, stop
// ourselves for our shell to see, and give it again when we go on.

// ourTerminal returns the descriptor of our controlling terminal if that is our
// standard input, else -1, and whether its keys are ours at the moment.
func ourTerminal() (tty int, foreground bool) {
	group, err := unix.IoctlGetInt(0, unix.TIOCGPGRP)
	if err != nil {
		return -1, false
	}
	return 0, group == unix.Getpgrp()
}

// giveTerminal puts COMMAND's group into the foreground, if ours is there.
func (s *Supervisor) giveTerminal() {
	if s.tty < 0 {
		return
	}
	if group, err := unix.IoctlGetInt(s.tty, unix.TIOCGPGRP); err == nil && group == unix.Getpgrp() {
		_ = unix.IoctlSetPointerInt(s.tty, unix.TIOCSPGRP, s.pid)
	}
}

// takeTerminal puts our group into the foreground, if COMMAND's is there.
func (s *Supervisor) takeTerminal() {
	if s.tty < 0 {
		return
	}
	if group, err := unix.IoctlGetInt(s.tty, unix.TIOCGPGRP); err == nil && group == s.pid {
		s.foreground(unix.Getpgrp())
	}
}

// foreground puts a group into the foreground. From the background that would
// stop us: TIOCSPGRP(2const).
func (s *Supervisor) foreground(group int) {
	ignoring(unix.SIGTTOU, func() {
		_ = unix.IoctlSetPointerInt(s.tty, unix.TIOCSPGRP, group) // the terminal may be gone
	})
}

// stopWith does what a signal that stops a job is for. One that was sent by hand is
// COMMAND's; if that stops, so do we, and our shell sees it. One that the terminal
// sent stops us, and COMMAND too if it is in our group.
func (s *Supervisor) stopWith(c siginfo) {
	sig := syscall.Signal(c.sig)
	switch {
	case s.command.Session && sig == stopKey && s.suspend():
	case c.byHand() || s.command.Session:
		s.stopped = s.tty < 0 && !s.command.Session // else see checkStopped and suspend
		s.send(sig)
	default:
		stopOurselves(sig, false)
	}
}

// suspend stops COMMAND, which has a session of its own, so that our terminal's
// keys cannot, and us. We go on, and have it go on, by the same CONT. It reports
// false if no process could have us go on: see checkStopped.
func (s *Supervisor) suspend() bool {
	if leader, err := unix.Getsid(0); err == nil && leader == unix.Getpgrp() {
		return false
	}
	s.send(unix.SIGSTOP)
	_ = unix.Kill(unix.Getpid(), unix.SIGSTOP)
	return true
}

// checkStopped stops us, and with us our shell's job, if COMMAND has stopped.
// Where there is no such shell, because ours is the group of the session's leader
// as in a container, no process could have us go on: there a key does not stop
// COMMAND either, as it would not without a group of its own.
func (s *Supervisor) checkStopped() {
	if s.tty < 0 {
		return
	}
	var info childInfo
	err := unix.Waitid(unix.P_PID, s.pid, (*unix.Siginfo)(unsafe.Pointer(&info)), unix.WSTOPPED|unix.WNOHANG, nil)
	if err != nil || int(info.u.pid) != s.pid {
		return
	}
	if leader, err := unix.Getsid(0); err == nil && leader == unix.Getpgrp() {
		if info.u.status == int32(unix.SIGTSTP) {
			s.send(unix.SIGCONT)
		}
		return
	}
	if sig := syscall.Signal(info.u.status); sig == unix.SIGTTIN || sig == unix.SIGTTOU {
		if _, foreground := ourTerminal(); foreground { // the shell put us there without a word
			s.giveTerminal()
			s.send(unix.SIGCONT)
			return
		}
	}
	s.takeTerminal()
	stopOurselves(unix.SIGTSTP, true)
}
