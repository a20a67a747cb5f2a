package proc

import (
	"bytes"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// Opened reports whether process pid has file id open, and the locks that it
// holds through those descriptors, its own or inherited (proc_pid_fdinfo(5)).
// The error is fs.ErrPermission where we may not look.
//
// To look is not without effect: for an instant the kernel has another reference
// to each open file (fget_task in its fs/file.c), and a close(2) at that instant
// unlocks only when we are done. So a caller that asks often asks a LockTable first.
func Opened(pid int, id ID) (open bool, locks []Lock, err error) {
	var buf [4096]byte
	err = eachFile(pid, func(dir, fd string, of ID) {
		if of != id {
			return
		}
		open = true
		info, err := readAll(buf[:], dir+"/fdinfo/"+fd)
		if err != nil {
			return // closed since
		}
		for line := range bytes.Lines(info) {
			if rest, ok := bytes.CutPrefix(line, []byte("lock:")); ok {
				if l, _, ok := parseLock(rest); ok {
					locks = append(locks, l)
				}
			}
		}
	})
	return open, locks, err
}

// eachFile calls f for every descriptor of a regular file that pid has. What is
// known of it is in dir.
func eachFile(pid int, f func(dir, fd string, id ID)) error {
	dir, err := dirOf(pid)
	if err != nil {
		return err
	}
	n, err := eachFileIn(dir, f)
	if err == nil && n == 0 { // see Info.leaderless
		if dir, err = livingThread(dir); dir != "" {
			_, err = eachFileIn(dir, f)
		}
	}
	return err
}

// eachFileIn returns how many descriptors there are, of whatever.
func eachFileIn(dir string, f func(dir, fd string, id ID)) (int, error) {
	d, err := open(dir+"/fd", unix.O_RDONLY|unix.O_DIRECTORY)
	if err != nil {
		return 0, err
	}
	defer unix.Close(d)
	var buf [4096]byte
	var fds []string
	for {
		n, err := unix.ReadDirent(d, buf[:])
		if err != nil {
			return 0, err
		}
		if n == 0 {
			break
		}
		_, _, fds = unix.ParseDirent(buf[:n], -1, fds)
	}
	for _, fd := range fds {
		var st unix.Stat_t
		// Follows the magic link to the file itself, wherever it is by now.
		if unix.Fstatat(d, fd, &st, 0) == nil && st.Mode&unix.S_IFMT == unix.S_IFREG {
			f(dir, fd, ID{Dev: st.Dev, Ino: st.Ino})
		}
	}
	return len(fds), nil
}

// parseLock reads a line of /proc/locks or what follows "lock:" in fdinfo:
//
//	1: FLOCK  ADVISORY  WRITE 359 00:13:11691 0 EOF
//
// ok is false for a waiter ("->") and for anything unknown.
func parseLock(line []byte) (l Lock, id ID, ok bool) {
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
	id = ID{Dev: unix.Mkdev(uint32(major), uint32(minor)), Ino: ino}
	return l, id, err1 == nil && err2 == nil && err3 == nil
}

// A LockTable is /proc/locks as it was read, and, once that is asked for, which process
// has which file open.
type LockTable struct {
	Err     error // why it could not be read, or not all of it; nil if it was
	Gaps    Gaps  // why it may lack a lock
	locks   []tabled
	openers map[ID][]int
}

type tabled struct {
	Lock
	id ID
}

// ReadLocks reads the table.
//
// The kernel gives it in parts of a page at most, some 70 locks, each of a moment
// of its own, and goes on by number (fs/seq_file.c): if a lock is dropped in
// between, the next part begins one too late, and a lock that was there all the
// time is not in it. So what is longer than a part, or may have been when its first
// part was read, is read until two readings agree, and if they never do, what is in
// one of them counts, but the table has GapChanges. Each reading has its parts end
// elsewhere, for a lock where they end is the one that is missed.
func ReadLocks() *LockTable {
	t := new(LockTable)
	if t.Err = Usable(); t.Err != nil {
		t.Gaps |= GapTable
		return t
	}
	if !seesAllLocks() {
		t.Gaps |= GapNamespaces
	}
	seen := map[tabled]bool{}
	var last []byte
	for _, size := range readings {
		text, parts, err := readLocks(size)
		for line := range bytes.Lines(text) {
			l, id, ok := parseLock(line)
			if one := (tabled{l, id}); ok && !seen[one] {
				seen[one] = true
				t.locks = append(t.locks, one)
			}
		}
		if err != nil {
			t.Err = err
			t.Gaps |= GapTable
			return t
		}
		if parts <= 1 && len(text) <= size/2 || bytes.Equal(text, last) {
			return t
		}
		last = text
	}
	t.Gaps |= GapChanges
	return t
}

// readings are the sizes of the parts in which a long table is read. Where
// hundreds of locks came and went, one of 150 readings lacked one that was there.
var readings = []int{4096, 3500, 2900, 2300, 1700}

// readLocks reads the table once, and returns in how many parts.
func readLocks(size int) (text []byte, parts int, err error) {
	const path = "/proc/locks"
	fd, err := open(path, unix.O_RDONLY)
	if err != nil {
		return nil, 0, &fs.PathError{Op: "open", Path: path, Err: err}
	}
	defer unix.Close(fd)
	text = make([]byte, 0, 2*size)
	for {
		text = slices.Grow(text, size)
		n, err := unix.Read(fd, text[len(text):len(text)+size])
		switch {
		case err == unix.EINTR:
			continue
		case err != nil:
			return text, parts, &fs.PathError{Op: "read", Path: path, Err: err}
		case n == 0:
			return text, parts, nil
		}
		text = text[:len(text)+n]
		parts++
	}
}

// On returns the locks on file id, which is at path. The table names a file's
// device as the kernel knows the mounted file system, which is not what stat(2)
// says on overlay and btrfs. Where that is not told, a lock whose inode number
// fits counts if its taker has the file open, or cannot be looked at.
func (t *LockTable) On(id ID, path string) []Lock {
	var locks []Lock
	var mounted uint64 // asked for if an inode number alone fits
	for _, l := range t.locks {
		if l.id.Ino != id.Ino || l.Kind != "FLOCK" && l.Kind != "POSIX" && l.Kind != "OFDLCK" {
			continue
		}
		if l.id.Dev != id.Dev && mounted == 0 {
			mounted = mountedDev(path)
		}
		on := l.id.Dev == id.Dev || l.id.Dev == mounted
		if !on && mounted == noDev && l.PID > 0 {
			open, _, err := Opened(l.PID, id)
			on = open || err != nil
		}
		if on {
			locks = append(locks, l.Lock)
		}
	}
	return locks
}

// noDev is not the number of any device.
const noDev = ^uint64(0)

// mountedDev returns the device of the file system that is mounted where path
// is, as proc_pid_mountinfo(5) names it; noDev if it is not told (before Linux
// 5.8, for STATX_MNT_ID).
func mountedDev(path string) uint64 {
	var st unix.Statx_t
	if unix.Statx(unix.AT_FDCWD, path, unix.AT_SYMLINK_NOFOLLOW, unix.STATX_MNT_ID, &st) != nil || st.Mask&unix.STATX_MNT_ID == 0 {
		return noDev
	}
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return noDev
	}
	id := strconv.FormatUint(st.Mnt_id, 10)
	for line := range bytes.Lines(mounts) {
		f := bytes.Fields(line)
		if len(f) < 3 || string(f[0]) != id {
			continue
		}
		major, minor, _ := bytes.Cut(f[2], []byte(":"))
		return unix.Mkdev(uint32(atoi(major)), uint32(atoi(minor)))
	}
	return noDev
}

// Openers returns every process that we may look at and that has the file
// open, in the order of their PIDs. The first call looks through all of /proc,
// which takes milliseconds.
func (t *LockTable) Openers(id ID) []Opener {
	if t.openers == nil {
		t.openers = openFiles()
	}
	var all []Opener
	for _, pid := range t.openers[id] {
		if open, locks, err := Opened(pid, id); err == nil && open {
			all = append(all, Opener{pid, locks})
		}
	}
	return all
}

// openFiles returns which processes have which regular file open.
func openFiles() map[ID][]int {
	openers := map[ID][]int{}
	names, err := os.ReadDir("/proc")
	if err != nil || Usable() != nil {
		return openers
	}
	var pids []int
	for _, name := range names {
		if pid, err := strconv.Atoi(name.Name()); err == nil {
			pids = append(pids, pid)
		}
	}
	slices.Sort(pids)
	for _, pid := range pids {
		_ = eachFile(pid, func(_, _ string, id ID) { // it has ended, or may not be seen
			if of := openers[id]; len(of) == 0 || of[len(of)-1] != pid {
				openers[id] = append(of, pid)
			}
		})
	}
	return openers
}

// seesAllLocks reports whether /proc/locks shows all locks, as it does in the
// machine's first PID namespace only. In others the kernel leaves out every lock
// whose taker has no PID there: those taken in other namespaces, and flock(2)s
// whose taker has ended while a process that inherited the descriptor keeps it
// (locks_show and locks_translate_pid in its fs/locks.c). Open-file-description
// locks belong to no process, and are always shown.
var seesAllLocks = sync.OnceValue(func() bool {
	ns, err := os.Readlink("/proc/self/ns/pid")
	// The number is PROC_PID_INIT_INO in the kernel's proc_ns.h.
	return err == nil && ns == "pid:[4026531836]"
})

// Secluded reports whether the file at path is on a file system that only this
// PID namespace has, so that no process outside it can have locked it: a tmpfs that was
// mounted when the namespace had its first process already. That is how containers
// are made; a process that enters the mount namespace of one from outside is not
// considered. An overlay proves nothing: a container in a container may have the outer one's,
// and nothing tells when it was mounted.
func Secluded(path string) bool {
	var st unix.Statfs_t
	if unix.Statfs(path, &st) != nil || st.Type != unix.TMPFS_MAGIC {
		return false
	}
	mounted, ok := mountTime(path)
	one, err := Lookup(1)
	return ok && err == nil && !one.Hidden && ReadClock().Judge(one.Start, mounted) == Existed
}

// mountTime returns when the tmpfs that has the file at path was mounted: its
// root was made then. ok is false if its root cannot be seen.
func mountTime(path string) (t time.Time, ok bool) {
	var root unix.Statx_t
	for at := path; ; at = filepath.Dir(at) {
		var st unix.Statx_t
		if unix.Statx(unix.AT_FDCWD, at, 0, unix.STATX_BASIC_STATS|unix.STATX_BTIME, &st) != nil {
			return t, false
		}
		if at != path && (st.Dev_major != root.Dev_major || st.Dev_minor != root.Dev_minor) {
			break // another file system
		}
		if root = st; at == "/" {
			break
		}
	}
	// shmem_fill_super in the kernel's mm/shmem.c numbers inodes from 1, so
	// another number is a part of a file system that was bind-mounted.
	const rootIno = 1
	return time.Unix(root.Btime.Sec, int64(root.Btime.Nsec)), root.Ino == rootIno && root.Mask&unix.STATX_BTIME != 0
}
