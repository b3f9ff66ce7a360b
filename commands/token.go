package commands

import (
	"context"

	"github.com/spf13/cobra"

	"github.com/regctl/regctl/serve"
	"github.com/regctl/regctl/serve/config"
)

const tokenHelp = `Make logins for programs: the jobs of a CI, the nodes of a cluster. Such a robot has
a name, which is its user name, a secret, which is its password, scopes, which are
what it may at most, and an end.

What it may is decided by the rules of the server, in which it is robot:NAME; if
none of them is about it, by its scopes. It may no more than these say, but for what
anybody may without a login.

`

// tokenStoreHelp is localHelp for commands whose arguments are robots.
const tokenStoreHelp = `The store is --data, else $REGCTL_DATA, else that of the config file --config, else
/var/lib/registry if a registry is there, else ~/.local/share/regctl. A regctl serve
that has it is asked, and obeys at once; else the next one does.`

const tokenExamples = `  regctl token create ci --scope 'php/**:pull,push' | regctl login registry.lan -u ci --password-stdin
  regctl token create nodes --scope '**:pull' --expires never -o docker-config=registry.lan
  regctl token ls
  regctl token revoke ci`

func newToken(env *Env) *cobra.Command {
	cmd := &cobra.Command{
		Use:     "token",
		Short:   "Make logins for programs",
		Long:    tokenHelp + tokenStoreHelp,
		Example: tokenExamples,
		GroupID: groupServe,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) == 0 {
				return nil
			}
			return usagef("token has no command %q; it has create, ls, revoke and trust: regctl token create NAME --scope 'REPOSITORY:pull,push'", args[0])
		},
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(
		newTokenCreate(env, runTokenCreate),
		newTokenLs(env, runTokenLs),
		newTokenRevoke(env, runTokenRevoke),
		newTokenTrust(env, runTokenTrust),
	)
	return cmd
}

// addStore adds the flags that choose the store, and leaves the arguments to
// the command.
func (o *localOptions) addStore(cmd *cobra.Command, args cobra.PositionalArgs) {
	o.add(cmd)
	cmd.Args = args
	cmd.ValidArgsFunction = cobra.NoFileCompletions
}

// openRobots finds the store and opens its robots.
func (e *Env) openRobots(ctx context.Context, o *localOptions, command string) (serve.Robots, config.Place, error) {
	parts, place, err := e.findStore(o, command)
	if err != nil {
		return nil, place, err
	}
	robots, err := serve.OpenRobots(ctx, parts)
	if err != nil {
		return nil, place, e.cannotUpkeep(err, place, command)
	}
	return robots, place, nil
}
