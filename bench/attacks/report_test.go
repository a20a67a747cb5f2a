package main

import (
	"strings"
	"testing"
)

// What must fail a run does.
func TestCheck(t *testing.T) {
	for _, test := range []struct {
		name   string
		attack string
		strict bool
		ours   verdict
		other  verdict
		want   string // in the error; "" for none
	}{
		{"as it should be", "crowd", false, withstood, fails, ""},
		{"a loss that is known", "removed", false, fails, fails, ""},
		{"a loss that is not", "crowd", false, fails, fails, "crowd: pidfile run fails"},
		{"no start fails", "crowd", false, withstood, withstood, "it has shown nothing"},
		{"no start fails, but not all are there", "crowd", false, withstood, absent, ""},
		{"not all are there", "crowd", true, withstood, absent, "crowd: "},
		{"not carried out", "crowd", false, withstood, broken, "crowd: flock(1)"},
		{"a price has no verdict", "cost", false, withstood, withstood, ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			r := &report{options: options{strict: test.strict}, findings: map[string][]finding{
				test.attack: {{Tool: "pidfile run", Verdict: test.ours}, {Tool: "flock(1)", Verdict: test.other}},
			}}
			err := r.check()
			if (err != nil) != (test.want != "") || err != nil && !strings.Contains(err.Error(), test.want) {
				t.Errorf("%v, want %q", err, test.want)
			}
		})
	}
}

// Names are used to find things, and titles and reasons by readers.
func TestAttacks(t *testing.T) {
	seen := make(map[string]bool)
	for _, a := range attacks {
		if seen[a.name] || a.title == "" || a.done == "" || a.judged == "" || a.run == nil {
			t.Errorf("attack %q is there twice, or lacks something", a.name)
		}
		seen[a.name] = true
	}
}
