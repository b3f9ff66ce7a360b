package commands

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"github.com/regctl/regctl/client"
	"github.com/regctl/regctl/client/oci"
	"github.com/regctl/regctl/client/prune"
)

// manifestCache is how many bytes of manifests are kept between runs.
const manifestCache = 256 << 20

// pruner is one run of `regctl prune`.
//
// With nobody to ask, a repository is planned and executed before the next
// ones come to their turn, a few at the same time: memory does not grow with
// the registry. Where somebody is asked first, of all repositories together
// only what goes is remembered.
type pruner struct {
	env    *Env
	o      *pruneOptions
	target target
	reg    oci.Registry
	names  []string  // Repositories that were named.
	globs  []pattern // Those of the catalogue that match; with no names either: all.
	rules  []pruneRule
	used   *inUse
	cache  prune.Cache
	lefts  []prune.Left
	out    *pruneOutput
	sum    pruneSum

	journal *prune.Journal // Nil: a dry run, or one without a record.
	exec    *prune.Run
	bar     *progress // Nil before there is anything to tell.
}

// work is what becomes of one repository, and what has become of it.
type work struct {
	repo   string
	plan   *prune.Plan
	report *prune.Report
	err    error
	done   chan struct{}
}

func newPruner(ctx context.Context, env *Env, o *pruneOptions) (*pruner, error) {
	p := &pruner{env: env, o: o}
	var err error
	if p.rules, err = o.pruneRules(env.Now()); err != nil {
		return nil, err
	}
	if o.ExitCode && !o.DryRun {
		return nil, usagef("--exit-code goes with --dry-run")
	}
	if err := p.repositories(); err != nil {
		return nil, err
	}
	if p.out, err = newPruneOutput(env, o, p.target.host); err != nil {
		return nil, err
	}
	if err := p.inUse(p.target); err != nil {
		return nil, err
	}
	if p.reg, err = env.registries(&o.remoteOptions, p.warn).open(p.target); err != nil {
		return nil, err
	}
	p.cache = env.manifestCache()
	p.leftovers()
	return p, nil
}

// manifestCache is where manifests are kept between runs; nil: nowhere.
func (e *Env) manifestCache() prune.Cache {
	dir := e.cacheHome()
	if dir == "" {
		return nil
	}
	return client.NewDirCache(filepath.Join(dir, "content"), manifestCache, e.Now)
}

// undoHome is where deletions are recorded; "" if there is no such place.
func (e *Env) undoHome() string {
	dir := e.stateHome()
	if dir == "" {
		return ""
	}
	return filepath.Join(dir, "undo")
}

// leftovers reads what earlier runs have recorded. Records that cannot be read
// are no reason to do nothing: what they tell of stays.
func (p *pruner) leftovers() {
	dir := p.env.undoHome()
	if dir == "" {
		return
	}
	var err error
	if p.lefts, err = prune.Leftovers(dir, p.target.address(), p.o.Untagged); err != nil {
		p.talk(fmt.Sprintf("what earlier runs have left is not looked at: %v", err))
	}
}

func (p *pruner) talk(text string) {
	if !p.o.Quiet {
		p.bar.clear()
		p.env.say("%s", text)
	}
}

func (p *pruner) warn(err error) { p.talk(err.Error()) }

// repositories reads the arguments: repositories, globs of them, or a host.
func (p *pruner) repositories() error {
	words := p.o.Repos
	if len(words) == 0 {
		words = []string{""}
	}
	for i, word := range words {
		t, err := p.repository(word)
		if err != nil {
			return err
		}
		if i > 0 && t.address() != p.target.address() {
			return usagef("%s and %s are different registries; prune one at a time", p.target.address(), t.address())
		}
		if t.repo != "" {
			p.names = append(p.names, t.repo)
		}
		if p.target = t; i > 0 && t.repo == "" && len(p.globs) == 0 {
			return usagef("%s is all of the registry; name it alone, or repositories", word)
		}
	}
	p.target.repo = ""
	return nil
}

func (p *pruner) repository(word string) (target, error) {
	glob := strings.IndexAny(word, "*?[")
	if glob < 0 || strings.HasPrefix(word, layoutPrefix) {
		t, err := p.env.target(word, &p.o.remoteOptions)
		if err == nil && t.ref != "" {
			err = usagef("%s is one image; to delete a tag: regctl rm %s", word, word)
		}
		return t, err
	}
	scheme, rest := cutScheme(word)
	host, below := "", rest
	if scheme != "" || beginsWithHost(rest) {
		host, below, _ = strings.Cut(rest, "/")
		host += "/"
	}
	re, err := newPattern(below)
	if err != nil {
		return target{}, usagef("%q: %v", word, err)
	}
	p.globs = append(p.globs, re)
	return p.env.target(strings.TrimSuffix(word, rest)+host, &p.o.remoteOptions)
}

// repos lists the repositories that the arguments mean.
func (p *pruner) repos(ctx context.Context) iter.Seq2[string, error] {
	return func(yield func(string, error) bool) {
		for _, name := range p.names {
			if !yield(name, nil) {
				return
			}
		}
		if len(p.names) > 0 && len(p.globs) == 0 {
			return
		}
		for name, err := range p.reg.Repos(ctx, "") {
			wanted := len(p.globs) == 0 || slices.ContainsFunc(p.globs, func(g pattern) bool { return g.re.MatchString(name) })
			if err == nil && (!wanted || slices.Contains(p.names, name)) {
				continue
			}
			if !yield(name, err) {
				return
			}
		}
	}
}

func (p *pruner) run(ctx context.Context) (err error) {
	asks := p.env.Asks && !p.o.Yes && !p.o.DryRun
	through := false // Nothing that was begun is left; what was left alone has its own status.
	if !p.o.DryRun {
		if err := p.begin(); err != nil {
			return err
		}
		ctx = recorded(ctx, p.journal)
		defer func() { err = errors.Join(err, p.closeJournal(through && p.sum.whole())) }()
	}
	first := p.planAndExecute
	if asks || p.o.DryRun {
		first = p.plan
	}
	var waiting []*work
	todo := p.listed(ctx)
	p.bar = newProgress(p.env, p.o.Quiet, int64(len(todo)), inThousands)
	err = p.each(ctx, given(todo), first, func(w *work) error {
		p.bar.note("repositories; %s to delete", many(p.sum.planned.tags, "tag"))
		p.bar.add(1)
		if w.err == nil || w.report != nil {
			p.sum.plan(w.plan)
		}
		if !asks || w.err != nil {
			return p.tell(w)
		}
		if w.plan.Forget(); !w.plan.Empty() {
			waiting = append(waiting, w)
		}
		return nil
	})
	p.bar.done()
	if err == nil && asks {
		err = p.askAndExecute(ctx, waiting)
	}
	if end := p.out.end(&p.sum, p); err == nil {
		err = end
	}
	if err != nil {
		return p.explain(err)
	}
	through = true
	return p.finish(ctx)
}

// begin opens the record.
func (p *pruner) begin() error {
	options := prune.RunOptions{
		Registry: p.target.address(), Cache: p.cache, Jobs: p.o.Jobs, OverwriteUntag: p.o.OverwriteUntag,
	}
	if !p.o.NoJournal {
		var err error
		if p.journal, err = p.env.newJournal(); err != nil {
			return err
		}
		options.Record = p.journal
	}
	p.exec = prune.NewRun(p.reg, options)
	return nil
}

// newJournal begins a record of what is deleted.
// Errors: a usage error if there is no place for it.
func (e *Env) newJournal() (*prune.Journal, error) {
	dir := e.undoHome()
	if dir == "" {
		return nil, usagef("there is no place to record what is deleted: neither $XDG_STATE_HOME nor a home directory; --no-journal goes on without undo")
	}
	j, err := prune.CreateJournal(dir, e.Now())
	if err != nil {
		return nil, usagef("what is deleted cannot be recorded: %v; --no-journal goes on without undo", err)
	}
	return j, nil
}

// closeJournal ends the record, and those that this run has finished.
func (p *pruner) closeJournal(done bool) error {
	if p.journal == nil {
		return nil
	}
	err := p.journal.Close(done)
	for _, left := range p.lefts {
		if done && left.Unfinished && p.sum.visitedAll(left) {
			err = errors.Join(err, prune.Mark(p.env.undoHome(), left.ID, prune.KindEnd, p.env.Now()))
		}
	}
	return err
}

// works are the repositories that a rule is about.
func (p *pruner) works(ctx context.Context) iter.Seq2[*work, error] {
	return func(yield func(*work, error) bool) {
		for repo, err := range p.repos(ctx) {
			if err == nil && ruleOf(p.rules, repo) == nil {
				p.sum.visit(repo)
				continue
			}
			if !yield(&work{repo: repo}, err) {
				return
			}
		}
	}
}

// listed is all of works, so that it is known how much there is. An error is
// the work that stops the run in its turn.
func (p *pruner) listed(ctx context.Context) []*work {
	var todo []*work
	for w, err := range p.works(ctx) {
		if err != nil {
			return append(todo, &work{err: err})
		}
		todo = append(todo, w)
	}
	return todo
}

// given yields works that are known, and lets go of each.
func given(works []*work) iter.Seq2[*work, error] {
	return func(yield func(*work, error) bool) {
		for i, w := range works {
			works[i] = nil
			if !yield(w, w.err) {
				return
			}
		}
	}
}

// each does the work of a few repositories at the same time and hands them on
// in order.
func (p *pruner) each(ctx context.Context, works iter.Seq2[*work, error], do func(context.Context, *work), then func(*work) error) error {
	ctx, cancel := context.WithCancel(ctx)
	var running sync.WaitGroup
	defer running.Wait()
	defer cancel()
	queue := make(chan *work, p.o.Jobs-1)
	running.Go(func() {
		defer close(queue)
		for w, err := range works {
			if err != nil {
				w = &work{err: err}
			}
			w.done = make(chan struct{})
			select {
			case queue <- w:
			case <-ctx.Done():
				return
			}
			running.Go(func() {
				defer close(w.done)
				if w.err == nil {
					do(ctx, w)
				}
			})
		}
	})
	for w := range queue {
		<-w.done
		if err := then(w); err != nil {
			return err
		}
	}
	return ctx.Err()
}

// errEmpties is why a plan is not executed.
var errEmpties = errors.New("would be left without a tag")

func (p *pruner) plan(ctx context.Context, w *work) {
	rule := ruleOf(p.rules, w.repo)
	options := prune.Options{
		Cache: p.cache, Jobs: p.o.Jobs, Untagged: p.o.Untagged, Needed: p.used.digests(w.repo),
	}
	for _, left := range p.lefts {
		options.Known = append(options.Known, left.Known[w.repo]...)
	}
	w.plan, w.err = prune.MakePlan(ctx, p.reg, w.repo, rule.of(w.repo, p.used), options)
	switch {
	case errors.Is(w.err, oci.NameUnknown) && !slices.Contains(p.names, w.repo):
		w.plan, w.err = &prune.Plan{Repo: w.repo}, nil // The catalogues of some list what was emptied.
	case w.err == nil && w.plan.Empties && !w.plan.Empty() && !p.o.Force:
		w.err = fmt.Errorf("%s %w, so it is left alone; --force deletes it all the same", w.repo, errEmpties)
	}
}

func (p *pruner) execute(ctx context.Context, w *work) {
	w.report, w.err = p.exec.Execute(ctx, w.plan)
}

func (p *pruner) planAndExecute(ctx context.Context, w *work) {
	if p.plan(ctx, w); w.err == nil {
		p.execute(ctx, w)
	}
}

// tell prints what became of a repository. Its error stops the run.
func (p *pruner) tell(w *work) error {
	p.bar.clear()
	p.sum.add(w)
	if w.plan != nil && !errors.Is(w.err, errEmpties) {
		if err := p.out.repo(w); err != nil {
			return err
		}
	}
	switch {
	case w.err == nil:
		return nil
	case errors.Is(w.err, errEmpties):
		p.env.say("%v", w.err)
		return nil
	case w.repo == "" || prune.Fatal(w.err), errors.Is(w.err, oci.NameUnknown):
		return w.err
	}
	hint := ""
	if w.report != nil && errors.Is(w.err, oci.Denied) { // A tag that may not go holds up those that may, night after night.
		hint = "; tags that are to stay in any case: --exclude"
	}
	p.env.say("%v; %s is left alone%s", w.err, w.repo, hint)
	return nil
}

func (p *pruner) askAndExecute(ctx context.Context, waiting []*work) error {
	if len(waiting) == 0 {
		return nil
	}
	question := fmt.Sprintf("Delete %s (%s) on %s?", many(p.sum.planned.tags, "tag"), p.sum.planned.size(), p.target.host)
	yes, err := p.env.confirm(ctx, question)
	if err != nil {
		return err
	}
	if !yes {
		p.env.say("nothing was deleted")
		return &ExitError{Status: exitFailed}
	}
	p.bar = newProgress(p.env, p.o.Quiet, int64(p.sum.planned.tags), inThousands)
	defer p.bar.done()
	for i, w := range waiting {
		waiting[i] = &work{repo: w.repo, plan: w.plan}
	}
	return p.each(ctx, given(waiting), p.execute, func(w *work) error {
		p.bar.note("tags; %s", w.repo)
		p.bar.add(int64(len(w.plan.Goes())))
		return p.tell(w)
	})
}
