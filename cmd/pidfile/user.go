package main

import (
	"errors"
	"fmt"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
)

// An account is whom COMMAND runs as.
type account struct {
	uid, gid   int
	groups     []uint32
	name, home string
	shell      string
}

// lookUpAccount reads USER[:GROUP], each a name or a number. Without GROUP it
// is the user's own group, and those that the user is a member of.
func lookUpAccount(s string) (*account, error) {
	name, group, grouped := strings.Cut(s, ":")
	if name == "" || grouped && group == "" {
		return nil, fmt.Errorf("%q is not USER or USER:GROUP", s)
	}
	a := &account{name: name}
	u, err := user.Lookup(name)
	if err != nil {
		if u, err = user.LookupId(name); err != nil {
			return numbered(s, name, group)
		}
	}
	a.name, a.home, a.shell = u.Username, u.HomeDir, loginShell(u.Username)
	a.uid, _ = strconv.Atoi(u.Uid) // decimal numbers on Unix, says package user
	a.gid, _ = strconv.Atoi(u.Gid)
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
		a.groups = append(a.groups, uint32(n))
	}
	return a, nil
}

// numbered is the account of a number that no user has: it needs a group.
func numbered(s, name, group string) (*account, error) {
	uid, err := strconv.ParseUint(name, 10, 31)
	if err != nil {
		return nil, fmt.Errorf("there is no user %q", name)
	}
	if group == "" {
		return nil, fmt.Errorf("no user has the number %s: write UID:GID", name)
	}
	a := &account{uid: int(uid), name: name, home: "/", shell: defaultShell}
	return a, a.setGroup(group)
}

// setGroup makes group, a name or a number, the only one.
func (a *account) setGroup(group string) error {
	id := group
	g, err := user.LookupGroup(group)
	if err == nil {
		id = g.Gid
	}
	n, err := strconv.ParseUint(id, 10, 31)
	if err != nil {
		return errors.New("there is no group " + strconv.Quote(group))
	}
	a.gid, a.groups = int(n), []uint32{uint32(n)}
	return nil
}

const defaultShell = "/bin/sh"

// loginShell returns the user's shell as passwd(5) has it, or sh(1) for one who
// has none, or none to log in with.
func loginShell(name string) string {
	text, _ := os.ReadFile("/etc/passwd") // users can come from elsewhere
	for line := range strings.Lines(string(text)) {
		f := strings.Split(strings.TrimSpace(line), ":")
		if len(f) == 7 && f[0] == name {
			if base := filepath.Base(f[6]); f[6] != "" && base != "nologin" && base != "false" {
				return f[6]
			}
			break
		}
	}
	return defaultShell
}

// path is PATH of a login.
func (a *account) path() string {
	if a.uid == 0 {
		return "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
	}
	return "/usr/local/bin:/usr/bin:/bin"
}

// environ is what a login of the account would set, and of ours what tells about
// the terminal and the language.
func (a *account) environ(ours []string) []string {
	env := []string{"HOME=" + a.home, "USER=" + a.name, "LOGNAME=" + a.name, "SHELL=" + a.shell, "PATH=" + a.path()}
	for _, v := range ours {
		name, _, _ := strings.Cut(v, "=")
		if name == "TERM" || name == "LANG" || strings.HasPrefix(name, "LC_") {
			env = append(env, v)
		}
	}
	return env
}
