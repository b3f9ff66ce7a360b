package commands

import (
	"github.com/spf13/cobra"
)

const aclHelp = `Look at the rules of a server: who may do what. They stand in its config.yml, in
order, and the first that matches who, what and action decides; if none does, the
answer is no:

  access:
    - {who: everyone, what: "**:v*", deny: [overwrite, delete], because: releases never change}
    - {who: group:php, what: php/**, may: [pull, push], from: 10.0.0.0/8}
    - {who: all, what: "${user}/**", may: all}
    - {who: everyone, what: [php/**, base], may: pull}

who     anonymous (has not logged in), all (has logged in), everyone, user:NAME,
        group:NAME, robot:NAME. In a NAME * is anything, and /.../ a regular expression.
what    REPOSITORY or REPOSITORY:TAG. * is anything but a slash, ** anything, /.../ a
        regular expression that must match all of it. ${user} is the name of the
        caller, ${user:1} what the first group of a regular expression in who matched.
may     what is allowed: pull, push, overwrite (move a tag that exists), delete, list
        (see it in the catalogue) or all. To push is to overwrite, too, unless a rule
        before denies that.
deny    what is denied, in place of may.
from    networks of the caller.
because why, for people: denials and regctl acl explain say it.

In place of rules there are presets: open, public-pull (everyone pulls, who has
logged in may do everything) and private (who has logged in may do everything).`

const aclExamples = `  regctl acl explain alice php/app:latest push --config config.yml
  regctl acl import auth_config.yml --htpasswd auth/htpasswd >>config.yml`

func newACL(env *Env) *cobra.Command {
	cmd := &cobra.Command{
		Use:     "acl",
		Short:   "Look at who may do what",
		Long:    aclHelp,
		Example: aclExamples,
		GroupID: groupServe,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) == 0 {
				return nil
			}
			return usagef("acl has no command %q; it has explain and import: regctl acl explain WHO WHAT ACTION", args[0])
		},
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(
		newACLExplain(env, runACLExplain),
		newACLImport(env, runACLImport),
	)
	return cmd
}
