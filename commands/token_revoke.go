package commands

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/regctl/regctl/serve"
)

type tokenRevokeOptions struct {
	localOptions
	Names []string
}

func newTokenRevoke(env *Env, run func(context.Context, *Env, *tokenRevokeOptions) error) *cobra.Command {
	o := &tokenRevokeOptions{}
	cmd := &cobra.Command{
		Use:   "revoke NAME...",
		Short: "Keep robots out",
		Long: `Keep robots out, for good: their next request is not answered, whatever token they
got before. A new robot may have the same name.

` + tokenStoreHelp,
		RunE: func(cmd *cobra.Command, args []string) error {
			if o.Names = args; len(args) == 0 || slices.Contains(args, "") {
				return usagef("name the robots: regctl token revoke NAME; see: regctl token ls")
			}
			if err := o.read(cmd, nil); err != nil {
				return err
			}
			return run(cmd.Context(), env, o)
		},
	}
	o.addStore(cmd, cobra.ArbitraryArgs)
	cmd.ValidArgsFunction = func(cmd *cobra.Command, args []string, _ string) ([]cobra.Completion, cobra.ShellCompDirective) {
		return env.completeRobots(cmd.Context(), &o.localOptions, args), cobra.ShellCompDirectiveNoFileComp
	}
	return cmd
}

// completeRobots are the robots that may log in, but for those that were named
// already. None if they cannot be known.
func (e *Env) completeRobots(ctx context.Context, o *localOptions, named []string) []cobra.Completion {
	quiet := *e
	quiet.Stderr = io.Discard
	robots, _, err := quiet.openRobots(ctx, o, "regctl token revoke")
	if err != nil {
		return nil
	}
	defer func() { _ = robots.Close() }() // Nothing was written.
	found, _ := robots.List(ctx)
	var names []cobra.Completion
	for _, r := range found.Robots {
		if r.State == serve.RobotActive && !slices.Contains(named, r.Name) {
			names = append(names, r.Name)
		}
	}
	return names
}

func runTokenRevoke(ctx context.Context, env *Env, o *tokenRevokeOptions) error {
	robots, _, err := env.openRobots(ctx, &o.localOptions, "regctl token revoke")
	if err != nil {
		return err
	}
	done, err := robots.Revoke(ctx, serve.RobotNames{Names: o.Names})
	if closed := robots.Close(); err == nil {
		err = closed
	}
	if err != nil {
		return err
	}
	for _, name := range done.Names {
		env.say("revoked %s", name)
	}
	var unknown []string
	for _, name := range o.Names {
		if !slices.Contains(done.Names, name) {
			unknown = append(unknown, name)
		}
	}
	if len(unknown) == 0 {
		return nil
	}
	status := exitNotFound
	if len(done.Names) > 0 {
		status = exitSome
	}
	return &ExitError{status, fmt.Errorf("there is no robot %s; see: regctl token ls --all", strings.Join(unknown, ", "))}
}
