package commands

import (
	"context"
	"fmt"
	"path"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/regctl/regctl/client/layout"
	"github.com/regctl/regctl/client/oci"
	"github.com/regctl/regctl/client/transfer"
)

type loadOptions struct {
	remoteOptions
	File      string
	Image     string
	To        string
	Referrers transfer.Referrers
	Quiet     bool
	Output    string
}

const loadHelp = `Push the images of an archive to a registry: those of regctl save with the same
digests, platforms, signatures and SBOMs, and those of docker save, podman save,
skopeo, crane, oras and buildx as they are in it. It may be compressed by gzip.

An image keeps its name; its host becomes that of --to, or the default registry:
docker.io/team/app:1.0 is then team/app:1.0 there. With REPO:TAG it is that image
only. If the archive does not say what its image is called, REPO:TAG is its name.

What is there already is not sent again, so that after an interruption the same
command goes on. Layers of an archive of docker before version 25 are pushed as
they are in it, not compressed.`

const loadExamples = `  regctl load images.tar
  regctl load images.tar --to registry.inside:5000
  regctl load images.tar --to registry.inside:5000/mirror
  docker save team/app:1.0 | regctl load -
  regctl load images.tar team/app:1.0
  regctl load unnamed.tar team/app:1.0
  regctl load images.tar --to oci:./images`

func newLoad(env *Env, run func(context.Context, *Env, *loadOptions) error) *cobra.Command {
	o := &loadOptions{}
	cmd := &cobra.Command{
		Use:     "load FILE|- [REPO[:TAG]]",
		Short:   "Push the images of an archive",
		Long:    loadHelp,
		Example: loadExamples,
		GroupID: groupMove,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				return usagef("no archive is named: regctl load FILE, or - for stdin; see: %s --help", cmd.CommandPath())
			}
			return atMost(2)(cmd, args)
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			o.File = args[0]
			if len(args) > 1 {
				o.Image = args[1]
			}
			return run(cmd.Context(), env, o)
		},
	}
	flags := cmd.Flags()
	o.add(cmd)
	o.addJobs(cmd)
	flags.StringVar(&o.To, "to", "", "push to `HOST[/PREFIX]`")
	addReferrers(cmd, &o.Referrers, transfer.ReferrersAlways)
	flags.BoolVarP(&o.Quiet, "quiet", "q", false, "tell errors only")
	addOutput(cmd, &o.Output)
	return cmd
}

func runLoad(ctx context.Context, env *Env, o *loadOptions) error {
	warn := env.warn
	if o.Quiet {
		warn = nil
	}
	l, err := newLoader(env, o, env.registries(&o.remoteOptions, warn).create)
	if err != nil {
		return err
	}
	return l.run(ctx)
}

func (l *loader) run(ctx context.Context) error {
	archive, err := l.archive()
	if err != nil {
		return err
	}
	defer func() { _ = archive.Close() }() // It was only read.
	items, err := l.items(ctx, archive)
	if err != nil {
		return err
	}
	return l.push(ctx, archive, items)
}

// loader is one run of `regctl load`.
type loader struct {
	env    *Env
	o      *loadOptions
	format format
	to     target // Its repo is the prefix.
	dst    oci.Registry
}

func newLoader(env *Env, o *loadOptions, open func(target) (oci.Registry, error)) (*loader, error) {
	l := &loader{env: env, o: o}
	var err error
	if l.format, err = parseFormat(o.Output); err != nil {
		return nil, err
	}
	to := o.To
	if to == "" {
		if to, err = env.registry(o.Registry); err != nil {
			return nil, err
		}
		to = strings.TrimSuffix(to, "/") + "/"
	}
	if l.to, err = env.target(to, &o.remoteOptions); err != nil {
		return nil, err
	}
	if l.to.ref != "" {
		return nil, usagef("--to %s: HOST or HOST/PREFIX, without a tag", o.To)
	}
	if isHub(l.to.host) {
		l.to.repo = strings.TrimPrefix(l.to.repo, "library/")
	}
	l.dst, err = open(l.to)
	return l, err
}

func (l *loader) archive() (*layout.Archive, error) {
	if l.o.File == "-" {
		return layout.SpoolArchive(l.env.Stdin)
	}
	return layout.OpenArchive(l.o.File)
}

// repo is where a repository of the archive goes.
func (l *loader) repo(name string) string {
	if isHub(l.to.host) && l.to.repo == "" && !strings.Contains(name, "/") {
		return "library/" + name
	}
	return path.Join(l.to.repo, name)
}

// items lists what is to be pushed.
func (l *loader) items(ctx context.Context, a *layout.Archive) ([]transfer.Item, error) {
	images, err := a.Images()
	if err != nil {
		return nil, err
	}
	chosen, err := l.choose(images)
	if err == nil {
		err = ambiguous(chosen)
	}
	if err != nil {
		return nil, err
	}
	var items []transfer.Item
	for _, c := range chosen {
		if refers(ctx, a, c.image) {
			continue // It comes with what it refers to.
		}
		item := transfer.Item{SrcRepo: c.image.Name.Repo, SrcRef: string(c.image.Descriptor.Digest), DstRepo: l.repo(c.repo)}
		if c.tag != "" {
			item.DstTags = []string{c.tag}
		}
		items = append(items, item)
	}
	if len(items) == 0 {
		return nil, oci.Errorf(oci.ManifestUnknown, "%s has no images in it", l.o.File)
	}
	return items, nil
}

// ambiguous refuses what would have one name once the hosts are gone.
func ambiguous(images []chosenImage) error {
	seen := map[string]layout.Image{}
	for _, c := range images {
		name := layout.Name{Repo: c.repo, Tag: c.tag}
		old, ok := seen[name.String()]
		if ok && c.tag != "" && old.Name != c.image.Name && old.Descriptor.Digest != c.image.Descriptor.Digest {
			return usagef("%s and %s are two images, and both would be %s; name the one to push: regctl load FILE %s",
				old.Name, c.image.Name, name, old.Name)
		}
		seen[name.String()] = c.image
	}
	return nil
}

// chosenImage is an image of an archive, and what it shall be called.
type chosenImage struct {
	image     layout.Image
	repo, tag string
}

// choose finds what the argument names, or takes it for the name of an image
// that has none. Without one it is all there is.
func (l *loader) choose(images []layout.Image) ([]chosenImage, error) {
	var chosen, unnamed []chosenImage
	for _, image := range images {
		c := chosenImage{image, image.Name.Repo, image.Name.Tag}
		if listsReferrers(c.tag) {
			continue // It is made anew where it is needed.
		}
		if image.Name.Repo == layout.Unnamed {
			unnamed = append(unnamed, c)
		}
		if l.o.Image == "" || isCalled(image.Name, l.o.Image) {
			chosen = append(chosen, c)
		}
	}
	switch {
	case l.o.Image == "" && len(unnamed) > 0 && l.to.layout == "":
		return nil, usagef("%s does not say what its image is called; name it: regctl load %s REPO:TAG", l.o.File, l.o.File)
	case len(chosen) > 0:
		return chosen, nil
	case len(unnamed) > 0:
		return l.name(unnamed)
	}
	return nil, oci.Errorf(oci.ManifestUnknown, "%s has no %s; it has %s", l.o.File, l.o.Image, someNames(images))
}

// listsReferrers tells a tag under which referrers are listed for registries
// that do not: sha256-….
func listsReferrers(tag string) bool {
	_, err := oci.ParseDigest(strings.Replace(tag, "-", ":", 1))
	return err == nil
}

// isCalled tells whether what was typed names an image: with or without its
// host and its tag.
func isCalled(n layout.Name, typed string) bool {
	bare := layout.Name{Repo: n.Repo, Tag: n.Tag}
	return slices.Contains([]string{n.String(), bare.String(), n.Repo, path.Join(n.Host, n.Repo)}, typed)
}

func someNames(images []layout.Image) string {
	var found []string
	for _, image := range images {
		if image.Name.Tag != "" {
			found = append(found, image.Name.String())
		}
	}
	if len(found) > 5 {
		found = append(found[:5], fmt.Sprintf("%d more", len(found)-5))
	}
	return strings.Join(found, ", ")
}

// name gives the image of an archive the name that was typed.
func (l *loader) name(images []chosenImage) ([]chosenImage, error) {
	repo, tag, tagged := strings.Cut(l.o.Image, ":") // Never a host: app:1 is a name.
	err := oci.CheckRepo(repo)
	if err == nil && tagged {
		err = oci.CheckTag(tag)
	}
	if err != nil {
		return nil, usagef("%s: REPO:TAG is what the image shall be called, without its host: %v", l.o.Image, err)
	}
	heads := 0
	for i := range images {
		c := &images[i]
		c.repo = repo
		if c.image.Descriptor.ArtifactType != "" && c.tag == "" {
			continue
		}
		heads++
		if tagged {
			c.tag = tag
		} else if c.tag == "" {
			c.tag = "latest"
		}
	}
	if heads > 1 && tagged {
		return nil, usagef("%s has %d images without a repository, and %s is one name; try: regctl load %s %s",
			l.o.File, heads, l.o.Image, l.o.File, repo)
	}
	return images, nil
}

// refers tells whether an entry is a referrer of what the archive has, too, or
// as cosign tags them: sha256-….sig.
func refers(ctx context.Context, a *layout.Archive, image layout.Image) bool {
	subject, _, _ := strings.Cut(strings.Replace(image.Name.Tag, "-", ":", 1), ".")
	if image.Name.Tag == "" {
		m, err := a.Manifest(ctx, image.Name.Repo, string(image.Descriptor.Digest))
		if err != nil {
			return false
		}
		g, err := oci.ParseManifest("", m.Raw)
		if err != nil || g.Subject == nil {
			return false
		}
		subject = string(g.Subject.Digest)
	}
	if !oci.IsDigest(subject) {
		return false
	}
	_, err := a.Resolve(ctx, image.Name.Repo, subject)
	return err == nil
}

// push copies the items, and lists those that are there in the end.
func (l *loader) push(ctx context.Context, a *layout.Archive, items []transfer.Item) error {
	plan, err := transfer.MakePlan(ctx, l.dst, a, items, transfer.Options{Referrers: l.o.Referrers, Jobs: l.o.Jobs})
	if err != nil {
		return l.to.hint(err, "regctl load", l.o.File)
	}
	start := l.env.Now()
	bar := newProgress(l.env, l.o.Quiet, plan.Bytes, humanSize)
	report, err := plan.Execute(ctx, watch(bar, len(plan.Blobs)))
	bar.done()
	if err != nil {
		return err
	}
	var done []savedItem
	for _, image := range report.Images {
		if image.Err != nil {
			continue
		}
		name := l.to.in(image.DstRepo)
		if len(image.Tags) > 0 {
			name += ":" + image.Tags[0]
		}
		done = append(done, savedItem{name, image.Manifest.Digest, image.Manifest.Size})
	}
	if !l.o.Quiet || l.format.name != "" {
		if err := printSaved(l.env.Stdout, l.format, "regctl.load/v1", l.to.host, done); err != nil {
			return err
		}
	}
	if !l.o.Quiet && report.Failed == 0 {
		l.env.say("%s, %s in %.1f s, %s already there", counted(len(done), "image"),
			humanSize(report.Moved), l.env.Now().Sub(start).Seconds(), humanSize(report.There))
	}
	return l.failure(&report)
}

// failure is the error of the only image, or tells those of several.
func (l *loader) failure(r *transfer.Report) error {
	if r.Failed == 0 {
		return nil
	}
	if len(r.Images) == 1 || r.Failed == len(r.Images) && fatal(r.Err()) {
		return l.to.hint(r.Err(), "regctl load", l.o.File)
	}
	for _, image := range r.Images {
		if image.Err != nil {
			l.env.warn(image.Err)
		}
	}
	return &ExitError{Status: exitSome, Err: fmt.Errorf("%d of %s failed", r.Failed, counted(len(r.Images), "image"))}
}

// in is the name of a repository of t as it is typed.
func (t target) in(repo string) string {
	if t.layout != "" {
		return layoutPrefix + t.layout + ":" + repo
	}
	return t.host + "/" + repo
}
