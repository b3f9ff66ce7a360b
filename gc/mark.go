package gc

import (
	"sync/atomic"
	"time"
)

// marker decides about one repository after the other; it is safe for
// concurrent use.
type marker struct {
	index *index
	o     Options
	ages  ages
	steps atomic.Int64 // See graph.
}

// mark raises the ranks of all data that r needs, and returns what of it may
// go, nil if nothing does.
//
// The strongest reason goes first, so that each node is reached once, and for
// that.
func (m *marker) mark(r *Repository) *graph {
	g := m.graph(r)
	for _, p := range r.Tags {
		g.reach(g.name(p.Digest, m.index), living)
	}
	g.follow(living)
	m.roots(g, isYoung, func(t *thing) bool { return t.kind == KindManifest && m.ages.young(t.touched, m.o.Older) })
	for i := range g.things {
		t := &g.things[i]
		// Nobody could say what is to go that has no digest.
		if t.kind == KindBlob && m.ages.young(t.touched, m.o.Older) || t.kind != "" && t.digest == none {
			g.hold(int32(i), isYoung)
		}
	}
	if !m.o.Untagged {
		m.roots(g, inUntagged, func(t *thing) bool { return t.kind == KindManifest })
	}
	m.roots(g, inUndo, func(t *thing) bool { return t.kind == "" && m.ages.young(t.touched, m.o.Undo) })
	if len(r.Doubts) > 0 {
		m.freeze(g, r)
		return nil
	}
	g.ids = nil
	rest := g.rest()
	if rest != nil {
		g = rest
	}
	m.steps.Add(int64(g.steps))
	return rest
}

func (m *marker) roots(g *graph, why rank, is func(*thing) bool) {
	for i := range g.things {
		if is(&g.things[i]) {
			g.keep(int32(i), why)
		}
	}
	g.follow(why)
}

// freeze keeps all that r has, and all it may name.
func (m *marker) freeze(g *graph, r *Repository) {
	for _, d := range r.Doubts {
		for _, digest := range d.Digests {
			g.name(digest, m.index)
		}
	}
	for i := range g.names {
		g.names[i].data.raise(inFrozen)
	}
}

func (m *marker) graph(r *Repository) *graph {
	g := newGraph(r.Name, len(r.Manifests)+len(r.Unlinked)+len(r.Tombs)+len(r.Blobs))
	for _, f := range r.Manifests {
		g.manifest(f, KindManifest, m.index)
	}
	for _, f := range r.Unlinked {
		g.manifest(f, kindUnlinked, m.index)
	}
	for _, f := range r.Tombs {
		// What cannot be brought back any more names nothing; but in doubt
		// all counts.
		if len(r.Doubts) > 0 || m.ages.young(nanos(f.Touched), m.o.Undo) {
			g.manifest(f, "", m.index)
		}
	}
	for _, b := range r.Blobs {
		g.blob(b, m.index)
	}
	return g
}

// newest returns when the latest link of r was changed, and which it is.
func newest(r *Repository) (at time.Time, where string) {
	for _, f := range r.Manifests {
		if f.Touched.After(at) {
			at, where = f.Touched, r.Name+"@"+string(f.Digest)
		}
	}
	for _, b := range r.Blobs {
		if b.Touched.After(at) {
			at, where = b.Touched, r.Name+"@"+string(b.Digest)
		}
	}
	return at, where
}

// undoFrom returns when the latest was deleted that can be brought back.
func (m *marker) undoFrom(r *Repository) (at time.Time) {
	for _, f := range r.Tombs {
		if f.Touched.After(at) && m.ages.young(nanos(f.Touched), m.o.Undo) {
			at = f.Touched
		}
	}
	return at
}
