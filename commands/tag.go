package commands

import (
	"context"
	"errors"
	"strings"

	"github.com/spf13/cobra"

	"github.com/regctl/regctl/client/layout"
	"github.com/regctl/regctl/client/oci"
)

type tagOptions struct {
	remoteOptions
	What        string
	Tags        []string
	NoOverwrite bool
	Quiet       bool
	Output      string
}

const tagHelp = `Give an image more tags in its repository. Nothing is copied: the registry gets
the manifest that it has, once for each tag, or once for all on a regctl serve.

A tag that is there moves, unless --no-overwrite is given. For another repository
or registry: regctl cp.`

const tagExamples = `  regctl tag app:1.2.3 1.2 1 latest
  regctl tag HOST/app@sha256:… stable
  regctl tag --no-overwrite app:latest 1.2.4`

func newTag(env *Env, run func(context.Context, *Env, *tagOptions) error) *cobra.Command {
	o := &tagOptions{}
	cmd := &cobra.Command{
		Use:               "tag [HOST/]REPO:TAG | [HOST/]REPO@DIGEST NEW...",
		Short:             "Give an image more tags",
		Long:              tagHelp,
		Example:           tagExamples,
		GroupID:           groupMove,
		ValidArgsFunction: completeNames(env, &o.remoteOptions, true),
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) < 2 {
				return usagef("tag needs an image and a new tag: regctl tag REPO:TAG NEW; see: regctl tag --help")
			}
			o.What, o.Tags = args[0], args[1:]
			return run(cmd.Context(), env, o)
		},
	}
	flags := cmd.Flags()
	o.add(cmd)
	flags.BoolVar(&o.NoOverwrite, "no-overwrite", false, "move no tag that points elsewhere")
	flags.BoolVarP(&o.Quiet, "quiet", "q", false, "tell errors only")
	addOutput(cmd, &o.Output)
	return cmd
}

// tagItem is a tag that was made, and its JSON form.
type tagItem struct {
	Name   string     `json:"name"` // HOST/REPO:TAG.
	Digest oci.Digest `json:"digest"`
}

func runTag(ctx context.Context, env *Env, o *tagOptions) error {
	f, err := parseFormat(o.Output)
	if err != nil {
		return err
	}
	t, err := o.target(env)
	if err != nil {
		return err
	}
	d, err := o.put(ctx, env, t)
	if errors.Is(err, oci.ManifestUnknown) {
		return t.missing(err, t.ref)
	}
	if err != nil {
		return t.hint(err, "regctl tag", o.What)
	}
	if o.Quiet && f.name == "" {
		return nil
	}
	p := newPrinter(env.Stdout, f, "regctl.tag/v1", t.address(), nil)
	for _, tag := range o.Tags {
		item := tagItem{t.image(t.repo, tag), d.Digest}
		if err := p.add(item, item.Name+"@"+string(item.Digest), nil); err != nil {
			return err
		}
	}
	return p.end()
}

// target reads the arguments.
func (o *tagOptions) target(env *Env) (target, error) {
	t, err := env.imageTarget(o.What, &o.remoteOptions)
	if err != nil {
		return t, err
	}
	if t.layout != "" && t.repo == "" {
		t.repo = layout.Unnamed
	}
	switch {
	case t.repo == "":
		return t, usagef("%s is a registry; name an image: regctl tag REPO:TAG NEW", o.What)
	case t.ref == "":
		return t, usagef("%s has no tag; tag does not guess: regctl tag %s:latest %s", o.What, o.What, strings.Join(o.Tags, " "))
	}
	for _, tag := range o.Tags {
		if strings.ContainsAny(tag, "/:@") {
			return t, usagef("%s is no tag; for another repository: regctl cp %s %s", tag, o.What, tag)
		}
		if err := oci.CheckTag(tag); err != nil {
			return t, err
		}
	}
	return t, nil
}

// put pushes the manifest again, by two requests.
func (o *tagOptions) put(ctx context.Context, env *Env, t target) (oci.Descriptor, error) {
	warn := env.warn
	if o.Quiet {
		warn = nil
	}
	reg, err := env.registries(&o.remoteOptions, warn).open(t)
	if err != nil {
		return oci.Descriptor{}, err
	}
	m, err := reg.Manifest(looking(ctx), t.repo, t.ref)
	if err != nil {
		return oci.Descriptor{}, err
	}
	return reg.PutManifest(ctx, t.repo, oci.Put{
		Digest: m.Descriptor.Digest, Tags: o.Tags, MediaType: m.Descriptor.MediaType, Raw: m.Raw, NoOverwrite: o.NoOverwrite,
	})
}
