package main

import (
	"os/exec"
	"runtime/debug"
	"strings"
)

// A tool makes sure that one instance runs, or is said to.
type tool struct {
	name    string
	command string // must be installed; "": part of this program
	origin  string // Debian's package, or the Go module
	note    string // what a reader should know

	// start is the command line that runs COMMAND as the one instance, or is
	// refused at once. wait is the same, but waits; nil: it cannot.
	start, wait func(c *cell, j job) []string
	// bystander is the command line of a process of the same program, which has
	// nothing to do with the file.
	bystander func(c *cell, j job) []string

	wrapper  bool // stays COMMAND's parent
	detaches bool // ends once COMMAND is on its way
	hasPID   bool // the file names somebody
	flocks   bool // locks the file by flock(2)
	restores bool // says that it puts a removed file back
	library  bool // in the process itself: there is no COMMAND
	ours     bool
	control  bool
}

const python = "/usr/bin/python3"

func command(_ *cell, j job) []string { return append([]string{self, "command"}, j.args()...) }

// of makes a start from the words before COMMAND; PATH stands for the PID file.
func of(words ...string) func(*cell, job) []string {
	return func(c *cell, j job) []string {
		return append(c.expand(words), command(c, j)...)
	}
}

// expand puts the cell's values for PATH, SELF and so on.
func (c *cell) expand(words []string) []string {
	r := strings.NewReplacer("PATH", c.path, "SELF", self, "BIN", c.bin)
	var argv []string
	for _, w := range words {
		argv = append(argv, r.Replace(w))
	}
	if exe, err := exec.LookPath(argv[0]); err == nil {
		argv[0] = exe
	}
	return argv
}

func library(name, module string) tool {
	with := func(verb string) func(*cell, job) []string {
		return func(c *cell, j job) []string {
			return append([]string{self, "library", name, verb, c.path}, j.args()...)
		}
	}
	return tool{origin: module, start: with("start"), wait: with("wait"), bystander: command, hasPID: true, library: true}
}

func pythonPeer(name string) tool {
	with := func(name string) func(*cell, job) []string {
		return func(c *cell, j job) []string {
			return append([]string{python, "-IS", c.bin + "/peers.py", name, c.path}, j.args()...)
		}
	}
	return tool{name: name, command: python, origin: "python3", start: with(name), bystander: with("bystander"), hasPID: true, library: true}
}

func tools() []tool {
	ours := library("pidfile", "github.com/go-pidfile/pidfile")
	ours.name, ours.ours, ours.flocks, ours.restores = "pidfile, Go library", true, true, true
	ours.note = "The holder calls Restore when Lost says so"
	gofrs := library("gofrs", "github.com/gofrs/flock")
	gofrs.name, gofrs.hasPID, gofrs.flocks = "gofrs/flock", false, true
	nightlyone := library("nightlyone", "github.com/nightlyone/lockfile")
	nightlyone.name, nightlyone.wait = "nightlyone/lockfile", nil
	moby := library("moby", "github.com/docker/docker")
	moby.name, moby.wait = "moby pkg/pidfile", nil
	trbs := pythonPeer("trbs-pid")
	const algorithm = "Its algorithm in Python, from its description: it is not in Debian"
	trbs.note = algorithm
	trbs.name, trbs.flocks = "trbs/pid (algorithm)", true
	ancestor := pythonPeer("python-pidfile")
	ancestor.note = algorithm
	ancestor.name = "python-pidfile (algorithm)"

	return []tool{
		{name: "pidfile run", start: of("BIN/pidfile", "run", "PATH", "--"), wait: of("BIN/pidfile", "run", "--wait", "PATH", "--"),
			bystander: command, wrapper: true, hasPID: true, flocks: true, restores: true, ours: true},
		ours,
		{name: "flock(1)", command: "flock", origin: "util-linux", start: of("flock", "-n", "PATH"), wait: of("flock", "PATH"),
			bystander: command, wrapper: true, flocks: true},
		{name: "start-stop-daemon", command: "start-stop-daemon", origin: "dpkg", bystander: command, hasPID: true, detaches: true,
			start: func(c *cell, j job) []string {
				words := c.expand([]string{"start-stop-daemon", "--start", "--pidfile", "PATH", "--make-pidfile", "--background", "--exec", "SELF", "--", "command"})
				return append(words, j.args()...)
			}},
		{name: "daemonize", command: "daemonize", origin: "daemonize", start: of("daemonize", "-p", "PATH", "-l", "PATH"),
			bystander: command, hasPID: true, detaches: true, flocks: true},
		{name: "daemon(1)", command: "daemon", origin: "daemon", start: of("daemon", "-N", "-U", "-f", "-n", "a", "-F", "PATH", "--"),
			bystander: command, hasPID: true, wrapper: true, note: "`-U` allows a COMMAND that lies below /tmp"},
		{name: "chpst -L", command: "chpst", origin: "runit", start: of("chpst", "-L", "PATH"), wait: of("chpst", "-l", "PATH"),
			bystander: command, flocks: true},
		{name: "setlock -n", command: "setlock", origin: "daemontools", start: of("setlock", "-n", "PATH"), wait: of("setlock", "PATH"),
			bystander: command, flocks: true},
		{name: "with-lock-ex -f", command: "with-lock-ex", origin: "chiark-utils-bin", start: of("with-lock-ex", "-f", "PATH"), wait: of("with-lock-ex", "-w", "PATH"),
			bystander: command},
		{name: "dotlockfile -p -r 0", command: "dotlockfile", origin: "liblockfile-bin", start: of("dotlockfile", "-l", "-p", "-P", "-r", "0", "PATH"),
			note: "With `-r 0` a stale file without a valid PID is never removed; with `-r 2` it is, once it is five minutes old",
			wait: of("dotlockfile", "-l", "-p", "-P", "-r", "-1", "-i", "1", "PATH"), bystander: command, wrapper: true, hasPID: true},
		ancestor,
		trbs,
		gofrs,
		nightlyone,
		moby,
		{name: "control: sh, test and write", start: of("/bin/sh", "BIN/test-and-write.sh", "PATH"), bystander: command,
			wrapper: true, hasPID: true, control: true},
	}
}

// missing returns whether the tool is not installed.
func missing(command string) bool {
	if command == "" {
		return false
	}
	_, err := exec.LookPath(command)
	return err != nil
}

// version returns what was attacked.
func version(command, origin string) string {
	if command != "" {
		out, err := exec.Command("dpkg-query", "-W", "-f", "${Version}", origin).Output()
		if err != nil {
			return "version unknown"
		}
		return "Debian's " + origin + " " + string(out)
	}
	info, ok := debug.ReadBuildInfo()
	for i := 0; ok && i < len(info.Deps); i++ {
		if d := info.Deps[i]; d.Path == origin && d.Replace == nil {
			return d.Path + " " + d.Version
		}
	}
	return "of this repository"
}
