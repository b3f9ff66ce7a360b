package commands

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/regctl/regctl/client/layout"
	"github.com/regctl/regctl/client/oci"
	"github.com/regctl/regctl/client/transfer"
)

type cpOptions struct {
	remoteOptions
	Src, Dst    string
	All         bool
	Include     []string
	Exclude     []string
	NewTags     bool
	Platforms   []string
	Referrers   transfer.Referrers
	NoOverwrite bool
	Force       bool
	DryRun      bool
	ExitCode    bool
	Quiet       bool
	Output      string
}

const cpHelp = `Copy an image from one registry to another, with all its platforms and the same
digest, and with the signatures, SBOMs and attestations of it.

  regctl cp SRC DST           one image; without a tag, the one called latest
  regctl cp SRC DST:TAG,TAG   under several tags
  regctl cp --all SRC DST     all tags of a repository

SRC and DST are [HOST/]REPO[:TAG] or oci:DIR[:TAG], an OCI image layout. A DST
without a tag keeps that of SRC, one that ends with a slash its repository. SRC
may be REPO@DIGEST; without a tag in DST the copy then has none.

What is there is not sent again, and no more than two requests find out that a
tag has not changed. A tag moves when all that it needs is there, so that nobody
ever pulls half an image; after an interruption the same command goes on.
Within one registry no bytes move.

--referrers tells what happens to signatures, SBOMs and attestations, by the
referrers API or by tags as cosign makes them: "copied" takes those of images
that are copied now, "always" looks for new ones of images that are there, too,
"never" leaves them.

--platform takes a part of an image. One platform gives the image for it, several
give a new index of them, which has another digest than the whole.`

const cpExamples = `  regctl cp docker.io/alpine:3.20 localhost:5000/alpine
  regctl cp test.example.com/app@sha256:… prod.example.com/app:1.2,latest
  regctl cp --all --include '1.*' --new-tags old.example.com/app new.example.com/
  regctl cp --platform linux/amd64,linux/arm64 docker.io/alpine:3.20 localhost:5000/
  regctl cp http://old.lan:5000/app:1 oci:./images
  regctl cp --all --dry-run old.example.com/app new.example.com/app`

func newCp(env *Env, run func(context.Context, *Env, *cpOptions) error) *cobra.Command {
	o := &cpOptions{}
	cmd := &cobra.Command{
		Use:               "cp SRC DST",
		Aliases:           []string{"copy"},
		Short:             "Copy images between registries",
		Long:              cpHelp,
		Example:           cpExamples,
		GroupID:           groupMove,
		Args:              atMost(2),
		ValidArgsFunction: completeNames(env, &o.remoteOptions, true),
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) < 2 {
				return usagef("cp needs two names: regctl cp SRC DST; see: regctl cp --help")
			}
			o.Src, o.Dst = args[0], args[1]
			return run(cmd.Context(), env, o)
		},
	}
	flags := cmd.Flags()
	o.add(cmd)
	o.addJobs(cmd)
	flags.BoolVarP(&o.All, "all", "a", false, "all tags of a repository")
	flags.StringArrayVar(&o.Include, "include", nil, "with --all only tags that match `PATTERN` (repeatable)")
	flags.StringArrayVar(&o.Exclude, "exclude", nil, "with --all no tags that match `PATTERN` (repeatable)")
	flags.BoolVar(&o.NewTags, "new-tags", false, "with --all only tags that DST does not have")
	flags.StringSliceVar(&o.Platforms, "platform", nil, "only these platforms, `OS/ARCH,...`, which changes the digest")
	addReferrers(cmd, &o.Referrers, transfer.ReferrersCopied)
	flags.BoolVar(&o.NoOverwrite, "no-overwrite", false, "move no tag of DST that points elsewhere")
	flags.BoolVarP(&o.Force, "force", "f", false, "look below what is there, for a DST that has lost something")
	flags.BoolVarP(&o.DryRun, "dry-run", "n", false, "tell what would be copied")
	flags.BoolVar(&o.ExitCode, "exit-code", false, "with --dry-run: exit status 10 if anything would be copied")
	flags.BoolVarP(&o.Quiet, "quiet", "q", false, "tell errors only")
	addOutput(cmd, &o.Output)
	completePlatforms(cmd)
	return cmd
}

// copier is one run of `regctl cp`.
type copier struct {
	env      *Env
	o        *cpOptions
	format   format
	filter   filter
	options  transfer.Options
	src, dst target
	item     transfer.Item
}

func runCp(ctx context.Context, env *Env, o *cpOptions) error {
	c, err := newCopier(env, o)
	if err != nil {
		return err
	}
	start := env.Now()
	plan, err := c.plan(ctx)
	if err != nil {
		return c.explain(err)
	}
	if o.DryRun {
		return c.show(plan)
	}
	return c.execute(ctx, plan, start)
}

func newCopier(env *Env, o *cpOptions) (*copier, error) {
	c := &copier{env: env, o: o, options: transfer.Options{
		NoOverwrite: o.NoOverwrite, NewTags: o.NewTags, Force: o.Force, Jobs: o.Jobs, Referrers: o.Referrers,
	}}
	var err error
	if c.filter, err = newFilter(o.Include, o.Exclude); err != nil {
		return nil, err
	}
	if c.format, err = parseFormat(o.Output); err != nil {
		return nil, err
	}
	if c.options.Platforms, err = parsePlatforms(o.Platforms); err != nil {
		return nil, err
	}
	switch {
	case !o.All && len(o.Include)+len(o.Exclude) > 0:
		return nil, usagef("--include and --exclude choose among the tags of --all")
	case !o.All && o.NewTags:
		return nil, usagef("--new-tags chooses among the tags of --all; for one image: --no-overwrite")
	case o.ExitCode && !o.DryRun:
		return nil, usagef("--exit-code goes with --dry-run")
	}
	return c, c.names()
}

// names reads SRC and DST.
func (c *copier) names() error {
	var err error
	if c.src, err = c.env.imageTarget(c.o.Src, &c.o.remoteOptions); err != nil {
		return err
	}
	to, more := cutTags(c.o.Dst)
	if c.dst, err = c.env.target(to, &c.o.remoteOptions); err != nil {
		return err
	}
	if c.src.layout != "" && c.src.repo == "" {
		c.src.repo = layout.Unnamed
	}
	switch {
	case c.src.repo == "":
		return usagef("%s is a registry; name what to copy: regctl cp %s/REPO:TAG DST", c.o.Src, strings.TrimSuffix(c.o.Src, "/"))
	case oci.IsDigest(c.dst.ref):
		return usagef("%s ends with a digest; the copy has that of SRC, name a tag", c.o.Dst)
	case c.o.All && c.src.ref != "":
		return usagef("%s is one image, and --all is for the tags of a repository", c.o.Src)
	case c.o.All && c.dst.ref != "":
		return usagef("%s is one tag, and --all copies all of a repository", c.o.Dst)
	}
	if c.dst.repo == "" {
		if c.dst.repo = c.sameRepo(); c.dst.repo == "" {
			return usagef("%s names no repository, and neither does %s", c.o.Dst, c.o.Src)
		}
	}
	c.setItem(more)
	return nil
}

// cutTags splits what comes after the first tag of NAME:TAG,TAG.
func cutTags(what string) (first string, more []string) {
	first, rest, ok := strings.Cut(what, ",")
	if !ok {
		return what, nil
	}
	more = strings.Split(rest, ",")
	if slices.ContainsFunc(more, func(tag string) bool { return oci.CheckTag(tag) != nil }) {
		return what, nil // A comma of something else; what reads it says so.
	}
	return first, more
}

// sameRepo is what the repository of SRC is called in DST.
func (c *copier) sameRepo() string {
	switch {
	case c.dst.layout != "":
		return layout.Unnamed
	case c.src.repo == layout.Unnamed && c.src.layout != "":
		return ""
	case isHub(c.src.host) && !isHub(c.dst.host):
		return strings.TrimPrefix(c.src.repo, "library/")
	}
	return c.src.repo
}

func (c *copier) setItem(more []string) {
	c.item = transfer.Item{SrcRepo: c.src.repo, SrcRef: c.src.ref, DstRepo: c.dst.repo, Keep: c.filter.keeps}
	if c.o.All {
		return
	}
	if c.item.SrcRef == "" {
		c.item.SrcRef = "latest"
	}
	if c.dst.ref != "" {
		c.item.DstTags = append([]string{c.dst.ref}, more...)
	} else if !oci.IsDigest(c.item.SrcRef) {
		c.item.DstTags = []string{c.item.SrcRef}
	}
}

// plan opens both sides and finds out what there is to do.
func (c *copier) plan(ctx context.Context) (*transfer.Plan, error) {
	warn := c.env.warn
	if c.o.Quiet {
		warn = nil
	}
	open := c.env.registries(&c.o.remoteOptions, warn)
	src, err := open.open(c.src)
	if err != nil {
		return nil, err
	}
	var dst oci.Registry
	if dst, err = open.open(c.dst); err != nil && c.dst.layout != "" {
		dst, err = nil, nil // Nothing is there yet.
		if !c.o.DryRun {
			dst, err = open.create(c.dst)
		}
	}
	if err != nil {
		return nil, err
	}
	return transfer.MakePlan(ctx, dst, src, []transfer.Item{c.item}, c.options)
}

// execute does what the plan says, and tells what came of it.
func (c *copier) execute(ctx context.Context, plan *transfer.Plan, start time.Time) error {
	bar := newProgress(c.env, c.o.Quiet, plan.Bytes, humanSize)
	report, err := plan.Execute(ctx, watch(bar, len(plan.Blobs)))
	bar.done()
	if err != nil {
		return err
	}
	if err := c.print(report.Images, false); err != nil {
		return err
	}
	if report.Failed == 0 && !c.o.Quiet {
		c.sayNarrowed(report.Images)
		c.env.say("%s", c.summary(&report, c.env.Now().Sub(start).Seconds()))
	}
	return c.failure(report.Images, report.Failed)
}

// watch tells a progress of what a transfer does.
func watch(p *progress, blobs int) transfer.Observer {
	done := 0
	p.note("0/%d blobs", blobs)
	return func(e transfer.Event) {
		switch e.Kind {
		case transfer.Moved:
			p.add(e.Bytes)
		case transfer.BlobDone:
			done++
			p.note("%d/%d blobs", done, blobs)
			p.add(e.Bytes)
		case transfer.ImageDone:
			p.note("%d/%d blobs · %s", done, blobs, imageName(e.Image.DstRepo, e.Image.Tags))
		}
	}
}

func imageName(repo string, tags []string) string {
	if len(tags) == 0 {
		return repo
	}
	return repo + ":" + tags[0]
}

// failure is the error of the only image, or tells those of several.
func (c *copier) failure(images []transfer.Image, failed int) error {
	switch {
	case failed == 0:
		return nil
	case len(images) == 1, failed == len(images) && fatal(images[0].Err):
		return c.explain(images[0].Err)
	}
	for _, image := range images {
		if image.Err != nil {
			c.env.warn(image.Err)
		}
	}
	return &ExitError{Status: exitSome, Err: fmt.Errorf("%d of %s failed", failed, counted(len(images), "tag"))}
}
