package meta

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"unique"

	"golang.org/x/sync/errgroup"

	"github.com/regctl/regctl/client/oci"
	"github.com/regctl/regctl/serve/storage"
)

// Blob returns the digest under which the bytes of a blob of the repository
// are kept, fs.ErrNotExist if it is not a member. Whether the bytes are there
// is for the caller to see.
func (h *Repo) Blob(ctx context.Context, d oci.Digest) (oci.Digest, error) {
	content, ok, err := h.r.blobs.get(d, h.blobLoader(ctx, d))
	if err == nil && !ok {
		err = fs.ErrNotExist
	}
	return content, err
}

// AddBlob makes a blob a member of the repository, and what was written to
// data its bytes; without data they are there already. data has ended when
// AddBlob returns.
func (h *Repo) AddBlob(ctx context.Context, d oci.Digest, data storage.Writer) error {
	return h.r.blobs.change(d, h.blobLoader(ctx, d), func(old oci.Digest, had bool) (oci.Digest, bool, error) {
		return d, true, h.m.commit(ctx, d, data, layerLink(h.r.name, d), had && old == d, nil)
	})
}

// commit makes what was written to data, if any, the bytes of d, and links
// them unless they are linked. Meanwhile it gets as far with moves as they can
// get before there is a manifest.
func (m *Meta) commit(ctx context.Context, d oci.Digest, data storage.Writer, link string, linked bool, moves []*Move) error {
	var batch []storage.Pending
	if data != nil {
		batch = append(batch, storage.Pending{Writer: data, To: BlobKey(d)})
	}
	var err error
	if !linked {
		var p storage.Pending
		if p, err = storage.Prepare(ctx, m.backend, link, []byte(d)); err == nil {
			batch = append(batch, p)
		}
	}
	for i := 0; err == nil && i < len(moves); i++ {
		var history []storage.Pending
		if history, err = moves[i].history(ctx); err == nil {
			batch = append(batch, history...)
		}
	}
	if err != nil {
		for _, p := range batch {
			err = errors.Join(err, p.Writer.Cancel())
		}
		return err
	}
	var group errgroup.Group
	for _, v := range moves {
		group.Go(v.now.Sync)
	}
	group.Go(func() error { return storage.CommitAll(ctx, m.backend, batch...) })
	return group.Wait()
}

// RemoveBlob ends the membership of a blob, fs.ErrNotExist if there is none.
func (h *Repo) RemoveBlob(ctx context.Context, d oci.Digest) error {
	return h.r.blobs.change(d, h.blobLoader(ctx, d), func(_ oci.Digest, had bool) (oci.Digest, bool, error) {
		if !had {
			return "", false, fs.ErrNotExist
		}
		return "", false, h.m.removeLink(ctx, layerLink(h.r.name, d))
	})
}

func (h *Repo) blobLoader(ctx context.Context, d oci.Digest) loader[oci.Digest] {
	return func() (oci.Digest, bool, error) {
		content, _, err := h.m.readLink(ctx, layerLink(h.r.name, d))
		if err != nil && h.m.absent(err) {
			return "", false, nil
		}
		return content, err == nil, err
	}
}

// Manifest returns what is known of a manifest of the repository,
// fs.ErrNotExist if it is not a member or its bytes are missing.
func (h *Repo) Manifest(ctx context.Context, d oci.Digest) (Manifest, error) {
	f, ok, err := h.r.manifests.get(d, h.manifestLoader(ctx, d))
	if err == nil && !ok {
		err = fs.ErrNotExist
	}
	return f, err
}

// AddManifest makes a manifest a member of the repository, and what was
// written to data its bytes; without data they are there already. data has
// ended when AddManifest returns. Moves that are to be committed next wait for
// the device meanwhile, and not again.
func (h *Repo) AddManifest(ctx context.Context, d oci.Digest, f Manifest, data storage.Writer, moves ...*Move) error {
	err := h.r.manifests.change(d, h.manifestLoader(ctx, d), func(old Manifest, had bool) (Manifest, bool, error) {
		return f, true, h.m.commit(ctx, d, data, revisionLink(h.r.name, d), had && old.Content == f.Content, moves)
	})
	if err != nil {
		return err
	}
	h.r.presence.Lock()
	defer h.r.presence.Unlock()
	h.m.catalogue.set(h.r.name, true)
	return nil
}

// RemoveManifest ends the membership of a manifest, fs.ErrNotExist if there
// is none. A repository without manifests leaves the catalogue.
func (h *Repo) RemoveManifest(ctx context.Context, d oci.Digest) error {
	err := h.r.manifests.change(d, h.manifestLoader(ctx, d), func(_ Manifest, had bool) (Manifest, bool, error) {
		if !had {
			return Manifest{}, false, fs.ErrNotExist
		}
		return Manifest{}, false, h.m.removeLink(ctx, revisionLink(h.r.name, d))
	})
	if err != nil {
		return err
	}
	h.checkPresence(ctx)
	return nil
}

// checkPresence takes the repository out of the catalogue if it has no
// manifest any more.
func (h *Repo) checkPresence(ctx context.Context) {
	h.r.presence.Lock()
	defer h.r.presence.Unlock()
	empty, sure := h.r.manifests.isEmpty()
	if !sure {
		has, err := h.m.hasManifest(ctx, h.r.name)
		empty = err == nil && !has
	}
	if empty {
		h.m.catalogue.set(h.r.name, false)
	}
}

// Namers returns the manifests of the repository that name d as config, layer
// or child, in order. A manifest that cannot be read is an error: it may be
// one of them.
func (h *Repo) Namers(ctx context.Context, d oci.Digest) ([]oci.Digest, error) {
	if err := h.loadManifests(ctx); err != nil {
		return nil, err
	}
	for _, doubt := range h.r.manifests.doubts() {
		if _, err := h.Manifest(ctx, doubt); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
	}
	return h.manifestsWhere(func(f Manifest) bool { return slices.Contains(f.Names, d) }), nil
}

// Referrers returns the manifests of the repository whose subject is d, in
// order.
func (h *Repo) Referrers(ctx context.Context, d oci.Digest) ([]oci.Digest, error) {
	if err := h.loadManifests(ctx); err != nil {
		return nil, err
	}
	for _, doubt := range h.r.manifests.doubts() {
		_, _ = h.Manifest(ctx, doubt) // Perhaps it has been healed. If not, it was reported.
	}
	return h.manifestsWhere(func(f Manifest) bool { return f.Subject == d }), nil
}

func (h *Repo) manifestsWhere(is func(Manifest) bool) []oci.Digest {
	var found []oci.Digest
	h.r.manifests.each(func(d oci.Digest, f Manifest) {
		if is(f) {
			found = append(found, d)
		}
	})
	slices.Sort(found)
	return found
}

func (h *Repo) loadManifests(ctx context.Context) error {
	return h.r.manifests.all(func() (map[oci.Digest]Manifest, []oci.Digest, error) {
		var digests []oci.Digest
		err := h.m.linked(ctx, revisionDir(h.r.name), func(d oci.Digest) error {
			digests = append(digests, d)
			return nil
		})
		if err != nil {
			return nil, nil, err
		}
		return readAll(ctx, h.m.log, digests, func(d oci.Digest) loader[Manifest] { return h.manifestLoader(ctx, d) })
	})
}

func (h *Repo) manifestLoader(ctx context.Context, d oci.Digest) loader[Manifest] {
	return func() (Manifest, bool, error) {
		f, err := h.readManifest(ctx, d)
		if err != nil && h.m.absent(err) {
			return Manifest{}, false, nil
		}
		return f, err == nil, err
	}
}

func (h *Repo) readManifest(ctx context.Context, d oci.Digest) (Manifest, error) {
	content, _, err := h.m.readLink(ctx, revisionLink(h.r.name, d))
	if err != nil {
		return Manifest{}, err
	}
	raw, _, err := storage.Get(ctx, h.m.backend, BlobKey(content), oci.MaxManifest)
	if errors.Is(err, fs.ErrNotExist) {
		return Manifest{}, fmt.Errorf("manifest %s of %s: %w: its data is missing", d, h.r.name, ErrDamaged)
	}
	if err != nil {
		return Manifest{}, err
	}
	return h.describe(d, content, raw)
}

// describe tells what raw is. What no push would be allowed to bring in today
// is still served as long as it has a type, and keeps all that it may name.
func (h *Repo) describe(d, content oci.Digest, raw []byte) (Manifest, error) {
	g, err := oci.ParseManifest("", raw)
	if err == nil {
		return Describe(content, raw, g), nil
	}
	if t := oci.MediaTypeOf(raw); t != "" {
		return Manifest{Content: content, Size: int64(len(raw)), MediaType: t, Names: oci.DigestsIn(raw)}, nil
	}
	return Manifest{}, fmt.Errorf("manifest %s of %s: %w: %w", d, h.r.name, ErrDamaged, err)
}

// maxAnnotations bounds what is remembered of the annotations of a referrer,
// in bytes.
const maxAnnotations = 4 << 10

// Describe returns what is remembered of a manifest with these bytes, kept
// under content.
func Describe(content oci.Digest, raw []byte, g *oci.Graph) Manifest {
	f := Manifest{
		Content: content, Size: int64(len(raw)), MediaType: g.MediaType,
		Names: g.Digests(), Artifact: g.ArtifactType,
	}
	for i, d := range f.Names { // Many manifests name the same layers.
		f.Names[i] = unique.Make(d).Value()
	}
	if g.Subject == nil {
		return f
	}
	f.Subject = g.Subject.Digest
	f.Annotations = g.Annotations
	if len(raw) > maxAnnotations && sizeOf(g.Annotations) > maxAnnotations {
		f.Annotations, f.MoreAnnotations = nil, true
	}
	return f
}

func sizeOf(annotations map[string]string) (n int) {
	for k, v := range annotations {
		n += len(k) + len(v)
	}
	return n
}
