//go:build linux

package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/go-pidfile/pidfile/internal/testproc"
)

// TestJSON holds the names that programs rely on.
func TestJSON(t *testing.T) {
	parallel(t)
	dir := t.TempDir()
	held, stale := filepath.Join(dir, "held.pid"), filepath.Join(dir, "stale.pid")
	w := start(t, held, "sleep", "100")
	pid := w.command(t)
	writeFile(t, stale, "none\n")
	out, code := output(t, "status", "--json", held, stale, filepath.Join(dir, "absent.pid"))
	if code != 3 {
		t.Errorf("exit code %d, want 3", code)
	}
	var all []map[string]any
	if err := json.Unmarshal(out, &all); err != nil || len(all) != 3 {
		t.Fatalf("%v in\n%s", err, out)
	}
	keys := func(m map[string]any) string {
		var names []string
		for name := range m {
			names = append(names, name)
		}
		slices.Sort(names)
		return strings.Join(names, " ")
	}
	if got, want := keys(all[0]), "evidence locked path pid process state"; got != want {
		t.Errorf("fields of a running one: %s; want %s", got, want)
	}
	process, _ := all[0]["process"].(map[string]any)
	if os.Getuid() != 0 {
		process["user"] = "" // whom no passwd(5) names has none
	}
	if got, want := keys(process), "args executable pid started uid user"; got != want {
		t.Errorf("fields of its process: %s; want %s", got, want)
	}
	for _, s := range all[1:] {
		if got, want := keys(s), "evidence locked path state"; got != want {
			t.Errorf("fields of a %v one: %s; want %s", s["state"], got, want)
		}
	}
	if all[0]["state"] != "running" || all[0]["path"] != held || all[0]["locked"] != true ||
		all[0]["pid"] != float64(pid) || process["pid"] != float64(pid) || process["uid"] != float64(os.Getuid()) {
		t.Errorf("a running one is told as\n%s", out)
	}
	if started, err := time.Parse(time.RFC3339Nano, fmt.Sprint(process["started"])); err != nil || time.Since(started).Abs() > testproc.Patience {
		t.Errorf("started: %v, %v", process["started"], err)
	}
	if all[1]["state"] != "stale" || all[2]["state"] != "absent" {
		t.Errorf("states %v and %v, want stale and absent", all[1]["state"], all[2]["state"])
	}
	w.stop(t)
}
