package meta

import (
	"context"
	"maps"
	"slices"

	"github.com/regctl/regctl/client/oci"
)

// The looks read one link from the disk, never from memory, for a check that
// has found something and holds it now. The errors are as in the scans;
// fs.ErrNotExist says that there is no link.

// LookTag returns where a tag points.
func (h *Repo) LookTag(ctx context.Context, tag string) (oci.Digest, error) {
	return h.look(ctx, tagLink(h.r.name, tag))
}

// LookBlob returns under which digest the bytes of a blob are kept.
func (h *Repo) LookBlob(ctx context.Context, d oci.Digest) (oci.Digest, error) {
	return h.look(ctx, layerLink(h.r.name, d))
}

// LookManifest returns under which digest the bytes of a manifest are kept.
func (h *Repo) LookManifest(ctx context.Context, d oci.Digest) (oci.Digest, error) {
	return h.look(ctx, revisionLink(h.r.name, d))
}

func (h *Repo) look(ctx context.Context, key string) (oci.Digest, error) {
	d, _, err := h.m.readLink(ctx, key)
	return d, damage(err)
}

// ForgetBytes drops what memory holds of manifests with these bytes, which went
// or changed: the disk is asked again.
func (m *Meta) ForgetBytes(d oci.Digest) {
	m.mu.Lock()
	names := slices.Collect(maps.Keys(m.repos))
	m.mu.Unlock()
	for _, name := range names {
		h := m.Open(name)
		h.forgetBytes(d)
		h.Close()
	}
}

func (h *Repo) forgetBytes(d oci.Digest) {
	f := h.r.manifests
	f.whole.RLock()
	defer f.whole.RUnlock()
	var found []oci.Digest
	f.each(func(k oci.Digest, m Manifest) {
		if m.Content == d {
			found = append(found, k)
		}
	})
	for _, k := range found {
		unlock := f.lock(k) // Whoever is reading k would remember it after this.
		f.forget(k)
		unlock()
	}
}
