package gc

import (
	"strings"

	"github.com/regctl/regctl/client/oci"
)

// graph is what a repository holds, or of it what is to go. It has two sorts
// of nodes: things, which are links of manifests and of blobs, and names,
// which are digests.
//
// A thing leads to its own digest, to that of its bytes, and to all that a
// manifest names. A name leads to all things that are known by it, by digest
// or by content, and to the manifests whose subject it is. So what is named is
// kept whatever it is called, and each node is visited once: the work is
// linear in what the repository holds, however deep it is nested.
type graph struct {
	repo   string
	things []thing
	names  []name
	edges  []int32 // Names that things name, those of one thing together.
	known  []int32 // Lists of things by name: 2*thing by digest, 2*thing+1 by content. none ends one.
	levels [][]int32
	steps  int // How often one node led to another: what tests hold against what there is.

	ids   map[oci.Digest]int32 // Only while it is built.
	queue []int32              // Of names that were reached and not followed.
}

// none is no node.
const none int32 = -1

type name struct {
	digest    oci.Digest // In what is to go only of things.
	data      *state     // Nil if there is none.
	known     int32      // The first in the list of things known by it.
	referrers int32      // The first thing of which it is the subject.
	reached   bool
}

type thing struct {
	kind            Kind // KindManifest, KindBlob, kindUnlinked; "" for a tomb.
	digest, content int32
	subject         int32
	nextReferrer    int32
	first, last     int32 // Of edges.
	touched         int64
	kept, followed  bool
}

// kindUnlinked is a manifest without a link: it leads to what it names as any
// other, but there is nothing of it to go.
const kindUnlinked Kind = "unlinked"

func newGraph(repo string, things int) *graph {
	return &graph{repo: repo, ids: make(map[oci.Digest]int32, things), things: make([]thing, 0, things)}
}

// name returns the node of d, none for "".
func (g *graph) name(d oci.Digest, x *index) int32 {
	if d == "" {
		return none
	}
	id, ok := g.ids[d]
	if !ok {
		id = int32(len(g.names))
		g.ids[d] = id
		g.names = append(g.names, name{digest: d, data: x.find(d), known: none, referrers: none})
	}
	return id
}

// manifest adds one. A tomb is not found by its name: it leads to others only.
func (g *graph) manifest(m Manifest, kind Kind, x *index) {
	t := thing{
		kind: kind, digest: g.name(m.Digest, x), content: g.name(m.Content, x), subject: none,
		nextReferrer: none, touched: nanos(m.Touched), first: int32(len(g.edges)), kept: kind == kindUnlinked,
	}
	if subject := g.name(m.Subject, x); kind != "" {
		t.subject = subject
	}
	for _, d := range m.Names {
		if id := g.name(d, x); id != none {
			g.edges = append(g.edges, id)
		}
	}
	t.last = int32(len(g.edges))
	g.add(t)
}

func (g *graph) blob(m Membership, x *index) {
	g.add(thing{
		kind: KindBlob, digest: g.name(m.Digest, x), content: g.name(m.Content, x), subject: none,
		nextReferrer: none, touched: nanos(m.Touched),
	})
}

func (g *graph) add(t thing) {
	id := int32(len(g.things))
	g.known = append(g.known, none, none)
	if t.kind != "" {
		for side, n := range [2]int32{t.digest, t.content} {
			if n != none && (side == 0 || n != t.digest) {
				g.known[2*id+int32(side)] = g.names[n].known
				g.names[n].known = 2*id + int32(side)
			}
		}
	}
	if t.subject != none {
		t.nextReferrer = g.names[t.subject].referrers
		g.names[t.subject].referrers = id
	}
	g.things = append(g.things, t)
}

// knownBy calls f with every thing that is known by n.
func (g *graph) knownBy(n int32, f func(thing int32)) {
	for e := g.names[n].known; e != none; e = g.known[e] {
		g.steps++
		f(e / 2)
	}
}

// referring calls f with every manifest whose subject is n.
func (g *graph) referring(n int32, f func(thing int32)) {
	for t := g.names[n].referrers; t != none; t = g.things[t].nextReferrer {
		g.steps++
		f(t)
	}
}

// hold keeps a thing and its data, but not what else it leads to.
func (g *graph) hold(id int32, why rank) {
	t := &g.things[id]
	t.kept = true
	for _, n := range [2]int32{t.digest, t.content} {
		if n != none {
			g.names[n].data.raise(why)
		}
	}
}

// left tells whether t is a link that nothing leads to.
func (t *thing) left() bool { return !t.followed && t.kind != "" }

// isManifest tells whether t is one, with a link or without.
func (t *thing) isManifest() bool { return t.kind == KindManifest || t.kind == kindUnlinked }

// keep keeps a thing and, with follow, all it leads to.
func (g *graph) keep(id int32, why rank) {
	t := &g.things[id]
	t.kept = true
	if t.followed {
		return
	}
	t.followed = true
	g.steps += int(t.last - t.first)
	g.reach(t.digest, why)
	g.reach(t.content, why)
	for _, n := range g.edges[t.first:t.last] {
		g.reach(n, why)
	}
}

// reach keeps the data of a name and, with follow, all it leads to.
func (g *graph) reach(n int32, why rank) {
	if n == none || g.names[n].reached {
		return
	}
	g.names[n].reached = true
	g.names[n].data.raise(why)
	g.queue = append(g.queue, n)
}

// follow keeps all that what was reached leads to.
func (g *graph) follow(why rank) {
	keep := func(t int32) { g.keep(t, why) }
	for len(g.queue) > 0 {
		n := g.queue[len(g.queue)-1]
		g.queue = g.queue[:len(g.queue)-1]
		g.knownBy(n, keep)
		g.referring(n, keep)
	}
}

// rest returns the graph of what was not followed: what of it may go, nil if
// nothing does, and for each thing what stays with it if it cannot go. It has
// its levels: what is in one goes before the next begins.
func (g *graph) rest() *graph {
	n, goes := 0, false
	for i := range g.things {
		if g.things[i].left() {
			n++
			goes = goes || !g.things[i].kept
		}
	}
	if !goes {
		return nil
	}
	r := &graph{repo: g.repo, steps: g.steps, things: make([]thing, 0, n), known: make([]int32, 0, 2*n)}
	ids := make([]int32, len(g.names)) // In r, one more than it is.
	move := func(old int32) int32 {
		if old == none || g.names[old].reached {
			return none
		}
		if ids[old] == 0 {
			r.names = append(r.names, name{data: g.names[old].data, known: none, referrers: none})
			ids[old] = int32(len(r.names))
		}
		return ids[old] - 1
	}
	for i := range g.things {
		t := g.things[i]
		if !t.left() {
			continue
		}
		first := int32(len(r.edges))
		for _, e := range g.edges[t.first:t.last] {
			if e = move(e); e != none {
				r.edges = append(r.edges, e)
			}
		}
		r.add(thing{
			kind: t.kind, kept: t.kept, touched: t.touched, digest: move(t.digest), content: move(t.content), subject: move(t.subject),
			nextReferrer: none, first: first, last: int32(len(r.edges)),
		})
		// A digest may be a part of a whole manifest, which need not stay.
		if own := r.things[len(r.things)-1].digest; own != none {
			r.names[own].digest = oci.Digest(strings.Clone(string(g.names[t.digest].digest)))
		}
	}
	r.order()
	return r
}
