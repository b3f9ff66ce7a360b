package meta

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"sync"

	"golang.org/x/sync/errgroup"

	"github.com/regctl/regctl/client/oci"
	"github.com/regctl/regctl/serve/storage"
)

// unsynced is what was removed and is not durably gone yet. To wait for the
// device takes longer than all else of a removal, so it is waited for only
// before something goes that hangs on it: once for many.
type unsynced struct {
	mu        sync.Mutex           // Held also while the device is waited for: nobody gets ahead of it.
	manifests map[string]*revision // By repository.
	links     map[string]struct{}  // Directories that links of blobs were removed from.
	rest      map[string]struct{}  // Directories of what nothing hangs on.
}

// revision is where links of manifests of a repository were removed.
type revision struct {
	dirs   map[string]struct{}
	parent bool // Other manifests may hang on one of them.
}

// droppedManifest notes where the link of a manifest was removed.
func (u *unsynced) droppedManifest(repo, dir string, parent bool) {
	u.mu.Lock()
	defer u.mu.Unlock()
	r := u.manifests[repo]
	if r == nil {
		r = &revision{}
		if u.manifests == nil {
			u.manifests = map[string]*revision{}
		}
		u.manifests[repo] = r
	}
	note(&r.dirs, dir)
	r.parent = r.parent || parent
}

// dropped notes where the link of a blob was removed.
func (u *unsynced) dropped(dir string) {
	u.mu.Lock()
	defer u.mu.Unlock()
	note(&u.links, dir)
}

// freed notes where something was removed that nothing hangs on.
func (u *unsynced) freed(dir string) {
	u.mu.Lock()
	defer u.mu.Unlock()
	note(&u.rest, dir)
}

func note(dirs *map[string]struct{}, dir string) {
	if *dirs == nil {
		*dirs = map[string]struct{}{}
	}
	(*dirs)[dir] = struct{}{}
}

// settleManifests makes the removal of manifests of a repository durable; with
// parents only if others may hang on them.
func (m *Meta) settleManifests(ctx context.Context, repo string, parents bool) error {
	m.unsynced.mu.Lock()
	defer m.unsynced.mu.Unlock()
	r := m.unsynced.manifests[repo]
	if r == nil || parents && !r.parent {
		return nil
	}
	if err := m.syncAll(ctx, r.dirs); err != nil {
		return err
	}
	delete(m.unsynced.manifests, repo)
	return nil
}

// settleLinks makes the removal of all links durable.
func (m *Meta) settleLinks(ctx context.Context) error {
	m.unsynced.mu.Lock()
	defer m.unsynced.mu.Unlock()
	dirs := maps.Clone(m.unsynced.links)
	for _, r := range m.unsynced.manifests {
		for dir := range r.dirs {
			note(&dirs, dir)
		}
	}
	if err := m.syncAll(ctx, dirs); err != nil {
		return err
	}
	clear(m.unsynced.links)
	clear(m.unsynced.manifests)
	return nil
}

// Settle makes durable what DropManifest, DropBlob, RemoveData and
// RemoveLitter removed. Nothing is lost without it: what was removed may be
// back after a power cut, with all that hangs on it, and goes the next time.
func (m *Meta) Settle(ctx context.Context) error {
	m.families.forget()
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

// families are the manifests that others may hang on, children or referrers, by
// repository, as the last scan of each found them.
type families struct {
	mu      sync.Mutex
	parents map[string]map[oci.Digest]struct{}
	n       int
}

// learn remembers a scan. A single image has no children, whatever it names.
func (f *families) learn(s *RepoScan) {
	parents := map[oci.Digest]struct{}{}
	for _, v := range s.Manifests {
		single := v.MediaType == oci.MediaTypeManifest || v.MediaType == oci.MediaTypeDockerManifest
		if v.Err != nil || !single {
			parents[v.Digest] = struct{}{}
		}
		if v.Subject != "" {
			parents[v.Subject] = struct{}{}
		}
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.n -= len(f.parents[s.Name])
	delete(f.parents, s.Name)
	if f.n+len(parents) > maxTraces || len(s.Errs) > 0 {
		return // Nothing is known of it: each manifest may be a parent.
	}
	if f.parents == nil {
		f.parents = map[string]map[oci.Digest]struct{}{}
	}
	f.parents[s.Name] = parents
	f.n += len(parents)
}

// mayBeParent tells whether other manifests may hang on one.
func (f *families) mayBeParent(repo string, d oci.Digest) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	parents, known := f.parents[repo]
	_, is := parents[d]
	return is || !known
}

func (f *families) forget() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.parents, f.n = nil, 0
}
