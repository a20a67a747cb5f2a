package supervise

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"strconv"
	"strings"
	"time"
)

// getentTime is how long getent(1) may take: it may ask a server.
const getentTime = 5 * time.Second

// getent asks getent(1) for an entry of a database, and returns its fields, nil if
// there is none or no getent. Users and groups come from elsewhere, LDAP or SSSD or
// userdb(8), through the C library's nsswitch.conf(5), and without cgo package
// os/user knows but the files.
func getent(database, key string) (fields []string, err error) {
	if strings.HasPrefix(key, "-") { // no name, and getent would take it for an option
		return nil, nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), getentTime)
	defer cancel()
	c := exec.CommandContext(ctx, "getent", database, key)
	c.WaitDelay = time.Second
	out, err := c.Output()
	var failed *exec.ExitError
	switch {
	case ctx.Err() != nil:
		return nil, fmt.Errorf("getent %s %s: no answer in %v", database, key, getentTime)
	case errors.Is(err, exec.ErrNotFound), errors.As(err, &failed) && failed.ExitCode() == 2:
		return nil, nil
	case err != nil:
		return nil, fmt.Errorf("getent %s %s: %w", database, key, err)
	}
	line, _, _ := strings.Cut(string(out), "\n")
	if line == "" {
		return nil, nil
	}
	if database == "initgroups" {
		return strings.Fields(line), nil
	}
	return strings.Split(line, ":"), nil
}

// elsewhere is the account of a user that the files do not know.
func elsewhere(s, name, group string) (*Account, error) {
	f, err := getent("passwd", name)
	if f == nil {
		a, e := numbered(s, name, group)
		if e != nil && err != nil {
			return nil, err
		}
		return a, e // a number with a group does without
	}
	a := &Account{Name: f[0]}
	if len(f) != 7 || f[0] != name && f[2] != name {
		return nil, fmt.Errorf("getent passwd %s: not an entry of passwd(5): %q", name, strings.Join(f, ":"))
	}
	uid, err := strconv.ParseUint(f[2], 10, 31)
	if err != nil {
		return nil, fmt.Errorf("getent passwd %s: %w", name, err)
	}
	gid, err := strconv.ParseUint(f[3], 10, 31)
	if err != nil {
		return nil, fmt.Errorf("getent passwd %s: %w", name, err)
	}
	a.UID, a.GID, a.Home, a.Shell = int(uid), int(gid), f[5], shellOf(f[6])
	if group != "" {
		return a, a.setGroup(group)
	}
	ids, err := getent("initgroups", a.Name)
	if err == nil && ids == nil {
		err = errors.New("getent initgroups does not tell")
	}
	if err != nil {
		return nil, fmt.Errorf("the groups of %s: %w: write %s:GROUP", name, err, name)
	}
	a.Groups = []uint32{uint32(gid)}
	for _, id := range ids[1:] {
		n, err := strconv.ParseUint(id, 10, 32)
		if err != nil {
			return nil, fmt.Errorf("the groups of %s: %w", name, err)
		}
		if uint32(n) != uint32(gid) {
			a.Groups = append(a.Groups, uint32(n))
		}
	}
	return a, nil
}
