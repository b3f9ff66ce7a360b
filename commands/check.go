package commands

import (
	"context"
	"errors"

	"github.com/spf13/cobra"

	"github.com/regctl/regctl/serve"
	"github.com/regctl/regctl/serve/config"
	"github.com/regctl/regctl/serve/store"
)

type checkOptions struct {
	localOptions
	Repair  bool
	Fast    bool
	Offline bool
	Quiet   bool
	Jobs    int // 0: not said.
	Output  string
}

const checkHelp = `Read all that a registry on this machine holds, compare it with its digests, and
tell what is wrong and which images it hurts.

  regctl check                  read everything
  regctl check --fast           links and manifests, and the sizes of blobs
  regctl check --repair         mend what can be mended for sure, list the rest
  regctl check -q || mail ...   by cron: silent, if nothing is wrong

If a regctl serve has the store, it is asked to do it, with pushes and pulls going
on; else the store is locked and it is done here.

Each line on stdout is a fault: its kind, where, what is wrong, which images cannot
be pulled whole for it, and what can be done. Notes, of what is no fault, go to
stderr: blobs that a collection of registry:2 took, indexes that are sparse.

--repair deletes nothing. It
  - writes a link again that is empty, torn or leads elsewhere, if the bytes of the
    digest it is named after are there and right;
  - links a blob to its repository that a manifest there names, if its bytes are
    there and right;
  - sets bytes aside that are not those of their digest: they stay beside their
    place, as data.*.damaged. A pull of them fails at once instead of at its end,
    and a push, which would have skipped what is there, brings the right ones.
Tags that lead nowhere stay. What is missing comes back by pushing the image again:
docker push, or regctl cp --force, which does not take it for whole.

A registry:2 that runs on the same directory cannot be seen. If the last push is
younger than an hour, and was not to a regctl serve, nothing is repaired without
--offline, which says that nobody writes: stop the other server first.

Exit status: 0 nothing is wrong · 8 something is corrupt, after --repair: still ·
3 something could not be read.

`

func newCheck(env *Env, run func(context.Context, *Env, *checkOptions) error) *cobra.Command {
	o := &checkOptions{}
	cmd := &cobra.Command{
		Use:     "check [CONFIG.yml]",
		Short:   "Find what is corrupt, and mend it",
		Long:    checkHelp + localHelp,
		GroupID: groupClean,
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := o.read(cmd, args); err != nil {
				return err
			}
			return run(cmd.Context(), env, o)
		},
	}
	o.add(cmd)
	flags := cmd.Flags()
	flags.BoolVar(&o.Repair, "repair", false, "mend what can be mended for sure")
	flags.BoolVar(&o.Fast, "fast", false, "do not read blobs, look at their sizes")
	flags.BoolVar(&o.Offline, "offline", false, "nobody writes to the store, whatever it looks like")
	flags.VarP((*jobsValue)(&o.Jobs), "jobs", "j", "read `N` things at the same time (default: 1 in a server)")
	flags.BoolVarP(&o.Quiet, "quiet", "q", false, "tell faults and errors only")
	addOutput(cmd, &o.Output)
	return cmd
}

func runCheck(ctx context.Context, env *Env, o *checkOptions) error {
	f, err := parseFormat(o.Output)
	if err != nil {
		return err
	}
	upkeep, place, err := env.openLocal(ctx, &o.localOptions, "regctl check")
	if err != nil {
		return err
	}
	defer func() { _ = upkeep.Close() }() // What was mended is, and the end of the process lets go, too.
	t := &checkTalk{env: env, o: o, store: place.Path, holder: upkeep.Holder()}
	return t.check(ctx, upkeep, f)
}

// check asks for a check, and tells how it goes and what came of it.
func (t *checkTalk) check(ctx context.Context, upkeep serve.Upkeep, f format) error {
	t.begin()
	began := t.env.Now()
	bar := newPhases(t.env, t.o.Quiet, t.phases()...)
	o := store.CheckOptions{Fast: t.o.Fast, Repair: t.o.Repair, Jobs: t.o.Jobs, Offline: t.o.Offline}
	report, err := upkeep.Check(ctx, o, func(p store.CheckProgress) { bar.at(string(p.Phase), p.Done, p.Total) })
	bar.end()
	t.report, t.took = report, t.env.Now().Sub(began)
	refused := errors.Is(err, serve.ErrForeignWriter)
	if err != nil && !refused {
		t.broken()
		return t.env.cannotUpkeep(err, config.Place{Path: t.store}, "regctl check"+t.o.flags())
	}
	if err := t.print(f); err != nil {
		return err
	}
	if refused {
		return t.env.cannotUpkeep(err, config.Place{Path: t.store}, "regctl check --repair"+t.o.flags())
	}
	t.end()
	return t.status()
}

// phases are the parts of a check, and about how long each takes.
func (t *checkTalk) phases() []phase {
	all := []phase{
		{string(store.CheckList), 20, "listing data", inThousands},
		{string(store.CheckRead), 900, "reading", humanSize},
		{string(store.CheckRepos), 80, "reading repositories", inThousands},
	}
	if t.o.Fast {
		all[0].share, all[1].share, all[2].share = 200, 0, 800
	}
	return all
}

// status is the exit status.
func (t *checkTalk) status() error {
	switch {
	case t.report.Corrupt > 0:
		return &ExitError{Status: exitCorrupt}
	case t.report.Unread > 0:
		return &ExitError{Status: exitSome}
	}
	return nil
}
