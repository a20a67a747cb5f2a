package proc

import (
	"testing"
	"time"
)

// The clocks in these tests are made up. A machine booted at boot, and has been
// up for a hundred hours; its clock was never stepped unless a case says so.
var (
	clockBoot = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	clockUp   = 100 * time.Hour
)

func steady() Clock {
	return Clock{Now: clockBoot.Add(clockUp), Uptime: clockUp, Boot: clockBoot, Tick: 4 * time.Millisecond}
}

func ticking(tick time.Duration) Clock {
	c := steady()
	c.Tick = tick
	return c
}

// stepped is the steady clock after it was set by d.
func stepped(d time.Duration) Clock {
	c := steady()
	c.Now = c.Now.Add(d)
	return c
}

func blind(c Clock) Clock { c.Boot = time.Time{}; return c }

const clockYear = 365 * 24 * time.Hour

func TestJudge(t *testing.T) {
	at := clockBoot.Add // the time as the clock went at boot
	const start = 50 * time.Hour
	for _, c := range []struct {
		name    string
		clock   Clock
		start   time.Duration
		written time.Time
		want    Age
	}{
		{"it wrote the file an hour after its start", steady(), start, at(start + time.Hour), Existed},
		{"at its start", steady(), start, at(start), Existed},
		{"at its start, as coarse clocks tell it", steady(), start, at(start - 12*time.Millisecond), Existed},
		{"15 ms before its start", steady(), start, at(start - 15*time.Millisecond), Unclear},
		{"at its start, CONFIG_HZ=100", ticking(10 * time.Millisecond), start, at(start - 20*time.Millisecond), Existed},
		{"30 ms before its start, CONFIG_HZ=100", ticking(10 * time.Millisecond), start, at(start - 30*time.Millisecond), Unclear},
		{"at its start, CONFIG_HZ=1000", ticking(time.Millisecond), start, at(start - 2*time.Millisecond), Existed},
		{"10 ms before its start, CONFIG_HZ=1000", ticking(time.Millisecond), start, at(start - 10*time.Millisecond), Unclear},
		{"at its start, the tick unknown", ticking(0), start, at(start - 20*time.Millisecond), Existed},
		{"just now", steady(), clockUp, at(clockUp), Existed},
		{"its PID was another's when the file was written", steady(), start, at(start - 6*time.Second), Younger},
		{"a step of the clock that small is not noticed", steady(), start, at(start - 4*time.Second), Unclear},
		{"times in whole seconds", steady(), start, at(start - time.Second), Unclear},
		{"written right after boot", steady(), start, at(time.Second), Younger},
		{"before boot", steady(), start, at(-time.Second), BeforeBoot},
		{"a year before boot", steady(), start, at(-clockYear), BeforeBoot},
		{"before boot, and PID 1 has its PID", steady(), time.Millisecond, at(-time.Hour), BeforeBoot},

		// A file by a live process, and then the clock is set.
		{"then a year forward", stepped(clockYear), start, at(start + time.Hour), Existed},
		{"then a year back", stepped(-clockYear), start, at(start + time.Hour), Existed},
		{"then an hour forward", stepped(time.Hour), start, at(start + time.Second), Existed},
		{"then a minute forward", stepped(time.Minute), start, at(start + time.Second), Existed},
		{"then a minute back", stepped(-time.Minute), start, at(start + time.Second), Existed},
		// And the other way round: the clock is set, and then it writes.
		{"after a year forward", stepped(clockYear), start, at(start + clockYear + time.Hour), Existed},
		{"after a year back", stepped(-clockYear), start, at(start - clockYear + time.Hour), Existed},

		// What was stepped may err towards Existed only.
		{"reused, then a year forward", stepped(clockYear), start, at(start - time.Hour), Younger},
		{"reused after a year forward", stepped(clockYear), start, at(clockYear + start - time.Hour), Younger},
		{"from the boot before, then a year forward", stepped(clockYear), start, at(-time.Hour), BeforeBoot},

		{"an hour in the future", steady(), start, at(clockUp + time.Hour), Future},
		{"a year in the future", steady(), start, at(clockUp + clockYear), Future},
		{"in the future, the boot unknown", blind(steady()), start, at(clockUp + time.Hour), Future},

		{"boot unknown, existed", blind(steady()), start, at(start + time.Hour), Existed},
		{"boot unknown, younger", blind(steady()), start, at(start - time.Hour), Unclear},
		{"boot unknown, before boot", blind(steady()), start, at(-time.Hour), Unclear},

		{"the year 1", steady(), start, time.Time{}, BeforeBoot},
		{"1970", steady(), start, time.Unix(0, 0), BeforeBoot},
		{"the year 9999", steady(), start, time.Date(9999, 12, 31, 0, 0, 0, 0, time.UTC), Future},
		{"the year 1, stepped", stepped(clockYear), start, time.Time{}, BeforeBoot},
		{"the year 9999, stepped", stepped(-clockYear), start, time.Date(9999, 12, 31, 0, 0, 0, 0, time.UTC), Future},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := c.clock.Judge(c.start, c.written); got != c.want {
				t.Errorf("Judge(%v, %v) = %v, want %v", c.start, c.written, got, c.want)
			}
		})
	}
}

// A Raspberry Pi has no clock of its own: it boots in 1970, starts its daemons,
// and then learns the time from the network.
func TestJudgeRaspberryPi(t *testing.T) {
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	c := Clock{Now: now, Uptime: 10 * time.Hour, Boot: time.Unix(0, 0)}
	then := func(up time.Duration) time.Time { return c.Boot.Add(up) }          // before the step
	since := func(up time.Duration) time.Time { return now.Add(up - c.Uptime) } // after it
	const start = 20 * time.Second
	for _, x := range []struct {
		name    string
		start   time.Duration
		written time.Time
		want    Age
	}{
		{"started and wrote before the step", start, then(start + time.Second), Existed},
		{"started before the step, wrote after it", start, since(time.Minute), Existed},
		{"started and wrote after the step", time.Hour, since(time.Hour + time.Second), Existed},
		{"written before the step, its PID reused after it", time.Hour, then(start), Younger},
		{"written after the step, its PID reused later", 2 * time.Hour, since(time.Hour), Younger},
		{"written before the power cut, last year", start, now.Add(-clockYear), BeforeBoot},
	} {
		t.Run(x.name, func(t *testing.T) {
			if got := c.Judge(x.start, x.written); got != x.want {
				t.Errorf("Judge = %v, want %v", got, x.want)
			}
		})
	}
}

// Whatever was done to the clock: a file written by a live process, with today's
// clock or with that at boot, never counts as a stale file.
func TestJudgeNeverLosesTheWriter(t *testing.T) {
	for _, step := range []time.Duration{
		-50 * clockYear, -clockYear, -time.Hour, -time.Minute, -6 * time.Second, -4 * time.Second, -time.Second, 0,
		time.Second, 4 * time.Second, 6 * time.Second, time.Minute, time.Hour, clockYear, 50 * clockYear,
	} {
		for _, start := range []time.Duration{0, time.Second, time.Hour, clockUp - time.Second, clockUp} {
			for _, later := range []time.Duration{0, time.Second, time.Hour} {
				if start+later > clockUp {
					continue
				}
				c := stepped(step)
				today := c.Now.Add(start + later - c.Uptime)
				if got := c.Judge(start, today); got != Existed {
					t.Errorf("stepped %v, started %v, written %v later by today's clock: %v", step, start, later, got)
				}
				// A step below vague is not noticed, but allowed for.
				if got := c.Judge(start, c.Boot.Add(start+later)); got > Unclear {
					t.Errorf("stepped %v, started %v, written %v later by the clock at boot: %v", step, start, later, got)
				}
			}
		}
	}
}

// Where a process certainly preceded a file there is no need to look for its
// lock: what is rounded, or was stepped, is not certain.
func TestPreceded(t *testing.T) {
	at := clockBoot.Add
	const start = 50 * time.Hour
	for _, c := range []struct {
		name    string
		clock   Clock
		written time.Time
		want    bool
	}{
		{"an hour", steady(), at(start + time.Hour), true},
		{"a tick", steady(), at(start + 10*time.Millisecond), true},
		{"less than a tick", steady(), at(start + 9*time.Millisecond), false},
		{"at its start", steady(), at(start), false},
		{"younger", steady(), at(start - time.Hour), false},
		{"an hour, then the clock was set back", stepped(-time.Hour), at(start + time.Hour), true},
		{"younger, if it was not set back since", stepped(-time.Hour), at(start - time.Minute), false},
		{"an hour, then the clock was set forward", stepped(time.Hour), at(start + 2*time.Hour), true},
		{"younger, if it was set forward before", stepped(time.Hour), at(start + time.Minute), false},
		{"an hour, boot unknown", blind(steady()), at(start + time.Hour), false},
	} {
		if got := c.clock.Preceded(start, c.written); got != c.want {
			t.Errorf("%s: %v", c.name, got)
		}
		if c.want && c.clock.Judge(start, c.written) != Existed {
			t.Errorf("%s: preceded, but not existed", c.name)
		}
	}
}

func TestStartTime(t *testing.T) {
	c := steady()
	if got := c.StartTime(time.Hour); !got.Equal(clockBoot.Add(time.Hour)) {
		t.Errorf("StartTime = %v", got)
	}
}
