//go:build linux

package proc

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

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

// FuzzParse feeds whole files of /proc/PID to the parsers. A name may hold
// anything: "a) R 1 (b" must not shift what follows it.
func FuzzParse(f *testing.F) {
	f.Add("cat", "S\t(sleeping)", 812, 1, 1000, uint64(12345), "")
	f.Add("a) R 1 (b", "Z (zombie)", 4194304, 0, 0, uint64(0), "Name:\tx\nPid: 7\n")
	f.Add("))) 1 2 3\n", "R", 1, 2, 65534, uint64(1)<<53, "State:\nTgid")
	f.Fuzz(func(t *testing.T, name, state string, pid, ppid, uid int, start uint64, junk string) {
		var i Info
		i.parseStatus([]byte(junk), pid) // never panics
		i.parseStat([]byte(junk))
		if pid <= 0 || ppid < 0 || uid < 0 || !regexp.MustCompile(`^[A-Za-z][^\n]*$`).MatchString(state) || start > 1<<50 { // 350,000 years
			return
		}
		i = Info{}
		escaped := strings.NewReplacer("\n", `\n`, `\`, `\\`).Replace(name) // as the kernel does there
		status := fmt.Sprintf("Name:\t%s\nUmask:\t0022\nState:\t%s\nTgid:\t%d\nNgid:\t0\nPid:\t%d\nPPid:\t%d\nUid:\t%d\t1\t2\t3\n",
			escaped, state, pid, pid, ppid, uid)
		if !i.parseStatus([]byte(status), pid) || i.State != state[0] || i.PPID != ppid || i.UID != uid {
			t.Fatalf("%q is read as %+v", status, i)
		}
		if i.parseStatus([]byte(status), pid+1) {
			t.Fatal("a thread is taken for a process")
		}
		// Field 22, with 18 fields between the state and it.
		stat := fmt.Sprintf("%d (%s) %c%s %d 0 0", pid, name, state[0], strings.Repeat(" 7", 18), start)
		if i.parseStat([]byte(stat)); i.Start != time.Duration(start)*(time.Second/userHZ) {
			t.Fatalf("%q: started at %v", stat, i.Start)
		}
	})
}
