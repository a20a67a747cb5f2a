package main

// A stopper acts on the process that a PID file names.
type stopper struct {
	name    string
	command string
	origin  string
	argv    []string // with PATH and SELF
	does    string
	starter string // the tool that made the file; pidfile run if empty
	ours    bool
}

// What a stopper does.
const (
	signals = "signals"
	waits   = "waits"
	asks    = "asks"
)

func stoppers() []stopper {
	return []stopper{
		{name: "pidfile stop", argv: []string{"BIN/pidfile", "stop", "-t", "300ms", "--no-kill", "PATH"}, does: signals, ours: true},
		{name: "start-stop-daemon --stop --exec", command: "start-stop-daemon", origin: "dpkg", does: signals,
			argv: []string{"start-stop-daemon", "--stop", "--pidfile", "PATH", "--exec", "SELF"}},
		{name: "start-stop-daemon --stop", command: "start-stop-daemon", origin: "dpkg", does: signals,
			argv: []string{"start-stop-daemon", "--stop", "--pidfile", "PATH"}},
		{name: "daemon --stop", command: "daemon", origin: "daemon", does: signals, starter: "daemon(1)",
			argv: []string{"daemon", "-N", "-n", "a", "-F", "PATH", "--stop"}},
		{name: "pkill -F", command: "pkill", origin: "procps", does: signals, argv: []string{"pkill", "-F", "PATH"}},
		{name: "pkill -L -F", command: "pkill", origin: "procps", does: signals, argv: []string{"pkill", "-L", "-F", "PATH"}},
		{name: "kill $(cat f)", command: "sh", origin: "dash", does: signals, argv: []string{"/bin/sh", "-c", `kill $(cat "$0")`, "PATH"}},
		{name: "pidfile wait", argv: []string{"BIN/pidfile", "wait", "PATH"}, does: waits, ours: true},
		{name: "pidwait -F", command: "pidwait", origin: "procps", does: waits, argv: []string{"pidwait", "-F", "PATH"}},
		{name: "pidfile status", argv: []string{"BIN/pidfile", "status", "PATH"}, does: asks, ours: true},
		{name: "start-stop-daemon --status", command: "start-stop-daemon", origin: "dpkg", does: asks,
			argv: []string{"start-stop-daemon", "--status", "--pidfile", "PATH", "--exec", "SELF"}},
		{name: "daemon --running", command: "daemon", origin: "daemon", does: asks, starter: "daemon(1)",
			argv: []string{"daemon", "-N", "-n", "a", "-F", "PATH", "--running"}},
		{name: "pgrep -F", command: "pgrep", origin: "procps", does: asks, argv: []string{"pgrep", "-F", "PATH"}},
		{name: "pgrep -L -F", command: "pgrep", origin: "procps", does: asks, argv: []string{"pgrep", "-L", "-F", "PATH"}},
		{name: "control: does nothing", command: "true", origin: "coreutils", does: signals, argv: []string{"/bin/true"}},
	}
}
