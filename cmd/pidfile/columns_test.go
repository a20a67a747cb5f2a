package main

import "testing"

// What a line takes on a terminal is not what it has in bytes or characters.
func TestColumns(t *testing.T) {
	for text, want := range map[string]int{
		"":           0,
		"sleep 1000": 10,
		"äöü":        3,
		"漢字":         4,
		"한글":         4,
		"ｆｕｌｌ":       8,
		"e\u0301":    1, // e and an acute accent
		"a\u200bb":   2, // a space of no width
		"👍":          2,
		"½ ±":        3,
		"…":          1,
	} {
		if got := columns(text); got != want {
			t.Errorf("columns(%q) = %d, want %d", text, got, want)
		}
	}
}

func TestCut(t *testing.T) {
	for _, c := range []struct {
		text  string
		width int
		want  string
	}{
		{"sleep", 0, "sleep"},
		{"sleep", 5, "sleep"},
		{"sleep", 4, "sle…"},
		{"sleep", 1, "…"},
		{"漢字漢字", 8, "漢字漢字"},
		{"漢字漢字", 7, "漢字漢…"},
		{"漢字漢字", 6, "漢字…"}, // half a character is none
		{"e\u0301e\u0301e\u0301", 3, "e\u0301e\u0301e\u0301"},
		{"e\u0301e\u0301e\u0301", 2, "e\u0301…"},
	} {
		got := cut(c.text, c.width)
		if got != c.want {
			t.Errorf("cut(%q, %d) = %q, want %q", c.text, c.width, got, c.want)
		}
		if c.width > 0 && columns(got) > c.width {
			t.Errorf("cut(%q, %d) takes %d columns", c.text, c.width, columns(got))
		}
	}
	if got := pad("漢", 4) + "|"; got != "漢  |" {
		t.Errorf("padded to %q", got)
	}
}
