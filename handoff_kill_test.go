//go:build linux

package pidfile_test

import (
	"bufio"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/go-pidfile/pidfile"
	"github.com/go-pidfile/pidfile/internal/testproc"
)

// SIGKILL: parent and child kill themselves at any moment of a hand-over, while
// another process wants the file. Each process kills only
// itself, so no other process is ever hit.

const (
	mortalRoundEnv = "PIDFILE_TEST_ROUND"
	mortalWithin   = "PIDFILE_TEST_WITHIN" // microseconds, "" for ever
)

// doom kills this process within the time that it was given.
func doom(log logbook, id string) {
	within, err := strconv.Atoi(os.Getenv(mortalWithin))
	if err != nil {
		return
	}
	go func() {
		time.Sleep(time.Duration(rand.IntN(within+1)) * time.Microsecond)
		log.note(id, "killed")
		_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
	}()
}

func mortalParentHelper(path string) {
	log, id := openLog(os.Getenv(chainLogEnv)), os.Getenv(mortalRoundEnv)+"parent"
	f, err := pidfile.AcquireContext(context.Background(), path)
	if err != nil {
		log.note(id, "failed:"+strings.ReplaceAll(err.Error(), " ", "_"))
		return
	}
	log.note(id, "enter")
	cmd := exec.Command("/proc/self/exe")
	within := ""
	if rand.IntN(2) == 0 {
		within = strconv.Itoa(1 << rand.IntN(14))
	}
	cmd.Env = append(os.Environ(), helperEnv+"=mortal child", mortalWithin+"="+within)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err == nil {
		err = f.HandOff(cmd)
	}
	doom(log, id)
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		log.note(id, "failed:"+strings.ReplaceAll(err.Error(), " ", "_"))
	}
	if rand.IntN(4) > 0 { // else it does not wait for the child
		_, _ = bufio.NewReader(out).ReadString('\n')
	}
	log.note(id, "exit")
	if err := f.Release(); err != nil {
		log.note(id, "failed:"+strings.ReplaceAll(err.Error(), " ", "_"))
	}
}

func mortalChildHelper(path string) {
	log, id := openLog(os.Getenv(chainLogEnv)), os.Getenv(mortalRoundEnv)+"child"
	signal.Ignore(syscall.SIGPIPE) // the parent that it tells of it may be dead
	doom(log, id)
	log.note(id, "adopting")
	f, err := pidfile.Adopt(path)
	if err != nil {
		log.note(id, map[bool]string{true: "lost", false: "failed:" + strings.ReplaceAll(err.Error(), " ", "_")}[errors.Is(err, pidfile.ErrLost)])
		return
	}
	log.note(id, "enter")
	fmt.Println("adopted")
	if rand.IntN(8) == 0 { // doom alone may always come too early on a busy machine
		log.note(id, "killed")
		_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
	}
	time.Sleep(time.Duration(rand.IntN(3000)) * time.Microsecond)
	log.note(id, "exit")
	if err := f.Release(); err != nil {
		log.note(id, "failed:"+strings.ReplaceAll(err.Error(), " ", "_"))
	}
}

func TestSIGKILLDuringHandOver(t *testing.T) {
	rounds := testproc.Rounds(3000, 100, 25)
	path := tempPath(t)
	logPath := filepath.Join(t.TempDir(), "log")
	log := openLog(logPath)
	defer log.Close()
	var contending sync.Mutex
	over, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		for i := 0; ; i++ {
			select {
			case <-over:
				return
			default:
			}
			contending.Lock()
			contend(t, log, path, fmt.Sprintf("%dcontender", i))
			contending.Unlock()
			time.Sleep(time.Duration(rand.IntN(200)) * time.Microsecond)
		}
	}()
	// On a busy machine it may take more rounds until each case has come up.
	for round := 0; round < rounds || round < 3*rounds && missingCase(t, logPath) != ""; round++ {
		mortalRound(t, path, logPath, round)
		contending.Lock()
		// All are dead, but the kernel may not be ready with them.
		ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
		f, err := pidfile.AcquireContext(ctx, path)
		cancel()
		taken(t, f, err)
		absent(t, path)
		alone(t, path)
		contending.Unlock()
		if t.Failed() {
			t.Fatalf("round %d", round)
		}
	}
	close(over)
	<-ended
	holds, count := mortalHolds(t, readLog(t, logPath))
	t.Logf("%v", count)
	if n, example := testproc.Overlaps(holds); n > 0 {
		t.Errorf("%d overlaps, such as %s", n, example)
	}
	if what := missingCase(t, logPath); what != "" {
		t.Errorf("not tried: %s", what)
	}
}

// missingCase returns a case that has not come up yet, "" if all have.
func missingCase(t *testing.T, logPath string) string {
	t.Helper()
	_, count := mortalHolds(t, readLog(t, logPath))
	for _, what := range []string{
		"parent killed before the adoption", "child killed before the adoption", "child killed after the adoption",
		"handed over", "released first", "contender",
	} {
		if count[what] == 0 {
			return what
		}
	}
	return ""
}

func contend(t *testing.T, log logbook, path, id string) {
	f, err := pidfile.Acquire(path)
	if errors.Is(err, pidfile.ErrAlreadyRunning) {
		return
	}
	if err != nil {
		t.Error(err)
		return
	}
	log.note(id, "enter")
	time.Sleep(time.Duration(rand.IntN(300)) * time.Microsecond)
	log.note(id, "exit")
	if err := f.Release(); err != nil {
		t.Error(err)
	}
}

// mortalRound runs a parent and its child until both have ended.
func mortalRound(t *testing.T, path, logPath string, round int) {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	within := ""
	if rand.IntN(2) == 0 {
		within = strconv.Itoa(1 << rand.IntN(17))
	}
	cmd.Env = append(os.Environ(), helperEnv+"=mortal parent", helperPath+"="+path, "GORACE=atexit_sleep_ms=0",
		chainLogEnv+"="+logPath, mortalRoundEnv+"="+strconv.Itoa(round), mortalWithin+"="+within)
	// Both have its end as their standard error, which nothing writes to but a
	// runtime that panics.
	r, w, err := os.Pipe()
	must(t, err)
	defer r.Close()
	cmd.Stderr = w
	err = cmd.Start()
	w.Close()
	must(t, err)
	said, err := io.ReadAll(r)
	must(t, err)
	if len(said) > 0 {
		t.Errorf("round %d: %s", round, said)
	}
	_ = cmd.Wait() // killed or not
}

// mortalHolds returns when the file was held, as far as it is certain: a
// child that was killed while it adopted the file has adopted it or not.
func mortalHolds(t *testing.T, log []entry) (holds []testproc.Span, count map[string]int) {
	t.Helper()
	slices.SortStableFunc(log, func(a, b entry) int { return cmp.Compare(a.ns, b.ns) })
	at := map[string]map[string]int64{}
	for _, e := range log {
		if at[e.id] == nil {
			at[e.id] = map[string]int64{}
		}
		if at[e.id]["killed"] != 0 {
			continue // it is dead, and only does not know it yet
		}
		at[e.id][e.event] = e.ns
		if strings.HasPrefix(e.event, "failed:") {
			t.Errorf("%s %s", e.id, e.event)
		}
	}
	first := func(times ...int64) int64 {
		times = slices.DeleteFunc(times, func(ns int64) bool { return ns == 0 })
		return slices.Min(times)
	}
	count = map[string]int{}
	for id, parent := range at {
		round, isParent := strings.CutSuffix(id, "parent")
		switch {
		case strings.HasSuffix(id, "contender"):
			holds = append(holds, testproc.Span{From: parent["enter"], To: parent["exit"], Who: id})
			count["contender"]++
			continue
		case !isParent || parent["enter"] == 0:
			continue
		}
		child := at[round+"child"]
		end := first(parent["exit"], parent["killed"])
		switch {
		case child["enter"] != 0:
			// It has the lock from its first instant.
			end = first(child["exit"], child["killed"])
			count["handed over"]++
			if parent["killed"] != 0 && parent["killed"] < child["adopting"] {
				count["parent killed before the adoption"]++
			}
			if child["killed"] != 0 {
				count["child killed after the adoption"]++
			}
		case child["killed"] != 0:
			if child["adopting"] != 0 {
				end = first(end, child["adopting"])
			}
			count["child killed before the adoption"]++
		case child["lost"] != 0:
			count["released first"]++
			if parent["exit"] == 0 && parent["killed"] == 0 {
				t.Errorf("round %s: lost, and it was not released", round)
			}
		}
		holds = append(holds, testproc.Span{From: parent["enter"], To: end, Who: id})
	}
	return holds, count
}
