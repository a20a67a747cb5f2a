//go:build linux

package main

import (
	"bufio"
	"bytes"
	little "encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/go-pidfile/pidfile/internal/testproc"
	"golang.org/x/sys/unix"
)

// Each system call of each command fails once, by strace(1): the Nth of its name
// in every thread and process, for every N, with every likely error number.
// Internal/lock has the same for the protocol alone, to the single step.

// A sample of the faults of each command is tried, another one each time.
// PIDFILE_LONG=1 tries all of them; PIDFILE_SEED=N tries a sample again.
const faultSample, faultSampleShort = 3, 1

var (
	// ofFiles may come from any call that names or uses a file.
	ofFiles = []string{"ENOSPC", "EIO", "EDQUOT", "EINTR", "ENOLCK", "EMFILE", "EACCES"}
	// ofTables are those of calls that make a descriptor.
	ofTables = []string{"EMFILE", "ENFILE", "ENOMEM"}
	ofWaits  = []string{"EINTR"}
)

// faultErrnos are the calls that fail, with what. Close is not among them: strace
// would not close, while the kernel always does. What maps memory, starts threads
// and sets signals is the Go runtime's affair, which ends the program.
var faultErrnos = map[string][]string{
	"openat": ofFiles, "flock": ofFiles, "fcntl": ofFiles, "pwrite64": ofFiles, "pread64": ofFiles,
	"read": ofFiles, "write": {"ENOSPC", "EIO", "EINTR"}, "linkat": ofFiles, "unlinkat": ofFiles,
	"newfstatat": ofFiles, "statx": ofFiles, "fstat": ofFiles, "fchmod": ofFiles, "ftruncate": ofFiles,
	"renameat": ofFiles, "readlinkat": ofFiles, "getdents64": ofFiles, "statfs": ofFiles, "getcwd": ofFiles, "chdir": ofFiles,
	"execve": {"EIO", "EACCES", "EMFILE", "ENOMEM"}, "prlimit64": {"EPERM"}, "prctl": {"EINVAL"}, "ioctl": {"ENOTTY", "EIO"},
	"pipe2": ofTables, "pidfd_open": ofTables, "eventfd2": ofTables, "signalfd4": ofTables, "dup3": ofTables,
	"epoll_create1": ofTables, "epoll_ctl": {"ENOMEM", "ENOSPC"}, "pidfd_send_signal": {"EPERM", "EINTR"}, "kill": {"EPERM"},
	"wait4": ofWaits, "waitid": ofWaits, "ppoll": ofWaits, "poll": ofWaits, "epoll_pwait": ofWaits,
}

// interruptible are those whose manual page names EINTR, and two that a file
// system in user space may interrupt. With it they must work all the same.
var interruptible = []string{
	"openat", "read", "write", "pread64", "pwrite64", "flock", "ftruncate",
	"wait4", "waitid", "ppoll", "poll", "epoll_pwait", "linkat", "unlinkat",
}

// A fault is one of them.
type fault struct {
	call  string
	n     int
	errno string
}

// A faultCase is a command in a situation.
type faultCase struct {
	name  string
	args  []string // PATH, DIR and COMMAND are replaced
	state string   // of the PID file before: absent, stale or running
	// code is the exit code without a fault, failed are those with one.
	code   int
	failed []int
	// tells is what stdout says without a fault.
	tells string
	// after is the state without a fault.
	after string
}

var faultCases = []faultCase{
	{"run", []string{"run", "PATH", "COMMAND"}, "absent", 0, []int{125, 126}, `^$`, "absent"},
	{"run-stale", []string{"run", "PATH", "COMMAND"}, "stale", 0, []int{125, 126}, `^$`, "absent"},
	{"run-refused", []string{"run", "PATH", "COMMAND"}, "running", 75, []int{125, 126}, `^$`, "running"},
	{"run-waits", []string{"run", "-t", "0.01", "PATH", "COMMAND"}, "running", 75, []int{125, 126}, `^$`, "running"},
	{"run-exec", []string{"run", "--exec", "PATH", "COMMAND"}, "absent", 0, []int{125, 126}, `^$`, "stale"},
	{"run-exec-stale", []string{"run", "--exec", "PATH", "COMMAND"}, "stale", 0, []int{125, 126}, `^$`, "stale"},
	{"status", []string{"status", "PATH"}, "running", 0, []int{4, 125}, `: running, PID \d+[ :]`, "running"},
	{"status-stale", []string{"status", "PATH"}, "stale", 1, []int{4, 125}, `: stale`, "stale"},
	{"status-absent", []string{"status", "PATH"}, "absent", 3, []int{4, 125}, `: not running\n$`, "absent"},
	{"signal", []string{"signal", "CONT", "PATH"}, "running", 0, []int{4, 125}, `: sent CONT to PID \d+\n$`, "running"},
	{"stop", []string{"stop", "PATH"}, "running", 0, []int{1, 4, 125}, `: PID \d+ stopped \(TERM, `, "absent"},
	{"clean", []string{"clean", "PATH"}, "stale", 0, []int{1, 4, 125}, `: removed`, "absent"},
	{"clean-running", []string{"clean", "PATH"}, "running", 0, []int{1, 4, 125}, `: left alone, (running|unknown)`, "running"},
	{"list", []string{"list", "DIR"}, "running", 0, []int{1, 4, 125}, `(?m)^(running|unknown) +(\d+|-) `, "running"},
	{"start", []string{"start", "--ready", "0.01", "PATH", "FOREVER"}, "absent", 0, []int{1, 125, 126}, `: started, PID \d+`, "running"},
	{"start-stale", []string{"start", "--ready", "0.01", "PATH", "FOREVER"}, "stale", 0, []int{1, 125, 126}, `: started, PID \d+`, "running"},
}

func TestFaults(t *testing.T) {
	parallel(t)
	testproc.Strace(t)
	seed := uint64(time.Now().UnixNano())
	if s := os.Getenv("PIDFILE_SEED"); s != "" {
		var err error
		if seed, err = strconv.ParseUint(s, 10, 64); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("PIDFILE_SEED=%d", seed)
	bin := t.TempDir()
	writeCommand(t, filepath.Join(bin, "COMMAND"), false)
	writeCommand(t, filepath.Join(bin, "FOREVER"), true)
	for i, c := range faultCases {
		t.Run(c.name, func(t *testing.T) {
			parallel(t)
			faults := c.faults(t, bin)
			if len(faults) < 30 {
				t.Fatalf("only %d faults: they are not injected", len(faults))
			}
			all := len(faults)
			random := rand.New(rand.NewPCG(seed, uint64(i)))
			random.Shuffle(all, func(i, j int) { faults[i], faults[j] = faults[j], faults[i] })
			faults = faults[:testproc.Rounds(all, min(all, faultSample), faultSampleShort)]
			t.Logf("%d of %d faults", len(faults), all)
			for _, f := range faults {
				t.Run(fmt.Sprintf("%s-%d-%s", f.call, f.n, f.errno), func(t *testing.T) { c.try(t, bin, &f) })
			}
		})
	}
}

var (
	traced = regexp.MustCompile(`^(\d+) +(\w+)\((.*)`)
	// ofPipe is a read or write of what has no medium to fail: with EINTR only.
	ofPipe = regexp.MustCompile(`^\d+<(pipe:|anon_inode:|socket:|UNIX)`)
)

// faults traces the command once and returns all that can fail.
func (c *faultCase) faults(t *testing.T, bin string) (all []fault) {
	t.Helper()
	trace := c.try(t, bin, nil)
	counts := map[string]map[string]int{} // call, thread
	lines := bufio.NewScanner(bytes.NewReader(trace))
	piped := map[fault]bool{}
	for lines.Scan() {
		m := traced.FindStringSubmatch(lines.Text())
		if m == nil {
			continue
		}
		if counts[m[2]] == nil {
			counts[m[2]] = map[string]int{}
		}
		counts[m[2]][m[1]]++
		if ofPipe.MatchString(m[3]) {
			piped[fault{call: m[2], n: counts[m[2]][m[1]]}] = true
		}
	}
	for _, name := range slices.Sorted(maps.Keys(counts)) {
		most := 0
		for _, n := range counts[name] {
			most = max(most, n)
		}
		for n := range most {
			for _, errno := range faultErrnos[name] {
				if errno != "EINTR" && piped[fault{call: name, n: n + 1}] {
					continue
				}
				all = append(all, fault{name, n + 1, errno})
			}
		}
	}
	return all
}

// A faultRun is one execution of a faultCase.
type faultRun struct {
	*testing.T
	*faultCase
	f      *fault // nil: none
	path   string
	bin    string
	others string   // what the directory had beside the PID file
	holder *wrapper // of the state running
	pid    int      // the holder's
	r      result
	stuck  bool // it did not end
}

// try runs the command with a fault, judges, and returns the trace.
func (c *faultCase) try(t *testing.T, bin string, f *fault) []byte {
	x := &faultRun{T: t, faultCase: c, f: f, bin: bin, path: filepath.Join(t.TempDir(), "a.pid"), pid: -1}
	writeFile(t, filepath.Join(filepath.Dir(x.path), "b.pid"), "4194301\n")
	writeFile(t, filepath.Join(filepath.Dir(x.path), "notes"), "not a PID file\n")
	x.prepare()
	x.others = x.bystanders()
	trace := x.run()
	if !x.imaginary(trace) {
		x.judge()
	}
	x.settle()
	if t.Failed() {
		t.Logf("exit code %d\nstdout: %s\nstderr: %s\n%s", x.r.code, x.r.stdout, x.r.stderr, relevant(trace))
	}
	return trace
}

func (x *faultRun) prepare() {
	switch x.state {
	case "stale":
		writeFile(x.T, x.path, "4194304\nlater lines\n") // nobody's, and longer than ours
	case "running":
		x.holder = start(x.T, x.path, filepath.Join(x.bin, "FOREVER"))
		x.pid = x.holder.command(x.T)
	}
}

// run runs the command under strace until it has ended.
func (x *faultRun) run() (trace []byte) {
	dir := x.TempDir()
	at := func(name string) string { return filepath.Join(dir, name) }
	// -D: the command, not strace, is our child, and we wait for it alone.
	args := []string{"-D", "-f", "-y", "-qq", "-o", at("trace")}
	if x.f != nil {
		args = append(args, "-e", fmt.Sprintf("inject=%s:error=%s:when=%d", x.f.call, x.f.errno, x.f.n))
	}
	args = append(args, binary)
	for _, arg := range x.args {
		switch arg {
		case "PATH":
			arg = x.path
		case "DIR":
			arg = filepath.Dir(x.path)
		case "COMMAND", "FOREVER":
			arg = filepath.Join(x.bin, arg)
		}
		args = append(args, arg)
	}
	c := exec.Command("strace", args...)
	c.Env = append(os.Environ(), "GODEBUG=asyncpreemptoff=1", "GOTRACEBACK=none")
	stdout, stderr := x.file(at("stdout")), x.file(at("stderr"))
	defer stdout.Close()
	defer stderr.Close()
	c.Stdout, c.Stderr = stdout, stderr // files: who stays in the background keeps them open
	if err := c.Start(); err != nil {
		x.Fatal(err)
	}
	late := time.AfterFunc(testproc.Patience, func() { _ = c.Process.Kill() })
	x.r.code = exitCode(x.T, c.Wait())
	x.stuck = !late.Stop()
	x.r.stdout, x.r.stderr = text(at("stdout")), text(at("stderr"))
	return []byte(text(at("trace")))
}

func (x *faultRun) file(name string) *os.File {
	f, err := os.Create(name)
	if err != nil {
		x.Fatal(err)
	}
	return f
}

func text(name string) string {
	b, _ := os.ReadFile(name)
	return string(b)
}

// imaginary reports whether the fault hit what cannot have it: the order of the
// threads differs from run to run, so this one's Nth may be another call.
func (x *faultRun) imaginary(trace []byte) bool {
	if x.f == nil || x.f.errno == "EINTR" {
		return false
	}
	last := map[string]string{} // of a thread: what it called
	for line := range strings.Lines(string(trace)) {
		if m := traced.FindStringSubmatch(line); m != nil {
			last[m[1]] = m[3]
		}
		thread, _, _ := strings.Cut(line, " ")
		if strings.Contains(line, "(INJECTED)") && ofPipe.MatchString(last[thread]) {
			return true
		}
	}
	return false
}

// judge holds what the command did and said against what it may.
func (x *faultRun) judge() {
	if x.stuck {
		x.Error("DEADLOCK: it does not end")
	}
	now := x.now()
	x.untouched()
	succeeded := x.r.code == x.code && now == x.after
	switch {
	case x.runtimes():
	case succeeded && x.mute():
	case succeeded && !regexp.MustCompile(x.tells).MatchString(x.r.stdout) && !strings.Contains(x.r.stderr, "pidfile: "):
		x.Errorf("it does not tell %q", x.tells)
	case succeeded:
	case x.f == nil:
		x.Errorf("without a fault: exit code %d, want %d; the file is %s, want %s", x.r.code, x.code, now, x.after)
	case x.f.errno == "EINTR" && slices.Contains(interruptible, x.f.call):
		x.Errorf("EINTR was not survived: exit code %d, the file is %s", x.r.code, now)
	case x.r.code != x.code && !slices.Contains(x.failed, x.r.code):
		x.Errorf("exit code %d, want %d or one of %d", x.r.code, x.code, x.failed)
	case x.r.code != x.code && !x.mute() && !strings.Contains(x.r.stderr, "pidfile: error: ") && !strings.Contains(x.r.stdout, ": unknown"):
		x.Errorf("exit code %d, and no error is told", x.r.code)
	case x.state == "running" && now != "running" && x.after == "running":
		x.Errorf("the holder's file is %s", now)
	}
	if x.state == "running" && x.after == "running" && !testproc.Alive(x.pid) {
		x.Error("the holder has ended")
	}
	if x.state == "stale" && strings.Contains(x.r.stdout+x.r.stderr, "already running") {
		x.Error("it says that a stale file's process runs")
	}
	if !x.runtimes() && regexp.MustCompile(`panic:|fatal error:|goroutine \d+`).MatchString(x.r.stderr) {
		x.Error("it crashed")
	}
}

// mute: the fault was in what it says.
func (x *faultRun) mute() bool { return x.f != nil && x.f.call == "write" }

// runtimes reports whether the Go runtime has given up, as it does if it cannot
// look at descriptors 0 to 2, or have its poller.
func (x *faultRun) runtimes() bool {
	return x.f != nil && strings.Contains(x.r.stderr, "fatal error: ") &&
		regexp.MustCompile(`(?m)^runtime: (unexpected error while checking standard file descriptor|eventfd failed|epollcreate failed|epollctl failed|netpollinit)`).MatchString(x.r.stderr)
}

// now is the state of the PID file, found without the command under test.
func (x *faultRun) now() string {
	f, err := os.Open(x.path)
	if errors.Is(err, fs.ErrNotExist) {
		return "absent"
	}
	if err != nil {
		x.Fatal(err)
	}
	defer f.Close()
	if unix.Flock(int(f.Fd()), unix.LOCK_SH|unix.LOCK_NB) == nil {
		return "stale"
	}
	return "running"
}

// bystanders tells of all that is nobody's business here.
func (x *faultRun) bystanders() string {
	entries, err := os.ReadDir(filepath.Dir(x.path))
	if err != nil {
		x.Fatal(err)
	}
	var all []string
	for _, e := range entries {
		name := filepath.Join(filepath.Dir(x.path), e.Name())
		if name == x.path {
			continue
		}
		var st unix.Stat_t
		if err := unix.Lstat(name, &st); err != nil {
			x.Fatal(err)
		}
		all = append(all, fmt.Sprintf("%s %d %o %d %q", e.Name(), st.Ino, st.Mode, st.Mtim.Nano(), text(name)))
	}
	return strings.Join(all, "\n")
}

func (x *faultRun) untouched() {
	x.Helper()
	if now := x.bystanders(); now != x.others {
		x.Errorf("the directory had\n%s\nand now\n%s", x.others, now)
	}
}

// settle ends who runs and shows that whatever is left hinders nobody.
func (x *faultRun) settle() {
	if x.holder != nil {
		if testproc.Alive(x.pid) {
			x.holder.signal(x.T, unix.SIGTERM)
		}
		x.holder.wait(x.T)
	} else if x.args[0] == "start" {
		call(x.T, "stop", x.path).exits(x.T, "stop", 0)
	}
	works(x.T, x.path)
	x.untouched()
	killOrphans() // the tracer
}

// relevant is the end of a trace, and what failed.
func relevant(trace []byte) string {
	var lines []string
	for line := range strings.Lines(string(trace)) {
		for _, noise := range []string{"rt_sig", "futex(", "mmap(", "nanosleep", "madvise(", "resumed>NULL"} {
			if strings.Contains(line, noise) {
				line = ""
			}
		}
		if line != "" {
			lines = append(lines, line)
		}
	}
	return strings.Join(lines[max(0, len(lines)-90):], "")
}

// writeCommand writes a program that makes no system call but to wait for ever
// or to end: so no fault hits it.
func writeCommand(t *testing.T, name string, forever bool) {
	t.Helper()
	var code []byte
	var machine uint16
	switch runtime.GOARCH {
	case "amd64":
		machine = 62                                             // EM_X86_64
		code = []byte{0xb8, 60, 0, 0, 0, 0x31, 0xff, 0x0f, 0x05} // exit(0)
		if forever {
			code = []byte{0xb8, 34, 0, 0, 0, 0x0f, 0x05, 0xeb, 0xf7} // for { pause() }
		}
	case "arm64":
		machine = 183                                                     // EM_AARCH64
		words := []uint32{0xd2800000, 0xd2800ba8, 0xd4000001, 0xd65f03c0} // exit(0)
		if forever {
			words = []uint32{0xd2800000, 0xd2800001, 0xd2800002, 0xd2800003, 0xd2800928, 0xd4000001, 0x17fffffa} // for { ppoll(NULL, 0, NULL, NULL) }
		}
		for _, w := range words {
			code = little.LittleEndian.AppendUint32(code, w)
		}
	default:
		testproc.Skip(t, "amd64 or arm64", "no COMMAND without system calls for ", runtime.GOARCH)
	}
	const base, size = 0x400000, 64 + 56
	var b bytes.Buffer
	b.WriteString("\x7fELF\x02\x01\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00")
	for _, v := range []any{
		// e_type, e_machine, e_version, e_entry, e_phoff, e_shoff, e_flags, then sizes and counts
		uint16(2), machine, uint32(1), uint64(base + size), uint64(64), uint64(0), uint32(0),
		uint16(64), uint16(56), uint16(1), uint16(0), uint16(0), uint16(0),
		// p_type, p_flags (r-x), p_offset, p_vaddr, p_paddr, p_filesz, p_memsz, p_align
		uint32(1), uint32(5), uint64(0), uint64(base), uint64(base), uint64(size + len(code)), uint64(size + len(code)), uint64(0x10000),
	} {
		if err := little.Write(&b, little.LittleEndian, v); err != nil {
			t.Fatal(err)
		}
	}
	b.Write(code)
	if err := writeProgram(name, b.Bytes()); err != nil {
		t.Fatal(err)
	}
}

// TestPowerCut makes the states that a power cut may leave, and has the commands
// judge them.
func TestPowerCut(t *testing.T) {
	testproc.NotShort(t)
	parallel(t)
	for _, c := range []struct {
		name, text string
		old        bool   // written before this boot
		status     string // what status says
		clean      string // what clean does
	}{
		// The directory's entry was written, the file's data was not.
		{"empty", "", true, "stale", "removed"},
		{"empty and new", "", false, "stale", "left alone"},
		{"zeros", "\x00\x00\x00\x00\x00", true, "stale", "removed"},
		{"half", "41", true, "stale", "removed"},
		{"old", "1\n", true, "stale", "removed"},          // a PID that lives again
		{"old, ours", "SELF\n", true, "stale", "removed"}, // even of such a program
		{"garbage", "\xff\xfe9q", true, "stale", "removed"},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := t.TempDir()
			path, spare := filepath.Join(dir, "a.pid"), filepath.Join(dir, ".a.pid.next")
			// It lives until its stdin ends, and is what is started below.
			twin := start(t, filepath.Join(dir, "twin.pid"), "cat")
			cat := twin.command(t)
			leave := func(name string) {
				writeFile(t, name, strings.ReplaceAll(c.text, "SELF", strconv.Itoa(cat)))
				if c.old {
					past := time.Now().Add(-3650 * 24 * time.Hour)
					if err := os.Chtimes(name, past, past); err != nil {
						t.Fatal(err)
					}
				}
			}
			leave(path)
			leave(spare)
			call(t, "status", path).is(t, 1, ": "+c.status)
			call(t, "stop", path).is(t, 0, ": not running")
			call(t, "list", dir).is(t, 0, `(?m)^stale .*/a\.pid`)
			call(t, "clean", path).is(t, 0, ": "+c.clean)
			if c.clean == "removed" {
				noFile(t, path)
				noFile(t, spare)
				leave(path)
				leave(spare)
			}
			code, stderr := try(t, path, "cat")
			if code != 0 || stderr != "" && !strings.Contains(stderr, "taking over") {
				t.Errorf("a start: exit code %d: %s", code, stderr)
			}
			noFile(t, path)
			noFile(t, spare)
			if !testproc.Alive(cat) {
				t.Error("an innocent has ended")
			}
			twin.stop(t)
			// The spare name alone hinders nobody: nothing reads it, and the next
			// SetPID takes it over.
			leave(spare)
			call(t, "status", path).is(t, 3, ": not running")
			works(t, path)
		})
	}
}
