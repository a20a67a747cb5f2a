//go:build linux

package pidfile_test

import (
	"bufio"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/go-pidfile/pidfile"
	"github.com/go-pidfile/pidfile/internal/testproc"
	"golang.org/x/sys/unix"
)

// somebody is a user who is neither root nor nobody.
const somebody = 65533

func init() {
	helpers["view"] = viewHelper
	helpers["view beside an innocent"] = innocentHelper
	helpers["namespace"] = namespaceHelper
	helpers["setpid"] = setPIDHelper
	helpers["inherit"] = inheritHelper
	helpers["give away"] = inheritHelper
	helpers["fcntl names"] = fcntlNamesHelper
	helpers["thread"] = threadHelper
}

// class puts an error into a word or two.
func class(err error) string {
	var errno syscall.Errno
	switch {
	case err == nil:
		return "ok"
	case errors.Is(err, pidfile.ErrAlreadyRunning):
		return "running"
	case errors.Is(err, pidfile.ErrNotRunning) && errors.Is(err, pidfile.ErrMalformed):
		return "not running, malformed"
	case errors.Is(err, pidfile.ErrNotRunning):
		return "not running"
	case errors.Is(err, pidfile.ErrUnproven):
		return "unproven"
	case errors.Is(err, fs.ErrNotExist):
		return "no file"
	case errors.As(err, &errno):
		return unix.ErrnoName(errno)
	}
	return err.Error()
}

// A sight is all that Inspect and Find say of a file.
type sight struct {
	pidfile.Status
	Error   string // of Inspect
	Find    string
	FindPID int
	Why     string // the text of Find's error
}

// do does one thing to path, in this or in another process.
func do(what, path string) any {
	switch what {
	case "look":
		s, err := pidfile.Inspect(path)
		seen := sight{Status: s, Error: class(err)}
		p, err := pidfile.Find(path)
		seen.Find = class(err)
		if err != nil {
			seen.Why = err.Error()
		} else {
			seen.FindPID = p.PID()
			_ = p.Close()
		}
		return seen
	case "ask": // is there somebody to be signalled? Signal 0 is none
		p, err := pidfile.Find(path)
		if err == nil {
			err = p.Signal(syscall.Signal(0))
			_ = p.Close()
		}
		return class(err)
	case "stop":
		p, err := pidfile.Find(path)
		if err == nil {
			_, err = p.Stop(context.Background(), 20*time.Second)
			_ = p.Close()
		}
		return class(err)
	case "clean":
		return class(pidfile.Clean(path))
	case "acquire":
		f, err := pidfile.Acquire(path)
		if err == nil {
			err = f.Release()
		}
		return class(err)
	}
	return "what is " + what + "?"
}

func viewHelper(path string) {
	fmt.Println("views")
	commands := bufio.NewScanner(os.Stdin)
	for commands.Scan() {
		answer, err := json.Marshal(do(commands.Text(), path))
		if err != nil {
			panic(err)
		}
		fmt.Printf("%s\n", answer)
	}
}

// innocentHelper is viewHelper, but the file comes to name a child of its.
func innocentHelper(path string) {
	innocent := exec.Command("cat")
	in, err := innocent.StdinPipe()
	if err == nil {
		err = innocent.Start()
	}
	if err == nil {
		err = os.WriteFile(path, fmt.Appendln(nil, innocent.Process.Pid), 0o644)
	}
	if err != nil {
		fmt.Println(err)
		return
	}
	viewHelper(path)
	_ = in.Close()
	_ = innocent.Wait()
}

// An eye does to a file what do does, wherever it is.
type eye func(what string, answer any)

// here is this process.
func here(t *testing.T, path string) eye {
	return func(what string, answer any) {
		switch a := answer.(type) {
		case *sight:
			*a = do(what, path).(sight)
		case *string:
			*a = do(what, path).(string)
		}
	}
}

// through is a helper in mode "view".
func through(h *helper) eye {
	return func(what string, answer any) {
		h.t.Helper()
		line := h.tell(what)
		if err := json.Unmarshal([]byte(line), answer); err != nil {
			h.t.Fatalf("%s: answer %q: %v", what, line, err)
		}
	}
}

// A scene is a situation, set up.
type scene struct {
	path   string
	holder int   // whom Process must be, if the row says so
	alive  []int // who must live on, whatever is done
	eye    eye   // who looks; nil is this process
	says   []string
}

// cat is a process of another program than ours.
func cat(t *testing.T, change ...func(*exec.Cmd)) *helper {
	t.Helper()
	cmd := exec.Command("sh", "-c", "echo ready; exec cat")
	for _, c := range change {
		c(cmd)
	}
	c := startCmd(t, cmd).says("ready")
	until(t, "the shell has become cat", func() bool {
		comm, err := os.ReadFile(fmt.Sprintf("/proc/%d/comm", c.pid()))
		return err == nil && string(comm) == "cat\n"
	})
	return c
}

// user makes a command another user's.
func user(uid uint32) func(*exec.Cmd) {
	return func(cmd *exec.Cmd) {
		cmd.Dir = "/"
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uid, Gid: uid}}
	}
}

// viewer looks at path as another user.
func viewer(t *testing.T, path string, uid uint32) eye {
	t.Helper()
	return through(start(t, "view", path, as(t, uid)).says("views"))
}

// setPIDHelper holds the file for a child that does not know of it.
func setPIDHelper(path string) {
	f, err := pidfile.Acquire(path)
	if err != nil {
		fmt.Println(err)
		return
	}
	child := exec.Command("cat")
	child.Stdin = os.Stdin
	if err := child.Start(); err != nil {
		fmt.Println(err)
		return
	}
	if err := f.SetPID(child.Process.Pid); err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(child.Process.Pid)
	_ = child.Wait()
	runtime.KeepAlive(f)
}

// inheritHelper holds the file and has a child that inherits the lock. In mode
// "give away" the child alone has it then.
func inheritHelper(path string) {
	f, err := pidfile.Acquire(path)
	if err != nil {
		fmt.Println(err)
		return
	}
	child := exec.Command("cat")
	child.Stdin = os.Stdin
	// The descriptor itself, whatever the library offers to that end.
	var ours []int
	fds, _ := os.ReadDir("/proc/self/fd")
	for _, fd := range fds {
		n, _ := strconv.Atoi(fd.Name())
		var st, here unix.Stat_t
		if unix.Fstat(n, &st) == nil && unix.Lstat(path, &here) == nil && st.Dev == here.Dev && st.Ino == here.Ino {
			dup, err := unix.FcntlInt(uintptr(n), unix.F_DUPFD_CLOEXEC, 3)
			if err != nil {
				fmt.Println(err)
				return
			}
			ours = append(ours, n)
			child.ExtraFiles = append(child.ExtraFiles, os.NewFile(uintptr(dup), path))
		}
	}
	if err := child.Start(); err != nil {
		fmt.Println(err)
		return
	}
	if os.Getenv(helperEnv) == "give away" {
		for _, fd := range ours {
			_ = unix.Close(fd)
		}
		for _, fd := range child.ExtraFiles {
			_ = fd.Close()
		}
	}
	fmt.Println(child.Process.Pid)
	_ = child.Wait()
	runtime.KeepAlive(f)
}

// fcntlNamesHelper locks with fcntl and writes the PID that it is told, its own
// if that is 0.
func fcntlNamesHelper(path string) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o644)
	if err == nil {
		err = unix.FcntlFlock(f.Fd(), unix.F_SETLK, &unix.Flock_t{Type: unix.F_WRLCK})
	}
	pid := os.Getenv("PIDFILE_TEST_NAMES")
	if pid == "0" {
		pid = strconv.Itoa(os.Getpid())
	}
	if err == nil {
		_, err = f.WriteString(pid + "\n")
	}
	fmt.Println(verdict(err))
	_ = bufio.NewScanner(os.Stdin).Scan()
	runtime.KeepAlive(f)
}

func fcntlNames(t *testing.T, path string, pid int) *helper {
	t.Helper()
	return start(t, "fcntl names", path, env("PIDFILE_TEST_NAMES", strconv.Itoa(pid))).says("ok")
}

func env(name, value string) func(*exec.Cmd) {
	return func(cmd *exec.Cmd) { cmd.Env = append(cmd.Env, name+"="+value) }
}

// threadHelper tells the ID of a thread of its that is not its first.
func threadHelper(string) {
	tids := make(chan int)
	for range 2 { // the first thread can run but one of them
		go func() {
			runtime.LockOSThread()
			tids <- unix.Gettid()
			select {}
		}()
	}
	tid := <-tids
	if other := <-tids; tid == os.Getpid() {
		tid = other
	}
	fmt.Println(tid)
	_ = bufio.NewScanner(os.Stdin).Scan()
}

// Environment of namespaceHelper.
const (
	nsProc  = "PIDFILE_TEST_NS_PROC"  // mount options of its /proc
	nsHolds = "PIDFILE_TEST_NS_HOLDS" // it takes the file itself first
	nsMode  = "PIDFILE_TEST_NS_MODE"  // the mode of the helper that it starts
	nsUID   = "PIDFILE_TEST_NS_UID"   // and that one's user
	nsMount = "PIDFILE_TEST_NS_MOUNT" // a file system of its own around the file: tmpfs or overlay
	nsText  = "PIDFILE_TEST_NS_TEXT"  // the file's text there
	nsShell = "PIDFILE_TEST_NS_SHELL" // what a shell does with the file, $1, before it becomes cat
)

// namespaceHelper is PID 1 of its own PID namespace. It mounts a /proc and starts
// another helper, which inherits what it does not use itself.
func namespaceHelper(path string) {
	err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, "")
	if err == nil {
		err = unix.Mount("proc", "/proc", "proc", 0, os.Getenv(nsProc))
	}
	if err != nil {
		fmt.Println("mount:", err)
		return
	}
	end, err := furnish(path)
	if err != nil {
		fmt.Println("furnish:", err)
		return
	}
	defer end()
	if os.Getenv(nsHolds) != "" {
		f, err := pidfile.Acquire(path)
		if err != nil {
			fmt.Println(err)
			return
		}
		defer runtime.KeepAlive(f)
	}
	self, err := os.Open("/proc/self/exe")
	if err != nil {
		fmt.Println(err)
		return
	}
	inner := exec.Command(os.Args[0])
	inner.Path = "/proc/self/fd/3"
	inner.ExtraFiles = []*os.File{self}
	inner.Env = append(os.Environ(), helperEnv+"="+os.Getenv(nsMode))
	inner.Stdin, inner.Stdout, inner.Stderr = os.Stdin, os.Stdout, os.Stderr
	if uid, err := strconv.Atoi(os.Getenv(nsUID)); err == nil {
		user(uint32(uid))(inner)
	}
	if err := inner.Run(); err != nil {
		fmt.Println(err)
	}
}

// furnish puts into a namespace what its environment asks for. What it returns
// ends that.
func furnish(path string) (end func(), err error) {
	end = func() {}
	dir := filepath.Dir(path)
	switch os.Getenv(nsMount) {
	case "tmpfs":
		err = unix.Mount("tmpfs", dir, "tmpfs", 0, "mode=755")
	case "overlay": // its parts are on a file system that can be such
		err = errors.Join(unix.Mount("tmpfs", dir, "tmpfs", 0, "mode=755"), os.Chdir(dir))
		for _, part := range []string{"lower", "upper", "work"} {
			err = errors.Join(err, os.Mkdir(part, 0o755))
		}
		if err == nil { // a test's path has commas, and may not stand in the options
			err = unix.Mount("overlay", dir, "overlay", 0, "lowerdir=lower,upperdir=upper,workdir=work")
		}
		err = errors.Join(err, os.Chdir("/"))
	}
	if text, ok := os.LookupEnv(nsText); ok && err == nil {
		if err = os.WriteFile(path, []byte(text), 0o644); err == nil {
			before := time.Now().Add(-longSince)
			err = os.Chtimes(path, before, before)
		}
	}
	script := os.Getenv(nsShell)
	if script == "" || err != nil {
		return end, err
	}
	shell := exec.Command("sh", "-c", script+"; echo ready; exec cat", "sh", path)
	in, err := shell.StdinPipe()
	if err != nil {
		return end, err
	}
	out, err := shell.StdoutPipe()
	if err != nil {
		return end, err
	}
	if err = shell.Start(); err == nil {
		end = func() { _ = in.Close(); _ = shell.Wait() }
		_, err = bufio.NewReader(out).ReadString('\n')
	}
	return end, err
}

// namespace starts a helper in a PID namespace of its own, below another helper
// that is PID 1 there and is what is returned.
func namespace(t *testing.T, mode, path string, change ...func(*exec.Cmd)) *helper {
	t.Helper()
	needRoot(t)
	return start(t, "namespace", path, append(change, env(nsMode, mode), func(cmd *exec.Cmd) {
		cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWPID | unix.CLONE_NEWNS}
	})...)
}

// longSince is before any process of the tests. It is no whole hour, by which clocks
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
func public(t *testing.T) string { return filepath.Join(publicDir(t), "a.pid") }

// unlocked is a scene in which text names a live process of another program.
func unlocked(format string) func(*testing.T) scene {
	return func(t *testing.T) scene {
		path, c := tempPath(t), cat(t)
		write(t, path, fmt.Sprintf(format, c.pid()))
		return scene{path: path, holder: c.pid()}
	}
}

// leftOver is a scene in which an old file has that text.
func leftOver(text string) func(*testing.T) scene {
	return func(t *testing.T) scene {
		path := tempPath(t)
		write(t, path, text)
		aged(t, path)
		return scene{path: path}
	}
}

// A truth is what must be so in a scene.
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
	noPID        = "the first line of the file is no PID"
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
		{name: "held, however old the file is",
			scene: func(t *testing.T) scene {
				path := tempPath(t)
				h := start(t, "acquire", path).says("ok")
				must(t, os.Chtimes(path, time.Unix(1, 0), time.Unix(1, 0)))
				return scene{path: path, holder: h.pid()}
			},
			state: running, locked: true, who: true, find: ok, clean: isRunning, start: isRunning,
			says: []string{provenByLock}},
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
		{name: "held, overwritten with rubbish",
			scene: func(t *testing.T) scene {
				path := tempPath(t)
				h := start(t, "acquire", path).says("ok")
				write(t, path, "-1\n")
				return scene{path: path, alive: []int{h.pid()}, says: []string{fmt.Sprintf("held by PID %d", h.pid())}}
			},
			state: running, locked: true, find: unproven, clean: isRunning, start: isRunning,
			says: []string{noPID}},
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
				later := time.Now().Add(time.Hour)
				must(t, os.Chtimes(path, later, later))
				return scene{path: path, holder: h.pid(), alive: []int{h.pid(), child}, says: []string{fmt.Sprintf("held by PID %d (cat)", child)}}
			},
			state: running, locked: true, who: true, find: unproven, clean: isRunning, start: isRunning},

		// Nobody has it.
		{name: "dead PID", scene: func(t *testing.T) scene {
			path := tempPath(t)
			write(t, path, fmt.Sprintln(deadPID(t)))
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
		{name: "zombie", scene: func(t *testing.T) scene {
			path, c := tempPath(t), cat(t)
			write(t, path, fmt.Sprintln(c.pid()))
			must(t, c.in.Close())
			c.exited()
			return scene{path: path}
		}, state: stale, find: notRunning, clean: ok, start: ok, says: []string{"only waits to be reaped"}},
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
		{name: "the largest PID", scene: leftOver("4194304\n"),
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
			s := leftOver("4194304\n")(t)
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
			needRoot(t)
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
		{name: "without a newline", scene: unlocked("%d"),
			state: running, who: true, find: ok, clean: isRunning, start: ok},
		{name: "CRLF", scene: unlocked("%d\r\n"),
			state: running, who: true, find: ok, clean: isRunning, start: ok},
		{name: "blanks around it", scene: unlocked(" \t%d \t\r\nmore"),
			state: running, who: true, find: ok, clean: isRunning, start: ok},
		{name: "leading zeros", scene: unlocked("000%d\n"),
			state: running, who: true, find: ok, clean: isRunning, start: ok},
		{name: "unlocked, stopped", scene: func(t *testing.T) scene {
			path, c := tempPath(t), cat(t)
			write(t, path, fmt.Sprintln(c.pid()))
			stopped(t, c)
			return scene{path: path, holder: c.pid()}
		}, state: running, who: true, find: ok, clean: isRunning, start: ok},
		{name: "PID 1, not locked", scene: func(t *testing.T) scene {
			path := tempPath(t)
			write(t, path, "1\n")
			return scene{path: path, holder: 1, alive: []int{1}}
		}, state: running, who: true, find: unproven, clean: isRunning, start: ok,
			says: []string{"PID 1 is not believed without the lock"}},

		// Locked by others.
		{name: "flock(1)", scene: func(t *testing.T) scene {
			path := tempPath(t)
			h := flocker(t, path)
			return scene{path: path, alive: []int{h.pid()}, says: []string{fmt.Sprintf("held by PID %d (flock)", h.pid())}}
		}, state: running, locked: true, find: unproven, clean: isRunning, start: isRunning,
			says: []string{"the file is empty"}},
		{name: "flock(1), and a stranger's PID", scene: func(t *testing.T) scene {
			path, c := tempPath(t), cat(t)
			write(t, path, fmt.Sprintln(c.pid()))
			h := flocker(t, path)
			return scene{path: path, alive: []int{h.pid(), c.pid()}, says: []string{fmt.Sprintf("held by PID %d (flock)", h.pid())}}
		}, state: running, locked: true, find: unproven, clean: isRunning, start: isRunning,
			says: []string{"is alive"}},
		{name: "flock(1), and PID 1", scene: func(t *testing.T) scene {
			path := tempPath(t)
			write(t, path, "1\n")
			h := flocker(t, path)
			return scene{path: path, alive: []int{h.pid(), 1}}
		}, state: running, locked: true, find: unproven, clean: isRunning, start: isRunning},
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
		{name: "fcntl, with a stranger's PID", scene: func(t *testing.T) scene {
			path, c := tempPath(t), cat(t)
			h := fcntlNames(t, path, c.pid())
			return scene{path: path, alive: []int{h.pid(), c.pid()}, says: []string{fmt.Sprintf("held by PID %d", h.pid())}}
		}, state: running, locked: true, find: unproven, clean: isRunning, start: isRunning},
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
			says: []string{notLocked, "locks of other PID namespaces cannot be seen from here", "nobody has it"}},
		{name: "in a namespace, empty file that others may have locked", scene: furnished("", ""),
			state: unknown, find: notEvenAPID, clean: ok, start: ok,
			says: []string{"the file is empty", "cannot be seen from here"}},
		{name: "in a namespace, dead PID on a tmpfs of its own", scene: furnished("tmpfs", "4194304\n"),
			state: stale, find: notRunning, clean: ok, start: ok,
			says: []string{notLocked, "this container's own"}},
		{name: "in a namespace, dead PID on an overlay", scene: furnished("overlay", "4194304\n"),
			state: unknown, find: notRunning, clean: ok, start: ok,
			says: []string{notLocked, "cannot be seen from here", "nobody has it"}},
		// flock(1) locks a descriptor of the shell's, and ends.
		{name: "in a namespace, a shell's lock and PID", scene: shellIn(`exec 9>"$1"; flock 9; echo $$ >&9; touch -d "1 minute ago" "$1"`),
			state: running, locked: true, who: true, find: ok, stop: "-", clean: isRunning, start: isRunning,
			says: []string{provenByLock}},
		{name: "in a namespace, a shell's lock and PID, just written", scene: shellIn(`exec 9>"$1"; flock 9; echo $$ >&9; touch -d "1 hour" "$1"`),
			state: running, who: true, find: ok, stop: "-", clean: isRunning, start: isRunning},
		{name: "in a namespace, a shell's lock without a PID", scene: shellIn(`exec 9>"$1"; flock 9`),
			state: running, locked: true, find: unproven, clean: isRunning, start: isRunning,
			says: []string{"(cat)", "the file is empty"}},

		// Users.
		{name: "a user's, seen by root", scene: usersScene(nil),
			state: running, locked: true, who: true, find: ok, clean: isRunning, start: isRunning},
		{name: "a user's, seen by that user", scene: usersScene(func(t *testing.T, path string) eye { return viewer(t, path, nobody) }),
			state: running, locked: true, who: true, find: ok, clean: isRunning, start: isRunning},
		{name: "a user's, seen by another", scene: usersScene(func(t *testing.T, path string) eye { return viewer(t, path, somebody) }),
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
		{name: "a user's unlocked file names another's process", scene: named(nobody, somebody),
			state: running, who: true, find: unproven, clean: isRunning, start: ok,
			says: []string{"belongs to UID 65534, who is neither root"}},
		{name: "a user's unlocked file names root's process", scene: named(nobody, 0),
			// Root owns the process and looks, but the user wrote the file.
			state: running, who: true, find: unproven, clean: isRunning, start: ok,
			says: []string{"belongs to UID 65534"}},
		{name: "a user's directory", scene: func(t *testing.T) scene {
			path := public(t)
			needRoot(t)
			must(t, os.Chown(filepath.Dir(path), nobody, nobody))
			c := cat(t)
			write(t, path, fmt.Sprintln(c.pid()))
			return scene{path: path, holder: c.pid(), alive: []int{c.pid()}}
		}, state: running, who: true, find: unproven, clean: isRunning, start: ok,
			says: []string{"the directory", "belongs to UID 65534"}},
		{name: "everybody may write the file", scene: held(func(t *testing.T, path string) { must(t, os.Chmod(path, 0o666)) }),
			state: running, locked: true, who: true, find: unproven, clean: isRunning, start: isRunning,
			says: []string{"everybody may write the file (mode 0666)"}},
		{name: "a group may write the file, which is not locked", scene: group(nobody),
			state: running, who: true, find: unproven, clean: isRunning, start: ok,
			says: []string{"group 65534, or whom its access control list names, may write the file"}},
		{name: "root's group may write the file", scene: group(0),
			state: running, who: true, find: ok, clean: isRunning, start: ok},
		{name: "the process's own group may write the file", scene: ownGroup(func(t *testing.T, path string) {
			must(t, os.Chown(path, 0, somebody))
			must(t, os.Chmod(path, 0o664))
		}), state: running, who: true, find: ok, clean: isRunning, start: ok},
		{name: "the process's own group may write the directory", scene: ownGroup(func(t *testing.T, path string) {
			must(t, os.Chown(filepath.Dir(path), 0, somebody))
			must(t, os.Chmod(filepath.Dir(path), 0o775))
		}), state: running, who: true, find: ok, clean: isRunning, start: ok},
		{name: "an access control list lets somebody write the file", scene: accessList(func(path string) string { return path }),
			state: running, who: true, find: unproven, clean: isRunning, start: ok,
			says: []string{"access control list"}},
		{name: "an access control list lets somebody write the directory", scene: accessList(filepath.Dir),
			state: running, who: true, find: unproven, clean: isRunning, start: ok,
			says: []string{"access control list", "may write the directory"}},
		{name: "a group may write the directory, and the file is not locked", scene: func(t *testing.T) scene {
			s := group(0)(t)
			s.alive = []int{s.holder}
			must(t, os.Chown(filepath.Dir(s.path), 0, nobody))
			must(t, os.Chmod(filepath.Dir(s.path), 0o775))
			return s
		}, state: running, who: true, find: unproven, clean: isRunning, start: ok,
			says: []string{"group 65534", "may write the directory"}},
		{name: "a group may write the directory, and the file is locked", scene: held(func(t *testing.T, path string) {
			needRoot(t)
			must(t, os.Chown(filepath.Dir(path), 0, nobody))
			must(t, os.Chmod(filepath.Dir(path), 0o775))
		}), state: running, locked: true, who: true, find: unproven, clean: isRunning, start: isRunning,
			says: []string{"group 65534", "may write the directory"}},
		{name: "a user's directory above", scene: func(t *testing.T) scene {
			needRoot(t)
			above := publicDir(t)
			must(t, os.Mkdir(filepath.Join(above, "run"), 0o755))
			path := filepath.Join(above, "run", "a.pid")
			h := start(t, "acquire", path).says("ok")
			must(t, os.Chown(above, somebody, somebody))
			return scene{path: path, holder: h.pid(), alive: []int{h.pid()}}
		}, state: running, locked: true, who: true, find: unproven, clean: isRunning, start: isRunning,
			says: []string{"the directory", "belongs to UID 65533"}},
		{name: "everybody may write the directory", scene: held(func(t *testing.T, path string) {
			must(t, os.Chmod(filepath.Dir(path), 0o777))
		}),
			state: running, locked: true, who: true, find: unproven, clean: isRunning, start: isRunning,
			says: []string{"everybody may write the directory"}},
		{name: "everybody may write the directory, which is sticky", scene: func(t *testing.T) scene {
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

		// What is no file.
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
	for name, text := range malformed {
		says := noPID
		switch name {
		case "empty":
			says = "the file is empty"
		case "minus one":
			says = "as postgres --single writes it"
		}
		all = append(all, truth{name: "malformed, " + name, scene: leftOver(text),
			state: stale, find: notEvenAPID, clean: ok, start: ok, says: []string{notLocked, says}})
	}
	return all
}

// What is no PID. Several tools take such texts for kill(-1), kill(0) or for
// somebody else's PID.
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

// usersScene is a file that nobody holds, in nobody's directory.
func usersScene(eye func(*testing.T, string) eye) func(*testing.T) scene {
	return func(t *testing.T) scene {
		needRoot(t)
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
		needRoot(t)
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
		needRoot(t)
		s := unlocked("%d\n")(t)
		must(t, os.Chown(s.path, 0, gid))
		must(t, os.Chmod(s.path, 0o664))
		return s
	}
}

// ownGroup is an unlocked file of a process of group somebody, after a change.
func ownGroup(change func(*testing.T, string)) func(*testing.T) scene {
	return func(t *testing.T) scene {
		needRoot(t)
		path, c := public(t), cat(t, user(somebody))
		write(t, path, fmt.Sprintln(c.pid()))
		change(t, path)
		return scene{path: path, holder: c.pid()}
	}
}

// accessList is an unlocked file, and an access control list of what of says that lets
// somebody write it: acl(5), in the kernel's form (linux/posix_acl_xattr.h).
func accessList(of func(string) string) func(*testing.T) scene {
	return func(t *testing.T) scene {
		needRoot(t)
		s := unlocked("%d\n")(t)
		list := binary.LittleEndian.AppendUint32(nil, 2)
		for _, e := range []struct {
			tag, perm uint16
			id        uint32
		}{{0x01, 7, ^uint32(0)}, {0x02, 7, somebody}, {0x04, 5, ^uint32(0)}, {0x10, 7, ^uint32(0)}, {0x20, 5, ^uint32(0)}} {
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

// around is all there is to see of path's directory.
func around(t *testing.T, path string) string {
	t.Helper()
	dir := filepath.Dir(path)
	if _, err := os.Lstat(dir); errors.Is(err, fs.ErrNotExist) {
		return "no directory"
	}
	return tree(t, dir)
}

func number(t *testing.T, text string) int {
	t.Helper()
	n, err := strconv.Atoi(text)
	must(t, err)
	return n
}

// stopped stops the helper, and waits until it is. It goes on when the test is
// over, so that it can end.
func stopped(t *testing.T, h *helper) {
	t.Helper()
	must(t, h.cmd.Process.Signal(unix.SIGSTOP))
	t.Cleanup(func() { _ = h.cmd.Process.Signal(unix.SIGCONT) })
	until(t, "it is stopped", func() bool { return procState(h.pid()) == 'T' })
}

// procState is the state of a process or a thread, 0 if there is none. That whose
// first thread has ended before others, as during an execve(2), is no zombie.
func procState(pid int) byte {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0
	}
	f := strings.Fields(string(stat[strings.LastIndexByte(string(stat), ')')+1:]))
	const threads = 20 - 3 // num_threads of proc_pid_stat(5)
	if f[0] == "Z" && f[threads] != "1" {
		return 'S'
	}
	return f[0][0]
}

func isAlive(pid int) bool {
	s := procState(pid)
	return s != 0 && s != 'Z' && s != 'X'
}

func TestTruth(t *testing.T) {
	rows := truths()
	t.Logf("%d situations", len(rows))
	for _, row := range rows {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			row.check(t)
		})
	}
}

// check looks, and then does what must not work, in one scene; and everything
// that must work in a scene of its own.
func (row *truth) check(t *testing.T) {
	s := row.setUp(t)
	before := around(t, s.path)
	var seen sight
	s.eye("look", &seen)
	row.compare(t, s, seen)
	todo := []struct{ what, want string }{{"stop", row.stop}, {"clean", row.clean}, {"acquire", row.start}}
	for i := range todo {
		if todo[i].what == "stop" && todo[i].want == "" {
			todo[i].want = row.find
		}
	}
	if row.find == ok {
		todo = append(todo, struct{ what, want string }{"ask", ok})
		if row.stop == "EPERM" {
			todo[len(todo)-1].want = "EPERM"
		}
	}
	for _, d := range todo {
		if d.want != "-" && (d.want != ok || d.what == "ask") {
			if got := s.ask(d.what); got != d.want {
				t.Errorf("%s: %s, want %s", d.what, got, d.want)
			}
		}
	}
	if after := around(t, s.path); after != before {
		t.Errorf("before:\n%safter:\n%s", before, after)
	}
	s.lives(t)
	for _, d := range todo {
		if d.want == ok && d.what != "ask" {
			s := row.setUp(t)
			if got := s.ask(d.what); got != ok {
				t.Errorf("%s: %s", d.what, got)
			}
			switch d.what {
			case "stop":
				if isAlive(s.holder) {
					t.Errorf("PID %d still lives", s.holder)
				}
			default:
				absent(t, s.path)
				s.lives(t)
			}
		}
	}
}

func (row *truth) setUp(t *testing.T) scene {
	t.Helper()
	s := row.scene(t)
	if s.eye == nil {
		s.eye = here(t, s.path)
	}
	return s
}

func (s *scene) ask(what string) (answer string) {
	s.eye(what, &answer)
	return answer
}

// lives checks that nobody was harmed.
func (s *scene) lives(t *testing.T) {
	t.Helper()
	for _, pid := range s.alive {
		if !isAlive(pid) {
			t.Errorf("PID %d does not live any more", pid)
		}
	}
}

func (row *truth) compare(t *testing.T, s scene, seen sight) {
	t.Helper()
	if row.error == "" {
		row.error = ok
	}
	if seen.State != row.state || seen.Locked != row.locked || seen.Error != row.error {
		t.Errorf("%v, locked %v, error %s; want %v, %v, %s\nevidence: %q",
			seen.State, seen.Locked, seen.Error, row.state, row.locked, row.error, seen.Evidence)
	}
	switch {
	case !row.who && seen.Process != nil:
		t.Errorf("its process is %+v, want none", seen.Process)
	case row.who && (seen.Process == nil || seen.Process.PID != s.holder):
		t.Errorf("its process is %+v, want PID %d\nevidence: %q", seen.Process, s.holder, seen.Evidence)
	}
	if seen.Path != s.path {
		t.Errorf("its path is %s", seen.Path)
	}
	if seen.Find != row.find || (row.find == ok && seen.FindPID != s.holder) {
		t.Errorf("Find: %s, PID %d; want %s, PID %d\n%s", seen.Find, seen.FindPID, row.find, s.holder, seen.Why)
	}
	// The evidence is Inspect's; what speaks against a signal, only Find says.
	if row.find == ok || row.error != ok {
		seen.Why = strings.Join(seen.Evidence, "; ")
	} else if row.find != ok {
		// Find wants to see the lock where Inspect trusts in who took it.
		first, _, _ := strings.Cut(strings.Join(seen.Evidence, "; "), ", and PID")
		if first, _, _ = strings.Cut(first, "; "); first == "" || !strings.Contains(seen.Why, first) {
			t.Errorf("Find's error does not tell the evidence: %s", seen.Why)
		}
	}
	for _, words := range slices.Concat(row.says, s.says) {
		if words == provenByLock && strings.Contains(seen.Why, "took the lock") {
			continue // which is as good, and depends on how long it ran before
		}
		if !strings.Contains(seen.Why, words) {
			t.Errorf("it does not say %q: %s", words, seen.Why)
		}
	}
}

// A file that is no PID, but young, may be just being written.
func TestCleanMalformedAndYoung(t *testing.T) {
	for name, text := range malformed {
		path := tempPath(t)
		write(t, path, text)
		before := around(t, path)
		if s := do("look", path).(sight); s.State != unknown || s.Find != unproven {
			t.Errorf("%s: %v, Find: %v", name, s.State, s.Find)
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
// so, and nobody acts on a wrong one.
func TestFlockInvisible(t *testing.T) {
	for name, text := range map[string]string{"empty": "", "PID": "1\n", "dead": "4194304\n"} {
		t.Run(name, func(t *testing.T) {
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
