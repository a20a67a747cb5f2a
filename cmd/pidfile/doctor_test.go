//go:build linux

package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"unsafe"

	"github.com/go-pidfile/pidfile/internal/testproc"
	"golang.org/x/sys/unix"
)

// With this in the environment the test's executable becomes the command under
// test, in a world without O_TMPFILE.
const noTmpfileEnv = "PIDFILE_TEST_NO_TMPFILE"

func init() {
	if command := os.Getenv(noTmpfileEnv); command != "" {
		os.Unsetenv(noTmpfileEnv)
		withoutTmpfile(append([]string{command}, os.Args[1:]...))
	}
}

// withoutTmpfile becomes argv under a seccomp(2) filter that lets each
// openat(2) with O_TMPFILE fail as on vfat. It does not return.
func withoutTmpfile(argv []string) {
	const (
		load   = unix.BPF_LD | unix.BPF_W | unix.BPF_ABS
		equal  = unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K
		subset = unix.BPF_JMP | unix.BPF_JSET | unix.BPF_K
		end    = unix.BPF_RET | unix.BPF_K
		flags  = 16 + 2*8 // offset of the third argument in struct seccomp_data
	)
	filter := []unix.SockFilter{
		{Code: load, K: 0},
		{Code: equal, Jf: 3, K: unix.SYS_OPENAT},
		{Code: load, K: flags},
		{Code: subset, Jf: 1, K: unix.O_TMPFILE &^ unix.O_DIRECTORY},
		{Code: end, K: unix.SECCOMP_RET_ERRNO | uint32(unix.EOPNOTSUPP)},
		{Code: end, K: unix.SECCOMP_RET_ALLOW},
	}
	prog := unix.SockFprog{Len: uint16(len(filter)), Filter: &filter[0]}
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		panic(err)
	}
	if _, _, e := unix.Syscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, unix.SECCOMP_FILTER_FLAG_TSYNC, uintptr(unsafe.Pointer(&prog))); e != 0 {
		fmt.Fprintln(os.Stderr, "seccomp:", e)
		os.Exit(99)
	}
	panic(syscall.Exec(argv[0], argv, os.Environ()))
}

// TestDoctorJSON holds the names that programs rely on.
func TestDoctorJSON(t *testing.T) {
	parallel(t)
	dir := t.TempDir()
	check := func(code int) (all []map[string]any) {
		t.Helper()
		r := call(t, "doctor", "--json", dir)
		if err := json.Unmarshal([]byte(r.stdout), &all); err != nil || r.code != code || len(all) < 5 || r.stderr != "" {
			t.Fatalf("%v; exit code %d, want %d: %s%s", err, r.code, code, r.stdout, r.stderr)
		}
		fine := true
		for _, f := range all {
			ok, isBool := f["ok"].(bool)
			what, _ := f["what"].(string)
			hint, _ := f["hint"].(string)
			if !isBool || what == "" || !ok && hint == "" {
				t.Errorf("a finding: %v", f)
			}
			for field := range f {
				if !slices.Contains([]string{"id", "what", "ok", "hint"}, field) {
					t.Errorf("an undocumented field: %v", f)
				}
			}
			fine = fine && ok
		}
		if fine != (code == 0) {
			t.Errorf("exit code %d, but all is fine: %v", code, fine)
		}
		if left, err := os.ReadDir(dir); err != nil || len(left) != 0 {
			t.Errorf("left in %s: %v %v", dir, left, err)
		}
		return all
	}
	check(0)
	if err := os.Chmod(dir, 0o777); err != nil {
		t.Fatal(err)
	}
	check(1)
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
}

// TestDoctorWithoutTmpfile: where a file cannot be created locked all is fine, but
// that is told.
func TestDoctorWithoutTmpfile(t *testing.T) {
	parallel(t)
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	c := exec.Command(self, "doctor", dir)
	c.Env = append(os.Environ(), noTmpfileEnv+"="+binary)
	r := finish(t, c)
	if r.code == 99 {
		testproc.Skip(t, "seccomp", r.stderr)
	}
	withoutBirth(t, dir, r)
	// The start and the stop of such a file.
	path := filepath.Join(dir, "a.pid")
	w := prepare(t, path, "sleep", "1000")
	w.Path, w.Env = self, append(os.Environ(), noTmpfileEnv+"="+binary)
	w.begin(t)
	pid := w.command(t)
	call(t, "status", "--explain", path).is(t, 0, fmt.Sprintf("PID %d has the file open with the lock", pid))
	call(t, "stop", path).is(t, 0, fmt.Sprintf(`PID %d stopped \(TERM`, pid))
	w.wait(t)
	noFile(t, path)
}

func withoutBirth(t *testing.T, dir string, r result) {
	t.Helper()
	r.is(t, 0, `(?m)^ok    two processes take one file in turns`)
	r.is(t, 0, `(?m)^note  files are created locked: no \(O_TMPFILE and link: .*\)$`)
	r.is(t, 0, `(?m)^`+dir+`: fine$`)
	if left, err := os.ReadDir(dir); err != nil || slices.ContainsFunc(left, func(e os.DirEntry) bool { return strings.Contains(e.Name(), "doctor") }) {
		t.Errorf("left in %s: %v %v", dir, left, err)
	}
}

// TestDoctorFAT tries a file system without links and O_TMPFILE: FAT's, by the
// kernel or by FUSE.
func TestDoctorFAT(t *testing.T) {
	parallel(t)
	testproc.Root(t)
	testproc.Tool(t, "unshare")
	var why []string
	for _, fat := range []struct{ name, mkfs, mount string }{
		{"vfat", "mkfs.vfat", `mount -t vfat -o loop,umask=022 "$0" "$1"`},
		{"exfat", "mkfs.exfat", `mount -t exfat -o loop,umask=022 "$0" "$1"`},
		// Its daemon ends with the mount, which ends with the namespace.
		{"exfat, by FUSE", "mkfs.exfat", `mount.exfat-fuse -o umask=022 "$(losetup --find --show "$0")" "$1"`},
	} {
		if _, err := exec.LookPath(fat.mkfs); err != nil {
			why = append(why, fat.name+": no "+fat.mkfs)
			continue
		}
		dir := t.TempDir()
		image, mount := filepath.Join(dir, "image"), filepath.Join(dir, "m")
		writeFile(t, image, "")
		if err := errors.Join(os.Truncate(image, 8<<20), os.Mkdir(mount, 0o755)); err != nil {
			t.Fatal(err)
		}
		if r := finish(t, exec.Command(fat.mkfs, image)); r.code != 0 {
			t.Fatalf("%s: %s", fat.mkfs, r.stderr)
		}
		// A mount namespace of its own: it ends with the shell, whatever comes.
		r := finish(t, exec.Command("unshare", "-m", "sh", "-c", `exec 2>&1
			trap 'umount "$1" && losetup -j "$0" | cut -d: -f1 | xargs -r losetup -d' EXIT
			`+fat.mount+` || { trap "" EXIT; losetup -j "$0" | cut -d: -f1 | xargs -r losetup -d; exit 99; }
			pidfile doctor "$1" || exit
			pidfile run "$1/a.pid" sh -c 'pidfile status --explain "$0"' "$1/a.pid" || exit
			ls -A "$1"`, image, mount))
		if r.code == 99 {
			why = append(why, fat.name+": "+strings.TrimSpace(r.stdout))
			continue
		}
		t.Logf("%s:\n%s", fat.name, r.stdout)
		withoutBirth(t, mount, r)
		r.is(t, 0, `(?m)^`+regexp.QuoteMeta(mount)+`/a\.pid: running, PID`)
		if strings.HasSuffix(r.stdout, "pid\n") || strings.Contains(r.stdout, ".link\n") {
			t.Errorf("files are left: %s", r.stdout)
		}
		return
	}
	testproc.Skip(t, "FAT", "none can be mounted here: ", strings.Join(why, "; "))
}
