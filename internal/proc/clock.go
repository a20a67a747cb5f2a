package proc

import "time"

// A Clock is what it takes to compare a file's time, which is wall-clock time
// when it was written, with a process's start, which is time since boot.
type Clock struct {
	Now    time.Time     // CLOCK_REALTIME
	Uptime time.Duration // CLOCK_BOOTTIME, read at the same moment
	// Boot is the wall-clock time at boot as the clock went then, zero if
	// unknown. A clock that was stepped since makes it differ from Now-Uptime.
	Boot time.Time
}

// An Age is how a process relates to a file.
type Age int

const (
	Existed    Age = iota // the process existed when the file was written
	Unclear               // it started so soon after that the clocks cannot tell
	Younger               // it started after the file was written
	BeforeBoot            // the file is from before this boot
)

const (
	// grain is how much later than its start a process may seem to have
	// started: starts are counted in ticks of 10 ms, and a file's time comes
	// from a clock that moves every 1 to 10 ms.
	grain = 30 * time.Millisecond
	// vague is how well Boot is known: smaller steps of the clock are not
	// noticed, so within it nothing is certain. (There are also file systems
	// whose times are whole seconds.)
	vague = 5 * time.Second
)

// Judge relates a process that started at start to a file written at written.
//
// A clock stepped between the two makes the sum wrong, so each known relation
// of the clocks, today's and that at boot, gets its say, and only if none allows
// that the process existed it did not: a step errs towards Existed. Slewing
// (adjtime, NTP's small corrections) moves both clocks alike and does not
// matter. Where the clock at boot is not known, what is not Existed is Unclear.
func (c Clock) Judge(start time.Duration, written time.Time) Age {
	age := BeforeBoot
	now := written.Sub(c.Now.Add(-c.Uptime)) // when it was written, since boot
	if now >= start-grain {
		return Existed // even if it lies in the future: the clock was set back
	}
	if now >= start-vague || c.Boot.IsZero() {
		return Unclear
	}
	if now >= 0 {
		age = Younger
	}
	if step := c.Now.Add(-c.Uptime).Sub(c.Boot); step.Abs() <= vague {
		return age
	}
	then := written.Sub(c.Boot)
	switch {
	case then > c.Uptime+vague: // not yet come: not written by that clock
	case then >= start-vague:
		return Existed
	case then >= 0:
		age = Younger
	}
	return age
}

// StartTime converts a process's start to wall-clock time as the clock goes now.
func (c Clock) StartTime(start time.Duration) time.Time {
	return c.Now.Add(start - c.Uptime)
}
