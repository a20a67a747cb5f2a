//go:build linux

package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"
	"time"
)

// BenchmarkCommand compares "pidfile run" with flock(1), which leaves no PID,
// tells nobody and cannot replace what is stale. Both run in turn, so that what
// slows the machine slows both; the metric is the median of the ratios.
func BenchmarkCommand(b *testing.B) {
	flock, err := exec.LookPath("flock")
	if err != nil {
		b.Skip(err)
	}
	truth, err := exec.LookPath("true")
	if err != nil {
		b.Skip(err)
	}
	dir := b.TempDir()
	ours, theirs := filepath.Join(dir, "a.pid"), filepath.Join(dir, "b.lock")
	for _, pair := range []struct {
		name string
		a, b []string
	}{
		{"run", []string{binary, "run", ours, truth}, []string{flock, "-n", theirs, truth}},
		{"exec", []string{binary, "run", "--exec", ours, truth}, []string{flock, "-n", "-F", theirs, truth}},
		{"bare", []string{binary, "run", ours, truth}, []string{truth}},
	} {
		b.Run(pair.name, func(b *testing.B) {
			var as, bs, ratios []float64
			for i := 0; b.Loop(); i++ {
				var x, y float64
				if i%2 == 0 {
					x, y = spend(b, pair.a), 0
					y = spend(b, pair.b)
				} else {
					y = spend(b, pair.b)
					x = spend(b, pair.a)
				}
				as, bs, ratios = append(as, x), append(bs, y), append(ratios, x/y)
			}
			b.ReportMetric(0, "ns/op") // of both together: tells nothing
			b.ReportMetric(median(as)*1e6, "µs-pidfile")
			b.ReportMetric(median(bs)*1e6, "µs-"+filepath.Base(pair.b[0]))
			b.ReportMetric(median(ratios), "ratio")
		})
	}
}

// spend runs a command to its end and returns the seconds that took.
func spend(b *testing.B, argv []string) float64 {
	began := time.Now()
	p, err := os.StartProcess(argv[0], argv, &os.ProcAttr{Env: []string{}, Files: []*os.File{nil, nil, os.Stderr}})
	if err != nil {
		b.Fatal(err)
	}
	state, err := p.Wait()
	took := time.Since(began)
	if err != nil || !state.Success() {
		b.Fatalf("%q: %v, %v", argv, state, err)
	}
	return took.Seconds()
}

func median(x []float64) float64 {
	slices.Sort(x)
	return x[len(x)/2]
}
