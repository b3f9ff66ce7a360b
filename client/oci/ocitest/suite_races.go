package ocitest

import (
	"errors"
	"fmt"
	"sync"

	"github.com/opencontainers/go-digest"

	"github.com/regctl/regctl/client/oci"
)

// rounds is how often a race is run: each gives the calls another chance to
// meet in an unlucky order.
const rounds = 20

func raceRequirements(x Exceptions) []requirement {
	reqs := []requirement{
		{"two pushes of one tag leave it on one of the two", (*suite).raceTag, ""},
		{"of many pushes of a new tag with NoOverwrite one wins", (*suite).raceNoOverwrite, x.NoOverwrite},
		{"of many pushes of a new tag in Fixed one wins", (*suite).raceFixed, x.NoOverwrite},
		{"of two deletions of a tag one succeeds", (*suite).raceDeleteTag, x.NoTagDelete},
		{"a deletion and a push of one manifest leave no dangling tag", (*suite).raceDelete, x.NoDelete},
		{"a deletion of a blob and a push of its image do not both succeed", (*suite).raceDeleteBlob, or(x.NoDelete, x.NoProtection)},
		{"many uploads of one blob all succeed", (*suite).raceUploads, ""},
		{"many mounts of one blob all succeed", (*suite).raceMounts, ""},
		{"of two handles that commit an upload one succeeds", (*suite).raceCommit, x.NoClaims},
		{"a deletion of a repository and a push to it leave nothing broken", (*suite).raceDeleteRepo, x.NoRepoDelete},
		{"many repositories may be pushed to at once", (*suite).raceRepos, ""},
	}
	for i := range reqs {
		reqs[i].except = or(reqs[i].except, x.NoAtomicity)
	}
	return reqs
}

// atOnce makes the calls at the same time and returns the error of each.
func atOnce(calls ...func() error) []error {
	errs := make([]error, len(calls))
	gate := make(chan struct{})
	var wg sync.WaitGroup
	for i, call := range calls {
		wg.Go(func() {
			<-gate
			errs[i] = call()
		})
	}
	close(gate)
	wg.Wait()
	return errs
}

// put returns a call that pushes a manifest whose blobs are there.
func (s *suite) put(repo, raw, tag string) func() error {
	return func() error {
		_, err := s.PutManifest(s.Context(), repo, oci.Put{Tags: []string{tag}, Raw: []byte(raw)})
		return err
	}
}

// succeeded counts the calls without an error; the others must have the code.
func (s *suite) succeeded(errs []error, code oci.Code) int {
	s.Helper()
	n := 0
	for _, err := range errs {
		if err == nil {
			n++
		} else {
			s.want(code, err)
		}
	}
	return n
}

func (s *suite) raceTag() {
	one, two := s.imageOf(repo, "1"), s.imageOf(repo, "2")
	for range rounds {
		for _, err := range atOnce(s.put(repo, one, "v1"), s.put(repo, two, "v1")) {
			s.must(err)
		}
		d, err := s.Resolve(s.Context(), repo, "v1")
		s.must(err)
		if d.Digest != digest.FromString(one) && d.Digest != digest.FromString(two) {
			s.Fatalf("v1 is %s, which nobody pushed", d.Digest)
		}
		for _, raw := range []string{one, two} {
			s.hasManifest(repo, string(digest.FromString(raw)), digest.FromString(raw))
		}
	}
}

func (s *suite) raceNoOverwrite() {
	s.raceNew(func(raw, tag string) oci.Put {
		return oci.Put{Tags: []string{tag}, Raw: []byte(raw), NoOverwrite: true}
	})
}

func (s *suite) raceFixed() {
	s.raceNew(func(raw, tag string) oci.Put {
		return oci.Put{Tags: []string{"any", tag}, Raw: []byte(raw), Fixed: []string{tag}}
	})
}

// raceNew makes pushes of a new tag, of which one must win.
func (s *suite) raceNew(p func(raw, tag string) oci.Put) {
	var raws []string
	for i := range 4 {
		raws = append(raws, s.imageOf(repo, fmt.Sprint(i)))
	}
	for round := range rounds {
		tag := fmt.Sprint("v", round)
		var puts []func() error
		for _, raw := range raws {
			puts = append(puts, func() error {
				_, err := s.PutManifest(s.Context(), repo, p(raw, tag))
				return err
			})
		}
		errs := atOnce(puts...)
		equal(s, "pushes that succeeded", s.succeeded(errs, oci.TagExists), 1)
		for i, err := range errs {
			if err == nil {
				s.hasManifest(repo, tag, digest.FromString(raws[i]))
			}
		}
	}
}

func (s *suite) raceDeleteTag() {
	for range rounds {
		s.image(repo, "1", "v1")
		remove := func() error { return s.DeleteTag(s.Context(), repo, "v1", "") }
		equal(s, "deletions that succeeded", s.succeeded(atOnce(remove, remove, remove), oci.ManifestUnknown), 1)
		s.lacksManifest(repo, "v1")
	}
}

func (s *suite) raceDelete() {
	raw := s.imageOf(repo, "1")
	d := digest.FromString(raw)
	for range rounds {
		PushManifest(s, s.Registry, repo, raw, "v1")
		errs := atOnce(
			s.put(repo, raw, "v1"),
			func() error { return s.DeleteManifest(s.Context(), repo, d) },
			s.put(repo, raw, "v2"),
		)
		for _, err := range errs {
			s.must(err)
		}
		tags := all(s, s.Tags(s.Context(), repo, ""))
		_, err := s.Manifest(s.Context(), repo, string(d))
		if err != nil {
			s.want(oci.ManifestUnknown, err)
			equalSlices(s, "tags of a manifest that is gone", tags, nil)
			continue
		}
		for _, tag := range tags {
			s.hasManifest(repo, tag, d)
		}
		s.must(s.DeleteManifest(s.Context(), repo, d))
	}
}

func (s *suite) raceDeleteBlob() {
	for i := range rounds {
		raw := s.imageOf(repo, fmt.Sprint(i))
		content := fmt.Sprint("layer of ", i)
		layer := digest.FromString(content)
		errs := atOnce(
			s.put(repo, raw, "v1"),
			func() error { return s.DeleteBlob(s.Context(), repo, layer) },
		)
		pushed, deleted := errs[0] == nil, errs[1] == nil
		switch {
		case pushed && deleted:
			s.Fatalf("an image was accepted and its layer %s deleted", layer)
		case pushed:
			s.want(oci.Unsupported, errs[1])
			s.hasBlob(repo, layer, content)
		default:
			s.want(oci.ManifestBlobUnknown, errs[0])
			s.must(errs[1])
			s.lacksBlob(repo, layer)
		}
	}
}

func (s *suite) raceUploads() {
	for i := range rounds {
		content := fmt.Sprint("content of round ", i)
		push := func(repo string) func() error {
			return func() error {
				_, err := upload(s.Context(), s.Registry, repo, []byte(content), digest.FromString(content))
				return err
			}
		}
		for _, err := range atOnce(push(repo), push(repo), push(other), push(repo), push(other)) {
			s.must(err)
		}
		s.hasBlob(repo, digest.FromString(content), content)
		s.hasBlob(other, digest.FromString(content), content)
	}
}

func (s *suite) raceMounts() {
	for i := range rounds {
		content := fmt.Sprint("content of round ", i)
		d := PushBlob(s, s.Registry, other, content).Digest
		mount := func() error {
			up, err := s.MountBlob(s.Context(), repo, other, d)
			if up != nil {
				return errors.Join(errors.New("a mount became an upload"), up.Cancel(s.Context()))
			}
			return err
		}
		for _, err := range atOnce(mount, mount, mount, mount) {
			s.must(err)
		}
		s.hasBlob(repo, d, content)
	}
}

func (s *suite) raceCommit() {
	for i := range rounds {
		content := fmt.Sprint("content of round ", i)
		up := s.upload("")
		s.write(up, content)
		s.must(up.Close())
		commit := func(up oci.Upload) func() error {
			return func() error {
				_, err := up.Commit(s.Context(), digest.FromString(content))
				return err
			}
		}
		errs := atOnce(commit(s.upload(up.ID())), commit(s.upload(up.ID())), commit(s.upload(up.ID())))
		n := 0
		for _, err := range errs {
			if err == nil {
				n++
			} else if !errors.Is(err, oci.UploadBusy) && !errors.Is(err, oci.BlobUploadUnknown) {
				s.Errorf("error is %s, want UPLOAD_BUSY or BLOB_UPLOAD_UNKNOWN", describe(err))
			}
		}
		equal(s, "commits that succeeded", n, 1)
		s.hasBlob(repo, digest.FromString(content), content)
	}
}

func (s *suite) raceDeleteRepo() {
	for range rounds {
		s.image("a/b", "1", "kept")
		raw := s.imageOf("a", "1")
		PushManifest(s, s.Registry, "a", raw, "v1")
		errs := atOnce(s.put("a", raw, "v2"), func() error { return s.DeleteRepo(s.Context(), "a") })
		if errs[0] != nil {
			s.want(oci.ManifestBlobUnknown, errs[0])
		}
		s.must(errs[1])
		for _, name := range all(s, s.Repos(s.Context(), "")) {
			for _, tag := range all(s, s.Tags(s.Context(), name, "")) {
				s.hasManifest(name, tag, digest.FromString(raw))
				s.hasBlob(name, digest.FromString("layer of 1"), "layer of 1")
			}
		}
		s.hasManifest("a/b", "kept", digest.FromString(raw))
	}
}

func (s *suite) raceRepos() {
	var pushes []func() error
	var names []string
	for i := range 8 {
		name := fmt.Sprint("many/repo", i)
		names = append(names, name)
		pushes = append(pushes, func() error {
			_, err := s.PutManifest(s.Context(), name, oci.Put{Tags: []string{"v1"}, Raw: marshal(s, NewIndex())})
			return err
		})
	}
	for _, err := range atOnce(pushes...) {
		s.must(err)
	}
	for _, name := range names {
		equalSlices(s, "tags of "+name, all(s, s.Tags(s.Context(), name, "")), []string{"v1"})
	}
}
