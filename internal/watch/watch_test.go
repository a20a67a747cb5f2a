package watch

import (
	"os"
	"path/filepath"
	"runtime"
	"testing"
	"time"
)

// change makes a change, which w must tell of.
func change(t *testing.T, w *Watch, what string, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	if w == nil && runtime.GOOS != "linux" {
		return
	}
	select {
	case <-w.Changed():
	case <-time.After(20 * time.Second):
		t.Fatalf("%s: nothing was told", what)
	}
}

func TestFile(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "dir")
	path := filepath.Join(dir, "a.pid")
	write := func(text string) error { return os.WriteFile(path, []byte(text), 0o644) }
	again := func() *Watch {
		_ = os.Mkdir(dir, 0o755)
		if err := write("1\n"); err != nil {
			t.Fatal(err)
		}
		w := File(path)
		t.Cleanup(w.Close)
		return w
	}
	change(t, again(), "written", write("2\n"))
	change(t, again(), "chmod", os.Chmod(path, 0o600))
	change(t, again(), "renamed", os.Rename(path, path+".old"))
	change(t, again(), "replaced", os.Rename(path+".old", path))
	change(t, again(), "removed", os.Remove(path))
	change(t, again(), "its directory renamed", os.Rename(dir, dir+".old"))
}

func TestDir(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "a.pid")
	w := Dir(dir)
	defer w.Close()
	change(t, w, "created", os.WriteFile(path, nil, 0o644))
}

// TestNone: a nil Watch can be used, and never tells of anything.
func TestNone(t *testing.T) {
	w := File(filepath.Join(t.TempDir(), "none"))
	if w != nil || w.Changed() != nil {
		t.Errorf("watch %v of a file that does not exist", w)
	}
	w.Close()
	if w := Dir(filepath.Join(t.TempDir(), "none")); w != nil {
		t.Errorf("watch %v of a directory that does not exist", w)
	}
}
