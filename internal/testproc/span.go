package testproc

import (
	"cmp"
	"fmt"
	"slices"
)

// A Span is a time in which a process held the file, as it and its killer logged it.
type Span struct {
	From, To int64 // Monotonic
	Who      string
}

// Overlaps counts the spans that begin before an earlier one has ended, and gives an
// example. It sorts them.
func Overlaps(all []Span) (n int, example string) {
	slices.SortFunc(all, func(a, b Span) int { return cmp.Compare(a.From, b.From) })
	var last Span
	for _, s := range all {
		if s.From < last.To {
			if n++; n == 1 {
				example = fmt.Sprintf("%s from %d to %d, and %s from %d to %d", last.Who, last.From, last.To, s.Who, s.From, s.To)
			}
		}
		if s.To > last.To {
			last = s
		}
	}
	return n, example
}
