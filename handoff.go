package pidfile

import (
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/go-pidfile/pidfile/internal/lock"
)

// inherited is the environment variable that tells a child which of its
// descriptors it was handed: LOCK:HANDOFFLOCK for each file, with blanks between.
const inherited = "PIDFILE_INHERITED"

// HandOff hands the lock of the file to the process that cmd will start, so that
// it can take the file over with [Adopt]: a new version of the program follows the
// old one, and the file is never free and its text never wrong.
//
//	cmd := exec.Command(os.Args[0], os.Args[1:]...)
//	if err := f.HandOff(cmd); err != nil {
//		return err
//	}
//	err := cmd.Start()
//
// Call it before cmd is started. It appends to cmd.ExtraFiles and sets a variable
// in cmd.Env (a copy of this process's environment if that is nil), so later changes
// to the two have to append too. It returns an error that matches [fs.ErrClosed]
// after [File.Release], or the system's if no descriptor could be had; cmd is then as
// it was.
//
// The file stays ours, with all that we may do to it, until the process calls
// Adopt. If it ends without, nothing has changed, and HandOff may be called for
// another command. It may also be called for several commands, of which the first
// to adopt gets the file, and for one command by several Files.
//
// When the process has adopted the file, the channel of [File.Lost] is closed, and
// [File.Err], [File.SetPID] and [File.Restore] return [ErrHandedOff], whatever
// becomes of the process then. So wait for Lost, or for the end of the process, and
// ask Err. Then call Release at once, which leaves the file in place; what else is
// to be done before the end can be done after it.
//
// Before that, Release removes the file and ends the lock for every process that
// inherited it: nothing is left to adopt. So does SetPID for the commands that were
// given the file before it, started or not, where it replaces the file by another,
// and so does Restore. Such a command can still be started, and Adopt then returns
// [ErrLost]. If we crash, the process still has the lock, and may still adopt.
//
// HandOff does not block. But Err, SetPID, Restore and Release wait, after it, while
// the other process is between two system calls of Adopt.
//
// HandOff may be called beside every other method, and beside the start of other
// commands, by several goroutines; but cmd itself is for one goroutine at a time, as
// every [exec.Cmd]. The two files that it appends are copies for cmd alone. No
// method closes them, not even Release: the garbage collector does, once cmd is no
// longer used, whether it was started or not. Nothing is left for the caller to
// close. The File keeps two descriptors more until Release; outside Linux, and
// without /proc, it also keeps one of cmd's open until then.
//
// On systems other than Linux and the BSDs the error matches
// [errors.ErrUnsupported].
func (f *File) HandOff(cmd *exec.Cmd) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.released {
		return f.closed("hand off")
	}
	held, handoffLock, err := f.hold.HandOff()
	if err != nil {
		return err
	}
	if cmd.Env == nil {
		cmd.Env = slices.DeleteFunc(cmd.Environ(), isInherited) // meant for us
	}
	n := 3 + len(cmd.ExtraFiles)
	cmd.ExtraFiles = append(slices.Clip(cmd.ExtraFiles), held, handoffLock)
	cmd.Env = appendPair(cmd.Env, lock.Pair{Lock: n, Handoff: n + 1})
	f.handed = true
	if f.watch != nil {
		f.watch.look() // at once, not after startGrace: something will happen
	}
	return nil
}

func isInherited(entry string) bool { return strings.HasPrefix(entry, inherited+"=") }

// appendPair adds p to the pairs in env. What env has of descriptors that
// come after p is left from another command.
func appendPair(env []string, p lock.Pair) []string {
	var pairs []lock.Pair
	for _, entry := range env {
		if isInherited(entry) {
			pairs, _ = parsePairs(entry[len(inherited)+1:]) // garbage is replaced
		}
	}
	pairs = slices.DeleteFunc(pairs, func(q lock.Pair) bool { return max(q.Lock, q.Handoff) >= p.Lock })
	env = slices.DeleteFunc(slices.Clone(env), isInherited)
	return append(env, inherited+"="+formatPairs(append(pairs, p)))
}

func formatPairs(pairs []lock.Pair) string {
	words := make([]string, len(pairs))
	for i, p := range pairs {
		words[i] = fmt.Sprintf("%d:%d", p.Lock, p.Handoff)
	}
	return strings.Join(words, " ")
}

// parsePairs reads what formatPairs wrote, and nothing else.
func parsePairs(value string) ([]lock.Pair, error) {
	if value == "" {
		return nil, nil
	}
	var pairs []lock.Pair
	for word := range strings.SplitSeq(value, " ") {
		a, b, _ := strings.Cut(word, ":")
		p := lock.Pair{}
		p.Lock, _ = strconv.Atoi(a)
		p.Handoff, _ = strconv.Atoi(b)
		if min(p.Lock, p.Handoff) < 3 || max(p.Lock, p.Handoff) > maxFD || p.Lock == p.Handoff {
			return nil, fmt.Errorf("malformed environment variable %s=%q", inherited, value)
		}
		pairs = append(pairs, p)
	}
	if formatPairs(pairs) != value {
		return nil, fmt.Errorf("malformed environment variable %s=%q", inherited, value)
	}
	return pairs, nil
}

// maxFD is beyond every descriptor number: Linux allows 1<<20 by default, and
// an int32 at most.
const maxFD = 1<<31 - 1

// adopting admits one goroutine at a time to the inherited descriptors.
var adopting sync.Mutex

// Adopt takes over the PID file at path from the process that started this one, or
// from one of its ancestors, which handed it the file with [File.HandOff]: it
// records the PID of the calling process, as [File.SetPID] does, and makes it the
// holder. The file keeps its mode, and its user and group if we may give it to them.
//
// Until Adopt returns the other process is the holder, so call it when there is
// nothing left that can fail, and before this process starts others, which would
// inherit the descriptors too. If the other process was killed before, the lock is
// ours all the same.
//
// The errors are [*fs.PathError], and match
//   - [ErrNotInherited] if the process was handed no such file, as at the first
//     start: call [Acquire] then;
//   - [ErrLost] if the file has been released, removed, replaced or overwritten
//     meanwhile, or if another process has adopted it: Acquire may tell which.
//
// Others tell what else prevented it (such as a full disk where the file cannot be
// written in place either, or an environment variable PIDFILE_INHERITED that HandOff
// did not write); the other process is still the holder then, and Adopt may be
// called again.
//
//	f, err := pidfile.Adopt(path)
//	if errors.Is(err, pidfile.ErrNotInherited) {
//		f, err = pidfile.Acquire(path)
//	}
//
// Adopt finds its file among several by the file itself or by its absolute path, so
// it may be called once for each. It does not block, except while the other process,
// or another child of it, does the same. It may be called by any
// goroutine.
//
// Where the directory may not be changed, the PID is written in place, and both
// processes have the lock: if this one is killed, the file is held until the other
// one has released it or ended. On systems other than Linux and the BSDs the error
// matches [errors.ErrUnsupported].
func Adopt(path string) (*File, error) {
	f, err := Config{}.prepare("adopt", path)
	if err != nil {
		return nil, err
	}
	adopting.Lock()
	defer adopting.Unlock()
	pairs, err := parsePairs(os.Getenv(inherited))
	if err != nil {
		return nil, &fs.PathError{Op: "adopt", Path: f.path, Err: err}
	}
	i, err := f.hold.Adopt(pairs, self)
	switch err {
	case nil, lock.ErrChanged: // the descriptors are used up
		setPairs(slices.Delete(pairs, i, i+1))
	case lock.ErrNotInherited:
		err = &fs.PathError{Op: "adopt", Path: f.path, Err: ErrNotInherited}
	}
	if err != nil {
		return nil, f.lost("adopt", err)
	}
	return f, nil
}

// setPairs leaves only these in our environment, and so in our children's. It
// cannot fail: neither the name nor the value has anything odd in it.
func setPairs(pairs []lock.Pair) {
	if len(pairs) == 0 {
		_ = os.Unsetenv(inherited)
	} else {
		_ = os.Setenv(inherited, formatPairs(pairs))
	}
}
