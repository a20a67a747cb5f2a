//go:build linux

package pidfile_test

import (
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/go-pidfile/pidfile/internal/testproc"
	"golang.org/x/sys/unix"
)

// otherUser is a user that is neither root nor nobody.
const otherUser = 65533

// A scene is a situation, set up.
type scene struct {
	path   string
	holder int   // the PID that Process must have, if the row has who
	alive  []int // PIDs that must live on, whatever is done
	eye    eye   // which process looks; nil is this process
	says   []string
}

// longSince is before any process of the tests. It is not a whole hour, by which clocks
// are set after boot: then a file of the boot's hour seems to be new.
const longSince = 53 * time.Minute

// aged makes the file older than any process of the tests.
func aged(t *testing.T, path string) {
	t.Helper()
	before := time.Now().Add(-longSince)
	must(t, os.Chtimes(path, before, before))
}

// dated dates the file back by no more than most, and returns what Inspect says then
// of the live process that it names. The time is from this boot if the machine is up
// for long enough, so that the clocks can tell (proc.Clock knows the boot to 5 s).
func dated(t *testing.T, path string, most time.Duration) (says string) {
	t.Helper()
	var up unix.Timespec
	must(t, unix.ClockGettime(unix.CLOCK_BOOTTIME, &up))
	ago, says := min(most, time.Duration(up.Nano())/2), "is alive, but started"
	if ago < 6*time.Second {
		ago, says = longSince, "from before this boot"
	}
	at := time.Now().Add(-ago)
	must(t, os.Chtimes(path, at, at))
	return says
}

// public is a path that every user may look at.
func public(t *testing.T) string { return filepath.Join(testproc.PublicDir(t), "a.pid") }

// unlocked is a scene in which text names a live process of another program.
func unlocked(format string) func(*testing.T) scene {
	return func(t *testing.T) scene {
		path, c := tempPath(t), cat(t)
		write(t, path, fmt.Sprintf(format, c.pid()))
		return scene{path: path, holder: c.pid()}
	}
}

// staleFile is a scene in which an old file has that text.
func staleFile(text string) func(*testing.T) scene {
	return func(t *testing.T) scene {
		path := tempPath(t)
		write(t, path, text)
		aged(t, path)
		return scene{path: path}
	}
}

// usersScene is a file in the directory of the user nobody.
func usersScene(eye func(*testing.T, string) eye) func(*testing.T) scene {
	return func(t *testing.T) scene {
		testproc.Root(t)
		path := public(t)
		must(t, os.Chown(filepath.Dir(path), nobody, nobody))
		h := start(t, "acquire", path, as(t, nobody)).says("ok")
		s := scene{path: path, holder: h.pid()}
		if eye != nil {
			s.eye = eye(t, path)
		}
		return s
	}
}

// furnished is a file in a namespace, on a file system that others have, too, or
// on its own.
func furnished(mount, text string) func(*testing.T) scene {
	return func(t *testing.T) scene {
		path := shared(t)
		ns := namespace(t, "view", path, env(nsMount, mount), env(nsText, text)).says("views")
		return scene{path: path, alive: []int{ns.pid()}, eye: through(ns)}
	}
}

// shellIn is a file for which a shell in a namespace did something, with flock(1).
func shellIn(script string) func(*testing.T) scene {
	return func(t *testing.T) scene {
		testproc.Tool(t, "flock")
		path := shared(t)
		ns := namespace(t, "view", path, env(nsShell, script)).says("views")
		s := scene{path: path, alive: []int{ns.pid()}, eye: through(ns)}
		s.holder, _ = strconv.Atoi(strings.TrimSpace(content(t, path))) // some say nothing
		return s
	}
}

// shared is a path on a file system that more than one PID namespace may have.
func shared(t *testing.T) string {
	t.Helper()
	path := tempPath(t)
	var fs unix.Statfs_t
	must(t, unix.Statfs(filepath.Dir(path), &fs))
	if uint32(fs.Type) != unix.OVERLAYFS_SUPER_MAGIC {
		return path
	}
	return filepath.Join(testproc.MemoryDir(t), "a.pid") // we are in a container
}

// named is an unlocked file of one user that names a process of another.
func named(owner int, process uint32) func(*testing.T) scene {
	return func(t *testing.T) scene {
		testproc.Root(t)
		path, c := public(t), cat(t, user(process))
		write(t, path, fmt.Sprintln(c.pid()))
		must(t, os.Chown(path, owner, owner))
		s := scene{path: path, holder: c.pid()}
		if uint32(owner) != process {
			s.alive = []int{c.pid()}
		}
		return s
	}
}

// group is an unlocked file that a group may write.
func group(gid int) func(*testing.T) scene {
	return func(t *testing.T) scene {
		testproc.Root(t)
		s := unlocked("%d\n")(t)
		must(t, os.Chown(s.path, 0, gid))
		must(t, os.Chmod(s.path, 0o664))
		return s
	}
}

// ownGroup is an unlocked file of a process of group otherUser, after a change.
func ownGroup(change func(*testing.T, string)) func(*testing.T) scene {
	return func(t *testing.T) scene {
		testproc.Root(t)
		path, c := public(t), cat(t, user(otherUser))
		write(t, path, fmt.Sprintln(c.pid()))
		change(t, path)
		return scene{path: path, holder: c.pid()}
	}
}

// accessList is an unlocked file, and an access control list of what of returns that lets
// otherUser write it: acl(5), in the kernel's form (linux/posix_acl_xattr.h).
func accessList(of func(string) string) func(*testing.T) scene {
	return func(t *testing.T) scene {
		testproc.Root(t)
		s := unlocked("%d\n")(t)
		list := binary.LittleEndian.AppendUint32(nil, 2)
		for _, e := range []struct {
			tag, perm uint16
			id        uint32
		}{{0x01, 7, ^uint32(0)}, {0x02, 7, otherUser}, {0x04, 5, ^uint32(0)}, {0x10, 7, ^uint32(0)}, {0x20, 5, ^uint32(0)}} {
			list = binary.LittleEndian.AppendUint16(list, e.tag)
			list = binary.LittleEndian.AppendUint16(list, e.perm)
			list = binary.LittleEndian.AppendUint32(list, e.id)
		}
		must(t, unix.Setxattr(of(s.path), "system.posix_acl_access", list, 0))
		s.alive = []int{s.holder}
		return s
	}
}

// held is a file held by another process, after a change. The process is to
// live on.
func held(change func(*testing.T, string)) func(*testing.T) scene {
	return func(t *testing.T) scene {
		path := public(t)
		h := start(t, "acquire", path).says("ok")
		change(t, path)
		return scene{path: path, holder: h.pid(), alive: []int{h.pid()}}
	}
}

func number(t *testing.T, text string) int {
	t.Helper()
	n, err := strconv.Atoi(text)
	must(t, err)
	return n
}
