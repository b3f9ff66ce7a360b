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
		for tag, err := range s.Tags(ctx, repo, after) {
			var t oci.TagDetail
			if err == nil {
				t, err = s.tagDetail(ctx, repo, tag)
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

func (s *Store) tagDetail(ctx context.Context, repo, tag string) (oci.TagDetail, error) {
	r := s.meta.Open(repo)
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
	d, err := s.detail(ctx, r, t.Digest, f, 0)
	return oci.TagDetail{
		Tag: tag, Manifest: describe(t.Digest, f), Pushed: t.Moved,
		Size: d.size, Created: d.created, Platforms: d.platforms,
	}, translate(err, oci.Unknown, "describe "+repo+":"+tag)
}

// maxDepth bounds indexes within indexes.
const maxDepth = 8

// detail describes a manifest of an open repository. What is sparse or cannot
// be read adds nothing; only what is whole is remembered.
func (s *Store) detail(ctx context.Context, r *meta.Repo, d oci.Digest, f meta.Manifest, depth int) (detail, error) {
	if known, ok := s.details.Get(d); ok {
		return known, nil
	}
	raw, err := s.body(ctx, f.Content)
	if err != nil {
		return detail{}, err
	}
	g, err := oci.ParseManifest("", raw)
	if err != nil || depth > maxDepth {
		return detail{size: f.Size}, nil
	}
	if !g.IsIndex() {
		t := s.imageDetail(ctx, g)
		t.size += f.Size
		s.details.Add(d, t)
		return t, nil
	}
	return s.indexDetail(ctx, r, d, f, g, depth)
}

func (s *Store) indexDetail(ctx context.Context, r *meta.Repo, d oci.Digest, f meta.Manifest, g *oci.Graph, depth int) (detail, error) {
	sum, whole := detail{size: f.Size}, true
	for _, child := range g.Manifests {
		cf, err := r.Manifest(ctx, child.Digest)
		if errors.Is(err, fs.ErrNotExist) {
			whole = false
			continue
		}
		if err != nil {
			return detail{}, err
		}
		t, err := s.detail(ctx, r, child.Digest, cf, depth+1)
		if err != nil {
			return detail{}, err
		}
		sum.size += t.size
		if t.created.After(sum.created) {
			sum.created = t.created
		}
		if p := child.Platform; p != nil && p.OS != "" && p.OS != "unknown" {
			sum.platforms = append(sum.platforms, *p)
		} else if p == nil {
			sum.platforms = append(sum.platforms, t.platforms...)
		}
	}
	if whole {
		s.details.Add(d, sum)
	}
	return sum, nil
}

// imageDetail adds up an image. Its config tells when and for what it was made.
func (s *Store) imageDetail(ctx context.Context, g *oci.Graph) detail {
	t := detail{size: g.Config.Size}
	for _, l := range g.Layers {
		t.size += l.Size
	}
	var config struct {
		oci.Platform
		Created *time.Time `json:"created"`
	}
	raw, _, err := storage.Get(ctx, s.backend, meta.BlobKey(g.Config.Digest), maxConfig)
	if err != nil || json.Unmarshal(raw, &config) != nil {
		return t // An artifact, or nothing that could be told.
	}
	if config.Created != nil {
		t.created = *config.Created
	}
	if config.OS != "" {
		t.platforms = []oci.Platform{config.Platform}
	}
	return t
}
