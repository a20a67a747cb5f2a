package lock

import (
	"errors"
)

// MaxPID is the largest PID that any supported kernel gives: Linux's
// PID_MAX_LIMIT on 64-bit systems, proc(5); the BSDs stay below it.
const MaxPID = 1 << 22

// MaxText is how much of a file is read: the first line of a well-formed file
// fits with blanks to spare, and a hostile one costs no more than this.
const MaxText = 64

// ErrMalformed is returned when a text is not a PID.
var ErrMalformed = errors.New("malformed PID file")

// ParsePID returns the PID that stands alone on the first line of text, of
// which MaxText bytes are enough. Blanks (space, tab, carriage return) around
// it are fine, and later lines are not read: postmaster.pid has its PID first.
// Anything else is ErrMalformed: no digits, a sign, a hexadecimal or fractional
// number, two numbers, a NUL, 0, or a number above MaxPID.
func ParsePID(text []byte) (int, error) {
	i := 0
	for i < len(text) && blank(text[i]) {
		i++
	}
	pid, digits := 0, 0
	for ; i < len(text) && text[i] >= '0' && text[i] <= '9'; i++ {
		pid = pid*10 + int(text[i]-'0')
		if pid > MaxPID {
			return 0, ErrMalformed
		}
		digits++
	}
	for i < len(text) && blank(text[i]) {
		i++
	}
	switch {
	case digits == 0 || pid == 0:
		return 0, ErrMalformed
	case i < len(text) && text[i] != '\n':
		return 0, ErrMalformed
	case i == len(text) && i >= MaxText:
		return 0, ErrMalformed // the first line goes on beyond what we read
	}
	return pid, nil
}

func blank(c byte) bool { return c == ' ' || c == '\t' || c == '\r' }
