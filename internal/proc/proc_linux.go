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

// Lookup describes process pid. ErrGone if there is none, Hidden in the Info if
// there is one that /proc does not show us (hidepid, proc(5)).
func Lookup(pid int) (Info, error) {
	i := Info{PID: pid}
	if pid <= 0 {
		return i, ErrGone
	}
	if unix.Kill(pid, 0) == unix.ESRCH {
		return i, ErrGone
	}
	dir := "/proc/" + strconv.Itoa(pid)
	var buf [4096]byte
	status, err := readInto(buf[:], dir+"/status")
	if err != nil {
		return i, i.gone(err)
	}
	if !i.parseStatus(status, pid) {
		return i, ErrGone
	}
	stat, err := readInto(buf[:], dir+"/stat")
	if err != nil {
		return i, i.gone(err)
	}
	i.parseStat(stat)
	if i.Zombie() && i.threads > 1 {
		dir = i.leaderless(dir)
	}
	cmdline, err := readInto(buf[:], dir+"/cmdline")
	if err == nil && len(cmdline) == len(buf) { // a long one
		cmdline, err = os.ReadFile(dir + "/cmdline")
	}
	if err != nil {
		return i, i.gone(err)
	}
	if len(cmdline) > 0 {
		i.Args = strings.Split(strings.TrimSuffix(string(cmdline), "\x00"), "\x00")
	}
	i.Exe, _ = os.Readlink(dir + "/exe") // another user's may not be read
	return i, nil
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
func (i *Info) leaderless(dir string) string {
	if task := livingThread(dir); task != "" {
		i.State = state(task)
		return task
	}
	i.State = state(dir) // by now another may be the first
	return dir
}

// livingThread returns the directory of a thread, of the process of dir, that has
// not ended, "" if there is none but the first.
func livingThread(dir string) string {
	tasks, err := os.ReadDir(dir + "/task")
	if err != nil || len(tasks) < 2 {
		return ""
	}
	for _, t := range tasks {
		if task := dir + "/task/" + t.Name(); !ended(state(task)) {
			return task
		}
	}
	return ""
}

// state returns the State in dir/status, 'X' if it is gone.
func state(dir string) byte {
	var buf [4096]byte
	text, err := readInto(buf[:], dir+"/status")
	if err != nil {
		return 'X'
	}
	for line := range bytes.Lines(text) {
		if v, ok := bytes.CutPrefix(line, []byte("State:")); ok {
			if v = bytes.TrimSpace(v); len(v) > 0 {
				return v[0]
			}
		}
	}
	return 'X'
}

// userHZ is the unit of times in /proc: 100 on every architecture that Go
// runs on (asm-generic/param.h), whatever the kernel's own tick.
const userHZ = 100

// gone tells a process that ended meanwhile from one that we may not see.
func (i *Info) gone(err error) error {
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ESRCH) {
		if unix.Kill(i.PID, 0) == unix.ESRCH {
			return ErrGone
		}
	}
	i.Hidden = true
	return nil
}

// readInto reads the beginning of a file: what /proc says in one read(2), as far
// as buf goes. os.ReadFile takes twice as long.
func readInto(buf []byte, path string) ([]byte, error) {
	fd, err := open(path, unix.O_RDONLY)
	if err != nil {
		return nil, err
	}
	defer unix.Close(fd)
	for {
		n, err := unix.Read(fd, buf)
		switch err {
		case nil:
			return buf[:n], nil
		case unix.EINTR:
			continue
		}
		return nil, err
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
	a, err := os.Stat("/proc/" + strconv.Itoa(pid) + "/exe")
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
