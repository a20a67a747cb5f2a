package main

import (
	"os/exec"
)

// A command is a peer that runs COMMAND as the one instance.
type command struct {
	name, pkg, detail string
	program           string
	argv              func(program, path string, command []string) []string // fails at once
	wait              func(program, path string, command []string) []string // nil if it cannot
	background        bool                                                  // it does not wait for COMMAND
}

// floorCommand is COMMAND alone.
const floorCommand = "COMMAND alone"

// flags returns an argv: the program, flags, the path, and COMMAND.
func flags(flags ...string) func(string, string, []string) []string {
	return func(program, path string, command []string) []string {
		argv := []string{program}
		for _, f := range flags {
			if f == "PATH" {
				f = path
			}
			argv = append(argv, f)
		}
		return append(argv, command...)
	}
}

// commands is every command, the floor first.
var commands = []command{
	{name: floorCommand, detail: "fork, exec, wait", argv: func(_, _ string, command []string) []string { return command }},
	{name: "pidfile run", program: "pidfile", detail: "run PIDFILE COMMAND; to wait: run --wait",
		argv: flags("run", "PATH"), wait: flags("run", "--wait", "PATH")},
	{name: "pidfile run --exec", program: "pidfile", detail: "becomes COMMAND",
		argv: flags("run", "--exec", "PATH"), wait: flags("run", "--exec", "--wait", "PATH")},
	{name: "flock(1)", pkg: "util-linux", program: "flock", detail: "-n FILE; to wait: FILE",
		argv: flags("-n", "PATH"), wait: flags("PATH")},
	{name: "flock(1) -F", pkg: "util-linux", program: "flock", detail: "-n -F FILE: becomes COMMAND",
		argv: flags("-n", "-F", "PATH"), wait: flags("-F", "PATH")},
	{name: "setlock", pkg: "daemontools", program: "setlock", detail: "-n FILE: becomes COMMAND",
		argv: flags("-n", "PATH"), wait: flags("-N", "PATH")},
	{name: "chpst -L", pkg: "runit", program: "chpst", detail: "-L FILE; to wait: -l FILE; becomes COMMAND",
		argv: flags("-L", "PATH"), wait: flags("-l", "PATH")},
	{name: "with-lock-ex", pkg: "chiark-utils-bin", program: "with-lock-ex", detail: "-f FILE; to wait: -w FILE; becomes COMMAND",
		argv: flags("-f", "PATH"), wait: flags("-w", "PATH")},
	{name: "dotlockfile", pkg: "liblockfile-bin", program: "dotlockfile", detail: "-l -p -r 0 -P FILE; to wait: -r -1 -i 1, which looks once a second",
		argv: flags("-l", "-p", "-r", "0", "-P", "PATH"), wait: flags("-l", "-p", "-r", "-1", "-i", "1", "-P", "PATH")},
	{name: "start-stop-daemon", pkg: "dpkg", program: "start-stop-daemon", detail: "-S -q -m -p PIDFILE -x COMMAND: becomes COMMAND",
		argv: func(program, path string, command []string) []string {
			return append([]string{program, "-S", "-q", "-m", "-p", path, "-x", command[0], "--"}, command[1:]...)
		}},
	{name: "daemon(1) -f", pkg: "daemon", program: "daemon", detail: "-N -U -f -F PIDFILE --",
		argv: flags("-N", "-U", "-f", "-F", "PATH", "--")},
	{name: "daemonize", pkg: "daemonize", program: "daemonize", detail: "-p PIDFILE -l PIDFILE; does not wait for COMMAND",
		argv: flags("-p", "PATH", "-l", "PATH"), background: true},
}

// installed returns the commands that are there, with their paths.
func (b *bench) installed() []command {
	var there []command
	for _, c := range commands {
		switch c.program {
		case "":
		case "pidfile":
			c.program = b.tool("pidfile")
		default:
			path, err := exec.LookPath(c.program)
			if err != nil {
				continue
			}
			c.program = path
		}
		there = append(there, c)
	}
	return there
}
