package main

import (
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/go-pidfile/pidfile/bench/peers"
)

// scans measures a scan of a folder of stale PID files.
func (b *bench) scans() error {
	for _, p := range b.places {
		dir := filepath.Join(p.dir, "scan")
		if err := os.Mkdir(dir, 0o755); err != nil {
			return err
		}
		for i := range b.size.files {
			// PIDs near the kernel's largest maximum, which nobody has here.
			text := fmt.Appendln(nil, 4_000_000+i)
			if err := os.WriteFile(filepath.Join(dir, fmt.Sprintf("%05d.pid", i)), text, 0o644); err != nil {
				return err
			}
		}
		var turns []contestant
		for _, s := range peers.Scans {
			turns = append(turns, contestant{s.Name, func() (float64, error) {
				began := time.Now()
				n, err := s.Scan(dir)
				if err == nil && n != b.size.files {
					err = fmt.Errorf("%d files instead of %d", n, b.size.files)
				}
				return float64(time.Since(began).Nanoseconds()), err
			}})
		}
		if err := b.interleave(fmt.Sprintf("scan %d", b.size.files), p.name, "ns", b.size.scans, turns); err != nil {
			return err
		}
	}
	return nil
}
