package commands

import (
	"context"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/regctl/regctl/serve"
)

type tokenLsOptions struct {
	localOptions
	All    bool
	Output string
}

func newTokenLs(env *Env, run func(context.Context, *Env, *tokenLsOptions) error) *cobra.Command {
	o := &tokenLsOptions{}
	cmd := &cobra.Command{
		Use:   "ls [CONFIG.yml]",
		Short: "List the robots",
		Long: `List the robots of a store, with what they may, when they were there last, and when
they expire. Those that were revoked, or whose place another of the same name has
taken, are listed for a year with --all. In a pipe: the names.

` + localHelp,
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := o.read(cmd, args); err != nil {
				return err
			}
			return run(cmd.Context(), env, o)
		},
	}
	o.add(cmd)
	cmd.Flags().BoolVarP(&o.All, "all", "a", false, "those that are no more as well")
	addOutput(cmd, &o.Output)
	return cmd
}

func runTokenLs(ctx context.Context, env *Env, o *tokenLsOptions) error {
	f, err := parseFormat(o.Output)
	if err != nil {
		return err
	}
	robots, place, err := env.openRobots(ctx, &o.localOptions, "regctl token ls")
	if err != nil {
		return err
	}
	defer func() { _ = robots.Close() }() // Nothing was written.
	found, err := robots.List(ctx)
	if err != nil {
		return err
	}
	if len(found.Robots) == 0 {
		env.say("%s has no robots; make one: regctl token create NAME --scope 'REPOSITORY:pull,push'", env.tilde(place.Path))
	}
	var columns []string
	if env.Terminal {
		columns = []string{"NAME", "SCOPES", "CREATED", "EXPIRES", "USED", "STATE", "NOTE"}
	}
	p := newPrinter(env.Stdout, f, "regctl.tokens/v1", "", columns)
	for i, r := range found.Robots {
		replaced := i+1 < len(found.Robots) && found.Robots[i+1].Name == r.Name
		if !o.All && (replaced || r.State == serve.RobotRevoked) {
			continue
		}
		if err := p.add(r, r.Name, robotCells(r, env.Now())); err != nil {
			return err
		}
	}
	return p.end()
}

// robotCells are the cells of a robot.
func robotCells(r serve.Robot, now time.Time) []string {
	expires, used := never, never
	if !r.Expires.IsZero() {
		expires = r.Expires.Local().Format(time.DateTime)
	}
	if !r.Used.IsZero() {
		used = ago(now, r.Used)
	}
	return []string{r.Name, strings.Join(r.Scopes, " "), ago(now, r.Created), expires, used, r.State, r.Note}
}
