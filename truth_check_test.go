//go:build linux

package pidfile_test

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/go-pidfile/pidfile"
	"github.com/go-pidfile/pidfile/internal/testproc"
	"golang.org/x/sys/unix"
)

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
	case "ask": // is there a process to be signalled? Signal 0 sends nothing
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

// around is all there is to see of path's directory.
func around(t *testing.T, path string) string {
	t.Helper()
	dir := filepath.Dir(path)
	if _, err := os.Lstat(dir); errors.Is(err, fs.ErrNotExist) {
		return "no directory"
	}
	return tree(t, dir)
}

// stopped stops the helper, and waits until it is. It goes on when the test is
// over, so that it can end.
func stopped(t *testing.T, h *helper) {
	t.Helper()
	must(t, h.cmd.Process.Signal(unix.SIGSTOP))
	t.Cleanup(func() { _ = h.cmd.Process.Signal(unix.SIGCONT) })
	testproc.Eventually(t, "it is stopped", func() bool { return testproc.State(h.pid()) == 'T' })
}

func TestTruth(t *testing.T) {
	t.Parallel()
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
	todo := []struct{ what, want string }{{"clean", row.clean}, {"acquire", row.start}}
	if row.find == ok { // else Find, which "look" calls too, refuses to stop it
		stop, ask := row.stop, ok
		if stop == "" {
			stop = ok
		}
		if stop == "EPERM" {
			ask = stop
		}
		todo = append(todo, struct{ what, want string }{"stop", stop}, struct{ what, want string }{"ask", ask})
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
				if testproc.Alive(s.holder) {
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

// lives checks that no other process was harmed.
func (s *scene) lives(t *testing.T) {
	t.Helper()
	for _, pid := range s.alive {
		if !testproc.Alive(pid) {
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
