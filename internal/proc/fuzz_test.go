//go:build linux

package proc

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// lockLine is a line of /proc/locks as lock_get_status in the kernel's
// fs/locks.c prints it.
var lockLine = regexp.MustCompile(strings.NewReplacer("_", `[\t\n\v\f\r ]+`, "F", `([^\t\n\v\f\r ]+)`).Replace(
	`^[\t\n\v\f\r ]*F_F_F_F_F_([[:xdigit:]]+):([[:xdigit:]]+):([0-9]+)_F_[^\t\n\v\f\r ]`))

// FuzzParseLock compares parseLock with a regular expression, and what the
// kernel prints for the numbers with what is read.
func FuzzParseLock(f *testing.F) {
	f.Add("1: FLOCK  ADVISORY  WRITE 359 00:13:11691 0 EOF\n", uint32(0), uint32(0x13), uint64(11691), 359, true)
	f.Add("2: OFDLCK ADVISORY  READ  -1 fd:01:18446744073709551615 0 0\n", uint32(0xfd), uint32(1), ^uint64(0), -1, false)
	f.Add("2: -> FLOCK  ADVISORY  WRITE 360 00:13:11691 0 EOF\n", uint32(0xfff), uint32(0xfffff), uint64(1), 0, true)
	f.Add("3: POSIX  *NOINODE* WRITE 5 none 0 EOF\n", uint32(1), uint32(2), uint64(3), 4, true)
	f.Add("4: LEASE  BREAKER   UNLCK 7 :: 0\x00EOF", uint32(1), uint32(2), uint64(3), 4194304, false)
	f.Fuzz(func(t *testing.T, line string, major, minor uint32, ino uint64, pid int, write bool) {
		l, id, ok := parseLock([]byte(line))
		if ascii(line) {
			m := lockLine.FindStringSubmatch(line)
			want := m != nil && m[2] != "->"
			if want {
				for _, n := range []struct {
					s          string
					base, bits int
				}{{m[6], 16, 32}, {m[7], 16, 32}, {m[8], 10, 64}} {
					_, err := strconv.ParseUint(n.s, n.base, n.bits)
					want = want && err == nil
				}
			}
			if ok != want {
				t.Fatalf("parseLock(%q) = %+v, %+v, %v", line, l, id, ok)
			}
			if ok && (l.Kind != m[2] || l.Write != (m[4] == "WRITE")) {
				t.Fatalf("parseLock(%q) = %+v", line, l)
			}
		}
		mode := "READ "
		if write {
			mode = "WRITE"
		}
		major, minor = major&0xfff, minor&0xfffff // as many bits as a dev_t has
		told := fmt.Sprintf("1: FLOCK  ADVISORY  %s %d %02x:%02x:%d 0 EOF\n", mode, pid, major, minor, ino)
		l, id, ok = parseLock([]byte(told))
		if !ok || l != (Lock{"FLOCK", write, pid}) || id.Dev != unix.Mkdev(major, minor) || id.Ino != ino {
			t.Fatalf("parseLock(%q) = %+v, %+v, %v", told, l, id, ok)
		}
		if _, _, ok := parseLock([]byte(strings.Replace(told, "FLOCK", "-> FLOCK", 1))); ok {
			t.Fatal("a waiter is taken for a holder")
		}
	})
}

func ascii(s string) bool { return strings.IndexFunc(s, func(r rune) bool { return r > 126 }) < 0 }
