package proc

import (
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"

	"golang.org/x/sys/unix"
)

// maxLinks is how many symbolic links a path may go through, path_resolution(7).
const maxLinks = 40

// Way returns every element of the absolute path, from the root directory to the
// file. It goes from one to the next by descriptor and
// resolves the links itself, so what it describes is what it went through. The error
// is that of the system, such as fs.ErrNotExist; ELOOP after 40 links.
func Way(path string) ([]Element, error) {
	root, err := open("/", unix.O_PATH|unix.O_DIRECTORY)
	if err != nil {
		return nil, &fs.PathError{Op: "open", Path: "/", Err: err}
	}
	w := walk{dir: root, at: "/", rest: strings.Split(path, "/"), links: maxLinks}
	defer func() { unix.Close(w.dir) }()
	if err := w.add("/", root); err != nil {
		return nil, err
	}
	for len(w.rest) > 0 {
		if err := w.step(); err != nil {
			return nil, err
		}
	}
	return w.all, nil
}

// A walk is a Way in the making.
type walk struct {
	dir   int    // where we are
	at    string // its path
	rest  []string
	links int // that may still come
	all   []Element
}

// step goes through one component of the path.
func (w *walk) step() error {
	name := w.rest[0]
	w.rest = w.rest[1:]
	if name == "" || name == "." {
		return nil
	}
	path := filepath.Join(w.at, name)
	fd, err := openBelow(w.dir, name)
	if err != nil {
		return &fs.PathError{Op: "open", Path: path, Err: err}
	}
	if err := w.add(path, fd); err != nil {
		unix.Close(fd)
		return err
	}
	switch w.all[len(w.all)-1].Type {
	case fs.ModeDir:
		unix.Close(w.dir)
		w.dir, w.at = fd, path
		return nil
	case fs.ModeSymlink:
		defer unix.Close(fd)
		return w.follow(path, fd)
	}
	unix.Close(fd)
	if len(w.rest) > 0 {
		return &fs.PathError{Op: "open", Path: path, Err: unix.ENOTDIR}
	}
	return nil
}

// follow puts the target of a link before the rest of the path.
func (w *walk) follow(path string, fd int) error {
	if w.links--; w.links < 0 {
		return &fs.PathError{Op: "open", Path: path, Err: unix.ELOOP}
	}
	var buf [unix.PathMax]byte
	n, err := unix.Readlinkat(fd, "", buf[:])
	if err != nil {
		return &fs.PathError{Op: "readlink", Path: path, Err: err}
	}
	target := string(buf[:n])
	w.rest = append(strings.Split(target, "/"), w.rest...)
	if !strings.HasPrefix(target, "/") {
		return nil
	}
	root, err := open("/", unix.O_PATH|unix.O_DIRECTORY)
	if err != nil {
		return &fs.PathError{Op: "open", Path: "/", Err: err}
	}
	unix.Close(w.dir)
	w.dir, w.at = root, "/"
	return nil
}

// add describes what fd is open on.
func (w *walk) add(path string, fd int) error {
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return &fs.PathError{Op: "fstat", Path: path, Err: err}
	}
	e := Element{Path: path, Mode: uint32(st.Mode) & 0o7777, UID: int(st.Uid), GID: int(st.Gid), Links: uint64(st.Nlink),
		ID:    ID{Dev: uint64(st.Dev), Ino: st.Ino},
		Asked: filepath.Join(append([]string{path}, w.rest...)...)}
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFDIR:
		e.Type = fs.ModeDir
	case unix.S_IFLNK:
		e.Type = fs.ModeSymlink
	}
	if e.Mode&0o020 != 0 && e.Type != fs.ModeSymlink {
		// A descriptor of O_PATH has no attributes itself.
		e.ACL = HasACL("/proc/self/fd/" + strconv.Itoa(fd))
	}
	w.all = append(w.all, e)
	return nil
}

// openBelow opens what name is in a directory, a link itself included, without
// a right to anything.
func openBelow(dir int, name string) (int, error) {
	for {
		fd, err := unix.Openat(dir, name, unix.O_PATH|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
		if err != unix.EINTR {
			return fd, err
		}
	}
}

// InUserNamespace reports whether UIDs may be unmapped here that are root's or others'
// outside: in every user namespace, user_namespaces(7), but the machine's first, or
// one that knows all that there are.
var InUserNamespace = sync.OnceValue(func() bool {
	text, err := os.ReadFile("/proc/self/uid_map")
	f := strings.Fields(string(text))
	return err == nil && (len(f) != 3 || f[0] != "0" || f[1] != "0" || f[2] != "4294967295")
})

// HasACL reports whether the permissions of what is at path are an access control list,
// acl(5): with more users than its mode tells.
func HasACL(path string) bool {
	_, err := unix.Getxattr(path, "system.posix_acl_access", nil)
	return err == nil
}
