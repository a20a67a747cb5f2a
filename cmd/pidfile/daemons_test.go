//go:build linux

package main

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	osuser "os/user"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/go-pidfile/pidfile/internal/testproc"
	"golang.org/x/sys/unix"
)

// Real daemons, which go into the background and write their PID files themselves.
// Each runs in a directory of its own, on a socket in that or on the loopback; none is
// the system's.

// A realDaemon says how one is run.
type realDaemon struct {
	program string
	// command is its command line, for a directory and a PID file.
	command func(t *testing.T, dir, path string) []string
	// removes: it removes its file when it is told to stop.
	removes bool
	// late: that its socket is in use it notices when it is in the background, and
	// COMMAND exits 0.
	late bool
	// alone: it listens on nothing that another could have.
	alone bool
	// refuses: it does not start if the file names a live process, whatever that is.
	refuses bool
	// reloaded is how often it has read its configuration by its log, which a TERM that
	// comes too early does not survive; nil if it does.
	reloaded func(dir string) int
}

var daemons = []realDaemon{
	{program: "nginx", command: nginx, removes: true},
	{program: "redis-server", command: redis, removes: true, late: true},
	{program: "memcached", command: memcached, removes: true, late: true},
	{program: "rsyslogd", command: rsyslogd, removes: true, refuses: true, alone: true},
	{program: "monit", command: monit, removes: true, alone: true}, // it would signal the live process
	{program: "apache2", command: apache, removes: true, refuses: true, reloaded: func(dir string) int {
		log, _ := os.ReadFile(dir + "/error.log")
		return strings.Count(string(log), "resuming normal operations")
	}},
}

func nginx(t *testing.T, dir, path string) []string {
	user := ""
	if os.Getuid() == 0 {
		user = "user nobody nogroup;"
	}
	temp := ""
	for _, kind := range []string{"client_body", "proxy", "fastcgi", "uwsgi", "scgi"} {
		temp += fmt.Sprintf("%s_temp_path %s/%s;", kind, dir, kind)
	}
	conf := path + ".conf"
	writeFile(t, conf, fmt.Sprintf("pid %s; error_log %s/error.log; %s worker_processes 1; events {} http { access_log off; %s server { listen unix:%s/socket; } }\n",
		path, dir, user, temp, dir))
	return []string{"nginx", "-e", dir + "/error.log", "-c", conf}
}

func redis(_ *testing.T, dir, path string) []string {
	return []string{"redis-server", "--daemonize", "yes", "--port", strconv.Itoa(portOf(dir)), "--bind", "127.0.0.1", "--save", "", "--pidfile", path, "--dir", dir}
}

func memcached(_ *testing.T, dir, path string) []string {
	c := []string{"memcached", "-d", "-l", "127.0.0.1", "-p", strconv.Itoa(portOf(dir)), "-t", "1", "-P", path}
	if os.Getuid() == 0 {
		c = append(c, "-u", "root")
	}
	return c
}

func rsyslogd(t *testing.T, dir, path string) []string {
	conf := path + ".conf"
	writeFile(t, conf, fmt.Sprintf("module(load=\"imuxsock\" SysSock.Use=\"off\")\ninput(type=\"imuxsock\" Socket=\"%s/socket\")\n*.* %s/messages\n", dir, dir))
	return []string{"rsyslogd", "-f", conf, "-i", path}
}

func monit(t *testing.T, dir, path string) []string {
	conf := path + ".conf"
	writeFile(t, conf, fmt.Sprintf("set daemon 600\nset pidfile %[2]s\nset idfile %[1]s/id\nset statefile %[1]s/state\nset logfile %[1]s/error.log\n", dir, path))
	testproc.Must(t, os.Chmod(conf, 0o700))
	return []string{"monit", "-c", conf}
}

func apache(t *testing.T, dir, path string) []string {
	const modules = "/usr/lib/apache2/modules/mod_"
	conf := path + ".conf"
	writeFile(t, conf, fmt.Sprintf(`LoadModule mpm_event_module %[1]smpm_event.so
LoadModule authz_core_module %[1]sauthz_core.so
ServerRoot %[2]s
DefaultRuntimeDir %[2]s
ServerName localhost
PidFile %[3]s
Listen 127.0.0.1:%[4]d
ErrorLog %[2]s/error.log
User nobody
Group nogroup
StartServers 1
`, modules, dir, path, portOf(dir)))
	return []string{"apache2", "-k", "start", "-f", conf}
}

// portOf returns a free port of the loopback, the same for one directory.
func portOf(dir string) int {
	file := filepath.Join(dir, "port")
	if text, err := os.ReadFile(file); err == nil {
		port, _ := strconv.Atoi(string(text))
		return port
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		panic(err)
	}
	defer l.Close()
	port := l.Addr().(*net.TCPAddr).Port
	if err := os.WriteFile(file, []byte(strconv.Itoa(port)), 0o644); err != nil {
		panic(err)
	}
	return port
}

// A site is where a daemon runs.
type site struct {
	*testing.T
	realDaemon
	uid       int // whose it is; -1: ours
	dir, path string
	line      []string // the command line
}

// newSite is for a daemon, whose program must be installed.
func newSite(t *testing.T, d realDaemon, uid int) *site {
	t.Helper()
	program := d.program
	if _, err := exec.LookPath(program); err != nil {
		program = "/usr/sbin/" + program // which an ordinary user's PATH may lack
	}
	testproc.Tool(t, program)
	dir, err := os.MkdirTemp("/tmp", "pidfile-daemon-") // short: a socket has 107 characters
	testproc.Must(t, err, os.Chmod(dir, 0o755))
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	s := &site{T: t, realDaemon: d, uid: uid, dir: dir, path: filepath.Join(dir, "a.pid")}
	s.line = d.command(t, dir, s.path)
	s.line[0] = program
	s.own()
	t.Cleanup(s.kill)
	return s
}

// pidfile runs the command as the site's user.
func (s *site) pidfile(args ...string) result {
	s.Helper()
	c := exec.Command(binary, args...)
	c.Dir = s.dir
	if s.uid >= 0 {
		c.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uint32(s.uid), Gid: uint32(s.uid)}}
	}
	return finish(s.T, c)
}

// start starts the daemon, which must succeed, and returns its PID.
func (s *site) start(flags ...string) int {
	s.Helper()
	r := s.pidfile(append(append([]string{"start", "--foreign", "-t", "30s", "--log", s.dir + "/log"}, flags...), append([]string{s.path, "--"}, s.line...)...)...)
	r.is(s.T, 0, `a\.pid: started, PID \d+ `)
	if r.code != 0 {
		s.FailNow()
	}
	return s.named()
}

// named is the PID in the file, which may lack a newline.
func (s *site) named() int {
	s.Helper()
	text, err := os.ReadFile(s.path)
	testproc.Must(s.T, err)
	pid, err := strconv.Atoi(strings.TrimSpace(string(text)))
	testproc.Must(s.T, err)
	return pid
}

// kill crashes the daemon: it leads a process group, of which all are its own.
func (s *site) kill() {
	testproc.Eventually(s.T, "end of all of "+s.dir, func() bool {
		all := s.processes() // of which one may just have started another
		for _, pid := range all {
			_ = unix.Kill(pid, unix.SIGKILL)
		}
		return len(all) == 0
	})
	_ = os.Remove(s.dir + "/socket")
}

// processes are all that have been started with this site's file as PIDFILE, or are
// children of such: the daemon's. They are our descendants, orphans included.
func (s *site) processes() (pids []int) {
	var climb func(pid int)
	climb = func(pid int) {
		for _, child := range testproc.Children(pid) {
			line, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", child))
			env, _ := os.ReadFile(fmt.Sprintf("/proc/%d/environ", child))
			cwd, _ := os.Readlink(fmt.Sprintf("/proc/%d/cwd", child))
			if testproc.Alive(child) && strings.Contains(string(line)+string(env)+cwd, s.dir) {
				pids = append(pids, child)
			}
			climb(child)
		}
	}
	climb(os.Getpid())
	return pids
}

// TestDaemons: what status, reload, wait, stop, start --foreign and a crash make of
// the files of real daemons, as root and as an ordinary user.
func TestDaemons(t *testing.T) {
	parallel(t)
	users := map[string]int{"ours": -1}
	if os.Getuid() == 0 {
		users["user"] = 65534 // nobody: monit wants one with a name
	}
	for _, d := range daemons {
		for user, uid := range users {
			t.Run(d.program+" "+user, func(t *testing.T) {
				parallel(t)
				if _, err := osuser.LookupId(strconv.Itoa(os.Getuid())); err != nil && d.program == "monit" {
					testproc.Skip(t, "a user's name", "monit: ", err)
				}
				testDaemon(newSite(t, d, uid))
			})
		}
	}
}

func testDaemon(s *site) {
	pid := s.start()
	s.pidfile("status", s.path).is(s.T, 0, fmt.Sprintf(`: running, PID %d `, pid))
	again := append([]string{"start", "--foreign", "-E", "3", s.path, "--"}, s.line...)
	s.pidfile(again...).is(s.T, 3, fmt.Sprintf(`: already running: PID %d `, pid))
	if s.reloaded != nil {
		testproc.Eventually(s.T, "start", func() bool { return s.reloaded(s.dir) == 1 })
	}
	s.pidfile("reload", s.path).is(s.T, 0, "")
	if s.reloaded != nil {
		testproc.Eventually(s.T, "reload", func() bool { return s.reloaded(s.dir) == 2 })
	}
	s.pidfile("status", s.path).is(s.T, 0, fmt.Sprintf(`: running, PID %d `, pid))

	waited := make(chan result, 1)
	go func() { waited <- s.pidfile("wait", "-t", "30s", s.path) }()
	s.pidfile("stop", s.path).is(s.T, 0, fmt.Sprintf(`: PID %d stopped \(TERM`, pid))
	(<-waited).is(s.T, 0, "")
	if s.removes {
		noFile(s.T, s.path)
	}
	s.pidfile("status", s.path).is(s.T, 3, "not running")

	// A crash leaves the file, whose PID nothing has, or a zombie.
	crashed := s.start()
	s.kill()
	s.pidfile("status", s.path).is(s.T, 1, fmt.Sprintf(`stale, names PID %d`, crashed))
	pid = s.start()
	if pid == crashed {
		s.Errorf("PID %d again", pid)
	}
	s.pidfile(append([]string{"restart", "--foreign", "-t", "30s", s.path, "--"}, s.line...)...).is(s.T, 0, "started, PID")
	restarted := s.named()
	if restarted == pid {
		s.Errorf("restart: PID %d again", pid)
	}

	if !s.alone {
		s.socketInUse()
	}
	s.pidfile("status", s.path).is(s.T, 0, fmt.Sprintf(`: running, PID %d `, restarted))
	s.pidfile("stop", s.path).is(s.T, 0, "stopped")

	// The PID was reused: by a program that must not come to harm.
	innocent := exec.Command("sleep", "1000")
	background(s.T, innocent)
	writeFile(s.T, s.path, strconv.Itoa(innocent.Process.Pid)+"\n")
	s.own()
	_ = os.Remove(s.dir + "/socket")
	if s.refuses {
		c := exec.Command(s.line[0], s.line[1:]...)
		c.Dir = s.dir
		out, err := c.CombinedOutput()
		if text, _ := os.ReadFile(s.path); string(text) != strconv.Itoa(innocent.Process.Pid)+"\n" {
			s.Errorf("by itself it does not refuse: %v, %s; the file names %s", err, out, text)
		}
	}
	if pid := s.start(); pid == innocent.Process.Pid || !testproc.Alive(innocent.Process.Pid) {
		s.Errorf("PID %d; the innocent %d lives: %v", pid, innocent.Process.Pid, testproc.Alive(innocent.Process.Pid))
	}
	s.pidfile("stop", s.path).is(s.T, 0, "stopped")
}

// socketInUse starts another one of what runs, which cannot have its socket: that is
// told at once, though one that is in the background by then exits 0.
func (s *site) socketInUse() {
	path := filepath.Join(s.dir, "b.pid")
	other := s.command(s.T, s.dir, path)
	other[0] = s.line[0]
	r := s.pidfile(append([]string{"start", "--foreign", "-t", "1h", "--log", s.dir + "/log", path, "--"}, other...)...)
	if r.code != 1 || s.late && !strings.Contains(r.stderr, "exit status 0, and no process that it started is left") {
		s.Errorf("socket in use: exit code %d: %s%s", r.code, r.stdout, r.stderr)
	}
}

// own gives all files to the site's user.
func (s *site) own() {
	files, _ := filepath.Glob(s.dir + "/*")
	for _, file := range append(files, s.dir) {
		if s.uid >= 0 {
			testproc.Must(s.T, os.Chown(file, s.uid, s.uid))
		}
	}
}

// TestDaemonsUnderRun: what start says of daemons that write PIDFILE though it does,
// or go into the background.
func TestDaemonsUnderRun(t *testing.T) {
	parallel(t)
	for _, c := range []struct {
		daemon string
		args   []string // more for it
		flags  []string
		code   int
		stderr string
	}{
		{"nginx", nil, []string{"--ready", "30s"}, 1, `use --foreign\n(?s:.*)runs on: PID \d+ \(nginx: master`},
		{"redis-server", nil, []string{"--ready", "30s"}, 1, `write PIDFILE itself: use(?s:.*)runs on: PID \d+ \(`},
		{"memcached", nil, nil, 0, `writes .*/a\.pid itself, so its lock is gone: use 'pidfile start --foreign'`},
		{"apache2", []string{"-DFOREGROUND"}, []string{"--ready", "1s"}, 0, `writes .*/a\.pid itself, so its lock is gone`},
		{"rsyslogd", []string{"-n"}, []string{"--ready", "30s"}, 1, `write PIDFILE itself: use`},
	} {
		t.Run(c.daemon, func(t *testing.T) {
			parallel(t)
			i := slices.IndexFunc(daemons, func(d realDaemon) bool { return d.program == c.daemon })
			// nginx writes its title a moment after it has gone into the background: until
			// then its command line is told.
			for attempt := 1; ; attempt++ {
				s := newSite(t, daemons[i], -1)
				line := slices.DeleteFunc(s.line, func(arg string) bool { return c.daemon == "memcached" && arg == "-d" })
				r := s.pidfile(slices.Concat([]string{"start", "--log", s.dir + "/log"}, c.flags, []string{s.path, "--"}, line, c.args)...)
				r.is(t, c.code, "")
				if regexp.MustCompile(c.stderr).MatchString(r.stderr) {
					return
				}
				s.kill()
				if attempt == 5 {
					t.Fatalf("stderr, to match %q: %s", c.stderr, r.stderr)
				}
			}
		})
	}
}
