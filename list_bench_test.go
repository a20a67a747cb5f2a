//go:build linux

package pidfile_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"testing"

	"github.com/go-pidfile/pidfile"
	"golang.org/x/sys/unix"
)

// BenchmarkList compares a scan of 10,000 files of dead PIDs with the raw calls
// that no scan can do without: getdents, open, read, close and kill(0).
func BenchmarkList(b *testing.B) {
	benchDirs(b, func(b *testing.B, dir string) {
		const files = 10_000
		for i := range files {
			must(b, os.WriteFile(filepath.Join(dir, fmt.Sprintf("%05d.pid", i)), []byte(strconv.Itoa(4_000_000+i)+"\n"), 0o644))
		}
		compareN(b, 1, func() {
			n := 0
			for s, err := range pidfile.List(dir) {
				must(b, err)
				if s.State != pidfile.Stale {
					b.Fatalf("%s: %v", s.Path, s.State)
				}
				n++
			}
			if n != files {
				b.Fatalf("listed %d files", n)
			}
		}, func() { rawScan(b, dir) })
	})
}

func rawScan(b *testing.B, dir string) {
	d, err := os.Open(dir)
	must(b, err)
	defer d.Close()
	names, err := d.Readdirnames(-1)
	must(b, err)
	var buf [64]byte
	for _, name := range names {
		fd, err := unix.Open(dir+"/"+name, unix.O_RDONLY|unix.O_CLOEXEC, 0)
		must(b, err)
		n, err := unix.Read(fd, buf[:])
		must(b, err)
		must(b, unix.Close(fd))
		pid, err := strconv.Atoi(string(buf[:n-1]))
		must(b, err)
		if unix.Kill(pid, 0) != unix.ESRCH {
			b.Fatal("alive")
		}
	}
}
