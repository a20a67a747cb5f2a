package pidfile

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/go-pidfile/pidfile/internal/names"
	"github.com/go-pidfile/pidfile/internal/proc"
)

// The lock proves which process holds an inode, not that the path is that service's: a
// user who can change a directory or a link of the path could have put another
// service's file there, and have root stop that service. So each element of the path
// must belong to root, to the caller or to the process's user, and no other user may
// change it.

// overflowUID owns what belongs to a user that our user namespace does not map,
// user_namespaces(7): as a rule root outside.
const overflowUID = 65534

// An objection is why acting on a process may harm one that was not meant.
type objection struct {
	reason string
	remedy string // what the reader can do
	// asked is the path up to where it is not trusted, links resolved, and the rest
	// of it as it was asked for; "" if the file itself is not trusted.
	asked string
	moved bool // the path names another file, or none, by now
}

func (o *objection) String() string {
	remedy := o.remedy
	if o.asked != "" {
		remedy += ", or name the program that it runs"
	}
	return o.reason + " (" + remedy + ")"
}

// distrust returns the objection to acting on v.info, nil if there is none. An
// objection to the path alone does not count if the holder's environment names the
// path, or the caller its program.
func (v *verdict) distrust(program string) *objection {
	if program != "" && !runsProgram(v.info, program) {
		return &objection{reason: fmt.Sprintf("%s does not run %s", name(v.info), program), remedy: fmt.Sprintf("see /proc/%d/exe", v.info.PID)}
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

// distrustFile checks the file itself: which users could have written it.
func (v *verdict) distrustFile() *objection {
	f := &v.view
	switch {
	case !v.trusts(f.UID):
		return &objection{reason: "the file " + owned(f.UID), remedy: "chown root " + v.path}
	case f.Mode&0o002 != 0:
		return &objection{reason: fmt.Sprintf("any user can write to the file (mode %04o)", f.Mode), remedy: "chmod o-w " + v.path}
	case f.Mode&0o020 != 0 && v.othersGroup(f.GID, proc.HasACL(v.path)):
		return &objection{reason: fmt.Sprintf("group %d, or a user in its access control list, can write to the file (mode %04o)", f.GID, f.Mode), remedy: "chmod g-w " + v.path}
	case f.Links != 1:
		return &objection{reason: fmt.Sprintf("the file has %d names (hard links)", f.Links), remedy: "remove the others: find / -inum " + fmt.Sprint(f.ID.Ino)}
	}
	return nil
}

// distrustWay checks each directory and link that leads to the file.
func (v *verdict) distrustWay() *objection {
	way, err := proc.Way(v.path)
	if errors.Is(err, fs.ErrNotExist) {
		return &objection{reason: "the file is gone", remedy: "try again", moved: true}
	}
	if err != nil {
		return &objection{reason: fmt.Sprintf("the path to the file cannot be examined: %v", err), remedy: "try again"}
	}
	file := &way[len(way)-1]
	if file.ID != v.view.ID {
		return &objection{reason: "the path now names another file", remedy: "try again", moved: true}
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

// distrustElement checks a directory or link of the path, which was found in parent.
// own is true for the directory of the file.
func (v *verdict) distrustElement(e, parent *proc.Element, own bool) *objection {
	outside := e.UID == overflowUID && !own && proc.InUserNamespace()
	sticky := e.Mode&0o1000 != 0
	kind := "the directory " + e.Path
	if e.Type == fs.ModeSymlink {
		kind = "the symbolic link " + e.Path
	}
	switch {
	case !v.trusts(e.UID) && !outside:
		return &objection{reason: kind + " " + owned(e.UID), remedy: "chown -h root " + e.Path + ", or keep the PID file elsewhere"}
	case e.Type == fs.ModeSymlink:
		// Its own mode means nothing. Any user may have given a link another name.
		if e.Links != 1 && parent != nil && parent.Mode&0o022 != 0 {
			return &objection{reason: fmt.Sprintf("%s has %d names (hard links), and other users can write to its directory", kind, e.Links), remedy: "create it again"}
		}
	case e.Mode&0o002 != 0 && !sticky:
		return &objection{reason: fmt.Sprintf("any user can write to %s, which has no sticky bit (mode %04o)", kind, e.Mode), remedy: "chmod o-w " + e.Path}
	case e.Mode&0o020 != 0 && !sticky && v.othersGroup(e.GID, e.ACL):
		return &objection{reason: fmt.Sprintf("group %d, or a user in its access control list, can write to %s (mode %04o)", e.GID, kind, e.Mode), remedy: "chmod g-w " + e.Path}
	}
	return nil
}

// trusts reports whether a user may say which process is the holder: root, the calling
// user, or the process's own, who could signal it anyway.
func (v *verdict) trusts(uid int) bool {
	return uid == 0 || uid == os.Geteuid() || uid == v.info.UID
}

// othersGroup reports whether a group that may write is one that we do not trust:
// neither root's nor the process's own. With an access control list the bits of the
// group are the most that the list allows to any user or group, acl(5).
func (v *verdict) othersGroup(gid int, acl bool) bool {
	return acl || gid != 0 && gid != v.info.GID
}

func owned(uid int) string {
	return fmt.Sprintf("belongs to UID %d, which is neither root, nor you, nor the process's user", uid)
}

// saysHeld reports whether the holder itself states that the path is its PID file's:
// it has the lock, and was started with that path in its environment, as 'pidfile run'
// starts its command. A user who can put another service's file at the path cannot
// put the path into that service's environment.
//
// The path is the one that was asked for, or the same with those links resolved that
// are trusted.
func (v *verdict) saysHeld(d *objection) bool {
	if !v.proven {
		return false
	}
	return proc.HasEnv(v.info.PID, names.Held+"="+v.path) || proc.HasEnv(v.info.PID, names.Held+"="+d.asked)
}

// runsProgram reports whether i runs program: an executable's path, or the last
// element of one. What a process calls itself, in its arguments, proves nothing.
func runsProgram(i *proc.Info, program string) bool {
	exe := proc.ExePath(i.Exe)
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
