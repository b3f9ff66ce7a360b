package ocitest

import (
	"github.com/opencontainers/go-digest"

	"github.com/regctl/regctl/client/oci"
)

func deleteRequirements(x Exceptions) []requirement {
	return []requirement{
		{"DeleteTag removes a tag and nothing else", (*suite).deleteTag, x.NoTagDelete},
		{"DeleteTag of an unknown tag is MANIFEST_UNKNOWN", (*suite).deleteTagUnknown, x.NoTagDelete},
		{"DeleteTag removes a tag that points where the caller saw it", (*suite).deleteTagWas, x.NoTagDelete},
		{"DeleteTag of a tag that points elsewhere is TAG_MOVED", (*suite).deleteTagMoved, or(x.NoTagDelete, x.NoConditions)},
		{"DeleteManifest removes the manifest and every tag that points to it", (*suite).deleteManifest, x.NoDelete},
		{"DeleteManifest of an unknown manifest is MANIFEST_UNKNOWN", (*suite).deleteManifestUnknown, x.NoDelete},
		{"a deleted manifest may be pushed again", (*suite).deleteManifestAgain, x.NoDelete},
		{"DeleteManifest of what an index names is UNSUPPORTED", (*suite).deleteChild, or(x.NoDelete, x.NoProtection)},
		{"an index of another repository protects nothing here", (*suite).deleteChildElsewhere, x.NoDelete},
		{"a subject may be deleted", (*suite).deleteSubject, x.NoDelete},
		{"DeleteBlob ends the membership in one repository", (*suite).deleteBlob, x.NoDelete},
		{"DeleteBlob of an unknown blob is BLOB_UNKNOWN", (*suite).deleteBlobUnknown, x.NoDelete},
		{"DeleteBlob of what a manifest names is UNSUPPORTED", (*suite).deleteNamedBlob, or(x.NoDelete, x.NoProtection)},
		{"DeleteBlob of what an index names is UNSUPPORTED", (*suite).deleteIndexBlob, or(x.NoDelete, x.NoProtection)},
	}
}

func (s *suite) deleteTag() {
	d := s.image(repo, "1", "a", "b").Digest
	s.must(s.DeleteTag(s.Context(), repo, "a", ""))
	s.lacksManifest(repo, "a")
	s.hasManifest(repo, "b", d)
	s.must(s.DeleteTag(s.Context(), repo, "b", ""))
	s.lacksManifest(repo, "b")
	s.hasManifest(repo, string(d), d)
	s.hasBlob(repo, digest.FromString("layer of 1"), "layer of 1")
}

func (s *suite) deleteTagUnknown() {
	s.image(repo, "1", "a")
	s.image(other, "1", "b")
	s.want(oci.ManifestUnknown, s.DeleteTag(s.Context(), repo, "b", ""))
	s.want(oci.ManifestUnknown, s.DeleteTag(s.Context(), "never/pushed", "a", ""))
	s.must(s.DeleteTag(s.Context(), repo, "a", ""))
	s.want(oci.ManifestUnknown, s.DeleteTag(s.Context(), repo, "a", ""))
}

func (s *suite) deleteTagWas() {
	d := s.image(repo, "1", "a").Digest
	s.must(s.DeleteTag(s.Context(), repo, "a", d))
	s.lacksManifest(repo, "a")
	s.want(oci.ManifestUnknown, s.DeleteTag(s.Context(), repo, "a", d))
}

func (s *suite) deleteTagMoved() {
	seen := s.image(repo, "1", "a").Digest
	now := s.image(repo, "2", "a").Digest
	s.want(oci.TagMoved, s.DeleteTag(s.Context(), repo, "a", seen))
	s.want(oci.TagMoved, s.DeleteTag(s.Context(), repo, "a", digest.FromString("missing")))
	s.hasManifest(repo, "a", now)
}

func (s *suite) deleteManifest() {
	d, kept := s.image(repo, "1", "a", "b").Digest, s.image(repo, "2", "c").Digest
	s.image(repo, "1", "c")
	s.image(repo, "2", "c") // c pointed to d once.
	s.must(s.DeleteManifest(s.Context(), repo, d))
	for _, ref := range []string{"a", "b", string(d)} {
		s.lacksManifest(repo, ref)
		_, err := s.Manifest(s.Context(), repo, ref)
		s.want(oci.ManifestUnknown, err)
	}
	s.hasManifest(repo, "c", kept)
	equalSlices(s, "tags", all(s, s.Tags(s.Context(), repo, "")), []string{"c"})
	s.hasBlob(repo, digest.FromString("layer of 1"), "layer of 1")
}

func (s *suite) deleteManifestUnknown() {
	s.image(repo, "1")
	elsewhere := s.image(other, "2").Digest
	blob := digest.FromString("layer of 1")
	for _, d := range []oci.Digest{elsewhere, blob, digest.FromString("missing"), digest.SHA512.FromString("missing")} {
		s.want(oci.ManifestUnknown, s.DeleteManifest(s.Context(), repo, d))
	}
	s.want(oci.ManifestUnknown, s.DeleteManifest(s.Context(), "never/pushed", elsewhere))
	s.hasManifest(other, string(elsewhere), elsewhere)
	s.must(s.DeleteManifest(s.Context(), other, elsewhere))
	s.want(oci.ManifestUnknown, s.DeleteManifest(s.Context(), other, elsewhere))
}

func (s *suite) deleteManifestAgain() {
	raw := s.imageOf(repo, "1")
	d := PushManifest(s, s.Registry, repo, raw, "a").Digest
	s.must(s.DeleteManifest(s.Context(), repo, d))
	PushManifest(s, s.Registry, repo, raw)
	s.hasManifest(repo, string(d), d)
	s.lacksManifest(repo, "a")
}

func (s *suite) deleteChild() {
	child := s.image(repo, "1", "child")
	index := s.index(repo, child)
	outer := s.index(repo, index)
	s.want(oci.Unsupported, s.DeleteManifest(s.Context(), repo, child.Digest))
	s.want(oci.Unsupported, s.DeleteManifest(s.Context(), repo, index.Digest))
	s.hasManifest(repo, "child", child.Digest)
	s.hasManifest(repo, string(index.Digest), index.Digest)
	for _, d := range []oci.Digest{outer.Digest, index.Digest, child.Digest} {
		s.must(s.DeleteManifest(s.Context(), repo, d))
	}
	s.lacksManifest(repo, "child")
}

func (s *suite) deleteChildElsewhere() {
	child := s.image(repo, "1")
	s.image(other, "1")
	s.index(other, child)
	s.must(s.DeleteManifest(s.Context(), repo, child.Digest))
	s.hasManifest(other, string(child.Digest), child.Digest)
}

func (s *suite) deleteSubject() {
	subject := s.image(repo, "1", "v1")
	referrer := s.referrer(repo, subject, "application/example", nil)
	s.must(s.DeleteManifest(s.Context(), repo, subject.Digest))
	s.lacksManifest(repo, "v1")
	s.hasManifest(repo, string(referrer.Digest), referrer.Digest)
}

func (s *suite) deleteBlob() {
	d := PushBlob(s, s.Registry, repo, "content").Digest
	PushBlob(s, s.Registry, other, "content")
	s.must(s.DeleteBlob(s.Context(), repo, d))
	s.lacksBlob(repo, d)
	s.hasBlob(other, d, "content")
	PushBlob(s, s.Registry, repo, "content")
	s.hasBlob(repo, d, "content")
	s.must(s.DeleteBlob(s.Context(), repo, d))
	s.must(s.DeleteBlob(s.Context(), other, d))
	s.lacksBlob(other, d)
	up, err := s.MountBlob(s.Context(), repo, other, d)
	s.must(err)
	if up == nil {
		s.Fatal("mounted a blob that was deleted")
	}
	s.must(up.Cancel(s.Context()))
}

func (s *suite) deleteBlobUnknown() {
	d := PushBlob(s, s.Registry, other, "content").Digest
	s.want(oci.BlobUnknown, s.DeleteBlob(s.Context(), repo, d))
	s.want(oci.BlobUnknown, s.DeleteBlob(s.Context(), other, digest.FromString("missing")))
	s.want(oci.BlobUnknown, s.DeleteBlob(s.Context(), other, s.image(other, "1").Digest))
	s.hasBlob(other, d, "content")
}

func (s *suite) deleteNamedBlob() {
	image := s.image(repo, "1", "v1")
	config, layer := `{"seed":"1"}`, "layer of 1"
	for _, content := range []string{config, layer} {
		s.want(oci.Unsupported, s.DeleteBlob(s.Context(), repo, digest.FromString(content)))
		s.hasBlob(repo, digest.FromString(content), content)
	}
	s.must(s.DeleteManifest(s.Context(), repo, image.Digest))
	for _, content := range []string{config, layer} {
		s.must(s.DeleteBlob(s.Context(), repo, digest.FromString(content)))
		s.lacksBlob(repo, digest.FromString(content))
	}
}

// deleteIndexBlob protects build caches, which are indexes of layers.
func (s *suite) deleteIndexBlob() {
	layer := PushBlob(s, s.Registry, repo, "cached layer")
	layer.MediaType = imageLayer
	index := s.index(repo, layer)
	s.want(oci.Unsupported, s.DeleteBlob(s.Context(), repo, layer.Digest))
	s.hasBlob(repo, layer.Digest, "cached layer")
	s.must(s.DeleteManifest(s.Context(), repo, index.Digest))
	s.must(s.DeleteBlob(s.Context(), repo, layer.Digest))
}
