package commands

import (
	"context"
	"errors"

	"github.com/spf13/cobra"

	"github.com/regctl/regctl/client/oci"
)

type inspectOptions struct {
	remoteOptions
	What     string
	Platform string
	Raw      bool
	Config   bool
	Tags     bool
	Shared   bool
	Quiet    bool
	Output   string
}

const inspectHelp = `Show what an image is: digest, size, platforms, layers and what made them,
config, and what refers to it: signatures, SBOMs, attestations. Charts, bundles
and other artifacts are shown the same way.

Without a tag it is the one called latest. Layers and config of an image for
several platforms are shown for the one of --platform. SIZE is what a pull moves;
the total counts what platforms share once.

The other tags of the digest are listed if that takes one request, as it does on
a regctl serve; elsewhere --tags asks for every tag. --shared reads the manifests
of all tags to tell what removing this image alone would free.`

const inspectExamples = `  regctl inspect alpine:3.20
  regctl inspect docker.io/alpine:3.20 --platform linux/arm64
  regctl inspect HOST/team/app@sha256:… --raw      the manifest, byte for byte
  regctl inspect team/app:1.0 --config | jq .config.Env
  regctl inspect team/app:1.0 -o go-template='{{.digest}}'
  regctl inspect oci:./images:1.0`

func newInspect(env *Env, run func(context.Context, *Env, *inspectOptions) error) *cobra.Command {
	o := &inspectOptions{}
	cmd := &cobra.Command{
		Use:               "inspect [HOST/]REPO[:TAG | @DIGEST]",
		Short:             "Show what an image is made of",
		Long:              inspectHelp,
		Example:           inspectExamples,
		GroupID:           groupLook,
		Args:              exactlyOne("inspect REPO:TAG"),
		ValidArgsFunction: completeNames(env, &o.remoteOptions, true),
		RunE: func(cmd *cobra.Command, args []string) error {
			o.What = args[0]
			return run(cmd.Context(), env, o)
		},
	}
	flags := cmd.Flags()
	o.add(cmd)
	o.addJobs(cmd)
	flags.StringVar(&o.Platform, "platform", "", "of an image for several, the one for `OS/ARCH`")
	flags.BoolVar(&o.Raw, "raw", false, "the manifest, byte for byte")
	flags.BoolVar(&o.Config, "config", false, "the config, byte for byte")
	flags.BoolVar(&o.Tags, "tags", false, "the other tags of the digest, whatever it takes")
	flags.BoolVar(&o.Shared, "shared", false, "what other tags of the repository have, too")
	flags.BoolVarP(&o.Quiet, "quiet", "q", false, "no warnings")
	addOutput(cmd, &o.Output)
	completePlatforms(cmd)
	return cmd
}

// completePlatforms completes --platform.
func completePlatforms(cmd *cobra.Command) {
	platforms := []cobra.Completion{"linux/amd64", "linux/arm64", "linux/arm/v7", "linux/386", "linux/ppc64le", "linux/riscv64", "linux/s390x", "windows/amd64"}
	_ = cmd.RegisterFlagCompletionFunc("platform", cobra.FixedCompletions(platforms, cobra.ShellCompDirectiveNoFileComp)) // The flag is there.
}

// exactlyOne accepts one argument; usage is how it is meant.
func exactlyOne(usage string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if len(args) == 0 {
			return usagef("which? regctl %s", usage)
		}
		return atMost(1)(cmd, args)
	}
}

func (o *inspectOptions) check() error {
	switch {
	case o.Raw && o.Config:
		return usagef("--raw is the manifest and --config another file; one at a time")
	case (o.Raw || o.Config) && o.Output != "":
		return usagef("--raw and --config write the bytes as they are; leave -o out")
	case (o.Raw || o.Config) && (o.Tags || o.Shared):
		return usagef("--raw and --config tell nothing of tags; leave --tags and --shared out")
	}
	return nil
}

func runInspect(ctx context.Context, env *Env, o *inspectOptions) error {
	if err := o.check(); err != nil {
		return err
	}
	t, err := env.imageTarget(o.What, &o.remoteOptions)
	if err != nil {
		return err
	}
	if t.repo == "" {
		return usagef("%s names no image; inspect shows one: regctl inspect %s", o.What, t.sample())
	}
	if t.ref == "" {
		t.ref = "latest"
	}
	reg, err := env.registries(&o.remoteOptions, o.warn(env)).open(t)
	if err != nil {
		return err
	}
	return inspect(looking(ctx), env, reg, t, o)
}

func (o *inspectOptions) warn(env *Env) func(error) {
	if o.Quiet {
		return func(error) {}
	}
	return env.warn
}

// inspect shows the image t of reg.
func inspect(ctx context.Context, env *Env, reg oci.Registry, t target, o *inspectOptions) error {
	f, err := parseFormat(o.Output)
	if err != nil {
		return err
	}
	s := &inspector{reg: reg, repo: t.repo, jobs: max(1, o.Jobs), warn: o.warn(env)}
	m, err := s.manifest(ctx, t.ref, o.Platform)
	switch {
	case err != nil:
		return t.explainImage(err, "regctl inspect", o.What)
	case o.Raw:
		return write(env.Stdout, m.Raw, nil)
	case o.Config:
		return s.writeConfig(ctx, env, m)
	}
	v, failed, err := s.inspect(ctx, m, t, o)
	switch {
	case err != nil:
		return t.hint(err, "regctl inspect", o.What)
	case f.name != "":
		err = f.printOne(env.Stdout, v, "")
	default:
		err = v.show(env)
	}
	if err == nil && failed {
		err = &ExitError{Status: exitSome}
	}
	return err
}

// sample is an image of t as it would be typed.
func (t target) sample() string {
	if t.layout != "" {
		return t.address() + ":TAG"
	}
	return t.host + "/REPO:TAG"
}

// explainImage adds to err what to try when an image was asked for.
func (t target) explainImage(err error, command, what string) error {
	if errors.Is(err, oci.ManifestUnknown) && !oci.IsDigest(t.ref) || errors.Is(err, oci.NameUnknown) {
		repo := t
		repo.ref = ""
		return &hinted{err, err.Error() + ". What is there: regctl ls " + repo.String()}
	}
	return t.hint(err, command, what)
}

func (s *inspector) writeConfig(ctx context.Context, env *Env, m oci.Manifest) error {
	g, err := oci.ParseManifest(m.Descriptor.MediaType, m.Raw)
	if err != nil {
		return err
	}
	raw, err := s.config(ctx, g.Config)
	return write(env.Stdout, raw, err)
}

// inspect gathers all that options ask for. What was asked for besides the
// image itself and failed is warned of and makes failed.
func (s *inspector) inspect(ctx context.Context, m oci.Manifest, t target, o *inspectOptions) (v *inspection, failed bool, err error) {
	if v, err = s.describe(ctx, m); err != nil {
		return nil, false, err
	}
	v.Schema, v.Registry = "regctl.inspect/v1", t.host
	if t.layout != "" {
		v.Registry = t.address()
	}
	if !oci.IsDigest(t.ref) {
		v.Tag = t.ref
	}
	v.Platform = o.Platform
	steps := []func() error{
		func() (err error) { v.Referrers, err = s.referrers(ctx, v.Digest, 0); return err },
		func() error { return s.tags(ctx, v, o.Tags) },
	}
	if o.Shared {
		steps = append(steps, func() error { return s.shared(ctx, v) })
	}
	for _, step := range steps {
		switch err := step(); {
		case err == nil:
		case fatal(err):
			return nil, false, err
		default:
			s.warn(err)
			failed = true
		}
	}
	return v, failed, nil
}
