// Package meta knows who has what: repositories, their tags, manifests and
// blob memberships, on the layout of registry:2. The layout is the truth.
// Memory holds what was read of it, a repository at a time, within a budget;
// every change is made on disk first and is durable when the call returns.
//
// Damage that others left (empty links, stray files, missing directories)
// counts as absent, is reported, and is healed by the next push.
package meta

import (
	"container/list"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"path"
	"strings"
	"sync"
	"time"

	"github.com/regctl/regctl/client/oci"
	"github.com/regctl/regctl/serve/storage"
)

// ErrChanged says that a tag is not where the caller expects it.
var ErrChanged = errors.New("the tag points elsewhere")

// ErrForeign says that the links of a store are not its truth.
var ErrForeign = errors.New("a database knows what this store holds, not its links (lockfiles/database-in-use); regctl must not touch it")

// ErrNoCatalogue says that the catalogue was not asked for; see [Options].
var ErrNoCatalogue = errors.New("the catalogue is not read")

// Options of [New]. The zero value is ready for use.
type Options struct {
	// Budget bounds the memory kept for repositories nobody is using, in
	// bytes; the one used last is kept beyond it. Negative: none is kept.
	// Default: 32 MiB.
	Budget int64
	Log    *slog.Logger // Default: discards.

	// NoCatalogue is for who serves nobody: the catalogue is not read, and
	// Repos fails with [ErrNoCatalogue].
	NoCatalogue bool
}

// Meta is the metadata of one store. It must be the only one that changes it.
type Meta struct {
	backend   storage.Backend
	log       *slog.Logger
	budget    int64
	catalogue *catalogue

	mu     sync.Mutex
	repos  map[string]*repo
	recent *list.List // Of *repo that nobody holds, most recently used first.
	used   int64      // The cost of what is in recent.

	locks Locks // See Repo.Pin.

	unsynced unsynced
	traces   traces
	families families
}

// Tag is where a tag points and since when.
type Tag struct {
	Digest oci.Digest
	Moved  time.Time
}

// Manifest is what is remembered of a manifest: what it is and what it names.
type Manifest struct {
	Content     oci.Digest // Its bytes are under BlobKey(Content).
	Size        int64
	MediaType   string
	Names       []oci.Digest // Config, layers, children; each once.
	Subject     oci.Digest
	Artifact    string
	Annotations map[string]string // Only if there is a Subject.

	// MoreAnnotations says that there are too many to be remembered; they are
	// to be read from the manifest.
	MoreAnnotations bool
}

// repo is what is remembered of one repository.
type repo struct {
	name    string
	holders int           // Guarded by Meta.mu.
	recent  *list.Element // Guarded by Meta.mu.
	cost    int64         // Counted in Meta.used. Guarded by Meta.mu.

	life      sync.RWMutex // Shared by those who use the repository, alone for its removal.
	presence  sync.Mutex   // Held while its entry in the catalogue is decided.
	tags      *facet[string, Tag]
	blobs     *facet[oci.Digest, oci.Digest]
	manifests *facet[oci.Digest, Manifest]
}

// New returns the metadata of the store in b, or [ErrForeign] if its links
// are not its truth. It begins to read the catalogue in the background, until
// ctx is done.
func New(ctx context.Context, b storage.Backend, o Options) (*Meta, error) {
	switch _, err := b.Stat(ctx, databaseInUse); {
	case err == nil:
		return nil, ErrForeign
	case !errors.Is(err, fs.ErrNotExist):
		return nil, err
	}
	m := &Meta{backend: b, log: o.Log, budget: o.Budget, repos: map[string]*repo{}, recent: list.New()}
	if m.log == nil {
		m.log = slog.New(slog.DiscardHandler)
	}
	if m.budget == 0 {
		m.budget = 32 << 20
	}
	m.catalogue = newCatalogue()
	if o.NoCatalogue {
		m.catalogue.err = ErrNoCatalogue
		close(m.catalogue.ready)
	} else {
		go m.catalogue.fill(ctx, m)
	}
	return m, nil
}

// Repo is a repository in use: it is not removed while it is open.
type Repo struct {
	m     *Meta
	r     *repo
	alone bool
}

// Open opens a repository, whether it exists or not. The caller closes it and
// opens no other one meanwhile.
func (m *Meta) Open(name string) *Repo {
	r := m.hold(name)
	r.life.RLock()
	return &Repo{m: m, r: r}
}

// Close gives the repository back.
func (h *Repo) Close() {
	if h.alone {
		h.r.life.Unlock()
	} else {
		h.r.life.RUnlock()
	}
	h.m.release(h.r)
}

// Name is the name of the repository.
func (h *Repo) Name() string { return h.r.name }

// Pin keeps changed from being read or changed, and named from being removed,
// by others who pin them in this repository. A push pins the manifest alone
// and shares what it names; a removal pins what goes.
func (h *Repo) Pin(changed oci.Digest, named []oci.Digest) (release func()) {
	shared := make([]string, len(named))
	for i, d := range named {
		shared[i] = h.r.name + "@" + string(d)
	}
	return h.m.locks.Hold([]string{h.r.name + "@" + string(changed)}, shared)
}

// Exists tells whether the repository has a manifest or a blob.
func (h *Repo) Exists(ctx context.Context) (bool, error) {
	if h.m.catalogue.has(h.r.name) {
		return true, nil
	}
	if has, err := h.m.hasLink(ctx, revisionDir(h.r.name)); err != nil || has {
		return has, err
	}
	return h.m.hasLink(ctx, layerDir(h.r.name))
}

func (m *Meta) hold(name string) *repo {
	m.mu.Lock()
	defer m.mu.Unlock()
	r := m.repos[name]
	if r == nil {
		r = &repo{
			name:      name,
			tags:      newFacet(func(tag string, _ Tag) int64 { return int64(len(tag)) + 200 }),
			blobs:     newFacet(func(d, _ oci.Digest) int64 { return int64(len(d)) + 100 }),
			manifests: newFacet(func(_ oci.Digest, f Manifest) int64 { return f.cost() }),
		}
		m.repos[name] = r
	}
	if r.recent != nil {
		m.recent.Remove(r.recent)
		m.used -= r.cost
		r.recent = nil
	}
	r.holders++
	return r
}

func (m *Meta) release(r *repo) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if r.holders--; r.holders > 0 {
		return
	}
	if r.cost = r.tags.size() + r.blobs.size() + r.manifests.size(); r.cost == 0 {
		delete(m.repos, r.name)
		return
	}
	// The last one stays whatever it costs: the next page of its tags is asked
	// for in a moment, and must not read them all again.
	r.recent = m.recent.PushFront(r)
	for m.used += r.cost; m.used > max(m.budget, 0) && (m.recent.Len() > 1 || m.budget < 0); {
		oldest := m.recent.Remove(m.recent.Back()).(*repo)
		m.used -= oldest.cost
		delete(m.repos, oldest.name)
	}
}

func (f Manifest) cost() int64 {
	n := 400 + len(f.Content) + len(f.Artifact) + 32*len(f.Names)
	for k, v := range f.Annotations {
		n += len(k) + len(v) + 64
	}
	return int64(n)
}

// Remove removes a repository with everything in it; repositories below its
// name stay. It is gone once its directories were renamed aside; they are
// emptied while others may use the name again. What a crash leaves of them
// goes at the next start. False: there is no such repository.
func (m *Meta) Remove(ctx context.Context, name string) (bool, error) {
	aside, found, err := m.detach(ctx, name)
	for _, dir := range aside {
		if err := m.removeTree(ctx, dir); err != nil {
			m.log.Warn("part of a removed repository stays until the next start", "dir", dir, "error", err)
		}
	}
	if err != nil {
		return found, fmt.Errorf("remove repository %s: %w", name, err)
	}
	if found {
		m.removeEmpty(ctx, repoDir(name))
	}
	return found, nil
}

// detach makes a repository go while nobody uses it, and returns the
// directories that are to be emptied.
func (m *Meta) detach(ctx context.Context, name string) (aside []string, found bool, err error) {
	r := m.hold(name)
	r.life.Lock()
	h := &Repo{m: m, r: r, alone: true}
	defer h.Close()
	if found, err := h.Exists(ctx); err != nil || !found {
		return nil, false, err
	}
	aside, err = m.setAside(ctx, name)
	r.tags.reset()
	r.blobs.reset()
	r.manifests.reset()
	h.checkPresence(ctx) // Also after an error: part of it may have gone.
	if err != nil {
		return aside, true, err
	}
	return aside, true, m.removeUploads(ctx, name)
}

// removeUploads removes the unfinished uploads of a repository.
func (m *Meta) removeUploads(ctx context.Context, repo string) error {
	for e, err := range m.backend.List(ctx, uploadsDir) {
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err == nil && strings.HasPrefix(e.Name, uploadPrefix(repo)) {
			err = m.backend.Remove(ctx, path.Join(uploadsDir, e.Name))
		}
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("remove the uploads of %s: %w", repo, err)
		}
	}
	return nil
}

// setAside renames the directories of a repository so that it is gone, its
// manifests first, and returns where they are now.
func (m *Meta) setAside(ctx context.Context, name string) (aside []string, err error) {
	for _, part := range []string{manifests, layers, uploads} {
		from := path.Join(repoDir(name), part)
		to := from + "." + rand.Text() + deleted
		switch err := m.backend.Rename(ctx, from, to); {
		case errors.Is(err, fs.ErrNotExist):
			continue
		case err != nil:
			return aside, err
		}
		aside = append(aside, to)
		if err := storage.Sync(ctx, m.backend, repoDir(name)); err != nil {
			return aside, err
		}
	}
	return aside, nil
}
