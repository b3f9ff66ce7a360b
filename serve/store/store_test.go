package store_test

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/regctl/regctl/client/oci"
	"github.com/regctl/regctl/serve/storage"
	"github.com/regctl/regctl/serve/storage/mem"
	"github.com/regctl/regctl/serve/store"
)

// open opens a store and waits until it has read its catalogue.
func open(t testing.TB, b storage.Backend) *store.Store {
	t.Helper()
	s, err := store.New(t.Context(), b, store.Options{})
	if err != nil {
		t.Fatal(err)
	}
	collect(t, s.Repos(t.Context(), ""))
	return s
}

func pushBlob(t testing.TB, r oci.Registry, repo, content string) oci.Descriptor {
	t.Helper()
	ctx := context.WithoutCancel(t.Context())
	u, err := r.Upload(ctx, repo, "", oci.UploadOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer u.Close()
	if _, err := io.Copy(u, strings.NewReader(content)); err != nil {
		t.Fatal(err)
	}
	d, err := u.Commit(ctx, digest.FromString(content))
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func imageOf(t testing.TB, config, layer oci.Descriptor) []byte {
	t.Helper()
	config.MediaType, layer.MediaType = ocispec.MediaTypeImageConfig, ocispec.MediaTypeImageLayer
	raw, err := json.Marshal(map[string]any{
		"schemaVersion": 2, "mediaType": oci.MediaTypeManifest,
		"config": config, "layers": []oci.Descriptor{layer},
	})
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

func TestPushIsFoundByTheNextProcess(t *testing.T) {
	b := mem.New()
	first := open(t, b)
	raw := imageOf(t, pushBlob(t, first, "team/app", "{}"), pushBlob(t, first, "team/app", "layer"))
	want, err := first.PutManifest(t.Context(), "team/app", oci.Put{Tags: []string{"latest"}, Raw: raw})
	if err != nil {
		t.Fatal(err)
	}

	second := open(t, b)
	m, err := second.Manifest(t.Context(), "team/app", "latest")
	if err != nil || m.Descriptor.Digest != want.Digest || string(m.Raw) != string(raw) {
		t.Fatalf("got %v, %v; want %v", m.Descriptor, err, want)
	}
	blob, err := second.Blob(t.Context(), "team/app", digest.FromString("layer"))
	if err != nil {
		t.Fatal(err)
	}
	defer blob.Close()
	if got, err := io.ReadAll(blob); err != nil || string(got) != "layer" {
		t.Fatalf("got %q, %v", got, err)
	}
	for repo, err := range second.Repos(t.Context(), "") {
		if err != nil || repo != "team/app" {
			t.Fatalf("got %q, %v", repo, err)
		}
	}
}

func TestBodyThatIsCutOffIsNotTakenForWhole(t *testing.T) {
	s := open(t, mem.New())
	u, err := s.Upload(t.Context(), "a", "", oci.UploadOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer u.Close()
	cut := io.MultiReader(strings.NewReader("abc"), failing{io.ErrUnexpectedEOF})
	if n, err := u.ReadFrom(cut); n != 3 || !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Fatalf("ReadFrom = %d, %v; want 3 and the error of the reader", n, err)
	}
}

type failing struct{ err error }

func (f failing) Read([]byte) (int, error) { return 0, f.err }

// However many uploads are abandoned meanwhile, a request that has found its
// upload is the only one that can write to it.
func TestAFoundUploadIsNotForgotten(t *testing.T) {
	s := open(t, mem.New())
	begun, err := s.Upload(t.Context(), "app", "", oci.UploadOptions{})
	if err != nil {
		t.Fatal(err)
	}
	id := begun.ID()
	if err := begun.Close(); err != nil {
		t.Fatal(err)
	}
	first, err := s.Upload(t.Context(), "app", id, oci.UploadOptions{}) // Its body is still under way.
	if err != nil {
		t.Fatal(err)
	}
	defer first.Close()
	for range 20_000 {
		abandoned, err := s.Upload(t.Context(), "other", "", oci.UploadOptions{})
		if err != nil {
			t.Fatal(err)
		}
		if err := abandoned.Close(); err != nil {
			t.Fatal(err)
		}
	}
	second, err := s.Upload(t.Context(), "app", id, oci.UploadOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer second.Close()
	if _, err := io.WriteString(first, "the whole blob"); err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(second, "bad"); !errors.Is(err, oci.UploadBusy) {
		t.Errorf("a second writer gets %v, want UPLOAD_BUSY", err)
	}
	d := digest.FromString("the whole blob")
	if _, err := first.Commit(t.Context(), d); err != nil {
		t.Fatal(err)
	}
	if err := hasBlob(s, "app", d); err != nil {
		t.Error(err)
	}
}

// What is on disk counts when memory believes something else: nothing that was
// received is cut off.
func TestUploadNeverCutsOffWhatIsOnDisk(t *testing.T) {
	b := mem.New()
	s := open(t, b)
	u, err := s.Upload(t.Context(), "app", "", oci.UploadOptions{})
	if err != nil {
		t.Fatal(err)
	}
	write := func(u oci.Upload, piece string) error {
		_, err := io.WriteString(u, piece)
		return errors.Join(err, u.Close())
	}
	if err := write(u, "one "); err != nil {
		t.Fatal(err)
	}
	elsewhere, err := open(t, b).Upload(t.Context(), "app", u.ID(), oci.UploadOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if err := write(elsewhere, "two "); err != nil {
		t.Fatal(err)
	}
	late, err := s.Upload(t.Context(), "app", u.ID(), oci.UploadOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if err := write(late, "three"); !errors.Is(err, oci.RangeInvalid) {
		t.Errorf("written where memory says: %v, want RANGE_INVALID", err)
	}
	again, err := s.Upload(t.Context(), "app", u.ID(), oci.UploadOptions{})
	if err != nil || again.Size() != int64(len("one two ")) {
		t.Fatalf("%v; the upload has %d bytes, want all that are on disk", err, again.Size())
	}
	defer again.Close()
	if _, err := io.WriteString(again, "three"); err != nil {
		t.Fatal(err)
	}
	if _, err := again.Commit(t.Context(), digest.FromString("one two three")); err != nil {
		t.Error(err)
	}
}
