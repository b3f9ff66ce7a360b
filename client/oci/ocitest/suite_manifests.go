package ocitest

import (
	"strings"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/regctl/regctl/client/oci"
)

const (
	imageConfig  = ocispec.MediaTypeImageConfig
	imageLayer   = ocispec.MediaTypeImageLayer
	octets       = "application/octet-stream"
	foreignLayer = "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip"
	absentLayer  = "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip"
)

func manifestRequirements(x Exceptions) []requirement {
	return []requirement{
		{"a manifest comes back byte for byte by tag and by digest", (*suite).manifestBytes, ""},
		{"OCI and Docker images and indexes keep their media type", (*suite).manifestTypes, ""},
		{"the media type is told from the body if none is declared", (*suite).manifestTypeTold, ""},
		{"without a digest a manifest is addressed by sha256", (*suite).manifestDefaultDigest, ""},
		{"a manifest pushed by sha512 is answered by sha512", (*suite).manifestSHA512, x.NoSHA512},
		{"a manifest may name blobs by sha512", (*suite).manifestOfSHA512, x.NoSHA512},
		{"a manifest may be pushed again", (*suite).manifestAgain, ""},
		{"an image may have no layers or the same layer twice", (*suite).manifestLayers, ""},
		{"foreign layers may be missing", (*suite).manifestForeign, ""},
		{"an index may name manifests that are missing", (*suite).manifestSparse, x.StrictIndexes},
		{"a subject may be missing", (*suite).manifestNoSubject, ""},
		{"a manifest of exactly the size limit is accepted", (*suite).manifestLimit, ""},
		{"an unknown manifest is MANIFEST_UNKNOWN", (*suite).manifestUnknown, ""},
		{"a manifest of another repository is unknown here", (*suite).manifestElsewhere, ""},
		{"manifests are no blobs and blobs are no manifests", (*suite).manifestIsNoBlob, ""},
	}
}

func (s *suite) manifestBytes() {
	raw := "\n " + strings.Replace(s.imageOf(repo, "1"), "{", "{\n\t\"zzz\": [1.50, \"\\u00e9\"],  ", 1) + "\r\n\n"
	desc := PushManifest(s, s.Registry, repo, raw, "v1")
	s.sameContent("put", desc, Describe(oci.MediaTypeManifest, raw))
	for _, ref := range []string{"v1", string(desc.Digest)} {
		m, err := s.Manifest(s.Context(), repo, ref)
		s.must(err)
		equal(s, "bytes", string(m.Raw), raw)
		s.sameContent("manifest", m.Descriptor, desc)
		resolved, err := s.Resolve(s.Context(), repo, ref)
		s.must(err)
		s.sameContent("resolve", resolved, desc)
	}
}

func (s *suite) manifestTypes() {
	config := PushBlob(s, s.Registry, repo, "{}")
	for _, mediaType := range oci.ManifestTypes() {
		image, index := NewImage(config), NewIndex()
		image.MediaType, index.MediaType = mediaType, mediaType
		raw := marshal(s, image)
		if mediaType == oci.MediaTypeIndex || mediaType == oci.MediaTypeDockerList {
			raw = marshal(s, index)
		}
		desc, err := s.PutManifest(s.Context(), repo, oci.Put{MediaType: mediaType, Raw: raw})
		s.must(err)
		equal(s, "media type of what was put", desc.MediaType, mediaType)
		m, err := s.Manifest(s.Context(), repo, string(desc.Digest))
		s.must(err)
		equal(s, "media type", m.Descriptor.MediaType, mediaType)
		equal(s, "bytes", string(m.Raw), string(raw))
	}
}

func (s *suite) manifestTypeTold() {
	config := PushBlob(s, s.Registry, repo, "{}")
	image, index := NewImage(config), NewIndex()
	image.MediaType, index.MediaType = "", ""
	for want, raw := range map[string][]byte{
		oci.MediaTypeManifest: marshal(s, image),
		oci.MediaTypeIndex:    marshal(s, index),
	} {
		for _, declared := range []string{"", "application/json", want, want + "; charset=utf-8"} {
			desc, err := s.PutManifest(s.Context(), repo, oci.Put{MediaType: declared, Raw: raw})
			s.must(err)
			equal(s, "media type", desc.MediaType, want)
		}
	}
}

func (s *suite) manifestDefaultDigest() {
	raw := s.imageOf(repo, "1")
	desc, err := s.PutManifest(s.Context(), repo, oci.Put{Raw: []byte(raw)})
	s.must(err)
	equal(s, "digest", desc.Digest, digest.FromString(raw))
	s.hasManifest(repo, string(desc.Digest), desc.Digest)
}

func (s *suite) manifestSHA512() {
	raw := s.imageOf(repo, "1")
	d := digest.SHA512.FromString(raw)
	desc, err := s.PutManifest(s.Context(), repo, oci.Put{Digest: d, Tags: []string{"long"}, Raw: []byte(raw)})
	s.must(err)
	equal(s, "digest", desc.Digest, d)
	s.hasManifest(repo, "long", d)
	s.hasManifest(repo, string(d), d)
	s.lacksManifest(repo, string(digest.FromString(raw)))
	m, err := s.Manifest(s.Context(), repo, "long")
	s.must(err)
	equal(s, "bytes", string(m.Raw), raw)
	equal(s, "digest", m.Descriptor.Digest, d)
}

func (s *suite) manifestOfSHA512() {
	config := pushBlob(s, s.Registry, repo, "{}", digest.SHA512)
	layer := pushBlob(s, s.Registry, repo, "layer", digest.SHA512)
	image := PushManifest(s, s.Registry, repo, imageRaw(s, config, layer))
	s.hasManifest(repo, string(image.Digest), image.Digest)
	s.hasBlob(repo, layer.Digest, "layer")
}

func (s *suite) manifestAgain() {
	raw := s.imageOf(repo, "1")
	first := PushManifest(s, s.Registry, repo, raw, "a")
	again := PushManifest(s, s.Registry, repo, raw, "b")
	s.sameContent("again", again, first)
	s.hasManifest(repo, "a", first.Digest)
	s.hasManifest(repo, "b", first.Digest)
}

func (s *suite) manifestLayers() {
	config, layer := PushBlob(s, s.Registry, repo, "{}"), PushBlob(s, s.Registry, repo, "layer")
	PushManifest(s, s.Registry, repo, imageRaw(s, config), "none")
	PushManifest(s, s.Registry, repo, imageRaw(s, config, layer, layer), "twice")
	PushManifest(s, s.Registry, repo, imageRaw(s, config, config), "config")
}

func (s *suite) manifestForeign() {
	config := PushBlob(s, s.Registry, repo, "{}")
	raw := imageRaw(s, config, Describe(foreignLayer, "elsewhere"), Describe(absentLayer, "nowhere"))
	desc := PushManifest(s, s.Registry, repo, raw)
	s.hasManifest(repo, string(desc.Digest), desc.Digest)
	s.lacksBlob(repo, digest.FromString("elsewhere"))
}

func (s *suite) manifestSparse() {
	index := s.index(repo, s.image(repo, "here"), Describe(oci.MediaTypeManifest, "missing"))
	s.hasManifest(repo, string(index.Digest), index.Digest)
	s.lacksManifest(repo, string(digest.FromString("missing")))
}

func (s *suite) manifestNoSubject() {
	subject := Describe(oci.MediaTypeManifest, "missing")
	image := NewImage(PushBlob(s, s.Registry, repo, "{}"))
	image.Subject = &subject
	desc := PushManifest(s, s.Registry, repo, string(marshal(s, image)), "v1")
	s.hasManifest(repo, "v1", desc.Digest)
	s.lacksManifest(repo, string(subject.Digest))
}

func (s *suite) manifestLimit() {
	raw := s.imageOf(repo, "1")
	raw += strings.Repeat(" ", oci.MaxManifest-len(raw))
	PushManifest(s, s.Registry, repo, raw, "large")
	m, err := s.Manifest(s.Context(), repo, "large")
	s.must(err)
	equal(s, "size", len(m.Raw), oci.MaxManifest)
}

func (s *suite) manifestUnknown() {
	s.image(repo, "1", "v1")
	missing := string(digest.FromString("missing"))
	for _, in := range []string{repo, "never/pushed", "team"} {
		for _, ref := range []string{"v2", missing} {
			s.lacksManifest(in, ref)
			_, err := s.Manifest(s.Context(), in, ref)
			s.want(oci.ManifestUnknown, err)
		}
	}
}

func (s *suite) manifestElsewhere() {
	d := s.image(other, "1", "v1").Digest
	s.image(repo, "2", "v2")
	for _, ref := range []string{string(d), "v1"} {
		s.lacksManifest(repo, ref)
		_, err := s.Manifest(s.Context(), repo, ref)
		s.want(oci.ManifestUnknown, err)
	}
}

func (s *suite) manifestIsNoBlob() {
	s.lacksBlob(repo, s.image(repo, "1").Digest)
	raw := s.imageOf(repo, "2")
	s.lacksManifest(repo, string(PushBlob(s, s.Registry, repo, raw).Digest))
}
