package store

import (
	"context"
	"encoding/json"
	"errors"
	"io/fs"
	"iter"
	"time"

	"github.com/regctl/regctl/client/oci"
	"github.com/regctl/regctl/serve/meta"
	"github.com/regctl/regctl/serve/storage"
)

// maxConfig bounds the image configs that are read for their date.
const maxConfig = 1 << 20

// detail is what can be told of a manifest for good.
type detail struct {
	size      int64
	created   time.Time
	platforms []oci.Platform
}

// TagDetails implements [oci.Lister].
func (s *Store) TagDetails(ctx context.Context, repo, after string) iter.Seq2[oci.TagDetail, error] {
	return func(yield func(oci.TagDetail, error) bool) {
		l := detailList{s: s, repo: repo, partial: map[oci.Digest]detail{}}
		for tag, err := range s.Tags(ctx, repo, after) {
			var t oci.TagDetail
			if err == nil {
				t, err = l.tag(ctx, tag)
			}
			if errors.Is(err, oci.ManifestUnknown) {
				continue // Removed meanwhile.
			}
			if !yield(t, err) || err != nil {
				return
			}
		}
	}
}

// detailList describes the tags of one listing.
type detailList struct {
	s       *Store
	repo    string
	partial map[oci.Digest]detail // Of what is not whole. The next listing looks again.
}

func (l *detailList) tag(ctx context.Context, tag string) (oci.TagDetail, error) {
	if err := ctx.Err(); err != nil { // What is in memory does not ask for it.
		return oci.TagDetail{}, err
	}
	repo := l.repo
	r := l.s.meta.Open(repo)
	defer r.Close()
	t, err := r.Tag(ctx, tag)
	if err != nil {
		return oci.TagDetail{}, translate(err, oci.ManifestUnknown, repo+":"+tag)
	}
	f, err := r.Manifest(ctx, t.Digest)
	if errors.Is(err, fs.ErrNotExist) { // A dangling tag is still a tag.
		return oci.TagDetail{Tag: tag, Manifest: oci.Descriptor{Digest: t.Digest}, Pushed: t.Moved}, nil
	}
	if err != nil {
		return oci.TagDetail{}, translate(err, oci.ManifestUnknown, repo+":"+tag)
	}
	d, err := l.detail(ctx, r, t.Digest, f)
	return oci.TagDetail{
		Tag: tag, Manifest: describe(t.Digest, f), Pushed: t.Moved,
		Size: d.size, Created: d.created, Platforms: d.platforms,
	}, translate(err, oci.Unknown, "describe "+repo+":"+tag)
}

// maxDepth bounds indexes within indexes.
const maxDepth = 8

// detail describes a manifest of an open repository. Only what is whole is
// remembered beyond the listing.
func (l *detailList) detail(ctx context.Context, r *meta.Repo, d oci.Digest, f meta.Manifest) (detail, error) {
	if known, ok := l.s.details.Get(d); ok {
		return known, nil
	}
	if known, ok := l.partial[d]; ok {
		return known, nil
	}
	w := detailWalk{s: l.s, r: r, seen: map[oci.Digest]bool{}, whole: true}
	err := w.manifest(ctx, d, f, 0)
	switch {
	case err != nil:
	case w.whole:
		l.s.details.Add(d, w.sum)
	default:
		l.partial[d] = w.sum
	}
	return w.sum, err
}

// detailWalk adds up a manifest with all it names, each digest once.
type detailWalk struct {
	s     *Store
	r     *meta.Repo
	seen  map[oci.Digest]bool
	sum   detail
	whole bool // Nothing was missing.
}

func (w *detailWalk) add(d oci.Digest, size int64) {
	if !w.seen[d] {
		w.seen[d] = true
		w.sum.size += size
	}
}

func (w *detailWalk) manifest(ctx context.Context, d oci.Digest, f meta.Manifest, depth int) error {
	w.add(d, f.Size)
	raw, err := w.s.body(ctx, f.Content)
	if err != nil {
		return err
	}
	g, err := oci.ParseManifest("", raw)
	if err != nil || depth > maxDepth {
		return nil
	}
	if !g.IsIndex() {
		w.image(ctx, g)
		return nil
	}
	for _, child := range g.Manifests {
		if err := ctx.Err(); err != nil {
			return err
		}
		if w.seen[child.Digest] {
			continue
		}
		cf, err := w.r.Manifest(ctx, child.Digest)
		switch {
		case errors.Is(err, fs.ErrNotExist):
			w.whole = false
			continue
		case err != nil:
			return err
		}
		if err := w.manifest(ctx, child.Digest, cf, depth+1); err != nil {
			return err
		}
	}
	return nil
}

// image adds an image. Its config tells when and for what it was made; that of
// an artifact or an attestation tells nothing.
func (w *detailWalk) image(ctx context.Context, g *oci.Graph) {
	w.add(g.Config.Digest, g.Config.Size)
	for _, l := range g.Layers {
		w.add(l.Digest, l.Size)
	}
	var config struct {
		oci.Platform
		Created time.Time `json:"created"`
	}
	raw, err := w.config(ctx, g.Config.Digest)
	if err != nil {
		w.whole = w.whole && errors.Is(err, storage.ErrTooLarge)
		return
	}
	if json.Unmarshal(raw, &config) != nil {
		return
	}
	if config.Created.After(w.sum.created) {
		w.sum.created = config.Created
	}
	if config.OS != "" && config.OS != "unknown" {
		w.sum.platforms = append(w.sum.platforms, config.Platform)
	}
}

// config reads a config that is a member of the repository: a sparse image may
// name one that is only in others.
func (w *detailWalk) config(ctx context.Context, d oci.Digest) ([]byte, error) {
	content, err := w.r.Blob(ctx, d)
	if err != nil {
		return nil, err
	}
	raw, _, err := storage.Get(ctx, w.s.backend, meta.BlobKey(content), maxConfig)
	return raw, err
}
