//go:build linux

package pidfile_test

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/go-pidfile/pidfile"
	"github.com/go-pidfile/pidfile/internal/proc"
	"github.com/go-pidfile/pidfile/internal/testproc"
	"golang.org/x/sys/unix"
)

func init() {
	helpers["short of descriptors"] = shortHelper
	helpers["rewriter"] = rewriterHelper
	helpers["receiver"] = receiverHelper
	helpers["sender"] = senderHelper
}

// attacker is an ordinary user.
const attacker = 1234

// A place is a tree of root's, in which others may have something.
type place struct {
	t    *testing.T
	root string
}

func newPlace(t *testing.T) place {
	t.Helper()
	testproc.Root(t)
	return place{t, testproc.PublicDir(t)}
}

// dir makes a directory of the owner with that mode.
func (p place) dir(name string, uid, gid int, mode fs.FileMode) string {
	p.t.Helper()
	dir := filepath.Join(p.root, name)
	must(p.t, os.Mkdir(dir, 0o755))
	must(p.t, os.Chown(dir, uid, gid))
	must(p.t, os.Chmod(dir, mode))
	return dir
}

// link makes a symbolic link of the owner.
func (p place) link(name, target string, uid int) string {
	p.t.Helper()
	link := filepath.Join(p.root, name)
	must(p.t, os.Symlink(target, link))
	must(p.t, os.Lchown(link, uid, uid))
	return link
}

// service is a process of root's that holds a file, and says in its environment, if
// that is not "", that it holds another.
func (p place) service(path, says string) *helper {
	p.t.Helper()
	h := start(p.t, "acquire", path, env("PIDFILE_HELD", says)).says("ok")
	p.t.Cleanup(func() {
		if !testproc.Alive(h.pid()) {
			p.t.Errorf("PID %d was harmed", h.pid())
		}
	})
	return h
}

// untrusted checks that root acts on no process at path, and that it is told why.
func untrusted(t *testing.T, f pidfile.Finder, path, why string) {
	t.Helper()
	p, err := f.Find(t.Context(), path)
	if err == nil {
		t.Errorf("%s: Find gives PID %d", path, p.PID())
		_ = p.Close()
		return
	}
	if !errors.Is(err, pidfile.ErrUntrusted) || !errors.Is(err, pidfile.ErrUnproven) {
		t.Errorf("%s: it does not match ErrUntrusted and ErrUnproven: %v", path, err)
	}
	if !strings.Contains(err.Error(), "not trusted") || !strings.Contains(err.Error(), why) {
		t.Errorf("%s: it does not say %q: %v", path, why, err)
	}
}

// trusted checks that root acts on pid at path.
func trusted(t *testing.T, f pidfile.Finder, path string, pid int) {
	t.Helper()
	p, err := f.Find(t.Context(), path)
	if err != nil {
		t.Error(err)
		return
	}
	if p.PID() != pid {
		t.Errorf("%s: PID %d, want %d", path, p.PID(), pid)
	}
	_ = p.Close()
}

// Each of these names leads to a file of root's that its service has locked, and each
// could have been made to by the attacker.
func TestWay(t *testing.T) {
	for name, row := range map[string]struct {
		make func(p place, real string) (path string)
		why  string // "": it is trusted
	}{
		"root's link": {func(p place, real string) string {
			return p.link("to", real, 0) + "/a.pid"
		}, ""},
		"a link of the attacker's": {func(p place, real string) string {
			return p.link("to", real, attacker) + "/a.pid"
		}, "/to belongs to UID 1234"},
		"a relative link of the attacker's, behind one of root's": {func(p place, real string) string {
			p.link("second", "real", attacker)
			return p.link("first", "./second/../second", 0) + "/a.pid"
		}, "the symbolic link "},
		"root's link in a directory of the attacker's": {func(p place, real string) string {
			p.dir("home", attacker, attacker, 0o755)
			return p.link("home/to", real, 0) + "/a.pid"
		}, "/home belongs to UID 1234"},
		"root's link in a sticky directory": {func(p place, real string) string {
			p.dir("tmp", 0, 0, 0o777|fs.ModeSticky)
			return p.link("tmp/to", real, 0) + "/a.pid"
		}, ""},
		"the attacker's link in a sticky directory": {func(p place, real string) string {
			p.dir("tmp", 0, 0, 0o777|fs.ModeSticky)
			return p.link("tmp/to", real, attacker) + "/a.pid"
		}, "/tmp/to belongs to UID 1234"},
		"another name of root's link in a sticky directory": {func(p place, real string) string {
			p.dir("tmp", 0, 0, 0o777|fs.ModeSticky)
			link := p.link("to", real, 0)
			must(p.t, unix.Linkat(unix.AT_FDCWD, link, unix.AT_FDCWD, filepath.Join(p.root, "tmp/to"), 0))
			return filepath.Join(p.root, "tmp/to/a.pid")
		}, "2 names"},
		"an ancestor of a user unknown in some namespace": {func(p place, real string) string {
			p.dir("x", nobody, nobody, 0o755)
			p.dir("x/run", 0, 0, 0o755)
			return filepath.Join(p.root, "x/run/../../real/a.pid")
		}, ""}, // filepath.Abs has made that real/a.pid
		"a link through such an ancestor": {func(p place, real string) string {
			p.dir("x", nobody, nobody, 0o755)
			p.dir("x/run", 0, 0, 0o755)
			return p.link("to", "x/run/../../real", 0) + "/a.pid"
		}, "/x belongs to UID 65534"},
		"an ancestor that a group may write": {func(p place, real string) string {
			p.dir("x", 0, attacker, 0o775)
			p.dir("x/run", 0, 0, 0o755)
			return p.link("to", "x/run/../../real", 0) + "/a.pid"
		}, "group 1234"},
		"an ancestor that root's group may write": {func(p place, real string) string {
			p.dir("x", 0, 0, 0o775)
			p.dir("x/run", 0, 0, 0o755)
			return p.link("to", "x/run/../../real", 0) + "/a.pid"
		}, ""},
		"an ancestor that a group may write, but sticky": {func(p place, real string) string {
			p.dir("x", 0, attacker, 0o775|fs.ModeSticky)
			p.dir("x/run", 0, 0, 0o755)
			return p.link("to", "x/run/../../real", 0) + "/a.pid"
		}, ""},
		"an ancestor with an access control list": {func(p place, real string) string {
			allow(p.t, p.dir("x", 0, 0, 0o755), attacker)
			p.dir("x/run", 0, 0, 0o755)
			return p.link("to", "x/run/../../real", 0) + "/a.pid"
		}, "access control list"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := newPlace(t)
			real := p.dir("real", 0, 0, 0o755)
			h := p.service(filepath.Join(real, "a.pid"), "")
			path := row.make(p, real)
			if row.why == "" {
				trusted(t, pidfile.Finder{}, path, h.pid())
			} else {
				untrusted(t, pidfile.Finder{}, path, row.why)
			}
		})
	}
}

// allow gives a user the right to write a directory, by acl(5), in the kernel's form
// (linux/posix_acl_xattr.h).
func allow(t *testing.T, dir string, uid uint32) {
	t.Helper()
	list := binary.LittleEndian.AppendUint32(nil, 2)
	for _, e := range []struct {
		tag, perm uint16
		id        uint32
	}{{0x01, 7, ^uint32(0)}, {0x02, 7, uid}, {0x04, 5, ^uint32(0)}, {0x10, 7, ^uint32(0)}, {0x20, 5, ^uint32(0)}} {
		list = binary.LittleEndian.AppendUint16(list, e.tag)
		list = binary.LittleEndian.AppendUint16(list, e.perm)
		list = binary.LittleEndian.AppendUint32(list, e.id)
	}
	must(t, unix.Setxattr(dir, "system.posix_acl_access", list, 0))
}

// By renaming within a directory that a group may write, one service's file becomes
// another's: both are root's, and locked.
func TestRenamedInGroupsDirectory(t *testing.T) {
	p := newPlace(t)
	dir := p.dir("run", 0, attacker, 0o775)
	a, b := filepath.Join(dir, "a.pid"), filepath.Join(dir, "b.pid")
	p.service(a, "")
	p.service(b, "")
	asAttacker(t, "mv", a, a+".old")
	asAttacker(t, "mv", b, a)
	untrusted(t, pidfile.Finder{}, a, "group 1234")
}

// asAttacker runs a command as the attacker.
func asAttacker(t *testing.T, args ...string) {
	t.Helper()
	c := exec.Command(args[0], args[1:]...)
	user(attacker)(c)
	if out, err := c.CombinedOutput(); err != nil {
		t.Fatalf("%v: %v: %s", args, err, out)
	}
}

// Where any user can write to the directory, the holder's own word counts, and no
// other process's.
func TestHeldEnvironment(t *testing.T) {
	p := newPlace(t)
	dir := p.dir("pods", 0, 0, 0o777)
	a, b, c, d := filepath.Join(dir, "a.pid"), filepath.Join(dir, "b.pid"), filepath.Join(dir, "c.pid"), filepath.Join(dir, "d.pid")
	ha, hb := p.service(a, a), p.service(b, b)
	p.service(c, "")
	p.service(d, d+"x")
	const why = "which has no sticky bit"
	trusted(t, pidfile.Finder{}, a, ha.pid())
	trusted(t, pidfile.Finder{}, dir+"/./x/../a.pid", ha.pid())
	trusted(t, pidfile.Finder{}, p.link("roots", dir, 0)+"/a.pid", ha.pid())
	untrusted(t, pidfile.Finder{}, c, why)
	untrusted(t, pidfile.Finder{}, d, why)
	untrusted(t, pidfile.Finder{}, p.link("theirs", dir, attacker)+"/a.pid", "/theirs belongs to UID 1234")

	// The attacker puts another service's file there.
	asAttacker(t, "mv", a, a+".old")
	asAttacker(t, "mv", b, a)
	untrusted(t, pidfile.Finder{}, a, why)
	_ = hb

	// Who locks nothing says nothing: the attacker may have written its PID.
	e := filepath.Join(dir, "e.pid")
	victim := cat(t, env0("PIDFILE_HELD="+e))
	write(t, e, fmt.Sprintln(victim.pid()))
	untrusted(t, pidfile.Finder{}, e, why)

	// The file itself must be trusted in any case.
	f := filepath.Join(dir, "f.pid")
	p.service(f, f)
	must(t, os.Chmod(f, 0o666))
	untrusted(t, pidfile.Finder{}, f, "any user can write to the file")
}

// env0 adds to the environment that a command gets anyway.
func env0(entry string) func(*exec.Cmd) {
	return func(cmd *exec.Cmd) { cmd.Env = append(os.Environ(), entry) }
}

// Who names the program need not trust the way, but all else.
func TestFinderProgram(t *testing.T) {
	p := newPlace(t)
	dir := p.dir("pods", 0, 0, 0o777)
	path := filepath.Join(dir, "a.pid")
	h := p.service(path, "")
	exe, err := os.Executable()
	must(t, err)
	link := p.link("exe", exe, 0)
	for _, program := range []string{exe, filepath.Base(exe), link} {
		trusted(t, pidfile.Finder{Program: program}, path, h.pid())
	}
	for _, program := range []string{"/bin/cat", "cat", "sh", filepath.Base(exe) + "x", "/nowhere/" + filepath.Base(exe)} {
		untrusted(t, pidfile.Finder{Program: program}, path, "does not run")
	}
	// It also confines where the way is trusted.
	sure := filepath.Join(p.root, "a.pid")
	p.service(sure, "")
	untrusted(t, pidfile.Finder{Program: "cat"}, sure, "does not run cat")
	// What the process calls itself does not count.
	named := filepath.Join(dir, "b.pid")
	liar := start(t, "acquire", named, argv0("/usr/sbin/nginx")).says("ok")
	untrusted(t, pidfile.Finder{Program: "nginx"}, named, "does not run nginx")
	_ = liar
	// Nor does it help a file that others may write.
	must(t, os.Chmod(path, 0o666))
	untrusted(t, pidfile.Finder{Program: exe}, path, "any user can write to the file")
}

// In a user namespace root outside is unknown; its directories must be trusted, or
// nothing could be, but not one in which the file is.
func TestWayInUserNamespace(t *testing.T) {
	testproc.Root(t)
	inside := func(cmd *exec.Cmd) {
		cmd.SysProcAttr = &syscall.SysProcAttr{
			Cloneflags:  syscall.CLONE_NEWUSER,
			UidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: attacker, Size: 1}},
			GidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: attacker, Size: 1}},
			Credential:  &syscall.Credential{Uid: 0, Gid: 0, NoSetGroups: true},
		}
	}
	p := newPlace(t)
	for name, row := range map[string]struct {
		owner int
		find  string
	}{"its own": {attacker, ok}, "one from outside": {0, unproven}} {
		dir := p.dir(strings.ReplaceAll(name, " ", "-"), row.owner, row.owner, 0o755)
		path := filepath.Join(dir, "a.pid")
		c := cat(t, user(attacker))
		write(t, path, fmt.Sprintln(c.pid()))
		must(t, os.Chown(path, attacker, attacker))
		ns := start(t, "view", path, as(t, attacker), inside).says("views")
		var seen sight
		through(ns)("look", &seen)
		if seen.Find != row.find {
			t.Errorf("%s: Find: %s, want %s: %q %s", name, seen.Find, row.find, seen.Evidence, seen.Why)
		}
		if row.find == unproven && !strings.Contains(seen.Why, "belongs to UID 65534") {
			t.Errorf("%s: %s", name, seen.Why)
		}
	}
}

// rewriterHelper replaces a file without end: it names two processes in turn.
func rewriterHelper(path string) {
	var text [2]string
	for i := range text {
		c := exec.Command("cat")
		in, err := c.StdinPipe()
		if err == nil {
			err = c.Start()
		}
		if err != nil {
			fmt.Println(err)
			return
		}
		defer in.Close()
		text[i] = fmt.Sprintln(c.Process.Pid)
	}
	fmt.Println("rewrites")
	ended := make(chan struct{})
	go func() {
		_ = bufio.NewScanner(os.Stdin).Scan()
		close(ended)
	}()
	for i := 0; ; i++ {
		select {
		case <-ended:
			return
		default:
		}
		_ = os.WriteFile(path+".new", []byte(text[i%2]), 0o644)
		_ = os.Rename(path+".new", path)
	}
}

// A file that its user replaces without end does not stall root.
func TestFileKeepsChanging(t *testing.T) {
	p := newPlace(t)
	path := filepath.Join(p.dir("home", attacker, attacker, 0o755), "a.pid")
	start(t, "rewriter", path, as(t, attacker)).says("rewrites")
	testproc.Eventually(t, "the file is there", func() bool { _, err := os.Lstat(path); return err == nil })
	results := map[string]int{}
	for range 5 {
		began := time.Now()
		found, err := pidfile.Find(path)
		if err == nil {
			_ = found.Close()
		}
		results[class(err)]++
		if took := time.Since(began); took > 10*time.Second {
			t.Fatalf("Find took %v: %v", took, err)
		}
	}
	t.Logf("%v", results)
}

// shortHelper finds with fewer and fewer descriptors to spare.
func shortHelper(path string) {
	time.Sleep(time.Microsecond) // the runtime opens what it needs for timers
	var lim unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &lim); err != nil {
		fmt.Println(err)
		return
	}
	used := func() uint64 { // the lowest that is free, and all above
		fd, err := unix.Dup(0)
		if err != nil {
			return 0
		}
		_ = unix.Close(fd)
		return uint64(fd)
	}()
	for spare := uint64(0); spare < 8; spare++ {
		lim.Cur = used + spare
		if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &lim); err != nil {
			fmt.Println(err)
			return
		}
		p, err := pidfile.Find(path)
		if err == nil {
			_ = p.Close()
		} else if !errors.Is(err, pidfile.ErrUnproven) && !errors.Is(err, unix.EMFILE) {
			fmt.Println("Find:", err)
			return
		}
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Millisecond)
		defer cancel()
		_, err = pidfile.WaitEnd(ctx, path)
		if err == nil {
			fmt.Println("WaitEnd says that it has ended")
			return
		}
		_, _ = pidfile.WaitRunning(ctx, path)
		_, _ = pidfile.Finder{}.Holders(ctx, path)
	}
	fmt.Println("done")
}

// Without descriptors nothing spins, and nothing is taken for ended.
func TestShortOfDescriptors(t *testing.T) {
	path := tempPath(t)
	start(t, "acquire", path).says("ok")
	start(t, "short of descriptors", path).says("done")
	unlocked := tempPath(t)
	c := cat(t)
	write(t, unlocked, fmt.Sprintln(c.pid()))
	start(t, "short of descriptors", unlocked).says("done")
}

// A process of very many groups, whose first thread has ended, is alive.
func TestManyGroups(t *testing.T) {
	testproc.Root(t)
	groups := make([]uint32, 1200)
	for i := range groups {
		groups[i] = uint32(100000000 + i)
	}
	many := func(cmd *exec.Cmd) {
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Groups: groups}}
	}
	for _, locks := range []bool{true, false} {
		path := tempPath(t)
		if !locks {
			h := start(t, "headless", "", many).says("ok")
			write(t, path, fmt.Sprintln(h.pid()))
		} else {
			start(t, "headless", path, many).says("ok")
		}
		s, err := pidfile.Inspect(path)
		if err != nil || s.State != pidfile.Running || s.Process == nil {
			t.Errorf("locked %v: %+v, %v", locks, s, err)
		}
		if err := pidfile.Clean(path); !errors.Is(err, pidfile.ErrAlreadyRunning) {
			t.Errorf("locked %v: clean: %v", locks, err)
		}
	}
}

// receiverHelper is a service that takes descriptors from every user.
func receiverHelper(socket string) {
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: socket, Net: "unix"})
	if err == nil {
		err = os.Chmod(socket, 0o666)
	}
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println("listens")
	go func() {
		_ = bufio.NewScanner(os.Stdin).Scan()
		os.Exit(0)
	}()
	for {
		c, err := l.AcceptUnix()
		if err != nil {
			return
		}
		oob := make([]byte, 64)
		_, n, _, _, err := c.ReadMsgUnix(make([]byte, 8), oob)
		if err != nil {
			return
		}
		m, err := unix.ParseSocketControlMessage(oob[:n])
		if err == nil {
			_, err = unix.ParseUnixRights(&m[0])
		}
		fmt.Println("has it", err)
	}
}

// senderHelper locks a file that it may only read, and sends the descriptor on.
func senderHelper(both string) {
	path, socket, _ := strings.Cut(both, ":")
	f, err := os.Open(path)
	if err == nil {
		err = unix.Flock(int(f.Fd()), unix.LOCK_EX)
	}
	if err != nil {
		fmt.Println(err)
		return
	}
	c, err := net.Dial("unix", socket)
	if err == nil {
		_, _, err = c.(*net.UnixConn).WriteMsgUnix([]byte("x"), unix.UnixRights(int(f.Fd())), nil)
	}
	fmt.Println("sent", err)
	_ = bufio.NewScanner(os.Stdin).Scan()
}

// held names the PIDs of the holders of path.
func holders(t *testing.T, path string) (pids []int, err error) {
	t.Helper()
	all, err := pidfile.Finder{}.Holders(t.Context(), path)
	for _, p := range all {
		pids = append(pids, p.PID())
		_ = p.Close()
	}
	return pids, err
}

func TestHolders(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	lock := func(path string, as uint32, args ...string) *helper {
		c := exec.Command("flock", append(args, path, "sh", "-c", "echo ready; exec cat")...)
		user(as)(c)
		return startCmd(t, c).says("ready")
	}
	stale := func(name string) string {
		path := filepath.Join(p.root, name)
		write(t, path, "4194304\n")
		return path
	}
	only := func(path string, want ...int) {
		t.Helper()
		pids, err := holders(t, path)
		if err != nil || fmt.Sprint(pids) != fmt.Sprint(want) {
			t.Errorf("%s: %v, %v, want %v", path, pids, err, want)
		}
	}
	none := func(path string, want error) {
		t.Helper()
		if pids, err := holders(t, path); len(pids) > 0 || !errors.Is(err, want) {
			t.Errorf("%s: %v, %v, want %v", path, pids, err, want)
		}
	}
	// A reader's lock, exclusive or shared. flock(1) and what it runs both have it.
	for _, kind := range []string{"-x", "-s"} {
		path := stale("reader" + kind)
		h := lock(path, attacker, kind)
		pids, err := holders(t, path)
		if err != nil || len(pids) != 2 || pids[0] != h.pid() {
			t.Errorf("flock %s: %v, %v, want PID %d and its child", kind, pids, err, h.pid())
		}
		if _, err := pidfile.Find(path); !errors.Is(err, pidfile.ErrUnproven) || !strings.Contains(err.Error(), fmt.Sprintf("held by PID %d (flock), user 1234", h.pid())) {
			t.Errorf("flock %s: Find: %v", kind, err)
		}
	}
	none(filepath.Join(p.root, "none"), pidfile.ErrNotRunning)
	none(stale("free"), pidfile.ErrNotRunning)
	alive := filepath.Join(p.root, "alive")
	h := p.service(alive, "")
	only(alive, h.pid())

	// Not through a name that the attacker can change: that may be another's file.
	theirs := p.link("theirs", p.root, attacker)
	none(filepath.Join(theirs, "alive"), pidfile.ErrUntrusted)

	// A service that was sent the descriptor knows nothing of it.
	short, err := os.MkdirTemp("/tmp", "pf") // a socket's path has 107 characters
	must(t, err, os.Chmod(short, 0o755))
	t.Cleanup(func() { _ = os.RemoveAll(short) })
	socket := filepath.Join(short, "socket")
	receiver := start(t, "receiver", socket).says("listens")
	path := stale("sent")
	before := time.Now().Add(-time.Hour) // the receiver is younger than the file
	if err := os.Chtimes(path, before, before); err != nil {
		t.Fatal(err)
	}
	sender := start(t, "sender", path+":"+socket, as(t, attacker)).says("sent <nil>")
	receiver.says2("has it <nil>")
	pids, err := holders(t, path)
	if fmt.Sprint(pids) != fmt.Sprint([]int{sender.pid()}) || !errors.Is(err, pidfile.ErrUntrusted) || !strings.Contains(err.Error(), "neither took the lock") {
		t.Errorf("%v, %v, want PID %d alone", pids, err, sender.pid())
	}
	sender.end()
	if pids, err := holders(t, path); len(pids) > 0 || !errors.Is(err, pidfile.ErrUntrusted) {
		t.Errorf("after the sender's end: %v, %v", pids, err)
	}
}

// says2 checks the next line.
func (h *helper) says2(want string) {
	h.t.Helper()
	if got := h.line(); got != want {
		h.t.Errorf("it says %q, want %q", got, want)
	}
}

// A read lock of fcntl(2) does not keep a start out, and does not make a holder.
func TestReadLockIsNoHolders(t *testing.T) {
	p := newPlace(t)
	path := filepath.Join(p.root, "a.pid")
	write(t, path, "4194304\n")
	f, err := os.Open(path)
	must(t, err)
	defer f.Close()
	for _, set := range []int{unix.F_SETLK, unix.F_OFD_SETLK} {
		must(t, unix.FcntlFlock(f.Fd(), set, &unix.Flock_t{Type: unix.F_RDLCK}))
		s, err := pidfile.Inspect(path)
		if err != nil || strings.Contains(strings.Join(s.Evidence, "; "), "shared lock") {
			t.Errorf("%+v, %v", s, err)
		}
		must(t, unix.FcntlFlock(f.Fd(), set, &unix.Flock_t{Type: unix.F_UNLCK}))
	}
}

// Find ends with its context while it waits for what is ending.
func TestFinderContext(t *testing.T) {
	path := tempPath(t)
	write(t, path, "4194304\n")
	flocker(t, path)
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	began := time.Now()
	if _, err := (pidfile.Finder{}).Find(ctx, path); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Find: %v after %v", err, time.Since(began))
	}
	ctx, cancel = context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := pidfile.WaitEnd(ctx, path); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("WaitEnd: %v after %v", err, time.Since(began))
	}
}

// A stale file that was touched after its PID was another's looks like one that its
// process wrote late. The process here is any that is older than two minutes: it is
// only looked at.
func TestTouched(t *testing.T) {
	pid := olderThan(t, 3*time.Minute)
	path := tempPath(t)
	write(t, path, fmt.Sprintln(pid))
	s, err := pidfile.Inspect(path)
	must(t, err)
	if said := strings.Join(s.Evidence, "; "); s.State != pidfile.Running || !strings.Contains(said, "it may be a stale file that was touched, copied or restored") {
		t.Errorf("%v: %s", s.State, said)
	}
	if _, err := pidfile.Find(path); !errors.Is(err, pidfile.ErrUnproven) || errors.Is(err, pidfile.ErrUntrusted) {
		t.Errorf("Find: %v", err)
	}
	if err := pidfile.Clean(path); !errors.Is(err, pidfile.ErrAlreadyRunning) {
		t.Errorf("Clean: %v", err)
	}
	exe, err := os.Readlink(fmt.Sprintf("/proc/%d/exe", pid))
	must(t, err)
	for name, finds := range map[string]bool{filepath.Base(exe): true, exe: true, "nginx": false} {
		p, err := pidfile.Finder{Program: name}.Find(t.Context(), path)
		if err == nil {
			must(t, p.Close())
		}
		if (err == nil) != finds {
			t.Errorf("Find with Program %q: %v", name, err)
		}
	}
	named := filepath.Join(filepath.Dir(path), filepath.Base(exe)+".pid") // as sshd writes sshd.pid on SIGHUP
	if info, err := proc.Lookup(pid); err != nil || !info.FitsName(named) {
		testproc.SkipPart(t, "an old process that is not an interpreter")
		return
	}
	write(t, named, fmt.Sprintln(pid))
	p, err := pidfile.Find(named)
	if err != nil {
		t.Fatalf("Find of %s: %v", named, err)
	}
	must(t, p.Close())
}

// olderThan returns the PID of a process of ours, not the first, that is older.
func olderThan(t *testing.T, age time.Duration) int {
	t.Helper()
	dir, err := os.ReadDir("/proc")
	must(t, err)
	clock := proc.ReadClock()
	for _, e := range dir {
		pid, err := strconv.Atoi(e.Name())
		if err != nil || pid == 1 {
			continue
		}
		i, err := proc.Lookup(pid)
		if err == nil && i.UID == os.Getuid() && i.Exe != "" && !strings.Contains(i.Exe, " (deleted)") && !i.Zombie() && clock.Uptime-i.Start > age {
			return pid
		}
	}
	testproc.Skip(t, "a process older than "+age.String())
	return 0
}
