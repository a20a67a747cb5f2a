package lock

import (
	"regexp"
	"strconv"
	"strings"
	"testing"
)

// FuzzPIDText compares ParsePID with its documentation, put as a regular
// expression.
func FuzzPIDText(f *testing.F) {
	for _, s := range []string{
		"1\n", "812", " \t812 \r\nlater\n", "4194304\n", "4194305\n", "0\n", "-1\n", "+5", "0x47", "12abc", "12.5",
		"12 34\n", "812\x00\n", "18446744073709551617\n", strings.Repeat("9", 100), "812" + strings.Repeat(" ", 70) + "\n", "\ufeff1\n",
	} {
		f.Add([]byte(s))
	}
	alone := regexp.MustCompile(`^[ \t\r]*([0-9]+)[ \t\r]*$`)
	f.Fuzz(func(t *testing.T, text []byte) {
		read := text[:min(len(text), MaxText)] // as callers do
		pid, err := ParsePID(read)
		first, _, ended := strings.Cut(string(read), "\n")
		want := 0
		if m := alone.FindStringSubmatch(first); m != nil && (ended || len(read) < MaxText) {
			if n, err := strconv.Atoi(m[1]); err == nil && n <= MaxPID {
				want = n
			}
		}
		if pid != want || (err == nil) != (want != 0) {
			t.Fatalf("ParsePID(%q) = %d, %v, want %d", read, pid, err, want)
		}
		if pid == 0 {
			return
		}
		var h Hold
		h.setText(pid)
		if again, err := ParsePID(h.text[:h.n]); again != pid || err != nil {
			t.Fatalf("%d is written %q, and read as %d, %v", pid, h.text[:h.n], again, err)
		}
	})
}
