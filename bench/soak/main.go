// Soak lets processes fight for PID files for as long as it is told, over ever new
// paths, with waiters that come and give up, and helpers that are killed. It
// notes what its own process uses, and fails if any of that grows, if two ever
// had one file, or if a file is left.
package main

import (
	"flag"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/go-pidfile/pidfile/bench/record"
)

func main() {
	if len(os.Args) > 1 && os.Args[1] == "helper" {
		help(os.Args[2:])
		return
	}
	var s soak
	var out, plots, command string
	flag.DurationVar(&s.length, "for", time.Hour, "how `long`")
	flag.DurationVar(&s.storm, "storm", 400*time.Millisecond, "how `long` one storm lasts")
	flag.IntVar(&s.leak, "leak", 0, "a control that must fail: leak a descriptor every `N` acquisitions")
	flag.StringVar(&out, "o", "", "the `file` for the data, none by default")
	flag.StringVar(&plots, "plots", "", "the `folder` for the plots, none by default")
	flag.StringVar(&command, "command", strings.Join(os.Args, " "), "the command line to record")
	flag.Parse()
	r, err := s.run()
	if err != nil {
		fmt.Fprintln(os.Stderr, "soak:", err)
		os.Exit(2)
	}
	r.Command = command
	ok := tell(r)
	if err := keep(r, out, plots); err != nil {
		fmt.Fprintln(os.Stderr, "soak:", err)
		os.Exit(2)
	}
	if !ok {
		os.Exit(1)
	}
}

// tell prints what came out, and returns whether it is as it should be.
func tell(r *record.Soak) (ok bool) {
	ok = true
	fmt.Printf("%.0f s, %+v\n", r.Seconds, r.Counts)
	for _, v := range r.Verdicts {
		word := "flat"
		if !v.Flat {
			word, ok = "GROWS", false
		}
		fmt.Printf("%-32s %10.2f -> %10.2f, growth %+.2f, allowed %.2f: %s\n", v.What, v.First, v.Last, v.Growth, v.Allowed, word)
	}
	if r.Counts.Overlaps > 0 || r.Counts.Left > 0 {
		fmt.Printf("FAILED: two had one file %d times, %d files left\n", r.Counts.Overlaps, r.Counts.Left)
		ok = false
	}
	if ok {
		fmt.Println("ok: nothing grows")
	}
	return ok
}
