package gc

import (
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/regctl/regctl/client/oci"
)

// naive decides what is to go, and why the rest stays, by the rules word by
// word: with strings and maps, over and over until nothing changes any more.
type naive struct {
	s *shop
	o Options

	goes  map[string]bool       // See keyOf.
	stays map[oci.Digest]string // Why data stays; "" if a tag leads to it.
	doubt bool

	unreadable []string // Repositories.
}

// strength is the order in which reasons count.
func strength() []string {
	return []string{"", "young", "untagged", "undo", "frozen", "busy", "doubt"}
}

func decide(s *shop, o Options, unreadable ...string) *naive {
	n := &naive{s: s, o: o, goes: map[string]bool{}, stays: map[oci.Digest]string{}, unreadable: unreadable}
	for name, r := range s.repos {
		if slices.Contains(unreadable, name) {
			n.doubt = true
			continue
		}
		n.repository(r)
	}
	if n.doubt {
		clear(n.goes)
	}
	return n
}

func (n *naive) young(t time.Time, limit time.Duration) bool {
	return t.After(n.o.Now) || t.After(n.o.Now.Add(-limit))
}

func (n *naive) stay(d oci.Digest, why string) {
	old, ok := n.stays[d]
	if !ok || slices.Index(strength(), why) < slices.Index(strength(), old) {
		n.stays[d] = why
	}
}

func (n *naive) repository(r *Repository) {
	alive := map[oci.Digest]bool{}
	lives := func(d oci.Digest, why string) bool {
		if d == "" || alive[d] {
			return false
		}
		alive[d] = true
		n.stay(d, why)
		return true
	}
	grow := func(why string) {
		for changed := true; changed; {
			changed = false
			for _, m := range slices.Concat(r.Manifests, r.Unlinked) {
				if alive[m.Digest] || alive[m.Content] || alive[m.Subject] {
					for _, d := range append([]oci.Digest{m.Digest, m.Content}, m.Names...) {
						changed = lives(d, why) || changed
					}
				}
			}
			for _, b := range r.Blobs {
				if alive[b.Digest] || alive[b.Content] {
					changed = lives(b.Digest, why) || changed
					changed = lives(b.Content, why) || changed
				}
			}
		}
	}
	for _, t := range r.Tags {
		lives(t.Digest, "")
	}
	grow("")
	for _, m := range r.Manifests {
		if n.young(m.Touched, n.o.Older) {
			lives(m.Digest, "young")
		}
	}
	grow("young")
	for _, b := range r.Blobs {
		if n.young(b.Touched, n.o.Older) {
			n.stay(b.Digest, "young")
			n.stay(b.Content, "young")
		}
	}
	if !n.o.Untagged {
		for _, m := range r.Manifests {
			lives(m.Digest, "untagged")
		}
		grow("untagged")
	}
	for _, m := range r.Tombs {
		if n.young(m.Touched, n.o.Undo) {
			for _, d := range append([]oci.Digest{m.Digest, m.Content}, m.Names...) {
				lives(d, "undo")
			}
		}
	}
	grow("undo")
	if len(r.Doubts) > 0 {
		n.freeze(r)
		return
	}
	for _, m := range inCircles(r, alive) {
		if slices.ContainsFunc(r.Manifests, func(linked Manifest) bool { return linked.Digest == m.Digest }) {
			lives(m.Digest, "doubt")
		}
	}
	grow("doubt")
	for _, m := range r.Manifests {
		if !alive[m.Digest] {
			n.goes[keyOf(Item{Kind: KindManifest, Repo: r.Name, Digest: m.Digest})] = true
		}
	}
	for _, b := range r.Blobs {
		if !alive[b.Digest] && !n.young(b.Touched, n.o.Older) {
			n.goes[keyOf(Item{Kind: KindBlob, Repo: r.Name, Digest: b.Digest})] = true
		}
	}
}

func (n *naive) freeze(r *Repository) {
	for _, d := range r.Doubts {
		n.doubt = n.doubt || d.AnyData
		for _, d := range d.Digests {
			n.stay(d, "frozen")
		}
	}
	for _, t := range r.Tags {
		n.stay(t.Digest, "frozen")
	}
	for _, m := range slices.Concat(r.Manifests, r.Unlinked, r.Tombs) {
		for _, d := range append([]oci.Digest{m.Digest, m.Content, m.Subject}, m.Names...) {
			n.stay(d, "frozen")
		}
	}
	for _, b := range r.Blobs {
		n.stay(b.Digest, "frozen")
		n.stay(b.Content, "frozen")
	}
}

// inCircles returns what of the dead can never go: something else has to go
// before it for which that is true as well.
func inCircles(r *Repository, alive map[oci.Digest]bool) []Manifest {
	var left []Manifest
	for _, m := range slices.Concat(r.Manifests, r.Unlinked) {
		if !alive[m.Digest] {
			left = append(left, m)
		}
	}
	before := func(p, m Manifest) bool {
		return slices.Contains(p.Names, m.Digest) || slices.Contains(p.Names, m.Content) ||
			m.Subject != "" && (m.Subject == p.Digest || m.Subject == p.Content || slices.Contains(p.Names, m.Subject))
	}
	for {
		i := slices.IndexFunc(left, func(m Manifest) bool {
			return !slices.ContainsFunc(left, func(p Manifest) bool { return before(p, m) })
		})
		if i < 0 {
			return left
		}
		left = slices.Delete(left, i, i+1)
	}
}

// items returns all that goes.
func (n *naive) items() string {
	var items []Item
	for _, d := range n.s.data {
		if n.why(d) == "goes" {
			items = append(items, Item{Kind: KindData, Digest: d.Digest})
		}
	}
	for _, l := range n.s.litter {
		limit := n.o.Older
		if l.Kind == KindUpload {
			limit = n.o.Uploads
		}
		r := n.s.repos[l.Repo]
		if !n.young(l.Touched, limit) && (r == nil || len(r.Doubts) == 0 && !slices.Contains(n.unreadable, l.Repo)) {
			items = append(items, Item{Kind: l.Kind, Repo: l.Repo, Key: l.Key})
		}
	}
	keys := slices.Collect(maps.Keys(n.goes))
	for _, i := range items {
		keys = append(keys, keyOf(i))
	}
	slices.Sort(keys)
	return strings.Join(keys, "\n")
}

// why returns why data stays, or "goes".
func (n *naive) why(d Datum) string {
	why, ok := n.stays[d.Digest]
	switch {
	case ok && why == "":
		return ""
	case n.young(d.Touched, n.o.Older):
		return "young"
	case ok:
		return why
	case n.doubt:
		return "doubt"
	}
	return "goes"
}

func (n *naive) kept() map[Reason]Count {
	kept := map[Reason]Count{}
	for _, d := range n.s.data {
		if why := n.why(d); why != "" && why != "goes" {
			c := kept[Reason(why)]
			kept[Reason(why)] = Count{N: c.N + 1, Bytes: c.Bytes + d.Size}
		}
	}
	return kept
}
