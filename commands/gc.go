package commands

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/regctl/regctl/gc"
	"github.com/regctl/regctl/serve"
	"github.com/regctl/regctl/serve/config"
)

type gcOptions struct {
	localOptions
	DryRun   bool
	ExitCode bool
	Untagged bool
	Offline  bool
	Empty    bool
	Quiet    bool
	Older    string
	Uploads  string
	Undo     string
	Jobs     int // 0: not said.
	Output   string
}

const gcHelp = `Free the disk of a registry on this machine: remove the bytes that nothing needs,
unfinished uploads, and what crashes left.

  regctl gc                        the store of this machine, as regctl serve finds it
  regctl gc --dry-run              tell what would go, and why the rest stays
  regctl gc /etc/docker/registry/config.yml
  regctl prune --keep 10 -q && regctl gc -q

If a regctl serve has the store, it is asked to do it, with pushes and pulls going
on; else the store is locked and it is done here.

What a tag leads to stays, with all that it names, in whatever repository, and all
that refers to it. So does what is younger than --older, what was deleted within
--undo, and what has no tag, unless --untagged is given. Prune leaves nothing
without a tag, so that its images go without --untagged. What cannot be read
freezes its repository: nothing of it goes, and the exit status is 3.

A registry:2 that runs on the same directory cannot be seen. If the last push is
younger than an hour, and was not to a regctl serve, nothing is removed without
--offline, which says that nobody writes: stop the other server first.

If there is data and not one repository, nothing is removed either, unless the last
thing that happened was that one was deleted: a directory may not be mounted, or not
be restored. --force-empty says that it is as it should be.

--older 0 is safe beside pushes to a regctl serve: what they have touched since
the collection began stays. It may take what was pushed a moment before, and has
no tag or manifest yet; that push fails then, and succeeds when done again.

--older, --uploads, --undo and --untagged may be set in the section gc of the
config file. The flags of "registry garbage-collect" work: -d, -m, -q.

`

func newGC(env *Env, run func(context.Context, *Env, *gcOptions) error) *cobra.Command {
	o := &gcOptions{}
	cmd := &cobra.Command{
		Use:     "gc [CONFIG.yml]",
		Aliases: []string{"garbage-collect"},
		Short:   "Free the disk of what nothing needs",
		Long:    gcHelp + localHelp,
		GroupID: groupClean,
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := o.read(cmd, args); err != nil {
				return err
			}
			if err := noneEmpty(cmd.Flags(), "older", "uploads", "undo"); err != nil {
				return err
			}
			return run(cmd.Context(), env, o)
		},
	}
	o.add(cmd)
	flags := cmd.Flags()
	flags.BoolVarP(&o.DryRun, "dry-run", "d", false, "tell what would go, remove nothing")
	flags.BoolVar(&o.ExitCode, "exit-code", false, "with --dry-run: exit status 10 if anything would go")
	flags.BoolVarP(&o.Untagged, "untagged", "m", false, "also manifests without a tag that nothing refers to")
	flags.StringVar(&o.Older, "older", "", "keep what is not older than `AGE`: 30m, 2d (default 1h)")
	flags.StringVar(&o.Uploads, "uploads", "", "keep unfinished uploads that changed within `AGE` (default 24h)")
	flags.StringVar(&o.Undo, "undo", "", "keep what was deleted within `AGE`, for regctl undo (default 24h)")
	flags.BoolVar(&o.Offline, "offline", false, "nobody writes to the store, whatever it looks like")
	flags.BoolVar(&o.Empty, "force-empty", false, "there are no repositories any more, and that is right")
	flags.VarP((*jobsValue)(&o.Jobs), "jobs", "j", "do `N` things at the same time (default: 1 in a server)")
	flags.BoolVarP(&o.Quiet, "quiet", "q", false, "tell errors only")
	addOutput(cmd, &o.Output)
	flags.BoolVar(&o.Untagged, "delete-untagged", false, "as --untagged")
	hideFlag(cmd, "delete-untagged")
	return cmd
}

// notSaid lets the configuration decide.
const notSaid time.Duration = -1

// request reads the options.
func (o *gcOptions) request() (serve.CollectRequest, error) {
	r := serve.CollectRequest{
		Options: gc.Options{Untagged: o.Untagged, Jobs: o.Jobs, Empty: o.Empty},
		Dry:     o.DryRun, Offline: o.Offline,
	}
	for _, age := range []struct {
		to          *time.Duration
		name, value string
	}{{&r.Older, "older", o.Older}, {&r.Uploads, "uploads", o.Uploads}, {&r.Undo, "undo", o.Undo}} {
		*age.to = notSaid
		if age.value == "" {
			continue
		}
		d, err := parseAge(age.value)
		if err != nil {
			return r, usagef("--%s %q is not %v", age.name, age.value, err)
		}
		*age.to = d
	}
	if o.ExitCode && !o.DryRun {
		return r, usagef("--exit-code goes with --dry-run")
	}
	return r, nil
}

func runGC(ctx context.Context, env *Env, o *gcOptions) error {
	request, err := o.request()
	if err != nil {
		return err
	}
	f, err := parseFormat(o.Output)
	if err != nil {
		return err
	}
	upkeep, place, err := env.openLocal(ctx, &o.localOptions, "regctl gc")
	if err != nil {
		return err
	}
	defer func() { _ = upkeep.Close() }() // What was removed is, and the end of the process lets go, too.
	t := &gcTalk{env: env, o: o, store: place.Path, holder: upkeep.Holder()}
	return t.collect(ctx, upkeep, request, f)
}

// collect asks for a collection, and tells how it goes and what came of it.
func (t *gcTalk) collect(ctx context.Context, upkeep serve.Upkeep, request serve.CollectRequest, f format) error {
	t.begin()
	bar := newPhases(t.env, t.o.Quiet, gcPhases()...)
	report, err := upkeep.Collect(ctx, request, func(p gc.Progress) { bar.at(string(p.Phase), int64(p.Done), int64(p.Total)) })
	bar.end()
	t.report = report
	if err != nil {
		t.broken()
		return t.env.cannotUpkeep(err, config.Place{Path: t.store}, "regctl gc"+t.o.flags())
	}
	if err := t.print(f); err != nil {
		return err
	}
	t.end()
	return t.status()
}

// gcPhases are the parts of a collection, and about how long each takes.
func gcPhases() []phase {
	return []phase{
		{string(gc.PhaseList), 100, "listing data", inThousands},
		{string(gc.PhaseMark), 500, "reading repositories", inThousands},
		{string(gc.PhaseSweep), 400, "removing", inThousands},
	}
}

// status is the exit status.
func (t *gcTalk) status() error {
	r := &t.report
	removed, _ := totalOf(r.Removed)
	switch {
	case t.refused():
		return &ExitError{Status: exitLocked}
	case len(r.Frozen)+len(r.Doubts)+len(r.Failed) > 0:
		return &ExitError{Status: exitSome}
	case t.o.ExitCode && removed > 0:
		return &ExitError{Status: exitWouldChange}
	}
	return nil
}

// refused tells that a run that is not dry would be refused: the plan of a dry
// one is told all the same, and that it would be is among the doubts.
func (t *gcTalk) refused() bool { return slices.ContainsFunc(t.report.Doubts, isRefusal) }

func isRefusal(doubt string) bool { return strings.HasPrefix(doubt, serve.ErrForeignWriter.Error()) }

// totalOf adds counts up.
func totalOf[K comparable](counts map[K]gc.Count) (n int, bytes int64) {
	for _, c := range counts {
		n += c.N
		bytes += c.Bytes
	}
	return n, bytes
}

// clock writes when something in the future is: 03:12 tomorrow.
func clock(now, t time.Time) string {
	t = t.In(now.Location())
	day := func(t time.Time) string { return t.Format(time.DateOnly) }
	switch day(t) {
	case day(now):
		return t.Format("15:04")
	case day(now.AddDate(0, 0, 1)):
		return t.Format("15:04") + " tomorrow"
	}
	return t.Format("15:04") + fmt.Sprintf(" on %s", day(t))
}
