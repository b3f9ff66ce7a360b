// Package commands is the command line of regctl. Only it knows flags,
// environment variables and exit statuses.
//
// One file is one command: its options, newX(env, run) that reads them from
// flags, and runX(ctx, env, options) that does the work, with input, output,
// clock and environment handed in. What a command finds goes to stdout, what
// it says about it to stderr.
package commands

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"
)

// Main runs the command line args, without the name of the program, and
// returns the exit status.
func Main(ctx context.Context, env *Env, args []string) int {
	if err := foreign(args); err != nil {
		return env.end(err)
	}
	return env.end(env.execute(ctx, newRoot(env), args))
}

// end says how a command ended, and returns the exit status.
func (e *Env) end(err error) int {
	var exit *ExitError
	switch {
	case err == nil:
	case errors.As(err, &exit) && exit.Err == nil: // All is said.
	case errors.Is(err, context.Canceled):
		e.say("interrupted")
	default:
		e.say("%s", err)
	}
	return exitStatus(err)
}

// execute runs the command line args on a tree of commands.
func (e *Env) execute(ctx context.Context, root *cobra.Command, args []string) error {
	args, err := doubleDashes(root, args)
	if err != nil {
		return err
	}
	root.SetArgs(args)
	return root.ExecuteContext(ctx)
}

// say writes a line of talk. That it cannot be written is no reason to stop.
func (e *Env) say(format string, args ...any) {
	_, _ = fmt.Fprintf(e.Stderr, format+"\n", args...)
}

const (
	groupLook  = "look"  // These change nothing.
	groupMove  = "move"  // These make something be there.
	groupClean = "clean" // These take something away, or bring it back.
	groupServe = "serve"
	groupOther = "other"
)

// newRoot builds the tree of commands.
func newRoot(env *Env) *cobra.Command {
	root := &cobra.Command{
		Use:   "regctl",
		Short: "Host a container registry, and work with any other",
		Long: `regctl hosts a container registry, and works with any other.

Bare names mean the default registry: --registry, $REGCTL_REGISTRY, registry: in
~/.config/regctl/config.yaml, or else localhost:5000. Docker Hub is docker.io/….
Long flags work with one dash or two.

` + exitHelp,
		Version:       env.Build.String(),
		Args:          knownCommand,
		RunE:          func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
		SilenceUsage:  true,
		SilenceErrors: true,
	}
	root.SetIn(env.Stdin)
	root.SetOut(env.Stdout)
	root.SetErr(env.Stderr)
	root.SetVersionTemplate("{{.Version}}\n")
	root.SetFlagErrorFunc(flagError)
	root.SuggestionsMinimumDistance = 2
	root.CompletionOptions.DisableDefaultCmd = true
	root.PersistentFlags().BoolVarP(&env.verbose, "verbose", "v", false, "tell every request on stderr")
	root.AddGroup(
		&cobra.Group{ID: groupLook, Title: "Look:"},
		&cobra.Group{ID: groupMove, Title: "Move:"},
		&cobra.Group{ID: groupClean, Title: "Clean up:"},
		&cobra.Group{ID: groupServe, Title: "Serve:"},
		&cobra.Group{ID: groupOther, Title: "Other:"},
	)
	root.SetHelpCommandGroupID(groupOther)
	root.AddCommand(
		newLs(env, runLs),
		newInspect(env, runInspect),
		newCp(env, runCp),
		newTag(env, runTag),
		newSave(env, runSave),
		newLoad(env, runLoad),
		newPrune(env, runPrune),
		newRm(env, runRm),
		newUndo(env, runUndo),
		newGC(env, runGC),
		newCheck(env, runCheck),
		newServe(env, runServe),
		newCert(env),
		newEvents(env),
		newHtpasswd(env),
		newACL(env),
		newToken(env),
		newConfig(env),
		newLogin(env, runLogin),
		newLogout(env, runLogout),
		newCompletion(env),
		newVersion(env, runVersion),
	)
	return root
}

func knownCommand(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	message := fmt.Sprintf("there is no command %q", args[0])
	if near := cmd.SuggestionsFor(args[0]); len(near) > 0 {
		return usagef("%s; did you mean: regctl %s", message, strings.Join(near, ", regctl "))
	}
	return usagef("%s; see: regctl help", message)
}

// atMost accepts up to n arguments.
func atMost(n int) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if len(args) <= n {
			return nil
		}
		return usagef("%s takes no argument %q; see: %s --help", cmd.CommandPath(), args[n], cmd.CommandPath())
	}
}
