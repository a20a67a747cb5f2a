package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/go-pidfile/pidfile/bench/peers"
	"github.com/go-pidfile/pidfile/bench/record"
)

// A run of which nothing is there, and one of which something is, make a document
// without holes, in which every figure is from the data.
func TestReport(t *testing.T) {
	some := &record.Run{Mode: "full", Command: "bench/run"}
	for i, l := range peers.Locks {
		some.Peers = append(some.Peers, record.Peer{Name: l.Name, Guarantees: record.Guarantees{Refuses: record.Yes, Rounds: 9, Both: i % 2}})
		for _, what := range []string{"uncontended", "refused"} {
			some.Series = append(some.Series, record.Series{What: what, Where: "tmpfs", Peer: l.Name, Values: []float64{4321e3 * float64(i+1), 4321e3 * float64(i+1)}})
		}
		some.Series = append(some.Series, record.Series{What: "handover release", Where: "10", Peer: l.Name, Values: []float64{5e3, 6e3}})
	}
	for name, run := range map[string]*record.Run{"none": {}, "some": some} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			data := filepath.Join(dir, "run.json")
			if err := run.Write(data); err != nil {
				t.Fatal(err)
			}
			if err := report(data, filepath.Join(dir, "no soak"), dir); err != nil {
				t.Fatal(err)
			}
			b, err := os.ReadFile(filepath.Join(dir, "BENCHMARKS.md"))
			if err != nil {
				t.Fatal(err)
			}
			for _, hole := range []string{"NaN", "Inf", "<no value>", "%!"} {
				if strings.Contains(string(b), hole) {
					t.Errorf("the document has %q in it", hole)
				}
			}
			if name == "some" && !strings.Contains(string(b), "| **pidfile** | 12963 | 3× |") {
				t.Error("the document has no line of 3 × 4321 µs")
			}
		})
	}
}
