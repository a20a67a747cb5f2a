//go:build linux

package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/go-pidfile/pidfile/internal/testproc"
	"golang.org/x/sys/unix"
)

// migrating is docs/MIGRATING.md. Its lines are run as they stand there.
const migrating = "../../docs/MIGRATING.md"

// A recipe is a section of migrating: what people have, and what they may have
// instead. A side is "" if the section has none.
type recipe struct {
	before, after string
}

// recipes reads the fenced blocks whose info string ends with before or after.
func recipes(t *testing.T) map[string]*recipe {
	t.Helper()
	all := make(map[string]*recipe)
	fence := regexp.MustCompile("(?s)^```\\w+ (before|after)\n(.*?\n)```$")
	for section := range strings.SplitSeq(readMigrating(t), "\n### ") {
		name, text, _ := strings.Cut(section, "\n")
		for _, block := range regexp.MustCompile("(?ms)^```.*?^```$").FindAllString(text, -1) {
			m := fence.FindStringSubmatch(block)
			if m == nil {
				t.Fatalf("%s: a block that is neither before nor after:\n%s", name, block)
			}
			r := all[name]
			if r == nil {
				r = new(recipe)
				all[name] = r
			}
			side := &r.before
			if m[1] == "after" {
				side = &r.after
			}
			if *side != "" {
				t.Fatalf("%s: two blocks %q", name, m[1])
			}
			*side = m[2]
		}
	}
	return all
}

func readMigrating(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile(migrating)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// TestMigrating runs the lines of docs/MIGRATING.md, before and after.
func TestMigrating(t *testing.T) {
	testproc.NotShort(t)
	parallel(t)
	tests := map[string]func(*testing.T, *machine, *recipe){
		"cron":                       migrateCron,
		"init script":                migrateInitScript,
		"container":                  migrateContainer,
		"systemd":                    migrateSystemd,
		"systemd, keeping PIDFile=":  migrateSystemdPIDFile,
		"Python":                     migratePython,
		"logrotate":                  migrateLogrotate,
		"watchdog":                   migrateWatchdog,
		"monit":                      migrateMonit,
		"make":                       migrateMake,
		"a script that locks itself": migrateScript,
	}
	all := recipes(t)
	for name := range all {
		if tests[name] == nil {
			t.Errorf("%s: nothing tests the blocks of section %q", migrating, name)
		}
	}
	for name, test := range tests {
		r := all[name]
		if r == nil || r.after == "" {
			t.Errorf("%s: section %q has no block %q", migrating, name, "after")
			continue
		}
		t.Run(name, func(t *testing.T) {
			parallel(t)
			m := newMachine(t)
			test(t, m, &recipe{m.local(r.before), m.local(r.after)})
		})
	}
}

// A machine is a temporary directory in the place of /.
type machine struct {
	root string
	pid  string // /run/web.pid
	log  string // what /opt/web was sent
}

// daemon is the configuration of /opt/web, a shell under that name: it notes the
// signals that it gets, and ends with TERM. It reads what nobody writes, so it
// has no children.
const daemon = `trap 'echo SIGHUP >>%[1]s' HUP
trap 'echo SIGTERM >>%[1]s; exit 0' TERM
echo ready >>%[1]s
while :; do read -r _; done <>%[2]s
`

func newMachine(t *testing.T) *machine {
	t.Helper()
	m := &machine{root: t.TempDir()}
	for _, dir := range []string{"run", "opt", "etc", "var/log", "usr/local/bin"} {
		if err := os.MkdirAll(m.path(dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	m.pid, m.log = m.path("run/web.pid"), m.path("web.signals")
	fifo := m.path("fifo")
	if err := unix.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	shell, err := os.ReadFile("/bin/sh")
	if err != nil {
		t.Fatal(err)
	}
	m.program(t, "opt/web", string(shell))
	m.write(t, "etc/web.conf", fmt.Sprintf(daemon, m.log, fifo), 0o644)
	for _, job := range []string{"backup", "deploy"} {
		m.program(t, "opt/"+job, "#!/bin/sh\necho done >>"+m.path(job+".log")+"\n")
	}
	if err := os.Symlink(binary, m.path("usr/local/bin/pidfile")); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		call(t, "stop", m.pid)
		killOrphans()
	})
	return m
}

// fits reports whether start-stop-daemon can tell the program of a process here: it
// reads 256 bytes of its path (dpkg 1.21, pid_is_exec).
func (m *machine) fits(t *testing.T) bool {
	t.Helper()
	if len(m.path("opt/web")) < 256 {
		return true
	}
	testproc.SkipPart(t, "a shorter TMPDIR", "start-stop-daemon")
	return false
}

func (m *machine) path(name string) string { return filepath.Join(m.root, name) }

// local moves the paths in a text to this machine.
func (m *machine) local(text string) string {
	var pairs []string
	for _, dir := range []string{"/run/", "/opt/", "/etc/", "/var/", "/usr/local/"} {
		pairs = append(pairs, dir, m.root+dir)
	}
	return strings.NewReplacer(pairs...).Replace(text)
}

func (m *machine) write(t *testing.T, name, text string, mode os.FileMode) string {
	t.Helper()
	path := m.path(name)
	if err := os.WriteFile(path, []byte(text), mode); err != nil {
		t.Fatal(err)
	}
	return path
}

func (m *machine) program(t *testing.T, name, text string) string {
	t.Helper()
	if err := writeProgram(m.path(name), []byte(text)); err != nil {
		t.Fatal(err)
	}
	return m.path(name)
}

// did tells how often a job was run.
func (m *machine) did(job string) int {
	text, _ := os.ReadFile(m.path(job + ".log"))
	return strings.Count(string(text), "done\n")
}

// sh runs a line. What it leaves in the background gets no pipe of ours.
func sh(t *testing.T, line string, args ...string) result {
	t.Helper()
	return shellOf(t, append([]string{"-c", line, "sh"}, args...)...)
}

func shellOf(t *testing.T, args ...string) result {
	t.Helper()
	out, err := os.Create(filepath.Join(t.TempDir(), "out"))
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 2*testproc.Patience)
	defer cancel()
	c := exec.CommandContext(ctx, "sh", args...)
	c.Stdout, c.Stderr = out, out
	code := exitCode(t, c.Run())
	text, err := os.ReadFile(out.Name())
	if err != nil {
		t.Fatal(err)
	}
	return result{stdout: string(text), code: code}
}

// crontab returns a crontab line's command.
func crontab(t *testing.T, line string) string {
	t.Helper()
	m := regexp.MustCompile(`^(?:[*/0-9]+ ){5}(.+)\n$`).FindStringSubmatch(line)
	if m == nil {
		t.Fatalf("no line of a crontab: %q", line)
	}
	return m[1]
}

func migrateCron(t *testing.T, m *machine, r *recipe) {
	lock, pid := m.path("run/backup.lock"), m.path("run/backup.pid")
	if testproc.Has(t, "flock") {
		line := crontab(t, r.before)
		sh(t, line).is(t, 0, "^$")
		if _, err := os.Stat(lock); err != nil || m.did("backup") != 1 {
			t.Errorf("before: %v; ran %d times, want once", err, m.did("backup"))
		}
		held := background(t, exec.Command("flock", lock, "sleep", "1000"))
		testproc.Eventually(t, "flock", func() bool { return sh(t, "flock -n "+lock+" true").code == 1 })
		sh(t, line).is(t, 1, "^$")
		_ = held.Process.Kill()
	}
	did, line := m.did("backup"), crontab(t, r.after)
	sh(t, line).is(t, 0, "^$")
	noFile(t, pid)
	held := start(t, pid, "sleep", "1000")
	held.command(t)
	sh(t, line).is(t, 0, "^$")
	sh(t, strings.Replace(line, " -E 0", "", 1)).is(t, 75, "^$")
	if n := m.did("backup") - did; n != 1 {
		t.Errorf("after: ran %d times, want once", n)
	}
	held.stop(t)
}

func migrateInitScript(t *testing.T, m *machine, r *recipe) {
	after := m.program(t, "etc/after", r.after)
	before := ""
	if testproc.Has(t, "start-stop-daemon") && m.fits(t) {
		before = m.program(t, "etc/before", r.before)
	}
	// Each pair starts with one and stops with the other.
	for _, pair := range [][2]string{{before, before}, {after, after}, {before, after}, {after, before}} {
		if pair[0] == "" || pair[1] == "" {
			continue
		}
		a, b := pair[0], pair[1]
		what := filepath.Base(a) + ", then " + filepath.Base(b)
		_ = os.Remove(m.log)
		expect := func(script, action string, code int) {
			t.Helper()
			if r := shellOf(t, script, action); r.code != code {
				t.Errorf("%s: %s %s: exit code %d, want %d: %s", what, filepath.Base(script), action, r.code, code, r.stdout)
			}
		}
		expect(a, "status", 3)
		expect(a, "start", 0)
		awaitReady(t, m.log)
		pid := (&wrapper{path: m.pid}).command(t)
		expect(b, "start", 0)
		expect(b, "status", 0)
		if now, err := os.ReadFile(m.pid); err != nil || strings.TrimSpace(string(now)) != strconv.Itoa(pid) {
			t.Errorf("%s: the file says %q, %v, want %d", what, now, err, pid)
		}
		expect(b, "reload", 0)
		sees(t, m.log, "SIGHUP")
		expect(b, "stop", 0)
		sees(t, m.log, "SIGHUP", "SIGTERM")
		// Start-stop-daemon does not wait for what has no program any more.
		testproc.Eventually(t, fmt.Sprintf("%s: end of PID %d", what, pid), func() bool { return !testproc.Alive(pid) })
		// A file of theirs that nobody holds is for the next start to replace.
		if a == after || b == before {
			testproc.Eventually(t, "end of the file", func() bool { _, err := os.Stat(m.pid); return err != nil })
		}
		_ = os.Remove(m.pid)
		expect(b, "stop", 0)
	}
}

func migrateContainer(t *testing.T, m *machine, r *recipe) {
	testproc.Root(t) // for a PID namespace
	testproc.Tool(t, "unshare")
	entry := func(text string) (argv []string) {
		t.Helper()
		list, ok := strings.CutPrefix(text, "ENTRYPOINT ")
		if err := json.Unmarshal([]byte(list), &argv); !ok || err != nil {
			t.Fatalf("%q: %v", text, err)
		}
		return argv
	}
	// run is what docker run and docker stop do.
	run := func(argv []string, code int) {
		t.Helper()
		_ = os.Remove(m.log)
		w := background(t, exec.Command("unshare", append([]string{"--pid", "--fork", "--mount-proc", "--kill-child"}, argv...)...))
		awaitReady(t, m.log)
		kids := testproc.Children(w.Process.Pid)
		if len(kids) != 1 {
			t.Fatalf("PID 1 is one of %v", kids)
		}
		if err := unix.Kill(kids[0], unix.SIGTERM); err != nil {
			t.Fatal(err)
		}
		if got := w.wait(t); got != code {
			t.Errorf("%v: exit code %d after TERM, want %d", argv, got, code)
		}
	}
	if testproc.Has(t, "tini") && testproc.Has(t, "flock") {
		run(entry(r.before), 143)
		if got := logged(m.log); len(got) > 0 {
			t.Errorf("before: %v reached the program, and we say that none does", got)
		}
	}
	run(entry(r.after), 0)
	sees(t, m.log, "SIGTERM")
	noFile(t, m.pid)
}

// unit returns a unit's directives, after systemd has checked it.
func unit(t *testing.T, m *machine, text string) map[string]string {
	t.Helper()
	if testproc.Has(t, "systemd-analyze") {
		path := m.write(t, "etc/web.service", text, 0o644)
		if r := finish(t, exec.Command("systemd-analyze", "verify", "--man=no", path)); r.code != 0 || strings.Contains(r.stderr, path) {
			t.Errorf("systemd-analyze verify: exit code %d: %s", r.code, r.stderr)
		}
	}
	directives := make(map[string]string)
	for line := range strings.Lines(text) {
		if name, value, ok := strings.Cut(strings.TrimSpace(line), "="); ok {
			directives[name] = value
		}
	}
	return directives
}

func migrateSystemd(t *testing.T, m *machine, r *recipe) {
	unit(t, m, r.before)
	u := unit(t, m, r.after)
	argv := strings.Fields(u["ExecStart"])
	c := exec.Command(argv[0], argv[1:]...)
	c.Env = append(os.Environ(), "NOTIFY_SOCKET=/run/systemd/notify")
	w := background(t, c)
	awaitReady(t, m.log)
	if pid := (&wrapper{path: m.pid}).command(t); pid != w.Process.Pid {
		t.Errorf("the file says %d, the main process is %d", pid, w.Process.Pid)
	}
	// The main process may say that it is ready: Type=notify.
	if env, err := os.ReadFile(fmt.Sprintf("/proc/%d/environ", w.Process.Pid)); err != nil || !strings.Contains(string(env), "NOTIFY_SOCKET=/run/systemd/notify\x00") {
		t.Errorf("the program does not know systemd's socket: %q, %v", env, err)
	}
	sh(t, u["ExecReload"]).is(t, 0, "sent HUP")
	sees(t, m.log, "SIGHUP")
	w.signal(t, unix.SIGTERM)
	if code := w.wait(t); code != 0 {
		t.Errorf("exit code %d after TERM", code)
	}
	sees(t, m.log, "SIGHUP", "SIGTERM")
	works(t, m.pid) // although --exec leaves the file
}

func migrateSystemdPIDFile(t *testing.T, m *machine, r *recipe) {
	u := unit(t, m, r.after)
	sh(t, u["ExecStart"]).is(t, 0, "started")
	// When ExecStart returns, systemd reads the main process from the file.
	text, err := os.ReadFile(u["PIDFile"])
	if err != nil {
		t.Fatal(err)
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil {
		t.Fatal(err)
	}
	if exe, err := os.Readlink(fmt.Sprintf("/proc/%d/exe", pid)); err != nil || exe != m.path("opt/web") {
		t.Errorf("the main process is %q, %v", exe, err)
	}
	awaitReady(t, m.log)
	// KillMode=mixed: TERM to the main process only.
	if err := unix.Kill(pid, unix.SIGTERM); err != nil {
		t.Fatal(err)
	}
	sees(t, m.log, "SIGTERM")
	testproc.Eventually(t, "end of the file", func() bool { _, err := os.Stat(m.pid); return err != nil })
}

// standIn behaves as the package python-pidfile does, for machines without it.
const standIn = `import os

class AlreadyRunningError(Exception):
    pass

def argv0(pid):
    with open('/proc/%d/cmdline' % pid) as f:
        return f.read().split('\0')[0]

class PIDFile:
    def __init__(self, path):
        self.path = path

    def __enter__(self):
        try:
            with open(self.path) as f:
                running = argv0(int(f.read())) == argv0(os.getpid())
        except (OSError, ValueError):
            running = False
        if running:
            raise AlreadyRunningError
        with open(self.path, 'w') as f:
            f.write(str(os.getpid()))

    def __exit__(self, *_):
        os.remove(self.path)
`

func migratePython(t *testing.T, m *machine, r *recipe) {
	testproc.Tool(t, "python3")
	// The interpreter itself, under its name: a version manager's script that
	// stands in for it would be another program.
	python := finish(t, exec.Command("python3", "-c", "import os, sys; print(os.path.realpath(sys.executable))"))
	python.is(t, 0, "^/")
	if err := os.Symlink(strings.TrimSpace(python.stdout), m.path("usr/local/bin/python3")); err != nil {
		t.Fatal(err)
	}
	env := append(os.Environ(), "PATH="+m.path("usr/local/bin")+":"+os.Getenv("PATH"))
	command := func(name string, args ...string) *exec.Cmd {
		c := exec.Command(name, args...)
		c.Env = env
		return c
	}
	python3 := func(args ...string) *exec.Cmd {
		c := command(m.path("usr/local/bin/python3"), args...)
		c.Args[0] = "python3" // as if found in PATH
		return c
	}
	if finish(t, python3("-c", "import pidfile; pidfile.PIDFile; pidfile.AlreadyRunningError")).code != 0 {
		t.Log("python-pidfile is not installed: a stand-in of the same behaviour takes its place")
		m.write(t, "opt/pidfile.py", standIn, 0o644)
	}
	pid, log := m.path("run/job.pid"), m.path("job.log")
	m.write(t, "opt/job.py", "import signal\nopen('"+log+"', 'a').write('ready\\n')\nsignal.pause()\n", 0o644)
	before := m.write(t, "opt/before.py", r.before, 0o644)
	oldWay := func() *exec.Cmd { return python3(before) }
	newWay := func() *exec.Cmd { return command("sh", "-c", "exec "+r.after) }
	begin := func(c *exec.Cmd) *wrapper {
		t.Helper()
		_ = os.Remove(log)
		w := background(t, c)
		awaitReady(t, log)
		return w
	}
	end := func(w *wrapper) {
		t.Helper()
		call(t, "stop", pid).is(t, 0, "")
		w.wait(t)
	}
	refused := func(what string, c *exec.Cmd, code int) {
		t.Helper()
		w := background(t, c)
		got := w.wait(t)
		if told, _ := os.ReadFile(w.Stderr.(*os.File).Name()); got != code || strings.Contains(string(told), "Traceback") {
			t.Errorf("%s: exit code %d, want %d: %s", what, got, code, told)
		}
	}
	w := begin(oldWay())
	refused("after, beside before", newWay(), 75)
	end(w)
	w = begin(newWay())
	refused("before, beside after", oldWay(), 1)
	end(w)
	refused("both in one", command(binary, "run", pid, "python3", before), 1)
	// A lock of another program's does not keep it out.
	other := start(t, pid, "sleep", "1000")
	other.command(t)
	begin(oldWay())
}

func migrateLogrotate(t *testing.T, m *machine, r *recipe) {
	sh(t, m.local("pidfile start /run/web.pid /opt/web /etc/web.conf")).is(t, 0, "started")
	awaitReady(t, m.log)
	var want []string
	for _, text := range []string{r.before, r.after} {
		line := regexp.MustCompile(`(?s)postrotate\n(.*)    endscript`).FindStringSubmatch(text)[1]
		m.write(t, "var/log/web.log", "a line\n", 0o644)
		if testproc.Has(t, "logrotate") {
			conf := m.write(t, "etc/logrotate.conf", text, 0o644)
			finish(t, exec.Command("logrotate", "--force", "--state", m.path("state"), conf)).is(t, 0, "")
		} else {
			sh(t, line).is(t, 0, "")
		}
		want = append(want, "SIGHUP")
		sees(t, m.log, want...)
	}
	// A stranger has the PID of the file.
	line := regexp.MustCompile(`pidfile reload .*`).FindString(r.after)
	sh(t, m.local("pidfile stop /run/web.pid")).is(t, 0, "stopped")
	_ = os.Remove(m.log)
	stranger := background(t, exec.Command(m.path("opt/web"), m.path("etc/web.conf")))
	awaitReady(t, m.log)
	m.write(t, "run/web.pid", fmt.Sprintln(stranger.Process.Pid), 0o644)
	old := time.Now().Add(-53 * time.Minute) // no whole hour, by which clocks are set after boot
	if err := os.Chtimes(m.pid, old, old); err != nil {
		t.Fatal(err)
	}
	sh(t, line).is(t, 0, "")
	sh(t, "kill -HUP $(cat "+m.pid+")").is(t, 0, "")
	stranger.signal(t, unix.SIGTERM)
	stranger.wait(t)
	sees(t, m.log, "SIGHUP", "SIGTERM") // one HUP: kill's
}

func migrateWatchdog(t *testing.T, m *machine, r *recipe) {
	for _, c := range []struct {
		what, line string
		ok         bool
	}{
		{"before", r.before, testproc.Has(t, "start-stop-daemon")},
		{"after", r.after, true},
	} {
		if !c.ok {
			continue
		}
		_ = os.Remove(m.log)
		line := crontab(t, c.line)
		first := sh(t, line)
		if first.code != 0 {
			t.Fatalf("%s: exit code %d: %s", c.what, first.code, first.stdout)
		}
		awaitReady(t, m.log)
		pid := (&wrapper{path: m.pid}).command(t)
		sh(t, line).is(t, 0, "^$")
		kill(t, pid, unix.SIGKILL)
		if c.what == "after" {
			testproc.Eventually(t, "end of the file", func() bool { _, err := os.Stat(m.pid); return err != nil })
		} else {
			_, _ = unix.Wait4(pid, nil, 0, nil) // reaped: it is a child of ours, as it would be init's
		}
		_ = os.Remove(m.log)
		if again := sh(t, line); again.code != 0 {
			t.Errorf("%s: exit code %d after a crash: %s", c.what, again.code, again.stdout)
		}
		awaitReady(t, m.log)
		call(t, "stop", m.pid).is(t, 0, "stopped")
	}
}

func migrateMonit(t *testing.T, m *machine, r *recipe) {
	if _, err := user.LookupId(strconv.Itoa(os.Getuid())); err != nil {
		testproc.SkipPart(t, "a user's name", "monit: ", err)
	} else if testproc.Has(t, "monit") {
		for _, text := range []string{r.before, r.after} {
			conf := m.write(t, "etc/monitrc", text, 0o600)
			if err := os.Chmod(conf, 0o600); err != nil {
				t.Fatal(err)
			}
			finish(t, exec.Command("monit", "-t", "-c", conf)).is(t, 0, "syntax OK")
		}
	}
	programs := regexp.MustCompile(`"([^"]+)"`).FindAllStringSubmatch(r.after, -1)
	status, launch := programs[0][1], programs[1][1]
	sh(t, status).is(t, 3, "not running")
	sh(t, launch).is(t, 0, "started")
	sh(t, status).is(t, 0, "running")
}

func migrateMake(t *testing.T, m *machine, r *recipe) {
	testproc.Tool(t, "make")
	pid := m.path("run/deploy.pid")
	if testproc.Has(t, "flock") {
		finish(t, exec.Command("make", "-f", m.write(t, "before.mk", r.before, 0o644))).is(t, 0, "")
	}
	did := m.did("deploy")
	held := start(t, pid, "sleep", "1000")
	held.command(t)
	w := background(t, exec.Command("make", "-f", m.write(t, "after.mk", r.after, 0o644)))
	testproc.Eventually(t, "a wait", func() bool { return testproc.Blocked(pid) == 1 })
	if n := m.did("deploy"); n != did {
		t.Error("it does not wait")
	}
	held.signal(t, unix.SIGTERM)
	held.wait(t)
	if code := w.wait(t); code != 0 || m.did("deploy") != did+1 {
		t.Errorf("exit code %d, ran %d times", code, m.did("deploy")-did)
	}
	noFile(t, pid)
}

func migrateScript(t *testing.T, m *machine, r *recipe) {
	for _, c := range []struct {
		name, lines string
		refused     int
	}{{"before", r.before, 1}, {"after", r.after, 75}} {
		if c.name == "before" && !testproc.Has(t, "flock") {
			continue
		}
		log := m.path(c.name + ".log")
		path := m.program(t, "opt/"+c.name, "#!/bin/sh\n"+c.lines+"[ $# = 0 ] && exit\necho ready >>"+log+"\nexec sleep \"$1\"\n")
		sh(t, path).is(t, 0, "^$")
		w := background(t, exec.Command(path, "1000"))
		awaitReady(t, log)
		sh(t, path).is(t, c.refused, "^$")
		_ = w.Process.Signal(unix.SIGTERM)
		w.wait(t)
		sh(t, path).is(t, 0, "^$")
	}
}
