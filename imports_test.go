package pidfile_test

import (
	"os"
	"os/exec"
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
