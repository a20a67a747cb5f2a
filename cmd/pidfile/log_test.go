//go:build linux

package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/go-pidfile/pidfile/internal/testproc"
	"golang.org/x/sys/unix"
)

// A logDir is what root's "start --user A --log" meets: a directory of A's, and
// one of root's that nobody else can change the way to.
type logDir struct{ users, roots, path string }

const userA = 65533

func newLogDir(t *testing.T) *logDir {
	t.Helper()
	users, _ := public(t)
	roots, err := os.MkdirTemp("/run", "pidfile-test-")
	if err != nil {
		t.Skip("NOT TESTED: ", err)
	}
	t.Cleanup(func() { os.RemoveAll(roots) })
	d := &logDir{users: filepath.Join(users, "a"), roots: roots, path: filepath.Join(roots, "a.pid")}
	testproc.Must(t, os.Mkdir(d.users, 0o755), os.Chown(d.users, userA, userA), os.Chmod(roots, 0o755))
	return d
}

// start starts a COMMAND of A's that says how it has its output, and lives on.
func (d *logDir) start(t *testing.T, log string, flags ...string) result {
	t.Helper()
	args := append([]string{"start", "--user", fmt.Sprintf("%d:%d", userA, userA), "--log", log}, flags...)
	return call(t, append(args, d.path, "sh", "-c", "echo evil; grep flags: /proc/$$/fdinfo/1; exec sleep 1000")...)
}

// works checks that a log is written, by a COMMAND that can append to it, and no
// more, and whose the file is.
func (d *logDir) works(t *testing.T, log string, owner uint32) {
	t.Helper()
	d.start(t, log).exits(t, "start --log "+log, 0)
	call(t, "stop", d.path).exits(t, "stop", 0)
	var st unix.Stat_t
	if err := unix.Stat(log, &st); err != nil || st.Uid != owner {
		t.Errorf("%s belongs to UID %d, want %d: %v", log, st.Uid, owner, err)
	}
	text, err := os.ReadFile(log)
	var flags uint64
	_, _ = fmt.Sscanf(strings.TrimPrefix(string(text), "evil\n"), "flags: %o", &flags)
	if err != nil || flags&unix.O_ACCMODE != unix.O_WRONLY || flags&unix.O_APPEND == 0 || flags&unix.O_NONBLOCK != 0 {
		t.Errorf("COMMAND's output: flags %o, %v: %s", flags, err, text)
	}
}

// refused checks that nothing is started, and why.
func (d *logDir) refused(t *testing.T, log, why string, flags ...string) {
	t.Helper()
	r := d.start(t, log, flags...)
	if r.code != 125 || !strings.Contains(r.stderr, "--log: ") || !strings.Contains(r.stderr, why) {
		t.Errorf("start --log %s: exit code %d, want 125, for %q: %s%s", log, r.code, why, r.stdout, r.stderr)
	}
	noFile(t, d.path)
	if r.code == 0 {
		call(t, "stop", d.path)
	}
}

// TestLogAsUser: root opens nothing with its own rights that COMMAND's user could
// have put there.
func TestLogAsUser(t *testing.T) {
	testproc.NotShort(t)
	parallel(t)
	d := newLogDir(t)
	secret, log := filepath.Join(d.roots, "secret"), filepath.Join(d.users, "log")
	testproc.Must(t, os.WriteFile(secret, []byte("secret\n"), 0o600))
	for _, flags := range [][]string{nil, {"--foreign", "-t", "5s"}} {
		for name, attack := range map[string]struct {
			prepare func(at string) error
			why     string
		}{
			"link":          {func(at string) error { return os.Symlink(secret, at) }, "is a symbolic link"},
			"dangling link": {func(at string) error { return os.Symlink(filepath.Join(d.roots, "new"), at) }, "is a symbolic link"},
			"second name":   {func(at string) error { return os.Link(secret, at) }, "permission denied"},
			"FIFO":          {func(at string) error { return unix.Mkfifo(at, 0o666) }, "is not a regular file"},
			"terminal":      {func(at string) error { return unix.Mknod(at, unix.S_IFCHR|0o666, int(unix.Mkdev(5, 0))) }, "is not a regular file"},
			"directory":     {func(at string) error { return os.Mkdir(at, 0o777) }, "is not a regular file"},
		} {
			t.Run(name, func(t *testing.T) {
				testproc.Must(t, attack.prepare(log))
				defer os.Remove(log)
				d.refused(t, log, attack.why, flags...)
			})
		}
	}
	t.Run("second name of a file for all", func(t *testing.T) {
		all := filepath.Join(filepath.Dir(d.users), "all")
		testproc.Must(t, os.WriteFile(all, nil, 0o666), os.Chmod(all, 0o666), os.Link(all, log))
		defer os.Remove(log)
		d.refused(t, log, "has 2 names")
	})
	t.Run("way", func(t *testing.T) {
		testproc.Must(t, os.Symlink(d.roots, filepath.Join(d.users, "way")))
		d.refused(t, filepath.Join(d.users, "way/new"), "permission denied")
		d.refused(t, filepath.Join(d.users, "way/secret"), "permission denied")
	})
	noFile(t, filepath.Join(d.roots, "new"))
	if text, err := os.ReadFile(secret); err != nil || string(text) != "secret\n" {
		t.Errorf("root's file: %q, %v", text, err)
	}
	d.works(t, log, userA)
	testproc.Must(t, os.Remove(log))

	// What is COMMAND's to read is shown.
	call(t, "start", "--ready", "30s", "--user", "65533:65533", "--log", log, d.path, "sh", "-c", "echo broken >&2; exit 1").exits(t, "start", 1)
	r := call(t, "start", "--ready", "30s", "--user", "65533:65533", "--log", log, d.path, "sh", "-c", "echo broken again; ln -sf "+secret+" "+log+"; exit 1")
	if r.code != 1 || strings.Contains(r.stderr, "secret\n") || !strings.Contains(r.stderr, "cannot be shown") {
		t.Errorf("exit code %d: %s", r.code, r.stderr)
	}
}

// TestLogOfRoot: in a directory of root's the log is root's, if nobody else can
// change the way to it.
func TestLogOfRoot(t *testing.T) {
	testproc.NotShort(t)
	parallel(t)
	d := newLogDir(t)
	at := func(name string) string { return filepath.Join(d.roots, name) }
	d.works(t, at("log"), 0)
	r := call(t, "start", "--ready", "30s", "--user", "65533:65533", "--log", at("log"), d.path, "sh", "-c", "echo broken; exit 1")
	if r.code != 1 || !strings.HasSuffix(r.stderr, "  broken\n") {
		t.Errorf("exit code %d: %s", r.code, r.stderr)
	}
	d.refused(t, at("missing/log"), "no such file or directory")
	testproc.Must(t, os.Symlink("log", at("link")))
	d.refused(t, at("link"), "is a symbolic link")

	// As /var/log of some systems: a group's that A is not in.
	testproc.Must(t, os.MkdirAll(at("group/sub"), 0o755), os.Chown(at("group"), 0, 65500), os.Chmod(at("group"), 0o775))
	d.works(t, at("group/log"), 0)
	d.refused(t, at("group/sub/log"), "permission denied")
	// root's own links, of which the way may have some
	testproc.Must(t, os.Mkdir(at("real"), 0o755), os.Symlink("real", at("way")), os.Symlink(at("way"), at("way2")))
	d.works(t, at("way2/log"), 0)
	testproc.Must(t, os.Symlink("group", at("way3")), os.Symlink("loop", at("loop")))
	d.refused(t, at("way3/sub/log"), "permission denied")
	// Of A's group, or everybody's, though A could not write the file.
	testproc.Must(t, os.WriteFile(at("group/old"), nil, 0o600), os.Chown(at("group"), 0, userA))
	d.refused(t, at("group/old"), "permission denied")
	testproc.Must(t, os.Chown(at("group"), 0, 0), os.Chmod(at("group"), os.ModeSticky|0o777))
	d.refused(t, at("group/old"), "permission denied")
	noFile(t, at("group/sub/log"))
}

// TestLogOnlyOfStart: it is opened when COMMAND is about to be started, and only then.
func TestLogOnlyOfStart(t *testing.T) {
	parallel(t)
	dir := t.TempDir()
	path, log := filepath.Join(dir, "a.pid"), filepath.Join(dir, "log")
	call(t, "start", path, "sleep", "1000").exits(t, "start", 0)
	pid := awaitPID(t, path)
	for _, args := range [][]string{
		{"--log", log, path, "true"}, {"--foreign", "--log", log, path, "true"},
		{"--log", filepath.Join(dir, "missing/log"), path, "true"},
	} {
		call(t, append([]string{"start"}, args...)...).is(t, 0, "already running")
	}
	call(t, "start", "--log", log, path+".other.pid", dir+"/no-such-command").exits(t, "start", 127)
	noFile(t, log)
	// What cannot be started again is not stopped.
	for _, flag := range []string{"--quiet", "--foreign"} {
		r := call(t, "restart", flag, "--log", filepath.Join(dir, "missing/log"), path, "sleep", "1000")
		if r.code != 125 || !strings.Contains(r.stderr, "--log: open ") || !testproc.Alive(pid) {
			t.Errorf("restart: exit code %d: %s", r.code, r.stderr)
		}
	}
	call(t, "stop", path).exits(t, "stop", 0)
	// Nobody else has it, and the null device is no file of ours.
	call(t, "start", "--log", os.DevNull, path, "sleep", "1000").exits(t, "start --log /dev/null", 0)
	call(t, "stop", path).exits(t, "stop", 0)
}
