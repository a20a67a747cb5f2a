package peers

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"

	"github.com/go-pidfile/pidfile"
	"github.com/mitchellh/go-ps"
	moby "github.com/moby/moby/v2/pkg/pidfile"
	"github.com/nightlyone/lockfile"
	"github.com/shirou/gopsutil/v4/process"
	"golang.org/x/sys/unix"
)

// A Subject is who is asked after: the process of that PID, which the file at
// Path names, and when it started, as those noted it who ask for that.
type Subject struct {
	Path  string
	PID   int
	Ticks string // field 22 of /proc/PID/stat
	Milli int64  // gopsutil's CreateTime
}

// NewSubject notes what is needed to recognise the process later.
func NewSubject(path string, pid int) (Subject, error) {
	s := Subject{Path: path, PID: pid}
	var err error
	if s.Ticks, err = startTicks(pid); err != nil {
		return s, err
	}
	p, err := process.NewProcess(int32(pid))
	if err != nil {
		return s, err
	}
	s.Milli, err = p.CreateTime()
	return s, err
}

// An Identity is one way to tell whether somebody runs.
type Identity struct {
	Name   string
	Module string
	Asks   string
	Runs   func(Subject) (bool, error)
}

// FloorAlive is what no answer can do without.
const FloorAlive = "raw kill(0)"

// Identities is every way, the floor first.
var Identities = []Identity{
	{FloorAlive, "", "is there such a PID?", func(s Subject) (bool, error) {
		err := unix.Kill(s.PID, 0)
		return err == nil || err == unix.EPERM, nil
	}},
	{"raw start time", "", "is it the process that was noted?", func(s Subject) (bool, error) {
		ticks, err := startTicks(s.PID)
		if errors.Is(err, os.ErrNotExist) || errors.Is(err, unix.ESRCH) {
			return false, nil
		}
		return ticks == s.Ticks, err
	}},
	{"pidfile.Inspect", "", "is the file held, and by which process?", func(s Subject) (bool, error) {
		status, err := pidfile.Inspect(s.Path)
		return status.State == pidfile.Running, err
	}},
	{"pidfile.Find", "", "who has the file? pinned, to be signalled", func(s Subject) (bool, error) {
		p, err := pidfile.Find(s.Path)
		if errors.Is(err, pidfile.ErrNotRunning) {
			return false, nil
		}
		if err != nil {
			return false, err
		}
		return true, p.Close()
	}},
	{"gopsutil PidExists", "github.com/shirou/gopsutil/v4", "is there such a PID?", func(s Subject) (bool, error) {
		return process.PidExists(int32(s.PID))
	}},
	{"gopsutil CreateTime", "github.com/shirou/gopsutil/v4", "is it the process that was noted?", func(s Subject) (bool, error) {
		p, err := process.NewProcess(int32(s.PID))
		if errors.Is(err, process.ErrorProcessNotRunning) {
			return false, nil
		}
		if err != nil {
			return false, err
		}
		born, err := p.CreateTime()
		return born == s.Milli, err
	}},
	{"go-ps FindProcess", "github.com/mitchellh/go-ps", "is there such a PID?", func(s Subject) (bool, error) {
		p, err := ps.FindProcess(s.PID)
		return p != nil, err
	}},
	{"moby pidfile.Read", "github.com/moby/moby/v2", "is the PID in the file one?", func(s Subject) (bool, error) {
		pid, err := moby.Read(s.Path)
		return pid != 0, err
	}},
	{"nightlyone GetOwner", "github.com/nightlyone/lockfile", "is the PID in the file one?", func(s Subject) (bool, error) {
		return nightlyoneRuns(s.Path)
	}},
}

func nightlyoneRuns(path string) (bool, error) {
	_, err := lockfile.Lockfile(path).GetOwner()
	if errors.Is(err, lockfile.ErrDeadOwner) {
		return false, nil
	}
	return err == nil, err
}

// startTicks is when a process started, in clock ticks since boot.
func startTicks(pid int) (string, error) {
	stat, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return "", err
	}
	_, rest, _ := strings.Cut(string(stat), ") ") // the name before it may have blanks
	if fields := strings.Fields(rest); len(fields) > 19 {
		return fields[19], nil
	}
	return "", fmt.Errorf("/proc/%d/stat: %q", pid, stat)
}
