package supervise

import (
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/go-pidfile/pidfile/internal/testproc"
	"golang.org/x/sys/unix"
)

// This program can be what adopts: it reaps all its children, which is not for the
// process of other tests.
func init() {
	if len(os.Args) > 2 && os.Args[1] == "adopt" {
		os.Exit(adopt(os.Args[2]))
	}
}

// adopt runs a shell's script, and says what it leaves behind, on standard output. A
// signal to all of that follows, if it ends with 0.
func adopt(script string) int {
	a := Adopt()
	c := exec.Command("sh", "-c", script)
	c.Stdout = os.Stdout
	if err := c.Start(); err != nil {
		return 100
	}
	reaped := a.Reap(c.Process.Pid)
	err := c.Wait() // the child's status is ours, not the reaper's
	reaped()
	println("left", len(a.Left()), "exit", c.ProcessState.ExitCode())
	select {
	case <-a.Gone():
		println("gone")
		return 0
	default:
	}
	if err == nil && !a.Signal(unix.SIGTERM) {
		println("not signalled")
		return 0
	}
	<-a.Gone()
	println("gone")
	return 0
}

// TestAdopted: what a child leaves behind is known, reaped and signalled; the child's
// status is its parent's, and what was there before is left alone.
func TestAdopted(t *testing.T) {
	self, err := os.Executable()
	testproc.Must(t, err)
	const none, one = "left 0 exit ", "left 1 exit "
	for _, c := range []struct{ name, before, script, want string }{
		{"nothing", "", "exit 3", none + "3\ngone\n"},
		{"signalled", "", "sleep 1000 >/dev/null & exit 0", one + "0\ngone\n"},
		{"ends by itself", "", "(read x <gate) & exit 5", one + "5\ngone\n"},
		{"two generations", "", "(sleep 1000 >/dev/null & echo >gate; wait) & read x <gate; exit 0", one + "0\ngone\n"},
		{"others before", "sleep 1000 & echo $! >before; ", "sleep 1001 >/dev/null & echo $! >left; exit 0", one + "0\nnot signalled\n"},
		{"others before, nothing left", "sleep 1000 & echo $! >before; ", "exit 6", none + "6\ngone\n"},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := t.TempDir()
			testproc.Must(t, unix.Mkfifo(dir+"/gate", 0o600))
			if c.name == "ends by itself" { // once the test has seen that it is left
				gate, err := os.OpenFile(dir+"/gate", os.O_RDWR, 0)
				testproc.Must(t, err)
				defer gate.Close() // open until the reader has come
				go func() {
					testproc.Until(func() bool { text, _ := os.ReadFile(dir + "/err"); return len(text) > 0 })
					_, _ = gate.WriteString("\n")
				}()
			}
			told, err := os.Create(dir + "/err")
			testproc.Must(t, err)
			defer told.Close()
			p := exec.Command("sh", "-c", c.before+`exec "$@"`, "sh", self, "adopt", c.script)
			p.Dir, p.Stderr = dir, told
			p.Env = append(os.Environ(), "GORACE=atexit_sleep_ms=0") // else it ends a second later
			testproc.Must(t, p.Run())
			for _, name := range []string{"before", "left"} {
				if pid, err := os.ReadFile(dir + "/" + name); err == nil {
					testproc.Must(t, exec.Command("kill", strings.TrimSpace(string(pid))).Run()) // it lives
				}
			}
			text, err := os.ReadFile(dir + "/err")
			testproc.Must(t, err)
			if !strings.HasPrefix(string(text), c.want) {
				t.Errorf("%q, want %q", text, c.want)
			}
		})
	}
}
