package lock

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestParsePID(t *testing.T) {
	for _, c := range []struct {
		name, text string
		want       int // 0: malformed
	}{
		{"ours", "812\n", 812},
		{"python-pidfile, no newline", "812", 812},
		{"smallest", "1\n", 1},
		{"the kernel's maximum", "4194304\n", 4194304},
		{"leading zeros", "000812\n", 812},
		{"blanks before", " \t812\n", 812},
		{"blanks after", "812 \t \n", 812},
		{"CRLF", "812\r\n", 812},
		{"postmaster.pid", "812\n/var/lib/postgresql\n1700000000\n5432\n", 812},
		{"garbage on later lines", "812\nxyz\x00", 812},
		{"empty second line", "812\n\n", 812},

		{"empty", "", 0},
		{"only a newline", "\n", 0},
		{"PID on the second line", "\n812\n", 0},
		{"only blanks", "  \t \r\n", 0},
		{"zero", "0\n", 0},
		{"zeros", "0000\n", 0},
		{"negative", "-1\n", 0},
		{"signed", "+5\n", 0},
		{"hexadecimal", "0x47\n", 0},
		{"letters", "sshd\n", 0},
		{"letters after", "12abc\n", 0},
		{"letters before", "abc12\n", 0},
		{"fraction", "12.5\n", 0},
		{"exponent", "1e3\n", 0},
		{"underscore", "1_000\n", 0},
		{"two numbers", "12 34\n", 0},
		{"comma", "12,34\n", 0},
		{"NUL", "\x00", 0},
		{"NUL after", "812\x00\n", 0},
		{"NUL before", "\x00812\n", 0},
		{"full of NULs, after a crash", strings.Repeat("\x00", MaxText), 0},
		{"one over the maximum", "4194305\n", 0},
		{"wraps 32 bits to 1", "4294967297\n", 0},
		{"wraps 64 bits to 1", "18446744073709551617\n", 0},
		{"endless digits", strings.Repeat("9", MaxText), 0},
		{"a PID, then blanks beyond what is read", "812" + strings.Repeat(" ", MaxText-3), 0},
		{"zeros beyond what is read", strings.Repeat("0", MaxText-1) + "8", 0},
		{"byte order mark", "\ufeff812\n", 0},
		{"Arabic-Indic digits", "٨١٢\n", 0},
		{"no-break space", "\u00a0812\n", 0},
		{"vertical tab", "\v812\n", 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			pid, err := ParsePID([]byte(c.text))
			switch {
			case pid != c.want:
				t.Errorf("ParsePID(%q) = %d, want %d", c.text, pid, c.want)
			case c.want == 0 && !errors.Is(err, ErrMalformed):
				t.Errorf("ParsePID(%q): error %v, want ErrMalformed", c.text, err)
			case c.want != 0 && err != nil:
				t.Errorf("ParsePID(%q): %v", c.text, err)
			}
		})
	}
}

// A hostile file costs no more than any other.
func TestReadTextReadsFewBytes(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a.pid")
	if err := os.WriteFile(path, bytes.Repeat([]byte("7"), 10<<20), 0o644); err != nil {
		t.Fatal(err)
	}
	text, err := ReadText(path)
	if err != nil {
		t.Fatal(err)
	}
	if len(text) > MaxText {
		t.Errorf("read %d bytes, want at most %d", len(text), MaxText)
	}
	if pid, err := ParsePID(text); pid != 0 || !errors.Is(err, ErrMalformed) {
		t.Errorf("ParsePID: %d, %v", pid, err)
	}
}

func FuzzParsePID(f *testing.F) {
	for _, s := range []string{"1\n", "812", " 812\r\n", "0", "-1", "+5", "0x47", "12abc", "12 34", "\x00", "4194304", "4194305", "18446744073709551617", ""} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		pid, err := ParsePID(text)
		if ok := pid >= 1 && pid <= MaxPID; ok != (err == nil) {
			t.Fatalf("ParsePID(%q) = %d, %v", text, pid, err)
		}
		if err != nil && pid != 0 {
			t.Fatalf("ParsePID(%q) = %d with an error", text, pid)
		}
		// Nothing but the first line counts. (What is as long as the buffer
		// may have been cut, which makes it malformed.)
		line, _, cut := bytes.Cut(text, []byte("\n"))
		if cut && len(line) < MaxText {
			if p, e := ParsePID(line); p != pid || (e == nil) != (err == nil) {
				t.Fatalf("ParsePID(%q) = %d, %v but its first line gives %d, %v", text, pid, err, p, e)
			}
		}
		// What was accepted was ASCII digits and blanks only.
		if err == nil && strings.Trim(string(line), " \t\r0123456789") != "" {
			t.Fatalf("ParsePID(%q) = %d", text, pid)
		}
	})
}
