package peers

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"

	"github.com/go-pidfile/pidfile"
	moby "github.com/moby/moby/v2/pkg/pidfile"
	"golang.org/x/sys/unix"
)

// A Scan counts the PID files in a directory, all of which must be stale.
type Scan struct {
	Name string
	Asks string
	Scan func(dir string) (files int, err error)
}

// FloorScan is what no scan can do without.
const FloorScan = "raw getdents, open, read, kill"

// Scans is every way to scan, the floor first.
var Scans = []Scan{
	{FloorScan, "is there such a PID?", each(rawRuns)},
	{"pidfile.List", "is the file held, and by which process? with evidence", oursScan},
	{"moby pidfile.Read of each", "is there such a PID?", each(func(path string) (bool, error) {
		pid, err := moby.Read(path)
		return pid != 0, err
	})},
	{"nightlyone GetOwner of each", "is there such a PID?", each(nightlyoneRuns)},
}

// each asks for every file of a directory.
func each(runs func(path string) (bool, error)) func(dir string) (int, error) {
	return func(dir string) (int, error) {
		d, err := os.Open(dir)
		if err != nil {
			return 0, err
		}
		defer d.Close()
		names, err := d.Readdirnames(-1)
		if err != nil {
			return 0, err
		}
		for _, name := range names {
			running, err := runs(filepath.Join(dir, name))
			if err != nil {
				return 0, err
			}
			if running {
				return 0, fmt.Errorf("%s: running", name)
			}
		}
		return len(names), nil
	}
}

func rawRuns(path string) (bool, error) {
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return false, err
	}
	defer unix.Close(fd)
	var buf [64]byte
	n, err := unix.Read(fd, buf[:])
	if err != nil {
		return false, err
	}
	pid, err := strconv.Atoi(string(buf[:max(0, n-1)]))
	if err != nil {
		return false, err
	}
	return unix.Kill(pid, 0) != unix.ESRCH, nil
}

func oursScan(dir string) (int, error) {
	files := 0
	for status, err := range pidfile.List(dir) {
		if err != nil {
			return 0, err
		}
		if status.State != pidfile.Stale {
			return 0, fmt.Errorf("%s: %v", status.Path, status.State)
		}
		files++
	}
	return files, nil
}
