//go:build linux

package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/go-pidfile/pidfile"
	"github.com/go-pidfile/pidfile/internal/testproc"
)

const serverEnv = "UPGRADE_TEST_SERVER"

// The test binary is the server, too.
func TestMain(m *testing.M) {
	if os.Getenv(serverEnv) != "" {
		main()
		return
	}
	os.Exit(testproc.Main(m))
}

// A running server: whichever process it is at the moment.
type running struct {
	t       *testing.T
	program string // what the next version is started from
	path    string
	url     string
	log     chan string
}

func startServer(t *testing.T) *running {
	t.Helper()
	dir := t.TempDir()
	s := &running{t: t, program: filepath.Join(dir, "server"), path: filepath.Join(dir, "server.pid"), log: make(chan string, 1000)}
	self, err := os.ReadFile("/proc/self/exe")
	s.must(err)
	s.install(self)
	r, w, err := os.Pipe()
	s.must(err)
	cmd := exec.Command(s.program, "-pidfile", s.path, "-addr", "127.0.0.1:0")
	cmd.Env = append(os.Environ(), serverEnv+"=1", "GORACE=atexit_sleep_ms=0")
	cmd.Stderr = w
	err = cmd.Start()
	w.Close()
	s.must(err)
	go func() {
		defer close(s.log)
		for lines := bufio.NewScanner(r); lines.Scan(); {
			s.log <- lines.Text()
		}
	}()
	t.Cleanup(func() {
		s.stop()
		for s.line("the end of all processes") != "" {
		}
		_ = cmd.Wait()
		r.Close()
	})
	_, s.url, _ = strings.Cut(s.says("serves "), "serves ")
	return s
}

// install replaces the program, as a package manager does.
func (s *running) install(program []byte) {
	s.t.Helper()
	s.must(os.WriteFile(s.program+".new", program, 0o755))
	s.must(os.Rename(s.program+".new", s.program))
}

func (s *running) must(err error) {
	s.t.Helper()
	if err != nil {
		s.t.Fatal(err)
	}
}

// line returns the next line of the log, "" when all processes have ended.
func (s *running) line(what string) string {
	s.t.Helper()
	select {
	case line := <-s.log:
		s.t.Log(line)
		return line
	case <-time.After(time.Minute):
		s.t.Fatalf("still waiting for %s", what)
		return ""
	}
}

// says waits for a line with these words.
func (s *running) says(what string) string {
	s.t.Helper()
	for {
		switch line := s.line(what); {
		case line == "":
			s.t.Fatalf("all have ended, and nobody said %q", what)
		case strings.Contains(line, what):
			return line
		}
	}
}

// signal signals the process that holds the PID file, and returns its PID.
func (s *running) signal(sig os.Signal) int {
	s.t.Helper()
	p, err := pidfile.Find(s.path)
	s.must(err)
	defer p.Close()
	s.must(p.Signal(sig))
	return p.PID()
}

func (s *running) stop() {
	p, err := pidfile.Find(s.path)
	if errors.Is(err, pidfile.ErrNotRunning) {
		return
	}
	s.must(err)
	defer p.Close()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	_, err = p.Stop(ctx, 30*time.Second)
	s.must(err)
}

// A load is clients that ask without a pause.
type load struct {
	stop     atomic.Bool
	wg       sync.WaitGroup
	requests atomic.Int64
	mu       sync.Mutex
	pids     map[string]bool
}

func (s *running) load(clients int) *load {
	l := &load{pids: map[string]bool{}}
	for i := range clients {
		client := &http.Client{Transport: &http.Transport{DisableKeepAlives: i%2 == 0}}
		l.wg.Go(func() {
			defer client.CloseIdleConnections()
			for !l.stop.Load() {
				pid, err := ask(client, s.url)
				if err != nil {
					s.t.Error(err)
					return
				}
				l.requests.Add(1)
				l.mu.Lock()
				l.pids[pid] = true
				l.mu.Unlock()
			}
		})
	}
	return l
}

func ask(client *http.Client, url string) (string, error) {
	answer, err := client.Get(url)
	if err != nil {
		return "", err
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	if err == nil && answer.StatusCode != http.StatusOK {
		err = errors.New(answer.Status)
	}
	return string(text), err
}

// more waits for so many more requests.
func (l *load) more(t *testing.T, n int64) {
	t.Helper()
	for enough, end := l.requests.Load()+n, time.Now().Add(time.Minute); l.requests.Load() < enough; time.Sleep(time.Millisecond) {
		if t.Failed() || time.Now().After(end) {
			t.Fatalf("only %d requests", l.requests.Load())
		}
	}
}

// No request fails, whoever answers it.
func TestUpgradeUnderLoad(t *testing.T) {
	s := startServer(t)
	load := s.load(4)
	const upgrades = 5
	for range upgrades {
		load.more(t, 50)
		old := s.signal(syscall.SIGHUP)
		line := s.says("serves ")
		pid, err := pidfile.Read(s.path)
		if err != nil || pid == old || !strings.Contains(line, fmt.Sprintf("server %d:", pid)) {
			t.Errorf("after %q the file names %d, %v; before, it was %d", line, pid, err, old)
		}
	}
	load.more(t, 50)
	load.stop.Store(true)
	load.wg.Wait()
	t.Logf("%d requests, answered by %d processes", load.requests.Load(), len(load.pids))
	if len(load.pids) != upgrades+1 {
		t.Errorf("%d processes have answered, want %d", len(load.pids), upgrades+1)
	}
	s.stop()
	if _, err := os.Lstat(s.path); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the PID file is still there: %v", err)
	}
}

// A new version that fails changes nothing.
func TestFailedUpgrade(t *testing.T) {
	s := startServer(t)
	load := s.load(2)
	good, err := os.ReadFile(s.program)
	s.must(err)
	s.install([]byte("#!/bin/sh\nexit 7\n"))
	old := s.signal(syscall.SIGHUP)
	s.says("upgrade: the new process has ended: exit status 7")
	s.install([]byte("this is no program"))
	s.signal(syscall.SIGHUP)
	s.says("upgrade: ")
	if pid, err := pidfile.Read(s.path); pid != old || err != nil {
		t.Errorf("the file names %d, %v; want %d", pid, err, old)
	}
	load.more(t, 20)
	s.install(good)
	s.signal(syscall.SIGHUP)
	s.says("serves ")
	load.more(t, 20)
	load.stop.Store(true)
	load.wg.Wait()
	if pid, err := pidfile.Read(s.path); pid == old || err != nil {
		t.Errorf("the file still names %d, %v", pid, err)
	}
}
