package main

// An attack is one column of the tables.
type attack struct {
	name    string // of the file of its results, and for -attack
	group   string
	title   string // over its column
	done    string // what is done
	judged  string // how the verdict is derived
	ours    string // why we may lose; empty: we must not
	measure bool   // a price, with no verdict
	heavy   bool   // wants both CPUs: no two of these at one time

	onStoppers bool
	run        func(*cell) finding
}

func attackNamed(name string) (attack, bool) {
	for _, a := range attacks {
		if a.name == name {
			return a, true
		}
	}
	return attack{}, false
}

const (
	atOnce    = "Starts at the same time"
	killed    = "SIGKILL"
	leftOvers = "Stale files"
	paths     = "Links at the path, and a full disk"
	removal   = "The file is removed by hand"
	commands  = "Signals, and what COMMAND does"
	stopping  = "The stop side: who is signalled, waited for, or called running"
	price     = "Price"
)

var attacks []attack

func init() { // attacks refer to functions that look attacks up
	attacks = []attack{
		{name: "crowd", group: atOnce, title: "no file", heavy: true, run: crowd(false),
			done:   "100 starts wait behind one gate, which opens. There is no file.",
			judged: "The journal tells how many COMMANDs ran at one time. It must be one, and a PID file must name it."},
		{name: "crowd-stale", group: atOnce, title: "stale file", heavy: true, run: crowd(true),
			done:   "The same, with a file that names a dead process.",
			judged: "The same."},
		{name: "torn", group: atOnce, title: "torn reads", heavy: true, run: torn,
			done:   "A reader opens and reads the file without a pause, while COMMANDs that last a millisecond are run one after the other.",
			judged: "Each text must be a whole PID. Empty texts and parts of a PID are counted."},

		{name: "storm-command", group: killed, title: "of COMMAND", heavy: true, run: storm("command"),
			done:   "Four loops start the tool, with COMMANDs of 5 to 25 ms. Two of three COMMANDs get SIGKILL at a random moment.",
			judged: "The journal tells whether two ran at once: from the first to the last thing that each noted. In the end all are killed, and a start must succeed."},
		{name: "storm-wrapper", group: killed, title: "of the wrapper", heavy: true, run: storm("wrapper"),
			done:   "The same, but the wrapper gets the SIGKILL, at a random moment from its start on.",
			judged: "The same. A COMMAND that lost its wrapper goes on, and counts as long as it does."},
		{name: "storm-both", group: killed, title: "of both", heavy: true, run: storm("both"),
			done:   "The same, but both get SIGKILL, in either order.",
			judged: "The same."},

		{name: "reuse-stranger", group: leftOvers, title: "PID is a stranger's", run: reuse(true, false),
			done:   "The tool runs COMMAND, and everything is killed. Then `sleep` is started with the very PID that the file names.",
			judged: "The next start must succeed while the stranger lives."},
		{name: "reuse-same", group: leftOvers, title: "PID is the same program's", run: reuse(false, true),
			done:   "The same, but the PID's new owner is another process of the same program, started ten minutes after the file was written.",
			judged: "The same."},
		{name: "reuse-at-once", group: leftOvers, title: "… reused within seconds", run: reuse(false, false),
			done:   "The same, without the ten minutes.",
			judged: "The same.",
			ours:   "A file's time and a process's start can be compared to about five seconds only. In doubt, an unlocked file that names the same program is respected, for that may be a program that never locks."},
		{name: "zombie", group: leftOvers, title: "PID is a zombie's", run: zombie,
			done:   "The file names a process that has ended, but whose parent has not waited for it.",
			judged: "The next start must succeed."},
		{name: "garbage-start", group: leftOvers, title: "garbage", run: garbageStart,
			done:   "The file is ten minutes old and has, in turn, each of these texts: " + garbageList() + ". Processes of the same program have the PIDs 412 and 434.",
			judged: "Each start must succeed, and signal no process.",
			ours:   "More than 64 bytes that are not a PID are not what is left of a PID file. More likely PIDFILE was forgotten, and the file is COMMAND's: it is left untouched, and the start is refused."},

		{name: "symlink", group: paths, title: "symbolic link", run: link("symlink"),
			done:   "The path is a symbolic link to a file that is none of the tool's business.",
			judged: "Whether the tool starts or refuses: that file must be what it was, in text, mode and existence."},
		{name: "dangling", group: paths, title: "dangling link", run: link("dangling"),
			done:   "The path is a symbolic link to a path where nothing is.",
			judged: "Nothing may be there afterwards either: who made the link must not choose where root creates files."},
		{name: "hardlink", group: paths, title: "hard link", run: link("hardlink"),
			done:   "The path is a hard link to a file that is none of the tool's business.",
			judged: "That file must be what it was, in text and mode."},
		{name: "disk", group: paths, title: "full disk", run: fullDisk,
			done:   "The path is on a tmpfs without a free page.",
			judged: "A refusal is fine, though a lock without a text needs no page and can do better. If COMMAND runs, a second one must not, and a tool that writes PIDs must have written this one. Once there is space, the next start must succeed."},

		{name: "removed", group: removal, title: "second start, at once", run: removed(false),
			done:   "The file is removed under its holder, and a second start is made at once.",
			judged: "It must be refused.",
			ours:   "A lock on a file does not protect its name. The command begins to watch the name after about a third of a second only, the library after a quarter."},
		{name: "removed-later", group: removal, title: "… after a second", run: removed(true),
			done:   "The holder has run for a second; the file is removed; and the second start comes a second later, or once the file is back, for which a tool that promises it has ten seconds.",
			judged: "It must be refused."},
		{name: "removed-killed", group: removal, title: "… and the wrapper killed", run: removedAndKilled,
			done:   "As before, and then the wrapper gets SIGKILL. The second start runs another program: the same could be recognised by the text of the file.",
			judged: "The second start must be refused as long as COMMAND runs.",
			ours:   "The file that the wrapper put back is a new one, and its lock is the wrapper's alone: COMMAND inherited the first."},
		{name: "removed-waiter", group: removal, title: "with a waiter", run: removedWaiter,
			done:   "One holds, another waits; the file is removed; a third starts; the first ends.",
			judged: "The journal tells whether the one that waited, on a file that is gone by now, runs at once with the third."},
		{name: "flock-waits", group: removal, title: "flock(1) waits for it", run: flockWaits,
			done:   "The file is not removed by hand: flock(1) waits for the tool's lock, the tool ends, flock(1) gets the lock and runs, and the tool is started again.",
			judged: "That start must be refused, since flock(1) holds the lock.",
			ours:   "We remove the file when we end, and flock(1) does not notice that the file it has locked has no name any more. Without waiting (-n) it is refused as it should be."},

		{name: "term", group: commands, title: "TERM to the wrapper", run: term,
			done:   "The wrapper gets a TERM.",
			judged: "COMMAND must get it, and must not live on as an orphan."},
		{name: "term-group", group: commands, title: "TERM to the group", run: termGroup,
			done:   "The process group of both gets a TERM, five times over, with new instances.",
			judged: "COMMAND notes how often a TERM arrived. It must be once.",
			ours:   "To the wrapper, a kill of the whole group looks like a kill of itself, which it must pass on. (Ctrl-C is told apart.)"},
		{name: "stray", group: commands, title: "stray child", run: strayChild,
			done:   "COMMAND ends in good order, but leaves a child behind that knows nothing of the lock.",
			judged: "The next start must succeed."},
		{name: "background", group: commands, title: "goes into the background", run: inBackground,
			done:   "COMMAND starts a child that does the work, and ends.",
			judged: "The reverse of the stray child: a second start must be refused while the child works. The kernel cannot know which of the two is meant, so no tool wins both.",
			ours:   "A COMMAND that ended has ended: its file goes. Run it in the foreground, or by `run --exec`."},
		{name: "closes", group: commands, title: "closes all descriptors", run: habit(closes),
			done:   "COMMAND closes all descriptors from 3 on, as many daemons do.",
			judged: "A second start must be refused."},
		{name: "reads", group: commands, title: "reads the file", run: habit(reads),
			done:   "COMMAND opens the file, reads it and closes it.",
			judged: "A second start must be refused. (An fcntl(2) lock is lost by any close of the file.)"},

		{name: "stop", group: stopping, title: "the true holder", onStoppers: true, run: stopTrue,
			done:   "The file is the one of a running instance, locked by `pidfile run` (by daemon(1) for its own --stop).",
			judged: "The instance must be found: TERM arrives, the wait lasts until it has ended, the question is answered with yes. This is the check that the columns to the right mean something."},
		{name: "stop-stranger", group: stopping, title: "PID is a stranger's", onStoppers: true, run: stopReused(true),
			done:   "That instance is killed, and `sleep` gets its PID. The file is ten minutes old.",
			judged: "The stranger must not be signalled, waited for, or called the holder."},
		{name: "stop-same", group: stopping, title: "the same program's", onStoppers: true, run: stopReused(false),
			done:   "The same, but the PID's new owner is another process of the same program.",
			judged: "The same."},
		{name: "stop-foreign", group: stopping, title: "a user's file names root's process", onStoppers: true, run: stopForeign,
			done:   "The file belongs to another user, who wrote the PID of a process of root's into it. Root calls the tool.",
			judged: "The process must not be signalled."},
		{name: "garbage-stop", group: stopping, title: "garbage", onStoppers: true, run: garbageStop,
			done:   "The file has, in turn, each of these texts: " + garbageList() + ". Processes of the same program have the PIDs 412 and 434, and 412 is the leader of the group that the tool is started in.",
			judged: "For no text may any of them be signalled, waited for, or called the holder."},

		{name: "cost", group: price, title: "start and end of `true`, against flock(1)", measure: true, run: cost,
			done:   "Each tool runs `true`, in turn with flock(1), without any contention.",
			judged: "The ratio of the lower quartiles, without the time that the driver takes to start a process. Tools that leave before COMMAND has run, and libraries, cannot be compared so."},
		{name: "refusal", group: price, title: "a refused start", measure: true, run: refusal,
			done:   "Each tool is started while an instance of its own runs, in turn with a flock(1) that is refused, too.",
			judged: "The lower quartile, without the time that the driver takes to start a process. Libraries cannot be compared so."},
	}
}
