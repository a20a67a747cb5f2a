//go:build unix

package supervise

import (
	"os"
	"os/exec"
	"syscall"

	"golang.org/x/sys/unix"
)

// Exec makes this process COMMAND; fd, which Inherited tells, stays open. It returns
// if that fails. Of the fields about a child none counts: Group, Session,
// DieTogether, Output, Tree and MaxRuntime.
func (c *Command) Exec(fd int) error {
	step, err := "inherit", error(nil)
	try := func(name string, call func() error) {
		if err == nil {
			step, err = name, call()
		}
	}
	try("inherit", func() error { _, err := unix.FcntlInt(uintptr(fd), unix.F_SETFD, 0); return err })
	if c.Umask != nil {
		unix.Umask(*c.Umask)
	}
	if a := c.Account; a != nil {
		try("change the user for", func() error {
			if err := syscall.Setgroups(a.groups()); err != nil {
				return err
			}
			if err := syscall.Setgid(a.GID); err != nil {
				return err
			}
			return syscall.Setuid(a.UID)
		})
	}
	if c.Dir != "" {
		try("change the directory for", func() error { return unix.Chdir(c.Dir) })
	}
	try(StepExec, func() error {
		err := syscall.Exec(c.Path, c.Args, c.Env)
		if err == syscall.ENOEXEC {
			_ = syscall.Exec(shell, c.asScript(), c.Env)
		}
		return err
	})
	return &StartError{step, c.Path, err.(syscall.Errno)}
}

// asScript is the argument list that runs COMMAND, a script without #!, as execvp(3)
// does.
func (c *Command) asScript() []string {
	return append([]string{"sh", c.Path}, c.Args[1:]...)
}

// StartDetached starts a COMMAND that writes a PID file itself, in a session of its
// own and without a supervisor. It has Path, Args, Env, Dir, Umask, Account and
// Output; no other field counts.
func (c *Command) StartDetached() (*exec.Cmd, error) {
	child := &exec.Cmd{Path: c.Path, Args: c.Args, Env: c.Env, Dir: c.Dir, SysProcAttr: NewSession()}
	if c.Output != nil {
		child.Stdout, child.Stderr = c.Output, c.Output
	}
	c.Account.setCredential(child.SysProcAttr)
	if c.Umask != nil { // a child has its parent's
		defer unix.Umask(unix.Umask(*c.Umask))
	}
	return child, child.Start()
}

// NewSession has a child lead a session of its own, without a terminal.
func NewSession() *syscall.SysProcAttr { return &syscall.SysProcAttr{Setsid: true} }

func (a *Account) setCredential(attr *syscall.SysProcAttr) {
	if a != nil {
		attr.Credential = &syscall.Credential{Uid: uint32(a.UID), Gid: uint32(a.GID), Groups: a.Groups}
	}
}

// groups is Groups as package syscall takes them.
func (a *Account) groups() []int {
	groups := make([]int, len(a.Groups))
	for i, g := range a.Groups {
		groups[i] = int(g)
	}
	return groups
}

func reap(pid int) (int, error) {
	var status unix.WaitStatus
	for {
		_, err := unix.Wait4(pid, &status, 0, nil)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return 0, err
		}
		if status.Signaled() {
			return 128 + int(status.Signal()), nil
		}
		return status.ExitStatus(), nil
	}
}

// CloseOnExec keeps a descriptor from COMMAND.
func CloseOnExec(fd int) { unix.CloseOnExec(fd) }

// InForeground reports whether this process is in the foreground of a terminal. One
// that is not its controlling terminal has no foreground, and counts as well.
func InForeground(tty int) bool {
	group, err := unix.IoctlGetInt(tty, unix.TIOCGPGRP)
	return err != nil || group == unix.Getpgrp()
}

// OnOthersTerminal reports whether our controlling terminal is that of a session
// which another process leads, a shell for one. In doubt it is.
func OnOthersTerminal() bool {
	if leader, err := unix.Getsid(0); err == nil && leader == os.Getpid() {
		return false
	}
	tty, err := unix.Open("/dev/tty", unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC, 0)
	if err == nil {
		unix.Close(tty)
	}
	return err != unix.ENXIO // tty(4): there is none
}
