package commands

import (
	"context"
	"errors"
	"iter"
	"strings"

	"github.com/spf13/cobra"

	"github.com/regctl/regctl/client/oci"
)

type lsOptions struct {
	remoteOptions
	What    string
	All     bool
	Long    bool
	Include []string
	Exclude []string
	Sort    string
	Reverse bool
	Limit   int
	Full    bool
	Quiet   bool
	Plain   bool
	Output  string
}

const lsHelp = `List the repositories of a registry, the tags of a repository, or with --all
every REPOSITORY:TAG of a registry.

What has a dot, a port or a trailing slash, or is localhost, is a HOST; it may
begin with http:// or https://. oci:DIR is a directory.

--include and --exclude take a glob, in which * stays within a part of a name
and ** does not, or a /regular expression/. With --all a glob without a colon
is about the repository.

--long tells TAG DIGEST SIZE CREATED PUSHED PLATFORMS, or of repositories their
TAGS SIZE PUSHED. A regctl serve tells all that by one request a page, and on a
terminal without --long, too. Of another registry every tag is asked for, and
what is not known yet of its image: PUSHED stays unknown there.

SIZE is what a pull of all platforms of an image moves; of a repository, the sum
over the different images that its tags point to: a layer counts in each of them.
Where only the first page of tags was looked at, 1000+, ≥ and ≤ say so.

The order is that of the registry, as it comes, unless --sort or --reverse say
otherwise; --limit counts after them. Time is that of the push where it is known,
else that of the build.`

const lsExamples = `  regctl ls                   repositories of the default registry
  regctl ls HOST              repositories of HOST
  regctl ls HOST/REPO         tags of a repository
  regctl ls --all HOST        every REPOSITORY:TAG
  regctl ls -l team/app --sort time --limit 10
  regctl ls --all --include 'team/*' --exclude '**:dev-*'
  regctl ls -l team/app -o json | jq -r '.items[].digest'
  regctl ls --all --full | xargs -n1 regctl inspect`

func newLs(env *Env, run func(context.Context, *Env, *lsOptions) error) *cobra.Command {
	o := &lsOptions{}
	cmd := &cobra.Command{
		Use:               "ls [HOST | [HOST/]REPO]",
		Short:             "List repositories or tags",
		Long:              lsHelp,
		Example:           lsExamples,
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
	o.addJobs(cmd)
	flags.BoolVarP(&o.All, "all", "a", false, "every REPOSITORY:TAG")
	flags.StringArrayVar(&o.Include, "include", nil, "only names that match `PATTERN` (repeatable)")
	flags.StringArrayVar(&o.Exclude, "exclude", nil, "no names that match `PATTERN` (repeatable)")
	flags.BoolVarP(&o.Long, "long", "l", false, "with digest, size, times and platforms")
	flags.StringVar(&o.Sort, "sort", "", "by `WHAT`: name, semver (highest first), time (newest first) or size (largest first)")
	flags.BoolVar(&o.Reverse, "reverse", false, "last one first")
	flags.IntVar(&o.Limit, "limit", 0, "at most `N` names")
	flags.BoolVar(&o.Full, "full", false, "whole names, HOST/REPO:TAG, for other programs")
	flags.BoolVarP(&o.Quiet, "quiet", "q", false, "names only, no warnings")
	flags.BoolVar(&o.Plain, "plain", false, "one name a line on a terminal, too")
	flags.StringVar(&o.Registry, "host", "", "as --registry")
	hideFlag(cmd, "host")
	addOutput(cmd, &o.Output)
	orders := cobra.FixedCompletions([]cobra.Completion{sortName, sortSemver, sortTime, sortSize}, cobra.ShellCompDirectiveNoFileComp)
	_ = cmd.RegisterFlagCompletionFunc("sort", orders) // The flag is there.
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
		"layers":                        "here: regctl inspect REPO:TAG",
		"order-by-date":                 "here: --sort time",
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

func runLs(ctx context.Context, env *Env, o *lsOptions) error {
	l, err := newLister(env, o)
	if err != nil {
		return err
	}
	items := l.items(looking(ctx))
	if o.Reverse && o.Sort == "" {
		items = reversed(items)
	}
	if l.ofRepos() && !o.Full && (l.wide || l.columns() != nil) {
		items = l.summed(ctx, items)
	}
	if o.Sort != "" {
		items = sorted(items, l.compare)
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
		env.say("nothing to list on %s", l.host)
	}
	return nil
}

// listing is what ls needs of a registry.
type listing interface {
	Repos(ctx context.Context, after string) iter.Seq2[string, error]
	Tags(ctx context.Context, repo, after string) iter.Seq2[string, error]
	TagDetails(ctx context.Context, repo, after string) iter.Seq2[oci.TagDetail, error]
}

// lister is one run of `regctl ls`.
type lister struct {
	env     *Env
	o       *lsOptions
	target  target
	format  format
	filter  filter
	compare func(a, b lsItem) int
	reg     listing
	host    string // Of the registry, for messages and whole names.
	all     bool   // REPOSITORY:TAG.
	wide    bool   // Details are wanted whatever they cost.
	details bool   // Items have them.
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
		return nil, usagef("%s names one image; what it is made of: regctl inspect %s; the tags beside it: regctl ls %s",
			o.What, o.What, l.target.repo)
	}
	if err := l.order(); err != nil {
		return nil, err
	}
	l.wide = o.Long || o.Sort == sortTime || o.Sort == sortSize
	l.all = o.All || l.target.layout != "" && l.target.repo == ""
	return l, l.open()
}

// order reads --sort. What is sorted by the registry's way is turned round here.
func (l *lister) order() error {
	if l.o.Sort == "" {
		return nil
	}
	compare := sortings(l.o.Sort)
	switch {
	case compare == nil:
		return usagef("--sort %q: there is name, semver, time and size", l.o.Sort)
	case l.o.Sort == sortSemver && l.ofRepos():
		return usagef("--sort semver is about tags; name a repository, or list all of them: --all")
	}
	l.compare = compare
	if l.o.Reverse {
		l.compare = func(a, b lsItem) int { return compare(b, a) }
	}
	return nil
}

func (l *lister) open() error {
	warn := l.env.warn
	if l.o.Quiet {
		warn = nil
	}
	all := l.env.registries(&l.o.remoteOptions, warn)
	if l.target.layout != "" {
		reg, err := all.open(l.target)
		l.reg, l.host = reg, l.target.address()
		return err
	}
	c, err := all.remote(l.target)
	l.reg, l.host = c, l.target.host
	return err
}

// ofRepos tells that the list is one of repositories.
func (l *lister) ofRepos() bool {
	return l.target.repo == "" && !l.o.All && l.target.layout == ""
}

// items returns what the options ask for, in the order of the registry.
func (l *lister) items(ctx context.Context) iter.Seq2[lsItem, error] {
	keepsTag := func(i lsItem) bool { return l.filter.keepsTag(i.Repo, i.Tag) }
	switch {
	case l.target.repo == "" && l.all:
		return kept(allTags(ctx, l.o.Jobs, l.reg, l.filter.skips, l.tagsOf), keepsTag)
	case l.target.repo == "":
		repos := mapped(l.reg.Repos(ctx, ""), func(name string) lsItem { return lsItem{Repo: name} })
		return kept(repos, func(i lsItem) bool { return l.filter.keeps(i.Repo) })
	case l.all:
		return kept(l.tagsOf(ctx, l.target.repo), keepsTag)
	}
	return kept(l.tags(ctx), func(i lsItem) bool { return l.filter.keeps(i.Tag) })
}

// tagsOf lists the tags of a repository, with details if they are wanted.
func (l *lister) tagsOf(ctx context.Context, repo string) iter.Seq2[lsItem, error] {
	if l.wide {
		return mapped(l.reg.TagDetails(ctx, repo, ""), func(d oci.TagDetail) lsItem {
			return lsItem{Repo: repo, Tag: d.Tag, detail: &d}
		})
	}
	return mapped(l.reg.Tags(ctx, repo, ""), func(tag string) lsItem { return lsItem{Repo: repo, Tag: tag} })
}

// tags lists the tags of the repository, for a terminal with details if they
// cost nothing.
func (l *lister) tags(ctx context.Context) iter.Seq2[lsItem, error] {
	repo := l.target.repo
	reg, remote := l.reg.(firstPage)
	if l.wide || !remote || l.columns() == nil || l.o.Full {
		return l.tagsOf(ctx, repo)
	}
	return func(yield func(lsItem, error) bool) {
		first, more, err := reg.FirstTagDetails(ctx, repo)
		if err != nil { // Not one of ours. Or it is broken, and says so again.
			l.tagsOf(ctx, repo)(yield)
			return
		}
		l.details = true
		last := ""
		for _, d := range first {
			if last = d.Tag; !yield(lsItem{Repo: repo, Tag: d.Tag, detail: &d}, nil) {
				return
			}
		}
		if !more {
			return
		}
		for d, err := range l.reg.TagDetails(ctx, repo, last) {
			if !yield(lsItem{Repo: repo, Tag: d.Tag, detail: &d}, err) || err != nil {
				return
			}
		}
	}
}

// columns are those of the table; none if the list is plain.
func (l *lister) columns() []string {
	details := []string{"DIGEST", "SIZE", "CREATED", "PUSHED"}
	if l.o.Long {
		details = append(details, "PLATFORMS")
	}
	switch wide := l.wide || l.details; {
	case l.o.Plain || l.o.Quiet || l.format.name != "", !l.env.Terminal && !l.o.Long:
		return nil
	case l.o.Full && !l.o.Long:
		return []string{"NAME"}
	case l.ofRepos() && wide:
		return []string{"REPOSITORY", "TAGS", "SIZE", "PUSHED"}
	case l.ofRepos():
		return []string{"REPOSITORY"}
	case l.o.Full:
		return append([]string{"NAME"}, details...)
	case l.all && wide:
		return append([]string{"REPOSITORY", "TAG"}, details...)
	case l.all:
		return []string{"REPOSITORY", "TAG"}
	case wide:
		return append([]string{"TAG"}, details...)
	}
	return []string{"TAG"}
}

// print writes items until the limit. A repository that cannot be listed is
// told and counted when others may follow.
func (l *lister) print(items iter.Seq2[lsItem, error]) error {
	var p printer
	start := func() {
		if p == nil { // The columns are known with the first item.
			p = newPrinter(l.env.Stdout, l.format, "regctl.ls/v1", l.host, l.columns())
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
	case l.o.Full && l.target.layout != "":
		return l.host + ":" + item.name()
	case l.o.Full:
		return l.host + "/" + item.name()
	case l.target.repo != "" && !l.all:
		return item.Tag
	}
	return item.name()
}

func (l *lister) cells(item lsItem) []string {
	columns := l.columns()
	switch {
	case l.ofRepos() && len(columns) == 4:
		return append([]string{l.plain(item)}, item.sum.cells(l.env.Now())...)
	case len(columns) > 3 && columns[1] == "TAG":
		return append([]string{item.Repo, item.Tag}, tagCells(l.env.Now(), item.detail, l.o.Long)...)
	case len(columns) > 3:
		return append([]string{l.plain(item)}, tagCells(l.env.Now(), item.detail, l.o.Long)...)
	case len(columns) == 2:
		return []string{item.Repo, item.Tag}
	}
	return []string{l.plain(item)}
}

// fatal tells errors after which no other repository can be listed either.
func fatal(err error) bool {
	return errors.Is(err, context.Canceled) || errors.Is(err, oci.Unavailable) || errors.Is(err, oci.TooManyRequests)
}

// explain adds to err what to try next. The repo is set if err is about one of
// many repositories.
func (l *lister) explain(err error, repo string) error {
	host := l.host
	catalogue := l.target.repo == "" && repo == ""
	switch {
	case catalogue && errors.Is(err, oci.Unsupported):
		return &hinted{err, err.Error() + "; name a repository: regctl ls " + host + "/REPO"}
	case catalogue && (errors.Is(err, oci.Unauthorized) || errors.Is(err, oci.Denied)):
		return &hinted{err, said(err) + ". Log in: regctl login " + host + "; or name a repository, if " + host +
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
