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
	return ExePath(i.Exe) == ExePath(p.exe) || sameExe(i.PID, p.exe)
}

// FitsName reports whether the process's program has the name of the PID file at path, or
// one that begins or goes on like it (sshd.pid, postgresql.pid of postgres), or the name of
// its directory (/run/mysql/a.pid of mysqld, /run/php/a.pid of php-fpm). The program is
// the executable or, of an interpreter, the script; what a process calls itself counts
// only where its executable may not be seen.
func (i *Info) FitsName(path string) bool {
	program := i.program()
	file, dir := strings.TrimSuffix(filepath.Base(path), ".pid"), filepath.Base(filepath.Dir(path))
	const least = 3 // letters: fewer are too often alike by chance
	switch {
	case min(len(program), len(file)) >= least && (strings.HasPrefix(program, file) || strings.HasPrefix(file, program)):
		return true
	case len(dir) < least:
		return false
	}
	return program == dir || program == dir+"d" || strings.HasPrefix(program, dir+"-")
}

// program is the name of the program, "" if that is an interpreter without a script.
func (i *Info) program() string {
	name := ""
	switch {
	case i.Exe != "":
		name = filepath.Base(ExePath(i.Exe))
	case len(i.Args) > 0:
		title, _, _ := strings.Cut(i.Args[0], ":")
		name = filepath.Base(title)
	}
	if !slices.Contains(interpreters, strings.TrimRight(name, "0123456789.")) {
		return name
	}
	for _, arg := range i.Args[min(1, len(i.Args)):] {
		if !strings.HasPrefix(arg, "-") {
			base := filepath.Base(arg)
			return strings.TrimSuffix(base, filepath.Ext(base))
		}
	}
	return ""
}

// interpreters run scripts: their own name says nothing. Versions are cut off.
var interpreters = []string{"sh", "ash", "bash", "dash", "ksh", "zsh", "busybox", "env", "java", "lua", "node", "nodejs", "perl", "php", "python", "ruby", "tclsh"}

// ExePath returns the path of an executable without what proc_pid_exe(5) adds to that of
// one which was replaced or removed while it runs.
func ExePath(exe string) string {
	if path, cut := strings.CutSuffix(exe, " (deleted)"); cut {
		if _, err := os.Lstat(exe); err != nil { // else it is the name
			return path
		}
	}
	return exe
}
