package layout

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"
	"time"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/regctl/regctl/client/oci"
)

// node is what is remembered of a manifest.
type node struct {
	desc     oci.Descriptor
	graph    *oci.Graph
	children []oci.Descriptor // Manifests that it names.
	blobs    []oci.Digest     // All else that it names.
	config   oci.TagDetail    // Created and Platforms, once read.
	read     bool             // Config is.
	stored   time.Time
}

// view is what one reading of index.json says.
type view struct {
	raw   []byte
	index ocispec.Index
	repos map[string]*members
}

// members are the parts of a repository.
type members struct {
	tags    map[string]oci.Descriptor
	entries []oci.Descriptor

	closed    bool // What follows is complete.
	manifests map[oci.Digest]*node
	blobs     map[oci.Digest]bool
}

// view returns what index.json says now. The caller holds r.mu.
func (r *reader) view() (*view, error) {
	raw, err := r.pool.index()
	if err != nil {
		return nil, err
	}
	if r.last != nil && bytes.Equal(raw, r.last.raw) {
		return r.last, nil
	}
	v, err := parseView(raw)
	if err != nil {
		return nil, err
	}
	r.last = v
	return v, nil
}

func parseView(raw []byte) (*view, error) {
	v := &view{raw: raw, repos: map[string]*members{}}
	if err := json.Unmarshal(raw, &v.index); err != nil {
		return nil, oci.Errorf(oci.ManifestInvalid, "%s is not of the right form: %v", ocispec.ImageIndexFile, err)
	}
	for _, entry := range v.index.Manifests {
		if _, err := oci.ParseDigest(string(entry.Digest)); err != nil {
			return nil, oci.Errorf(oci.ManifestInvalid, "%s: %v", ocispec.ImageIndexFile, err)
		}
		n := nameOf(entry)
		m := v.repos[n.Repo]
		if m == nil {
			m = &members{tags: map[string]oci.Descriptor{}}
			v.repos[n.Repo] = m
		}
		m.entries = append(m.entries, entry)
		if n.Tag != "" {
			m.tags[n.Tag] = entry // Of several the last: those who append write so.
		}
	}
	return v, nil
}

// close returns the members of a repository with all that its entries lead to;
// nil if it has none.
func (r *reader) close(v *view, repo string) (*members, error) {
	m := v.repos[repo]
	if m == nil || m.closed {
		return m, nil
	}
	m.manifests, m.blobs = map[oci.Digest]*node{}, map[oci.Digest]bool{}
	complete := true
	todo := slices.Clone(m.entries)
	for len(todo) > 0 {
		next := todo[len(todo)-1]
		todo = todo[:len(todo)-1]
		if m.manifests[next.Digest] != nil {
			continue
		}
		n, err := r.node(next.Digest)
		if errors.Is(err, fs.ErrNotExist) {
			complete = false // It may yet come.
			continue
		}
		if err != nil {
			return nil, err
		}
		m.manifests[next.Digest] = n
		todo = append(todo, n.children...)
		for _, d := range n.blobs {
			m.blobs[d] = true
		}
	}
	m.closed = complete
	return m, nil
}

// node returns a manifest that is in the pool, whoever names it. What is
// missing is [fs.ErrNotExist].
func (r *reader) node(d oci.Digest) (*node, error) {
	if n := r.known[d]; n != nil {
		_, err := r.pool.stat(d)
		return n, err
	}
	raw, stored, err := r.bytes(d)
	if err != nil {
		return nil, err
	}
	n := newNode(d, raw)
	n.stored = stored
	r.known[d] = n
	return n, nil
}

// bytes returns the bytes of a manifest, verified.
func (r *reader) bytes(d oci.Digest) ([]byte, time.Time, error) {
	c, err := r.pool.open(d)
	if err != nil {
		return nil, time.Time{}, err
	}
	defer c.Close()
	if c.size > oci.MaxManifest {
		return nil, time.Time{}, oci.Errorf(oci.ManifestTooLarge, "%s has %d bytes, too many for a manifest", d, c.size)
	}
	raw, err := io.ReadAll(io.LimitReader(c, oci.MaxManifest+1))
	if err != nil {
		return nil, time.Time{}, fmt.Errorf("read %s: %w", d, err)
	}
	if got := d.Algorithm().FromBytes(raw); got != d {
		return nil, time.Time{}, oci.Errorf(oci.DigestInvalid, "%s is damaged: its content has digest %s", blobName(d), got)
	}
	return raw, c.stored, nil
}

func newNode(d oci.Digest, raw []byte) *node {
	n := &node{desc: oci.Descriptor{MediaType: oci.MediaTypeOf(raw), Digest: d, Size: int64(len(raw))}}
	g, err := oci.ParseManifest("", raw)
	if err != nil { // Nobody can be sure what it needs.
		n.graph = &oci.Graph{MediaType: n.desc.MediaType}
		n.blobs = oci.DigestsIn(raw)
		return n
	}
	n.graph = g
	for _, child := range g.Manifests {
		if slices.Contains(oci.ManifestTypes(), child.MediaType) || child.MediaType == "" {
			n.children = append(n.children, child)
		} else { // A build cache is an index of layers.
			n.blobs = append(n.blobs, child.Digest)
		}
	}
	if !g.IsIndex() {
		n.blobs = append(n.blobs, g.Digests()...)
	}
	return n
}

// find returns a manifest of repo by tag or digest. The caller holds r.mu.
func (r *reader) find(repo, ref string) (*node, error) {
	v, err := r.view()
	if err != nil {
		return nil, err
	}
	d := oci.Digest(ref)
	if m := v.repos[repo]; m != nil && !oci.IsDigest(ref) {
		d = m.tags[ref].Digest
	} else if m != nil && !slices.ContainsFunc(m.entries, func(e oci.Descriptor) bool { return e.Digest == d }) {
		if m, err = r.close(v, repo); err != nil {
			return nil, err
		}
		if m.manifests[d] == nil {
			d = ""
		}
	} else if m == nil {
		d = ""
	}
	if d == "" {
		return nil, oci.Errorf(oci.ManifestUnknown, "no manifest %s in %s", ref, repo)
	}
	n, err := r.node(d)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, oci.Errorf(oci.ManifestUnknown, "%s of %s: %s is missing", ref, repo, blobName(d))
	}
	return n, err
}
