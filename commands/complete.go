package commands

import (
	"context"
	"iter"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
)

const (
	completeWithin = time.Second // A shell that hangs is worse than one that knows nothing.
	completeMost   = 1000
)

// completeNames completes host, then repository, then, if tags are wanted,
// tag. What cannot be found out in time is not completed, and nothing is said.
func completeNames(env *Env, o *remoteOptions, tags bool) cobra.CompletionFunc {
	return func(cmd *cobra.Command, args []string, typed string) ([]cobra.Completion, cobra.ShellCompDirective) {
		if cmd.Args != nil && cmd.Args(cmd, append(slices.Clone(args), "one-more")) != nil {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		ctx, cancel := context.WithTimeout(cmd.Context(), completeWithin)
		defer cancel()
		return env.complete(ctx, o, typed, tags)
	}
}

func (e *Env) complete(ctx context.Context, o *remoteOptions, typed string, tags bool) ([]cobra.Completion, cobra.ShellCompDirective) {
	const stay = cobra.ShellCompDirectiveNoFileComp | cobra.ShellCompDirectiveNoSpace
	head, ref, hasRef := cutTag(typed)
	if hasRef && !tags {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	if hasRef {
		t, err := e.target(head, o)
		if err != nil {
			return nil, stay
		}
		return e.found(ctx, o, t, head+":", ref), cobra.ShellCompDirectiveNoFileComp
	}
	prefix := ""
	scheme, rest := cutScheme(typed)
	// "team/" is on its way to a repository rather than a host.
	if strings.Contains(rest, "/") && (scheme != "" || beginsWithHost(strings.TrimSuffix(rest, "/"))) {
		prefix = typed[:len(typed)-len(rest)+strings.Index(rest, "/")+1]
	}
	t, err := e.target(prefix, o)
	if err != nil {
		return nil, stay
	}
	t.repo, t.ref = "", ""
	found := e.found(ctx, o, t, prefix, typed[len(prefix):])
	if host := t.host + "/"; prefix == "" && strings.HasPrefix(host, typed) {
		return append([]cobra.Completion{host}, found...), stay
	}
	if tags {
		return found, stay
	}
	return found, cobra.ShellCompDirectiveNoFileComp
}

// cutTag splits NAME:TAG as far as it is typed.
func cutTag(typed string) (name, tag string, ok bool) {
	slash := strings.LastIndex(typed, "/")
	last := typed[slash+1:]
	repo, tag, ok := strings.Cut(last, ":")
	if !ok || slash < 0 && beginsWithHost(typed) {
		return typed, "", false
	}
	return typed[:slash+1] + repo, tag, true
}

// found lists what begins with typed: repositories of t, or tags if t is one.
func (e *Env) found(ctx context.Context, o *remoteOptions, t target, prefix, typed string) []cobra.Completion {
	c, err := e.open(t, o, nil)
	if err != nil {
		return nil
	}
	var list iter.Seq2[string, error]
	if t.repo != "" {
		list = c.Tags(ctx, t.repo, "")
	} else {
		list = c.Repos(ctx, "")
	}
	var found []cobra.Completion
	for name, err := range list {
		if err != nil || len(found) == completeMost {
			break
		}
		if strings.HasPrefix(name, typed) {
			found = append(found, prefix+name)
		}
	}
	return found
}
