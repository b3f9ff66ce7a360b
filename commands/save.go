package commands

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/regctl/regctl/client/layout"
	"github.com/regctl/regctl/client/oci"
	"github.com/regctl/regctl/client/transfer"
)

type saveOptions struct {
	remoteOptions
	What      []string
	File      string
	Platforms []string
	All       bool
	Include   []string
	Exclude   []string
	Referrers transfer.Referrers
	Quiet     bool
	Output    string
}

const saveHelp = `Save images to one archive, which regctl load pushes to another registry: the
same digests, all platforms, and the signatures, SBOMs and attestations of each.

The archive is an OCI layout in a tar file that docker load, podman load, skopeo
and crane read, too. Docker without the containerd image store takes one platform
of each image from it: linux/amd64 if there is one. What several images share is
in it once, and the same images give the same bytes.

Without a tag it is the one called latest; with --all, all tags of a repository.
--referrers never leaves signatures, SBOMs and attestations out.
A file is complete or not there. Without --file the archive goes to stdout.`

const saveExamples = `  regctl save alpine:3.20 team/app:1.0 -f images.tar
  regctl save docker.io/alpine:3.20 --platform linux/amd64,linux/arm64 -f alpine.tar
  regctl save --all HOST/team/app --include '1.*' -f app.tar
  regctl save team/app:1.0 | gzip > app.tar.gz
  regctl save team/app:1.0 | ssh inside regctl load -
  regctl save oci:./images:1.0 -f image.tar`

func newSave(env *Env, run func(context.Context, *Env, *saveOptions) error) *cobra.Command {
	o := &saveOptions{}
	cmd := &cobra.Command{
		Use:               "save [HOST/]REPO[:TAG | @DIGEST]…",
		Short:             "Save images to an archive",
		Long:              saveHelp,
		Example:           saveExamples,
		GroupID:           groupMove,
		Args:              atLeastOne("save REPO:TAG -f FILE"),
		ValidArgsFunction: completeNames(env, &o.remoteOptions, true),
		RunE: func(cmd *cobra.Command, args []string) error {
			o.What = args
			return run(cmd.Context(), env, o)
		},
	}
	flags := cmd.Flags()
	o.add(cmd)
	o.addJobs(cmd)
	flags.StringVarP(&o.File, "file", "f", "", "write to `FILE`; - is stdout")
	flags.StringSliceVar(&o.Platforms, "platform", nil, "only these platforms, `OS/ARCH,...`, which changes the digest")
	flags.BoolVarP(&o.All, "all", "a", false, "all tags of each repository")
	flags.StringArrayVar(&o.Include, "include", nil, "with --all only tags that match `PATTERN` (repeatable)")
	flags.StringArrayVar(&o.Exclude, "exclude", nil, "with --all no tags that match `PATTERN` (repeatable)")
	addReferrers(cmd, &o.Referrers, transfer.ReferrersCopied)
	flags.BoolVarP(&o.Quiet, "quiet", "q", false, "tell errors only")
	addOutput(cmd, &o.Output)
	completePlatforms(cmd)
	return cmd
}

// atLeastOne wants an argument; usage is how it is meant.
func atLeastOne(usage string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if len(args) == 0 {
			return usagef("nothing is named: regctl %s; see: %s --help", usage, cmd.CommandPath())
		}
		return nil
	}
}

// savedItem is an image that was saved or loaded, and its JSON form.
type savedItem struct {
	Name   string     `json:"name"` // HOST/REPO:TAG, or HOST/REPO.
	Digest oci.Digest `json:"digest"`
	Size   int64      `json:"size"` // Of its manifest.
}

func (i savedItem) plain() string { return i.Name + "@" + string(i.Digest) }

func runSave(ctx context.Context, env *Env, o *saveOptions) error {
	s, err := newSaver(env, o)
	if err != nil {
		return err
	}
	return s.run(ctx)
}

func (s *saver) run(ctx context.Context) error {
	if err := s.plan(ctx); err != nil {
		return err
	}
	out, err := createArchive(s.o.File, s.env.Stdout)
	if err != nil {
		return err
	}
	defer out.abandon()
	bar := newProgress(s.env, s.o.Quiet, s.bytes(), humanSize)
	bar.note("%s", counted(len(s.items), "image"))
	out.wrote = bar.add
	err = layout.WriteArchive(ctx, out, s.contents...)
	bar.done()
	if err != nil {
		return err
	}
	if err := out.complete(); err != nil {
		return err
	}
	return s.report(out.written)
}

// saver is one run of `regctl save`.
type saver struct {
	env      *Env
	o        *saveOptions
	filter   filter
	format   format
	options  transfer.Options
	targets  []target
	open     func(target) (oci.Registry, error)
	contents []layout.Content
	items    []savedItem
}

func newSaver(env *Env, o *saveOptions) (*saver, error) {
	s := &saver{env: env, o: o, options: transfer.Options{Referrers: o.Referrers, Jobs: o.Jobs}}
	var err error
	if s.filter, err = newFilter(o.Include, o.Exclude); err != nil {
		return nil, err
	}
	if s.format, err = parseFormat(o.Output); err != nil {
		return nil, err
	}
	if s.options.Platforms, err = parsePlatforms(o.Platforms); err != nil {
		return nil, err
	}
	switch {
	case !o.All && len(o.Include)+len(o.Exclude) > 0:
		return nil, usagef("--include and --exclude choose among the tags of --all")
	case o.File == "" && env.Terminal:
		return nil, usagef("an archive does not go to a terminal; try: regctl save %s -f images.tar", strings.Join(o.What, " "))
	case s.toStdout() && s.format.name != "":
		return nil, usagef("-o %s: stdout is for the archive; name a file: -f FILE", o.Output)
	}
	for _, what := range o.What {
		t, err := s.target(what)
		if err != nil {
			return nil, err
		}
		s.targets = append(s.targets, t)
	}
	s.open = env.registries(&o.remoteOptions, o.warn(env)).open
	return s, nil
}

// warn is where trouble that does not stop anything goes.
func (o *saveOptions) warn(env *Env) func(error) {
	if o.Quiet {
		return nil
	}
	return env.warn
}

func (s *saver) toStdout() bool { return s.o.File == "" || s.o.File == "-" }

func parsePlatforms(names []string) ([]oci.Platform, error) {
	var platforms []oci.Platform
	for _, name := range names {
		p, err := transfer.ParsePlatform(strings.TrimSpace(name))
		if err != nil {
			return nil, usagef("--platform: %v", err)
		}
		platforms = append(platforms, p)
	}
	return platforms, nil
}

func (s *saver) target(what string) (target, error) {
	t, err := s.env.imageTarget(what, &s.o.remoteOptions)
	if err != nil {
		return t, err
	}
	if t.layout != "" && t.repo == "" {
		t.repo = layout.Unnamed
	}
	switch {
	case t.repo == "":
		return t, usagef("%s is a registry; name what to save: regctl save %s/REPO:TAG", what, strings.TrimSuffix(what, "/"))
	case s.o.All && t.ref != "":
		return t, usagef("%s is one image, and --all is for the tags of a repository", what)
	case !s.o.All && t.ref == "":
		t.ref = "latest"
	}
	return t, nil
}

// plan finds out what there is to save, registry by registry.
func (s *saver) plan(ctx context.Context) error {
	var order []string
	groups := map[string][]target{}
	for _, t := range s.targets {
		if groups[t.address()] == nil {
			order = append(order, t.address())
		}
		groups[t.address()] = append(groups[t.address()], t)
	}
	for _, address := range order {
		if err := s.planOne(ctx, groups[address]); err != nil {
			return err
		}
	}
	seen := map[string]oci.Digest{}
	for _, item := range s.items {
		if d, ok := seen[item.Name]; ok && d != item.Digest && item.tagged() {
			return usagef("two images would be called %s in the archive; save them to two", item.Name)
		}
		seen[item.Name] = item.Digest
	}
	return nil
}

// tagged tells whether the name is that of an image: a digest has its own.
func (i savedItem) tagged() bool {
	return strings.Contains(i.Name[strings.LastIndex(i.Name, "/")+1:], ":")
}

// planOne plans for targets that are in one registry.
func (s *saver) planOne(ctx context.Context, targets []target) error {
	t := targets[0]
	reg, err := s.open(t)
	if err != nil {
		return err
	}
	var items []transfer.Item
	for _, t := range targets {
		item := transfer.Item{SrcRepo: t.repo, SrcRef: t.ref, DstRepo: t.repo, Keep: s.filter.keeps}
		if t.ref != "" && !oci.IsDigest(t.ref) {
			item.DstTags = []string{t.ref}
		}
		items = append(items, item)
	}
	plan, err := transfer.MakePlan(ctx, nil, reg, items, s.options)
	if err == nil {
		err = plan.Err()
	}
	if err != nil {
		var at *transfer.Error
		if errors.As(err, &at) && at.Op != transfer.Choosing && at.Ref != "" && errors.Is(err, oci.ManifestUnknown) {
			t.repo, t.ref = at.Repo, ""
			return t.missing(err, at.Ref)
		}
		return t.hint(err, "regctl save", strings.Join(s.o.What, " "))
	}
	if len(plan.Images) == 0 {
		return oci.Errorf(oci.ManifestUnknown, "%s has no tag to save", t.repo)
	}
	s.add(reg, t, plan)
	return nil
}

// add makes of a plan what goes into the archive.
func (s *saver) add(reg oci.Reader, t target, plan *transfer.Plan) {
	contents := map[string]*layout.Content{}
	var order []string
	of := func(repo string) *layout.Content {
		if contents[repo] == nil {
			contents[repo] = &layout.Content{From: reg, Repo: repo, Name: archiveName(t, repo)}
			order = append(order, repo)
		}
		return contents[repo]
	}
	for _, image := range plan.Images {
		name := of(image.SrcRepo).Name
		if len(image.Tags) > 0 {
			name.Tag = image.Tags[0]
		}
		s.items = append(s.items, savedItem{name.String(), image.Manifest.Digest, image.Manifest.Size})
	}
	for _, tag := range asked(plan) {
		c := of(tag.DstRepo)
		c.Tags = append(c.Tags, layout.Tag{Tag: tag.Tag, Digest: tag.Manifest.Digest})
	}
	for _, m := range plan.Manifests {
		c := of(m.SrcRepo)
		c.Manifests = append(c.Manifests, oci.Manifest{Descriptor: m.Descriptor, Raw: m.Raw})
	}
	for _, b := range plan.Blobs {
		c := of(b.SrcRepo)
		c.Blobs = append(c.Blobs, b.Descriptor)
	}
	for _, repo := range order {
		s.contents = append(s.contents, *contents[repo])
	}
}

// asked returns the tags of a plan, first those that were asked for, in order.
func asked(plan *transfer.Plan) []transfer.Tag {
	var tags []transfer.Tag
	seen := map[string]bool{}
	add := func(t transfer.Tag) {
		key := t.DstRepo + ":" + t.Tag
		if !seen[key] {
			seen[key] = true
			tags = append(tags, t)
		}
	}
	for _, image := range plan.Images {
		for _, tag := range image.Tags {
			add(transfer.Tag{DstRepo: image.DstRepo, Tag: tag, Manifest: image.Manifest})
		}
	}
	for _, t := range plan.Tags {
		add(t)
	}
	return tags
}

// archiveName is what a repository is called outside its registry.
func archiveName(t target, repo string) layout.Name {
	switch {
	case t.layout != "":
		return layout.Name{Repo: repo}
	case isHub(t.host):
		return layout.Name{Host: "docker.io", Repo: strings.TrimPrefix(repo, "library/")}
	}
	return layout.Name{Host: t.host, Repo: repo}
}

// report lists what was saved, if stdout is free for it.
func (s *saver) report(written int64) error {
	if !s.o.Quiet {
		where := ""
		if !s.toStdout() {
			where = " in " + s.o.File
		}
		s.env.say("saved %s, %s%s", counted(len(s.items), "image"), humanSize(written), where)
	}
	if s.toStdout() || s.o.Quiet && s.format.name == "" {
		return nil
	}
	return printSaved(s.env.Stdout, s.format, "regctl.save/v1", s.targets[0].host, s.items)
}

func printSaved(w io.Writer, f format, schema, registry string, items []savedItem) error {
	p := newPrinter(w, f, schema, registry, nil)
	for _, item := range items {
		if err := p.add(item, item.plain(), nil); err != nil {
			return err
		}
	}
	return p.end()
}

// counted is n with a noun that takes an s.
func counted(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return fmt.Sprintf("%d %ss", n, noun)
}

// archiveFile is a file that appears when it is complete.
type archiveFile struct {
	io.Writer
	temp    *os.File // Nil: there is nothing to be completed.
	path    string
	written int64
	wrote   func(int64) // Told of what was written; nil: nobody is.
}

// createArchive begins to write path, or stdout if that is "" or "-". What is
// there and no regular file, such as a tape or a pipe, is written to directly.
func createArchive(path string, stdout io.Writer) (*archiveFile, error) {
	if path == "" || path == "-" {
		return &archiveFile{Writer: stdout}, nil
	}
	if info, err := os.Stat(path); err == nil && !info.Mode().IsRegular() {
		f, err := os.OpenFile(path, os.O_WRONLY, 0)
		return &archiveFile{Writer: f, temp: f}, err
	}
	f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+".*")
	if err != nil {
		return nil, err
	}
	return &archiveFile{Writer: f, temp: f, path: path}, nil
}

func (a *archiveFile) Write(p []byte) (int, error) {
	n, err := a.Writer.Write(p)
	a.written += int64(n)
	if a.wrote != nil {
		a.wrote(int64(n))
	}
	return n, err
}

// complete makes the file durable and gives it its name.
func (a *archiveFile) complete() error {
	if a.temp == nil {
		return nil
	}
	if a.path == "" {
		err := a.temp.Close()
		a.temp = nil
		return err
	}
	if err := errors.Join(a.temp.Sync(), a.temp.Close()); err != nil {
		return err
	}
	if err := os.Chmod(a.temp.Name(), 0o644); err != nil { // Temporary files are for their owner only.
		return err
	}
	if err := os.Rename(a.temp.Name(), a.path); err != nil {
		return err
	}
	a.temp = nil
	return nil
}

// abandon removes what was not completed.
func (a *archiveFile) abandon() {
	if a.temp == nil {
		return
	}
	_ = a.temp.Close() // The error that led here says more.
	if a.path != "" {
		_ = os.Remove(a.temp.Name())
	}
}
