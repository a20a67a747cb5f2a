// Report turns the data of a run into docs/BENCHMARKS.md and its plots. Every
// number in them is computed here from the data.
package main

import (
	_ "embed"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"text/template"

	"github.com/go-pidfile/pidfile/bench/record"
)

//go:embed benchmarks.md.tmpl
var document string

func main() {
	run := flag.String("run", "", "the data of bench/run")
	soak := flag.String("soak", "", "the data of bench/soak/run, if there is any")
	docs := flag.String("docs", "", "the `folder` to write to")
	flag.Parse()
	if err := report(*run, *soak, *docs); err != nil {
		fmt.Fprintln(os.Stderr, "report:", err)
		os.Exit(1)
	}
}

func report(run, soak, docs string) error {
	r, err := record.Read[record.Run](run)
	if err != nil {
		return err
	}
	s, err := record.Read[record.Soak](soak)
	if errors.Is(err, fs.ErrNotExist) {
		s = nil
	} else if err != nil {
		return err
	}
	plots := filepath.Join(docs, "plots")
	if err := os.MkdirAll(plots, 0o755); err != nil {
		return err
	}
	if err := draw(r, plots); err != nil {
		return err
	}
	d := &data{Run: r, Soak: s}
	t, err := template.New("document").Funcs(d.functions()).Parse(document)
	if err != nil {
		return err
	}
	f, err := os.Create(filepath.Join(docs, "BENCHMARKS.md"))
	if err != nil {
		return err
	}
	return errors.Join(t.Execute(f, d), f.Close())
}
