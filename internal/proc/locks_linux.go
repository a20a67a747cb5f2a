package proc

import (
	"bytes"
	"os"
	"slices"
	"strconv"

	"golang.org/x/sys/unix"
)

// Opened reports whether process pid has file id open, and the locks that it
// holds through those descriptors, its own or inherited (proc_pid_fdinfo(5)).
// The error is fs.ErrPermission where we may not look.
func Opened(pid int, id FileID) (open bool, locks []Lock, err error) {
	dir := "/proc/" + strconv.Itoa(pid)
	fds, err := os.ReadDir(dir + "/fd")
	if err != nil {
		return false, nil, err
	}
	for _, fd := range fds {
		var st unix.Stat_t
		// Follows the magic link to the file itself, wherever it is by now.
		if unix.Stat(dir+"/fd/"+fd.Name(), &st) != nil || st.Dev != id.Dev || st.Ino != id.Ino {
			continue
		}
		open = true
		info, err := os.ReadFile(dir + "/fdinfo/" + fd.Name())
		if err != nil {
			continue // closed since
		}
		for line := range bytes.Lines(info) {
			if rest, ok := bytes.CutPrefix(line, []byte("lock:")); ok {
				if l, _, ok := parseLock(rest); ok {
					locks = append(locks, l)
				}
			}
		}
	}
	return open, locks, nil
}

// parseLock reads a line of /proc/locks or what follows "lock:" in fdinfo:
//
//	1: FLOCK  ADVISORY  WRITE 359 00:13:11691 0 EOF
//
// ok is false for a waiter ("->") and for anything unknown.
func parseLock(line []byte) (l Lock, id FileID, ok bool) {
	f := bytes.Fields(line)
	if len(f) < 8 || string(f[1]) == "->" {
		return l, id, false
	}
	l = Lock{Kind: string(f[1]), Write: string(f[3]) == "WRITE"}
	l.PID, _ = strconv.Atoi(string(f[4]))
	dev := bytes.Split(f[5], []byte(":"))
	if len(dev) != 3 {
		return l, id, false
	}
	major, err1 := strconv.ParseUint(string(dev[0]), 16, 32)
	minor, err2 := strconv.ParseUint(string(dev[1]), 16, 32)
	ino, err3 := strconv.ParseUint(string(dev[2]), 10, 64)
	id = FileID{unix.Mkdev(uint32(major), uint32(minor)), ino}
	return l, id, err1 == nil && err2 == nil && err3 == nil
}

// A LockTable is /proc/locks at one moment: the locks whose owners are visible
// from this PID namespace, and all open-file-description locks.
type LockTable []tabled

type tabled struct {
	Lock
	id FileID
}

// SeesAllLocks reports whether /proc/locks can be read and shows the locks of all
// processes: outside the machine's first PID namespace, whose number is
// PROC_PID_INIT_INO in the kernel's proc_ns.h, it leaves out those of others.
func SeesAllLocks() bool {
	ns, err := os.Readlink("/proc/self/ns/pid")
	if err != nil || ns != "pid:[4026531836]" {
		return false
	}
	_, err = os.Stat("/proc/locks")
	return err == nil
}

// ReadLocks reads the table. Where there is none it is empty.
func ReadLocks() LockTable {
	text, err := os.ReadFile("/proc/locks")
	if err != nil {
		return nil
	}
	var t LockTable
	for line := range bytes.Lines(text) {
		if l, id, ok := parseLock(line); ok {
			t = append(t, tabled{l, id})
		}
	}
	return t
}

// On returns the locks on a file. The kernel names a file's device otherwise
// than stat(2) on overlay and btrfs, so a lock whose inode number alone fits
// counts if its owner has the file open.
func (t LockTable) On(id FileID) []Lock {
	var locks []Lock
	for _, l := range t {
		if l.id.Ino != id.Ino || l.Kind != "FLOCK" && l.Kind != "POSIX" && l.Kind != "OFDLCK" {
			continue
		}
		if l.id.Dev == id.Dev {
			locks = append(locks, l.Lock)
		} else if l.PID > 0 {
			if open, _, err := Opened(l.PID, id); err == nil && open {
				locks = append(locks, l.Lock)
			}
		}
	}
	return locks
}

// Openers returns every process that we may look at and that has the file
// open, in the order of their PIDs. It looks through all of /proc.
func Openers(id FileID) []Opener {
	names, err := os.ReadDir("/proc")
	if err != nil {
		return nil
	}
	var all []Opener
	for _, name := range names {
		pid, err := strconv.Atoi(name.Name())
		if err != nil {
			continue
		}
		if open, locks, err := Opened(pid, id); err == nil && open {
			all = append(all, Opener{pid, locks})
		}
	}
	slices.SortFunc(all, func(a, b Opener) int { return a.PID - b.PID })
	return all
}
