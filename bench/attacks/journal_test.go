package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestCrowded(t *testing.T) {
	for _, test := range []struct {
		name           string
		text           string
		most, overlaps int
	}{
		{"one after the other", "10 1 a enter\n20 1 a exit\n20 2 b enter\n30 2 b exit\n", 1, 0},
		{"two", "10 1 a enter\n15 2 b enter\n20 1 a exit\n30 2 b exit\n", 2, 1},
		// A PID that is used twice is two holds; what was killed counts to its last beat.
		{"killed", "10 1 a enter\n12 1 a beat\n13 1 b enter\n20 1 b exit\n", 1, 0},
		{"killed too late", "10 1 a enter\n14 1 a beat\n13 2 b enter\n20 2 b exit\n", 2, 1},
		{"three of four", "10 1 a enter\n99 1 a exit\n20 2 b enter\n30 2 b exit\n40 3 c enter\n60 3 c exit\n50 4 d enter\n55 4 d exit\n", 3, 3},
		{"a bystander holds nothing", "10 1 a enter\n20 1 a exit\n11 2 b ready\n12 2 b SIGTERM\n", 1, 0},
		{"a line that is being written", "10 1 a enter\n20 1 a exit\n11 2 b ent", 1, 0},
	} {
		t.Run(test.name, func(t *testing.T) {
			j := journal{path: filepath.Join(t.TempDir(), "journal")}
			if err := os.WriteFile(j.path, []byte(test.text), 0o600); err != nil {
				t.Fatal(err)
			}
			most, overlaps := crowded(holds(j.read()))
			if len(most) != test.most || overlaps != test.overlaps {
				t.Errorf("%d at once, %d overlaps; want %d, %d", len(most), overlaps, test.most, test.overlaps)
			}
		})
	}
}

// A journal is read in pieces while it grows.
func TestJournalGrows(t *testing.T) {
	j := journal{path: filepath.Join(t.TempDir(), "journal")}
	if n := len(j.read()); n != 0 {
		t.Fatalf("%d entries before there is a file", n)
	}
	p, err := openPen(j.path, "a")
	if err != nil {
		t.Fatal(err)
	}
	defer p.f.Close()
	for i := range 10_000 {
		p.note(beat)
		if i%1000 == 0 {
			j.read()
		}
	}
	if n := len(j.read()); n != 10_000 {
		t.Errorf("%d entries, want 10000", n)
	}
	if e, ok := j.find("a", beat); !ok || !strings.HasSuffix(e.String(), " a beat") {
		t.Errorf("found %v, %v", e, ok)
	}
}
