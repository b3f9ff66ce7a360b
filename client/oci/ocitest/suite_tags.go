package ocitest

import "github.com/regctl/regctl/client/oci"

func tagRequirements(x Exceptions) []requirement {
	return []requirement{
		{"one push may set several tags", (*suite).tagSeveral, ""},
		{"a push moves its tags and leaves the old manifest", (*suite).tagMove, ""},
		{"a push without tags moves none", (*suite).tagNone, ""},
		{"NoOverwrite sets a tag that is new or points there already", (*suite).tagNoOverwrite, ""},
		{"NoOverwrite refuses to move a tag with TAG_EXISTS", (*suite).tagExists, x.NoOverwrite},
		{"a push that NoOverwrite refuses moves none of its tags", (*suite).tagExistsAmong, x.NoOverwrite},
		{"a tag in Fixed is not moved, others are", (*suite).tagFixed, x.NoOverwrite},
		{"a push that Fixed refuses moves none of its tags", (*suite).tagFixedAmong, x.NoOverwrite},
		{"tags that differ in case are not confused", (*suite).tagCase, ""},
		{"tags of another repository are unknown here", (*suite).tagElsewhere, ""},
	}
}

func (s *suite) tagSeveral() {
	tags := []string{"1", "1.2", "1.2.3", "latest"}
	d := s.image(repo, "1", tags...).Digest
	for _, tag := range tags {
		s.hasManifest(repo, tag, d)
	}
	equalSlices(s, "tags", all(s, s.Tags(s.Context(), repo, "")), tags)
}

func (s *suite) tagMove() {
	old := s.image(repo, "old", "latest", "old").Digest
	moved := s.image(repo, "new", "latest").Digest
	s.hasManifest(repo, "latest", moved)
	s.hasManifest(repo, "old", old)
	s.hasManifest(repo, string(old), old)
	back := s.image(repo, "old", "latest").Digest
	equal(s, "the same image", back, old)
	s.hasManifest(repo, "latest", old)
	s.hasManifest(repo, string(moved), moved)
}

func (s *suite) tagNone() {
	d := s.image(repo, "1", "latest").Digest
	untagged := s.image(repo, "2").Digest
	s.image(repo, "1")
	s.hasManifest(repo, "latest", d)
	s.hasManifest(repo, string(untagged), untagged)
	equalSlices(s, "tags", all(s, s.Tags(s.Context(), repo, "")), []string{"latest"})
}

func (s *suite) tagNoOverwrite() {
	raw := []byte(s.imageOf(repo, "1"))
	for range 2 {
		desc, err := s.PutManifest(s.Context(), repo, oci.Put{Tags: []string{"v1"}, Raw: raw, NoOverwrite: true})
		s.must(err)
		s.hasManifest(repo, "v1", desc.Digest)
	}
}

func (s *suite) tagExists() {
	old := s.image(repo, "old", "v1").Digest
	raw := []byte(s.imageOf(repo, "new"))
	_, err := s.PutManifest(s.Context(), repo, oci.Put{Tags: []string{"v1"}, Raw: raw, NoOverwrite: true})
	s.want(oci.TagExists, err)
	s.hasManifest(repo, "v1", old)
}

func (s *suite) tagExistsAmong() {
	old := s.image(repo, "old", "taken").Digest
	raw := []byte(s.imageOf(repo, "new"))
	_, err := s.PutManifest(s.Context(), repo, oci.Put{Tags: []string{"free", "taken", "open"}, Raw: raw, NoOverwrite: true})
	s.want(oci.TagExists, err)
	s.hasManifest(repo, "taken", old)
	s.lacksManifest(repo, "free")
	s.lacksManifest(repo, "open")
}

func (s *suite) tagFixed() {
	s.image(repo, "old", "latest")
	raw := []byte(s.imageOf(repo, "new"))
	for range 2 {
		desc, err := s.PutManifest(s.Context(), repo, oci.Put{Tags: []string{"latest", "v1"}, Fixed: []string{"v1"}, Raw: raw})
		s.must(err)
		s.hasManifest(repo, "v1", desc.Digest)
		s.hasManifest(repo, "latest", desc.Digest)
	}
}

func (s *suite) tagFixedAmong() {
	old := s.image(repo, "old", "latest", "v1").Digest
	raw := []byte(s.imageOf(repo, "new"))
	_, err := s.PutManifest(s.Context(), repo, oci.Put{Tags: []string{"free", "latest", "v1"}, Fixed: []string{"v1"}, Raw: raw})
	s.want(oci.TagExists, err)
	s.hasManifest(repo, "v1", old)
	s.hasManifest(repo, "latest", old)
	s.lacksManifest(repo, "free")
}

// tagCase allows a registry whose storage folds case to refuse the second tag.
func (s *suite) tagCase() {
	lower := s.image(repo, "lower", "latest").Digest
	s.lacksManifest(repo, "LATEST")
	upper, err := s.PutManifest(s.Context(), repo, oci.Put{Tags: []string{"LATEST"}, Raw: []byte(s.imageOf(repo, "upper"))})
	s.hasManifest(repo, "latest", lower)
	if err == nil {
		s.hasManifest(repo, "LATEST", upper.Digest)
	} else {
		s.lacksManifest(repo, "LATEST")
	}
}

func (s *suite) tagElsewhere() {
	d := s.image(other, "1", "v1").Digest
	s.image(repo, "1", "v2")
	s.lacksManifest(repo, "v1")
	s.lacksManifest(other, "v2")
	s.hasManifest(other, "v1", d)
	equalSlices(s, "tags", all(s, s.Tags(s.Context(), repo, "")), []string{"v2"})
}
