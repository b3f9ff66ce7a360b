package ocitest

import (
	"errors"
	"io"
	"iter"
	"maps"
	"slices"
	"testing"

	"github.com/regctl/regctl/client/oci"
)

// Exceptions name what a registry lacks. Each is the reason why, as a
// sentence; it is logged in place of the requirements that are not tested for
// it. The registries of regctl itself need none of them.
type Exceptions struct {
	NoCatalogue   string // Repos is unsupported or incomplete.
	NoTagDetails  string // TagDetails is unsupported or tells less.
	NoReferrers   string // Referrers is unsupported.
	NoSHA512      string // Content can be addressed by sha256 only.
	NoAnyMount    string // MountBlob needs the repository to mount from.
	NoOverwrite   string // Put.NoOverwrite and Put.Fixed have no effect.
	NoTagDelete   string // DeleteTag is unsupported.
	NoConditions  string // DeleteTag ignores was.
	NoDelete      string // DeleteManifest and DeleteBlob are unsupported.
	NoProtection  string // What a manifest names can be deleted.
	NoRepoDelete  string // DeleteRepo is unsupported.
	NoClaims      string // Handles on one upload do not keep each other out.
	NoSizeLimit   string // Manifests larger than oci.MaxManifest are taken.
	LaxManifests  string // Manifests that are malformed or ambiguous are taken.
	StrictIndexes string // An index is refused while its manifests are missing.
	NoAtomicity   string // Calls at the same time may leave what none of them alone would.

	Others map[string]string // Further requirements by their sentences.
}

// Run tests that a registry does what the comments of [oci.Registry] say: each
// subtest is one sentence of them. open returns an empty registry and sees to
// its end with t.Cleanup; it is called for every subtest, of which several run
// at the same time.
func Run(t *testing.T, open func(t testing.TB) oci.Registry, lacking ...Exceptions) {
	var x Exceptions
	if len(lacking) > 0 {
		x = lacking[0]
	}
	groups := []struct {
		name         string
		requirements []requirement
	}{
		{"manifests", manifestRequirements(x)},
		{"refusals", refusalRequirements(x)},
		{"tags", tagRequirements(x)},
		{"blobs", blobRequirements(x)},
		{"uploads", uploadRequirements(x)},
		{"deletion", deleteRequirements(x)},
		{"repositories", repoRequirements(x)},
		{"lists", listRequirements(x)},
		{"referrers", referrerRequirements(x)},
		{"arguments", argumentRequirements(x)},
		{"concurrency", raceRequirements(x)},
	}
	others := maps.Clone(x.Others)
	for _, g := range groups {
		t.Run(g.name, func(t *testing.T) {
			for _, r := range g.requirements {
				r.except = or(r.except, x.Others[r.name])
				delete(others, r.name)
				t.Run(r.name, func(t *testing.T) { r.run(t, open) })
			}
		})
	}
	for name := range others {
		t.Errorf("an exception is made from what is not required: %q", name)
	}
}

// requirement is one sentence of the contract.
type requirement struct {
	name   string
	test   func(*suite)
	except string // Why it is not tested; empty: it is.
}

func (r requirement) run(t *testing.T, open func(t testing.TB) oci.Registry) {
	t.Parallel()
	if r.except != "" {
		t.Skipf("not required of this registry: %s", r.except)
	}
	r.test(&suite{t, open(t)})
}

// suite is a test with the registry it tests.
type suite struct {
	*testing.T
	oci.Registry
}

const (
	repo  = "team/app" // Where most tests work.
	other = "team/other"
)

// must fails the test if there is an error.
func (s *suite) must(err error) {
	s.Helper()
	if err != nil {
		s.Fatal(err)
	}
}

// want fails the test unless err has the code.
func (s *suite) want(code oci.Code, err error) {
	s.Helper()
	if !errors.Is(err, code) {
		s.Errorf("error is %s, want %s", describe(err), code.Error())
	}
}

func describe(err error) string {
	if err == nil {
		return "nil"
	}
	return string(oci.AsError(err).Code) + " (" + err.Error() + ")"
}

func equal[T comparable](s *suite, what string, got, want T) {
	s.Helper()
	if got != want {
		s.Errorf("%s: got %v, want %v", what, got, want)
	}
}

func equalSlices[T comparable](s *suite, what string, got, want []T) {
	s.Helper()
	if !slices.Equal(got, want) {
		s.Errorf("%s:\n got %v\nwant %v", what, got, want)
	}
}

// sameContent compares what a Registry must tell of content.
func (s *suite) sameContent(what string, got, want oci.Descriptor) {
	s.Helper()
	equal(s, what+": media type", got.MediaType, want.MediaType)
	equal(s, what+": digest", got.Digest, want.Digest)
	equal(s, what+": size", got.Size, want.Size)
}

// image pushes an image that differs from others by its seed.
func (s *suite) image(repo, seed string, tags ...string) oci.Descriptor {
	s.Helper()
	return PushManifest(s, s.Registry, repo, s.imageOf(repo, seed), tags...)
}

// imageOf pushes the blobs of an image and returns its manifest.
func (s *suite) imageOf(repo, seed string) string {
	s.Helper()
	config := PushBlob(s, s.Registry, repo, `{"seed":"`+seed+`"}`)
	layer := PushBlob(s, s.Registry, repo, "layer of "+seed)
	return imageRaw(s, config, layer)
}

// imageRaw returns an image manifest of blobs.
func imageRaw(t testing.TB, config oci.Descriptor, layers ...oci.Descriptor) string {
	t.Helper()
	config.MediaType = imageConfig
	for i, l := range layers {
		if l.MediaType == "" || l.MediaType == octets {
			layers[i].MediaType = imageLayer
		}
	}
	return string(marshal(t, NewImage(config, layers...)))
}

// index pushes an index of manifests.
func (s *suite) index(repo string, manifests ...oci.Descriptor) oci.Descriptor {
	s.Helper()
	return PushManifest(s, s.Registry, repo, string(marshal(s, NewIndex(manifests...))))
}

// hasManifest fails the test unless ref resolves to d.
func (s *suite) hasManifest(repo, ref string, d oci.Digest) {
	s.Helper()
	got, err := s.Resolve(s.Context(), repo, ref)
	if err != nil || got.Digest != d {
		s.Errorf("%s %s is %s (error %s), want %s", repo, ref, got.Digest, describe(err), d)
	}
}

func (s *suite) lacksManifest(repo, ref string) {
	s.Helper()
	_, err := s.Resolve(s.Context(), repo, ref)
	if !errors.Is(err, oci.ManifestUnknown) {
		s.Errorf("%s %s: error is %s, want MANIFEST_UNKNOWN", repo, ref, describe(err))
	}
}

// hasBlob fails the test unless the blob is in repo and has these bytes.
func (s *suite) hasBlob(repo string, d oci.Digest, want string) {
	s.Helper()
	desc, err := s.StatBlob(s.Context(), repo, d)
	if err != nil {
		s.Errorf("stat blob %s of %s: %v", d, repo, err)
		return
	}
	equal(s, "digest of the blob", desc.Digest, d)
	equal(s, "size of the blob", desc.Size, int64(len(want)))
	if got := s.read(repo, d); got != want {
		s.Errorf("blob %s has %d bytes %.60q, want %.60q", d, len(got), got, want)
	}
}

func (s *suite) read(repo string, d oci.Digest) string {
	s.Helper()
	b, err := s.Blob(s.Context(), repo, d)
	if err != nil {
		s.Errorf("open blob %s of %s: %v", d, repo, err)
		return ""
	}
	defer b.Close()
	equal(s, "digest of the open blob", b.Descriptor.Digest, d)
	data, err := io.ReadAll(b)
	s.must(err)
	equal(s, "size of the open blob", b.Descriptor.Size, int64(len(data)))
	return string(data)
}

func (s *suite) lacksBlob(repo string, d oci.Digest) {
	s.Helper()
	_, err := s.StatBlob(s.Context(), repo, d)
	s.want(oci.BlobUnknown, err)
	b, err := s.Blob(s.Context(), repo, d)
	s.want(oci.BlobUnknown, err)
	if err == nil {
		b.Close()
	}
}

// all collects a sequence that must not fail.
func all[T any](s *suite, seq iter.Seq2[T, error]) []T {
	s.Helper()
	items, err := collect(seq)
	s.must(err)
	return items
}

// collect collects a sequence and the error it ends with.
func collect[T any](seq iter.Seq2[T, error]) ([]T, error) {
	var items []T
	for item, err := range seq {
		if err != nil {
			return items, err
		}
		items = append(items, item)
	}
	return items, nil
}
