package main

import (
	"slices"

	"github.com/go-pidfile/pidfile/bench/record"
)

// What is judged, and how much each may seem to grow over the whole time before
// it counts as growth: so much, or this part of what it is. (See makeThreads for
// those.) A leak of one thread a storm, or of a few bytes an acquisition, is far
// more than is allowed, within an hour.
type allowance struct {
	what  string
	value func(record.Sample) float64
	least float64
	part  float64
}

var (
	// Between storms everything is released: nothing may be there that was not
	// before.
	quietAllowance = []allowance{
		{"resident MiB", resident, 6, 0.25},
		{"heap MiB", func(s record.Sample) float64 { return s.Heap }, 1, 0.10},
		{"threads", threads, 32, 0},
		{"descriptors", descriptors, 1, 0},
		{"goroutines", goroutines, 1, 0},
	}
	// In the middle of the largest storms.
	peakAllowance = []allowance{
		{"resident MiB", resident, 10, 0.30},
		{"threads", threads, 32, 0},
		{"descriptors", descriptors, 20, 0.50},
		{"goroutines", goroutines, 20, 0.50},
	}
)

func resident(s record.Sample) float64    { return s.RSS }
func threads(s record.Sample) float64     { return s.Threads }
func descriptors(s record.Sample) float64 { return s.Descriptors }
func goroutines(s record.Sample) float64  { return s.Goroutines }

// after returns the samples from that second on.
func after(samples []record.Sample, second float64) []record.Sample {
	for i, s := range samples {
		if s.Second >= second {
			return samples[i:]
		}
	}
	return nil
}

// judge says of each thing whether it grew.
func judge(when string, samples []record.Sample, allowances []allowance) (verdicts []record.Verdict) {
	for _, a := range allowances {
		var x, y []float64
		for _, s := range samples {
			x, y = append(x, s.Second), append(y, a.value(s))
		}
		v := record.Verdict{What: a.what + ", " + when}
		if len(y) > 0 {
			tenth := max(1, len(y)/10)
			v.First, v.Last = record.Median(y[:tenth]), record.Median(y[len(y)-tenth:])
			v.Growth = slope(x, y) * (x[len(x)-1] - x[0])
			v.Allowed = max(a.least, a.part*record.Median(y))
		}
		v.Flat = v.Growth <= v.Allowed
		verdicts = append(verdicts, v)
	}
	return verdicts
}

// slope is the median of the slopes between all pairs (Theil and Sen): a few wild
// samples do not move it. Of many samples it takes a thousand.
func slope(x, y []float64) float64 {
	step := max(1, len(x)/1000)
	var slopes []float64
	for i := 0; i < len(x); i += step {
		for k := i + step; k < len(x); k += step {
			if x[k] > x[i] {
				slopes = append(slopes, (y[k]-y[i])/(x[k]-x[i]))
			}
		}
	}
	if len(slopes) == 0 {
		return 0
	}
	slices.Sort(slopes)
	return slopes[len(slopes)/2]
}
