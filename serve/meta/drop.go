package meta

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"

	"github.com/regctl/regctl/client/oci"
)

// removeIn removes key and the directory made for it, and returns the
// directory whose names are to become durable for that: of two that share one,
// one wait for the device is enough. The error is fs.ErrNotExist if there is
// no key; what an earlier call removed may not be durable then, either.
func (m *Meta) removeIn(ctx context.Context, key string) (dir string, err error) {
	dir = path.Dir(key)
	if err = m.backend.Remove(ctx, key); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return dir, err
	}
	if e := m.backend.Remove(ctx, dir); e == nil || errors.Is(e, fs.ErrNotExist) {
		dir = path.Dir(dir)
	}
	return dir, err
}

// RemoveData removes the bytes kept under a digest, and the directories that
// this leaves empty; fs.ErrNotExist if there are none. What was dropped
// before is durably gone first. The removal itself is durable after
// [Meta.Settle].
func (m *Meta) RemoveData(ctx context.Context, d oci.Digest) error {
	if err := m.settleLinks(ctx); err != nil {
		return err
	}
	dir, err := m.removeIn(ctx, BlobKey(d))
	if err != nil {
		return err
	}
	if path.Dir(dir) == path.Join(blobsDir, string(d.Algorithm())) && m.backend.Remove(ctx, dir) == nil {
		dir = path.Dir(dir)
	}
	m.unsynced.freed(dir)
	return nil
}

// DropManifest is [Repo.RemoveManifest] in bulk, without reading the manifest
// or listing a directory; fs.ErrNotExist if there was none, damaged or not.
// Parents are dropped before their children, and manifests before blobs: what
// goes later hangs on its being durably gone, and waits for that; so does
// [Meta.Settle]. [Repo.TidyTags] is to follow when all are dropped that are to
// be. A repository that has aliases remembers by each of its names: all are to
// be told.
func (h *Repo) DropManifest(ctx context.Context, d oci.Digest) error {
	return h.r.manifests.drop(d, func() error {
		if err := h.m.settleManifests(ctx, h.r.name, true); err != nil {
			return err
		}
		dir, err := h.m.removeIn(ctx, revisionLink(h.r.name, d))
		h.m.unsynced.droppedManifest(h.r.name, dir, h.m.families.mayBeParent(h.r.name, d))
		return err
	})
}

// DropBlob is [Repo.RemoveBlob] in bulk: it is durably gone once
// [Meta.RemoveData] or [Meta.Settle] succeeded. What DropManifest dropped of
// the repository before is durably gone first. fs.ErrNotExist if there was
// none, damaged or not.
func (h *Repo) DropBlob(ctx context.Context, d oci.Digest) error {
	return h.r.blobs.drop(d, func() error {
		if err := h.m.settleManifests(ctx, h.r.name, false); err != nil {
			return err
		}
		dir, err := h.m.removeIn(ctx, layerLink(h.r.name, d))
		h.m.unsynced.dropped(dir)
		return err
	})
}

// TidyTags removes from the histories of tags the manifests that are gone and
// where they do not point now, and takes the repository out of the catalogue
// if it has no manifest any more. A history that cannot be read is an error;
// the others are tidied all the same.
func (h *Repo) TidyTags(ctx context.Context, gone func(oci.Digest) bool) error {
	var errs []error
	for e, err := range h.m.backend.List(ctx, tagsDir(h.r.name)) {
		if errors.Is(err, fs.ErrNotExist) {
			break
		}
		if err == nil && e.Dir {
			err = h.tidyHistory(ctx, e.Name, gone)
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("tidy the history of tag %s of %s: %w", e.Name, h.r.name, err))
		}
	}
	h.checkPresence(ctx)
	return errors.Join(errs...)
}

func (h *Repo) tidyHistory(ctx context.Context, tag string, gone func(oci.Digest) bool) error {
	var old []oci.Digest
	err := h.m.linked(ctx, path.Join(tagDir(h.r.name, tag), "index"), func(d oci.Digest) error {
		if gone(d) {
			old = append(old, d)
		}
		return nil
	})
	if err != nil || len(old) == 0 {
		return err
	}
	return h.r.tags.hold(tag, func() error {
		now, _, err := h.m.readLink(ctx, tagLink(h.r.name, tag))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err // Its history is all there is of it.
		}
		for _, d := range old {
			if d == now {
				continue
			}
			dir, err := h.m.removeIn(ctx, tagIndexLink(h.r.name, tag, d))
			if err != nil && !errors.Is(err, fs.ErrNotExist) {
				return err
			}
			h.m.unsynced.freed(dir)
		}
		return nil
	})
}
