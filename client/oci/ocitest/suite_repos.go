package ocitest

import (
	"slices"

	"github.com/opencontainers/go-digest"

	"github.com/regctl/regctl/client/oci"
)

func repoRequirements(x Exceptions) []requirement {
	return []requirement{
		{"DeleteRepo removes everything in a repository", (*suite).deleteRepo, x.NoRepoDelete},
		{"an upload whose repository was deleted cannot be committed", (*suite).deleteRepoUpload, x.NoRepoDelete},
		{"DeleteRepo leaves repositories whose names continue its name", (*suite).deleteRepoAlone, x.NoRepoDelete},
		{"DeleteRepo leaves the repositories above it", (*suite).deleteRepoBelow, x.NoRepoDelete},
		{"DeleteRepo of an unknown repository is NAME_UNKNOWN", (*suite).deleteRepoUnknown, x.NoRepoDelete},
		{"a deleted repository may be pushed to again", (*suite).deleteRepoAgain, x.NoRepoDelete},
		{"the catalogue lists repositories in bytewise order of the full name", (*suite).repoOrder, x.NoCatalogue},
		{"the catalogue goes on after any name", (*suite).repoAfter, x.NoCatalogue},
		{"the catalogue of an empty registry is empty", (*suite).repoNone, x.NoCatalogue},
		{"a repository without a manifest is not in the catalogue", (*suite).repoWithout, x.NoCatalogue},
		{"a repository leaves the catalogue with its last manifest", (*suite).repoEmptied, or(x.NoCatalogue, x.NoDelete)},
		{"a repository without tags stays in the catalogue", (*suite).repoUntagged, or(x.NoCatalogue, x.NoTagDelete)},
	}
}

func (s *suite) deleteRepo() {
	d := s.image(repo, "1", "a", "b").Digest
	s.image(other, "1", "a")
	up := s.upload("")
	s.write(up, "unfinished")
	s.must(up.Close())
	s.must(s.DeleteRepo(s.Context(), repo))

	s.lacksManifest(repo, "a")
	s.lacksManifest(repo, string(d))
	s.lacksBlob(repo, digest.FromString("layer of 1"))
	s.noUpload(repo, up.ID())
	_, err := collect(s.Tags(s.Context(), repo, ""))
	s.want(oci.NameUnknown, err)
	equalSlices(s, "repositories", all(s, s.Repos(s.Context(), "")), []string{other})
	s.hasManifest(other, "a", d)
	s.hasBlob(other, digest.FromString("layer of 1"), "layer of 1")
	s.want(oci.NameUnknown, s.DeleteRepo(s.Context(), repo))
}

func (s *suite) deleteRepoUpload() {
	s.image(repo, "1")
	idle, begun := s.upload(""), s.upload("")
	s.write(begun, "content")
	s.must(s.DeleteRepo(s.Context(), repo))
	for _, up := range []oci.Upload{idle, begun} {
		_, _ = up.Write(nil) // It may notice now, it must when it commits.
		content := []string{"", "content"}[min(up.Size(), 1)]
		_, err := up.Commit(s.Context(), digest.FromString(content))
		s.want(oci.BlobUploadUnknown, err)
		s.lacksBlob(repo, digest.FromString(content))
		s.noUpload(repo, up.ID())
	}
	s.want(oci.NameUnknown, s.DeleteRepo(s.Context(), repo))
}

func (s *suite) deleteRepoAlone() {
	names := []string{"a-b", "a.b", "a/b", "a/b/c", "aa"}
	for _, name := range append([]string{"a"}, names...) {
		s.image(name, "1", "v1")
	}
	s.must(s.DeleteRepo(s.Context(), "a"))
	equalSlices(s, "repositories", all(s, s.Repos(s.Context(), "")), names)
	for _, name := range names {
		s.hasBlob(name, digest.FromString("layer of 1"), "layer of 1")
		equalSlices(s, "tags of "+name, all(s, s.Tags(s.Context(), name, "")), []string{"v1"})
	}
}

func (s *suite) deleteRepoBelow() {
	for _, name := range []string{"a", "a/b", "a/b/c"} {
		s.image(name, "1", "v1")
	}
	s.must(s.DeleteRepo(s.Context(), "a/b/c"))
	s.must(s.DeleteRepo(s.Context(), "a/b"))
	equalSlices(s, "repositories", all(s, s.Repos(s.Context(), "")), []string{"a"})
	s.hasBlob("a", digest.FromString("layer of 1"), "layer of 1")
}

func (s *suite) deleteRepoUnknown() {
	s.image(repo, "1")
	for _, name := range []string{"team", "team/app/below", "never/pushed"} {
		s.want(oci.NameUnknown, s.DeleteRepo(s.Context(), name))
	}
	equalSlices(s, "repositories", all(s, s.Repos(s.Context(), "")), []string{repo})
}

func (s *suite) deleteRepoAgain() {
	raw := s.imageOf(repo, "1")
	PushManifest(s, s.Registry, repo, raw, "v1")
	s.must(s.DeleteRepo(s.Context(), repo))
	_, err := s.PutManifest(s.Context(), repo, oci.Put{Raw: []byte(raw)})
	s.want(oci.ManifestBlobUnknown, err)
	d := s.image(repo, "1", "v2").Digest
	s.hasManifest(repo, "v2", d)
	equalSlices(s, "tags", all(s, s.Tags(s.Context(), repo, "")), []string{"v2"})
}

// sortedRepos are names whose order in bytes is not that of a walk through
// directories.
func sortedRepos() []string {
	return []string{"a", "a-b", "a-b/c", "a.b", "a/0", "a/b", "a/b-c", "a/b/c", "a/bc", "a0", "a_b", "ab", "b", "b/a"}
}

func (s *suite) pushRepos() []string {
	s.Helper()
	names := sortedRepos()
	for i := range names { // In an order that is not theirs.
		s.index(names[(i*5+3)%len(names)])
	}
	return names
}

func (s *suite) repoOrder() {
	names := s.pushRepos()
	equal(s, "the names of this test are sorted", slices.IsSorted(names), true)
	equalSlices(s, "repositories", all(s, s.Repos(s.Context(), "")), names)
	for name, err := range s.Repos(s.Context(), "") {
		s.must(err)
		equal(s, "the first one", name, names[0])
		break
	}
}

func (s *suite) repoAfter() {
	names := s.pushRepos()
	for _, after := range append([]string{"0", "a,", "a/", "a/a", "a/b0", "a1", "b/", "zzz", "~"}, names...) {
		rest := names[len(names):]
		if i := slices.IndexFunc(names, func(name string) bool { return name > after }); i >= 0 {
			rest = names[i:]
		}
		equalSlices(s, "after "+after, all(s, s.Repos(s.Context(), after)), rest)
	}
}

func (s *suite) repoNone() {
	equalSlices(s, "repositories", all(s, s.Repos(s.Context(), "")), nil)
	equalSlices(s, "repositories", all(s, s.Repos(s.Context(), "a")), nil)
}

func (s *suite) repoWithout() {
	PushBlob(s, s.Registry, "blobs/only", "content")
	s.lacksManifest("asked/only", "v1")
	up := s.upload("")
	s.write(up, "unfinished")
	s.must(up.Close())
	equalSlices(s, "repositories", all(s, s.Repos(s.Context(), "")), nil)
}

func (s *suite) repoEmptied() {
	first, last := s.image(repo, "1", "v1").Digest, s.image(repo, "2").Digest
	s.image("team", "1")
	s.must(s.DeleteManifest(s.Context(), repo, first))
	equalSlices(s, "repositories", all(s, s.Repos(s.Context(), "")), []string{"team", repo})
	s.must(s.DeleteManifest(s.Context(), repo, last))
	equalSlices(s, "repositories", all(s, s.Repos(s.Context(), "")), []string{"team"})
	s.image(repo, "2")
	equalSlices(s, "repositories", all(s, s.Repos(s.Context(), "")), []string{"team", repo})
}

func (s *suite) repoUntagged() {
	s.image(repo, "1", "v1")
	s.must(s.DeleteTag(s.Context(), repo, "v1", ""))
	equalSlices(s, "repositories", all(s, s.Repos(s.Context(), "")), []string{repo})
	equalSlices(s, "tags", all(s, s.Tags(s.Context(), repo, "")), nil)
}
