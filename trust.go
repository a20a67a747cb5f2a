package pidfile

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/go-pidfile/pidfile/internal/lock"
	"github.com/go-pidfile/pidfile/internal/proc"
)

// The lock proves who holds an inode, not that the path is that service's: whoever
// may change a directory or a link on the way could have put another service's file
// there, and have root stop that. So each element of the way must belong to root, to
// us or to the process's user, and no one else may change it.

// nobody is who owns what belongs to a user whom our user namespace does not know,
// user_namespaces(7): root outside, as a rule.
const nobody = 65534

// heldEnv is the variable in which a holder's environment names its PID file.
const heldEnv = "PIDFILE_HELD"

// A doubt is why acting on a process may harm one that was not meant.
type doubt struct {
	why  string
	mend string // what would end it
	// asked is the path up to where it is not trusted, links resolved, and the rest
	// of it as it was asked for; "" if the file itself is not trusted.
	asked string
	moved bool // the path names another file, or none, by now
}

func (d *doubt) String() string {
	mend := d.mend
	if d.asked != "" {
		mend += ", or name the program that it runs"
	}
	return d.why + " (" + mend + ")"
}

// distrust returns what speaks against acting on v.info, nil if nothing does. What
// speaks against the way to the file only is outweighed by the holder's own word,
// and by the caller's, who names its program.
func (v *verdict) distrust(program string) *doubt {
	if program != "" && !runsProgram(v.info, program) {
		return &doubt{why: fmt.Sprintf("%s does not run %s", name(v.info), program), mend: "see its /proc/PID/exe"}
	}
	if d := v.distrustFile(); d != nil {
		return d
	}
	d := v.distrustWay()
	if d == nil || d.asked != "" && (program != "" || v.saysHeld(d)) {
		return nil
	}
	return d
}

// distrustFile judges the file itself: who could have written it.
func (v *verdict) distrustFile() *doubt {
	f := &v.view
	switch {
	case !v.trusts(f.UID):
		return &doubt{why: "the file " + owned(f.UID), mend: "chown root " + v.path}
	case f.Mode&0o002 != 0:
		return &doubt{why: fmt.Sprintf("everybody may write the file (mode %04o)", f.Mode), mend: "chmod o-w " + v.path}
	case f.Mode&0o020 != 0 && v.othersGroup(f.GID, lock.HasACL(v.path)):
		return &doubt{why: fmt.Sprintf("group %d, or whom its access control list names, may write the file (mode %04o)", f.GID, f.Mode), mend: "chmod g-w " + v.path}
	case f.Links != 1:
		return &doubt{why: fmt.Sprintf("the file has %d names (hard links)", f.Links), mend: "remove the others: find / -inum " + fmt.Sprint(f.ID.Ino)}
	}
	return nil
}

// distrustWay judges how the path leads to the file.
func (v *verdict) distrustWay() *doubt {
	way, err := proc.Way(v.path)
	if errors.Is(err, fs.ErrNotExist) {
		return &doubt{why: "the file is gone", mend: "try again", moved: true}
	}
	if err != nil {
		return &doubt{why: fmt.Sprintf("the way to the file cannot be examined: %v", err), mend: "try again"}
	}
	file := &way[len(way)-1]
	if file.ID != v.view.ID {
		return &doubt{why: "the path has come to name another file", mend: "try again", moved: true}
	}
	var parent *proc.Element
	own := filepath.Dir(file.Path)
	for i := range way[:len(way)-1] {
		e := &way[i]
		if d := v.distrustElement(e, parent, e.Path == own); d != nil {
			d.asked = e.Asked
			return d
		}
		if e.Type == fs.ModeDir {
			parent = e
		}
	}
	return nil
}

// distrustElement judges a directory or link of the way, which was found in parent.
// own is true for the directory of the file.
func (v *verdict) distrustElement(e, parent *proc.Element, own bool) *doubt {
	outside := e.UID == nobody && !own && proc.InUserNamespace()
	sticky := e.Mode&0o1000 != 0
	kind := "the directory " + e.Path
	if e.Type == fs.ModeSymlink {
		kind = "the symbolic link " + e.Path
	}
	switch {
	case !v.trusts(e.UID) && !outside:
		return &doubt{why: kind + " " + owned(e.UID), mend: "chown -h root " + e.Path + ", or keep the PID file elsewhere"}
	case e.Type == fs.ModeSymlink:
		// Its own mode means nothing. Another name of a link may be anybody's doing.
		if e.Links != 1 && parent != nil && parent.Mode&0o022 != 0 {
			return &doubt{why: fmt.Sprintf("%s has %d names (hard links), and others may write its directory", kind, e.Links), mend: "make it anew"}
		}
	case e.Mode&0o002 != 0 && !sticky:
		return &doubt{why: fmt.Sprintf("everybody may write %s, which has no sticky bit (mode %04o)", kind, e.Mode), mend: "chmod o-w " + e.Path}
	case e.Mode&0o020 != 0 && !sticky && v.othersGroup(e.GID, e.ACL):
		return &doubt{why: fmt.Sprintf("group %d, or whom its access control list names, may write %s (mode %04o)", e.GID, kind, e.Mode), mend: "chmod g-w " + e.Path}
	}
	return nil
}

// trusts reports whether a user may say who the holder is: root, we, or who could
// signal that process anyway.
func (v *verdict) trusts(uid int) bool {
	return uid == 0 || uid == os.Geteuid() || uid == v.info.UID
}

// othersGroup reports whether what a group may write may be written by others
// than those whom we trust: a group that is neither root's nor the process's own.
// With an access control list the bits of the group are what the list allows to
// anybody, acl(5).
func (v *verdict) othersGroup(gid int, acl bool) bool {
	return acl || gid != 0 && gid != v.info.GID
}

func owned(uid int) string {
	return fmt.Sprintf("belongs to UID %d, who is neither root, nor us, nor the process's user", uid)
}

// saysHeld reports whether the holder itself says that the path is its PID file's:
// it has the lock, and was started with that path in its environment, as 'pidfile run'
// starts its command. Who could put another service's file at the path cannot
// put the path into that service's environment.
//
// The path is the one that was asked for, or the same with those links resolved that
// are trusted.
func (v *verdict) saysHeld(d *doubt) bool {
	if !v.proven {
		return false
	}
	return proc.HasEnv(v.info.PID, heldEnv+"="+v.path) || proc.HasEnv(v.info.PID, heldEnv+"="+d.asked)
}

// runsProgram reports whether i runs program: an executable's path, or the last
// element of one. What a process calls itself, in its arguments, is no proof.
func runsProgram(i *proc.Info, program string) bool {
	exe := strings.TrimSuffix(i.Exe, " (deleted)") // upgraded in place: proc_pid_exe(5)
	if exe == "" {
		return false
	}
	if !strings.Contains(program, "/") {
		return filepath.Base(exe) == program
	}
	real, err := filepath.EvalSymlinks(program)
	if err != nil {
		real = program
	}
	if abs, err := filepath.Abs(real); err == nil {
		real = abs
	}
	return exe == real
}
