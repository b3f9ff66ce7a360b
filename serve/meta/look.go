package meta

import (
	"context"

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
