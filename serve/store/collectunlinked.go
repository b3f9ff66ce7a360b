package store

import (
	"context"
	"errors"
	"io/fs"
	"slices"
	"strings"

	"github.com/regctl/regctl/client/oci"
	"github.com/regctl/regctl/gc"
	"github.com/regctl/regctl/serve/meta"
	"github.com/regctl/regctl/serve/storage"
)

// unlinked looks for manifests that a repository has lost the links of: tags
// and indexes name them, and their bytes are there. To link them again is all
// it takes to heal that, so what they name is kept as if they were linked.
type unlinked struct {
	c     *collection
	scan  *meta.RepoScan
	r     *gc.Repository
	seen  map[oci.Digest]struct{}
	queue []oci.Digest
}

// addUnlinked adds them. It is called once tags and manifests are known.
func (c *collection) addUnlinked(ctx context.Context, r *gc.Repository, scan *meta.RepoScan) {
	u := &unlinked{c: c, scan: scan, r: r, seen: map[oci.Digest]struct{}{}}
	for _, t := range r.Tags {
		u.look(t.Digest)
	}
	for _, f := range scan.Manifests {
		if !isImage(f.MediaType) {
			u.look(f.Names...)
		}
	}
	for len(u.queue) > 0 && ctx.Err() == nil {
		d := u.queue[0]
		u.queue = u.queue[1:]
		u.add(ctx, d)
	}
}

// isImage tells whether what a manifest of that type names are blobs.
func isImage(mediaType string) bool {
	return mediaType == oci.MediaTypeManifest || mediaType == oci.MediaTypeDockerManifest
}

// look queues those that the repository has no link of.
func (u *unlinked) look(names ...oci.Digest) {
	for _, d := range names {
		if _, err := oci.ParseDigest(string(d)); err != nil || u.isLinked(d) {
			continue
		}
		if _, ok := u.seen[d]; !ok {
			u.seen[d] = struct{}{}
			u.queue = append(u.queue, d)
		}
	}
}

func (u *unlinked) isLinked(d oci.Digest) bool {
	_, manifest := slices.BinarySearchFunc(u.scan.Manifests, d, func(f meta.ManifestScan, d oci.Digest) int {
		return strings.Compare(string(f.Digest), string(d))
	})
	_, blob := slices.BinarySearchFunc(u.scan.Blobs, d, func(b meta.BlobScan, d oci.Digest) int {
		return strings.Compare(string(b.Digest), string(d))
	})
	return manifest || blob
}

// add adds d if it is a manifest.
func (u *unlinked) add(ctx context.Context, d oci.Digest) {
	raw, _, err := storage.Get(ctx, u.c.s.backend, meta.BlobKey(d), oci.MaxManifest)
	switch {
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, storage.ErrTooLarge), errors.Is(err, fs.ErrInvalid):
		return
	case err != nil:
		u.r.Doubts = append(u.r.Doubts, gc.Doubt{What: "manifest without a link " + string(d), Err: err, AnyData: true})
		return
	}
	mediaType, names := oci.MediaTypeOf(raw), oci.DigestsIn(raw)
	if mediaType == "" {
		return
	}
	if g, err := oci.ParseManifest("", raw); err == nil {
		names = g.Digests()
	}
	u.r.Unlinked = append(u.r.Unlinked, gc.Manifest{Digest: d, Content: d, Names: names})
	if !isImage(mediaType) {
		u.look(names...)
	}
}
