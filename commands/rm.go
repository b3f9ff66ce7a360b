package commands

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/regctl/regctl/client/oci"
	"github.com/regctl/regctl/client/prune"
)

type rmOptions struct {
	remoteOptions
	What           []string
	All            bool
	Yes            bool
	Force          bool
	IgnoreMissing  bool
	NoJournal      bool
	OverwriteUntag bool
	Quiet          bool
}

const rmHelp = `Delete tags, a manifest, or a repository.

  regctl rm REPO:TAG...        remove tags; what they point to stays
  regctl rm REPO@DIGEST        delete a manifest that nothing needs
  regctl rm --all REPO         delete a whole repository

A tag is removed only if it still points to what it was seen to point to, and
nothing else is touched: other tags of the image stay. Its manifest stays without
a tag until the registry collects it (regctl gc --untagged).

A manifest that a tag, an index or a subject needs is not deleted; what needs it
is told. --force deletes it all the same, with its tags.

--all deletes every tag and what only they needed; what has no tag is left to
"regctl gc --untagged". With --no-journal a regctl serve forgets the repository
at once. It asks on a terminal, and needs --yes elsewhere. To delete by age or
number, see regctl prune.

What is deleted is recorded first; "regctl undo" puts it back.`

func newRm(env *Env, run func(context.Context, *Env, *rmOptions) error) *cobra.Command {
	o := &rmOptions{}
	cmd := &cobra.Command{
		Use:               "rm [HOST/]REPO:TAG... | [HOST/]REPO@DIGEST... | --all [HOST/]REPO...",
		Short:             "Delete tags, manifests or repositories",
		Long:              rmHelp,
		GroupID:           groupClean,
		ValidArgsFunction: completeNames(env, &o.remoteOptions, true),
		RunE: func(cmd *cobra.Command, args []string) error {
			o.What = args
			return run(cmd.Context(), env, o)
		},
	}
	flags := cmd.Flags()
	o.add(cmd)
	o.addJobs(cmd)
	flags.BoolVarP(&o.All, "all", "a", false, "the repository with all that is in it")
	flags.BoolVarP(&o.Yes, "yes", "y", false, "do not ask")
	flags.BoolVarP(&o.Force, "force", "f", false, "delete a manifest that something needs, too")
	flags.BoolVar(&o.IgnoreMissing, "ignore-missing", false, "what is not there is no error")
	flags.BoolVar(&o.NoJournal, "no-journal", false, "record nothing; there is no undo")
	flags.BoolVar(&o.OverwriteUntag, "overwrite-untag", false, "where tags cannot be deleted alone, push an empty index over them and delete that")
	flags.BoolVarP(&o.Quiet, "quiet", "q", false, "tell errors only")
	return cmd
}

// rmJob is what is to be done in one repository.
type rmJob struct {
	target target // Without a ref.
	tags   []string
	digest oci.Digest
}

func runRm(ctx context.Context, env *Env, o *rmOptions) error {
	jobs, err := o.jobs(env)
	if err != nil {
		return err
	}
	if o.All {
		if err := o.askAll(ctx, env, jobs); err != nil {
			return err
		}
	}
	r := &remover{env: env, o: o, open: env.registries(&o.remoteOptions, env.warn), runs: map[string]*prune.Run{}}
	if !o.NoJournal {
		if r.journal, err = env.newJournal(); err != nil {
			return err
		}
	}
	ctx = recorded(ctx, r.journal)
	for _, job := range jobs {
		if err = r.do(ctx, job); err != nil {
			break
		}
	}
	if r.journal != nil {
		err = errors.Join(err, r.journal.Close(err == nil))
	}
	r.hint()
	switch {
	case err != nil:
		return err
	case r.failed > 0:
		return &ExitError{Status: exitSome}
	}
	return nil
}

// jobs reads the arguments; tags of one repository are one job.
func (o *rmOptions) jobs(env *Env) ([]*rmJob, error) {
	if len(o.What) == 0 {
		return nil, usagef("rm needs REPO:TAG, REPO@DIGEST or --all REPO; see: regctl rm --help")
	}
	var jobs []*rmJob
	for _, what := range o.What {
		t, err := env.imageTarget(what, &o.remoteOptions)
		switch {
		case strings.ContainsAny(what, "*?"):
			return nil, usagef("rm takes no patterns; to delete many tags: regctl prune REPO --include %q", what)
		case err != nil:
			return nil, err
		case t.repo == "":
			return nil, usagef("%s is a whole registry; name a repository", what)
		case o.All && t.ref != "":
			return nil, usagef("--all deletes a repository, and %s is one image of it", what)
		case !o.All && t.ref == "":
			return nil, usagef("%s is a repository; name a tag of it, %s:TAG, or delete it all: regctl rm --all %s", what, what, what)
		}
		ref := t.ref
		t.ref = ""
		if oci.IsDigest(ref) {
			jobs = append(jobs, &rmJob{target: t, digest: oci.Digest(ref)})
			continue
		}
		if last := len(jobs) - 1; last >= 0 && jobs[last].target == t && jobs[last].digest == "" {
			jobs[last].tags = append(jobs[last].tags, ref)
			continue
		}
		jobs = append(jobs, &rmJob{target: t, tags: []string{ref}})
	}
	return jobs, nil
}

func (o *rmOptions) askAll(ctx context.Context, env *Env, jobs []*rmJob) error {
	if o.Yes {
		return nil
	}
	if !env.Asks {
		return usagef("rm --all deletes whole repositories; where nobody can be asked it needs --yes")
	}
	var names []string
	for _, j := range jobs {
		names = append(names, j.target.String())
	}
	yes, err := env.confirm(ctx, "Delete all of "+strings.Join(names, ", ")+"?")
	if err == nil && !yes {
		env.say("nothing was deleted")
		err = &ExitError{Status: exitFailed}
	}
	return err
}

// remover is one run of `regctl rm`.
type remover struct {
	env     *Env
	o       *rmOptions
	open    *registries
	journal *prune.Journal
	runs    map[string]*prune.Run // By registry.
	deleted int
	failed  int
}

func (r *remover) do(ctx context.Context, job *rmJob) error {
	reg, err := r.open.open(job.target)
	if err != nil {
		return err
	}
	run := r.run(job.target, reg)
	switch {
	case r.o.All:
		err = r.all(ctx, run, reg, job)
	case job.digest != "":
		err = r.digest(ctx, run, reg, job)
	default:
		err = r.tags(ctx, run, reg, job)
	}
	switch {
	case err == nil:
		return nil
	case errors.Is(err, prune.ErrDeletesOff):
		return &hinted{err, job.target.host + " refuses deletes. " + deletesOn}
	}
	return job.target.explainImage(err, "regctl rm", job.target.String())
}

func (r *remover) run(t target, reg oci.Registry) *prune.Run {
	run := r.runs[t.address()]
	if run == nil {
		o := prune.RunOptions{Registry: t.address(), Cache: r.env.manifestCache(), OverwriteUntag: r.o.OverwriteUntag, Jobs: r.o.Jobs}
		if r.journal != nil {
			o.Record = r.journal
		}
		run = prune.NewRun(reg, o)
		r.runs[t.address()] = run
	}
	return run
}

// tags removes tags, each of which may be missing.
func (r *remover) tags(ctx context.Context, run *prune.Run, reg oci.Registry, job *rmJob) error {
	for _, tag := range job.tags {
		plan, err := prune.PlanUntag(ctx, reg, job.target.repo, tag)
		if r.missing(err) {
			continue
		}
		if err != nil {
			return err
		}
		report, err := run.Execute(ctx, plan)
		if err != nil {
			return err
		}
		for _, o := range report.Tags {
			if !o.Deleted {
				r.failed++
				r.env.say("%s:%s is kept: %s", job.target.repo, o.Tag, whyKept(o.Reason))
				continue
			}
			r.deleted++
			r.talk(fmt.Sprintf("untagged %s:%s; %s", job.target.repo, o.Tag, r.stays(ctx, reg, job, o.Digest)))
		}
	}
	return nil
}

// stays tells what becomes of an image that has lost a tag.
func (r *remover) stays(ctx context.Context, reg oci.Registry, job *rmJob, d oci.Digest) string {
	until := "the registry collects what has no tag"
	if isOurs(ctx, reg) {
		for other, err := range reg.TagDetails(ctx, job.target.repo, "") {
			if err == nil && other.Manifest.Digest == d {
				return fmt.Sprintf("%s:%s is the same image", job.target.repo, other.Tag)
			}
		}
		until = "regctl gc --untagged"
	}
	return fmt.Sprintf("%s stay until %s", r.size(ctx, reg, job, d), until)
}

// missing tells an error that is none with --ignore-missing.
func (r *remover) missing(err error) bool {
	return r.o.IgnoreMissing && (errors.Is(err, oci.ManifestUnknown) || errors.Is(err, oci.NameUnknown) || errors.Is(err, oci.NotFound))
}

// size is that of an image, as far as its manifests tell.
func (r *remover) size(ctx context.Context, reg oci.Registry, job *rmJob, d oci.Digest) string {
	n, err := prune.Size(ctx, reg, job.target.repo, d, prune.Options{Cache: r.env.manifestCache(), Jobs: r.o.Jobs})
	if err != nil {
		return "its bytes" // What was asked for is done, and that is news.
	}
	return humanSize(n)
}

// digest deletes a manifest that nothing needs.
func (r *remover) digest(ctx context.Context, run *prune.Run, reg oci.Registry, job *rmJob) error {
	repo := job.target.repo
	plan, needs, err := prune.PlanDigest(ctx, reg, repo, job.digest, prune.Options{Cache: r.env.manifestCache(), Jobs: r.o.Jobs})
	if r.missing(err) {
		return nil
	}
	if err != nil {
		return err
	}
	if len(needs) > 0 && !r.o.Force {
		return &ExitError{exitUsage, fmt.Errorf("%s@%s is needed by %s; --force deletes it all the same", repo, job.digest, strings.Join(needs, ", "))}
	}
	report, err := run.Execute(ctx, plan)
	if err != nil {
		return err
	}
	return r.report(ctx, run, reg, job, report)
}

// all deletes a repository: piece by piece, for what is deleted at once takes
// the blobs along, and they are what undo needs. Without a record to undo it by
// that is no reason.
func (r *remover) all(ctx context.Context, run *prune.Run, reg oci.Registry, job *rmJob) error {
	if r.o.NoJournal {
		err := reg.DeleteRepo(ctx, job.target.repo)
		switch {
		case err == nil:
			r.talk("deleted " + job.target.repo)
			return nil
		case r.missing(err):
			return nil
		case !errors.Is(err, oci.Unsupported):
			return err
		}
	}
	plan, err := prune.PlanAll(ctx, reg, job.target.repo, prune.Options{Cache: r.env.manifestCache(), Jobs: r.o.Jobs})
	if r.missing(err) {
		return nil
	}
	if err != nil {
		return err
	}
	report, err := run.Execute(ctx, plan)
	if err != nil {
		return err
	}
	return r.report(ctx, run, reg, job, report)
}

func (r *remover) report(ctx context.Context, run *prune.Run, reg oci.Registry, job *rmJob, report *prune.Report) error {
	manifests := 0
	for _, o := range report.Manifests {
		if o.Deleted {
			manifests++
			continue
		}
		r.failed++
		r.env.say("%s@%s is kept: %s", job.target.repo, o.Digest, whyKept(o.Reason))
	}
	if run.Refused() {
		return prune.ErrDeletesOff
	}
	r.deleted += report.Deleted() + manifests
	r.talk(fmt.Sprintf("deleted %s and %s of %s; %s frees %s",
		many(report.Deleted(), "tag"), many(manifests, "manifest"), job.target.repo, collector(ctx, reg), humanSize(report.Bytes)))
	return nil
}

func (r *remover) talk(text string) {
	if !r.o.Quiet {
		r.env.say("%s", text)
	}
}

// hint tells how to go back.
func (r *remover) hint() {
	if r.journal != nil && r.deleted > 0 {
		r.talk("Undo: regctl undo " + r.journal.ID())
	}
}
