package commands

import (
	"context"
	"errors"
	"iter"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/regctl/regctl/client"
	"github.com/regctl/regctl/client/oci"
)

type lsOptions struct {
	remoteOptions
	What    string
	All     bool
	Include []string
	Exclude []string
	Reverse bool
	Limit   int
	Full    bool
	Quiet   bool
	Plain   bool
	Output  string
}

const lsHelp = `List the repositories of a registry, the tags of a repository, or with --all
every REPOSITORY:TAG of a registry.

  regctl ls                   repositories of the default registry
  regctl ls HOST              repositories of HOST
  regctl ls REPO              tags of a repository of the default registry
  regctl ls HOST/REPO         tags of a repository
  regctl ls --all HOST        every REPOSITORY:TAG

What has a dot, a port or a trailing slash, or is localhost, is a HOST; it may
begin with http:// or https://.

--include and --exclude take a glob, in which * stays within a part of a name
and ** does not, or a /regular expression/. With --all a glob without a colon
is about the repository: --include 'team/*' --exclude '**:dev-*'.

On a terminal more is told of a registry that is a regctl serve. SIZE is what a
pull of all platforms of an image moves; of a repository, the sum over the
different images that its tags point to: a layer counts in each of them. Of more
than a page of tags the first page counts; 1000+, ≥ and ≤ say so.`

func newLs(env *Env, run func(context.Context, *Env, *lsOptions) error) *cobra.Command {
	o := &lsOptions{}
	cmd := &cobra.Command{
		Use:               "ls [HOST | [HOST/]REPO]",
		Short:             "List repositories or tags",
		Long:              lsHelp,
		GroupID:           groupLook,
		Args:              atMost(1),
		Annotations:       lsRegistryPy(),
		ValidArgsFunction: completeNames(env, &o.remoteOptions, false),
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) > 0 {
				o.What = args[0]
			}
			return run(cmd.Context(), env, o)
		},
	}
	flags := cmd.Flags()
	o.add(cmd)
	flags.BoolVarP(&o.All, "all", "a", false, "every REPOSITORY:TAG")
	flags.StringArrayVar(&o.Include, "include", nil, "only names that match `PATTERN` (repeatable)")
	flags.StringArrayVar(&o.Exclude, "exclude", nil, "no names that match `PATTERN` (repeatable)")
	flags.BoolVar(&o.Reverse, "reverse", false, "last name first")
	flags.IntVar(&o.Limit, "limit", 0, "at most `N` names")
	flags.BoolVar(&o.Full, "full", false, "whole names, HOST/REPO:TAG, for other programs")
	flags.BoolVarP(&o.Quiet, "quiet", "q", false, "names only, no warnings")
	flags.BoolVar(&o.Plain, "plain", false, "one name a line on a terminal, too")
	flags.StringVar(&o.Registry, "host", "", "as --registry")
	hideFlag(cmd, "host")
	addOutput(cmd, &o.Output)
	return cmd
}

// hideFlag keeps a flag that is there for old habits out of the help.
func hideFlag(cmd *cobra.Command, name string) {
	if f := cmd.Flags().Lookup(name); f != nil {
		f.Hidden = true
	}
}

// lsRegistryPy explains the flags of registry.py that ls does not have.
func lsRegistryPy() map[string]string {
	hints := map[string]string{
		"i image":                       "name the repository: regctl ls REPO",
		"n num":                         "it counts tags to keep; for a shorter list: --limit N",
		"w read-password":               "the password is asked for, or read by --password-stdin: regctl login HOST",
		"no-validate-ssl":               "here: --insecure",
		"tags-like similar-tags":        "here: --include '/REGEX/'",
		"d delete delete-all dry-run":   "regctl ls deletes nothing",
		"keep-tags keep-tags-like":      "regctl ls deletes nothing",
		"keep-by-hours delete-by-hours": "regctl ls deletes nothing",
		"layers":                        "regctl ls lists names only",
		"order-by-date":                 "regctl ls lists in the order of the registry; see --reverse",
		"debug":                         "here: --verbose",
		"digest-method auth-method":     "regctl finds that out by itself",
	}
	annotations := map[string]string{}
	for names, hint := range hints {
		for name := range strings.FieldsSeq(names) {
			annotations[registryPy+name] = hint
		}
	}
	return annotations
}

// lsItem is a line of the list, and its JSON form.
type lsItem struct {
	Repo string `json:"repo"`
	Tag  string `json:"tag,omitempty"`

	detail *oci.TagDetail // Of a tag, sum of a repository. Nil: not known.
	sum    *repoSum
}

func (i lsItem) name() string {
	if i.Tag == "" {
		return i.Repo
	}
	return i.Repo + ":" + i.Tag
}

func runLs(ctx context.Context, env *Env, o *lsOptions) error {
	l, err := newLister(env, o)
	if err != nil {
		return err
	}
	items := l.items(ctx)
	if o.Reverse {
		items = reversed(items)
	}
	if l.columns() != nil && l.target.repo == "" && !o.All && !o.Full {
		items = l.summed(ctx, items)
	}
	err = l.print(items)
	switch {
	case err != nil && ctx.Err() != nil:
		return ctx.Err()
	case err != nil:
		return err
	case l.failed > 0:
		return &ExitError{Status: exitSome}
	}
	if l.printed == 0 && l.columns() != nil {
		env.say("nothing to list on %s", l.target.host)
	}
	return nil
}

// lister is one run of `regctl ls`.
type lister struct {
	env     *Env
	o       *lsOptions
	target  target
	format  format
	filter  filter
	client  *client.Client
	details bool // Items have them.
	printed int
	failed  int // Repositories that could not be listed.
}

func newLister(env *Env, o *lsOptions) (*lister, error) {
	l := &lister{env: env, o: o}
	var err error
	if l.filter, err = newFilter(o.Include, o.Exclude); err != nil {
		return nil, err
	}
	if l.format, err = parseFormat(o.Output); err != nil {
		return nil, err
	}
	if o.Limit < 0 {
		return nil, usagef("--limit %d: a number from 0 (no limit) up", o.Limit)
	}
	if l.target, err = env.target(o.What, &o.remoteOptions); err != nil {
		return nil, err
	}
	if l.target.ref != "" {
		return nil, usagef("%s names one image; ls lists repositories and tags: regctl ls %s", o.What, l.target.repo)
	}
	warn := env.warn
	if o.Quiet {
		warn = nil
	}
	l.client, err = env.open(l.target, &o.remoteOptions, warn)
	return l, err
}

// items returns what the options ask for, in the order of the registry.
func (l *lister) items(ctx context.Context) iter.Seq2[lsItem, error] {
	switch {
	case l.target.repo == "" && l.o.All:
		return kept(allTags(ctx, l.client, l.filter.skips), func(i lsItem) bool { return l.filter.keepsTag(i.Repo, i.Tag) })
	case l.target.repo == "":
		repos := mapped(l.client.Repos(ctx, ""), func(name string) lsItem { return lsItem{Repo: name} })
		return kept(repos, func(i lsItem) bool { return l.filter.keeps(i.Repo) })
	}
	tags := l.tags(ctx)
	if l.o.All {
		return kept(tags, func(i lsItem) bool { return l.filter.keepsTag(i.Repo, i.Tag) })
	}
	return kept(tags, func(i lsItem) bool { return l.filter.keeps(i.Tag) })
}

// tags lists the tags of a repository, for a terminal with details if the
// registry knows them.
func (l *lister) tags(ctx context.Context) iter.Seq2[lsItem, error] {
	repo := l.target.repo
	names := mapped(l.client.Tags(ctx, repo, ""), func(tag string) lsItem { return lsItem{Repo: repo, Tag: tag} })
	if l.columns() == nil || l.o.All || l.o.Full {
		return names
	}
	details := mapped(l.client.TagDetails(ctx, repo, ""), func(d oci.TagDetail) lsItem {
		return lsItem{Repo: repo, Tag: d.Tag, detail: &d}
	})
	return func(yield func(lsItem, error) bool) {
		for item, err := range details {
			if err != nil && !l.details && !fatal(err) { // Not one of ours.
				names(yield)
				return
			}
			l.details = err == nil
			if !yield(item, err) {
				return
			}
		}
	}
}

// columns are those of the table; none if the list is plain.
func (l *lister) columns() []string {
	switch {
	case !l.env.Terminal || l.o.Plain || l.o.Quiet || l.format.name != "":
		return nil
	case l.o.Full:
		return []string{"NAME"}
	case l.target.repo == "" && !l.o.All && l.details:
		return []string{"REPOSITORY", "TAGS", "SIZE", "PUSHED"}
	case l.target.repo == "" && !l.o.All:
		return []string{"REPOSITORY"}
	case l.o.All:
		return []string{"REPOSITORY", "TAG"}
	case l.details:
		return []string{"TAG", "DIGEST", "SIZE", "CREATED", "PUSHED"}
	}
	return []string{"TAG"}
}

// print writes items until the limit. A repository that cannot be listed is
// told and counted when others may follow.
func (l *lister) print(items iter.Seq2[lsItem, error]) error {
	var p printer
	start := func() {
		if p == nil { // The columns are known with the first item.
			p = newPrinter(l.env.Stdout, l.format, "regctl.ls/v1", l.client.Host(), l.columns())
		}
	}
	for item, err := range items {
		if err == nil {
			start()
			err = p.add(item, l.plain(item), l.cells(item))
		} else if item.Repo != "" && !fatal(err) {
			l.failed++
			if !l.o.Quiet {
				l.env.warn(l.explain(err, item.Repo))
			}
			continue
		}
		if err != nil {
			if p != nil {
				_ = p.end() // What was listed stays readable; err says the rest.
			}
			return l.explain(err, "")
		}
		if l.printed++; l.printed == l.o.Limit {
			break
		}
	}
	start()
	return p.end()
}

// plain is the line for item outside a table.
func (l *lister) plain(item lsItem) string {
	switch {
	case l.o.Full:
		return l.client.Host() + "/" + item.name()
	case l.target.repo != "" && !l.o.All:
		return item.Tag
	}
	return item.name()
}

func (l *lister) cells(item lsItem) []string {
	switch columns := l.columns(); {
	case l.o.All && len(columns) == 2:
		return []string{item.Repo, item.Tag}
	case len(columns) == 4:
		return append([]string{item.Repo}, item.sum.cells(l.env.Now())...)
	case len(columns) == 5 && item.detail != nil:
		d := item.detail
		return []string{
			item.Tag, shortDigest(d.Manifest.Digest), humanSize(d.Size),
			ago(l.env.Now(), d.Created), ago(l.env.Now(), d.Pushed),
		}
	}
	return []string{l.plain(item)}
}

// shortDigest keeps enough of a digest to tell images apart.
func shortDigest(d oci.Digest) string {
	algorithm, hex, _ := strings.Cut(string(d), ":")
	return algorithm + ":" + hex[:min(12, len(hex))]
}

// fatal tells errors after which no other repository can be listed either.
func fatal(err error) bool {
	return errors.Is(err, context.Canceled) || errors.Is(err, oci.Unavailable) || errors.Is(err, oci.TooManyRequests)
}

// explain adds to err what to try next. The repo is set if err is about one of
// many repositories.
func (l *lister) explain(err error, repo string) error {
	host := l.client.Host()
	catalogue := l.target.repo == "" && repo == ""
	switch {
	case catalogue && errors.Is(err, oci.Unsupported):
		return &hinted{err, err.Error() + "; name a repository: regctl ls " + host + "/REPO"}
	case catalogue && (errors.Is(err, oci.Unauthorized) || errors.Is(err, oci.Denied)):
		return &hinted{err, err.Error() + ". Log in: regctl login " + host + "; or name a repository, if " + host +
			" has no catalogue: regctl ls " + host + "/REPO"}
	case repo == "" && l.target.repo != "" && (errors.Is(err, oci.NameUnknown) || errors.Is(err, oci.NotFound)):
		return &hinted{err, err.Error() + ". What is there: regctl ls " + l.target.address()}
	}
	return l.target.hint(err, "regctl ls", l.o.What)
}

func mapped[T any](names iter.Seq2[T, error], item func(T) lsItem) iter.Seq2[lsItem, error] {
	return func(yield func(lsItem, error) bool) {
		for name, err := range names {
			if err != nil {
				yield(lsItem{}, err)
				return
			}
			if !yield(item(name), nil) {
				return
			}
		}
	}
}

func kept(items iter.Seq2[lsItem, error], keep func(lsItem) bool) iter.Seq2[lsItem, error] {
	return func(yield func(lsItem, error) bool) {
		for item, err := range items {
			if (err != nil || keep(item)) && !yield(item, err) {
				return
			}
		}
	}
}

// reversed gathers all items. Errors come first.
func reversed(items iter.Seq2[lsItem, error]) iter.Seq2[lsItem, error] {
	return func(yield func(lsItem, error) bool) {
		var all []lsItem
		for item, err := range items {
			if err != nil && !yield(item, err) {
				return
			}
			if err == nil {
				all = append(all, item)
			}
		}
		for _, item := range slices.Backward(all) {
			if !yield(item, nil) {
				return
			}
		}
	}
}
