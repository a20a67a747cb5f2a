package proc

import (
	"os"
	"path/filepath"
	"testing"
	"time"
)

// The clock that is read is this machine's.
func TestReadClock(t *testing.T) {
	c := ReadClock()
	if c.Tick < time.Millisecond || c.Tick > slowTick {
		t.Errorf("a tick of %v", c.Tick)
	}
	i, err := Lookup(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "a")
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	fi, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	if got := c.Judge(i.Start, fi.ModTime()); got != Existed {
		t.Errorf("a file of ours: %v", got)
	}
}
