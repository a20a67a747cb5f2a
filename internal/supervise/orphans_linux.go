package supervise

import (
	"bytes"
	"fmt"
	"os"
	"strconv"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Orphans are the processes that COMMAND left behind and that became our
// children: because we are PID 1 of a PID namespace, or their subreaper,
// PR_SET_CHILD_SUBREAPER(2const). Only children are ever signalled: they keep
// their PIDs until we reap them. Their own children follow when they end.
//
// What was there before COMMAND, since a shell had started it and then became
// pidfile by exec, is none of them: it is reaped when it ends, and no more. What
// such a process starts later, and leaves behind, cannot be told from COMMAND's.
type orphans struct {
	alone  bool           // COMMAND has ended
	last   syscall.Signal // TERM or KILL: what is orphaned later gets it as well
	told   map[int]syscall.Signal
	before map[int]bool // our descendants when there was no COMMAND
}

// newOrphans is called before COMMAND is started.
func newOrphans() *orphans {
	o := &orphans{before: map[int]bool{}}
	for next := offspring("self"); len(next) > 0; next = next[1:] {
		o.before[next[0]] = true
		next = append(next, offspring(strconv.Itoa(next[0]))...)
	}
	return o
}

// childInfo is what waitid(2) tells in a siginfo_t, whose union is aligned as
// pointers are.
type childInfo struct {
	_ [3]int32
	u struct {
		_      [0]uintptr
		pid, _ int32
		status int32
		_      [104]byte
	}
}

// reap reaps all that have ended, but COMMAND.
func (o *orphans) reap(command int) {
	if o.alone { // COMMAND, a zombie, would hide the others below
		for _, pid := range offspring("self") {
			if pid != command {
				o.reapOne(pid)
			}
		}
		return
	}
	for {
		var info childInfo
		err := unix.Waitid(unix.P_ALL, 0, (*unix.Siginfo)(unsafe.Pointer(&info)), unix.WEXITED|unix.WNOHANG|unix.WNOWAIT, nil)
		switch pid := int(info.u.pid); {
		case err == unix.EINTR:
		case err != nil || pid == 0 || pid == command:
			return
		default:
			o.reapOne(pid)
		}
	}
}

func (o *orphans) reapOne(pid int) {
	if n, _ := unix.Wait4(pid, nil, unix.WNOHANG, nil); n == pid {
		delete(o.told, pid)
		delete(o.before, pid)
	}
}

// none reports whether COMMAND has left nothing behind.
func (o *orphans) none(command int) bool {
	for _, pid := range offspring("self") {
		if pid != command && !o.before[pid] {
			return false
		}
	}
	return true
}

// send signals all, once COMMAND has ended; before, it is COMMAND's to decide.
func (o *orphans) send(sig syscall.Signal, sent func(pid int, sig syscall.Signal, err error)) {
	if sig == unix.SIGTERM || sig == unix.SIGKILL {
		o.last = sig
	}
	if o.alone {
		o.signal(sig, sent)
	}
}

// catchUp sends those that have become ours since the last TERM or KILL.
func (o *orphans) catchUp(sent func(pid int, sig syscall.Signal, err error)) {
	if o.last != 0 {
		o.signal(o.last, sent)
	}
}

func (o *orphans) signal(sig syscall.Signal, sent func(pid int, sig syscall.Signal, err error)) {
	if o.told == nil {
		o.told = map[int]syscall.Signal{}
	}
	for _, pid := range offspring("self") {
		if o.before[pid] || o.told[pid] == sig && sig == o.last {
			continue
		}
		err := unix.Kill(pid, sig)
		sent(pid, sig, err)
		if sig == o.last && (err == nil || sig == unix.SIGTERM) { // a KILL is tried again
			o.told[pid] = sig
		}
	}
}

// offspring returns the PIDs of a process's children, zombies included.
func offspring(of string) (pids []int) {
	if _, err := os.Stat("/proc/thread-self/children"); err != nil {
		return searchOffspring(of) // a kernel without CONFIG_PROC_CHILDREN
	}
	tasks, err := os.ReadDir("/proc/" + of + "/task")
	if err != nil {
		return nil
	}
	for _, task := range tasks { // each thread has children of its own
		text, _ := os.ReadFile("/proc/" + of + "/task/" + task.Name() + "/children") // gone: it has none
		for field := range bytes.FieldsSeq(text) {
			if pid, err := strconv.Atoi(string(field)); err == nil {
				pids = append(pids, pid)
			}
		}
	}
	return pids
}

// searchOffspring is offspring by looking at all processes.
func searchOffspring(of string) (pids []int) {
	dir, err := os.ReadDir("/proc")
	if err != nil {
		return nil
	}
	if of == "self" {
		of = strconv.Itoa(os.Getpid())
	}
	for _, e := range dir {
		pid, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		stat, _ := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid)) // PID (NAME) STATE PARENT: proc_pid_stat(5)
		fields := bytes.Fields(stat[bytes.LastIndexByte(stat, ')')+1:])
		if len(fields) > 1 && string(fields[1]) == of {
			pids = append(pids, pid)
		}
	}
	return pids
}
