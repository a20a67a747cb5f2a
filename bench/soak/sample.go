package main

import (
	"bytes"
	"os"
	"path/filepath"
	"runtime"
	"runtime/metrics"
	"strconv"
	"time"

	"github.com/go-pidfile/pidfile/bench/plot"
	"github.com/go-pidfile/pidfile/bench/record"
)

// sampleEach samples until it is stopped.
func (s *soak) sampleEach(every time.Duration, stop <-chan struct{}) {
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		select {
		case <-stop:
			return
		case <-tick.C:
			s.samples = append(s.samples, s.sample())
		}
	}
}

// sample notes what this process uses at this moment.
func (s *soak) sample() record.Sample {
	heap := []metrics.Sample{{Name: "/memory/classes/heap/objects:bytes"}}
	metrics.Read(heap)
	return record.Sample{
		Second:      time.Since(s.began).Seconds(),
		RSS:         residentMiB(),
		Heap:        float64(heap[0].Value.Uint64()) / (1 << 20),
		Threads:     entries("/proc/self/task"),
		Descriptors: entries("/proc/self/fd") - 1, // the one that counts them
		Goroutines:  float64(runtime.NumGoroutine()),
	}
}

// peaks is the highest sample of each round through all sizes, thing by thing.
func (s *soak) peaks() (peaks []record.Sample) {
	rest := s.samples
	for _, end := range s.rounds {
		peak := record.Sample{Second: end}
		for len(rest) > 0 && rest[0].Second <= end {
			peak.RSS, peak.Heap = max(peak.RSS, rest[0].RSS), max(peak.Heap, rest[0].Heap)
			peak.Threads, peak.Descriptors = max(peak.Threads, rest[0].Threads), max(peak.Descriptors, rest[0].Descriptors)
			peak.Goroutines = max(peak.Goroutines, rest[0].Goroutines)
			rest = rest[1:]
		}
		peaks = append(peaks, peak)
	}
	return peaks
}

func entries(dir string) float64 {
	list, err := os.ReadDir(dir)
	if err != nil {
		panic(err) // a soak that cannot see must not say that nothing grows
	}
	return float64(len(list))
}

func residentMiB() float64 {
	statm, err := os.ReadFile("/proc/self/statm")
	if err != nil {
		panic(err)
	}
	pages, err := strconv.ParseFloat(string(bytes.Fields(statm)[1]), 64)
	if err != nil {
		panic(err)
	}
	return pages * float64(os.Getpagesize()) / (1 << 20)
}

// thin keeps a few hundred.
func thin(samples []record.Sample) []record.Sample {
	const most = 300
	if len(samples) <= most {
		return samples
	}
	kept := make([]record.Sample, 0, most)
	for i := range most {
		kept = append(kept, samples[i*len(samples)/most])
	}
	return kept
}

// keep writes the data and the plots.
func keep(r *record.Soak, out, plots string) error {
	if out != "" {
		if err := os.MkdirAll(filepath.Dir(out), 0o755); err != nil {
			return err
		}
		if err := r.Write(out); err != nil {
			return err
		}
	}
	if plots == "" {
		return nil
	}
	if err := os.MkdirAll(plots, 0o755); err != nil {
		return err
	}
	line := func(name string, ours bool, of []record.Sample, value func(record.Sample) float64) plot.Line {
		l := plot.Line{Name: name, Ours: ours}
		for _, s := range of {
			l.X, l.Y = append(l.X, s.Second/60), append(l.Y, value(s))
		}
		return l
	}
	memory := []plot.Line{
		line("resident, each second", false, r.Samples, resident),
		line("resident, between storms", true, r.Quiet, resident),
		line("heap in use, between storms", false, r.Quiet, func(s record.Sample) float64 { return s.Heap }),
	}
	if err := plot.Lines(filepath.Join(plots, "soak-memory.svg"), "Memory of a process that storms", "minutes", "MiB", false, memory); err != nil {
		return err
	}
	return plot.Lines(filepath.Join(plots, "soak-counts.svg"), "Between storms, when all is released", "minutes", "", false, []plot.Line{
		line("threads", false, r.Quiet, threads),
		line("descriptors", true, r.Quiet, descriptors),
		line("goroutines", false, r.Quiet, goroutines),
	})
}
