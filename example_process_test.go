//go:build linux

package pidfile_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/go-pidfile/pidfile"
)

// startDaemon starts a process that writes a PID file and never locks it.
func startDaemon(path string) *exec.Cmd {
	daemon := exec.Command("sleep", "600")
	if err := daemon.Start(); err != nil {
		log.Fatal(err)
	}
	if err := os.WriteFile(path, fmt.Appendln(nil, daemon.Process.Pid), 0o644); err != nil {
		log.Fatal(err)
	}
	return daemon
}

func ExampleInspect() {
	run := tempRun()
	defer os.RemoveAll(run)
	path := filepath.Join(run, "backup.pid")

	s, _ := pidfile.Inspect(path)
	fmt.Println(s.State)

	f, err := pidfile.Acquire(path)
	if err != nil {
		log.Fatal(err)
	}
	s, _ = pidfile.Inspect(path)
	fmt.Println(s.State, s.Locked, s.Process.PID == os.Getpid())
	f.Release()

	os.WriteFile(path, []byte("4194304\n"), 0o644) // what a crash leaves
	s, _ = pidfile.Inspect(path)
	fmt.Println(s.State, "because", strings.Join(s.Evidence, " and "))
	// Output:
	// absent
	// running true true
	// stale because the file is not locked and no process has PID 4194304
}

// Tell the daemon to reload its configuration: that process, or none.
func ExampleFind() {
	run := tempRun()
	defer os.RemoveAll(run)
	path := filepath.Join(run, "daemon.pid")
	daemon := startDaemon(path)
	defer daemon.Wait()

	p, err := pidfile.Find(path)
	switch {
	case errors.Is(err, pidfile.ErrNotRunning):
		log.Fatal("it does not run")
	case errors.Is(err, pidfile.ErrUnproven):
		log.Fatal(err) // the error tells the evidence
	case err != nil:
		log.Fatal(err)
	}
	defer p.Close()

	fmt.Println(p.PID() == daemon.Process.Pid)
	fmt.Println(p.Signal(syscall.SIGHUP))
	// Output:
	// true
	// <nil>
}

// TERM, and KILL if that was of no use for 10 seconds.
func ExampleProcess_Stop() {
	run := tempRun()
	defer os.RemoveAll(run)
	path := filepath.Join(run, "daemon.pid")
	daemon := startDaemon(path)

	p, err := pidfile.Find(path)
	if err != nil {
		log.Fatal(err)
	}
	defer p.Close()
	killed, err := p.Stop(context.Background(), 10*time.Second)
	if err != nil {
		log.Fatal(err)
	}

	fmt.Println("KILL was sent:", killed)
	fmt.Println(daemon.Wait())
	s, _ := pidfile.Inspect(path)
	fmt.Println(s.State)
	// Output:
	// KILL was sent: false
	// signal: terminated
	// stale
}

func ExampleList() {
	run := tempRun()
	defer os.RemoveAll(run)
	os.WriteFile(filepath.Join(run, "crashed.pid"), []byte("4194304\n"), 0o644)
	os.WriteFile(filepath.Join(run, "notes.txt"), nil, 0o644)
	f, err := pidfile.Acquire(filepath.Join(run, "backup.pid"))
	if err != nil {
		log.Fatal(err)
	}
	defer f.Release()

	for s, err := range pidfile.List(run) {
		if err != nil {
			log.Print(err) // a directory that may not be read, say
			continue
		}
		fmt.Println(filepath.Base(s.Path), s.State)
	}
	// Output:
	// backup.pid running
	// crashed.pid stale
}

func ExampleClean() {
	run := tempRun()
	defer os.RemoveAll(run)
	path := filepath.Join(run, "backup.pid")

	os.WriteFile(path, []byte("4194304\n"), 0o644) // what a crash leaves
	fmt.Println(pidfile.Clean(path))

	f, err := pidfile.Acquire(path)
	if err != nil {
		log.Fatal(err)
	}
	defer f.Release()
	fmt.Println(errors.Is(pidfile.Clean(path), pidfile.ErrAlreadyRunning))
	// Output:
	// <nil>
	// true
}
