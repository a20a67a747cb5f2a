package record

import (
	"encoding/json"
	"os"
)

// A Soak is what a soak measured.
type Soak struct {
	Command string
	Date    string
	Seconds float64
	Machine Machine
	Counts  Counts
	Samples []Sample // thinned out
	Quiet   []Sample // when nothing was going on, thinned out
	// Verdicts are about all samples, not only those that are kept here.
	Verdicts []Verdict
}

// Counts are what happened.
type Counts struct {
	Storms, Paths                  int
	MostPaths, MostWaiters         int
	Acquired, Refused, Cancelled   int64
	Killed, Restored, Recorded     int64
	HelperAcquired, Overlaps, Left int64
}

// A Sample is what the process used at one moment.
type Sample struct {
	Second                           float64
	RSS                              float64 // MiB
	Heap                             float64 // MiB in use
	Threads, Descriptors, Goroutines float64
}

// A Verdict says whether something grew.
type Verdict struct {
	What        string
	First, Last float64 // medians of the first and of the last tenth
	Growth      float64 // by the slope, over the whole time
	Allowed     float64
	Flat        bool
}

// Write writes the soak.
func (s *Soak) Write(path string) error {
	b, err := json.Marshal(s)
	if err != nil {
		return err
	}
	return os.WriteFile(path, append(b, '\n'), 0o644)
}
