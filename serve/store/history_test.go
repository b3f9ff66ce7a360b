package store_test

import (
	"context"
	"iter"
	"testing"

	"github.com/regctl/regctl/client/oci"
	"github.com/regctl/regctl/client/oci/ocitest"
	"github.com/regctl/regctl/serve/storage"
	"github.com/regctl/regctl/serve/storage/mem"
	"github.com/regctl/regctl/serve/store"
)

// calls is how long a history is; seeds is how many there are.
const (
	calls = 200
	seeds = 8
)

func TestHistoriesAreThoseOfTheReference(t *testing.T) {
	for seed := range uint64(seeds) {
		ocitest.History(t, seed, calls,
			func(testing.TB) oci.Registry { return ocitest.NewRegistry() },
			func(t testing.TB) oci.Registry { return open(t, mem.New()) })
	}
}

// A registry that reads the layout afresh for every call answers as one that
// remembers: so memory never differs from the layout.
func TestMemoryIsWhatAFreshReadOfTheLayoutFinds(t *testing.T) {
	for seed := range uint64(seeds) {
		ocitest.History(t, seed, calls,
			func(t testing.TB) oci.Registry {
				b := mem.New()
				return forgetful{t: t, b: b, uploads: openWithoutMemory(t, b)}
			},
			func(t testing.TB) oci.Registry { return open(t, mem.New()) })
	}
}

func openWithoutMemory(t testing.TB, b storage.Backend) *store.Store {
	t.Helper()
	s, err := store.New(t.Context(), b, store.Options{Budget: -1, Bodies: 1})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// Without a budget the store forgets every repository at once.
func TestHistoriesWithoutRoomToRemember(t *testing.T) {
	for seed := range uint64(seeds) {
		ocitest.History(t, seed, calls,
			func(testing.TB) oci.Registry { return ocitest.NewRegistry() },
			func(t testing.TB) oci.Registry { return openWithoutMemory(t, mem.New()) })
	}
}

// forgetful opens a new store for every call. Only uploads stay with one, as
// the claims of handles on them are kept in no layout.
type forgetful struct {
	t       testing.TB
	b       storage.Backend
	uploads *store.Store
}

func (f forgetful) now() *store.Store { return open(f.t, f.b) }

func (f forgetful) Resolve(ctx context.Context, repo, ref string) (oci.Descriptor, error) {
	return f.now().Resolve(ctx, repo, ref)
}

func (f forgetful) Manifest(ctx context.Context, repo, ref string) (oci.Manifest, error) {
	return f.now().Manifest(ctx, repo, ref)
}

func (f forgetful) StatBlob(ctx context.Context, repo string, d oci.Digest) (oci.Descriptor, error) {
	return f.now().StatBlob(ctx, repo, d)
}

func (f forgetful) Blob(ctx context.Context, repo string, d oci.Digest) (oci.BlobReader, error) {
	return f.now().Blob(ctx, repo, d)
}

func (f forgetful) PutManifest(ctx context.Context, repo string, p oci.Put) (oci.Descriptor, error) {
	return f.now().PutManifest(ctx, repo, p)
}

func (f forgetful) MountBlob(ctx context.Context, repo, from string, d oci.Digest) (oci.Upload, error) {
	u, err := f.uploads.MountBlob(ctx, repo, from, d)
	if err != nil || u == nil || from != "" {
		return u, err
	}
	if err := u.Cancel(ctx); err != nil { // Its catalogue is an old one.
		return nil, err
	}
	return f.now().MountBlob(ctx, repo, from, d)
}

func (f forgetful) Upload(ctx context.Context, repo, id string, o oci.UploadOptions) (oci.Upload, error) {
	return f.uploads.Upload(ctx, repo, id, o)
}

func (f forgetful) DeleteTag(ctx context.Context, repo, tag string, was oci.Digest) error {
	return f.now().DeleteTag(ctx, repo, tag, was)
}

func (f forgetful) DeleteManifest(ctx context.Context, repo string, d oci.Digest) error {
	return f.now().DeleteManifest(ctx, repo, d)
}

func (f forgetful) DeleteBlob(ctx context.Context, repo string, d oci.Digest) error {
	return f.now().DeleteBlob(ctx, repo, d)
}

func (f forgetful) DeleteRepo(ctx context.Context, repo string) error {
	return f.now().DeleteRepo(ctx, repo)
}

func (f forgetful) Repos(ctx context.Context, after string) iter.Seq2[string, error] {
	return f.now().Repos(ctx, after)
}

func (f forgetful) Tags(ctx context.Context, repo, after string) iter.Seq2[string, error] {
	return f.now().Tags(ctx, repo, after)
}

func (f forgetful) TagDetails(ctx context.Context, repo, after string) iter.Seq2[oci.TagDetail, error] {
	return f.now().TagDetails(ctx, repo, after)
}

func (f forgetful) Referrers(ctx context.Context, repo string, d oci.Digest, artifactType string) iter.Seq2[oci.Descriptor, error] {
	return f.now().Referrers(ctx, repo, d, artifactType)
}
