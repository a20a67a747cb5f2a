package main

// All output is here: results go to stdout, everything else to stderr. Paths,
// command lines, logs and what a service says of itself are other people's text,
// so everything is made printable where it is written.

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"
	"unicode"
	"unicode/utf16"

	"github.com/go-pidfile/pidfile"
	"github.com/go-pidfile/pidfile/internal/proc"
	"github.com/go-pidfile/pidfile/internal/supervise"
	xterm "golang.org/x/term" // the tests have a function term
)

// stdout is standard output; execute tells if something could not be written.
var stdout results

type results struct{ err error }

// Write writes text, with control characters shown as '?'.
func (r *results) Write(p []byte) (int, error) {
	r.writeRaw(printableText(string(p)))
	return len(p), r.err
}

// writeRaw writes what is safe already, and is meant as it is: JSON, colours.
func (r *results) writeRaw(s string) {
	if _, err := os.Stdout.WriteString(s); r.err == nil {
		r.err = err
	}
}

// printLine prints a line of the result.
func printLine(format string, args ...any) {
	fmt.Fprintln(&stdout, printable(fmt.Sprintf(format, args...)))
}

// printJSON prints v for programs, and harmlessly for terminals.
func printJSON(v any) {
	var text strings.Builder
	e := json.NewEncoder(&text)
	e.SetIndent("", "  ")
	if err := e.Encode(v); err != nil {
		printError(err)
		return
	}
	stdout.writeRaw(escaped(text.String()))
}

// escaped escapes in JSON what package json leaves and a terminal may obey: DEL,
// the control characters after it, and what turns the direction of the text. They
// can stand in strings only.
func escaped(text string) string {
	var b strings.Builder
	for _, r := range text {
		switch {
		case r == '\n' || !unicode.In(r, unicode.Cc, unicode.Cf):
			b.WriteRune(r)
		case r > 0xffff:
			high, low := utf16.EncodeRune(r)
			fmt.Fprintf(&b, `\u%04x\u%04x`, high, low)
		default:
			fmt.Fprintf(&b, `\u%04x`, r)
		}
	}
	return b.String()
}

// sayLine prints a line to stderr.
func sayLine(s string) { fmt.Fprintln(os.Stderr, printable(s)) }

// withHint is err, and what helps.
func withHint(err error, hint string) error { return &hintError{err, hint} }

type hintError struct {
	error
	hint string
}

func (e *hintError) Unwrap() error { return e.error }
func (e *hintError) Hint() string  { return e.hint }

// hintOf says what helps against an error; "" if that is not known.
func hintOf(err error) string {
	var e interface{ Hint() string }
	if errors.As(err, &e) {
		return e.Hint()
	}
	return ""
}

// printError prints an error, and what helps if that is known.
func printError(err error) {
	sayLine("pidfile: error: " + err.Error())
	if s := hintOf(err); s != "" {
		hint(s)
	}
}

// hint says what helps.
func hint(s string) { sayLine("pidfile: hint: " + s) }

// infof tells something that is not an error.
func infof(format string, args ...any) {
	sayLine("pidfile: " + fmt.Sprintf(format, args...))
}

// describe describes the process behind a PID file for a sentence.
func describe(s pidfile.Status) string {
	if s.PID == 0 {
		return noPID
	}
	p := s.Process
	if p == nil {
		return fmt.Sprintf("PID %d", s.PID)
	}
	return fmt.Sprintf("PID %d (%s), %s", s.PID, commandLine(p, 60), since(p.Started))
}

// noPID is what holds a file that has no PID in it.
const noPID = "a process that left no PID"

// processName is a PID and, if it can be seen, what runs there.
func processName(pid int) string {
	if pid == 0 {
		return noPID
	}
	i, err := proc.Lookup(pid)
	line := strings.TrimRight(strings.Join(i.Args, " "), " ")
	if err != nil || line == "" {
		return fmt.Sprintf("PID %d", pid)
	}
	return fmt.Sprintf("PID %d (%s)", pid, cut(printable(line), 60))
}

// commandLine is a process's command line, cut to a width and safe to print.
func commandLine(p *pidfile.ProcessInfo, width int) string {
	line := strings.Join(p.Args, " ")
	if line == "" {
		line = p.Executable
	}
	return cut(printable(line), width)
}

// printable shows control characters as '?': a command line is its user's text,
// and must not talk to our terminal.
func printable(s string) string { return strings.Map(visible, s) }

// printableText is printable for text of several lines.
func printableText(s string) string {
	return strings.Map(func(r rune) rune {
		if r == '\n' || r == '\t' {
			return r
		}
		return visible(r)
	}, s)
}

// visible is r, or '?' for what a terminal may obey.
func visible(r rune) rune {
	if r == unicode.ReplacementChar || !unicode.IsPrint(r) {
		return '?'
	}
	return r
}

func since(t time.Time) string { return "for " + age(time.Since(t)) }

// age is a duration in its one or two largest units.
func age(d time.Duration) string {
	s := int(max(d, 0).Seconds())
	switch {
	case s < 60:
		return fmt.Sprintf("%ds", s)
	case s < 3600:
		return fmt.Sprintf("%dm%02ds", s/60, s%60)
	case s < 86400:
		return fmt.Sprintf("%dh%02dm", s/3600, s/60%60)
	}
	return fmt.Sprintf("%dd%02dh", s/86400, s/3600%24)
}

// isTerminal reports whether f is a terminal.
func isTerminal(f *os.File) bool {
	fi, err := f.Stat()
	return err == nil && fi.Mode()&os.ModeCharDevice != 0 && xterm.IsTerminal(int(f.Fd()))
}

// terminalWidth returns the columns of a terminal, or 80.
func terminalWidth(f *os.File) int {
	width, _, err := xterm.GetSize(int(f.Fd()))
	if err != nil || width == 0 {
		return 80
	}
	return width
}

// A progress line shows on a terminal, in place, what is waited for. Elsewhere it
// is nil, and silent. Its methods are for one goroutine at a time.
type progress struct {
	text       func(waited time.Duration) string
	start      time.Time
	stop, done chan struct{} // nil while nothing is shown
}

// progressDelay is how long a wait may take before it is shown: a short one would
// only flash.
const progressDelay = 300 * time.Millisecond

// showProgress shows text(waited) every second until End.
func showProgress(text func(waited time.Duration) string) *progress {
	if !isTerminal(os.Stderr) || os.Getenv("TERM") == "dumb" {
		return nil
	}
	p := &progress{text: text, start: time.Now()}
	p.Resume()
	return p
}

// Resume shows the line again after End.
func (p *progress) Resume() {
	if p == nil || p.stop != nil {
		return
	}
	p.stop, p.done = make(chan struct{}), make(chan struct{})
	go p.run(p.stop, p.done)
}

// run draws only while our process group is in the foreground: in the background
// it would draw over what the user types.
func (p *progress) run(stop, done chan struct{}) {
	defer close(done)
	drawn := false
	next := time.NewTimer(progressDelay)
	defer next.Stop()
	for {
		select {
		case <-next.C:
		case <-stop:
			if drawn && mayDraw() {
				fmt.Fprint(os.Stderr, "\r\x1b[K")
			}
			return
		}
		if text := p.text(time.Since(p.start)); mayDraw() {
			drawn = true
			width := terminalWidth(os.Stderr)
			fmt.Fprintf(os.Stderr, "\r%s\x1b[K", cut(printable("pidfile: "+text), width-1))
		}
		next.Reset(time.Second - time.Since(p.start)%time.Second)
	}
}

func mayDraw() bool { return supervise.InForeground(int(os.Stderr.Fd())) }

// End takes the line away.
func (p *progress) End() {
	if p == nil || p.stop == nil {
		return
	}
	close(p.stop)
	<-p.done
	p.stop = nil
}

// waiting is the text of a progress line, with the time first, so that a narrow
// terminal does not cut it off. A limit of 0 is none.
func waiting(waited, limit time.Duration, what string) string {
	if limit == 0 {
		return fmt.Sprintf("waiting %s for %s", age(waited), what)
	}
	return fmt.Sprintf("waiting %s of %s for %s", age(waited), span(limit), what)
}

// span is a duration without the units that are 0: "1m", not "1m0s".
func span(d time.Duration) string {
	s := d.String()
	for _, zero := range []string{"m0s", "h0m"} {
		if strings.HasSuffix(s, zero) {
			s = s[:len(s)-2]
		}
	}
	return s
}

// target describes the process that is waited for.
func target(s pidfile.Status) string {
	if s.Process == nil {
		return describe(s)
	}
	return fmt.Sprintf("PID %d (%s, up %s)", s.PID, commandLine(s.Process, 40), age(time.Since(s.Process.Started)))
}
