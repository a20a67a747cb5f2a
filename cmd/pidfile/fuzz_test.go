//go:build linux

package main

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/go-pidfile/pidfile/internal/supervise"
	"golang.org/x/sys/unix"
)

// FuzzArguments holds what the parsers of single arguments accept against what
// the help says that they do, and sees to it that none touches a file.
func FuzzArguments(f *testing.F) {
	for _, s := range []string{
		"", "90s", "2m30s", "5", "0", "1.5", "-1", "+2", "1e9", "9223372036854775807", "5ms", ".", "1h2", "0x10",
		"0644", "644", "0", "7777", "1000", "0o600", "777",
		"HUP", "SIGHUP", "hup", "sigSIGHUP", "1", "01", "+1", "64", "65", "RTMIN+1", "KILL",
		"root", "root:root", "0:0", "12345:", ":x", "4294967295:4294967295", "nobody", "12345:7",
		"a", "a.pid", "./a", "/run/a.pid", "..", "a/", ".pid", "a\x00b", "../../x", "/",
	} {
		f.Add(s)
	}
	dir, err := os.Getwd()
	if err != nil {
		f.Fatal(err)
	}
	names := func(t testing.TB) string {
		left, err := os.ReadDir(dir)
		if err != nil {
			t.Fatal(err)
		}
		return fmt.Sprint(left)
	}
	before := names(f)
	f.Fuzz(func(t *testing.T, s string) {
		duration(t, s)
		permissions(t, s)
		signalName(t, s)
		accounts(t, s)
		paths(t, dir, s)
		if now := names(t); now != before {
			t.Fatalf("%q touched files: %v", s, now)
		}
	})
}

func duration(t *testing.T, s string) {
	d, err := parseDuration(s)
	plain := regexp.MustCompile(`^[0-9]{1,9}$`).MatchString(s)
	switch {
	case d < 0 || err != nil && d != 0:
		t.Fatalf("parseDuration(%q) = %v, %v", s, d, err)
	case plain:
		if n, _ := strconv.Atoi(s); d != time.Duration(n)*time.Second || err != nil {
			t.Fatalf("parseDuration(%q) = %v, %v", s, d, err)
		}
	case err == nil:
		if again, err := parseDuration(d.String()); again != d || err != nil {
			t.Fatalf("parseDuration(%q) = %v, which is read as %v, %v", s, d, again, err)
		}
	}
	if err == nil && strings.Trim(s, "+-.0123456789hmsnuµμ") != "" {
		t.Fatalf("parseDuration(%q) = %v", s, d)
	}
}

func permissions(t *testing.T, s string) {
	m, err := parseMode(s)
	want := 0
	if regexp.MustCompile(`^0*[0-7]{1,3}$`).MatchString(s) {
		for _, c := range s {
			want = want*8 + int(c-'0')
		}
	}
	if int(m) != want || (err == nil) != (want != 0) {
		t.Fatalf("parseMode(%q) = %o, %v, want %o", s, m, err, want)
	}
}

func signalName(t *testing.T, s string) {
	sig, err := supervise.ParseSignal(s)
	if err != nil {
		if sig != 0 || unix.SignalNum(s) != 0 {
			t.Fatalf("ParseSignal(%q) = %d, %v", s, sig, err)
		}
		return
	}
	name, number := unix.SignalName(sig), strconv.Itoa(int(sig))
	same := s == number
	if word := strings.TrimPrefix(strings.ToUpper(s), "SIG"); sig >= 34 { // real-time signals
		same = same || word == fmt.Sprintf("RTMIN+%d", sig-34) || word == fmt.Sprintf("RTMAX-%d", 64-sig) ||
			word == "RTMIN" && sig == 34 || word == "RTMAX" && sig == 64
	}
	for n := 1; n <= 64 && !same; n++ { // aliases, as SIGIOT and SIGABRT
		known := strings.TrimPrefix(strings.ToUpper(s), "SIG")
		same = int(sig) == n && (unix.SignalNum("SIG"+known) == sig)
	}
	if sig < 1 || sig > 64 || !same {
		t.Fatalf("ParseSignal(%q) = %d (%s)", s, sig, name)
	}
}

func accounts(t *testing.T, s string) {
	a, err := supervise.LookUpAccount(s)
	if err != nil {
		return
	}
	user, group, grouped := strings.Cut(s, ":")
	if user == "" || grouped && group == "" || a.UID < 0 || a.GID < 0 || a.UID > 1<<31-1 || a.GID > 1<<31-1 || a.Name == "" {
		t.Fatalf("LookUpAccount(%q) = %+v", s, a)
	}
	if n, err := strconv.Atoi(user); err == nil && a.UID != n {
		t.Fatalf("LookUpAccount(%q): user %d", s, a.UID)
	}
	if n, err := strconv.Atoi(group); grouped && err == nil && (a.GID != n || !slices.Equal(a.Groups, []uint32{uint32(n)})) {
		t.Fatalf("LookUpAccount(%q): group %d, %v", s, a.GID, a.Groups)
	}
}

func paths(t *testing.T, dir, s string) {
	path, err := resolve(s)
	switch {
	case err != nil:
		if s != "" && s != "." && s != ".." && !strings.HasSuffix(s, "/") && !isNumber(s) && !strings.Contains(s, "\x00") {
			t.Fatalf("resolve(%q): %v", s, err)
		}
		return
	case !filepath.IsAbs(path) || path != filepath.Clean(path):
		t.Fatalf("resolve(%q) = %q", s, path)
	}
	var want string
	switch {
	case strings.HasPrefix(s, "/"):
		want = filepath.Clean(s)
	case strings.Contains(s, "/") || strings.HasSuffix(s, ".pid"):
		want = filepath.Join(dir, s)
	default:
		own, err := ownDir()
		if err != nil {
			t.Fatal(err)
		}
		want = own + "/" + s + ".pid"
	}
	if path != want {
		t.Fatalf("resolve(%q) = %q, want %q", s, path, want)
	}
}

// FuzzCommandLine: what follows PIDFILE is COMMAND's, word by word.
func FuzzCommandLine(f *testing.F) {
	f.Add("a\x00--\x00--\x00b")
	f.Add("")
	f.Fuzz(func(t *testing.T, line string) {
		args := strings.Split(line, "\x00")
		if line == "" {
			args = nil
		}
		before := slices.Clone(args)
		pidfile, command := splitCommand(args)
		if !slices.Equal(args, before) {
			t.Fatalf("%q became %q", before, args)
		}
		switch {
		case len(args) == 0:
			if pidfile != "" || command != nil {
				t.Fatalf("nothing became %q, %q", pidfile, command)
			}
		case len(args) > 1 && args[1] == "--":
			if pidfile != args[0] || !slices.Equal(command, args[2:]) {
				t.Fatalf("%q became %q, %q", args, pidfile, command)
			}
		case pidfile != args[0] || !slices.Equal(command, args[1:]):
			t.Fatalf("%q became %q, %q", args, pidfile, command)
		}
	})
}
