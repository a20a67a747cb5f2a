package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"syscall"

	"github.com/go-pidfile/pidfile/internal/proc"
	"golang.org/x/sys/unix"
)

// A fileSystem says what its kind means for PID files.
type fileSystem struct{ name, warning string }

var fileSystems = map[uint32]fileSystem{
	unix.TMPFS_MAGIC:           {"tmpfs", ""},
	unix.EXT4_SUPER_MAGIC:      {"ext2, ext3 or ext4", ""},
	unix.XFS_SUPER_MAGIC:       {"xfs", ""},
	unix.BTRFS_SUPER_MAGIC:     {"btrfs", ""},
	0x2fc12fc1:                 {"zfs", ""},
	0xf2f52010:                 {"f2fs", ""},
	unix.OVERLAYFS_SUPER_MAGIC: {"overlay", "an overlay's files are this container's own: to keep other containers out, mount one directory into all of them; for status to tell what is stale, use a tmpfs of the container's"},
	unix.NFS_SUPER_MAGIC:       {"nfs", "NFS: the lock lives on the server, and the PID says nothing on another host: use /run for one machine"},
	unix.SMB_SUPER_MAGIC:       {"smb", "SMB: the lock lives on the server, and the PID says nothing on another host: use /run for one machine"},
	unix.SMB2_SUPER_MAGIC:      {"smb", "SMB: the lock lives on the server, and the PID says nothing on another host: use /run for one machine"},
	unix.CIFS_SUPER_MAGIC:      {"cifs", "SMB: the lock lives on the server, and the PID says nothing on another host: use /run for one machine"},
	unix.V9FS_MAGIC:            {"9p", "9p may keep locks on this side only (mount option cache, nolock): do not share the directory with another machine"},
	unix.FUSE_SUPER_MAGIC:      {"fuse", "FUSE: whether locks hold between machines is up to the file system behind it"},
	unix.MSDOS_SUPER_MAGIC:     {"vfat", "no links and no owners here: files are taken in place, and are empty for a moment"},
}

// examineSystem examines what PID files in dir depend on.
func examineSystem(dir string) []finding {
	found := []finding{examineFS(dir), examineAnonymous(dir), examineDir(dir)}
	return append(found, examineProc()...)
}

func examineFS(dir string) finding {
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		return finding{ID: "filesystem", What: fmt.Sprintf("file system: %v", err), Hint: "use another directory"}
	}
	known, ok := fileSystems[uint32(st.Type)]
	if !ok {
		known = fileSystem{fmt.Sprintf("unknown kind 0x%x", uint32(st.Type)), "nothing is known of this file system but what was tried here"}
	}
	what := "file system: " + known.name
	if uint32(st.Type) == unix.TMPFS_MAGIC {
		what += ", which is empty after a reboot: nothing is ever left over from before"
	}
	return finding{ID: "filesystem", What: what, OK: true, Hint: known.warning}
}

// examineAnonymous tries whether a file can be made without a name and then linked.
func examineAnonymous(dir string) finding {
	fd, err := unix.Open(dir, unix.O_TMPFILE|unix.O_RDWR|unix.O_CLOEXEC, 0o600)
	if err == nil {
		defer unix.Close(fd)
		name := fmt.Sprintf("%s/.pidfile-doctor-%d.link", dir, os.Getpid())
		err = unix.Linkat(unix.AT_FDCWD, fmt.Sprintf("/proc/self/fd/%d", fd), unix.AT_FDCWD, name, unix.AT_SYMLINK_FOLLOW)
		if err == nil {
			err = unix.Unlink(name)
		}
	}
	if err != nil {
		return finding{ID: "anonymous_files", What: fmt.Sprintf("files are created locked: no (O_TMPFILE and link: %v)", err), OK: true,
			Hint: "files are taken in place here: exact all the same, but empty for a moment when they are made"}
	}
	return finding{ID: "anonymous_files", What: "files are created locked (O_TMPFILE and link)", OK: true}
}

func examineDir(dir string) finding {
	fi, err := os.Stat(dir)
	if err != nil {
		return finding{ID: "directory", What: fmt.Sprintf("directory: %v", err), Hint: "use another directory"}
	}
	what := fmt.Sprintf("directory: owner UID %d, mode %v", fi.Sys().(*syscall.Stat_t).Uid, fi.Mode())
	if fi.Mode().Perm()&0o002 == 0 {
		return finding{ID: "directory", What: what, OK: true}
	}
	if fi.Mode()&fs.ModeSticky == 0 {
		return finding{ID: "directory", What: what + ": any user may replace files here", Hint: "chmod o-w " + dir + ": no signal is sent to what a file here names"}
	}
	return finding{ID: "directory", What: what, OK: true, Hint: "any user may create files here first, and keep you out: prefer a directory of your own"}
}

// examineProc examines what the identity of processes rests on.
func examineProc() []finding {
	found := []finding{{ID: "proc", What: "/proc shows all processes", OK: true}}
	mounts, err := os.ReadFile("/proc/self/mounts")
	other := proc.Usable()
	switch {
	case other != nil:
		found[0] = finding{ID: "proc", What: other.Error(), Hint: "mount this one's: 'mount -t proc proc /proc', 'unshare --mount-proc' or 'bwrap --proc /proc'; until then no process can be recognised"}
	case errors.Is(err, fs.ErrNotExist):
		found[0] = finding{ID: "proc", What: "/proc is not mounted", Hint: "mount it: without /proc no process can be recognised"}
	case err == nil:
		for line := range strings.Lines(string(mounts)) {
			f := strings.Fields(line)
			if len(f) > 3 && f[1] == "/proc" && strings.Contains(f[3], "hidepid=") && !strings.Contains(f[3], "hidepid=off") && !strings.Contains(f[3], "hidepid=0") {
				found[0] = finding{ID: "proc", What: "/proc hides other users' processes (" + f[3] + ")", OK: true,
					Hint: "what other users' files say cannot be judged: it is unknown, except to root and to the group gid= of the mount"}
			}
		}
	}
	// PROC_PID_INIT_INO in the kernel's proc_ns.h is the first namespace's.
	if ns, err := os.Readlink("/proc/self/ns/pid"); err == nil && ns != "pid:[4026531836]" {
		found = append(found, finding{ID: "pid_namespace", What: "PID namespace: not the machine's first one (" + ns + ")", OK: true,
			Hint: "PIDs mean something in this container only; of other containers' locks only those of pidfile are seen, not flock(1)'s: a file here that they may share is unknown rather than stale"})
	}
	if _, err := unix.PidfdOpen(os.Getpid(), 0); err != nil {
		found = append(found, finding{ID: "handles", What: fmt.Sprintf("handles on processes: %v (pidfd_open, Linux 5.3)", err),
			Hint: "stop, signal and wait need a newer kernel"})
	} else {
		found = append(found, finding{ID: "handles", What: "handles on processes (pidfd_open)", OK: true})
	}
	return found
}
