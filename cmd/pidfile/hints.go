package main

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// usage is an error in the command line: nothing has been touched.
func usage(c *cobra.Command, err error) error {
	var (
		invalid *pflag.InvalidValueError
		unknown *pflag.NotExistError
		number  *strconv.NumError
	)
	hint := hintOf(err)
	if hint == "" && errors.As(err, &unknown) {
		hint = flagHint(c, unknown)
	}
	if errors.As(err, &invalid) {
		cause := invalid.Unwrap()
		if errors.As(cause, &number) {
			cause = fmt.Errorf("invalid value %q", invalid.GetValue())
		}
		err = fmt.Errorf("--%s: %w", invalid.GetFlag().Name, cause)
	}
	path := c.CommandPath()
	if !c.HasParent() && c.Name() != "pidfile" { // "run" on its own: see dispatch
		path = "pidfile " + path
	}
	return withHint(err, cmp.Or(hint, "see '"+path+" --help'"))
}

// synonyms are the names that other tools have for commands.
var synonyms = map[string]string{
	"kill": "stop", "term": "stop", "ps": "list", "ls": "list", "rm": "clean", "remove": "clean",
	"exec": "run", "info": "status", "show": "status", "check": "status",
}

func unknownCommand(root *cobra.Command, name string) error {
	var names []string
	for _, c := range root.Commands() {
		if !c.Hidden {
			names = append(names, c.Name())
		}
	}
	err := fmt.Errorf("unknown command %q", name)
	if near := cmp.Or(synonyms[name], nearest(name, names)); near != "" {
		return withHint(err, "did you mean '"+near+"'?")
	}
	return usage(root, err)
}

// flagHint is what helps against an unknown flag: the one that was meant, or what
// is done here in the place of a flag of flock(1).
func flagHint(c *cobra.Command, err *pflag.NotExistError) string {
	name, short := err.GetSpecifiedName(), err.GetSpecifiedShortnames()
	if short == "" {
		var names []string
		c.Flags().VisitAll(func(f *pflag.Flag) {
			if !f.Hidden {
				names = append(names, f.Name)
			}
		})
		if near := nearest(name, names); near != "" {
			return "did you mean '--" + near + "'?"
		}
	}
	if c.Flags().Lookup("conflict-exit-code") == nil { // neither run nor start
		return ""
	}
	switch {
	case name == "n" || name == "nb" || name == "nonblock":
		return "leave -n out: without --wait, it fails at once if it is running"
	case name == "c" || name == "command":
		return "a command line for the shell is: PIDFILE sh -c 'COMMAND LINE'"
	case isNumber(name):
		return "--wait takes no value: '--timeout 5' waits up to 5 seconds"
	}
	return ""
}

// nearest returns the word that is most like name, or "".
func nearest(name string, words []string) string {
	if name == "" || len(words) == 0 {
		return ""
	}
	best := slices.MinFunc(words, func(a, b string) int { return cmp.Compare(distance(name, a), distance(name, b)) })
	for _, w := range words { // what was only begun
		if len(name) > 2 && strings.HasPrefix(w, name) {
			return w
		}
	}
	if distance(name, best) > max(1, len(best)/3) {
		return ""
	}
	return best
}

// distance is how many letters must be added, left out, changed or swapped with
// their neighbour to make b of a.
func distance(a, b string) int {
	d := make([][]int, len(a)+1)
	for i := range d {
		d[i] = make([]int, len(b)+1)
		d[i][0] = i
		for k := range b {
			switch {
			case i == 0:
				d[0][k+1] = k + 1
				continue
			case a[i-1] == b[k]:
				d[i][k+1] = d[i-1][k]
			default:
				d[i][k+1] = 1 + min(d[i-1][k], d[i-1][k+1], d[i][k])
			}
			if i > 1 && k > 0 && a[i-1] == b[k-1] && a[i-2] == b[k] {
				d[i][k+1] = min(d[i][k+1], d[i-2][k-1]+1)
			}
		}
	}
	return d[len(a)][len(b)]
}

// isNumber reports whether a PIDFILE argument has digits alone: it is a mistake for
// a PID or for a value of the flag before it.
func isNumber(arg string) bool { return arg != "" && strings.Trim(arg, "0123456789") == "" }

func errNumber(arg string) error {
	return fmt.Errorf("PIDFILE %q is a number: use a name or a path", arg)
}
