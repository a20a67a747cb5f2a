package pidfile_test

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/go-pidfile/pidfile"
)

func TestPath(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "names")
	t.Setenv("PIDFILE_DIR", dir)
	path, err := pidfile.Path("backup")
	if err != nil || path != filepath.Join(dir, "backup.pid") {
		t.Errorf("%q, %v", path, err)
	}
	if fi, err := os.Stat(dir); err != nil || fi.Mode().Perm() != 0o700 {
		t.Errorf("the directory: %v, %v", fi, err)
	}
	t.Setenv("PIDFILE_DIR", "names")
	if path, err := pidfile.Path("backup"); err == nil {
		t.Errorf("PIDFILE_DIR=names: %q", path)
	}
	t.Setenv("PIDFILE_DIR", "")
	for _, name := range []string{"", ".", "..", "a/b", "/", "a\x00b", "12", "web.pid"} {
		if path, err := pidfile.Path(name); err == nil {
			t.Errorf("%q: %q", name, path)
		}
	}
}

// A name is one file for a user, whatever session asks; see names_user.txtar for the
// directory that must be private.
func TestPathOfSessions(t *testing.T) {
	want := "/run/backup.pid"
	if uid := os.Getuid(); uid != 0 {
		want = fmt.Sprintf("/tmp/pidfile-%d/backup.pid", uid)
	}
	for _, name := range []string{"", "XDG_RUNTIME_DIR", "TMPDIR"} {
		if name != "" {
			t.Setenv(name, t.TempDir())
		}
		if path, err := pidfile.Path("backup"); err != nil || path != want {
			t.Errorf("with %s: %q, %v, want %s", name, path, err, want)
		}
	}
}
