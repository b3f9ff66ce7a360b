package prune

import (
	"context"
	"errors"
	"slices"
	"sync"
	"sync/atomic"

	"golang.org/x/sync/errgroup"

	"github.com/regctl/regctl/client/oci"
)

// node is a manifest as it was read.
type node struct {
	desc      oci.Descriptor
	missing   bool // The registry does not have it.
	children  []oci.Digest
	types     []string     // Of the children, as the index tells.
	others    []oci.Digest // Of children, those that may not be manifests.
	subject   oci.Digest
	blobs     []oci.Descriptor
	referrers []oci.Digest // Known only of what may go.
}

// reader reads manifests of one repository, each once.
type reader struct {
	reg   oci.Registry
	repo  string
	cache Cache
	jobs  int

	mu    sync.Mutex
	nodes map[oci.Digest]*node
	types map[oci.Digest]string // As tags and indexes tell.
}

func newReader(reg oci.Registry, repo string, o Options) *reader {
	return &reader{reg: reg, repo: repo, cache: o.Cache, jobs: max(1, o.Jobs), nodes: map[oci.Digest]*node{}, types: map[oci.Digest]string{}}
}

// read returns the node of d, which is missing if the registry says so.
func (r *reader) read(ctx context.Context, d oci.Digest) (*node, error) {
	r.mu.Lock()
	n := r.nodes[d]
	r.mu.Unlock()
	if n != nil {
		return n, nil
	}
	m, err := r.manifest(ctx, d)
	switch {
	case isAbsent(err):
		n = &node{desc: oci.Descriptor{Digest: d}, missing: true}
	case err != nil:
		return nil, err
	default:
		n = newNode(m)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.nodes[d] = n
	for i, t := range n.types {
		r.types[n.children[i]] = t
	}
	return n, nil
}

// manifest gets the bytes of d from the cache or the registry, and believes
// neither.
func (r *reader) manifest(ctx context.Context, d oci.Digest) (oci.Manifest, error) {
	if r.cache != nil {
		if raw, ok := r.cache.Get(d); ok && d.Algorithm().FromBytes(raw) == d {
			desc := oci.Descriptor{MediaType: oci.MediaTypeOf(raw), Digest: d, Size: int64(len(raw))}
			return oci.Manifest{Descriptor: desc, Raw: raw}, nil
		}
	}
	m, err := r.reg.Manifest(ctx, r.repo, string(d))
	if err != nil {
		return oci.Manifest{}, err
	}
	if got := d.Algorithm().FromBytes(m.Raw); got != d {
		return oci.Manifest{}, oci.Errorf(oci.DigestInvalid, "%s@%s: the registry answered with %s", r.repo, d, got)
	}
	m.Descriptor.Digest = d
	if r.cache != nil {
		r.cache.Put(d, m.Raw)
	}
	return m, nil
}

// newNode takes a manifest apart. One that cannot be parsed may name
// everything that looks like a digest in it.
func newNode(m oci.Manifest) *node {
	n := &node{desc: oci.Descriptor{MediaType: m.Descriptor.MediaType, Digest: m.Descriptor.Digest, Size: int64(len(m.Raw))}}
	g, err := oci.ParseManifest("", m.Raw)
	if err != nil {
		n.others = oci.DigestsIn(m.Raw)
		n.children = n.others
		n.desc.MediaType = ""
		return n
	}
	n.desc.MediaType = g.MediaType
	if g.Subject != nil {
		n.subject = g.Subject.Digest
	}
	n.blobs = g.Blobs()
	for _, c := range g.Manifests {
		if !slices.Contains(n.children, c.Digest) {
			n.children = append(n.children, c.Digest)
			n.types = append(n.types, c.MediaType)
			if !known(c.MediaType) {
				n.others = append(n.others, c.Digest)
			}
		}
	}
	return n
}

// known tells whether manifests of type t can be read.
func known(t string) bool { return slices.Contains(oci.ManifestTypes(), t) }

// spread reads from and all children that can be reached.
func (r *reader) spread(ctx context.Context, from []oci.Digest) error {
	seen := map[oci.Digest]bool{}
	for len(from) > 0 {
		from = slices.DeleteFunc(from, func(d oci.Digest) bool {
			twice := seen[d]
			seen[d] = true
			return twice
		})
		found, err := r.readAll(ctx, from)
		if err != nil {
			return err
		}
		from = nil
		for _, n := range found {
			from = append(from, n.children...)
		}
	}
	return nil
}

func (r *reader) readAll(ctx context.Context, digests []oci.Digest) ([]*node, error) {
	found := make([]*node, len(digests))
	err := r.each(ctx, len(digests), func(ctx context.Context, i int) (err error) {
		found[i], err = r.read(ctx, digests[i])
		return err
	})
	return found, err
}

// each calls f for 0 to n-1, some at the same time. After an error it begins
// no more, but waits for what was begun: a request that is cut off may be done
// or not.
func (r *reader) each(ctx context.Context, n int, f func(context.Context, int) error) error {
	var g errgroup.Group
	var failed atomic.Bool
	g.SetLimit(r.jobs)
	for i := range n {
		if ctx.Err() != nil || failed.Load() {
			break
		}
		g.Go(func() error {
			err := f(ctx, i)
			if err != nil {
				failed.Store(true)
			}
			return err
		})
	}
	if err := g.Wait(); err != nil {
		return err
	}
	return ctx.Err()
}

// exists asks whether repo has a manifest d.
func (r *reader) exists(ctx context.Context, d oci.Digest) (bool, error) {
	r.mu.Lock()
	n := r.nodes[d]
	r.mu.Unlock()
	if n != nil {
		return !n.missing, nil
	}
	_, err := r.reg.Resolve(ctx, r.repo, string(d))
	if isAbsent(err) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	return true, nil
}

// referrersOf asks what refers to n.
func (r *reader) referrersOf(ctx context.Context, n *node) error {
	for desc, err := range r.reg.Referrers(ctx, r.repo, n.desc.Digest, "") {
		if err != nil {
			return err
		}
		n.referrers = append(n.referrers, desc.Digest)
	}
	return nil
}

// isAbsent tells an error that says that something is not there.
func isAbsent(err error) bool {
	return errors.Is(err, oci.ManifestUnknown) || errors.Is(err, oci.NameUnknown) || errors.Is(err, oci.NotFound)
}

// Size is how many bytes an image of repo has with all that it names, each
// blob once.
// Errors: those of the registry.
func Size(ctx context.Context, reg oci.Registry, repo string, d oci.Digest, o Options) (int64, error) {
	r := newReader(reg, repo, o)
	if err := r.spread(ctx, []oci.Digest{d}); err != nil {
		return 0, err
	}
	var size int64
	seen := map[oci.Digest]bool{}
	for _, n := range r.nodes {
		size += n.desc.Size
		for _, b := range n.blobs {
			if !seen[b.Digest] {
				seen[b.Digest] = true
				size += b.Size
			}
		}
	}
	return size, nil
}
