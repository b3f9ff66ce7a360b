package transfer

import (
	"cmp"
	"context"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/regctl/regctl/client/oci"
)

// State is what a plan has found about an image.
type State string

// The states.
const (
	Copy   State = "copy"   // Something of it has to be sent.
	Retag  State = "tag"    // It is there, but a tag has to move.
	There  State = "there"  // Nothing is to be done.
	Failed State = "failed" // It cannot be copied; Err says why.
)

// Image is one image of a plan.
type Image struct {
	SrcRepo, SrcRef string
	DstRepo         string
	Tags            []string       // As asked for.
	Manifest        oci.Descriptor // What the destination gets.
	Whole           oci.Digest     // Of the source, if another: a choice of its platforms was made.
	Platforms       int            // How many images for platforms it holds. 0: not looked at.
	State           State
	Err             error

	move []string // Tags that point elsewhere.
	root *node
}

// Blob is a blob that goes to a repository.
type Blob struct {
	Descriptor       oci.Descriptor
	SrcRepo, DstRepo string
}

// Manifest is a manifest that goes to a repository.
type Manifest struct {
	Descriptor       oci.Descriptor
	Raw              []byte
	SrcRepo, DstRepo string
}

// Tag is a tag that moves.
type Tag struct {
	DstRepo, Tag string
	Manifest     oci.Descriptor
}

// Plan is what a copy will do. It holds the manifests that it sends, and of
// blobs their digests.
type Plan struct {
	Images []Image
	// Blobs go first, the largest first. The destination may have some of
	// them: it says so when they come.
	Blobs []Blob
	// Manifests come children before parents and subjects before what refers
	// to them.
	Manifests []Manifest
	// Tags move last, each when its image is whole.
	Tags []Tag
	// Bytes is the sum of all blobs: the most that will move.
	Bytes int64

	dst, src *counted
	same     bool
	o        Options
	writes   map[string]bool // Repositories that are written to: true, if they are new.
	blobs    []*blobNode
	nodes    []*node
	marks    []mark
}

// Calls is the number of calls of the two registries so far: of requests, if
// they are remote, but for greetings and logins.
func (p *Plan) Calls() int64 {
	if p.dst == nil {
		return p.src.n.Load()
	}
	return p.src.n.Load() + p.dst.n.Load()
}

// Err returns the error of the only image of a plan, or of the first that
// failed; nil if none did.
func (p *Plan) Err() error {
	for i := range p.Images {
		if p.Images[i].Err != nil {
			return p.Images[i].Err
		}
	}
	return nil
}

// MakePlan finds out what copying items from src to dst takes. It changes
// nothing. A nil dst has nothing yet, and the plan cannot be executed.
//
// An image that cannot be copied has the state Failed and an [*Error] in the
// plan. The error of MakePlan is that of an ended context, or of a repository
// whose tags cannot be listed.
func MakePlan(ctx context.Context, dst, src oci.Registry, items []Item, o Options) (*Plan, error) {
	p := &planner{
		src: count(src), o: o, same: same(dst, src),
		slots: make(chan struct{}, o.jobs()),
		views: map[viewKey]*view{}, nodes: map[nodeKey]*node{}, blobs: map[nodeKey]*blobNode{},
	}
	if dst != nil {
		p.dst = count(dst)
	}
	images, err := p.images(ctx, items)
	if err != nil {
		return nil, err
	}
	p.each(len(images), func(i int) {
		if err := p.image(ctx, &images[i]); err != nil {
			images[i].State, images[i].Err = Failed, err
		}
	})
	p.walks.Wait()
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	return p.plan(images), nil
}

// planner is one run of MakePlan.
type planner struct {
	dst, src *counted // A nil dst has nothing.
	same     bool     // They are one registry.
	o        Options
	slots    chan struct{}  // One for each request under way.
	walks    sync.WaitGroup // Of nodes.

	mu    sync.Mutex
	views map[viewKey]*view
	nodes map[nodeKey]*node
	blobs map[nodeKey]*blobNode
}

// each calls do for 0 to n-1, some at the same time.
func (p *planner) each(n int, do func(i int)) {
	var running sync.WaitGroup
	var next atomic.Int64
	for range min(n, 2*p.o.jobs()) { // Twice, since each waits for two registries.
		running.Go(func() {
			for i := int(next.Add(1)) - 1; i < n; i = int(next.Add(1)) - 1 {
				do(i)
			}
		})
	}
	running.Wait()
}

// slot waits until a request may be made; the caller calls free after it.
func (p *planner) slot(ctx context.Context) (free func(), err error) {
	select {
	case p.slots <- struct{}{}:
		return func() { <-p.slots }, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// image decides what is to be done for one image.
func (p *planner) image(ctx context.Context, m *Image) error {
	var have []oci.Digest
	var haveErr error
	var asking sync.WaitGroup
	asking.Go(func() { have, haveErr = p.have(ctx, m) })
	raw, err := p.want(ctx, m)
	asking.Wait()
	if err := cmp.Or(err, haveErr); err != nil {
		return err
	}
	for i, tag := range m.Tags {
		if have[i] == m.Manifest.Digest {
			continue
		}
		if have[i] != "" && p.o.NoOverwrite {
			err := oci.Errorf(oci.TagExists, "it points to %s", have[i])
			return failed(Destination, "tag", m.DstRepo, tag, err)
		}
		m.move = append(m.move, tag)
	}
	there := len(m.Tags) > 0 && len(m.move) < len(m.Tags) // One of the tags proves it.
	m.State = There
	if there && len(m.move) == 0 && p.o.Referrers != ReferrersAlways && !p.o.Force {
		return nil
	}
	m.root = p.walk(ctx, nodeOf{src: m.SrcRepo, dst: m.DstRepo, desc: m.Manifest, raw: raw, there: there && !p.o.Force})
	return nil
}

// want sets the manifest that the destination gets. Its bytes are returned if
// they were needed for that.
func (p *planner) want(ctx context.Context, m *Image) ([]byte, error) {
	if len(p.o.Platforms) == 0 {
		var err error
		m.Manifest, err = p.view(Source, m.SrcRepo).resolve(ctx, m.SrcRef)
		return nil, failed(Source, "find image", m.SrcRepo, m.SrcRef, err)
	}
	whole, err := p.manifest(ctx, p.src, Source, m.SrcRepo, m.SrcRef)
	if err != nil {
		return nil, err
	}
	chosen, err := p.choose(ctx, m.SrcRepo, whole)
	if err != nil {
		return nil, failed(Source, Choosing, m.SrcRepo, m.SrcRef, err)
	}
	m.Manifest = chosen.Descriptor
	if chosen.Descriptor.Digest != whole.Descriptor.Digest {
		m.Whole = whole.Descriptor.Digest
	}
	return chosen.Raw, nil
}

// have tells where the tags of an image point now, "" for those that are new.
func (p *planner) have(ctx context.Context, m *Image) ([]oci.Digest, error) {
	have := make([]oci.Digest, len(m.Tags))
	if p.dst == nil {
		return have, nil
	}
	for i, tag := range m.Tags {
		d, err := p.view(Destination, m.DstRepo).resolve(ctx, tag)
		if err != nil && !isMissing(err) {
			return nil, failed(Destination, "find image", m.DstRepo, tag, err)
		}
		if err == nil {
			have[i] = d.Digest
		}
	}
	return have, nil
}

// plan gathers what was found.
func (p *planner) plan(images []Image) *Plan {
	plan := &Plan{Images: images, dst: p.dst, src: p.src, same: p.same, o: p.o, writes: map[string]bool{}}
	g := &gathering{plan: plan, blobs: map[*blobNode]bool{}, nodes: map[*node]bool{}, marks: map[markKey]bool{}}
	for i := range images {
		g.image(i)
	}
	for _, b := range plan.blobs {
		plan.Blobs = append(plan.Blobs, Blob{b.desc, b.src, b.dst})
		plan.Bytes += b.desc.Size
	}
	slices.SortStableFunc(plan.blobs, func(a, b *blobNode) int { return cmp.Compare(b.desc.Size, a.desc.Size) })
	slices.SortStableFunc(plan.Blobs, func(a, b Blob) int { return cmp.Compare(b.Descriptor.Size, a.Descriptor.Size) })
	for _, n := range plan.nodes {
		plan.Manifests = append(plan.Manifests, Manifest{n.desc, n.raw, n.src, n.dst})
	}
	for _, m := range plan.marks {
		for _, tag := range m.tags {
			plan.Tags = append(plan.Tags, Tag{m.node.dst, tag, m.node.desc})
		}
	}
	for repo := range plan.writes {
		plan.writes[repo] = p.dst != nil && p.view(Destination, repo).isNew()
	}
	return plan
}
