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
	// Tick is the kernel's, in which the clock that stamps files moves; zero
	// if unknown.
	Tick time.Duration
}

// An Age is how a process relates to a file.
type Age int

const (
	Existed    Age = iota // the process existed when the file was written
	Future                // the file's time is yet to come, so it tells nothing
	Unclear               // it started so soon after that the clocks cannot tell
	Younger               // it started after the file was written
	BeforeBoot            // the file is from before this boot
)

const (
	// startTick is the unit in which the kernel tells the start of a process,
	// rounded down (proc_pid_stat(5), starttime; sysconf(_SC_CLK_TCK) is 100).
	startTick = 10 * time.Millisecond
	// slowTick is the longest tick of the kernels in use, CONFIG_HZ=100.
	slowTick = 10 * time.Millisecond
	// lateTick is how much later than it should a tick may come.
	lateTick = 5 * time.Millisecond
	// vague is how well Boot is known: smaller steps of the clock are not
	// noticed, so within it nothing is certain. (There are also file systems
	// whose times are whole seconds.)
	vague = 5 * time.Second
)

// grain is how much earlier than the start of its writer a file may seem to have
// been written.
//
// A process's start is rounded down, which errs to its advantage. A file's time
// is that of CLOCK_REALTIME_COARSE (inode_set_ctime_current in the kernel's
// fs/inode.c; since Linux 6.13 often a finer one), which a tick moves by whole
// ticks of its own count: it lags by up to two. Measured with CONFIG_HZ=250, so
// two ticks are 8 ms: 6.3 ms on busy CPUs, 12 ms on a virtual machine whose host
// was busy, too. So grain is 13 ms there, 25 ms with CONFIG_HZ=100, 7 ms with
// CONFIG_HZ=1000. A lag beyond it makes an age Unclear, not Younger: see vague.
func (c Clock) grain() time.Duration {
	tick := c.Tick
	if tick == 0 {
		tick = slowTick
	}
	return 2*tick + lateTick
}

// Judge relates a process that started at start to a file written at written.
//
// A clock stepped between the two makes the sum wrong, so each known relation
// of the clocks, today's and that at boot, is tried, and only if none allows that
// the process existed is it Younger: a step errs towards Existed. Slewing
// (adjtime, NTP's small corrections) moves both clocks alike and does not
// matter. Where the clock at boot is not known, what is not Existed is Unclear.
func (c Clock) Judge(start time.Duration, written time.Time) Age {
	age := BeforeBoot
	now := c.sinceBoot(written)
	if now > c.Uptime+vague {
		return c.judgeFuture(start, written)
	}
	if now >= start-c.grain() {
		return Existed
	}
	if now >= start-vague || c.Boot.IsZero() {
		return Unclear
	}
	if now >= 0 {
		age = Younger
	}
	if !c.stepped() {
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

// judgeFuture is Judge for a time that is yet to come: the clock was set back since,
// which may explain it, or the time was made up, as by touch(1).
func (c Clock) judgeFuture(start time.Duration, written time.Time) Age {
	then := written.Sub(c.Boot)
	if !c.Boot.IsZero() && c.stepped() && then >= start-vague && then <= c.Uptime+vague {
		return Existed
	}
	return Future
}

// startTime is how long after its start a daemon may write its PID file, and so how
// much later than the start of its writer a file is written, as a rule.
const startTime = 2 * time.Minute

// Soon reports whether a file was written within two minutes after a process
// started, by one of the known relations of the clocks.
func (c Clock) Soon(start time.Duration, written time.Time) bool {
	soon := func(at time.Duration) bool { return at >= start-vague && at <= start+startTime }
	return soon(c.sinceBoot(written)) || !c.Boot.IsZero() && c.stepped() && soon(written.Sub(c.Boot))
}

// Preceded reports whether a process that started at start existed for certain
// when a file was written: by more than its start is rounded, and by each known
// relation of the clocks.
func (c Clock) Preceded(start time.Duration, written time.Time) bool {
	certain := start + startTick
	if c.Boot.IsZero() || c.sinceBoot(written) < certain || c.Judge(start, written) == Future {
		return false
	}
	return !c.stepped() || written.Sub(c.Boot) >= certain
}

// sinceBoot is the time since boot at t, as the clock goes now.
func (c Clock) sinceBoot(t time.Time) time.Duration { return t.Sub(c.Now.Add(-c.Uptime)) }

// stepped reports whether the clock was set since boot.
func (c Clock) stepped() bool { return c.Now.Add(-c.Uptime).Sub(c.Boot).Abs() > vague }

// StartTime converts a process's start to wall-clock time as the clock goes now.
func (c Clock) StartTime(start time.Duration) time.Time {
	return c.Now.Add(start - c.Uptime)
}
