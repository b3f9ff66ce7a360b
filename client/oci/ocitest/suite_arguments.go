package ocitest

import (
	"context"
	"errors"
	"maps"
	"slices"
	"strings"

	"github.com/opencontainers/go-digest"

	"github.com/regctl/regctl/client/oci"
)

func argumentRequirements(x Exceptions) []requirement {
	return []requirement{
		{"every method refuses a malformed repository with NAME_INVALID", (*suite).badRepos, ""},
		{"every method refuses a malformed tag with TAG_INVALID", (*suite).badTags, ""},
		{"every method refuses a malformed digest with DIGEST_INVALID", (*suite).badDigests, ""},
		{"a malformed digest does not end an upload", (*suite).badCommit, ""},
		{"names at the limit of the grammar are accepted", (*suite).longNames, ""},
		{"what was refused leaves nothing", (*suite).badLeaveNothing, x.NoCatalogue},
	}
}

// arguments are those of one call of any method.
type arguments struct {
	repo, from, ref, tag string
	digest               oci.Digest
}

func goodArguments() arguments {
	return arguments{repo: repo, from: other, ref: "v1", tag: "v1", digest: digest.FromString("missing")}
}

// calls are all methods, and which of the arguments each one takes.
func calls(r oci.Registry) map[string]call {
	discard := func(up oci.Upload, err error) error {
		if up != nil {
			_ = up.Cancel(context.Background())
		}
		return err
	}
	return map[string]call{
		"Resolve":  {"repo ref", func(c context.Context, a arguments) error { _, err := r.Resolve(c, a.repo, a.ref); return err }},
		"Manifest": {"repo ref", func(c context.Context, a arguments) error { _, err := r.Manifest(c, a.repo, a.ref); return err }},
		"StatBlob": {"repo digest", func(c context.Context, a arguments) error { _, err := r.StatBlob(c, a.repo, a.digest); return err }},
		"Blob":     {"repo digest", func(c context.Context, a arguments) error { _, err := r.Blob(c, a.repo, a.digest); return err }},
		"PutManifest": {"repo digest tag", func(c context.Context, a arguments) error {
			_, err := r.PutManifest(c, a.repo, oci.Put{Digest: a.digest, Tags: []string{"good", a.tag}, Raw: []byte("{}")})
			return err
		}},
		"MountBlob": {"repo from digest", func(c context.Context, a arguments) error { return discard(r.MountBlob(c, a.repo, a.from, a.digest)) }},
		"Upload": {"repo", func(c context.Context, a arguments) error {
			return discard(r.Upload(c, a.repo, "", oci.UploadOptions{}))
		}},
		"Upload by id": {"repo", func(c context.Context, a arguments) error {
			return discard(r.Upload(c, a.repo, "x", oci.UploadOptions{}))
		}},
		"DeleteTag":      {"repo tag", func(c context.Context, a arguments) error { return r.DeleteTag(c, a.repo, a.tag, "") }},
		"DeleteTag was":  {"repo tag digest", func(c context.Context, a arguments) error { return r.DeleteTag(c, a.repo, a.tag, a.digest) }},
		"DeleteManifest": {"repo digest", func(c context.Context, a arguments) error { return r.DeleteManifest(c, a.repo, a.digest) }},
		"DeleteBlob":     {"repo digest", func(c context.Context, a arguments) error { return r.DeleteBlob(c, a.repo, a.digest) }},
		"DeleteRepo":     {"repo", func(c context.Context, a arguments) error { return r.DeleteRepo(c, a.repo) }},
		"Tags":           {"repo", func(c context.Context, a arguments) error { _, err := collect(r.Tags(c, a.repo, "")); return err }},
		"TagDetails":     {"repo", func(c context.Context, a arguments) error { _, err := collect(r.TagDetails(c, a.repo, "")); return err }},
		"Referrers": {"repo digest", func(c context.Context, a arguments) error {
			_, err := collect(r.Referrers(c, a.repo, a.digest, ""))
			return err
		}},
	}
}

type call struct {
	takes string
	do    func(context.Context, arguments) error
}

// refuse fails the test unless every method that takes the argument refuses
// it with the code.
func (s *suite) refuse(code oci.Code, argument string, bad arguments, value string) {
	s.Helper()
	methods := calls(s.Registry)
	for _, name := range slices.Sorted(maps.Keys(methods)) {
		c := methods[name]
		if !slices.Contains(strings.Fields(c.takes), argument) {
			continue
		}
		if err := c.do(s.Context(), bad); !errors.Is(err, code) {
			s.Errorf("%s with %s %.40q: error is %s, want %s", name, argument, value, describe(err), code.Error())
		}
	}
}

func (s *suite) badRepos() {
	for _, name := range badRepos() {
		a := goodArguments()
		a.repo = name
		s.refuse(oci.NameInvalid, "repo", a, name)
		if name != "" { // An empty source means any.
			a = goodArguments()
			a.from = name
			s.refuse(oci.NameInvalid, "from", a, name)
		}
	}
}

func badRepos() []string {
	return []string{
		"", "/", "a/", "/a", "a//b", ".", "..", "a/../b", "a/./b", "_a", "a_", "-a", "a-", ".a", "a.", "a/_layers", "_manifests/a",
		"a..b", "a___b", "a._b", "A", "a/B", "a b", "a:b", "a@b", "a\\b", "a\x00", "é", "a\n", strings.Repeat("a", 256),
	}
}

func (s *suite) badTags() {
	for _, tag := range []string{"", ".a", "-a", "a/b", "a b", "é", "a\x00", "a\n", "..", "a+b", "a@b", strings.Repeat("a", 129)} {
		a := goodArguments()
		a.ref, a.tag = tag, tag
		s.refuse(oci.TagInvalid, "ref", a, tag)
		s.refuse(oci.TagInvalid, "tag", a, tag)
	}
	a := goodArguments() // A digest is a ref, but no tag.
	a.tag = string(a.digest)
	s.refuse(oci.TagInvalid, "tag", a, a.tag)
}

func (s *suite) badDigests() {
	good := string(digest.FromString("content"))
	for _, d := range []string{
		"sha256:", "sha256:x", ":", "sha256:" + strings.Repeat("g", 64), strings.ToUpper(good), "sha256:" + strings.ToUpper(good[7:]),
		good + "0", good[:70], "sha512:" + good[7:], "md5:d41d8cd98f00b204e9800998ecf8427e", "sha256:../../" + good[13:], good + "\n",
	} {
		a := goodArguments()
		a.ref, a.digest = d, oci.Digest(d)
		s.refuse(oci.DigestInvalid, "ref", a, d)
		s.refuse(oci.DigestInvalid, "digest", a, d)
	}
	_, err := s.Upload(s.Context(), repo, "", oci.UploadOptions{Algorithm: "md5"})
	s.want(oci.DigestInvalid, err)
}

func (s *suite) badCommit() {
	up := s.upload("")
	s.write(up, "content")
	for _, d := range []oci.Digest{"", "x", "sha256:", "md5:d41d8cd98f00b204e9800998ecf8427e"} {
		_, err := up.Commit(s.Context(), d)
		s.want(oci.DigestInvalid, err)
	}
	s.commit(up, "content")
}

func (s *suite) longNames() {
	long := strings.Repeat("a/", 120) + strings.Repeat("b", 15) // 255 bytes
	tag := strings.Repeat("t", 128)
	d := s.image(long, "1", tag).Digest
	s.hasManifest(long, tag, d)
	equalSlices(s, "tags", all(s, s.Tags(s.Context(), long, "")), []string{tag})
	for _, name := range []string{"0", "a__b", "a--b", "a---b.c_d", "a.b.c", "1/2/3", strings.Repeat("c", 200)} {
		s.hasManifest(name, "v1", s.image(name, "1", "v1").Digest)
	}
}

func (s *suite) badLeaveNothing() {
	for _, name := range badRepos() {
		a := goodArguments()
		a.repo = name
		for _, c := range calls(s.Registry) {
			_ = c.do(s.Context(), a)
		}
	}
	a := goodArguments()
	a.digest, a.tag = "sha256:x", "bad tag"
	for _, c := range calls(s.Registry) {
		_ = c.do(s.Context(), a)
	}
	equalSlices(s, "repositories", all(s, s.Repos(s.Context(), "")), nil)
	_, err := collect(s.Tags(s.Context(), repo, ""))
	s.want(oci.NameUnknown, err)
}
