package pidfile_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/go-pidfile/pidfile"
)

func TestPath(t *testing.T) {
	t.Setenv("XDG_RUNTIME_DIR", t.TempDir())
	path, err := pidfile.Path("backup")
	if err != nil || !filepath.IsAbs(path) || filepath.Base(path) != "backup.pid" {
		t.Errorf("%q, %v", path, err)
	}
	if dir := filepath.Dir(path); os.Getuid() != 0 && dir != os.Getenv("XDG_RUNTIME_DIR") ||
		os.Getuid() == 0 && !strings.HasSuffix(dir, "/run") {
		t.Errorf("it lives in %s", dir)
	}
	for _, name := range []string{"", ".", "..", "a/b", "/", "a\x00b"} {
		if path, err := pidfile.Path(name); err == nil {
			t.Errorf("%q: %q", name, path)
		}
	}
}

// Without XDG_RUNTIME_DIR a user's names live in a private directory.
func TestPathPrivate(t *testing.T) {
	if os.Getuid() == 0 {
		t.Skip("root's names live in /run")
	}
	t.Setenv("XDG_RUNTIME_DIR", "")
	t.Setenv("TMPDIR", t.TempDir())
	path, err := pidfile.Path("backup")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if _, err := pidfile.Path("backup"); !errors.Is(err, pidfile.ErrUntrusted) {
		t.Errorf("error %v, want ErrUntrusted", err)
	}
}
