package transfer

import (
	"context"
	"errors"
	"slices"

	"github.com/regctl/regctl/client/oci"
)

type nodeKey struct {
	repo   string // Of the destination.
	digest oci.Digest
}

// node is a manifest on its way to a repository. Its fields are complete once
// the walk has ended.
type node struct {
	src, dst   string // Repositories.
	desc       oci.Descriptor
	raw        []byte // Nil if it was there and nobody had to look.
	there      bool
	children   []*node
	blobs      []*blobNode
	referrers  []*node
	companions []companion
	platforms  int
	err        error
}

// companion is a manifest that a tag made of a digest ties to another.
type companion struct {
	tag  string
	node *node
	move bool // The tag is not there yet.
}

// blobNode is a blob on its way to a repository.
type blobNode struct {
	src, dst string
	desc     oci.Descriptor
}

// nodeOf is how a walk begins.
type nodeOf struct {
	src, dst string
	desc     oci.Descriptor
	raw      []byte // If known.
	there    bool   // If known.
	sparse   bool   // It may be missing at the source for a reason to be told.
}

// walk returns the node of a manifest, and sees to it that it and all below it
// are looked at, once, at the same time as others.
func (p *planner) walk(ctx context.Context, begin nodeOf) *node {
	p.mu.Lock()
	defer p.mu.Unlock()
	key := nodeKey{begin.dst, begin.desc.Digest}
	if n := p.nodes[key]; n != nil {
		return n
	}
	n := &node{src: begin.src, dst: begin.dst, desc: begin.desc, raw: begin.raw, there: begin.there}
	p.nodes[key] = n
	p.walks.Go(func() {
		if n.err = p.look(ctx, n); begin.sparse {
			n.err = sparse(n.err)
		}
	})
	return n
}

// sparse explains an index that cannot be copied whole.
func sparse(err error) error {
	var at *Error
	if errors.As(err, &at) && at.Side == Source && isMissing(at.Err) {
		missing := oci.Errorf(oci.ManifestUnknown, "an index names it, but it is not there; choose platforms that are")
		return failed(Source, at.Op, at.Repo, at.Ref, missing)
	}
	return err
}

// look finds out what a manifest needs.
func (p *planner) look(ctx context.Context, n *node) error {
	if !n.there && !p.o.Force && p.dst != nil {
		var err error
		if n.there, err = p.view(Destination, n.dst).has(ctx, n.desc.Digest); err != nil {
			return failed(Destination, "find manifest", n.dst, string(n.desc.Digest), err)
		}
	}
	if n.there && p.o.Referrers != ReferrersAlways {
		return nil
	}
	if err := p.read(ctx, n); err != nil {
		return err
	}
	g, err := oci.ParseManifest("", n.raw)
	if err != nil {
		return failed(Source, "read manifest", n.src, string(n.desc.Digest), err)
	}
	n.desc.MediaType = g.MediaType
	if err := p.below(ctx, n, g); err != nil {
		return err
	}
	if p.o.Referrers == ReferrersNever {
		return nil
	}
	return p.tied(ctx, n)
}

// read gets the bytes of a manifest: from the destination if they are there,
// since some sources count what is read.
func (p *planner) read(ctx context.Context, n *node) error {
	if n.raw != nil {
		return nil
	}
	reg, side, repo := p.src, Source, n.src
	if n.there {
		reg, side, repo = p.dst, Destination, n.dst
	}
	m, err := p.manifest(ctx, reg, side, repo, string(n.desc.Digest))
	n.raw, n.desc.Size = m.Raw, int64(len(m.Raw))
	return err
}

// manifest reads one, and verifies it if it is named by digest.
func (p *planner) manifest(ctx context.Context, reg *counted, side Side, repo, ref string) (oci.Manifest, error) {
	free, err := p.slot(ctx)
	if err != nil {
		return oci.Manifest{}, err
	}
	defer free()
	return readManifest(ctx, reg, side, repo, ref)
}

func readManifest(ctx context.Context, reg *counted, side Side, repo, ref string) (oci.Manifest, error) {
	m, err := reg.call().Manifest(ctx, repo, ref)
	if err != nil {
		return m, failed(side, "read manifest", repo, ref, err)
	}
	if oci.IsDigest(ref) {
		d := oci.Digest(ref)
		if got := d.Algorithm().FromBytes(m.Raw); got != d {
			return m, failed(side, "read manifest", repo, ref, oci.Errorf(oci.DigestInvalid, "it has digest %s", got))
		}
	}
	return m, nil
}

// below walks what a manifest names. What an index names and is no manifest
// is a blob, as in the caches of buildkit.
func (p *planner) below(ctx context.Context, n *node, g *oci.Graph) error {
	n.platforms = 1
	if g.IsIndex() {
		n.platforms = 0
	}
	if p.dst != nil && !n.there && len(g.Manifests) > 1 {
		// One request that may spare one for each of them.
		if err := p.view(Destination, n.dst).list(ctx, false, 1); err != nil && isEnded(err) {
			return err
		}
	}
	blobs := g.Blobs()
	for _, d := range g.Manifests {
		if d.MediaType != "" && !slices.Contains(oci.ManifestTypes(), d.MediaType) {
			blobs = append(blobs, d)
			continue
		}
		if runs(d) {
			n.platforms++
		}
		n.children = append(n.children, p.walk(ctx, nodeOf{src: n.src, dst: n.dst, desc: d, there: n.there, sparse: true}))
	}
	if n.there {
		return nil
	}
	for _, d := range blobs {
		n.blobs = append(n.blobs, p.blob(n, d))
	}
	return nil
}

// blob returns the node of a blob.
func (p *planner) blob(n *node, d oci.Descriptor) *blobNode {
	p.mu.Lock()
	defer p.mu.Unlock()
	key := nodeKey{n.dst, d.Digest}
	b := p.blobs[key]
	if b == nil {
		b = &blobNode{src: n.src, dst: n.dst, desc: d}
		p.blobs[key] = b
	}
	return b
}

// tied walks what refers to a manifest.
func (p *planner) tied(ctx context.Context, n *node) error {
	view := p.view(Source, n.src)
	tags, err := view.companions(ctx, n.desc.Digest)
	if err != nil {
		return failed(Source, "find signatures (--referrers never leaves them)", n.src, string(n.desc.Digest), err)
	}
	slices.Sort(tags)
	for _, tag := range tags {
		if err := p.companion(ctx, n, view, tag); err != nil {
			return err
		}
	}
	if !view.hasReferrers(n.desc.Digest) {
		return nil
	}
	referrers, err := p.referrers(ctx, n)
	if err != nil {
		return failed(Source, "list referrers (--referrers never leaves them)", n.src, string(n.desc.Digest), err)
	}
	for _, d := range referrers {
		n.referrers = append(n.referrers, p.walk(ctx, nodeOf{src: n.src, dst: n.dst, desc: d}))
	}
	return nil
}

func (p *planner) referrers(ctx context.Context, n *node) ([]oci.Descriptor, error) {
	free, err := p.slot(ctx)
	if err != nil {
		return nil, err
	}
	defer free()
	var all []oci.Descriptor
	for d, err := range p.src.call().Referrers(ctx, n.src, n.desc.Digest, "") {
		switch {
		case errors.Is(err, oci.Unsupported), isMissing(err):
			return all, nil
		case err != nil:
			return nil, err
		}
		all = append(all, d)
	}
	return all, nil
}

func (p *planner) companion(ctx context.Context, n *node, view *view, tag string) error {
	d, err := view.resolve(ctx, tag)
	if isMissing(err) {
		return nil // Gone since it was listed.
	}
	if err != nil {
		return failed(Source, "find signature", n.src, tag, err)
	}
	c := companion{tag: tag, move: true}
	if p.dst != nil {
		have, err := p.view(Destination, n.dst).resolve(ctx, tag)
		switch {
		case err != nil && !isMissing(err):
			return failed(Destination, "find signature", n.dst, tag, err)
		case err == nil && have.Digest == d.Digest:
			c.move = false
		case err == nil && p.o.NoOverwrite:
			return failed(Destination, "tag", n.dst, tag, oci.Errorf(oci.TagExists, "it points to %s", have.Digest))
		}
	}
	c.node = p.walk(ctx, nodeOf{src: n.src, dst: n.dst, desc: d, there: !c.move})
	n.companions = append(n.companions, c)
	return nil
}
