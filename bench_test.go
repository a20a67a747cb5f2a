//go:build linux

package pidfile_test

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/go-pidfile/pidfile"
	"golang.org/x/sys/unix"
)

// The benchmarks time a batch of ours and a batch of the floor (the raw system
// calls) in turns, and report the median of the ratios: this machine's noise
// hits both. Run them with
//
//	go test -run '^$' -bench 'Acquire|Refused' -benchmem .

// benchDirs are a directory in memory and one on a disk.
func benchDirs(b *testing.B, f func(b *testing.B, dir string)) {
	for _, d := range []struct{ name, parent string }{{"tmpfs", "/dev/shm"}, {"disk", wd()}} {
		b.Run(d.name, func(b *testing.B) {
			dir, err := os.MkdirTemp(d.parent, "pidfile-bench")
			if err != nil {
				b.Fatal(err)
			}
			b.Cleanup(func() { os.RemoveAll(dir) })
			f(b, dir)
		})
	}
}

func wd() string { d, _ := os.Getwd(); return d }

// compare times batches of ours and of the floor in turns. ns/op is both
// together; ours-ns/op and x-floor are what counts.
func compare(b *testing.B, ours, floor func()) { compareN(b, 100, ours, floor) }

func compareN(b *testing.B, batch int, ours, floor func()) {
	timed := func(f func()) time.Duration {
		start := time.Now()
		for range batch {
			f()
		}
		return time.Since(start)
	}
	timed(ours)
	timed(floor)
	var mine, ratios []float64
	b.ReportMetric(testing.AllocsPerRun(batch, ours), "ours-allocs/op")
	b.ResetTimer()
	for i := 0; i < b.N; i += batch {
		a, z := timed(ours), timed(floor)
		mine = append(mine, float64(a)/float64(batch))
		ratios = append(ratios, float64(a)/float64(z))
	}
	slices.Sort(mine)
	slices.Sort(ratios)
	b.ReportMetric(mine[len(mine)/2], "ours-ns/op")
	b.ReportMetric(ratios[len(ratios)/2], "x-floor")
}

func BenchmarkAcquireRelease(b *testing.B) {
	benchDirs(b, func(b *testing.B, dir string) {
		path, raw := filepath.Join(dir, "a.pid"), filepath.Join(dir, "floor.pid")
		text := []byte("12345\n")
		compare(b, func() {
			f, err := pidfile.Acquire(path)
			must(b, err)
			must(b, f.Release())
		}, func() {
			var a, c unix.Stat_t
			fd, err := unix.Open(raw, unix.O_RDWR|unix.O_CREAT|unix.O_CLOEXEC, 0o644)
			must(b, err)
			must(b, unix.Flock(fd, unix.LOCK_EX|unix.LOCK_NB))
			must(b, unix.Fstat(fd, &a))
			must(b, unix.Lstat(raw, &c))
			_, err = unix.Write(fd, text)
			must(b, err)
			must(b, unix.Unlink(raw))
			must(b, unix.Close(fd))
		})
	})
}

func BenchmarkRefused(b *testing.B) {
	benchDirs(b, func(b *testing.B, dir string) {
		path := filepath.Join(dir, "a.pid")
		f, err := pidfile.Acquire(path)
		must(b, err)
		defer f.Release()
		compare(b, func() {
			if _, err := pidfile.Acquire(path); !errors.Is(err, pidfile.ErrAlreadyRunning) {
				b.Fatal(err)
			}
		}, func() {
			var buf [64]byte
			fd, err := unix.Open(path, unix.O_RDWR|unix.O_CLOEXEC, 0)
			must(b, err)
			if err := unix.Flock(fd, unix.LOCK_EX|unix.LOCK_NB); err != unix.EWOULDBLOCK {
				b.Fatal(err)
			}
			_, err = unix.Pread(fd, buf[:], 0)
			must(b, err)
			must(b, unix.Close(fd))
		})
	})
}
