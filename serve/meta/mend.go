package meta

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"path"

	"github.com/regctl/regctl/client/oci"
	"github.com/regctl/regctl/serve/storage"
)

// MendBlobLink lets the link of a blob say its own digest, whatever it said.
// The caller knows that bytes are kept under d and are those of d.
func (h *Repo) MendBlobLink(ctx context.Context, d oci.Digest) error {
	return h.r.blobs.change(d, h.blobLoader(ctx, d), func(oci.Digest, bool) (oci.Digest, bool, error) {
		return d, true, storage.Put(ctx, h.m.backend, layerLink(h.r.name, d), []byte(d))
	})
}

// MendManifestLink is MendBlobLink for a manifest.
func (h *Repo) MendManifestLink(ctx context.Context, d oci.Digest) error {
	err := h.r.manifests.change(d, h.manifestLoader(ctx, d), func(Manifest, bool) (Manifest, bool, error) {
		if err := storage.Put(ctx, h.m.backend, revisionLink(h.r.name, d), []byte(d)); err != nil {
			return Manifest{}, false, err
		}
		f, err := h.readManifest(ctx, d)
		return f, true, err
	})
	if err != nil {
		return err
	}
	h.r.presence.Lock()
	defer h.r.presence.Unlock()
	h.m.catalogue.set(h.r.name, true)
	return nil
}

// RemoveDamagedTag removes a tag whose link says nothing, with its history,
// durably; [ErrChanged] if by now it does, fs.ErrNotExist if there is none.
func (h *Repo) RemoveDamagedTag(ctx context.Context, tag string) error {
	return h.r.tags.drop(tag, func() error {
		d, _, err := h.m.readLink(ctx, tagLink(h.r.name, tag))
		switch err = damage(err); {
		case err == nil:
			return fmt.Errorf("%w: to %s", ErrChanged, d)
		case !errors.Is(err, ErrDamaged):
			return err
		}
		if err := h.m.removeLink(ctx, tagLink(h.r.name, tag)); err != nil {
			return err
		}
		h.forgetHistory(ctx, tag)
		return nil
	})
}

// SetAside renames the bytes kept under a digest aside, durably, so that they
// are not served any more and a push can bring the right ones. They stay
// beside their place, and so do those that were set aside before. It returns
// their key. fs.ErrNotExist if there are none.
func (m *Meta) SetAside(ctx context.Context, d oci.Digest) (string, error) {
	key := BlobKey(d)
	aside := key + "." + rand.Text() + ".damaged"
	if err := m.backend.Rename(ctx, key, aside); err != nil {
		return "", err
	}
	return aside, storage.Sync(ctx, m.backend, path.Dir(key))
}

// damage tells of an error of reading a link or a manifest whether it is one
// of what is there. fs.ErrNotExist stays what it is.
func damage(err error) error {
	if errors.Is(err, storage.ErrTooLarge) || errors.Is(err, fs.ErrInvalid) {
		return fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	return err
}
