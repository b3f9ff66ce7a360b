package commands

import (
	"context"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

type pruneOptions struct {
	remoteOptions
	Repos    []string
	Keep     int
	Older    string
	Ranked   bool // --keep was given.
	Include  []string
	Exclude  []string
	By       string
	Untagged bool
	Protect  string
	Policy   string

	DryRun         bool
	ExitCode       bool
	Yes            bool
	Force          bool
	NoJournal      bool
	OverwriteUntag bool
	Quiet          bool
	Output         string
}

const pruneHelp = `Delete old tags, and what only they needed.

  regctl prune --keep 10                      in every repository of the default registry
  regctl prune --keep 10 --dry-run            tell what would go, and why
  regctl prune --keep 10 --older 30d HOST     both: beyond the newest 10 and older than 30 days
  regctl prune --older 2w 'team/*' --include 'dev-*'
  kubectl get pods -A -o jsonpath='{..image}' | regctl prune --keep 10 --protect -

A tag goes only if it is beyond --keep and older than --older, of which one must
be given. --keep counts images: tags of one image count once. Newest is what was
pushed last where the registry tells that of all tags, else what was built last;
of equals, the higher name. Dates before 2013 or in the future are no dates, and
nothing goes by them. --by semver or --by name ranks by names instead.

Tags that are named after a digest (sha256-….sig) live and die with it. The tag
latest stays unless --include latest says otherwise. --protect keeps what a FILE
names, one image a line; references to other registries are passed over. What is
protected stays besides the newest, and does not count as one of them.

A manifest goes with its last tag, with its children and all that refers to it,
unless another tag, index or subject needs it. What cannot be read, or has a
type that is not known, freezes its repository: it is left alone, and the exit
status is 3. No repository loses its last tag without --force: exit status 2.

No registry lists what has no tag. --untagged deletes of that what is known of:
what rm and prune have untagged from here, and signatures and lists of referrers
whose subject is gone. On a regctl serve, "regctl gc --untagged" finds the rest.

All that is deleted is recorded first, in $XDG_STATE_HOME/regctl/undo or
~/.local/state/regctl/undo, until you delete it there; "regctl undo" puts it back
as long as the registry has not collected its garbage. What was interrupted is
finished by the same command.

--policy FILE has rules instead; the first that matches a repository owns it, and
repositories without one are left alone:

  rules:
    - repositories: [team/**]
      keep: 10
      older: 30d
      protect: [latest, /^v\d+\.\d+\.0$/]
    - repositories: ["**"]
      keep: 50

--include and --exclude choose tags, by a glob or a /regular expression/; with a
colon they are about REPOSITORY:TAG. --exclude names repositories, too.`

func newPrune(env *Env, run func(context.Context, *Env, *pruneOptions) error) *cobra.Command {
	o := &pruneOptions{}
	cmd := &cobra.Command{
		Use:               "prune [HOST | [HOST/]REPO...]",
		Short:             "Delete old tags and what only they needed",
		Long:              pruneHelp,
		GroupID:           groupClean,
		Annotations:       pruneRegistryPy(),
		ValidArgsFunction: completeNames(env, &o.remoteOptions, false),
		RunE: func(cmd *cobra.Command, args []string) error {
			o.Repos = append(o.Repos, args...)
			o.Ranked = cmd.Flags().Changed("keep") || cmd.Flags().Changed("num")
			if err := noneEmpty(cmd.Flags(), "older", "protect", "policy", "by", "include", "exclude"); err != nil {
				return err
			}
			if sure, _ := cmd.Flags().GetBool("delete"); !sure {
				return usagef("prune deletes; to see what would go: --dry-run")
			}
			return run(cmd.Context(), env, o)
		},
	}
	flags := cmd.Flags()
	o.add(cmd)
	o.addJobs(cmd)
	flags.IntVarP(&o.Keep, "keep", "n", 0, "keep the newest `N` images of each repository")
	flags.StringVar(&o.Older, "older", "", "keep what is not older than `AGE`: 12h, 30d, 2w")
	flags.StringArrayVar(&o.Include, "include", nil, "only tags that match `PATTERN` (repeatable)")
	flags.StringArrayVar(&o.Exclude, "exclude", nil, "no tags that match `PATTERN` (repeatable)")
	flags.StringVar(&o.By, "by", "time", "what makes a tag newer: time, semver or name")
	flags.BoolVar(&o.Untagged, "untagged", false, "also what is known to have no tag, or no subject, any more")
	flags.StringVar(&o.Protect, "protect", "", "keep the images that `FILE` names, one a line; - is stdin")
	flags.StringVar(&o.Policy, "policy", "", "the rules in `FILE` (YAML)")
	flags.BoolVar(&o.DryRun, "dry-run", false, "tell what would go, delete nothing")
	flags.BoolVar(&o.ExitCode, "exit-code", false, "with --dry-run: exit status 10 if anything would go")
	flags.BoolVarP(&o.Yes, "yes", "y", false, "do not ask on a terminal")
	flags.BoolVar(&o.Force, "force", false, "allow a repository to lose its last tag, and a --protect without effect")
	flags.BoolVar(&o.NoJournal, "no-journal", false, "record nothing; there is no undo")
	flags.BoolVar(&o.OverwriteUntag, "overwrite-untag", false, "where tags cannot be deleted alone, push an empty index over them and delete that")
	flags.BoolVarP(&o.Quiet, "quiet", "q", false, "tell errors only")
	addOutput(cmd, &o.Output)
	pruneHabits(cmd, o)
	return cmd
}

// noneEmpty refuses flags that were given without a value, as "$AGE" is where
// AGE is not set: without them more would go than was meant.
func noneEmpty(flags *pflag.FlagSet, names ...string) error {
	for _, name := range names {
		f := flags.Lookup(name)
		values := []string{f.Value.String()}
		if list, ok := f.Value.(pflag.SliceValue); ok {
			values = list.GetSlice()
		}
		if f.Changed && slices.Contains(values, "") {
			return usagef("--%s is empty", name)
		}
	}
	return nil
}

// pruneHabits adds the flags of registry.py that mean the same here.
func pruneHabits(cmd *cobra.Command, o *pruneOptions) {
	flags := cmd.Flags()
	flags.IntVar(&o.Keep, "num", 0, "as --keep")
	flags.StringArrayVarP(&o.Repos, "image", "i", nil, "a repository")
	flags.BoolP("delete", "d", true, "prune deletes anyway")
	flags.StringVar(&o.Registry, "host", "", "as --registry")
	for _, name := range []string{"num", "image", "delete", "host"} {
		hideFlag(cmd, name)
	}
	_ = cmd.RegisterFlagCompletionFunc("by", cobra.FixedCompletions([]cobra.Completion{"time", "semver", "name"}, cobra.ShellCompDirectiveNoFileComp))
}

// pruneRegistryPy explains the flags of registry.py that prune does not have.
func pruneRegistryPy() map[string]string {
	hints := map[string]string{
		"l w read-password":         "logins are docker's: docker login HOST",
		"no-validate-ssl":           "here: --insecure",
		"tags-like similar-tags":    "here: --include '/REGEX/'",
		"keep-tags":                 "here: --exclude TAG",
		"keep-tags-like":            "here: --exclude '/REGEX/'",
		"keep-by-hours":             "here: --older 24h keeps what is younger",
		"delete-by-hours":           "here: --older 24h",
		"delete-all":                "to delete a repository: regctl rm -a REPO",
		"order-by-date":             "regctl prune ranks by date anyway; see --by",
		"layers plain":              "regctl prune does not list; see regctl ls and --dry-run",
		"debug":                     "here: --verbose",
		"digest-method auth-method": "regctl finds that out by itself",
	}
	annotations := map[string]string{}
	for names, hint := range hints {
		for name := range strings.FieldsSeq(names) {
			annotations[registryPy+name] = hint
		}
	}
	return annotations
}

func runPrune(ctx context.Context, env *Env, o *pruneOptions) error {
	ctx = looking(ctx)
	p, err := newPruner(ctx, env, o)
	if err != nil {
		return err
	}
	return p.run(ctx)
}
