package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/go-pidfile/pidfile"
	"github.com/spf13/cobra"
)

// A finding is one line of doctor.
type finding struct {
	ID   string `json:"id"` // for programs
	What string `json:"what"`
	OK   bool   `json:"ok"`
	Hint string `json:"hint,omitempty"` // what to change; a warning if OK
}

func doctorCommand() *cobra.Command {
	var asJSON bool
	c := &cobra.Command{
		Use:   "doctor [flags] [DIR or PIDFILE]",
		Short: "Try whether PID files work in a directory",
		Long: `Try, with two processes, whether PID files work in DIR (by default where names
live): whether a held file keeps the other process out, whether it gets in after
a release, and whether a file can be created locked. Then examine what PID files
depend on: the file system, the directory's owner and mode, /proc, the PID
namespace. The file that was tried is removed again.

Exit codes:
  0    fine
  1    not fine: the lines before the last say what to change
  125  the command line is wrong, or there is no such DIR`,
		Example: `  pidfile doctor
  pidfile doctor /srv/app/run`,
		Args: func(c *cobra.Command, args []string) error {
			if len(args) > 1 {
				return usage(c, errors.New("doctor takes one DIR or PIDFILE"))
			}
			return nil
		},
		RunE: func(c *cobra.Command, args []string) error {
			dir, file, err := examined(args)
			if err != nil {
				return err
			}
			found := examine(dir, file)
			if asJSON {
				printJSON(found)
			} else {
				printFindings(dir, found)
			}
			for _, f := range found {
				if !f.OK {
					return exit(1)
				}
			}
			return nil
		},
		DisableFlagsInUseLine: true,
	}
	c.Flags().BoolVar(&asJSON, "json", false, "print a JSON array of objects: id, what, ok, hint")
	return c
}

// examined returns the directory to be examined, and the file if one was named: a
// path is a file's if that exists or ends in .pid.
func examined(args []string) (dir, file string, err error) {
	if len(args) == 0 {
		if dir, err = ownDir(); err == nil {
			err = createOwnDir(filepath.Join(dir, "a.pid"))
		}
		return dir, "", err
	}
	arg := args[0]
	fi, err := os.Stat(arg)
	switch {
	case err == nil && fi.IsDir():
		dir, err = filepath.Abs(arg)
		return dir, "", err
	case err == nil || strings.HasSuffix(arg, ".pid"):
	case strings.ContainsRune(arg, filepath.Separator):
		return "", "", withHint(fmt.Errorf("%s: no such directory", arg), "a PIDFILE exists or ends in .pid")
	default:
		if path, err := resolve(arg); err == nil {
			if _, err := os.Lstat(path); err != nil {
				return "", "", fmt.Errorf("%s: not a directory, and there is no %s", arg, path)
			}
		}
	}
	if file, err = resolve(arg); err != nil {
		return "", "", err
	}
	dir = filepath.Dir(file)
	if _, err := os.Stat(dir); err != nil {
		return "", "", err
	}
	return dir, file, nil
}

func printFindings(dir string, found []finding) {
	var hints []string
	fine := true
	for _, f := range found {
		mark := "ok  "
		switch {
		case !f.OK:
			mark, fine = "FAIL", false
		case f.Hint != "":
			mark = "note"
		}
		printLine("%s  %s", mark, f.What)
		if f.Hint != "" {
			hints = append(hints, f.Hint)
		}
	}
	for _, h := range hints {
		printLine("      - %s", h)
	}
	if fine {
		printLine("%s: fine", dir)
	} else {
		printLine("%s: not fine: see above for what to change", dir)
	}
}

func examine(dir, file string) []finding {
	found := []finding{tryLocks(dir)}
	found = append(found, examineSystem(dir)...)
	if file != "" {
		found = append(found, examineFile(file))
	}
	return found
}

// examineFile tells about the PID file itself.
func examineFile(file string) finding {
	s, err := pidfile.Inspect(file)
	if errors.Is(err, fs.ErrPermission) || s.State == pidfile.Unknown {
		return finding{ID: "file", What: fmt.Sprintf("%s: %s", file, strings.Join(s.Evidence, "; ")),
			Hint: "run doctor as the file's owner or as root"}
	}
	return finding{ID: "file", What: fmt.Sprintf("%s: %s: %s", file, s.State, strings.Join(s.Evidence, "; ")), OK: true}
}

// tryLocks holds a file and lets a second process try to get it: first in vain,
// then, after our release, with success.
func tryLocks(dir string) finding {
	bad := func(err error) finding {
		hint := "use a directory that you may write, on a local file system, as /run"
		return finding{ID: "locks", What: fmt.Sprintf("two processes take one file in turns: %v", err), Hint: hint}
	}
	path := filepath.Join(dir, fmt.Sprintf(".pidfile-doctor-%d.pid", os.Getpid()))
	f, err := pidfile.Acquire(path)
	if err != nil {
		return bad(err)
	}
	defer f.Release() // twice is harmless
	self, err := os.Executable()
	if err != nil {
		return bad(err)
	}
	other := exec.Command(self, otherCommand, path)
	stdin, err := other.StdinPipe()
	if err != nil {
		return bad(err)
	}
	stdout, err := other.StdoutPipe()
	if err != nil {
		return bad(err)
	}
	other.Stderr = os.Stderr
	if err := other.Start(); err != nil {
		return bad(err)
	}
	defer other.Wait() // its answers tell all
	defer stdin.Close()
	answers := bufio.NewScanner(stdout)
	if got := next(answers); got != fmt.Sprintf("refused by %d", os.Getpid()) {
		return bad(fmt.Errorf("the second process, while the first held the file: %s", got))
	}
	if err := f.Release(); err != nil {
		return bad(err)
	}
	if _, err := io.WriteString(stdin, "released\n"); err != nil {
		return bad(err)
	}
	if got := next(answers); got != "acquired" {
		return bad(fmt.Errorf("the second process, after the release: %s", got))
	}
	return finding{ID: "locks", What: "two processes take one file in turns, never at once", OK: true}
}

func next(answers *bufio.Scanner) string {
	if answers.Scan() {
		return answers.Text()
	}
	return "no answer"
}

// otherCommand is the second process of doctor.
const otherCommand = "doctor-other"

func otherProcess() *cobra.Command {
	return &cobra.Command{
		Use:    otherCommand + " PIDFILE",
		Hidden: true,
		Args:   cobra.ExactArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			in := bufio.NewScanner(os.Stdin)
			for range 2 {
				f, err := pidfile.Acquire(args[0])
				var running *pidfile.AlreadyRunningError
				switch {
				case errors.As(err, &running):
					fmt.Printf("refused by %d\n", running.PID)
				case err != nil:
					fmt.Println(err)
				default:
					fmt.Println("acquired")
					return f.Release()
				}
				if !in.Scan() {
					return nil // doctor has given up
				}
			}
			return nil
		},
	}
}
