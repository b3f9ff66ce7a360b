package meta

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"path"
	"slices"
	"sync"

	"golang.org/x/sync/errgroup"

	"github.com/regctl/regctl/client/oci"
	"github.com/regctl/regctl/serve/storage"
)

// unsynced is what was removed and is not durably gone yet.
type unsynced struct {
	mu    sync.Mutex          // Held also while the device is waited for: nobody gets ahead of it.
	links map[string]struct{} // Directories that links were removed from: before any data goes.
	rest  map[string]struct{} // Directories of what nothing hangs on.
}

// dropped notes where a link was removed.
func (u *unsynced) dropped(dir string) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.links == nil {
		u.links = map[string]struct{}{}
	}
	u.links[dir] = struct{}{}
}

// freed notes where something was removed that nothing hangs on.
func (u *unsynced) freed(dir string) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.rest == nil {
		u.rest = map[string]struct{}{}
	}
	u.rest[dir] = struct{}{}
}

// settleLinks makes the removal of links durable.
func (m *Meta) settleLinks(ctx context.Context) error {
	m.unsynced.mu.Lock()
	defer m.unsynced.mu.Unlock()
	if err := m.syncAll(ctx, m.unsynced.links); err != nil {
		return err
	}
	clear(m.unsynced.links)
	return nil
}

// Settle makes durable what DropBlob, RemoveData and RemoveLitter removed.
// Nothing is lost without it: what was removed may be back after a power cut,
// in the same order, and goes the next time.
func (m *Meta) Settle(ctx context.Context) error {
	if err := m.settleLinks(ctx); err != nil {
		return err
	}
	m.unsynced.mu.Lock()
	defer m.unsynced.mu.Unlock()
	if err := m.syncAll(ctx, m.unsynced.rest); err != nil {
		return err
	}
	clear(m.unsynced.rest)
	return nil
}

func (m *Meta) syncAll(ctx context.Context, dirs map[string]struct{}) error {
	var group errgroup.Group
	group.SetLimit(readers)
	for _, dir := range slices.Sorted(maps.Keys(dirs)) {
		group.Go(func() error {
			if err := storage.Sync(ctx, m.backend, dir); err != nil {
				return fmt.Errorf("make the removals from %s durable: %w", dir, err)
			}
			return nil
		})
	}
	return group.Wait()
}

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
// this leaves empty; fs.ErrNotExist if there are none. What DropBlob dropped
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

// DropManifest is [Repo.RemoveManifest] without reading the manifest or
// listing a directory: it is durably gone when it returns, fs.ErrNotExist if
// there was none, damaged or not. [Repo.TidyTags] is to follow when all are
// dropped that are to be. A repository that has aliases remembers by each of
// its names: all are to be told.
func (h *Repo) DropManifest(ctx context.Context, d oci.Digest) error {
	return h.r.manifests.drop(d, func() error {
		dir, err := h.m.removeIn(ctx, revisionLink(h.r.name, d))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		if e := storage.Sync(ctx, h.m.backend, dir); e != nil {
			return e
		}
		return err
	})
}

// DropBlob is [Repo.RemoveBlob] in bulk: it is durably gone once
// [Meta.RemoveData] or [Meta.Settle] succeeded. fs.ErrNotExist if there was
// none, damaged or not.
func (h *Repo) DropBlob(ctx context.Context, d oci.Digest) error {
	return h.r.blobs.drop(d, func() error {
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
