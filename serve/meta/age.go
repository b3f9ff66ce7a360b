package meta

import (
	"context"
	"time"

	"github.com/regctl/regctl/client/oci"
)

// BlobLinked tells since when a blob is a member of the repository, by what
// the disk says; fs.ErrNotExist if it is not.
func (h *Repo) BlobLinked(ctx context.Context, d oci.Digest) (time.Time, error) {
	info, err := h.m.backend.Stat(ctx, layerLink(h.r.name, d))
	return info.ModTime, err
}

// ManifestLinked is BlobLinked for a manifest.
func (h *Repo) ManifestLinked(ctx context.Context, d oci.Digest) (time.Time, error) {
	info, err := h.m.backend.Stat(ctx, revisionLink(h.r.name, d))
	return info.ModTime, err
}
