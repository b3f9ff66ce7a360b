package commands

import (
	"context"
	"path/filepath"

	"github.com/spf13/cobra"
)

type configOptions struct {
	Config string
	Strict bool
	Output string
}

const configHelp = `Look at what would configure regctl serve: the config file and the REGISTRY_*
variables, of which each may be named by the keys of the file or by those that
registry:2 calls them: REGISTRY_HEALTH_FILE_0_FILE, REGISTRY_HEALTH_FILECHECKERS_0_FILE.

The config file is the argument, else $REGISTRY_CONFIGURATION_PATH.`

const configExamples = `  regctl config check /etc/docker/registry/config.yml
  docker exec registry regctl config show`

const configCheckHelp = `Tell all that is wrong with a configuration at once, each with its line, and look
into the files that it names: certificates and keys, htpasswd files, the directory
of the store. Rules are held against each other: one that never decides, or denies too
late, a group that nobody is in, a user who is nowhere, and what is allowed to who has
not logged in only.

An error keeps regctl serve from starting; a warning says what has no effect, or
will surprise somebody. A section that restricts or secures something and cannot
be honoured is an error.

Exit status: 0 no error · 2 an error; with --strict: or a warning.`

const configShowHelp = `Write every value that rules, and who said so: a line of the config file, a
variable, or a default. Secrets are hidden.

Without a config file or REGISTRY_* variables the defaults are ours; with either
they are those of registry:2.`

func newConfig(env *Env) *cobra.Command {
	cmd := &cobra.Command{
		Use:     "config",
		Short:   "Check or show what configures regctl serve",
		Long:    configHelp,
		Example: configExamples,
		GroupID: groupServe,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) == 0 {
				return nil
			}
			return usagef("config has no command %q; it has check and show: regctl config check [CONFIG.yml]", args[0])
		},
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	check, o := newConfigCommand(env, "check [CONFIG.yml]", runConfigCheck)
	check.Short, check.Long = "Tell all that is wrong with it", configCheckHelp
	check.Flags().BoolVar(&o.Strict, "strict", false, "take a warning for an error")
	show, _ := newConfigCommand(env, "show [CONFIG.yml]", runConfigShow)
	show.Short, show.Long = "Write every value that rules, and who said so", configShowHelp
	cmd.AddCommand(check, show)
	return cmd
}

func newConfigCommand(env *Env, use string, run func(context.Context, *Env, *configOptions) error) (*cobra.Command, *configOptions) {
	o := &configOptions{}
	cmd := &cobra.Command{
		Use:  use,
		Args: atMost(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) > 0 {
				if o.Config = args[0]; o.Config == "" {
					return usagef("the name of the config file is empty")
				}
			}
			return run(cmd.Context(), env, o)
		},
		ValidArgsFunction: cobra.FixedCompletions([]cobra.Completion{"yml", "yaml"}, cobra.ShellCompDirectiveFilterFileExt),
	}
	addOutput(cmd, &o.Output)
	return cmd, o
}

// called is what a configuration is called when it is talked about.
func (o *configOptions) called(name string) string {
	switch {
	case o.Config != "":
		return filepath.Clean(o.Config)
	case name != "":
		return name
	}
	return "the configuration"
}
