package main

import (
	"os/user"
	"strconv"
	"time"

	"github.com/go-pidfile/pidfile"
	"github.com/go-pidfile/pidfile/internal/lock"
	"github.com/go-pidfile/pidfile/internal/proc"
)

// An opener is a process that has a PID file open.
type opener struct {
	Process *pidfile.ProcessInfo `json:"process"`
	// Holds is true if one of its descriptors has the lock, which it took itself or
	// inherited: as long as it keeps that open, the file is held. A shared lock of
	// flock(2) counts too, for it keeps every start out.
	Holds bool `json:"holds"`
}

// openersOf returns the processes that have the PID file at path open, as far as we
// may see them (root sees all of its PID namespace's), in the order of their PIDs. It
// looks through all of /proc, so it is slow; outside Linux it returns none.
func openersOf(path string) ([]opener, error) {
	view, err := lock.Look(path)
	if err != nil {
		return nil, err
	}
	var all []opener
	for _, o := range new(proc.LockTable).Openers(view.ID) {
		i, err := proc.Lookup(o.PID)
		if err != nil || i.Hidden {
			continue // ended since
		}
		p := &pidfile.ProcessInfo{PID: i.PID, Args: i.Args, Executable: i.Exe, UID: i.UID, Started: proc.ReadClock().StartTime(i.Start).Round(10 * time.Millisecond)}
		if u, err := user.LookupId(strconv.Itoa(i.UID)); err == nil {
			p.User = u.Username
		}
		all = append(all, opener{p, proc.Blocks(o.Locks)})
	}
	return all, nil
}
