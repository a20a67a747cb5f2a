//go:build linux

package pidfile_test

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/go-pidfile/pidfile"
	"github.com/go-pidfile/pidfile/internal/testproc"
	"golang.org/x/sys/unix"
)

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

// cat is a process of another program than ours.
func cat(t *testing.T, change ...func(*exec.Cmd)) *helper {
	t.Helper()
	cmd := exec.Command("sh", "-c", "echo ready; exec cat")
	for _, c := range change {
		c(cmd)
	}
	c := startCmd(t, cmd).says("ready")
	testproc.Eventually(t, "the shell has become cat", func() bool {
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
	testproc.Root(t)
	return start(t, "namespace", path, append(change, env(nsMode, mode), func(cmd *exec.Cmd) {
		cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWPID | unix.CLONE_NEWNS}
	})...)
}
