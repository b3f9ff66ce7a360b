package ocitest

import (
	"slices"
	"time"

	"github.com/regctl/regctl/client/oci"
)

func listRequirements(x Exceptions) []requirement {
	return []requirement{
		{"tags are listed in bytewise order", (*suite).tagOrder, ""},
		{"tags are listed after any name", (*suite).tagAfter, ""},
		{"the tags of an unknown repository are NAME_UNKNOWN", (*suite).tagsUnknown, ""},
		{"a repository of untagged manifests has no tags", (*suite).tagsNone, ""},
		{"a sequence may be asked again and sees what changed", (*suite).tagsTwice, ""},
		{"tag details come in the order of the tags", (*suite).detailOrder, x.NoTagDetails},
		{"tag details tell manifest, size, time and platform of an image", (*suite).detailImage, x.NoTagDetails},
		{"tag details of an index tell of all its images", (*suite).detailIndex, x.NoTagDetails},
		{"tag details of what is sparse or no image tell what is there", (*suite).detailSparse, or(x.NoTagDetails, x.StrictIndexes)},
		{"the tag details of an unknown repository are NAME_UNKNOWN", (*suite).detailUnknown, x.NoTagDetails},
	}
}

func sortedTags() []string {
	return []string{"0", "1", "1-0", "1.0", "1.0.1", "10", "A", "Z9", "_x", "a", "a-b", "a.b", "a_b", "ab", "b"}
}

func (s *suite) pushTags() []string {
	s.Helper()
	tags := sortedTags()
	for i := range tags {
		s.image(repo, "1", tags[(i*4+2)%len(tags)])
	}
	return tags
}

func (s *suite) tagOrder() {
	tags := s.pushTags()
	equal(s, "the tags of this test are sorted", slices.IsSorted(tags), true)
	equalSlices(s, "tags", all(s, s.Tags(s.Context(), repo, "")), tags)
	for tag, err := range s.Tags(s.Context(), repo, "1") {
		s.must(err)
		equal(s, "the first one after 1", tag, "1-0")
		break
	}
}

func (s *suite) tagAfter() {
	tags := s.pushTags()
	for _, after := range append([]string{"00", "1,", "1.", "B", "a0", "zzz", "~"}, tags...) {
		rest := tags[len(tags):]
		if i := slices.IndexFunc(tags, func(tag string) bool { return tag > after }); i >= 0 {
			rest = tags[i:]
		}
		equalSlices(s, "after "+after, all(s, s.Tags(s.Context(), repo, after)), rest)
	}
}

func (s *suite) tagsUnknown() {
	s.image(repo, "1", "v1")
	for _, name := range []string{"team", "team/app/below", "never/pushed"} {
		for _, after := range []string{"", "v0"} {
			_, err := collect(s.Tags(s.Context(), name, after))
			s.want(oci.NameUnknown, err)
		}
	}
}

func (s *suite) tagsNone() {
	s.image(repo, "1")
	equalSlices(s, "tags", all(s, s.Tags(s.Context(), repo, "")), nil)
}

func (s *suite) tagsTwice() {
	s.image(repo, "1", "a", "c")
	tags := s.Tags(s.Context(), repo, "")
	equalSlices(s, "tags", all(s, tags), []string{"a", "c"})
	s.image(repo, "1", "b")
	equalSlices(s, "tags", all(s, tags), []string{"a", "b", "c"})
}

func (s *suite) detailOrder() {
	tags := s.pushTags()
	names := func(after string) []string {
		var names []string
		for _, d := range all(s, s.TagDetails(s.Context(), repo, after)) {
			names = append(names, d.Tag)
		}
		return names
	}
	equalSlices(s, "tags", names(""), tags)
	equalSlices(s, "tags after 1.0", names("1.0"), tags[4:])
	equalSlices(s, "tags after the last", names("b"), nil)
}

// detail returns the details of the one tag there is.
func (s *suite) detail() oci.TagDetail {
	s.Helper()
	details := all(s, s.TagDetails(s.Context(), repo, ""))
	if len(details) != 1 {
		s.Fatalf("there are details of %d tags, want 1", len(details))
	}
	return details[0]
}

func (s *suite) detailImage() {
	const built = "2020-02-03T04:05:06Z"
	config, layer := Config("linux/arm64/v8", built), "a layer of some bytes"
	raw := imageRaw(s, PushBlob(s, s.Registry, repo, config), PushBlob(s, s.Registry, repo, layer))
	before := time.Now().Add(-time.Minute) // Clocks of file systems are coarse.
	desc := PushManifest(s, s.Registry, repo, raw, "v1")

	d := s.detail()
	equal(s, "tag", d.Tag, "v1")
	s.sameContent("manifest", d.Manifest, desc)
	equal(s, "size", d.Size, int64(len(config)+len(layer)+len(raw)))
	equal(s, "created", d.Created.UTC().Format(time.RFC3339), built)
	if d.Pushed.Before(before) || d.Pushed.After(time.Now().Add(time.Minute)) {
		s.Errorf("pushed %v, want now", d.Pushed)
	}
	s.platforms(d, "linux/arm64/v8")
}

func (s *suite) platforms(d oci.TagDetail, want ...string) {
	s.Helper()
	var got []string
	for _, p := range d.Platforms {
		name := p.OS + "/" + p.Architecture
		if p.Variant != "" {
			name += "/" + p.Variant
		}
		got = append(got, name)
	}
	equalSlices(s, "platforms", got, want)
}

func (s *suite) detailIndex() {
	digests := Push(s, s.Registry, Content{repo: {
		Blobs: Blobs{"base": "shared by both", "app1": "one", "app2": "other"},
		Manifests: Manifests{
			"old":   {Layers: "base app1", Platform: "linux/amd64", Created: "2020-01-01T00:00:00Z"},
			"new":   {Layers: "base app2", Platform: "linux/arm64", Created: "2021-01-01T00:00:00Z"},
			"multi": {Manifests: "old new"},
		},
		Tags: Tags{"v1": "multi"},
	}})
	want := int64(len(Config("linux/amd64", "2020-01-01T00:00:00Z")) + len(Config("linux/arm64", "2021-01-01T00:00:00Z")))
	want += int64(len("shared by both") + len("one") + len("other")) // What is shared moves once.
	for _, name := range []string{"old", "new", "multi"} {
		m, err := s.Manifest(s.Context(), repo, string(digests[name]))
		s.must(err)
		want += int64(len(m.Raw))
	}
	d := s.detail()
	equal(s, "manifest", d.Manifest.Digest, digests["multi"])
	equal(s, "size", d.Size, want)
	equal(s, "created", d.Created.UTC().Format(time.RFC3339), "2021-01-01T00:00:00Z")
	s.platforms(d, "linux/amd64", "linux/arm64")
}

func (s *suite) detailSparse() {
	index := NewIndex(s.image(repo, "no platform"), Describe(oci.MediaTypeManifest, "missing"))
	desc := PushManifest(s, s.Registry, repo, string(marshal(s, index)), "v1")
	d := s.detail()
	s.sameContent("manifest", d.Manifest, desc)
	equal(s, "created is unknown", d.Created.IsZero(), true)
	s.platforms(d)
	if d.Size <= desc.Size {
		s.Errorf("size is %d, want more than that of the index, %d", d.Size, desc.Size)
	}
}

func (s *suite) detailUnknown() {
	s.image(repo, "1", "v1")
	_, err := collect(s.TagDetails(s.Context(), "never/pushed", ""))
	s.want(oci.NameUnknown, err)
}
