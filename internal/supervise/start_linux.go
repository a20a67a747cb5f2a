package supervise

import (
	"io"
	"os"
	"runtime"
	"syscall"
	"unsafe"

	"github.com/go-pidfile/pidfile/internal/lock"
	"github.com/go-pidfile/pidfile/internal/supervise/rlimit"
	"golang.org/x/sys/unix"
)

// These three are what package syscall calls around its own fork. The runtime
// keeps them for programs like this one: go.dev/issue/67401.

//go:linkname beforeFork syscall.runtime_BeforeFork
func beforeFork()

//go:linkname afterFork syscall.runtime_AfterFork
func afterFork()

//go:linkname afterForkInChild syscall.runtime_AfterForkInChild
func afterForkInChild()

// What the child failed at, as it tells through the pipe.
const (
	stepNone = iota
	stepWrite
	stepTruncate
	stepLink
	stepInherit
	stepGroup
	stepSession
	stepChdir
	stepOutput
	stepUser
	stepDie
	stepExec
)

var steps = [...]string{
	stepWrite: "write", stepTruncate: "truncate", stepLink: "link", stepInherit: "inherit",
	stepGroup: "make a process group for", stepSession: "make a session for", stepChdir: "change the directory for", stepOutput: "redirect the output of",
	stepUser: "change the user for", stepDie: "bind our end to that of", stepExec: StepExec,
}

// execArgs is all that the child needs, in a form that takes no allocation, no
// lock and no deeper stack to use: between fork and exec only this one thread
// of the runtime exists.
type execArgs struct {
	fd      int
	oldSize int64
	keep    int        // the descriptor that COMMAND inherits; -1: none
	at      int        // the directory of the PID file
	link    bool       // and its name in there is pidfile
	from    *byte      // or is this until then
	nofile  *[2]uint64 // as it was before package syscall raised it
	caught  uint64     // signals to be set to their default, from bit 1 on
	report  int        // write end of the pipe, closed by exec
	pidfile *byte
	empty   *byte
	path    *byte
	argv    **byte
	envv    **byte
	shell   *byte  // for a file that execve(2) does not know: a script without #!
	shArgv  **byte // as execvp(3) runs it

	group    bool
	session  bool
	tty      int   // in whose foreground the group is to be; -1: none
	output   int   // becomes standard output and error; -1: none
	umask    int   // -1: ours
	dir      *byte // nil: ours
	account  bool
	uid, gid int
	groups   *uint32
	nGroups  int
	parent   uintptr // whose end is to be the child's; 0: none
}

// start forks, and in the child records its PID, shows the file and becomes
// COMMAND.
func (s *Supervisor) start(b *lock.Pending) (err error) {
	c := s.command
	p := execArgs{fd: b.FD, oldSize: b.OldSize, keep: c.Inherited(b), link: b.Link()}
	at, name, from := b.Names()
	p.at = at
	if p.pidfile, err = syscall.BytePtrFromString(name); err != nil {
		return err
	}
	if from != "" {
		if p.from, err = syscall.BytePtrFromString(from); err != nil {
			return err
		}
	}
	if p.path, err = syscall.BytePtrFromString(c.Path); err != nil {
		return err
	}
	argv, err := syscall.SlicePtrFromStrings(c.Args)
	if err != nil {
		return err
	}
	envv, err := syscall.SlicePtrFromStrings(c.Env)
	if err != nil {
		return err
	}
	shArgv, err := syscall.SlicePtrFromStrings(c.asScript())
	if err != nil {
		return err
	}
	p.argv, p.envv, p.shArgv = &argv[0], &envv[0], &shArgv[0]
	var empty [1]byte
	shell := []byte(shell + "\x00")
	p.empty, p.shell = &empty[0], &shell[0]

	if c.DieTogether { // see fork
		startThreads(threads + 1)
	} else {
		startThreads(threads)
	}
	catchJobs(true)
	p.caught = caughtSignals()
	if rlimit.Known {
		p.nofile = &rlimit.NoFile
	}
	if err := p.setAttrs(s); err != nil {
		return err
	}

	var pipe [2]int
	if err := unix.Pipe2(pipe[:], unix.O_CLOEXEC); err != nil {
		return os.NewSyscallError("pipe2", err)
	}
	p.report = pipe[1]
	pid, pidfd, errno := p.fork()
	runtime.KeepAlive(argv)
	runtime.KeepAlive(envv)
	runtime.KeepAlive(shArgv)
	unix.Close(pipe[1])
	defer unix.Close(pipe[0])
	if errno != 0 {
		return os.NewSyscallError("fork", errno)
	}
	var said [2]uint32
	n, err := readFull(pipe[0], (*[8]byte)(unsafe.Pointer(&said))[:])
	if n == 0 && err == io.EOF {
		s.pid, s.pidfd = pid, pidfd
		return nil // exec closed the pipe
	}
	if n < len(said)*4 { // how far it came is not known: it may be COMMAND by now
		_ = unix.Kill(pid, unix.SIGKILL)
	}
	if pidfd >= 0 {
		unix.Close(int(pidfd))
	}
	var status unix.WaitStatus
	for {
		if _, err := unix.Wait4(pid, &status, 0, nil); err != unix.EINTR {
			break
		}
	}
	if n < len(said)*4 {
		s.pid = pid
		return os.NewSyscallError("read", err)
	}
	e := &StartError{steps[said[0]], c.Path, syscall.Errno(said[1])}
	if said[0] < stepGroup {
		e.Path = b.Path()
	}
	if p.link && said[0] == stepLink && (e.Errno == unix.EPERM || e.Errno == unix.EACCES || e.Errno == unix.EOPNOTSUPP || e.Errno == unix.ENOSYS || e.Errno == unix.EMLINK) {
		return lock.ErrNoAnonymous
	}
	if said[0] == stepLink && (e.Errno == unix.EEXIST || e.Errno == unix.ENOENT) {
		return e.Errno
	}
	s.pid = pid
	return e
}

// setAttrs fills in what COMMAND has of its own.
func (p *execArgs) setAttrs(s *Supervisor) (err error) {
	c := s.command
	p.group, p.session, p.tty, p.output, p.umask = s.group, c.Session, -1, -1, -1
	if s.keys {
		p.tty = s.tty
	}
	if c.Output != nil {
		p.output = int(c.Output.Fd())
	}
	if c.Umask != nil {
		p.umask = *c.Umask
	}
	if c.Dir != "" {
		if p.dir, err = syscall.BytePtrFromString(c.Dir); err != nil {
			return err
		}
	}
	if a := c.Account; a != nil {
		p.account, p.uid, p.gid, p.nGroups = true, a.UID, a.GID, len(a.Groups)
		p.groups = unsafe.SliceData(a.Groups)
	}
	if c.DieTogether {
		p.parent = uintptr(unix.Getpid())
	}
	return nil
}

// fork starts the child.
func (p *execArgs) fork() (pid int, pidfd int32, e syscall.Errno) {
	syscall.ForkLock.Lock()
	defer syscall.ForkLock.Unlock()
	if p.parent == 0 {
		return forkExec(p)
	}
	// The kernel takes the end of the thread that forked for the parent's end,
	// PR_SET_PDEATHSIG(2const). This one does not end before the process does.
	done := make(chan struct{})
	go func() {
		runtime.LockOSThread()
		pid, pidfd, e = forkExec(p)
		close(done)
		select {}
	}()
	<-done
	return pid, pidfd, e
}

func readFull(fd int, buf []byte) (n int, err error) {
	for n < len(buf) {
		k, err := unix.Read(fd, buf[n:])
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return n, err
		}
		if k == 0 {
			return n, io.EOF
		}
		n += k
	}
	return n, nil
}

// atFDCWD is AT_FDCWD as the kernel takes it.
const atFDCWD = ^uintptr(0) - 99 // -100

// forkExec returns in the parent only. The child shares our memory, stack and
// all, until it has become COMMAND or has ended; we are suspended so long.
//
//go:norace
//go:noinline
func forkExec(p *execArgs) (pid int, pidfd int32, e syscall.Errno) {
	var (
		text    [32]byte
		st      unix.Statx_t
		said    [2]uint32
		fresh   sigaction
		r, n, c uintptr
		errno   uintptr
		i       int
	)
	pidfd = -1
	beforeFork() // blocks all signals
	c, errno = vfork(forkFlags, &pidfd)
	if errno != 0 || c != 0 {
		afterFork()
		return int(c), pidfd, syscall.Errno(errno)
	}

	// The child. No allocation, no call that may grow the stack. All signals
	// are blocked until shortly before exec, so that taking the terminal does not
	// stop us, and a write beyond RLIMIT_FSIZE is an error and not our end by
	// SIGXFSZ, which would pass for COMMAND's.
	if p.session { // and so a group
		said[0] = stepSession
		_, _, e = syscall.RawSyscall(syscall.SYS_SETSID, 0, 0, 0)
		if e != 0 {
			goto failed
		}
	} else if p.group {
		said[0] = stepGroup
		_, _, e = syscall.RawSyscall(syscall.SYS_SETPGID, 0, 0, 0)
		if e == 0 && p.tty >= 0 {
			c, _, _ = syscall.RawSyscall(syscall.SYS_GETPID, 0, 0, 0)
			said[1] = uint32(c)
			_, _, e = syscall.RawSyscall(syscall.SYS_IOCTL, uintptr(p.tty), syscall.TIOCSPGRP, uintptr(unsafe.Pointer(&said[1])))
		}
		if e != 0 {
			goto failed
		}
	}
	for i = 1; i <= maxSignal; i++ { // what we caught is COMMAND's own, and at its default
		if p.caught>>uint(i)&1 != 0 {
			_, _, _ = syscall.RawSyscall6(unix.SYS_RT_SIGACTION, uintptr(i), uintptr(unsafe.Pointer(&fresh)), 0, 8, 0, 0)
		}
	}
	c, _, _ = syscall.RawSyscall(syscall.SYS_GETPID, 0, 0, 0)
	n = 1
	for r = c; r >= 10; r /= 10 {
		n++
	}
	text[n] = '\n'
	for r = n; r > 0; r-- {
		text[r-1] = byte('0' + c%10)
		c /= 10
	}
	n++
	said[0] = stepWrite
	for e = syscall.EINTR; e == syscall.EINTR; {
		_, _, e = syscall.RawSyscall6(syscall.SYS_PWRITE64, uintptr(p.fd), uintptr(unsafe.Pointer(&text[0])), n, 0, 0, 0)
	}
	if e == 0 && p.oldSize > int64(n) {
		said[0] = stepTruncate
		for e = syscall.EINTR; e == syscall.EINTR; {
			_, _, e = syscall.RawSyscall(syscall.SYS_FTRUNCATE, uintptr(p.fd), n, 0)
		}
	}
	if e == 0 && p.link {
		said[0] = stepLink
		for e = syscall.EINTR; e == syscall.EINTR; {
			_, _, e = syscall.RawSyscall6(syscall.SYS_LINKAT, uintptr(p.fd), uintptr(unsafe.Pointer(p.empty)), uintptr(p.at), uintptr(unsafe.Pointer(p.pidfile)), unix.AT_EMPTY_PATH, 0)
		}
		if e == syscall.ENOENT || e == syscall.EINVAL { // before Linux 6.10: see lock.name.link
			text = [32]byte{'/', 'p', 'r', 'o', 'c', '/', 's', 'e', 'l', 'f', '/', 'f', 'd', '/'}
			n = 14
			for r = uintptr(p.fd); r >= 10; r /= 10 {
				n++
			}
			for r = uintptr(p.fd); ; r /= 10 {
				text[n] = byte('0' + r%10)
				if n--; r < 10 {
					break
				}
			}
			for e = syscall.EINTR; e == syscall.EINTR; {
				_, _, e = syscall.RawSyscall6(syscall.SYS_LINKAT, atFDCWD, uintptr(unsafe.Pointer(&text[0])), uintptr(p.at), uintptr(unsafe.Pointer(p.pidfile)), unix.AT_SYMLINK_FOLLOW, 0)
			}
		}
	}
	if e == 0 && p.from != nil {
		said[0] = stepLink
		for e = syscall.EINTR; e == syscall.EINTR; {
			_, _, e = syscall.RawSyscall6(unix.SYS_RENAMEAT2, uintptr(p.at), uintptr(unsafe.Pointer(p.from)), uintptr(p.at), uintptr(unsafe.Pointer(p.pidfile)), 0, 0)
		}
		if e == 0 { // was it ours? see lock.Pending
			_, _, e = syscall.RawSyscall6(unix.SYS_STATX, uintptr(p.fd), uintptr(unsafe.Pointer(p.empty)), unix.AT_EMPTY_PATH, unix.STATX_NLINK, uintptr(unsafe.Pointer(&st)), 0)
			if e == 0 && st.Nlink == 0 {
				e = syscall.ENOENT
			}
		}
	}
	if e == 0 && p.keep >= 0 {
		said[0] = stepInherit
		_, _, e = syscall.RawSyscall(unix.SYS_FCNTL, uintptr(p.keep), syscall.F_SETFD, 0)
	}
	if e == 0 && p.output >= 0 {
		said[0] = stepOutput
		_, _, e = syscall.RawSyscall(syscall.SYS_DUP3, uintptr(p.output), 1, 0)
		if e == 0 {
			_, _, e = syscall.RawSyscall(syscall.SYS_DUP3, uintptr(p.output), 2, 0)
		}
	}
	if p.umask >= 0 {
		_, _, _ = syscall.RawSyscall(syscall.SYS_UMASK, uintptr(p.umask), 0, 0)
	}
	if e == 0 && p.account { // our privileges were for the PID file
		said[0] = stepUser
		_, _, e = syscall.RawSyscall(sysSetgroups, uintptr(p.nGroups), uintptr(unsafe.Pointer(p.groups)), 0)
		if e == 0 {
			_, _, e = syscall.RawSyscall(sysSetgid, uintptr(p.gid), 0, 0)
		}
		if e == 0 {
			_, _, e = syscall.RawSyscall(sysSetuid, uintptr(p.uid), 0, 0)
		}
	}
	if e == 0 && p.dir != nil {
		said[0] = stepChdir
		_, _, e = syscall.RawSyscall(syscall.SYS_CHDIR, uintptr(unsafe.Pointer(p.dir)), 0, 0)
	}
	if e == 0 && p.parent != 0 { // after setuid(2), which undoes it
		said[0] = stepDie
		_, _, e = syscall.RawSyscall(syscall.SYS_PRCTL, unix.PR_SET_PDEATHSIG, uintptr(syscall.SIGKILL), 0)
		c, _, _ = syscall.RawSyscall(syscall.SYS_GETPPID, 0, 0, 0)
		if e == 0 && c != p.parent { // it was too late
			e = syscall.ESRCH
		}
	}
	if e == 0 {
		if p.nofile != nil { // a failure leaves COMMAND with a higher limit
			_, _, _ = syscall.RawSyscall6(unix.SYS_PRLIMIT64, 0, syscall.RLIMIT_NOFILE, uintptr(unsafe.Pointer(p.nofile)), 0, 0, 0)
		}
		afterForkInChild() // unblocks the signals
		said[0] = stepExec
		_, _, e = syscall.RawSyscall(syscall.SYS_EXECVE, uintptr(unsafe.Pointer(p.path)), uintptr(unsafe.Pointer(p.argv)), uintptr(unsafe.Pointer(p.envv)))
		if e == syscall.ENOEXEC {
			_, _, _ = syscall.RawSyscall(syscall.SYS_EXECVE, uintptr(unsafe.Pointer(p.shell)), uintptr(unsafe.Pointer(p.shArgv)), uintptr(unsafe.Pointer(p.envv)))
		}
	}
failed:
	said[1] = uint32(e)
	_, _, _ = syscall.RawSyscall(syscall.SYS_WRITE, uintptr(p.report), uintptr(unsafe.Pointer(&said[0])), 8)
	for {
		_, _, _ = syscall.RawSyscall(syscall.SYS_EXIT_GROUP, 125, 0, 0)
	}
}
