// Attacks carries out the same attacks on many tools that make sure that one
// instance runs, and writes what came of it. See README.md.
package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"
)

// self is this program. It is COMMAND, too.
var self string

func main() {
	var err error
	if self, err = os.Executable(); err == nil {
		err = do(os.Args[1:])
	}
	if err != nil {
		fmt.Fprintf(os.Stderr, "attacks: %v\n", err)
		os.Exit(1)
	}
}

// do is one of the roles that this program plays.
func do(args []string) error {
	role := ""
	if len(args) > 0 {
		role = args[0]
	}
	switch role {
	case "command":
		j, err := jobOf(args[1:])
		if err != nil {
			return err
		}
		return j.work()
	case "library":
		return useLibrary(args[1:])
	case "cell":
		return runCell(args[1:])
	}
	return run(args)
}

// Options of a run.
type options struct {
	quick, strict bool
	page          bool
	attack, tool  string
	out           string
	jobs          int
}

func run(args []string) error {
	var o options
	flags := flag.NewFlagSet("attacks", flag.ExitOnError)
	flags.BoolVar(&o.quick, "quick", false, "fewer and shorter rounds: about a minute")
	flags.BoolVar(&o.strict, "strict", false, "fail if a tool is not installed")
	flags.BoolVar(&o.page, "page", false, "attack nothing: only write docs/COMPARISON.md anew from the results")
	flags.StringVar(&o.attack, "attack", "", "only this attack")
	flags.StringVar(&o.tool, "tool", "", "only tools whose name contains this")
	flags.StringVar(&o.out, "out", "", "the repository to write docs/COMPARISON.md and bench/attacks/results into; nothing is written without it")
	flags.IntVar(&o.jobs, "jobs", 2*runtime.NumCPU(), "light attacks at one time")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if o.out != "" && o.tool != "" {
		return errors.New("-tool leaves tools out: nothing can be written")
	}
	if o.attack != "" {
		if _, ok := attackNamed(o.attack); !ok {
			return fmt.Errorf("there is no attack %q", o.attack)
		}
	}
	r := &report{began: time.Now(), options: o, findings: make(map[string][]finding)}
	if !o.page {
		r.fill()
		r.print(os.Stdout)
	}
	return errors.Join(r.check(), r.write())
}

// A place in a table is one cell to run.
type place struct {
	a    attack
	i    int // of its findings
	tool string
}

// fill carries out all attacks: the heavy ones one by one, and beside them the
// light ones, o.jobs at a time, which sleep mostly. The measures come last, in
// peace.
func (r *report) fill() {
	var heavy, light, measures []place
	for _, p := range r.places() {
		switch {
		case p.a.measure:
			measures = append(measures, p)
		case p.a.heavy:
			heavy = append(heavy, p)
		default:
			light = append(light, p)
		}
	}
	var all sync.WaitGroup
	all.Go(func() { r.suffer(heavy, 1) })
	all.Go(func() { r.suffer(light, r.options.jobs) })
	all.Wait()
	r.suffer(measures, 1)
}

// places lists the cells to run, and makes room for their findings.
func (r *report) places() (places []place) {
	for _, a := range attacks {
		if r.options.attack != "" && a.name != r.options.attack {
			continue
		}
		for _, row := range rowsOf(a) {
			if !strings.Contains(row.name, r.options.tool) {
				continue
			}
			f := finding{Tool: row.name}
			if missing(row.command) {
				f = finding{Tool: row.name, Verdict: absent, Cell: "not installed", Evidence: []string{row.command + " is not installed"}}
			} else {
				places = append(places, place{a, len(r.findings[a.name]), row.name})
			}
			r.findings[a.name] = append(r.findings[a.name], f)
		}
	}
	return places
}

func (r *report) suffer(places []place, jobs int) {
	queue := make(chan place)
	var workers sync.WaitGroup
	for range jobs {
		workers.Go(func() {
			for p := range queue {
				r.findings[p.a.name][p.i] = r.attack(p.a, p.tool) // nobody else has this place
			}
		})
	}
	for _, p := range places {
		queue <- p
	}
	close(queue)
	workers.Wait()
}

// cellLimit ends a cell that hangs.
const cellLimit = 90 * time.Second

// attack runs one cell, and once more if it could not be carried out.
func (r *report) attack(a attack, tool string) finding {
	var f finding
	for range 2 { // not for a better verdict: "error" is none
		var err error
		if f, err = runNamespaced(a, tool, r.options.quick); err != nil {
			f = finding{Tool: tool, Verdict: broken, Cell: "error", Evidence: []string{err.Error()}}
		}
		if f.Verdict != broken {
			return f
		}
		fmt.Fprintf(os.Stderr, "attacks: %s, %s: %s\n", a.name, tool, f.Evidence)
	}
	return f
}

// runNamespaced runs a cell in namespaces of its own.
func runNamespaced(a attack, tool string, quick bool) (f finding, err error) {
	dir, err := os.MkdirTemp("", "attacks")
	if err != nil {
		return f, err
	}
	defer func() { err = errors.Join(err, os.Remove(dir)) }() // its tmpfs was the cell's
	ctx, cancel := context.WithTimeout(context.Background(), cellLimit)
	defer cancel()
	var stdout, stderr bytes.Buffer
	cmd := exec.CommandContext(ctx, self, "cell", a.name, tool, dir, filepath.Dir(self), fmt.Sprint(quick))
	cmd.Env = append(slices.DeleteFunc(os.Environ(), func(v string) bool { return strings.HasPrefix(v, "PIDFILE_HELD=") }), "LC_ALL=C")
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags: syscall.CLONE_NEWPID | syscall.CLONE_NEWNS,
		Pdeathsig:  syscall.SIGKILL,
	}
	if err := cmd.Run(); err != nil {
		return f, fmt.Errorf("%w: %s", err, bytes.TrimSpace(stderr.Bytes()))
	}
	return f, json.Unmarshal(stdout.Bytes(), &f)
}
