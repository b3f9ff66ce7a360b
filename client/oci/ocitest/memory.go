package ocitest

import (
	"bytes"
	"context"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/regctl/regctl/client/oci"
)

// memory is a registry as maps. It is an oracle: nothing in it is clever, and
// every call happens under one lock.
type memory struct {
	mu    sync.Mutex
	now   func() time.Time
	repos map[string]*memoryRepo
}

type memoryRepo struct {
	blobs     map[oci.Digest][]byte
	manifests map[oci.Digest]memoryManifest
	tags      map[string]memoryTag
	uploads   map[string]*memoryUpload
}

type memoryManifest struct {
	oci.Manifest
	graph *oci.Graph
}

type memoryTag struct {
	digest oci.Digest
	pushed time.Time
}

// NewRegistry returns an empty registry that lives in memory, has every
// feature and answers as the comments of [oci.Registry] say. It never fails
// for want of anything.
func NewRegistry() oci.Registry {
	return &memory{now: time.Now, repos: map[string]*memoryRepo{}}
}

// repo returns a repository, which is made if it is not there: one that holds
// nothing cannot be told from one that never was.
func (m *memory) repo(name string) *memoryRepo {
	r := m.repos[name]
	if r == nil {
		r = &memoryRepo{
			blobs:     map[oci.Digest][]byte{},
			manifests: map[oci.Digest]memoryManifest{},
			tags:      map[string]memoryTag{},
			uploads:   map[string]*memoryUpload{},
		}
		m.repos[name] = r
	}
	return r
}

// exists tells whether a repository has a manifest or a blob.
func (r *memoryRepo) exists() bool { return len(r.manifests)+len(r.blobs) > 0 }

func (r *memoryRepo) find(ref string) (memoryManifest, error) {
	d := oci.Digest(ref)
	if !oci.IsDigest(ref) {
		d = r.tags[ref].digest
	}
	if found, ok := r.manifests[d]; ok {
		return found, nil
	}
	return memoryManifest{}, oci.Errorf(oci.ManifestUnknown, "no manifest %s", ref)
}

func (m *memory) Resolve(ctx context.Context, repo, ref string) (oci.Descriptor, error) {
	found, err := m.Manifest(ctx, repo, ref)
	return found.Descriptor, err
}

func (m *memory) Manifest(_ context.Context, repo, ref string) (oci.Manifest, error) {
	if err := check(oci.CheckRepo(repo), oci.CheckRef(ref)); err != nil {
		return oci.Manifest{}, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	found, err := m.repo(repo).find(ref)
	found.Raw = bytes.Clone(found.Raw)
	return found.Manifest, err
}

func (m *memory) StatBlob(ctx context.Context, repo string, d oci.Digest) (oci.Descriptor, error) {
	b, err := m.Blob(ctx, repo, d)
	return b.Descriptor, err
}

func (m *memory) Blob(_ context.Context, repo string, d oci.Digest) (oci.BlobReader, error) {
	if err := check(oci.CheckRepo(repo), checkDigest(d)); err != nil {
		return oci.BlobReader{}, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	data, ok := m.repo(repo).blobs[d]
	if !ok {
		return oci.BlobReader{}, oci.Errorf(oci.BlobUnknown, "no blob %s", d)
	}
	return oci.BlobReader{
		ReadSeekCloser: nopCloser{bytes.NewReader(data)},
		Descriptor:     blobDescriptor(d, data),
	}, nil
}

func (m *memory) PutManifest(_ context.Context, repo string, p oci.Put) (oci.Descriptor, error) {
	manifest, err := checkPut(repo, p)
	if err != nil {
		return oci.Descriptor{}, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	r := m.repo(repo)
	for _, b := range manifest.graph.Blobs() {
		if _, ok := r.blobs[b.Digest]; !ok {
			return oci.Descriptor{}, oci.Errorf(oci.ManifestBlobUnknown, "no blob %s", b.Digest)
		}
	}
	d := manifest.Descriptor.Digest
	for _, tag := range p.Tags {
		if old, ok := r.tags[tag]; ok && p.Keeps(tag) && old.digest != d {
			return oci.Descriptor{}, oci.Errorf(oci.TagExists, "tag %s points to %s", tag, old.digest)
		}
	}
	r.manifests[d] = manifest
	for _, tag := range p.Tags {
		r.tags[tag] = memoryTag{d, m.now()}
	}
	return manifest.Descriptor, nil
}

// checkPut checks what can be told from the arguments alone.
func checkPut(repo string, p oci.Put) (memoryManifest, error) {
	errs := []error{oci.CheckRepo(repo)}
	if p.Digest != "" {
		errs = append(errs, checkDigest(p.Digest))
	}
	for _, tag := range p.Tags {
		errs = append(errs, oci.CheckTag(tag))
	}
	if err := check(errs...); err != nil {
		return memoryManifest{}, err
	}
	if len(p.Raw) > oci.MaxManifest {
		return memoryManifest{}, oci.Errorf(oci.ManifestTooLarge, "manifest of %d bytes", len(p.Raw))
	}
	d := hash(p.Digest, p.Raw)
	if p.Digest != "" && p.Digest != d {
		return memoryManifest{}, oci.Errorf(oci.DigestInvalid, "manifest has digest %s, not %s", d, p.Digest)
	}
	graph, err := oci.ParseManifest(p.MediaType, p.Raw)
	if err != nil {
		return memoryManifest{}, err
	}
	desc := oci.Descriptor{MediaType: graph.MediaType, Digest: d, Size: int64(len(p.Raw))}
	return memoryManifest{oci.Manifest{Descriptor: desc, Raw: bytes.Clone(p.Raw)}, graph}, nil
}

func (m *memory) DeleteTag(_ context.Context, repo, tag string, was oci.Digest) error {
	errs := []error{oci.CheckRepo(repo), oci.CheckTag(tag)}
	if was != "" {
		errs = append(errs, checkDigest(was))
	}
	if err := check(errs...); err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	r := m.repo(repo)
	switch old, ok := r.tags[tag]; {
	case !ok:
		return oci.Errorf(oci.ManifestUnknown, "no tag %s", tag)
	case was != "" && was != old.digest:
		return oci.Errorf(oci.TagMoved, "tag %s points to %s", tag, old.digest)
	}
	delete(r.tags, tag)
	return nil
}

func (m *memory) DeleteManifest(_ context.Context, repo string, d oci.Digest) error {
	if err := check(oci.CheckRepo(repo), checkDigest(d)); err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	r := m.repo(repo)
	if _, ok := r.manifests[d]; !ok {
		return oci.Errorf(oci.ManifestUnknown, "no manifest %s", d)
	}
	if by, ok := r.namedBy(d, (*oci.Graph).IsIndex); ok {
		return oci.Errorf(oci.Unsupported, "index %s names %s", by, d)
	}
	delete(r.manifests, d)
	maps.DeleteFunc(r.tags, func(_ string, t memoryTag) bool { return t.digest == d })
	return nil
}

func (m *memory) DeleteBlob(_ context.Context, repo string, d oci.Digest) error {
	if err := check(oci.CheckRepo(repo), checkDigest(d)); err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	r := m.repo(repo)
	if _, ok := r.blobs[d]; !ok {
		return oci.Errorf(oci.BlobUnknown, "no blob %s", d)
	}
	if by, ok := r.namedBy(d, func(*oci.Graph) bool { return true }); ok {
		return oci.Errorf(oci.Unsupported, "manifest %s names %s", by, d)
	}
	delete(r.blobs, d)
	return nil
}

// namedBy finds a manifest among those that count which names d.
func (r *memoryRepo) namedBy(d oci.Digest, counts func(*oci.Graph) bool) (oci.Digest, bool) {
	for by, manifest := range r.manifests {
		if counts(manifest.graph) && slices.Contains(manifest.graph.Digests(), d) {
			return by, true
		}
	}
	return "", false
}

func (m *memory) DeleteRepo(_ context.Context, repo string) error {
	if err := oci.CheckRepo(repo); err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	r := m.repo(repo)
	if !r.exists() {
		return oci.Errorf(oci.NameUnknown, "no repository %s", repo)
	}
	for _, u := range r.uploads {
		u.ended = true
	}
	delete(m.repos, repo)
	return nil
}
