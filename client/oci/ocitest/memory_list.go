package ocitest

import (
	"context"
	"encoding/json"
	"iter"
	"maps"
	"slices"
	"time"

	"github.com/regctl/regctl/client/oci"
)

func (m *memory) Repos(_ context.Context, after string) iter.Seq2[string, error] {
	return list(func() ([]string, error) {
		m.mu.Lock()
		defer m.mu.Unlock()
		var names []string
		for name, r := range m.repos {
			if len(r.manifests) > 0 && name > after {
				names = append(names, name)
			}
		}
		slices.Sort(names)
		return names, nil
	})
}

func (m *memory) Tags(ctx context.Context, repo, after string) iter.Seq2[string, error] {
	return list(func() ([]string, error) {
		if err := oci.CheckRepo(repo); err != nil {
			return nil, err
		}
		m.mu.Lock()
		defer m.mu.Unlock()
		r := m.repo(repo)
		if !r.exists() {
			return nil, oci.Errorf(oci.NameUnknown, "no repository %s", repo)
		}
		return r.tagsAfter(after), nil
	})
}

func (r *memoryRepo) tagsAfter(after string) []string {
	return slices.DeleteFunc(slices.Sorted(maps.Keys(r.tags)), func(tag string) bool { return tag <= after })
}

func (m *memory) TagDetails(ctx context.Context, repo, after string) iter.Seq2[oci.TagDetail, error] {
	return list(func() ([]oci.TagDetail, error) {
		if err := oci.CheckRepo(repo); err != nil {
			return nil, err
		}
		m.mu.Lock()
		defer m.mu.Unlock()
		r := m.repo(repo)
		if !r.exists() {
			return nil, oci.Errorf(oci.NameUnknown, "no repository %s", repo)
		}
		var details []oci.TagDetail
		for _, tag := range r.tagsAfter(after) {
			details = append(details, r.detail(tag))
		}
		return details, nil
	})
}

func (r *memoryRepo) detail(tag string) oci.TagDetail {
	t := r.tags[tag]
	top := r.manifests[t.digest]
	detail := oci.TagDetail{Tag: tag, Manifest: top.Descriptor, Pushed: t.pushed}
	r.describe(&detail, top.Descriptor, map[oci.Digest]bool{})
	return detail
}

// describe adds to detail what is known of a manifest and of what it names,
// each once: what is shared moves once. The newest image tells when an index
// was built.
func (r *memoryRepo) describe(detail *oci.TagDetail, d oci.Descriptor, seen map[oci.Digest]bool) {
	found, ok := r.manifests[d.Digest]
	if !ok || seen[d.Digest] {
		return
	}
	seen[d.Digest] = true
	detail.Size += found.Descriptor.Size
	for _, child := range found.graph.Manifests {
		r.describe(detail, child, seen)
	}
	if found.graph.IsIndex() {
		return
	}
	for _, b := range append([]oci.Descriptor{found.graph.Config}, found.graph.Layers...) {
		if !seen[b.Digest] {
			seen[b.Digest] = true
			detail.Size += b.Size
		}
	}
	created, runsOn := readConfig(r.blobs[found.graph.Config.Digest])
	if created.After(detail.Created) {
		detail.Created = created
	}
	if d.Platform != nil {
		runsOn = *d.Platform
	}
	if runsOn.OS != "" && runsOn.OS != "unknown" { // BuildKit's attestations run on "unknown".
		detail.Platforms = append(detail.Platforms, runsOn)
	}
}

// readConfig returns what the config of an image tells; zero if it is no such.
func readConfig(data []byte) (created time.Time, runsOn oci.Platform) {
	var config struct {
		oci.Platform
		Created time.Time `json:"created"`
	}
	if json.Unmarshal(data, &config) != nil {
		return time.Time{}, oci.Platform{}
	}
	return config.Created, config.Platform
}

func (m *memory) Referrers(_ context.Context, repo string, d oci.Digest, artifactType string) iter.Seq2[oci.Descriptor, error] {
	return list(func() ([]oci.Descriptor, error) {
		if err := check(oci.CheckRepo(repo), checkDigest(d)); err != nil {
			return nil, err
		}
		m.mu.Lock()
		defer m.mu.Unlock()
		var found []oci.Descriptor
		r := m.repo(repo)
		for _, by := range slices.Sorted(maps.Keys(r.manifests)) {
			g := r.manifests[by].graph
			if g.Subject == nil || g.Subject.Digest != d || artifactType != "" && artifactType != g.ArtifactType {
				continue
			}
			desc := r.manifests[by].Descriptor
			desc.ArtifactType, desc.Annotations = g.ArtifactType, maps.Clone(g.Annotations)
			found = append(found, desc)
		}
		return found, nil
	})
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
