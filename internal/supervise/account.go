package supervise

import (
	"errors"
	"fmt"
	"os"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/go-pidfile/pidfile/internal/names"
)

// An Account is the user that COMMAND runs as.
type Account struct {
	UID, GID   int
	Groups     []uint32 // all of them; GID is not added
	Name, Home string
	Shell      string
}

// LookUpAccount reads USER[:GROUP], each a name or a number. Without GROUP it
// is the user's own group, and those that the user is a member of.
func LookUpAccount(s string) (*Account, error) {
	name, group, grouped := strings.Cut(s, ":")
	if name == "" || grouped && group == "" {
		return nil, fmt.Errorf("%q is not USER or USER:GROUP", s)
	}
	a := &Account{Name: name}
	u, err := user.Lookup(name)
	if err != nil {
		if u, err = user.LookupId(name); err != nil {
			return elsewhere(s, name, group)
		}
	}
	a.Name, a.Home, a.Shell = u.Username, u.HomeDir, loginShell(u.Username)
	a.UID, _ = strconv.Atoi(u.Uid) // decimal numbers on Unix, says package user
	a.GID, _ = strconv.Atoi(u.Gid)
	if grouped {
		return a, a.setGroup(group)
	}
	ids, err := u.GroupIds()
	if err != nil {
		return nil, fmt.Errorf("the groups of %s: %w", name, err)
	}
	for _, id := range ids {
		n, err := strconv.ParseUint(id, 10, 32)
		if err != nil {
			return nil, fmt.Errorf("the groups of %s: %w", name, err)
		}
		a.Groups = append(a.Groups, uint32(n))
	}
	return a, nil
}

// numbered is the account of a number that no user has: it needs a group.
func numbered(s, name, group string) (*Account, error) {
	uid, err := strconv.ParseUint(name, 10, 31)
	if err != nil {
		return nil, fmt.Errorf("there is no user %q", name)
	}
	if group == "" {
		return nil, fmt.Errorf("no user has the number %s: write UID:GID", name)
	}
	a := &Account{UID: int(uid), Name: name, Home: "/", Shell: shell}
	return a, a.setGroup(group)
}

// setGroup makes group, a name or a number, the only one.
func (a *Account) setGroup(group string) error {
	id := group
	g, err := user.LookupGroup(group)
	if err == nil {
		id = g.Gid
	}
	n, err := strconv.ParseUint(id, 10, 31)
	if err != nil { // no number either
		f, err := getent("group", group)
		if err == nil && len(f) >= 3 {
			n, err = strconv.ParseUint(f[2], 10, 31)
		}
		switch {
		case err != nil:
			return err
		case f == nil:
			return errors.New("there is no group " + strconv.Quote(group))
		}
	}
	a.GID, a.Groups = int(n), []uint32{uint32(n)}
	return nil
}

// loginShell returns the user's shell as passwd(5) has it, or sh(1) for one that
// has none, or none to log in with.
func loginShell(name string) string {
	text, _ := os.ReadFile("/etc/passwd") // users can come from elsewhere
	for line := range strings.Lines(string(text)) {
		f := strings.Split(strings.TrimSpace(line), ":")
		if len(f) == 7 && f[0] == name {
			return shellOf(f[6])
		}
	}
	return shell
}

func shellOf(field string) string {
	if base := filepath.Base(field); field == "" || base == "nologin" || base == "false" {
		return shell
	}
	return field
}

// path is PATH of a login.
func (a *Account) path() string {
	if a.UID == 0 {
		return "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
	}
	return "/usr/local/bin:/usr/bin:/bin"
}

// environ is what a login of the account would set, and of ours what tells about
// the terminal and the language.
func (a *Account) environ(ours []string) []string {
	env := []string{"HOME=" + a.Home, "USER=" + a.Name, "LOGNAME=" + a.Name, "SHELL=" + a.Shell, "PATH=" + a.path()}
	for _, v := range ours {
		name, _, _ := strings.Cut(v, "=")
		if name == "TERM" || name == "LANG" || strings.HasPrefix(name, "LC_") {
			env = append(env, v)
		}
	}
	return env
}

// Environ returns the environment for a COMMAND that holds the PID file at path: that
// of this process or, if a is not nil, that of a login, in which nothing of ours is
// left but terminal and language; and in either vars, which are NAME=VALUE, or NAME
// for the value that this process has.
//
// PIDFILE_HELD tells path. Who finds that in a process that has the lock need not
// trust the directory: see pidfile.Find.
func Environ(path string, a *Account, vars []string) []string {
	env := os.Environ()
	if a != nil {
		env = a.environ(env)
	}
	env = setenv(env, names.Held, path)
	for _, v := range vars {
		name, value, given := strings.Cut(v, "=")
		if !given {
			value, given = os.LookupEnv(name)
		}
		if given {
			env = setenv(env, name, value)
		}
	}
	return env
}

func setenv(env []string, name, value string) []string {
	outer := func(v string) bool { return strings.HasPrefix(v, name+"=") }
	return append(slices.DeleteFunc(env, outer), name+"="+value)
}
