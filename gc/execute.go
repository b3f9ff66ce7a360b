package gc

import (
	"context"
	"errors"
	"sync"
	"time"
)

// Execute removes what is planned, and reports what it did. A plan is
// executed once.
//
// In each repository manifests go from the top down, then links of blobs; then
// data goes, then litter. What is busy stays with all it leads to, and so does
// what could not be removed, which is listed. The only error is that of ctx,
// with a report of what was done until then; what is left can be collected by
// another run.
func (p *Plan) Execute(ctx context.Context, s Sweeper) (Report, error) {
	r := &run{p: p, s: s, slots: make(chan struct{}, p.o.Jobs), report: p.report.copied()}
	r.report.Removed, r.report.Kept = map[Kind]Count{}, map[Reason]Count{}
	total := 0
	for _, n := range p.report.Removed {
		total += n.N
	}
	p.meter.begin(PhaseSweep, total)
	parallel(ctx, p.o.Jobs, len(p.repos), func(i int) { r.repository(ctx, p.repos[i]) })
	parallel(ctx, p.o.Jobs, parts, func(i int) { r.data(ctx, i) })
	r.litter(ctx)
	p.meter.end()
	r.count()
	return r.report, ctx.Err()
}

// run is the execution of a plan.
type run struct {
	p     *Plan
	s     Sweeper
	slots chan struct{} // One for each removal at a time.

	mu     sync.Mutex
	report Report
}

// remove removes i, and tells whether it went or was gone.
func (r *run) remove(ctx context.Context, i Item) bool {
	r.slots <- struct{}{}
	defer func() { <-r.slots }()
	if ctx.Err() != nil {
		return false
	}
	err := r.s.Remove(ctx, i)
	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case err == nil:
		r.report.removed(i.Kind, i.Size)
	case errors.Is(err, ErrGone):
		r.report.removed(i.Kind, 0)
	case errors.Is(err, ErrBusy), ctx.Err() != nil:
		return false
	default:
		r.report.failed(Failure{Kind: i.Kind, Repo: i.Repo, Digest: i.Digest, Key: i.Key, Why: err.Error()})
		return false
	}
	return true
}

func (r *run) repository(ctx context.Context, g *graph) {
	var mu sync.Mutex
	for _, level := range g.levels {
		parallel(ctx, r.p.o.Jobs, len(level), func(i int) {
			r.link(ctx, g, level[i], &mu)
			r.p.meter.step()
		})
	}
}

// link removes a link, or keeps it with all it leads to.
func (r *run) link(ctx context.Context, g *graph, id int32, mu *sync.Mutex) {
	mu.Lock()
	t := g.things[id]
	mu.Unlock()
	if t.kept {
		return
	}
	i := Item{Kind: t.kind, Repo: g.repo, Digest: g.names[t.digest].digest, Seen: time.Unix(0, t.touched)}
	if r.remove(ctx, i) {
		return
	}
	mu.Lock()
	defer mu.Unlock()
	g.keep(id, inUse)
	g.follow(inUse)
}

// data removes a part of the data that is still not needed.
func (r *run) data(ctx context.Context, part int) {
	r.p.index.each(part, func(d datum) bool {
		size, rank := d.load()
		switch rank {
		case unneeded:
			i := Item{Kind: KindData, Digest: d.digest(), Size: size, Seen: time.Unix(0, d.touched)}
			if !r.remove(ctx, i) && ctx.Err() == nil {
				d.raise(inUse)
			}
			r.p.meter.step()
		case inUse:
			r.p.meter.step()
		}
		return ctx.Err() == nil
	})
}

func (r *run) litter(ctx context.Context) {
	all := r.p.litter
	for len(all) > 0 {
		n := 1
		for n < len(all) && all[n].Kind == all[0].Kind {
			n++
		}
		parallel(ctx, r.p.o.Jobs, n, func(i int) {
			l := all[i]
			r.remove(ctx, Item{Kind: l.Kind, Repo: l.Repo, Key: l.Key, Size: max(l.Size, 0), Seen: l.Touched})
			r.p.meter.step()
		})
		all = all[n:]
	}
}

// count counts why data stays, which may have changed.
func (r *run) count() {
	for part := range parts {
		r.p.index.each(part, func(d datum) bool {
			size, rank := d.load()
			r.report.kept(rank, size)
			return true
		})
	}
}
