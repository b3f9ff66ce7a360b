package gc

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"
)

// Plan is what is to go, and why the rest stays.
type Plan struct {
	o      Options
	index  *index
	repos  []*graph // Of what is to go, by name.
	litter []Litter // What is to go, in the order of kinds.
	report Report
	meter  *meter
}

// MakePlan decides what of src may go. The only error is that of ctx; what src
// cannot tell is in the report, and keeps what may hang on it.
//
// All data is listed before any repository is read: what comes later is no
// candidate. Of a repository lives what a tag leads to: manifests, what they
// name, whose subject they are, and so on. So does, for as long as o says,
// what is young and what can be brought back. Everything else goes, but
// manifests only if o says so.
//
// A plan needs 48 bytes of memory for each data, 80 for that of a sha512, and
// some hundred for each link that is to go; repositories are read one at a
// time, or as many as o.Jobs says.
func MakePlan(ctx context.Context, src Source, o Options) (*Plan, error) {
	o.Jobs = max(o.Jobs, 1)
	b := &builder{src: src, p: &Plan{o: o, index: &index{}, report: newReport(), meter: &meter{f: o.Progress}}}
	b.p.report.Older = o.Older
	b.marker = &marker{index: b.p.index, o: o, ages: ages{o.Now}}
	for _, step := range []func(context.Context){b.list, b.repositories, b.rubbish} {
		if step(ctx); ctx.Err() != nil {
			return nil, ctx.Err()
		}
	}
	b.finish()
	return b.p, nil
}

// Report tells what executing p would do.
func (p *Plan) Report() Report { return p.report.copied() }

// builder makes a plan.
type builder struct {
	src    Source
	p      *Plan
	marker *marker

	mu     sync.Mutex
	doubts []string
	unseen bool // There may be links that nobody saw.
	undo   time.Time
}

func (b *builder) list(ctx context.Context) {
	b.p.meter.begin(PhaseList, 0)
	for d, err := range b.src.Data(ctx) {
		if ctx.Err() != nil {
			return
		}
		if err != nil {
			b.doubt(fmt.Sprintf("data: %v", err))
			continue
		}
		b.p.index.add(d)
		b.p.meter.step()
	}
	b.p.index.seal()
	b.p.meter.end()
}

func (b *builder) repositories(ctx context.Context) {
	var names []string
	for name, err := range b.src.Repos(ctx) {
		if ctx.Err() != nil {
			return
		}
		if err != nil {
			b.miss(fmt.Sprintf("repositories: %v", err))
			continue
		}
		names = append(names, name)
	}
	slices.Sort(names)
	names = slices.Compact(names)
	b.p.meter.begin(PhaseMark, len(names))
	parallel(ctx, b.p.o.Jobs, len(names), func(i int) {
		b.repository(ctx, names[i])
		b.p.meter.step()
	})
	slices.SortFunc(b.p.repos, func(x, y *graph) int { return cmp.Compare(x.repo, y.repo) })
	slices.SortFunc(b.p.report.Frozen, func(x, y Frozen) int { return cmp.Compare(x.Repo, y.Repo) })
}

func (b *builder) repository(ctx context.Context, name string) {
	r, err := b.src.Repository(ctx, name)
	if err == nil && r == nil {
		err = errors.New("nothing is known of it")
	}
	if err != nil {
		b.miss(fmt.Sprintf("repository %s: %v", name, err))
		b.freeze(name, err.Error())
		return
	}
	if len(r.Doubts) > 0 {
		b.freeze(name, why(r.Doubts))
	}
	for _, d := range r.Doubts {
		if d.AnyData {
			b.miss(fmt.Sprintf("repository %s: %s", name, d))
		}
	}
	rest := b.marker.mark(r)
	at, where := newest(r)
	undo := b.marker.undoFrom(r)
	b.mu.Lock()
	defer b.mu.Unlock()
	b.noteNewest(at, where)
	if undo.After(b.undo) {
		b.undo = undo
	}
	if rest != nil && len(rest.levels) > 0 {
		rest.repo = name
		b.p.repos = append(b.p.repos, rest)
	}
}

func (b *builder) doubt(what string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.doubts = append(b.doubts, what)
}

// miss is a doubt about what repositories there are, or what they hold.
func (b *builder) miss(what string) {
	b.doubt(what)
	b.mu.Lock()
	defer b.mu.Unlock()
	b.unseen = true
}

func (b *builder) freeze(repo, why string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.p.report.Frozen = append(b.p.report.Frozen, Frozen{Repo: repo, Why: why})
}

// noteNewest takes the first in bytewise order of what is as new.
func (b *builder) noteNewest(at time.Time, where string) {
	r := &b.p.report
	if at.After(r.Newest) || at.Equal(r.Newest) && !at.IsZero() && where < r.NewestAt {
		r.Newest, r.NewestAt = at, where
	}
}

func (b *builder) rubbish(ctx context.Context) {
	frozen := map[string]bool{}
	for _, f := range b.p.report.Frozen {
		frozen[f.Repo] = true
	}
	for l, err := range b.src.Litter(ctx) {
		if ctx.Err() != nil {
			return
		}
		if err != nil {
			b.doubt(fmt.Sprintf("litter: %v", err))
			continue
		}
		limit := b.p.o.Older
		if l.Kind == KindUpload {
			b.noteNewest(l.Touched, l.Key)
			limit = b.p.o.Uploads
		}
		if l.Repo != "" && frozen[l.Repo] || b.marker.ages.young(nanos(l.Touched), limit) || litterOrder(l.Kind) < 0 {
			continue
		}
		b.p.litter = append(b.p.litter, l)
	}
	slices.SortStableFunc(b.p.litter, func(x, y Litter) int { return cmp.Compare(litterOrder(x.Kind), litterOrder(y.Kind)) })
}

// litterOrder is negative for what is no litter.
func litterOrder(k Kind) int {
	return slices.Index([]Kind{KindUpload, KindScratch, KindRemains, KindEmpty}, k)
}

// finish gives data its last ranks, and counts.
func (b *builder) finish() {
	r := &b.p.report
	slices.Sort(b.doubts)
	r.Doubts = append(r.Doubts, clip(b.doubts)...)
	if b.unseen {
		b.p.repos = nil // What nobody saw may share links, or need them to be put back.
	}
	for _, g := range b.p.repos {
		for _, level := range g.levels {
			for _, t := range level {
				r.removed(g.things[t].kind, 0)
			}
		}
	}
	for part := range parts {
		b.p.index.each(part, func(d datum) bool {
			if b.marker.ages.young(d.touched, b.p.o.Older) {
				d.raise(isYoung)
			}
			if len(b.doubts) > 0 {
				d.raise(inDoubt)
			}
			size, rank := d.load()
			r.Before = r.Before.plus(size)
			if rank == unneeded {
				r.removed(KindData, size)
			}
			r.kept(rank, size)
			return true
		})
	}
	for _, l := range b.p.litter {
		r.removed(l.Kind, max(l.Size, 0))
	}
	if r.Kept[KeptUndo].N > 0 {
		r.UndoUntil = b.undo.Add(b.p.o.Undo)
	}
}
