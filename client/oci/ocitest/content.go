package ocitest

import (
	"context"
	"encoding/json"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/regctl/regctl/client/oci"
)

// Content states what is in a registry: repositories by their names. Within
// it, blobs and manifests are called by names that the test chooses; a name
// stands for the same bytes in every repository that uses it.
//
//	digests := ocitest.Push(t, reg, ocitest.Content{"team/app": {
//		Blobs: ocitest.Blobs{"base": "bytes of a layer", "app": "more bytes"},
//		Manifests: ocitest.Manifests{
//			"amd64": {Layers: "base app", Platform: "linux/amd64"},
//			"arm64": {Layers: "base", Platform: "linux/arm64"},
//			"multi": {Manifests: "amd64 arm64"},
//			"sbom":  {Subject: "multi", ArtifactType: "application/spdx+json"},
//		},
//		Tags: ocitest.Tags{"latest": "multi"},
//	}})
type Content map[string]Repo

// Repo states what is in a repository.
type Repo struct {
	Blobs     Blobs
	Manifests Manifests
	Tags      Tags
}

type (
	// Blobs holds the bytes of blobs by the names of the blobs.
	Blobs map[string]string
	// Manifests holds manifests by their names.
	Manifests map[string]Manifest
	// Tags holds the names of manifests by tag.
	Tags map[string]string
)

// Manifest states a manifest: an index if it has Manifests or is of an index's
// MediaType, else an image.
type Manifest struct {
	Config      string // Name of a blob. Default: a config with Platform and Created.
	Layers      string // Names of blobs, separated by spaces.
	Manifests   string // Names of manifests, separated by spaces: makes it an index.
	Subject     string // Name of a manifest.
	Platform    string // As in linux/arm64/v8; told by the default config and by an index that names it.
	Created     string // RFC 3339; told by the default config.
	MediaType   string // Default: that of OCI.
	Annotations map[string]string

	// ArtifactType makes the default config the empty one of an artifact.
	ArtifactType string
	// Algorithm addresses the manifest. Default: sha256.
	Algorithm digest.Algorithm
	// Raw is the manifest byte for byte; then only Algorithm counts beside it.
	Raw string
}

// Push makes reg hold content, besides what it holds, and returns the digests
// of blobs and manifests by their names. It fails the test if it cannot.
func Push(t testing.TB, reg oci.Registry, content Content) map[string]oci.Digest {
	t.Helper()
	digests := map[string]oci.Digest{}
	for _, name := range slices.Sorted(maps.Keys(content)) {
		p := pusher{t: t, reg: reg, repo: name, content: content[name], descs: map[string]oci.Descriptor{}}
		p.push()
		for name, desc := range p.descs {
			if other, ok := digests[name]; ok && other != desc.Digest {
				t.Fatalf("%q is stated twice and differs", name)
			}
			digests[name] = desc.Digest
		}
	}
	return digests
}

// PushBlob makes data a blob of repo and returns its descriptor. It fails the
// test if it cannot.
func PushBlob(t testing.TB, reg oci.Registry, repo, data string) oci.Descriptor {
	t.Helper()
	return pushBlob(t, reg, repo, data, digest.SHA256)
}

// PushManifest makes raw a manifest of repo with these tags and returns its
// descriptor. It fails the test if it cannot.
func PushManifest(t testing.TB, reg oci.Registry, repo, raw string, tags ...string) oci.Descriptor {
	t.Helper()
	desc, err := reg.PutManifest(t.Context(), repo, oci.Put{Raw: []byte(raw), Tags: tags})
	if err != nil {
		t.Fatalf("push manifest to %s %v: %v", repo, tags, err)
	}
	return desc
}

func pushBlob(t testing.TB, reg oci.Registry, repo, data string, a digest.Algorithm) oci.Descriptor {
	t.Helper()
	desc, err := upload(t.Context(), reg, repo, []byte(data), a.FromString(data))
	if err != nil {
		t.Fatalf("push blob to %s: %v", repo, err)
	}
	return desc
}

func upload(ctx context.Context, reg oci.Registry, repo string, data []byte, d oci.Digest) (oci.Descriptor, error) {
	up, err := reg.Upload(ctx, repo, "", oci.UploadOptions{Algorithm: d.Algorithm()})
	if err != nil {
		return oci.Descriptor{}, err
	}
	defer up.Close()
	if _, err := up.Write(data); err != nil {
		return oci.Descriptor{}, err
	}
	return up.Commit(ctx, d)
}

// pusher pushes what one repository holds. The manifests go after what they
// name, whatever the order they are stated in.
type pusher struct {
	t       testing.TB
	reg     oci.Registry
	repo    string
	content Repo
	descs   map[string]oci.Descriptor
}

func (p *pusher) push() {
	p.t.Helper()
	for _, name := range slices.Sorted(maps.Keys(p.content.Blobs)) {
		desc := PushBlob(p.t, p.reg, p.repo, p.content.Blobs[name])
		desc.MediaType = ocispec.MediaTypeImageLayer
		p.descs[name] = desc
	}
	for _, name := range slices.Sorted(maps.Keys(p.content.Manifests)) {
		if _, ok := p.content.Blobs[name]; ok {
			p.t.Fatalf("%s: a blob and a manifest are both called %q", p.repo, name)
		}
		p.manifest(name)
	}
	for _, tag := range slices.Sorted(maps.Keys(p.content.Tags)) {
		if _, ok := p.content.Manifests[p.content.Tags[tag]]; !ok {
			p.t.Fatalf("tag %s of %s: no manifest called %q", tag, p.repo, p.content.Tags[tag])
		}
	}
}

// manifest pushes a manifest once, after those it names.
func (p *pusher) manifest(name string) oci.Descriptor {
	p.t.Helper()
	if desc, ok := p.descs[name]; ok {
		if desc.Digest == "" {
			p.t.Fatalf("manifest %q of %s names itself", name, p.repo)
		}
		return desc
	}
	m, ok := p.content.Manifests[name]
	if !ok {
		p.t.Fatalf("%s: nothing is called %q", p.repo, name)
	}
	p.descs[name] = oci.Descriptor{}
	raw := []byte(m.Raw)
	if m.Raw == "" {
		raw = p.marshal(m)
	}
	a := m.Algorithm
	if a == "" {
		a = digest.SHA256
	}
	desc, err := p.reg.PutManifest(p.t.Context(), p.repo, oci.Put{Digest: a.FromBytes(raw), Tags: p.tags(name), Raw: raw})
	if err != nil {
		p.t.Fatalf("push manifest %q to %s: %v", name, p.repo, err)
	}
	desc.Platform, desc.ArtifactType = platform(m.Platform), m.ArtifactType
	p.descs[name] = desc
	return desc
}

func (p *pusher) tags(name string) []string {
	var tags []string
	for tag, of := range p.content.Tags {
		if of == name {
			tags = append(tags, tag)
		}
	}
	slices.Sort(tags)
	return tags
}

func (p *pusher) marshal(m Manifest) []byte {
	p.t.Helper()
	var subject *oci.Descriptor
	if m.Subject != "" {
		subject = plain(p.manifest(m.Subject))
	}
	if m.Manifests != "" || m.MediaType == oci.MediaTypeIndex || m.MediaType == oci.MediaTypeDockerList {
		index := NewIndex(p.all(m.Manifests, p.manifest)...)
		index.Subject, index.Annotations, index.ArtifactType = subject, m.Annotations, m.ArtifactType
		index.MediaType = or(m.MediaType, index.MediaType)
		return marshal(p.t, index)
	}
	image := NewImage(p.config(m), p.all(m.Layers, p.blob)...)
	image.Subject, image.Annotations, image.ArtifactType = subject, m.Annotations, m.ArtifactType
	image.MediaType = or(m.MediaType, image.MediaType)
	return marshal(p.t, image)
}

func (p *pusher) all(names string, find func(string) oci.Descriptor) []oci.Descriptor {
	p.t.Helper()
	var descs []oci.Descriptor
	for name := range strings.FieldsSeq(names) {
		descs = append(descs, find(name))
	}
	return descs
}

func (p *pusher) blob(name string) oci.Descriptor {
	p.t.Helper()
	if _, ok := p.content.Blobs[name]; !ok {
		p.t.Fatalf("%s: no blob is called %q", p.repo, name)
	}
	return p.descs[name]
}

// config returns the config of an image, which is pushed unless it has a name.
func (p *pusher) config(m Manifest) oci.Descriptor {
	p.t.Helper()
	desc := oci.Descriptor{}
	switch {
	case m.Config != "":
		desc = p.blob(m.Config)
	case m.ArtifactType != "":
		desc = PushBlob(p.t, p.reg, p.repo, "{}")
		desc.MediaType = ocispec.MediaTypeEmptyJSON
		return desc
	default:
		desc = PushBlob(p.t, p.reg, p.repo, Config(m.Platform, m.Created))
	}
	desc.MediaType = ocispec.MediaTypeImageConfig
	return desc
}

func or(s, otherwise string) string {
	if s != "" {
		return s
	}
	return otherwise
}

func marshal(t testing.TB, v any) []byte {
	t.Helper()
	raw, err := json.Marshal(v)
	if err != nil {
		t.Fatalf("marshal: %v", err)
	}
	return raw
}
