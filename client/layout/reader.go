package layout

import (
	"context"
	"errors"
	"io/fs"

	"github.com/regctl/regctl/client/oci"
)

const octets = "application/octet-stream"

// Resolve is that of [oci.Reader]. A manifest that the list names and whose
// file is missing is [oci.ManifestUnknown].
func (r *reader) Resolve(_ context.Context, repo, ref string) (oci.Descriptor, error) {
	if err := first(oci.CheckRepo(repo), oci.CheckRef(ref)); err != nil {
		return oci.Descriptor{}, err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	n, err := r.find(repo, ref)
	if err != nil {
		return oci.Descriptor{}, err
	}
	return n.desc, nil
}

// Manifest is that of [oci.Reader]. A damaged one is [oci.DigestInvalid].
func (r *reader) Manifest(_ context.Context, repo, ref string) (oci.Manifest, error) {
	if err := first(oci.CheckRepo(repo), oci.CheckRef(ref)); err != nil {
		return oci.Manifest{}, err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	n, err := r.find(repo, ref)
	if err != nil {
		return oci.Manifest{}, err
	}
	raw, _, err := r.bytes(n.desc.Digest)
	return oci.Manifest{Descriptor: n.desc, Raw: raw}, err
}

// StatBlob is that of [oci.Reader].
func (r *reader) StatBlob(_ context.Context, repo string, d oci.Digest) (oci.Descriptor, error) {
	if err := first(oci.CheckRepo(repo), checkDigest(d)); err != nil {
		return oci.Descriptor{}, err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	size, ok, err := r.has(repo, d)
	if err == nil && !ok {
		err = unknownBlob(repo, d)
	}
	return oci.Descriptor{MediaType: octets, Digest: d, Size: size}, err
}

// Blob is that of [oci.Reader].
func (r *reader) Blob(_ context.Context, repo string, d oci.Digest) (oci.BlobReader, error) {
	if err := first(oci.CheckRepo(repo), checkDigest(d)); err != nil {
		return oci.BlobReader{}, err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if _, ok, err := r.has(repo, d); err != nil {
		return oci.BlobReader{}, err
	} else if !ok {
		return oci.BlobReader{}, unknownBlob(repo, d)
	}
	c, err := r.pool.open(d)
	if errors.Is(err, fs.ErrNotExist) {
		return oci.BlobReader{}, unknownBlob(repo, d)
	}
	if err != nil {
		return oci.BlobReader{}, err
	}
	desc := oci.Descriptor{MediaType: octets, Digest: d, Size: c.size}
	return oci.BlobReader{ReadSeekCloser: c.ReadSeekCloser, Descriptor: desc, ModTime: c.stored}, nil
}

func unknownBlob(repo string, d oci.Digest) error {
	return oci.Errorf(oci.BlobUnknown, "no blob %s in %s", d, repo)
}

// has tells whether d is a blob of repo, and its size. The caller holds r.mu.
func (r *reader) has(repo string, d oci.Digest) (int64, bool, error) {
	size, err := r.pool.stat(d)
	if errors.Is(err, fs.ErrNotExist) {
		return 0, false, nil
	}
	if err != nil || r.pushed[repo][d] {
		return size, err == nil, err
	}
	v, err := r.view()
	if err != nil {
		return 0, false, err
	}
	m, err := r.close(v, repo)
	if err != nil || m != nil && m.blobs[d] {
		return size, err == nil, err
	}
	u, err := r.users(v, d)
	return size, u == (use{}), err
}

// use is what content of a pool is to the repositories.
type use struct {
	blob, manifest bool // Of some repository.
}

// users tells what d is to repositories other than those in but. Content that
// is nothing to anybody was left by a push that ended early. The caller holds
// r.mu.
func (r *reader) users(v *view, d oci.Digest, but ...string) (use, error) {
	skip := map[string]bool{}
	for _, repo := range but {
		skip[repo] = true
	}
	var u use
	for repo, blobs := range r.pushed {
		u.blob = u.blob || !skip[repo] && blobs[d]
	}
	for repo := range v.repos {
		if skip[repo] {
			continue
		}
		m, err := r.close(v, repo)
		if err != nil {
			return u, err
		}
		u.blob = u.blob || m.blobs[d]
		u.manifest = u.manifest || m.manifests[d] != nil
	}
	return u, nil
}

// first returns the first error, if there is one.
func first(errs ...error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

func checkDigest(d oci.Digest) error {
	_, err := oci.ParseDigest(string(d))
	return err
}
