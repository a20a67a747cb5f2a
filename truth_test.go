//go:build linux

package pidfile_test

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/go-pidfile/pidfile"
	"github.com/go-pidfile/pidfile/internal/testproc"
	"golang.org/x/sys/unix"
)

// A truth is what must be so in a scene. There is one for each kind of fact that is
// gathered, for each way to act on it, and for all that users and namespaces change.
// What follows from the facts, in every combination, is TestVerdict's.
type truth struct {
	name   string
	scene  func(*testing.T) scene
	state  pidfile.State
	locked bool
	who    bool   // Process is the scene's holder; else it is nil
	error  string // of Inspect; "" is ok
	find   string
	stop   string // "" is as find; "ok" means that the holder has ended
	clean  string // "ok" is removed
	start  string // Acquire
	says   []string
}

// What is the same in many rows.
const (
	absentState  = pidfile.Absent
	running      = pidfile.Running
	stale        = pidfile.Stale
	unknown      = pidfile.Unknown
	notRunning   = "not running"
	notEvenAPID  = "not running, malformed"
	unproven     = "unproven"
	isRunning    = "running"
	ok           = "ok"
	noPID        = "the first line of the file is not a PID"
	notLocked    = "not locked"
	provenByLock = "has the file open with the lock"
)

func truths() []truth {
	all := []truth{
		{name: "absent",
			scene: func(t *testing.T) scene { return scene{path: tempPath(t)} },
			state: absentState, find: notRunning, clean: "no file", start: ok, says: []string{"no such file"}},
		{name: "its directory absent",
			scene: func(t *testing.T) scene { return scene{path: filepath.Join(t.TempDir(), "no", "a.pid")} },
			state: absentState, find: notRunning, clean: "no file", start: "no file", says: []string{"no such file"}},
		{name: "its directory is a file",
			scene: func(t *testing.T) scene {
				file := tempPath(t)
				write(t, file, "")
				return scene{path: filepath.Join(file, "a.pid")}
			},
			state: unknown, error: "ENOTDIR", find: unproven, clean: "ENOTDIR", start: "ENOTDIR"},

		// Held by this package.
		{name: "held",
			scene: func(t *testing.T) scene {
				path := tempPath(t)
				h := start(t, "acquire", path).says("ok")
				return scene{path: path, holder: h.pid()}
			},
			state: running, locked: true, who: true, find: ok, clean: isRunning, start: isRunning,
			says: []string{"is locked", provenByLock}},
		{name: "held for a child",
			scene: func(t *testing.T) scene {
				path := tempPath(t)
				h := start(t, "setpid", path)
				return scene{path: path, holder: number(t, h.said)}
			},
			state: running, locked: true, who: true, find: ok, clean: isRunning, start: isRunning,
			says: []string{"is a child of PID"}},
		{name: "held by ourselves",
			scene: func(t *testing.T) scene {
				path := tempPath(t)
				f := acquire(t, path)
				t.Cleanup(func() { _ = f.Release() })
				return scene{path: path, holder: os.Getpid()}
			},
			state: running, locked: true, who: true, find: unproven, clean: isRunning, start: isRunning,
			says: []string{provenByLock, "it is this process itself"}},
		{name: "held, and stopped",
			scene: func(t *testing.T) scene {
				path := tempPath(t)
				h := start(t, "acquire", path).says("ok")
				stopped(t, h)
				return scene{path: path, holder: h.pid()}
			},
			state: running, locked: true, who: true, find: ok, clean: isRunning, start: isRunning},
		{name: "held, overwritten with a stranger's PID",
			scene: func(t *testing.T) scene {
				path, c := tempPath(t), cat(t)
				h := start(t, "acquire", path).says("ok")
				write(t, path, fmt.Sprintln(c.pid()))
				return scene{path: path, alive: []int{c.pid(), h.pid()}, says: []string{fmt.Sprintf("held by PID %d", h.pid())}}
			},
			state: running, locked: true, find: unproven, clean: isRunning, start: isRunning,
			says: []string{"not provably by the process that it names", "is alive"}},
		{name: "held, its file removed",
			scene: func(t *testing.T) scene {
				path := tempPath(t)
				h := start(t, "acquire", path).says("ok")
				must(t, os.Remove(path))
				return scene{path: path, alive: []int{h.pid()}}
			},
			state: absentState, find: notRunning, clean: "no file", start: ok},
		{name: "held, killed, but a child inherited the lock",
			scene: func(t *testing.T) scene {
				path := tempPath(t)
				h := start(t, "inherit", path)
				child := number(t, h.said)
				_ = h.cmd.Process.Kill()
				_, _ = h.cmd.Process.Wait() // its pipes stay: they are the child's
				return scene{path: path, alive: []int{child}, says: []string{
					fmt.Sprintf("no process has PID %d", h.pid()), fmt.Sprintf("held by PID %d (cat)", child)}}
			},
			state: running, locked: true, find: unproven, clean: isRunning, start: isRunning},

		// As if another process had the PID of the one that took the lock.
		{name: "held by a child alone; who took the lock is named, and older than the file",
			scene: func(t *testing.T) scene {
				path := tempPath(t)
				h := start(t, "give away", path)
				child := number(t, h.said)
				later := time.Now().Add(time.Second)
				must(t, os.Chtimes(path, later, later))
				return scene{path: path, holder: h.pid(), alive: []int{h.pid(), child}, says: []string{fmt.Sprintf("held by PID %d (cat)", child)}}
			},
			state: running, locked: true, who: true, find: unproven, clean: isRunning, start: isRunning},

		// No process has it.
		{name: "dead PID", scene: func(t *testing.T) scene {
			path := tempPath(t)
			write(t, path, fmt.Sprintln(testproc.DeadPID(t)))
			return scene{path: path}
		}, state: stale, find: notRunning, clean: ok, start: ok, says: []string{notLocked, "no process has PID"}},
		{name: "killed", scene: func(t *testing.T) scene {
			path := tempPath(t)
			start(t, "acquire", path).says("ok").kill()
			return scene{path: path}
		}, state: stale, find: notRunning, clean: ok, start: ok, says: []string{notLocked, "no process has PID"}},
		{name: "killed, and not yet reaped", scene: func(t *testing.T) scene {
			path := tempPath(t)
			h := start(t, "acquire", path).says("ok")
			must(t, h.cmd.Process.Kill())
			h.exited()
			return scene{path: path}
		}, state: stale, find: notRunning, clean: ok, start: ok, says: []string{notLocked, "only waits to be reaped"}},
		{name: "its first thread has ended", scene: func(t *testing.T) scene {
			path := tempPath(t)
			h := start(t, "headless", path).says("ok")
			return scene{path: path, holder: h.pid(), alive: []int{h.pid()}}
		}, state: running, locked: true, who: true, find: ok, stop: "-", clean: isRunning, start: isRunning,
			says: []string{provenByLock}},
		{name: "its first thread has ended, and it locks nothing", scene: func(t *testing.T) scene {
			path, h := tempPath(t), start(t, "headless", "").says("ok")
			write(t, path, fmt.Sprintln(h.pid()))
			return scene{path: path, holder: h.pid(), alive: []int{h.pid()}}
		}, state: running, who: true, find: ok, stop: "-", clean: isRunning, start: isRunning},
		{name: "the largest PID", scene: staleFile("4194304\n"),
			state: stale, find: notRunning, clean: ok, start: ok, says: []string{"no process has PID 4194304"}},
		{name: "PID reused by another program", scene: func(t *testing.T) scene {
			s := unlocked("%d\n")(t)
			s.says = []string{dated(t, s.path, longSince)}
			s.alive = []int{s.holder}
			return s
		}, state: stale, find: notRunning, clean: ok, start: ok, says: []string{notLocked}},
		{name: "PID reused by the same program", scene: func(t *testing.T) scene {
			path, h := tempPath(t), start(t, "idle", "").says("idle")
			write(t, path, fmt.Sprintln(h.pid()))
			says := dated(t, path, 10*time.Second) // it started later than that
			return scene{path: path, alive: []int{h.pid()}, says: []string{says}}
		}, state: stale, find: notRunning, clean: ok, start: ok},
		{name: "from before this boot", scene: func(t *testing.T) scene {
			s := unlocked("%d\n")(t)
			must(t, os.Chtimes(s.path, time.Unix(1e9, 0), time.Unix(1e9, 0)))
			s.alive = []int{s.holder}
			return s
		}, state: stale, find: notRunning, clean: ok, start: ok, says: []string{"before this boot", "by chance"}},
		{name: "our own PID, not locked", scene: func(t *testing.T) scene {
			path := tempPath(t)
			write(t, path, fmt.Sprintln(os.Getpid()))
			return scene{path: path}
		}, state: stale, find: notRunning, clean: ok, start: ok, says: []string{"this process itself"}},
		{name: "the ID of a thread", scene: func(t *testing.T) scene {
			path, h := tempPath(t), start(t, "thread", "")
			tid := number(t, h.said)
			write(t, path, fmt.Sprintln(tid))
			return scene{path: path, alive: []int{h.pid(), tid}}
		}, state: stale, find: notRunning, clean: ok, start: ok, says: []string{"no process has PID"}},
		{name: "another file in the holder's place", scene: func(t *testing.T) scene {
			path := tempPath(t)
			h := start(t, "acquire", path).says("ok")
			write(t, path+".new", "4194304\n")
			must(t, os.Rename(path+".new", path))
			return scene{path: path, alive: []int{h.pid()}}
		}, state: stale, find: notRunning, clean: ok, start: ok},
		{name: "hard link to a stale file", scene: func(t *testing.T) scene {
			s := staleFile("4194304\n")(t)
			must(t, os.Link(s.path, s.path+"2"))
			return s
		}, state: stale, find: notRunning, clean: ok, start: ok},

		// Written by programs that never lock.
		{name: "unlocked, of another program", scene: unlocked("%d\n"),
			state: running, who: true, find: ok, clean: isRunning, start: ok,
			says: []string{notLocked, "existed when the file was written"}},
		{name: "unlocked, of the same program", scene: func(t *testing.T) scene {
			path, h := tempPath(t), start(t, "idle", "").says("idle")
			write(t, path, fmt.Sprintln(h.pid()))
			return scene{path: path, holder: h.pid()}
		}, state: running, who: true, find: ok, clean: isRunning, start: isRunning},
		{name: "like nginx: written by the process itself", scene: func(t *testing.T) scene {
			path := tempPath(t)
			h := startCmd(t, exec.Command("sh", "-c", `echo $$ >"$1"; echo ready; exec cat`, "sh", path)).says("ready")
			return scene{path: path, holder: h.pid()}
		}, state: running, who: true, find: ok, clean: isRunning, start: ok},
		{name: "like a systemd daemon: root's file, a user's process", scene: func(t *testing.T) scene {
			testproc.Root(t)
			path, c := tempPath(t), cat(t, user(nobody))
			write(t, path, fmt.Sprintln(c.pid()))
			return scene{path: path, holder: c.pid()}
		}, state: running, who: true, find: ok, clean: isRunning, start: ok},
		{name: "like python-pidfile", scene: func(t *testing.T) scene {
			path := tempPath(t)
			h := start(t, "python", path).says("ok")
			return scene{path: path, holder: h.pid()}
		}, state: running, who: true, find: ok, clean: isRunning, start: isRunning},
		{name: "like postmaster", scene: func(t *testing.T) scene {
			path := tempPath(t)
			h := start(t, "postmaster", path).says("ok")
			return scene{path: path, holder: h.pid()}
		}, state: running, who: true, find: ok, clean: isRunning, start: isRunning},
		{name: "PID 1, not locked", scene: func(t *testing.T) scene {
			path := tempPath(t)
			write(t, path, "1\n")
			return scene{path: path, holder: 1, alive: []int{1}}
		}, state: unknown, find: unproven, clean: unproven, start: ok,
			says: []string{"PID 1 is not believed without the lock"}},
		{name: "a live PID, and a time in the future", scene: func(t *testing.T) scene {
			s := unlocked("%d\n")(t)
			later := time.Now().Add(time.Hour)
			must(t, os.Chtimes(s.path, later, later))
			return s
		},
			state: unknown, find: unproven, clean: unproven, start: ok,
			says: []string{"the file's time is in the future"}},

		// Locked by others.
		{name: "flock(1)", scene: func(t *testing.T) scene {
			path := tempPath(t)
			h := flocker(t, path)
			return scene{path: path, alive: []int{h.pid()}, says: []string{fmt.Sprintf("held by PID %d (flock)", h.pid())}}
		}, state: running, locked: true, find: unproven, clean: isRunning, start: isRunning,
			says: []string{"the file is empty"}},
		{name: "a shell that has its descriptor locked by flock(1)", scene: func(t *testing.T) scene {
			path := tempPath(t)
			testproc.Tool(t, "flock")
			h := startCmd(t, exec.Command("sh", "-c", `exec 9>"$1"; flock 9; echo $$ >&9; echo ready; exec cat`, "sh", path)).says("ready")
			return scene{path: path, holder: h.pid()}
		}, state: running, locked: true, who: true, find: ok, clean: isRunning, start: isRunning,
			says: []string{provenByLock}},
		{name: "a shared lock on a stale file", scene: func(t *testing.T) scene {
			path := tempPath(t)
			write(t, path, "4194304\n")
			testproc.Tool(t, "flock")
			h := startCmd(t, exec.Command("flock", "-s", path, "sh", "-c", "echo ready; cat")).says("ready")
			return scene{path: path, alive: []int{h.pid()}}
		}, state: unknown, find: unproven, clean: unproven, start: isRunning,
			says: []string{"shared lock"}},
		{name: "fcntl, with its own PID", scene: func(t *testing.T) scene {
			path := tempPath(t)
			return scene{path: path, holder: fcntlNames(t, path, 0).pid()}
		}, state: running, locked: true, who: true, find: ok, clean: isRunning, start: isRunning,
			says: []string{provenByLock}},
		{name: "fcntl, and nothing written", scene: func(t *testing.T) scene {
			path := tempPath(t)
			h := start(t, "fcntl", path).says("ok")
			return scene{path: path, alive: []int{h.pid()}}
		}, state: running, locked: true, find: unproven, clean: isRunning, start: isRunning,
			says: []string{"the file is empty"}},

		// Other PID namespaces.
		{name: "PID 1 of a namespace, seen from within", scene: func(t *testing.T) scene {
			path := tempPath(t)
			h := namespace(t, "view", path, env(nsHolds, "1")).says("views")
			return scene{path: path, holder: 1, alive: []int{h.pid()}, eye: through(h)}
		}, state: running, locked: true, who: true, find: ok, stop: "-", clean: isRunning, start: isRunning,
			says: []string{provenByLock}},
		{name: "PID 1 of a namespace, seen from without", scene: func(t *testing.T) scene {
			path := tempPath(t)
			h := namespace(t, "idle", path, env(nsHolds, "1")).says("idle")
			return scene{path: path, alive: []int{1, h.pid()}, says: []string{fmt.Sprintf("held by PID %d", h.pid())}}
		}, state: running, locked: true, find: unproven, clean: isRunning, start: isRunning},
		{name: "another PID of a namespace, seen from without", scene: func(t *testing.T) scene {
			path := tempPath(t)
			h := namespace(t, "acquire", path).says("ok")
			return scene{path: path, alive: []int{h.pid()}}
		}, state: running, locked: true, find: unproven, clean: isRunning, start: isRunning},
		{name: "held outside, seen from within a namespace", scene: func(t *testing.T) scene {
			path := tempPath(t)
			h := start(t, "acquire", path).says("ok")
			ns := namespace(t, "view", path).says("views")
			return scene{path: path, alive: []int{h.pid(), ns.pid()}, eye: through(ns)}
		}, state: running, locked: true, find: unproven, clean: isRunning, start: isRunning,
			says: []string{"no process that is visible from here has the lock"}},
		{name: "held in one namespace, seen from another, where that is PID 1", scene: func(t *testing.T) scene {
			path := tempPath(t)
			h := namespace(t, "idle", path, env(nsHolds, "1")).says("idle")
			ns := namespace(t, "view", path).says("views")
			return scene{path: path, alive: []int{h.pid(), ns.pid()}, eye: through(ns)}
		}, state: running, locked: true, find: unproven, clean: isRunning, start: isRunning},
		{name: "fcntl outside, seen from within a namespace", scene: func(t *testing.T) scene {
			path := tempPath(t)
			h := start(t, "fcntl", path).says("ok")
			ns := namespace(t, "view", path).says("views")
			return scene{path: path, alive: []int{h.pid(), ns.pid()}, eye: through(ns)}
		}, state: running, locked: true, find: unproven, clean: isRunning, start: isRunning},

		// There the kernel does not show every flock(2).
		{name: "in a namespace, dead PID in a file that others may have locked", scene: furnished("", "4194304\n"),
			state: unknown, find: notRunning, clean: ok, start: ok,
			says: []string{notLocked, "locks of other PID namespaces cannot be seen from here", "it has no holder"}},
		{name: "in a namespace, empty file that others may have locked", scene: furnished("", ""),
			state: unknown, find: notEvenAPID, clean: ok, start: ok,
			says: []string{"the file is empty", "cannot be seen from here"}},
		{name: "in a namespace, dead PID on a tmpfs of its own", scene: furnished("tmpfs", "4194304\n"),
			state: stale, find: notRunning, clean: ok, start: ok,
			says: []string{notLocked, "this container's own"}},
		{name: "in a namespace, dead PID on an overlay", scene: furnished("overlay", "4194304\n"),
			state: unknown, find: notRunning, clean: ok, start: ok,
			says: []string{notLocked, "cannot be seen from here", "it has no holder"}},
		// flock(1) locks a descriptor of the shell's, and ends.
		{name: "in a namespace, a shell's lock and PID", scene: shellIn(`exec 9>"$1"; flock 9; echo $$ >&9; touch -d "1 minute ago" "$1"`),
			state: running, locked: true, who: true, find: ok, stop: "-", clean: isRunning, start: isRunning,
			says: []string{provenByLock}},
		{name: "in a namespace, a shell's lock and PID, just written", scene: shellIn(`exec 9>"$1"; flock 9; echo $$ >&9; touch -d "4 seconds" "$1"`),
			state: running, who: true, find: ok, stop: "-", clean: isRunning, start: isRunning},
		{name: "in a namespace, a shell's lock without a PID", scene: shellIn(`exec 9>"$1"; flock 9`),
			state: running, locked: true, find: unproven, clean: isRunning, start: isRunning,
			says: []string{"(cat)", "the file is empty"}},

		// Users.
		{name: "a user's, seen by root", scene: usersScene(nil),
			state: running, locked: true, who: true, find: ok, clean: isRunning, start: isRunning},
		{name: "a user's, seen by that user", scene: usersScene(func(t *testing.T, path string) eye { return viewer(t, path, nobody) }),
			state: running, locked: true, who: true, find: ok, clean: isRunning, start: isRunning},
		{name: "a user's, seen by another", scene: usersScene(func(t *testing.T, path string) eye { return viewer(t, path, otherUser) }),
			state: running, locked: true, who: true, find: ok, stop: "EPERM", clean: isRunning, start: isRunning,
			says: []string{"took the lock"}},
		{name: "root's, seen by a user", scene: func(t *testing.T) scene {
			path := public(t)
			h := start(t, "acquire", path).says("ok")
			return scene{path: path, holder: h.pid(), alive: []int{h.pid()}, eye: viewer(t, path, nobody)}
		}, state: running, locked: true, who: true, find: ok, stop: "EPERM", clean: isRunning, start: isRunning},
		{name: "root's for a child, seen by a user", scene: func(t *testing.T) scene {
			path := public(t)
			h := start(t, "setpid", path)
			child := number(t, h.said)
			return scene{path: path, holder: child, alive: []int{h.pid(), child}, eye: viewer(t, path, nobody)}
		}, state: running, locked: true, who: true, find: ok, stop: "EPERM", clean: isRunning, start: isRunning},
		{name: "a user's unlocked file names his process", scene: named(nobody, nobody),
			state: running, who: true, find: ok, clean: isRunning, start: ok},
		{name: "a user's unlocked file names another's process", scene: named(nobody, otherUser),
			state: running, who: true, find: unproven, clean: isRunning, start: ok,
			says: []string{"belongs to UID 65534, which is neither root"}},
		{name: "a user's unlocked file names root's process", scene: named(nobody, 0),
			// Root owns the process and looks, but the user wrote the file.
			state: running, who: true, find: unproven, clean: isRunning, start: ok,
			says: []string{"belongs to UID 65534"}},
		{name: "a user's directory", scene: func(t *testing.T) scene {
			path := public(t)
			testproc.Root(t)
			must(t, os.Chown(filepath.Dir(path), nobody, nobody))
			c := cat(t)
			write(t, path, fmt.Sprintln(c.pid()))
			return scene{path: path, holder: c.pid(), alive: []int{c.pid()}}
		}, state: running, who: true, find: unproven, clean: isRunning, start: ok,
			says: []string{"the directory", "belongs to UID 65534"}},
		{name: "any user can write to the file", scene: held(func(t *testing.T, path string) { must(t, os.Chmod(path, 0o666)) }),
			state: running, locked: true, who: true, find: unproven, clean: isRunning, start: isRunning,
			says: []string{"any user can write to the file (mode 0666)"}},
		{name: "a group may write the file, which is not locked", scene: group(nobody),
			state: running, who: true, find: unproven, clean: isRunning, start: ok,
			says: []string{"group 65534, or a user in its access control list, can write to the file"}},
		{name: "root's group may write the file", scene: group(0),
			state: running, who: true, find: ok, clean: isRunning, start: ok},
		{name: "the process's own group may write the file", scene: ownGroup(func(t *testing.T, path string) {
			must(t, os.Chown(path, 0, otherUser))
			must(t, os.Chmod(path, 0o664))
		}), state: running, who: true, find: ok, clean: isRunning, start: ok},
		{name: "the process's own group may write the directory", scene: ownGroup(func(t *testing.T, path string) {
			must(t, os.Chown(filepath.Dir(path), 0, otherUser))
			must(t, os.Chmod(filepath.Dir(path), 0o775))
		}), state: running, who: true, find: ok, clean: isRunning, start: ok},
		{name: "an access control list lets another user write the file", scene: accessList(func(path string) string { return path }),
			state: running, who: true, find: unproven, clean: isRunning, start: ok,
			says: []string{"access control list"}},
		{name: "an access control list lets another user write the directory", scene: accessList(filepath.Dir),
			state: running, who: true, find: unproven, clean: isRunning, start: ok,
			says: []string{"access control list", "can write to the directory"}},
		{name: "a group may write the directory, and the file is not locked", scene: func(t *testing.T) scene {
			s := group(0)(t)
			s.alive = []int{s.holder}
			must(t, os.Chown(filepath.Dir(s.path), 0, nobody))
			must(t, os.Chmod(filepath.Dir(s.path), 0o775))
			return s
		}, state: running, who: true, find: unproven, clean: isRunning, start: ok,
			says: []string{"group 65534", "can write to the directory"}},
		{name: "a group may write the directory, and the file is locked", scene: held(func(t *testing.T, path string) {
			testproc.Root(t)
			must(t, os.Chown(filepath.Dir(path), 0, nobody))
			must(t, os.Chmod(filepath.Dir(path), 0o775))
		}), state: running, locked: true, who: true, find: unproven, clean: isRunning, start: isRunning,
			says: []string{"group 65534", "can write to the directory"}},
		{name: "a user's directory above", scene: func(t *testing.T) scene {
			testproc.Root(t)
			above := testproc.PublicDir(t)
			must(t, os.Mkdir(filepath.Join(above, "run"), 0o755))
			path := filepath.Join(above, "run", "a.pid")
			h := start(t, "acquire", path).says("ok")
			must(t, os.Chown(above, otherUser, otherUser))
			return scene{path: path, holder: h.pid(), alive: []int{h.pid()}}
		}, state: running, locked: true, who: true, find: unproven, clean: isRunning, start: isRunning,
			says: []string{"the directory", "belongs to UID 65533"}},
		{name: "any user can write to the directory", scene: held(func(t *testing.T, path string) {
			must(t, os.Chmod(filepath.Dir(path), 0o777))
		}),
			state: running, locked: true, who: true, find: unproven, clean: isRunning, start: isRunning,
			says: []string{"any user can write to the directory"}},
		{name: "any user can write to the directory, which is sticky", scene: func(t *testing.T) scene {
			s := held(func(t *testing.T, path string) {
				must(t, os.Chmod(filepath.Dir(path), 0o777|fs.ModeSticky))
			})(t)
			s.alive = nil
			return s
		},
			state: running, locked: true, who: true, find: ok, clean: isRunning, start: isRunning},
		{name: "two names", scene: held(func(t *testing.T, path string) { must(t, os.Link(path, path+"2")) }),
			state: running, locked: true, who: true, find: unproven, clean: isRunning, start: isRunning,
			says: []string{"2 names"}},
		{name: "unreadable", scene: func(t *testing.T) scene {
			path := public(t)
			write(t, path, "4194304\n")
			must(t, os.Chmod(path, 0o600))
			return scene{path: path, eye: viewer(t, path, nobody)}
		}, state: unknown, find: unproven, clean: unproven, start: "EACCES",
			says: []string{"cannot be read", "permission denied"}},
		{name: "its directory may not be searched", scene: func(t *testing.T) scene {
			path := public(t)
			write(t, path, "4194304\n")
			must(t, os.Chmod(filepath.Dir(path), 0o700))
			return scene{path: path, eye: viewer(t, path, nobody)}
		}, state: unknown, error: "EACCES", find: unproven, clean: "EACCES", start: "EACCES"},
		{name: "a stale file of root's, seen by a user", scene: func(t *testing.T) scene {
			path := public(t)
			write(t, path, "4194304\n")
			return scene{path: path, eye: viewer(t, path, nobody)}
		}, state: stale, find: notRunning, clean: "EACCES", start: "EACCES"},
		{name: "hidepid, unlocked", scene: func(t *testing.T) scene {
			path := public(t)
			// The PID namespace's first process: root's, so hidden.
			write(t, path, "1\n")
			ns := namespace(t, "view", path, env(nsProc, "hidepid=2"), env(nsUID, strconv.Itoa(nobody))).says("views")
			return scene{path: path, alive: []int{ns.pid()}, eye: through(ns)}
		}, state: unknown, find: unproven, clean: unproven, start: "EACCES",
			says: []string{"hidden from us (hidepid)"}},
		{name: "hidepid, locked", scene: func(t *testing.T) scene {
			path := public(t)
			ns := namespace(t, "view", path, env(nsHolds, "1"), env(nsProc, "hidepid=2"), env(nsUID, strconv.Itoa(nobody))).says("views")
			return scene{path: path, alive: []int{ns.pid()}, eye: through(ns)}
		}, state: running, locked: true, find: unproven, clean: isRunning, start: isRunning,
			says: []string{"hidden from us (hidepid)"}},

		// What is not a regular file.
		{name: "symbolic link to a held file", scene: func(t *testing.T) scene {
			path := tempPath(t)
			h := start(t, "acquire", path).says("ok")
			must(t, os.Symlink(path, path+".link"))
			return scene{path: path + ".link", alive: []int{h.pid()}}
		}, state: unknown, error: "ELOOP", find: unproven, clean: "ELOOP", start: "ELOOP", says: []string{"symbolic link"}},
		{name: "dangling symbolic link", scene: func(t *testing.T) scene {
			path := tempPath(t)
			must(t, os.Symlink("nowhere", path))
			return scene{path: path}
		}, state: unknown, error: "ELOOP", find: unproven, clean: "ELOOP", start: "ELOOP"},
		{name: "directory", scene: func(t *testing.T) scene { return scene{path: t.TempDir()} },
			state: unknown, error: "EISDIR", find: unproven, clean: "EISDIR", start: "EISDIR"},
		{name: "FIFO", scene: func(t *testing.T) scene {
			path := tempPath(t)
			must(t, unix.Mkfifo(path, 0o644))
			return scene{path: path}
		}, state: unknown, error: "EINVAL", find: unproven, clean: "EINVAL", start: "EINVAL", says: []string{"FIFO"}},
		{name: "socket", scene: func(t *testing.T) scene {
			path := public(t)
			listen(t, path)
			return scene{path: path}
		}, state: unknown, error: "EINVAL", find: unproven, clean: "EINVAL", start: "EINVAL", says: []string{"socket"}},
	}
	for name, written := range map[string]struct {
		before time.Duration
		state  pidfile.State
		clean  string
	}{
		"while it lives": {0, unknown, unproven},
		"before it was":  {longSince, stale, ok},
	} {
		all = append(all, truth{name: "postgres --single's PID, " + name, scene: func(t *testing.T) scene {
			path, c := tempPath(t), cat(t)
			write(t, path, fmt.Sprintf("-%d\n", c.pid()))
			at := time.Now().Add(-written.before)
			must(t, os.Chtimes(path, at, at))
			return scene{path: path, alive: []int{c.pid()}}
		}, state: written.state, find: map[pidfile.State]string{unknown: unproven, stale: notEvenAPID}[written.state],
			clean: written.clean, start: ok, says: []string{"as postgres --single writes it"}})
	}
	for name, says := range map[string]string{ // of the texts of one kind one
		"empty": "the file is empty", "minus one": "as postgres --single writes it",
		"NULs": noPID, "letters after it": noPID, "wraps 32 bits to 1": noPID, "over the maximum": noPID,
	} {
		all = append(all, truth{name: "malformed, " + name, scene: staleFile(malformed[name]),
			state: stale, find: notEvenAPID, clean: ok, start: ok, says: []string{notLocked, says}})
	}
	return all
}

// What is no PID. Several tools take such texts for kill(-1), kill(0) or for
// another process's PID.
var malformed = map[string]string{
	"empty":                  "",
	"newline":                "\n",
	"blanks":                 " \t\r\n",
	"PID on the second line": "\n1\n",
	"zero":                   "0\n",
	"zeros":                  "000\n",
	"minus one":              "-1\n",
	"minus zero":             "-0\n",
	"plus":                   "+5\n",
	"hexadecimal":            "0x47\n",
	"letters after it":       "12abc\n",
	"letters before it":      "pid12\n",
	"fraction":               "12.5\n",
	"exponent":               "1e3\n",
	"underscore":             "1_2\n",
	"two numbers":            "12 34\n",
	"NUL after it":           "12\x00\n",
	"NULs":                   strings.Repeat("\x00", 4096),
	"vertical tab":           "\v12\n",
	"over the maximum":       "4194305\n",
	"wraps 32 bits to 1":     "4294967297\n",
	"wraps 64 bits to 1":     "18446744073709551617\n",
	"Arabic digits":          "١٢\n",
	"byte order mark":        "\xef\xbb\xbf12\n",
	"UTF-16":                 "1\x002\x00\n\x00",
	"JSON":                   `{"pid": 12}`,
}

// What is not a PID is none to Read. A file of it that is young may be just being
// written.
func TestCleanMalformedAndYoung(t *testing.T) {
	for name, text := range malformed {
		path := tempPath(t)
		write(t, path, text)
		before := around(t, path)
		if pid, err := pidfile.Read(path); pid != 0 || !errors.Is(err, pidfile.ErrMalformed) {
			t.Errorf("%s: read PID %d, %v", name, pid, err)
		}
		if got := do("clean", path); got != unproven {
			t.Errorf("%s: %v", name, got)
		}
		if after := around(t, path); after != before {
			t.Errorf("%s:\nbefore:\n%safter:\n%s", name, before, after)
		}
	}
}

// The lock of flock(1) in a PID namespace that is not visible from here is in
// no table that we could read without taking a lock ourselves: the verdict says
// so, and nothing acts on a wrong one.
func TestFlockInvisible(t *testing.T) {
	t.Parallel()
	for name, text := range map[string]string{"empty": "", "PID": "1\n", "dead": "4194304\n"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			path := shared(t)
			write(t, path, text)
			aged(t, path)
			h := flocker(t, path)
			ns := namespace(t, "view", path).says("views")
			s := scene{path: path, eye: through(ns), alive: []int{h.pid(), ns.pid()}}
			var seen sight
			s.eye("look", &seen)
			t.Logf("%v, locked %v: %q; Find: %s", seen.State, seen.Locked, seen.Evidence, seen.Find)
			before := around(t, path)
			if seen.Find != unproven {
				t.Errorf("Find: %s", seen.Find)
			}
			if seen.State != unknown || !strings.Contains(strings.Join(seen.Evidence, "; "), "cannot be seen from here") {
				t.Errorf("%v: %q", seen.State, seen.Evidence)
			}
			for _, what := range []string{"clean", "acquire"} {
				if got := s.ask(what); got != isRunning {
					t.Errorf("%s: %s", what, got)
				}
			}
			if after := around(t, path); after != before {
				t.Errorf("before:\n%safter:\n%s", before, after)
			}
			s.lives(t)
		})
	}
}

// The same, and by chance the text names a process that is older than the file.
func TestFlockInvisibleNamesInnocent(t *testing.T) {
	path := tempPath(t)
	flocker(t, path)
	ns := namespace(t, "view beside an innocent", path).says("views")
	s := scene{path: path, eye: through(ns)}
	var seen sight
	s.eye("look", &seen)
	t.Logf("%v, locked %v, %+v: %q; Find: %s", seen.State, seen.Locked, seen.Process, seen.Evidence, seen.Find)
	if seen.Find == ok {
		t.Error("Find gives an innocent process")
	}
}

// A kernel thread holds no PID file.
func TestKernelThread(t *testing.T) {
	if name, err := os.ReadFile("/proc/2/comm"); err != nil || strings.TrimSpace(string(name)) != "kthreadd" {
		testproc.Skip(t, "kernel threads", "none is visible here")
	}
	path := tempPath(t)
	write(t, path, "2\n")
	seen := do("look", path).(sight)
	t.Logf("%v, %+v: %q; Find: %s", seen.State, seen.Process, seen.Evidence, seen.Find)
	if got := do("acquire", path); got != ok {
		t.Errorf("acquire: %v", got)
	}
}
