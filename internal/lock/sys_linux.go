package lock

import (
	"path/filepath"
	"strconv"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// A directory is pinned without any right to it but that to search it.
const (
	pinFlags = unix.O_PATH
	pinReads = false
)

// anonymous opens a new file without a name on the file system of f's directory.
// ErrNoAnonymous: file systems (and kernels) without O_TMPFILE, open(2).
func (f *file) anonymous(mode uint32) (int, error) {
	at, dir := f.at, "."
	if !f.pinned {
		at, dir = unix.AT_FDCWD, filepath.Dir(f.path)
	}
	fd, err := openat("tmpfile", at, dir, unix.O_RDWR|unix.O_TMPFILE, mode)
	switch err {
	case unix.EOPNOTSUPP, unix.EISDIR, unix.EINVAL, unix.ENOSYS:
		err = ErrNoAnonymous
	}
	return fd, err
}

// reopen opens fd's file once more: an open file description of its own, with
// locks of its own. ErrNoAnonymous where there is no /proc, or another one.
func reopen(fd, flags int) (int, error) {
	again, err := openat("reopen", unix.AT_FDCWD, procFD(fd), flags|unix.O_NONBLOCK|unix.O_NOCTTY, 0)
	switch err {
	case nil:
	case unix.ENOENT, unix.ENOTDIR:
		return -1, ErrNoAnonymous
	default:
		return -1, err
	}
	ours, err := fstat(fd)
	tinherited, e := fstat(again)
	if err == nil {
		err = e
	}
	if err == nil && ours.id != tinherited.id {
		err = ErrNoAnonymous
	}
	if err != nil {
		closeFD(again)
		return -1, err
	}
	return again, nil
}

func procFD(fd int) string { return "/proc/self/fd/" + strconv.Itoa(fd) }

// noEmptyPath remembers that linkat refused AT_EMPTY_PATH: it is allowed for
// one's own descriptors since Linux 6.10, before with CAP_DAC_READ_SEARCH.
var noEmptyPath atomic.Bool

// link gives the anonymous file fd the name f. EEXIST if the name is taken;
// ErrNoAnonymous where hard links do not exist or /proc, which the way for older
// kernels goes through, is not there.
func (f *file) link(fd int) error {
	err := retry("link", func() error {
		if !noEmptyPath.Load() {
			err := unix.Linkat(fd, "", f.at, f.name, unix.AT_EMPTY_PATH)
			if err != unix.ENOENT && err != unix.EINVAL {
				return err
			}
		}
		err := unix.Linkat(unix.AT_FDCWD, procFD(fd), f.at, f.name, unix.AT_SYMLINK_FOLLOW)
		if err == nil {
			noEmptyPath.Store(true)
		}
		return err
	})
	switch err {
	case unix.EOPNOTSUPP, unix.ENOSYS, unix.EPERM, unix.EACCES, unix.EMLINK:
		return ErrNoAnonymous
	}
	return err
}

// The holder has an open-file-description write lock on the whole file but one
// byte, and a process that may have inherited its flock(2), by a descriptor that cannot
// write, has a read lock on that byte. It is far beyond every text.
const inheritedByte = 1 << 62

var (
	wholeFile = unix.Flock_t{Len: 0}
	holders   = unix.Flock_t{Len: inheritedByte}
	inherited = unix.Flock_t{Start: inheritedByte, Len: 1}
)

// ofd calls fcntl(2) for a lock of that type on that part of fd's file.
func ofd(call string, fd, cmd int, typ int16, part unix.Flock_t) (unix.Flock_t, error) {
	part.Type = typ
	err := retry(call, func() error { return unix.FcntlFlock(uintptr(fd), cmd, &part) })
	return part, err
}

// ofdLock takes the holder's OFD lock on fd. Where the system has no such lock,
// or maps it and flock to one kind that collides (NFS), or another process has a mere
// read lock on the file, flock alone decides.
func ofdLock(fd int) (err error) {
	for range 5 { // waiters of ours have a read lock for an instant
		_, err = ofd("setlk", fd, unix.F_OFD_SETLK, unix.F_WRLCK, holders)
		switch err {
		case unix.EINVAL, unix.ENOSYS, unix.EOPNOTSUPP:
			return nil
		case unix.EAGAIN, unix.EACCES:
		default:
			return err
		}
		if collides(fd) {
			return nil
		}
		if held, _, e := ofdLocked(fd); e != nil || held {
			return err
		}
		time.Sleep(time.Millisecond)
	}
	return nil
}

// ofdInherit takes the OFD lock of the processes that inherit ro. Without it they are
// seen all the same, by flock(2), where that is shown.
func ofdInherit(ro int) { _, _ = ofd("setlk", ro, unix.F_OFD_SETLK, unix.F_RDLCK, inherited) }

// ofdUnlock takes the OFD lock off a file that stays.
func ofdUnlock(fd int) {
	// A failure leaves the lock until the last descriptor is closed: no more
	// can be done about it.
	_ = unix.FcntlFlock(uintptr(fd), unix.F_OFD_SETLK, &unix.Flock_t{Type: unix.F_UNLCK})
}

// ofdLocked reports whether another process has the holder's OFD lock, or any
// fcntl write lock, on fd's file, and the PID of that lock's owner where there
// is one. A read lock, which every process may take that may read the file, is not a
// holder's. Asking takes no lock. errOFDUnknown where the system cannot tell.
func ofdLocked(fd int) (held bool, pid int, err error) {
	lk, err := ofd("getlk", fd, unix.F_OFD_GETLK, unix.F_RDLCK, wholeFile) // what would refuse a read lock
	switch err {
	case nil:
	case unix.EINVAL, unix.ENOSYS, unix.EOPNOTSUPP:
		return false, 0, errOFDUnknown
	default:
		return false, 0, err
	}
	if lk.Type == unix.F_UNLCK {
		return false, 0, nil
	}
	if collides(fd) {
		return false, 0, errOFDUnknown
	}
	return true, max(0, int(lk.Pid)), nil
}

// ofdInherited reports whether there is the OFD lock of a process that inherited a
// holder's flock(2). It is a read lock, which every process may take that may read the
// file: it says something only beside a flock(2).
func ofdInherited(fd int) bool {
	lk, err := ofd("getlk", fd, unix.F_OFD_GETLK, unix.F_WRLCK, inherited)
	return err == nil && lk.Type == unix.F_RDLCK && lk.Start == inherited.Start && lk.Len == inherited.Len && !collides(fd)
}

// probe is ofdLocked, for a caller that only looks.
func probe(fd int) (held bool, pid int, err error) { return ofdLocked(fd) }

// waitOFD blocks until no process has an fcntl write lock on fd's file.
func waitOFD(fd int) error {
	_, err := ofd("setlkw", fd, unix.F_OFD_SETLKW, unix.F_RDLCK, wholeFile)
	ofdUnlock(fd)
	if err != nil {
		time.Sleep(pollInterval) // a caller that asks again does not spin
	}
	return err
}

// pollInterval is how often to look where the kernel cannot wake us.
const pollInterval = 100 * time.Millisecond

// collides reports whether fd's file system keeps flock and fcntl locks as one
// kind: flock(2) says so of NFS (since Linux 2.6.12) and SMB (since 5.5).
func collides(fd int) bool {
	switch fileSystem(fd) {
	case unix.NFS_SUPER_MAGIC, unix.SMB_SUPER_MAGIC, unix.SMB2_SUPER_MAGIC, unix.CIFS_SUPER_MAGIC:
		return true
	}
	return false
}

// otherClock reports whether the times of fd's file system may be by the clock of
// another machine: of a file server, of the other nodes of a cluster, or of the host of
// a virtual machine.
func otherClock(fd int) bool {
	switch fileSystem(fd) {
	case unix.NFS_SUPER_MAGIC, unix.SMB_SUPER_MAGIC, unix.SMB2_SUPER_MAGIC, unix.CIFS_SUPER_MAGIC,
		unix.FUSE_SUPER_MAGIC, // virtiofs too
		unix.V9FS_MAGIC, unix.AFS_SUPER_MAGIC, unix.AFS_FS_MAGIC, unix.CODA_SUPER_MAGIC, unix.CEPH_SUPER_MAGIC,
		unix.OCFS2_SUPER_MAGIC, unix.NCP_SUPER_MAGIC, gfs2, lustre, beegfs, gpfs, vboxsf, vmhgfs:
		return true
	}
	return false
}

// Of include/uapi/linux/gfs2_ondisk.h, include/uapi/linux/magic.h, and of statfs(2) and
// the file systems' own sources; not in package unix.
const (
	gfs2   = 0x01161970
	lustre = 0x0bd00bd0
	beegfs = 0x19830326
	gpfs   = 0x47504653
	vboxsf = 0x786f4256
	vmhgfs = 0xbacbacbc
)

// keepsNoFiles reports whether fd's file system shows the kernel's state and
// keeps no files: to write one changes the system.
func keepsNoFiles(fd int) bool {
	switch fileSystem(fd) {
	case unix.PROC_SUPER_MAGIC, unix.SYSFS_MAGIC, unix.CGROUP_SUPER_MAGIC, unix.CGROUP2_SUPER_MAGIC,
		unix.DEBUGFS_MAGIC, unix.TRACEFS_MAGIC, unix.SECURITYFS_MAGIC, unix.SELINUX_MAGIC, unix.SMACK_MAGIC,
		unix.AAFS_MAGIC, unix.BINFMTFS_MAGIC, unix.BPF_FS_MAGIC, unix.EFIVARFS_MAGIC, unix.PSTOREFS_MAGIC,
		unix.RDTGROUP_SUPER_MAGIC, unix.XENFS_SUPER_MAGIC, unix.NSFS_MAGIC, configFS, fuseControl:
		return true
	}
	return false
}

// Of include/uapi/linux/magic.h and fs/fuse/control.c, and not in package unix.
const (
	configFS    = 0x62656570
	fuseControl = 0x65735543
)

// keepsNoModes reports whether fd's file system has the same permissions for
// all its files, execution among them.
func keepsNoModes(fd int) bool {
	switch fileSystem(fd) {
	case unix.MSDOS_SUPER_MAGIC, unix.EXFAT_SUPER_MAGIC, ntfs, ntfs3, unix.FUSE_SUPER_MAGIC, unix.V9FS_MAGIC,
		unix.SMB_SUPER_MAGIC, unix.SMB2_SUPER_MAGIC, unix.CIFS_SUPER_MAGIC:
		return true
	}
	return false
}

// Of fs/ntfs/super.c and fs/ntfs3/ntfs.h.
const (
	ntfs  = 0x5346544e
	ntfs3 = 0x7366746e
)

// fileSystem returns the kind of fd's file system, 0 if it is not told.
func fileSystem(fd int) uint32 {
	var st unix.Statfs_t
	if retry("fstatfs", func() error { return unix.Fstatfs(fd, &st) }) != nil {
		return 0
	}
	return uint32(st.Type)
}
