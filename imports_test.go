package pidfile_test

import (
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"github.com/go-pidfile/pidfile/internal/testproc"
)

// The library, and the package that runs COMMAND, import the standard library and
// golang.org/x/sys, on every system. What the command imports is its own affair.
func TestImports(t *testing.T) {
	testproc.Tool(t, "go")
	const module = "github.com/go-pidfile/pidfile"
	for _, goos := range []string{"linux", "darwin", "freebsd", "windows"} {
		t.Run(goos, func(t *testing.T) {
			cmd := exec.Command("go", "list", "-deps", "-f", "{{if not .Standard}}{{.ImportPath}}{{end}}", ".", "./internal/supervise")
			cmd.Env = append(os.Environ(), "GOOS="+goos, "GOARCH=amd64", "CGO_ENABLED=0", "GOFLAGS=")
			cmd.Stderr = os.Stderr
			out, err := cmd.Output()
			if err != nil {
				t.Fatal(err)
			}
			found := strings.Fields(string(out))
			if len(found) == 0 {
				t.Error("no imports at all: this test tests nothing")
			}
			for _, path := range found {
				switch {
				case path == module, strings.HasPrefix(path, module+"/internal/"), strings.HasPrefix(path, "golang.org/x/sys/"):
				default:
					t.Errorf("imports %s", path)
				}
			}
		})
	}
}

// TestLayers: dependencies go one way, as CONTRIBUTING.md says.
func TestLayers(t *testing.T) {
	testproc.Tool(t, "go")
	const internal = "github.com/go-pidfile/pidfile/internal/"
	for pkg, may := range map[string]string{
		"proc": "", "watch": "", "names": "", "hook": "lock", "lock": "proc watch", "supervise": "lock names proc supervise/rlimit",
	} {
		out, err := exec.Command("go", "list", "-f", `{{join .Imports "\n"}}`, "./internal/"+pkg).Output()
		if err != nil {
			t.Fatalf("go list %s: %v", pkg, err)
		}
		for _, path := range strings.Fields(string(out)) {
			name, ours := strings.CutPrefix(path, internal)
			if (ours || strings.HasPrefix(path, "github.com/")) && !slices.Contains(strings.Fields(may), name) {
				t.Errorf("%s imports %s", pkg, path)
			}
		}
	}
}
