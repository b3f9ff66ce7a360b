package layout

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"iter"
	"maps"
	"slices"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/regctl/regctl/client/oci"
)

const maxConfig = 8 << 20 // Bytes of the config of an image that are read.

// Image is an entry of index.json.
type Image struct {
	Name       Name
	Descriptor oci.Descriptor // As the entry has it.
}

// Images lists the entries of index.json in their order.
func (r *reader) Images() ([]Image, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	v, err := r.view()
	if err != nil {
		return nil, err
	}
	images := make([]Image, 0, len(v.index.Manifests))
	for _, entry := range v.index.Manifests {
		images = append(images, Image{nameOf(entry), entry})
	}
	return images, nil
}

// Repos is that of [oci.Lister].
func (r *reader) Repos(_ context.Context, after string) iter.Seq2[string, error] {
	return list(func() ([]string, error) {
		r.mu.Lock()
		defer r.mu.Unlock()
		v, err := r.view()
		if err != nil {
			return nil, err
		}
		return following(maps.Keys(v.repos), after), nil
	})
}

func following(names iter.Seq[string], after string) []string {
	return slices.DeleteFunc(slices.Sorted(names), func(name string) bool { return name <= after })
}

// Tags is that of [oci.Lister].
func (r *reader) Tags(_ context.Context, repo, after string) iter.Seq2[string, error] {
	return list(func() ([]string, error) {
		r.mu.Lock()
		defer r.mu.Unlock()
		m, err := r.tagged(repo)
		if err != nil {
			return nil, err
		}
		return following(maps.Keys(m.tags), after), nil
	})
}

// tagged returns a repository as far as its tags go. The caller holds r.mu.
func (r *reader) tagged(repo string) (*members, error) {
	if err := oci.CheckRepo(repo); err != nil {
		return nil, err
	}
	v, err := r.view()
	if err != nil {
		return nil, err
	}
	switch m := v.repos[repo]; {
	case m != nil:
		return m, nil
	case len(r.pushed[repo]) > 0:
		return &members{}, nil
	}
	return nil, unknownRepo(repo)
}

func unknownRepo(repo string) error { return oci.Errorf(oci.NameUnknown, "no repository %s", repo) }

// TagDetails is that of [oci.Lister]. Pushed is when the manifest was stored.
func (r *reader) TagDetails(_ context.Context, repo, after string) iter.Seq2[oci.TagDetail, error] {
	return list(func() ([]oci.TagDetail, error) {
		r.mu.Lock()
		defer r.mu.Unlock()
		m, err := r.tagged(repo)
		if err != nil {
			return nil, err
		}
		var details []oci.TagDetail
		for _, tag := range following(maps.Keys(m.tags), after) {
			detail := oci.TagDetail{Tag: tag, Manifest: plain(m.tags[tag])}
			if n := r.known[detail.Manifest.Digest]; n != nil {
				detail.Pushed = n.stored
			}
			if err := r.describe(&detail, detail.Manifest, map[oci.Digest]bool{}); err != nil {
				return details, err
			}
			if n := r.known[detail.Manifest.Digest]; n != nil {
				detail.Manifest, detail.Pushed = n.desc, n.stored
			}
			details = append(details, detail)
		}
		return details, nil
	})
}

func plain(d oci.Descriptor) oci.Descriptor {
	return oci.Descriptor{MediaType: d.MediaType, Digest: d.Digest, Size: d.Size}
}

// describe adds to detail what a manifest and all below it tell, each once.
// What is missing adds nothing.
func (r *reader) describe(detail *oci.TagDetail, d oci.Descriptor, seen map[oci.Digest]bool) error {
	if seen[d.Digest] {
		return nil
	}
	seen[d.Digest] = true
	n, err := r.node(d.Digest)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	detail.Size += n.desc.Size
	for _, child := range n.children {
		if err := r.describe(detail, child, seen); err != nil {
			return err
		}
	}
	if n.graph.IsIndex() || n.graph.Config.Digest == "" {
		return nil
	}
	for _, b := range append([]oci.Descriptor{n.graph.Config}, n.graph.Layers...) {
		if !seen[b.Digest] {
			seen[b.Digest] = true
			detail.Size += b.Size
		}
	}
	r.addConfig(detail, n, d.Platform)
	return nil
}

// addConfig adds when an image was built and what it runs on; BuildKit's
// attestations run on "unknown".
func (r *reader) addConfig(detail *oci.TagDetail, n *node, platform *oci.Platform) {
	if !n.read {
		n.read = true
		n.config = r.config(n.graph.Config.Digest)
	}
	if n.config.Created.After(detail.Created) {
		detail.Created = n.config.Created
	}
	platforms := n.config.Platforms
	if platform != nil {
		platforms = []oci.Platform{*platform}
	}
	for _, p := range platforms {
		if p.OS != "" && p.OS != "unknown" {
			detail.Platforms = append(detail.Platforms, p)
		}
	}
}

// config reads the config of an image; what is no such tells nothing.
func (r *reader) config(d oci.Digest) oci.TagDetail {
	c, err := r.pool.open(d)
	if err != nil {
		return oci.TagDetail{}
	}
	defer c.Close()
	var image ocispec.Image
	raw, err := io.ReadAll(io.LimitReader(c, maxConfig))
	if err != nil || json.Unmarshal(raw, &image) != nil {
		return oci.TagDetail{}
	}
	detail := oci.TagDetail{Platforms: []oci.Platform{image.Platform}}
	if image.Created != nil {
		detail.Created = *image.Created
	}
	return detail
}

// Referrers is that of [oci.Lister].
func (r *reader) Referrers(_ context.Context, repo string, d oci.Digest, artifactType string) iter.Seq2[oci.Descriptor, error] {
	return list(func() ([]oci.Descriptor, error) {
		if err := first(oci.CheckRepo(repo), checkDigest(d)); err != nil {
			return nil, err
		}
		r.mu.Lock()
		defer r.mu.Unlock()
		v, err := r.view()
		if err != nil {
			return nil, err
		}
		m, err := r.close(v, repo)
		if err != nil || m == nil {
			return nil, err
		}
		return m.referrers(d, artifactType), nil
	})
}

func (m *members) referrers(d oci.Digest, artifactType string) []oci.Descriptor {
	var found []oci.Descriptor
	for _, n := range m.manifests {
		g := n.graph
		if g.Subject == nil || g.Subject.Digest != d || artifactType != "" && artifactType != g.ArtifactType {
			continue
		}
		desc := n.desc
		desc.ArtifactType, desc.Annotations = g.ArtifactType, maps.Clone(g.Annotations)
		found = append(found, desc)
	}
	slices.SortFunc(found, func(a, b oci.Descriptor) int { return cmp.Compare(a.Digest, b.Digest) })
	return found
}

// list returns a sequence of what all returns once somebody asks.
func list[T any](all func() ([]T, error)) iter.Seq2[T, error] {
	return func(yield func(T, error) bool) {
		items, err := all()
		for _, item := range items {
			if !yield(item, nil) {
				return
			}
		}
		if err != nil {
			var none T
			yield(none, err)
		}
	}
}
