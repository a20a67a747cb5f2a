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

// TestWay: what the path leads through is watched as the file is, and what is missing
// there until it comes.
func TestWay(t *testing.T) {
	dir := t.TempDir()
	at := func(name string) string { return filepath.Join(dir, name) }
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	link := func(to, name string) error {
		_ = os.Remove(at("link.new"))
		if err := os.Symlink(to, at("link.new")); err != nil {
			return err
		}
		return os.Rename(at("link.new"), at(name))
	}
	for _, d := range []string{"a/1/x", "a/2/x"} {
		must(os.MkdirAll(at(d), 0o755))
		must(os.WriteFile(at(d+"/f"), nil, 0o644))
	}
	must(link("a/1/../1", "current"))
	w := File(at("current/x/f"))
	defer w.Close()
	quiet := func(what string) { // the watch, by what it tells of next
		t.Helper()
		for len(w.Changed()) > 0 {
			<-w.Changed()
		}
		must(os.Chmod(at("a/1/x/f"), 0o600))
		change(t, w, "after "+what, nil)
	}
	quiet("the start")
	change(t, w, "a link switched", link("a/2", "current"))
	change(t, w, "a link switched back", link(at("a/1"), "current"))
	change(t, w, "a directory renamed", os.Rename(at("a"), at("b")))
	change(t, w, "a directory come", os.Mkdir(at("a"), 0o755))
	change(t, w, "one in it", os.Mkdir(at("a/1"), 0o755))
	change(t, w, "the last one", os.Rename(at("b/1/x"), at("a/1/x")))
	quiet("its return")
	change(t, w, "the file renamed", os.Rename(at("a/1/x/f"), at("a/1/x/g")))
	change(t, w, "and back", os.Rename(at("a/1/x/g"), at("a/1/x/f")))
	change(t, w, "the link removed", os.Remove(at("current")))
	change(t, w, "the link made", os.Symlink("a/2", at("current")))
	change(t, w, "a link to nothing", link("none", "current"))
	change(t, w, "what it leads to", os.Rename(at("b/2"), at("none")))
	if runtime.GOOS == "linux" && w.Partial() {
		t.Error("not everything is watched")
	}
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
	w := Dir(filepath.Join(t.TempDir(), "none"))
	if w != nil || w.Changed() != nil || !w.Partial() {
		t.Errorf("watch %v of a directory that does not exist", w)
	}
	w.Close()
}
