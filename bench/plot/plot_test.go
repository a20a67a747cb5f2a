package plot

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// The colours that the style sheet changes for dark pages must be those that
// the SVG has: else the text stays dark on dark.
func TestDark(t *testing.T) {
	dir := t.TempDir()
	if keep := os.Getenv("PLOTS"); keep != "" {
		dir = keep
	}
	bars, lines := filepath.Join(dir, "bars.svg"), filepath.Join(dir, "lines.svg")
	if err := Bars(bars, "Title", "µs", true, []Bar{{"ours", 1.5, true}, {"another one", 23.4, false}}); err != nil {
		t.Fatal(err)
	}
	if err := Lines(lines, "Title", "waiters", "µs", true, []Line{
		{Name: "ours", X: []float64{1, 10, 100}, Y: []float64{50, 60, 70}, Ours: true},
		{Name: "another", X: []float64{1, 10, 100}, Y: []float64{500, 6000, 70000}},
	}); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{bars, lines} {
		b, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		style, rest, ok := strings.Cut(string(b), "</style>")
		if !ok || !strings.Contains(style, "prefers-color-scheme:dark") {
			t.Fatalf("%s: no style for dark pages", path)
		}
		for _, s := range []shade{paper, ink} {
			if !strings.Contains(style, "fill:"+s.hex()+"\"]{fill:"+s.dark) {
				t.Errorf("%s: %s does not change", path, s.hex())
			}
			if !strings.Contains(rest, "fill:"+s.hex()) {
				t.Errorf("%s: nothing is filled with %s", path, s.hex())
			}
		}
	}
}
