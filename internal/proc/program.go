package proc

import (
	"bytes"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// A Program is what makes two processes "the same program".
type Program struct {
	args0  string
	exe    string // resolved path of the executable; "" for a script
	script string // absolute path of a script
}

// Self is the calling process's program.
func Self() Program {
	p := Program{args0: os.Args[0]}
	if i, err := Lookup(os.Getpid()); err == nil && len(i.Args) > 0 {
		p.args0 = i.Args[0] // a program may have changed os.Args
	}
	p.exe, _ = os.Executable() // without it argv[0] decides
	return p
}

// Command is the program that executing file with args would run.
func Command(file string, args []string) Program {
	p := Program{args0: args[0]}
	if abs, err := filepath.Abs(file); err == nil {
		file = abs
	}
	if isScript(file) {
		p.script = file
	} else if real, err := filepath.EvalSymlinks(file); err == nil {
		p.exe = real
	}
	return p
}

func isScript(file string) bool {
	f, err := os.Open(file)
	if err != nil {
		return false
	}
	defer f.Close()
	var head [2]byte
	_, err = io.ReadFull(f, head[:])
	return err == nil && bytes.Equal(head[:], []byte("#!"))
}

// Runs reports whether process i runs p: the same argv[0], the same executable
// file (also one upgraded in place since), or the same script, which the kernel
// passes to its interpreter as the first or second argument, execve(2).
func (p Program) Runs(i *Info) bool {
	if len(i.Args) > 0 && i.Args[0] == p.args0 {
		return true
	}
	if p.script != "" {
		n := min(len(i.Args), 3)
		return n > 1 && slices.ContainsFunc(i.Args[1:n], func(arg string) bool {
			return arg == p.args0 || arg == p.script
		})
	}
	if p.exe == "" || i.Exe == "" {
		return false
	}
	return upgraded(i.Exe) == upgraded(p.exe) || sameExe(i.PID, p.exe)
}

// FitsName reports whether the process's program has the name of the PID file at path,
// or of its directory, or one that begins or goes on like it: sshd.pid, /run/mysqld/pid
// or postgresql.pid of postgres. The program is the executable, or what an interpreter
// runs; what a process calls itself counts only where its executable may not be seen.
func (i *Info) FitsName(path string) bool {
	var programs []string
	if i.Exe != "" {
		programs = append(programs, filepath.Base(upgraded(i.Exe)))
	} else if len(i.Args) > 0 {
		title, _, _ := strings.Cut(i.Args[0], ":")
		programs = append(programs, filepath.Base(title))
	}
	for _, arg := range i.Args[min(1, len(i.Args)):min(3, len(i.Args))] {
		if !strings.HasPrefix(arg, "-") {
			base := filepath.Base(arg)
			programs = append(programs, strings.TrimSuffix(base, filepath.Ext(base)))
		}
	}
	file, dir := strings.TrimSuffix(filepath.Base(path), ".pid"), filepath.Base(filepath.Dir(path))
	return slices.ContainsFunc(programs, func(program string) bool {
		return alike(program, file, 3) || alike(program, dir, 4)
	})
}

// alike reports whether one name begins with the other, of which at least so many
// letters are needed.
func alike(a, b string, least int) bool {
	return min(len(a), len(b)) >= least && (strings.HasPrefix(a, b) || strings.HasPrefix(b, a))
}

// upgraded strips what proc_pid_exe(5) adds to the path of an executable that
// was replaced while it runs.
func upgraded(exe string) string { return strings.TrimSuffix(exe, " (deleted)") }
