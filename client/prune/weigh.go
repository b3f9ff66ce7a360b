package prune

import (
	"context"
	"maps"
	"slices"

	"github.com/regctl/regctl/client/oci"
	"github.com/regctl/regctl/gc"
)

// sort puts what goes in an order in which each comes after all that hold it.
// What holds itself, by way of tags, stays.
func (b *builder) sort() {
	b.holds = map[oci.Digest][]oci.Digest{}
	waits := map[oci.Digest]int{}
	held := map[oci.Digest][]oci.Digest{}
	var ready []oci.Digest
	goes := slices.DeleteFunc(slices.Sorted(maps.Keys(b.may)), func(d oci.Digest) bool { return !b.goes(d) })
	for _, d := range goes {
		held[d] = b.heldBy(d)
		for _, below := range held[d] {
			waits[below]++
			b.holds[below] = append(b.holds[below], d)
		}
	}
	for _, d := range goes {
		if waits[d] == 0 {
			ready = append(ready, d)
		}
	}
	for len(ready) > 0 {
		d := ready[0]
		ready = ready[1:]
		b.sorted = append(b.sorted, d)
		for _, below := range held[d] {
			if waits[below]--; waits[below] == 0 {
				ready = append(ready, below)
			}
		}
	}
	for _, d := range goes {
		b.stays[d] = waits[d] > 0
	}
}

func (b *builder) goes(d oci.Digest) bool { return b.may[d] && !b.stays[d] && !b.nodes[d].missing }

// heldBy returns what goes only after d, each once.
func (b *builder) heldBy(d oci.Digest) []oci.Digest {
	below := append(b.below(b.nodes[d]), b.bySubject[d]...)
	below = append(below, b.tagged(b.followers[d]...)...)
	slices.Sort(below)
	return slices.DeleteFunc(slices.Compact(below), func(c oci.Digest) bool { return c == d || !b.goes(c) })
}

func (b *builder) manifests() []Manifest {
	list := make([]Manifest, 0, len(b.sorted))
	for _, d := range b.sorted {
		tags := slices.Sorted(slices.Values(b.tagsOf[d]))
		list = append(list, Manifest{Descriptor: b.nodes[d].desc, Tags: tags, Holders: b.holds[d]})
	}
	return list
}

// tags tells what becomes of every tag.
func (b *builder) tags() []Tag {
	details := map[string]oci.TagDetail{}
	for _, d := range b.details {
		details[d.Tag] = d
	}
	tags := make([]Tag, 0, len(b.decisions))
	for _, decision := range b.decisions {
		subject, _ := gc.SubjectOf(decision.Tag)
		if b.follows(decision.Tag) && b.may[subject] && !b.stays[subject] {
			decision.Delete, decision.Reason = true, SubjectGoes
			if b.nodes[subject].missing {
				decision.Reason = SubjectGone
			}
		}
		d := details[decision.Tag]
		tags = append(tags, Tag{Decision: decision, MediaType: d.Manifest.MediaType, Size: d.Size, Platforms: d.Platforms})
	}
	return tags
}

// weigh tells how many bytes nothing names any more. Few images that stay are
// read for it; of many, only those that the cache has.
func (b *builder) weigh(ctx context.Context, p *Plan) error {
	if len(p.Manifests) == 0 {
		return nil
	}
	seen, exact, err := b.blobsOfRest(ctx)
	if err != nil {
		return err
	}
	p.Exact = exact
	for i := range p.Manifests {
		m := &p.Manifests[i]
		m.Bytes = m.Size
		for _, blob := range b.nodes[m.Digest].blobs {
			if !seen[blob.Digest] {
				seen[blob.Digest] = true
				m.Bytes += blob.Size
			}
		}
		p.Bytes += m.Bytes
	}
	return nil
}

// blobsOfRest returns the blobs of what stays, and whether these are all.
func (b *builder) blobsOfRest(ctx context.Context) (map[oci.Digest]bool, bool, error) {
	rest := slices.Sorted(maps.Keys(b.stays))
	rest = slices.DeleteFunc(rest, func(d oci.Digest) bool { return !b.stays[d] || b.goes(d) })
	seen, exact := map[oci.Digest]bool{}, true
	if len(rest) <= exactUpTo {
		if _, err := b.readAll(ctx, rest); err != nil {
			return nil, false, err
		}
	}
	for _, d := range rest {
		n := b.nodes[d]
		if n == nil {
			n = b.cached(d)
		}
		if n == nil {
			exact = false
			continue
		}
		for _, blob := range n.blobs {
			seen[blob.Digest] = true
		}
	}
	return seen, exact, nil
}

func (b *builder) cached(d oci.Digest) *node {
	if b.cache == nil {
		return nil
	}
	raw, ok := b.cache.Get(d)
	if !ok || d.Algorithm().FromBytes(raw) != d {
		return nil
	}
	return newNode(oci.Manifest{Descriptor: oci.Descriptor{Digest: d}, Raw: raw})
}
