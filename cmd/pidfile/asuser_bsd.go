//go:build unix && !linux

package main

import "golang.org/x/sys/unix"

// asUser calls do with a's rights, which the whole process has so long.
func asUser(a *account, do func()) error {
	ours, err := unix.Getgroups()
	if err != nil {
		return err
	}
	group, groups := unix.Getegid(), make([]int, len(a.groups))
	for i, g := range a.groups {
		groups[i] = int(g)
	}
	if err := unix.Setgroups(groups); err != nil {
		return err
	}
	defer unix.Setgroups(ours) // as root again: cannot fail
	if err := unix.Setegid(a.gid); err != nil {
		return err
	}
	defer unix.Setegid(group)
	if err := unix.Seteuid(a.uid); err != nil {
		return err
	}
	defer unix.Seteuid(0)
	do()
	return nil
}
