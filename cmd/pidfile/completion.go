package main

import (
	"errors"

	"github.com/spf13/cobra"
)

func completionCommand() *cobra.Command {
	shells := []string{"bash", "zsh", "fish", "powershell"}
	return &cobra.Command{
		Use:   "completion bash|zsh|fish|powershell",
		Short: "Print a shell's completion script",
		Long: `Print the script that completes the command line of pidfile in a shell.

  bash (with the package bash-completion), in ~/.bashrc:
    source <(pidfile completion bash)
  zsh, in ~/.zshrc after compinit:
    source <(pidfile completion zsh)
  fish, once:
    pidfile completion fish >~/.config/fish/completions/pidfile.fish

Exit codes:
  0    done
  125  the command line is wrong`,
		Args: func(c *cobra.Command, args []string) error {
			var shell string
			if len(args) != 1 {
				return usage(c, errors.New("completion needs one shell"))
			}
			if err := oneOfValue(&shell, "", shells...).Set(args[0]); err != nil {
				return usage(c, err)
			}
			return nil
		},
		RunE: func(c *cobra.Command, args []string) error {
			root := c.Root()
			switch args[0] {
			case "bash":
				return root.GenBashCompletionV2(&stdout, true)
			case "zsh":
				return root.GenZshCompletion(&stdout)
			case "fish":
				return root.GenFishCompletion(&stdout, true)
			}
			return root.GenPowerShellCompletionWithDesc(&stdout)
		},
		ValidArgs:             shells,
		DisableFlagsInUseLine: true,
	}
}
