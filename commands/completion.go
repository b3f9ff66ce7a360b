package commands

import (
	"fmt"

	"github.com/spf13/cobra"
)

//go:generate sh -c "go run ../cmd/regctl completion bash >../completions/regctl.bash"
//go:generate sh -c "go run ../cmd/regctl completion zsh >../completions/_regctl"
//go:generate sh -c "go run ../cmd/regctl completion fish >../completions/regctl.fish"
//go:generate sh -c "go run ../cmd/regctl completion powershell >../completions/regctl.ps1"

func newCompletion(env *Env) *cobra.Command {
	return &cobra.Command{
		Use:   "completion bash|zsh|fish|powershell",
		Short: "Write the completion script of a shell",
		Long: `Write the completion script of a shell: commands, flags, and the names of
registries, repositories and tags.`,
		Example: `  bash        source <(regctl completion bash)
  zsh         regctl completion zsh >"${fpath[1]}/_regctl"
  fish        regctl completion fish >~/.config/fish/completions/regctl.fish
  powershell  regctl completion powershell | Out-String | Invoke-Expression`,
		GroupID:   groupOther,
		ValidArgs: []cobra.Completion{"bash", "zsh", "fish", "powershell"},
		Args:      oneShell,
		RunE: func(cmd *cobra.Command, args []string) error {
			return writeCompletion(env, cmd.Root(), args[0])
		},
	}
}

func oneShell(cmd *cobra.Command, args []string) error {
	if len(args) != 1 {
		return usagef("which shell? bash, zsh, fish or powershell: regctl completion bash")
	}
	for _, shell := range cmd.ValidArgs {
		if args[0] == shell {
			return nil
		}
	}
	return usagef("no completion for %q; there is bash, zsh, fish and powershell", args[0])
}

func writeCompletion(env *Env, root *cobra.Command, shell string) error {
	switch shell {
	case "bash":
		return root.GenBashCompletionV2(env.Stdout, true)
	case "zsh":
		return root.GenZshCompletion(env.Stdout)
	case "fish":
		return root.GenFishCompletion(env.Stdout, true)
	case "powershell":
		return root.GenPowerShellCompletionWithDesc(env.Stdout)
	}
	return fmt.Errorf("no completion for %q", shell)
}
