package commands

import (
	"context"

	"github.com/spf13/cobra"
)

type logoutOptions struct{ Host string }

const logoutHelp = `Forget the login for a registry: in docker's config.json, and with the helper
that it names. What podman keeps is left alone: podman logout HOST.`

func newLogout(env *Env, run func(context.Context, *Env, *logoutOptions) error) *cobra.Command {
	return &cobra.Command{
		Use:               "logout [HOST]",
		Short:             "Forget the login for a registry",
		Long:              logoutHelp,
		Example:           "  regctl logout registry.lan",
		GroupID:           groupOther,
		Args:              atMost(1),
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(cmd *cobra.Command, args []string) error {
			o := &logoutOptions{}
			if len(args) > 0 {
				o.Host = args[0]
			}
			return run(cmd.Context(), env, o)
		},
	}
}

func runLogout(ctx context.Context, env *Env, o *logoutOptions) error {
	t, err := env.host(o.Host)
	if err != nil {
		return err
	}
	file, err := env.loginFile()
	if err != nil {
		return err
	}
	found, err := file.Erase(ctx, t.host)
	if err != nil {
		return err
	}
	if !found {
		env.say("no login for %s in %s", t.host, env.fromHome(file.Path))
		return nil
	}
	env.say("forgot the login for %s", t.host)
	return nil
}
