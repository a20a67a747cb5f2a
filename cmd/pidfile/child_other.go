//go:build !unix

package main

import (
	"os"
	"syscall"
)

func reap(pid int) (int, error) {
	p, err := os.FindProcess(pid)
	if err != nil {
		return 0, err
	}
	state, err := p.Wait()
	if err != nil {
		return 0, err
	}
	return state.ExitCode(), nil
}

func become(int, string, []string, []string) syscall.Errno { return syscall.EINVAL }
