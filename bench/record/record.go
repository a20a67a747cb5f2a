// Package record is the data of a run of the benchmarks: as it was measured, so
// that the report computes everything that it says from it.
package record

import (
	"encoding/json"
	"os"
	"slices"
)

// A Run is everything that one run measured.
type Run struct {
	Command string // the command line that made it
	Mode    string // full, quick or smoke
	Date    string
	Seconds float64
	Machine Machine
	Missing []string // peers that were not there
	Peers   []Peer
	Series  []Series
}

// A Machine is where it ran.
type Machine struct {
	Kernel, CPU, Go, Libc, Python string
	CPUs                          int
	MemoryMiB                     int
	Memory, Disk                  string // the file systems of the two places
	LoadBefore                    float64
}

// A Peer is what was compared.
type Peer struct {
	Name, Version, Detail string
	Command               bool // a command rather than a library
	Guarantees            Guarantees
}

// Guarantees are what the run saw a peer do. "" is "not asked".
type Guarantees struct {
	Refuses string // a second one, in another process, is refused
	Rounds  int    // how often two started at once, on a file that a dead process left
	Both    int    // how often both succeeded
	Names   string // the refusal tells the holder's PID; a command's file has COMMAND's
	Crash   string // after SIGKILL of the holder the next start works
	Reused  string // the same if another process has the PID by then
	Reads   int    // how often a reader found a file while others came and went
	Torn    int    // how often that file had no whole PID
	Inode   string // the file that it locked is compared with the path
	Cleans  string // no file is left after a clean end
}

// Verdicts.
const (
	Yes = "yes"
	No  = "no"
)

// A Series is the measurements of one thing of one peer, a value a round. The
// values of the peers that share What and Where were taken in turns: the values
// of one index belong together.
type Series struct {
	What   string // such as "uncontended", "handover release"
	Where  string // such as "tmpfs", or the number of waiters
	Peer   string
	Unit   string
	Values []float64
}

// Read reads a run.
func Read[T any](path string) (*T, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	v := new(T)
	return v, json.Unmarshal(b, v)
}

// Write writes a run, a series a line.
func (r *Run) Write(path string) error {
	head := *r
	head.Series = nil
	b, err := json.MarshalIndent(head, "", " ")
	if err != nil {
		return err
	}
	b = append(b[:len(b)-len("null\n}")], '[')
	for i, s := range r.Series {
		line, err := json.Marshal(s)
		if err != nil {
			return err
		}
		if i > 0 {
			b = append(b, ',')
		}
		b = append(append(b, "\n  "...), line...)
	}
	return os.WriteFile(path, append(b, "\n ]\n}\n"...), 0o644)
}

// Find returns a series' values, nil if it was not measured.
func (r *Run) Find(what, where, peer string) []float64 {
	for _, s := range r.Series {
		if s.What == what && s.Where == where && s.Peer == peer {
			return s.Values
		}
	}
	return nil
}

// Quantile returns the value below which that part of the values lies.
func Quantile(values []float64, q float64) float64 {
	if len(values) == 0 {
		return 0
	}
	sorted := slices.Sorted(slices.Values(values))
	return sorted[min(len(sorted)-1, int(q*float64(len(sorted))))]
}

// Median is the middle one.
func Median(values []float64) float64 { return Quantile(values, 0.5) }

// Ratio is the median of the rounds' ratios: what slowed a whole round does not
// show in it.
func Ratio(values, floor []float64) float64 {
	var ratios []float64
	for i := range min(len(values), len(floor)) {
		if floor[i] > 0 {
			ratios = append(ratios, values[i]/floor[i])
		}
	}
	return Median(ratios)
}
