package ocitest

import (
	"maps"
	"slices"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/regctl/regctl/client/oci"
)

func referrerRequirements(x Exceptions) []requirement {
	reqs := []requirement{
		{"a referrer is listed with its artifact type and annotations", (*suite).referrerListed, ""},
		{"a referrer may be pushed before its subject", (*suite).referrerFirst, ""},
		{"without an artifact type that of the config counts", (*suite).referrerConfig, ""},
		{"an index may refer to a subject", (*suite).referrerIndex, ""},
		{"a subject may be addressed by sha512", (*suite).referrerSHA512, x.NoSHA512},
		{"referrers are listed in order of their digests", (*suite).referrerOrder, ""},
		{"an artifact type keeps only its referrers", (*suite).referrerFilter, ""},
		{"a subject without referrers has none", (*suite).referrerNone, ""},
		{"referrers of another repository are not listed", (*suite).referrerElsewhere, ""},
		{"a deleted referrer is not listed", (*suite).referrerDeleted, x.NoDelete},
		{"referrers outlive their subject", (*suite).referrerOutlives, x.NoDelete},
	}
	for i := range reqs {
		reqs[i].except = or(x.NoReferrers, reqs[i].except)
	}
	return reqs
}

// referrer pushes an artifact with a subject.
func (s *suite) referrer(repo string, subject oci.Descriptor, artifactType string, annotations map[string]string) oci.Descriptor {
	s.Helper()
	config := PushBlob(s, s.Registry, repo, "{}")
	config.MediaType = ocispec.MediaTypeEmptyJSON
	image := NewImage(config)
	image.Subject, image.ArtifactType, image.Annotations = plain(subject), artifactType, annotations
	return PushManifest(s, s.Registry, repo, string(marshal(s, image)))
}

func (s *suite) referrers(repo string, d oci.Digest, artifactType string) []oci.Descriptor {
	s.Helper()
	return all(s, s.Referrers(s.Context(), repo, d, artifactType))
}

// refers fails the test unless subject has these referrers, in any order.
func (s *suite) refers(repo string, subject oci.Digest, artifactType string, want ...oci.Descriptor) {
	s.Helper()
	equalSlices(s, "referrers of type "+artifactType, digestsOf(s.referrers(repo, subject, artifactType)), slices.Sorted(slices.Values(digestsOf(want))))
}

func digestsOf(descs []oci.Descriptor) []oci.Digest {
	var digests []oci.Digest
	for _, d := range descs {
		digests = append(digests, d.Digest)
	}
	return digests
}

func (s *suite) referrerListed() {
	subject := s.image(repo, "1", "v1")
	annotations := map[string]string{"org.example.key": "value", "empty": ""}
	want := s.referrer(repo, subject, "application/example", annotations)
	for range 2 { // Asked again, it is still one.
		got := s.referrers(repo, subject.Digest, "")
		if len(got) != 1 {
			s.Fatalf("there are %d referrers, want 1", len(got))
		}
		s.sameContent("referrer", got[0], want)
		equal(s, "artifact type", got[0].ArtifactType, "application/example")
		if !maps.Equal(got[0].Annotations, annotations) {
			s.Errorf("annotations are %v, want %v", got[0].Annotations, annotations)
		}
		equal(s, "pushed again", s.referrer(repo, subject, "application/example", annotations).Digest, want.Digest)
	}
}

func (s *suite) referrerFirst() {
	raw := s.imageOf(repo, "1")
	subject := Describe(oci.MediaTypeManifest, raw)
	first := s.referrer(repo, subject, "application/first", nil)
	s.refers(repo, subject.Digest, "", first)
	PushManifest(s, s.Registry, repo, raw)
	second := s.referrer(repo, subject, "application/second", nil)
	s.refers(repo, subject.Digest, "", first, second)
}

func (s *suite) referrerConfig() {
	subject := s.image(repo, "1")
	config := PushBlob(s, s.Registry, repo, "config of an artifact")
	config.MediaType = "application/vnd.example.config"
	image := NewImage(config)
	image.Subject = plain(subject)
	desc := PushManifest(s, s.Registry, repo, string(marshal(s, image)))
	for _, filter := range []string{"", "application/vnd.example.config"} {
		got := s.referrers(repo, subject.Digest, filter)
		if len(got) != 1 {
			s.Fatalf("there are %d referrers of type %q, want 1", len(got), filter)
		}
		s.sameContent("referrer", got[0], desc)
		equal(s, "artifact type", got[0].ArtifactType, "application/vnd.example.config")
	}
}

func (s *suite) referrerIndex() {
	subject := s.index(repo, s.image(repo, "1"))
	index := NewIndex(s.image(repo, "2"))
	index.Subject = plain(subject)
	without := PushManifest(s, s.Registry, repo, string(marshal(s, index)))
	index.ArtifactType = "application/example"
	index.Annotations = map[string]string{"key": "value"}
	with := PushManifest(s, s.Registry, repo, string(marshal(s, index)))
	s.refers(repo, subject.Digest, "", with, without)
	s.refers(repo, subject.Digest, "application/example", with)
	for _, got := range s.referrers(repo, subject.Digest, "") {
		equal(s, "media type", got.MediaType, oci.MediaTypeIndex)
		want := ""
		if got.Digest == with.Digest {
			want = "application/example"
			equal(s, "annotation", got.Annotations["key"], "value")
		}
		equal(s, "artifact type", got.ArtifactType, want)
	}
}

func (s *suite) referrerSHA512() {
	raw := s.imageOf(repo, "1")
	subject := oci.Descriptor{MediaType: oci.MediaTypeManifest, Digest: digest.SHA512.FromString(raw), Size: int64(len(raw))}
	_, err := s.PutManifest(s.Context(), repo, oci.Put{Digest: subject.Digest, Raw: []byte(raw)})
	s.must(err)
	s.refers(repo, subject.Digest, "", s.referrer(repo, subject, "application/example", nil))
	s.refers(repo, digest.FromString(raw), "")
}

func (s *suite) referrerOrder() {
	subject := s.image(repo, "1")
	var want []oci.Descriptor
	for _, n := range []string{"a", "b", "c", "d", "e", "f", "g", "h", "i"} {
		want = append(want, s.referrer(repo, subject, "application/"+n, nil))
	}
	s.refers(repo, subject.Digest, "", want...)
	for _, err := range s.Referrers(s.Context(), repo, subject.Digest, "") {
		s.must(err)
		break
	}
}

func (s *suite) referrerFilter() {
	subject := s.image(repo, "1")
	a1 := s.referrer(repo, subject, "application/a", nil)
	a2 := s.referrer(repo, subject, "application/a", map[string]string{"n": "2"})
	b := s.referrer(repo, subject, "application/vnd.b+json", nil)
	s.refers(repo, subject.Digest, "", a1, a2, b)
	s.refers(repo, subject.Digest, "application/a", a1, a2)
	s.refers(repo, subject.Digest, "application/vnd.b+json", b)
	s.refers(repo, subject.Digest, "application/")
}

func (s *suite) referrerNone() {
	d := s.image(repo, "1").Digest
	s.refers(repo, d, "")
	s.refers(repo, digest.FromString("missing"), "")
	s.refers("never/pushed", d, "")
}

func (s *suite) referrerElsewhere() {
	subject := s.image(repo, "1")
	s.image(other, "1")
	elsewhere := s.referrer(other, subject, "application/example", nil)
	s.refers(repo, subject.Digest, "")
	s.refers(other, subject.Digest, "", elsewhere)
}

func (s *suite) referrerDeleted() {
	subject := s.image(repo, "1")
	gone := s.referrer(repo, subject, "application/a", nil)
	kept := s.referrer(repo, subject, "application/b", nil)
	s.must(s.DeleteManifest(s.Context(), repo, gone.Digest))
	s.refers(repo, subject.Digest, "", kept)
	s.must(s.DeleteManifest(s.Context(), repo, kept.Digest))
	s.refers(repo, subject.Digest, "")
	equal(s, "pushed again", s.referrer(repo, subject, "application/a", nil).Digest, gone.Digest)
	s.refers(repo, subject.Digest, "", gone)
}

func (s *suite) referrerOutlives() {
	raw := s.imageOf(repo, "1")
	subject := PushManifest(s, s.Registry, repo, raw)
	referrer := s.referrer(repo, subject, "application/a", nil)
	s.must(s.DeleteManifest(s.Context(), repo, subject.Digest))
	s.refers(repo, subject.Digest, "", referrer)
	PushManifest(s, s.Registry, repo, raw)
	s.refers(repo, subject.Digest, "", referrer)
}
