//go:build linux

package proc

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// programEnv makes the test binary, and every copy of it, a program that says
// it is there and stays until its standard input ends.
const programEnv = "PIDFILE_TEST_PROGRAM"

func init() {
	if os.Getenv(programEnv) != "" {
		fmt.Println("here")
		_, _ = io.Copy(io.Discard, os.Stdin)
		os.Exit(0)
	}
}

// running starts file with args and looks it up.
func running(t *testing.T, file string, args ...string) Info {
	t.Helper()
	cmd := exec.Cmd{Path: file, Args: args, Env: append(os.Environ(), programEnv+"=1", "GORACE=atexit_sleep_ms=0")}
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = in.Close() // ends it
		_ = cmd.Wait()
	})
	if line, err := bufio.NewReader(out).ReadString('\n'); err != nil || line != "here\n" {
		t.Fatalf("%s said %q, %v", file, line, err)
	}
	i, err := Lookup(cmd.Process.Pid)
	if err != nil {
		t.Fatal(err)
	}
	return i
}

// copied is a copy of the test binary: another program.
func copied(t *testing.T, name string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	copyOver(t, path)
	return path
}

// copyOver puts a new file of that content in path's place, as an upgrade does.
func copyOver(t *testing.T, path string) {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(self)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path+".new", data, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		t.Fatal(err)
	}
}

func runsIs(t *testing.T, p Program, i *Info, want bool) {
	t.Helper()
	if got := p.Runs(i); got != want {
		t.Errorf("%+v.Runs(%q, %s) = %v, want %v", p, i.Args, i.Exe, got, want)
	}
}

func TestRunsSelf(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	t.Run("ourselves", func(t *testing.T) {
		i, err := Lookup(os.Getpid())
		if err != nil {
			t.Fatal(err)
		}
		runsIs(t, Self(), &i, true)
	})
	t.Run("the same executable, another argv[0]", func(t *testing.T) {
		i := running(t, self, "elsewhere")
		runsIs(t, Self(), &i, true)
	})
	t.Run("another executable, the same argv[0]", func(t *testing.T) {
		i := running(t, copied(t, "other"), os.Args[0])
		runsIs(t, Self(), &i, true)
	})
	t.Run("another executable, another argv[0]", func(t *testing.T) {
		i := running(t, copied(t, "other"), "other")
		runsIs(t, Self(), &i, false)
	})
	t.Run("another directory's program of the same name", func(t *testing.T) {
		other := copied(t, filepath.Base(self))
		i := running(t, other, other)
		runsIs(t, Self(), &i, false)
	})
}

func TestRunsCommand(t *testing.T) {
	file := copied(t, "daemon")
	p := Command(file, []string{"daemon", "--flag"})
	t.Run("same argv[0]", func(t *testing.T) {
		i := running(t, file, "daemon")
		runsIs(t, p, &i, true)
	})
	t.Run("other argv[0]", func(t *testing.T) {
		i := running(t, file, "renamed", "--flag")
		runsIs(t, p, &i, true)
	})
	t.Run("our name among the arguments only", func(t *testing.T) {
		i := running(t, copied(t, "editor"), "editor", "daemon", file)
		runsIs(t, p, &i, false)
	})
	t.Run("through a symbolic link", func(t *testing.T) {
		link := filepath.Join(t.TempDir(), "link")
		if err := os.Symlink(file, link); err != nil {
			t.Fatal(err)
		}
		i := running(t, file, "x")
		runsIs(t, Command(link, []string{"y"}), &i, true)
	})
	t.Run("through a hard link", func(t *testing.T) {
		link := file + "2"
		if err := os.Link(file, link); err != nil {
			t.Fatal(err)
		}
		i := running(t, link, "x")
		runsIs(t, p, &i, true)
	})
	t.Run("a file that does not exist", func(t *testing.T) {
		i := running(t, file, "daemon")
		gone := filepath.Join(t.TempDir(), "gone")
		runsIs(t, Command(gone, []string{"daemon"}), &i, true) // argv[0] says so
		runsIs(t, Command(gone, []string{"gone"}), &i, false)
	})
}

// A daemon is upgraded or uninstalled while it runs.
func TestRunsUpgraded(t *testing.T) {
	file := copied(t, "daemon")
	before := Command(file, []string{"new-name"})
	i := running(t, file, "old-name")
	again := func() *Info {
		now, err := Lookup(i.PID)
		if err != nil {
			t.Fatal(err)
		}
		return &now
	}
	copyOver(t, file)
	if now := again(); !strings.HasSuffix(now.Exe, " (deleted)") {
		t.Fatalf("the kernel says its executable is %s", now.Exe)
	}
	runsIs(t, before, again(), true)
	runsIs(t, Command(file, []string{"new-name"}), again(), true)

	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	runsIs(t, before, again(), true)
	other := copied(t, "daemon") // of another directory
	runsIs(t, Command(other, []string{"new-name"}), again(), false)
}

func TestRunsScript(t *testing.T) {
	dir := t.TempDir()
	write := func(name, head string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(head+"\necho here\nread line\n"), 0o755); err != nil {
			t.Fatal(err)
		}
		return path
	}
	script, flagged, other := write("job", "#!/bin/sh"), write("flagged", "#!/bin/sh -u"), write("other", "#!/bin/sh")

	t.Run("the same script", func(t *testing.T) {
		i := running(t, script, "job")
		runsIs(t, Command(script, []string{"job"}), &i, true)
		runsIs(t, Command(script, []string{"./job"}), &i, true)
		runsIs(t, Command(other, []string{"other"}), &i, false)
		runsIs(t, Command("/bin/sh", []string{"sh"}), &i, true) // it is the shell, too
	})
	t.Run("an option in the first line", func(t *testing.T) {
		i := running(t, flagged, "flagged")
		runsIs(t, Command(flagged, []string{"flagged"}), &i, true)
		runsIs(t, Command(script, []string{"job"}), &i, false)
	})
	t.Run("given to its interpreter", func(t *testing.T) {
		i := running(t, "/bin/sh", "sh", script)
		runsIs(t, Command(script, []string{"job"}), &i, true)
	})
	t.Run("another script of that interpreter, ours its third argument", func(t *testing.T) {
		i := running(t, "/bin/sh", "sh", other, "x", script)
		runsIs(t, Command(script, []string{"job"}), &i, false)
	})
}

func TestFitsName(t *testing.T) {
	for _, c := range []struct {
		exe, args, path string
		want            bool
	}{
		{"/usr/sbin/sshd", "sshd: /usr/sbin/sshd -D [listener] 0 of 10-100 startups", "/run/sshd.pid", true},
		{"/usr/sbin/nginx (deleted)", "nginx: master process nginx", "/run/nginx.pid", true},
		{"", "nginx: master process nginx", "/run/nginx.pid", true},
		{"/usr/sbin/php-fpm8.2", "php-fpm: master process (/etc/php/8.2/fpm/php-fpm.conf)", "/run/php/php-fpm.pid", true},
		{"/usr/lib/postgresql/15/bin/postgres", "postgres -D x", "/run/postgresql.pid", true},
		{"/usr/sbin/php-fpm8.2", "php-fpm", "/run/php/a.pid", true},
		{"/usr/bin/tail", "tail -f backup.log", "/run/backup.pid", false},
		{"/usr/bin/tail", "tail", "/run/taildir/x.pid", false},
		{"/usr/bin/python3.11", "python3 -m http.server", "/run/python-app/x.pid", false},
		{"/usr/bin/bash", "bash", "/run/bash-x.pid", false},
		{"/usr/local/bin/pidfile", "pidfile run x y", "/tmp/pidfile-1000/x.pid", false},
		{"/usr/sbin/mariadbd", "mariadbd", "/run/mysqld/mysqld.pid", false}, // by --program
		{"/usr/sbin/mysqld", "mysqld", "/run/mysql/db1.pid", true},
		{"/usr/bin/python3.11", "python3 -u /srv/worker.py -v", "/run/worker.pid", true},
		{"/usr/bin/python3.11", "python3 -m worker", "/run/worker.pid", true},
		{"/usr/bin/dash", "sh /etc/cron.daily/backup", "/run/backup.pid", true},
		{"/usr/bin/bash", "sshd", "/run/sshd.pid", false},
		{"/usr/bin/sleep", "sleep 9", "/run/sshd.pid", false},
		{"/usr/bin/runit", "runit", "/run/a.pid", false},
		{"/usr/bin/a", "a", "/run/apache.pid", false},
		{"", "", "/run/sshd.pid", false},
	} {
		i := Info{Exe: c.exe}
		if c.args != "" {
			i.Args = strings.Split(c.args, " ")
			if strings.Contains(i.Args[0], ":") {
				i.Args = []string{c.args}
			}
		}
		if got := i.FitsName(c.path); got != c.want {
			t.Errorf("%s %q fits %s: %v, want %v", c.exe, c.args, c.path, got, c.want)
		}
	}
}
