package proc

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// errOtherProc is why nothing in /proc is believed.
var errOtherProc = errors.New("/proc is that of another PID namespace")

// Usable returns nil if /proc is that of our own PID namespace, or not mounted at all. The
// numbers in another's are other processes here: as after unshare --pid without
// --mount-proc, or in a sandbox that shows the /proc of the machine.
var Usable = sync.OnceValue(func() error {
	self, err := os.Readlink("/proc/self")
	switch {
	case err != nil:
		if _, err := os.Stat("/proc/version"); err == nil {
			return errOtherProc // we are not in it
		}
		return nil
	case self != strconv.Itoa(os.Getpid()):
		return errOtherProc
	}
	// The same number, which may be chance. NSpid, Linux 4.1, begins with our PID in the
	// namespace of /proc, and goes on with those in the namespaces below it.
	status, _ := readAll(make([]byte, 4096), "/proc/self/status")
	for line := range bytes.Lines(status) {
		if pids, ok := bytes.CutPrefix(line, []byte("NSpid:")); ok && len(bytes.Fields(pids)) > 1 {
			return errOtherProc
		}
	}
	return nil
})

// dirOf returns the directory of process pid, unless that is another's.
func dirOf(pid int) (string, error) { return "/proc/" + strconv.Itoa(pid), Usable() }

// Parent returns the parent of process pid, 0 if that cannot be told. It reads less than
// Lookup.
func Parent(pid int) int {
	dir, err := dirOf(pid)
	if err != nil || pid <= 0 {
		return 0
	}
	var buf [4096]byte
	stat, _ := readAll(buf[:], dir+"/stat") // PID (NAME) STATE PARENT: proc_pid_stat(5)
	if f := bytes.Fields(stat[bytes.LastIndexByte(stat, ')')+1:]); len(f) > 1 {
		return atoi(f[1])
	}
	return 0
}

// HiddenWhy says why /proc does not show a process that lives.
func HiddenWhy() string {
	if err := Usable(); err != nil {
		return err.Error()
	}
	return "hidden from us (hidepid)"
}

// Lookup describes process pid. ErrGone if there is none, Hidden in the Info if
// there is one that /proc does not show us (hidepid, proc(5); or see Usable).
func Lookup(pid int) (Info, error) {
	i := Info{PID: pid}
	if pid <= 0 {
		return i, ErrGone
	}
	if unix.Kill(pid, 0) == unix.ESRCH {
		return i, ErrGone
	}
	dir, err := dirOf(pid)
	if err != nil {
		i.Hidden = true
		return i, nil
	}
	var buf [4096]byte
	status, err := readAll(buf[:], dir+"/status")
	if err != nil {
		return i, i.gone(err)
	}
	if !i.parseStatus(status, pid) {
		return i, ErrGone
	}
	stat, err := readAll(buf[:], dir+"/stat")
	if err != nil {
		return i, i.gone(err)
	}
	i.parseStat(stat)
	if i.Zombie() && i.threads > 1 {
		if dir, err = i.leaderless(dir); err != nil {
			return i, i.gone(err)
		}
	}
	cmdline, err := readAll(buf[:], dir+"/cmdline")
	if err != nil {
		return i, i.gone(err)
	}
	i.parseArgs(string(cmdline))
	i.Exe, _ = os.Readlink(dir + "/exe") // another user's may not be read
	return i, nil
}

// parseArgs reads /proc/PID/cmdline. A process that has written a title over its
// arguments pads it with blanks or NULs.
func (i *Info) parseArgs(text string) {
	if text == "" {
		return
	}
	i.Args = strings.Split(strings.TrimRight(text, "\x00"), "\x00")
	if len(i.Args) == 1 {
		i.Args[0] = strings.TrimRight(i.Args[0], " ")
	}
}

// parseStatus reads /proc/PID/status, false if that is a thread's.
func (i *Info) parseStatus(text []byte, pid int) bool {
	for line := range bytes.Lines(text) {
		key, value, _ := bytes.Cut(line, []byte(":"))
		switch string(key) {
		case "Tgid":
			if atoi(value) != pid {
				return false
			}
		case "State":
			if v := bytes.TrimSpace(value); len(v) > 0 {
				i.State = v[0]
			}
		case "PPid":
			i.PPID = atoi(value)
		case "Uid":
			i.UID = atoi(value)
		case "Gid":
			i.GID = atoi(value)
		case "Threads":
			i.threads = atoi(value)
		}
	}
	return true
}

// parseStat reads the start from /proc/PID/stat. The name in parentheses may
// hold anything, so count from its end: starttime is field 22, proc_pid_stat(5).
func (i *Info) parseStat(text []byte) {
	if end := bytes.LastIndexByte(text, ')'); end >= 0 {
		if begin := bytes.IndexByte(text, '('); begin >= 0 && begin < end {
			i.Comm = string(text[begin+1 : end])
		}
		if f := bytes.Fields(text[end+1:]); len(f) > 19 {
			// Of 64 bits everywhere: 400 days are more ticks than 31 bits hold, and
			// the start of what is older than our time namespace wraps below zero.
			ticks, _ := strconv.ParseUint(string(f[19]), 10, 64) // 0 if it is none
			i.Start = time.Duration(ticks) * (time.Second / userHZ)
		}
	}
}

// leaderless looks at a process whose first thread has ended, perhaps before
// others: pthread_exit(3) in main, or for an instant an execve(2) by another. Such
// a process lives, though /proc shows the state of that thread, and neither a
// command line nor files. It sets State to that of the process, and returns the
// directory in which the rest is seen.
func (i *Info) leaderless(dir string) (string, error) {
	task, err := livingThread(dir)
	if err != nil {
		return dir, err
	}
	if task == "" {
		task = dir // by now another may be the first
	}
	i.State, err = state(task)
	return task, err
}

// livingThread returns the directory of a thread, of the process of dir, that has
// not ended, "" if there is none but the first.
func livingThread(dir string) (string, error) {
	tasks, err := os.ReadDir(dir + "/task")
	if err != nil && !isGone(err) {
		return "", err
	}
	if len(tasks) < 2 {
		return "", nil
	}
	for _, t := range tasks {
		task := dir + "/task/" + t.Name()
		s, err := state(task)
		if err != nil && !isGone(err) {
			return "", err
		}
		if err == nil && !ended(s) {
			return task, nil
		}
	}
	return "", nil
}

// state returns the State in dir/status.
func state(dir string) (byte, error) {
	var buf [4096]byte
	text, err := readAll(buf[:], dir+"/status")
	if err != nil {
		return 0, err
	}
	for line := range bytes.Lines(text) {
		if v, ok := bytes.CutPrefix(line, []byte("State:")); ok {
			if v = bytes.TrimSpace(v); len(v) > 0 {
				return v[0], nil
			}
		}
	}
	return 0, &fs.PathError{Op: "read", Path: dir + "/status", Err: unix.ENODATA}
}

// HasEnv reports whether the environment that process pid was started with has
// this entry, NAME=value. It is false where we may not look.
func HasEnv(pid int, entry string) bool {
	dir, err := dirOf(pid)
	if err != nil {
		return false
	}
	text, err := readAll(make([]byte, 4096), dir+"/environ")
	if err == nil && len(text) == 0 { // see Info.leaderless
		if dir, _ = livingThread(dir); dir != "" {
			text, err = readAll(make([]byte, 4096), dir+"/environ")
		}
	}
	if err != nil {
		return false
	}
	for one := range bytes.SplitAfterSeq(text, []byte{0}) {
		if string(one) == entry+"\x00" {
			return true
		}
	}
	return false
}

// userHZ is the unit of times in /proc: 100 on every architecture that Go
// runs on (asm-generic/param.h), whatever the kernel's own tick.
const userHZ = 100

// gone tells a process that ended meanwhile from one that we may not see, and
// from a failure of ours, such as EMFILE, which it returns.
func (i *Info) gone(err error) error {
	switch {
	case isGone(err):
		if unix.Kill(i.PID, 0) == unix.ESRCH {
			return ErrGone
		}
	case !errors.Is(err, fs.ErrPermission):
		return err
	}
	i.Hidden = true
	return nil
}

// isGone reports whether err is what /proc says of a process that has ended.
func isGone(err error) bool {
	return errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ESRCH)
}

// mostText bounds what is read of one file in /proc, some of which is as long as
// its process likes. The groups in status can be 65,536 (NGROUPS_MAX).
const mostText = 8 << 20

// readAll reads a file of /proc into buf, or into a larger one where it does not
// fit. A short read is the last one: /proc fills the buffer if it can. For what
// fits, os.ReadFile takes twice as long.
func readAll(buf []byte, path string) ([]byte, error) {
	fd, err := open(path, unix.O_RDONLY)
	if err != nil {
		return nil, err
	}
	defer unix.Close(fd)
	n := 0
	for {
		k, err := unix.Read(fd, buf[n:])
		switch {
		case err == unix.EINTR:
			continue
		case err != nil:
			return nil, err
		}
		n += k
		if n < len(buf) || len(buf) >= mostText {
			return buf[:n], nil
		}
		buf = append(buf, make([]byte, 3*len(buf))...)
	}
}

// open opens a file of /proc.
func open(path string, flags int) (int, error) {
	for {
		fd, err := unix.Open(path, flags|unix.O_CLOEXEC, 0)
		if err != unix.EINTR {
			return fd, err
		}
	}
}

// atoi reads the first number in b.
func atoi(b []byte) (n int) {
	b = bytes.TrimLeft(b, " \t")
	for _, c := range b {
		if c < '0' || c > '9' {
			break
		}
		n = n*10 + int(c-'0')
	}
	return n
}

func sameExe(pid int, exe string) bool {
	dir, err := dirOf(pid)
	if err != nil {
		return false
	}
	a, err := os.Stat(dir + "/exe")
	if err != nil {
		return false
	}
	b, err := os.Stat(exe)
	return err == nil && os.SameFile(a, b)
}

// ReadClock reads the clocks.
func ReadClock() Clock {
	c := Clock{Boot: boot(), Tick: tick()}
	var mono unix.Timespec
	for range 10 {
		c.Now = time.Now()
		_ = unix.ClockGettime(unix.CLOCK_BOOTTIME, &mono) // cannot fail since Linux 2.6.39
		c.Uptime = time.Duration(mono.Nano())
		if time.Since(c.Now) < time.Millisecond {
			break // nothing came between the two
		}
	}
	return c
}

// tick is the kernel's, which is the resolution of its coarse clocks.
var tick = sync.OnceValue(func() time.Duration {
	var res unix.Timespec
	if unix.ClockGetres(unix.CLOCK_REALTIME_COARSE, &res) != nil {
		return 0
	}
	return time.Duration(res.Nano())
})

// boot returns the wall-clock time at boot, by the clock as it went then. The
// root of /proc has the time of its mount, which follows the start of the
// process that is PID 1 in it.
var boot = sync.OnceValue(func() time.Time {
	fi, err := os.Stat("/proc")
	if err != nil {
		return time.Time{}
	}
	one, err := Lookup(1)
	if err != nil || one.Hidden {
		return time.Time{}
	}
	return fi.ModTime().Add(-one.Start)
})

// Alive reports whether a process, or a zombie, has pid. It is one system call.
func Alive(pid int) bool { return pid > 0 && unix.Kill(pid, 0) != unix.ESRCH }
