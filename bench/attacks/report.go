package main

import (
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"text/template"
	"time"

	"golang.org/x/sys/unix"
)

// A report is all findings of a run.
type report struct {
	began    time.Time
	options  options
	findings map[string][]finding // of each attack, in the order of its rows
	dates    map[string]string    // of each attack that an earlier run has recorded
}

// A row is a tool or a stopper.
type row struct {
	name, command string
	ours          bool
}

func rowsOf(a attack) (rows []row) {
	if a.onStoppers {
		for _, s := range stoppers() {
			rows = append(rows, row{s.name, s.command, s.ours})
		}
		return rows
	}
	for _, t := range tools() {
		rows = append(rows, row{t.name, t.command, t.ours})
	}
	return rows
}

// What the template sees.
type (
	Group struct {
		Title   string
		Attacks []Attack
	}
	Attack struct {
		Name, Title, Done, Judged, Why string
		Findings                       []finding
	}
	Loss struct {
		Title, Why string
		Findings   []finding
	}
	Score struct {
		Name                string
		Withstood, Lost, NA int
	}
)

//go:embed comparison.md.tmpl
var comparison string

func (r *report) template() *template.Template {
	return template.Must(template.New("comparison").Funcs(template.FuncMap{
		"cell":    func(text string) string { return strings.ReplaceAll(text, "|", `\|`) },
		"summary": summary,
		"code":    func(v any) string { return "`" + fmt.Sprint(v) + "`" },
		"plain":   func(text string) string { return strings.ReplaceAll(text, "*", "") },
	}).Parse(comparison))
}

// summary is one line of evidence, safe in Markdown.
func summary(f finding) string {
	if len(f.Evidence) == 0 {
		return ""
	}
	return strings.NewReplacer("<", "&lt;", "\n", " ").Replace(f.Evidence[0])
}

func (r *report) Date() string    { return r.began.UTC().Format("2006-01-02") }
func (r *report) CPUs() int       { return runtime.NumCPU() }
func (r *report) Quick() bool     { return r.options.quick }
func (r *report) Command() string { return "bench/attacks/run" + pick(r.options.quick, " -quick", "") }

func (r *report) Kernel() string {
	var u unix.Utsname
	if err := unix.Uname(&u); err != nil {
		return err.Error()
	}
	// The name without what a distributor put behind it.
	release, _, _ := strings.Cut(unix.ByteSliceToString(u.Release[:]), "-")
	return "Linux " + release + " " + unix.ByteSliceToString(u.Machine[:])
}

// Called tells how each tool was called, and which version that was.
func (r *report) Called() (lines []string) {
	c := &cell{path: "PIDFILE", bin: "."}
	for _, t := range tools() {
		lines = append(lines, c.called(t.name, t.start(c, job{}), t.command, t.origin, t.note))
	}
	for _, s := range stoppers() {
		lines = append(lines, c.called(s.name, c.expand(s.argv), s.command, s.origin, ""))
	}
	return lines
}

func (c *cell) called(name string, argv []string, command, origin, note string) string {
	line := []string{filepath.Base(argv[0])}
	for _, w := range argv[1:] {
		if w == "" {
			break // the fields of no job
		}
		if w == self {
			line = append(line, "COMMAND")
			break
		}
		if strings.ContainsAny(w, " $") {
			w = "'" + w + "'"
		}
		line = append(line, w)
	}
	text := name + ": "
	if argv[0] != self { // of a library there is no command line to show
		text += "`" + strings.Join(line, " ") + "`, "
	}
	if missing(command) {
		return text + "not installed"
	}
	text += version(command, origin)
	if note != "" {
		text += ". " + note
	}
	return text
}

func (r *report) Groups() (groups []Group) {
	for _, a := range attacks {
		f := r.findings[a.name]
		if f == nil {
			continue
		}
		if len(groups) == 0 || groups[len(groups)-1].Title != a.group {
			groups = append(groups, Group{Title: a.group})
		}
		g := &groups[len(groups)-1]
		g.Attacks = append(g.Attacks, Attack{a.name, a.title, a.done, a.judged, a.ours, f})
	}
	return groups
}

// Rows turns a group's columns into rows.
func (g Group) Rows() (rows [][]finding) {
	for i := range g.Attacks[0].Findings {
		var row []finding
		for _, a := range g.Attacks {
			row = append(row, a.Findings[i])
		}
		rows = append(rows, row)
	}
	return rows
}

func isOurs(a attack, tool string) bool {
	return slices.ContainsFunc(rowsOf(a), func(r row) bool { return r.ours && r.name == tool })
}

// Losses lists the attacks that we lose.
func (r *report) Losses() (losses []Loss) {
	for _, a := range attacks {
		var lost []finding
		for _, f := range r.findings[a.name] {
			if f.Verdict == fails && isOurs(a, f.Tool) {
				lost = append(lost, f)
			}
		}
		if lost != nil {
			losses = append(losses, Loss{a.group + ": " + strings.TrimPrefix(a.title, "… "), a.ours, lost})
		}
	}
	return losses
}

// Scores counts, for the tools that start something.
func (r *report) Scores() (scores []Score) {
	index := make(map[string]int)
	for _, a := range attacks {
		if a.measure || a.onStoppers {
			continue
		}
		for _, f := range r.findings[a.name] {
			i, seen := index[f.Tool]
			if !seen {
				i = len(scores)
				index[f.Tool] = i
				scores = append(scores, Score{Name: f.Tool})
			}
			switch f.Verdict {
			case withstood:
				scores[i].Withstood++
			case fails:
				scores[i].Lost++
			default:
				scores[i].NA++
			}
		}
	}
	return scores
}

func (r *report) print(w io.Writer) {
	if err := r.template().ExecuteTemplate(w, "tables", r); err != nil {
		panic(err)
	}
}

// write writes the evidence, and the comparison from all evidence that there is.
func (r *report) write() error {
	if r.options.out == "" {
		return nil
	}
	results := filepath.Join(r.options.out, "bench/attacks/results")
	docs := filepath.Join(r.options.out, "docs")
	if err := errors.Join(os.MkdirAll(results, 0o755), os.MkdirAll(docs, 0o755)); err != nil {
		return err
	}
	incomplete := r.load(results)
	for _, a := range attacks {
		f := r.findings[a.name]
		if f == nil {
			continue
		}
		text, err := json.MarshalIndent(record{a.name, r.dates[a.name], a.done, f, a.judged, r.Kernel(), r.Quick()}, "", "\t")
		if err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(results, a.name+".json"), append(text, '\n'), 0o644); err != nil {
			return err
		}
	}
	if incomplete != nil {
		return incomplete
	}
	var text strings.Builder
	if err := r.template().ExecuteTemplate(&text, "page", r); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(docs, "COMPARISON.md"), []byte(text.String()), 0o644)
}

// A record is what is stored of an attack.
type record struct {
	Attack   string    `json:"attack"`
	Date     string    `json:"date"`
	Done     string    `json:"done"`
	Findings []finding `json:"findings"`
	Judged   string    `json:"judged"`
	Kernel   string    `json:"kernel"`
	Quick    bool      `json:"quick"`
}

// load adds what earlier runs have recorded of the attacks that this one left out.
func (r *report) load(results string) (err error) {
	r.dates = make(map[string]string)
	for _, a := range attacks {
		if r.findings[a.name] != nil {
			r.dates[a.name] = r.Date()
			continue
		}
		var old record
		text, failed := os.ReadFile(filepath.Join(results, a.name+".json"))
		if failed == nil {
			failed = json.Unmarshal(text, &old)
		}
		if failed == nil && !slices.EqualFunc(old.Findings, rowsOf(a), func(f finding, r row) bool { return f.Tool == r.name }) {
			failed = fmt.Errorf("%s: recorded for other tools: run it again", a.name)
		}
		if failed != nil {
			err = errors.Join(err, failed)
			continue
		}
		r.findings[a.name], r.dates[a.name] = old.Findings, old.Date
	}
	return err
}

// Dates says when the attacks were carried out; if not all on one day, which.
func (r *report) Dates() string {
	days := make(map[string][]string)
	for _, a := range attacks {
		if day := r.dates[a.name]; day != "" {
			days[day] = append(days[day], a.name)
		}
	}
	order := slices.Sorted(maps.Keys(days))
	for i, day := range order[min(1, len(order)):] {
		order[i+1] = "on " + day + " again: " + strings.Join(days[day], ", ")
	}
	return strings.Join(order, "; ")
}

// check returns what must not be: an attack that could not be carried out, or
// that showed nothing since nobody failed, and an attack that we lost and should
// have withstood.
func (r *report) check() error {
	var errs []error
	for _, a := range attacks {
		var failed, gone int
		for _, f := range r.findings[a.name] {
			switch f.Verdict {
			case fails:
				failed++
				if isOurs(a, f.Tool) && a.ours == "" {
					errs = append(errs, fmt.Errorf("%s: %s fails: %s", a.name, f.Tool, f.Evidence))
				}
			case absent:
				gone++
				if r.options.strict {
					errs = append(errs, fmt.Errorf("%s: %s", a.name, f.Evidence))
				}
			case broken:
				errs = append(errs, fmt.Errorf("%s: %s: %s", a.name, f.Tool, f.Evidence))
			}
		}
		if failed == 0 && gone == 0 && !a.measure && r.findings[a.name] != nil && r.options.tool == "" {
			errs = append(errs, fmt.Errorf("%s: no tool failed, so it has shown nothing", a.name))
		}
	}
	return errors.Join(errs...)
}
