//go:build linux

package main

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/go-pidfile/pidfile/internal/testproc"
	"golang.org/x/sys/unix"
)

// passed are the signals that COMMAND gets in the wrapper's stead.
var passed = []syscall.Signal{
	unix.SIGTERM, unix.SIGINT, unix.SIGHUP, unix.SIGQUIT,
	unix.SIGUSR1, unix.SIGUSR2, unix.SIGWINCH, unix.SIGCONT,
}

// helper is COMMAND in the tests that need more than a shell can. It never
// returns.
func helper(mode string) {
	switch mode {
	case "signals": // appends the name of each signal that it gets to the file $LOG
		c := make(chan os.Signal, 1024)
		for _, sig := range passed {
			signal.Notify(c, sig)
		}
		log, err := os.OpenFile(os.Getenv("LOG"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
		if err != nil {
			panic(err)
		}
		fmt.Fprintln(log, "ready")
		for sig := range c {
			fmt.Fprintln(log, unix.SignalName(sig.(syscall.Signal)))
		}
	case "all signals": // appends the number of each signal that it gets to the file $LOG
		logAllSignals()
	case "true":
		os.Exit(0)
	case "write": // to every file that it has inherited, and says what worked
		writeInherited()
	case "blind": // a PID 1 that knows of the child only that it started
		c := exec.Command(os.Args[1], os.Args[2:]...)
		c.Env = slices.DeleteFunc(os.Environ(), func(v string) bool { return strings.HasPrefix(v, "PIDFILE_TEST_HELPER=") })
		c.Stdout, c.Stderr = os.Stdout, os.Stderr
		_ = c.Run()
		os.Exit(c.ProcessState.ExitCode())
	case "notify": // becomes user $AS, if any; writes its PID to $UP, reads $GATE, and says that it is ready
		if uid, err := strconv.Atoi(os.Getenv("AS")); err == nil {
			if err := syscall.Setuid(uid); err != nil {
				panic(err)
			}
		}
		if err := os.WriteFile(os.Getenv("UP"), fmt.Appendln(nil, os.Getpid()), 0o666); err != nil {
			panic(err)
		}
		if gate := os.Getenv("GATE"); gate != "" {
			_, _ = os.ReadFile(gate)
		}
		conn, err := net.Dial("unixgram", os.Getenv("NOTIFY_SOCKET"))
		if err == nil {
			_, err = conn.Write([]byte("STATUS=fine\nREADY=1\n"))
		}
		if err != nil {
			panic(err)
		}
		select {} // until it is told to end
	}
	panic("unknown helper " + mode)
}

// helperCommand is the environment and the command line that run helper.
func helperCommand(t *testing.T, mode string) (env []string, command string) {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	return append(os.Environ(), "PIDFILE_TEST_HELPER="+mode), self
}

func awaitReady(t *testing.T, log string) {
	t.Helper()
	testproc.Eventually(t, "COMMAND", func() bool { text, _ := os.ReadFile(log); return len(text) > 0 })
}

// logged returns the signals that a "signals" helper got, after ready.
func logged(path string) []string {
	text, _ := os.ReadFile(path)
	names := strings.Fields(string(text))
	return names[min(len(names), 1):]
}

// sees waits until COMMAND got exactly these signals. The last is one that was
// sent after the others were passed on, so that none is still to come.
func sees(t *testing.T, log string, want ...string) {
	t.Helper()
	if !testproc.Until(func() bool { return len(logged(log)) >= len(want) }) || !slices.Equal(logged(log), want) {
		t.Fatalf("COMMAND got %v, want %v", logged(log), want)
	}
}
