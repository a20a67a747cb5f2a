package main

import (
	"cmp"
	"os"
	"path/filepath"
	"strings"

	"github.com/go-pidfile/pidfile"
	"github.com/go-pidfile/pidfile/internal/supervise"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// What a shell completes: its script asks "pidfile __complete".

type completer = func(c *cobra.Command, args []string, begun string) ([]cobra.Completion, cobra.ShellCompDirective)

const noFiles = cobra.ShellCompDirectiveNoFileComp

// addCompletions tells every command of root what its arguments and the values of
// its flags can be.
func addCompletions(root *cobra.Command) {
	arguments := map[string]completer{
		"run": completeRun, "start": completeRun, "restart": completeRun,
		"status": completePIDFiles, "stop": completePIDFiles, "reload": completePIDFiles, "wait": completePIDFiles,
		"signal": completeSignal, "list": completePIDFiles, "clean": completePIDFiles, "doctor": completePIDFiles,
		"help": completeHelp, "version": completeNothing,
	}
	for _, c := range root.Commands() {
		if f := arguments[c.Name()]; f != nil {
			c.ValidArgsFunction = f
		}
		c.Flags().VisitAll(func(f *pflag.Flag) {
			if complete := flagCompleter(f); complete != nil {
				_ = c.RegisterFlagCompletionFunc(f.Name, complete) // the flag exists
			}
		})
	}
}

// flagCompleter completes the values of a flag; nil is for files.
func flagCompleter(f *pflag.Flag) completer {
	kind := f.Value.Type()
	switch {
	case strings.Contains(kind, "|") && kind == strings.ToLower(kind):
		return completeWords(strings.Split(kind, "|")...)
	case kind == "notify|DURATION":
		return completeWords("notify", "200ms", "2s", "10s")
	case kind == "DURATION":
		return completeWords("10s", "30s", "1m", "10m", "1h")
	case kind == "SIGNAL":
		return completeWords(signalNames()...)
	case kind == "MODE":
		return completeWords("0644", "0640", "0600")
	case kind == "UMASK":
		return completeWords("022", "027", "077")
	case kind == "USER[:GROUP]":
		return func(*cobra.Command, []string, string) ([]cobra.Completion, cobra.ShellCompDirective) {
			return userNames(), noFiles
		}
	case kind == "DIR":
		return func(*cobra.Command, []string, string) ([]cobra.Completion, cobra.ShellCompDirective) {
			return nil, cobra.ShellCompDirectiveFilterDirs
		}
	case kind == "N", kind == "NAME[=VALUE]":
		return completeNothing
	}
	return nil
}

func completeNothing(*cobra.Command, []string, string) ([]cobra.Completion, cobra.ShellCompDirective) {
	return nil, noFiles
}

func completeWords(words ...string) completer {
	return func(*cobra.Command, []string, string) ([]cobra.Completion, cobra.ShellCompDirective) {
		return words, noFiles | cobra.ShellCompDirectiveKeepOrder
	}
}

// completeRun completes PIDFILE, COMMAND, and COMMAND's files.
func completeRun(c *cobra.Command, args []string, begun string) ([]cobra.Completion, cobra.ShellCompDirective) {
	switch _, command := splitCommand(args); {
	case len(args) == 0:
		return completePIDFiles(c, args, begun)
	case len(command) == 0 && !strings.Contains(begun, "/"):
		return programs(begun), noFiles
	}
	return nil, cobra.ShellCompDirectiveDefault
}

func completeSignal(c *cobra.Command, args []string, begun string) ([]cobra.Completion, cobra.ShellCompDirective) {
	if len(args) == 0 {
		return signalNames(), noFiles
	}
	return completePIDFiles(c, args, begun)
}

func completeHelp(c *cobra.Command, args []string, begun string) (names []cobra.Completion, _ cobra.ShellCompDirective) {
	if len(args) > 0 {
		return nil, noFiles
	}
	for _, sub := range c.Root().Commands() {
		if sub.IsAvailableCommand() && strings.HasPrefix(sub.Name(), begun) {
			names = append(names, cobra.CompletionWithDesc(sub.Name(), sub.Short))
		}
	}
	return names, noFiles
}

// completePIDFiles completes names with their state, and paths: directories, and
// what ends in .pid.
func completePIDFiles(_ *cobra.Command, _ []string, begun string) (all []cobra.Completion, _ cobra.ShellCompDirective) {
	directive := noFiles
	dir, err := ownDir()
	if !strings.Contains(begun, "/") && err == nil {
		files, _ := filepath.Glob(filepath.Join(dir, "*.pid")) // the pattern is right
		for _, path := range files {
			name := strings.TrimSuffix(filepath.Base(path), ".pid")
			if strings.HasPrefix(name, begun) && !isNumber(name) {
				all = append(all, cobra.CompletionWithDesc(name, stateOf(path)))
			}
		}
	}
	parent, base := filepath.Split(begun)
	entries, _ := os.ReadDir(cmp.Or(parent, "."))
	for _, e := range entries {
		name := e.Name()
		if !strings.HasPrefix(name, base) || base == "" && name[0] == '.' {
			continue
		}
		switch fi, err := os.Stat(parent + name); {
		case err == nil && fi.IsDir():
			all = append(all, parent+name+"/")
			directive |= cobra.ShellCompDirectiveNoSpace
		case strings.HasSuffix(name, ".pid"):
			all = append(all, cobra.CompletionWithDesc(parent+name, stateOf(parent+name)))
		}
	}
	return all, directive
}

func stateOf(path string) string {
	s, _ := pidfile.Inspect(path) // unknown is a state
	if s.State != pidfile.Running {
		return s.State.String()
	}
	return "running, " + target(s)
}

// programs are the commands of PATH that begin so.
func programs(begun string) (names []cobra.Completion) {
	seen := map[string]bool{}
	for _, dir := range filepath.SplitList(os.Getenv("PATH")) {
		entries, _ := os.ReadDir(cmp.Or(dir, ".")) // it may be missing
		for _, e := range entries {
			name := e.Name()
			if !strings.HasPrefix(name, begun) || seen[name] {
				continue
			}
			if fi, err := os.Stat(filepath.Join(dir, name)); err == nil && fi.Mode().IsRegular() && fi.Mode()&0o111 != 0 {
				seen[name] = true
				names = append(names, name)
			}
		}
	}
	return names
}

func userNames() (names []cobra.Completion) {
	text, _ := os.ReadFile("/etc/passwd") // users can come from elsewhere
	for line := range strings.Lines(string(text)) {
		if name, _, ok := strings.Cut(line, ":"); ok {
			names = append(names, name)
		}
	}
	return names
}

func signalNames() (names []string) {
	for _, name := range []string{"TERM", "HUP", "INT", "QUIT", "USR1", "USR2", "CONT", "STOP", "KILL", "WINCH", "ALRM", "ABRT"} {
		if _, err := supervise.ParseSignal(name); err == nil {
			names = append(names, name)
		}
	}
	return names
}
