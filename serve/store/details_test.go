package store_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/regctl/regctl/client/oci"
	"github.com/regctl/regctl/serve/meta"
	"github.com/regctl/regctl/serve/storage"
	"github.com/regctl/regctl/serve/storage/mem"
	"github.com/regctl/regctl/serve/store"
)

// onOpen counts every key that is read.
type onOpen struct {
	storage.Backend
	count *atomic.Int64
}

func (b *onOpen) Open(ctx context.Context, key string) (io.ReadSeekCloser, storage.Info, error) {
	b.count.Add(1)
	return b.Backend.Open(ctx, key)
}

const datedConfig = `{"os":"linux","architecture":"amd64","created":"2024-01-01T00:00:00Z"}`

func detailsOf(t *testing.T, r oci.Registry, repo string) []oci.TagDetail {
	t.Helper()
	var list []oci.TagDetail
	for d, err := range r.TagDetails(t.Context(), repo, "") {
		if err != nil {
			t.Fatal(err)
		}
		list = append(list, d)
	}
	return list
}

// A config that could not be read once is read when it is back.
func TestDetailsOfAMissingConfigAreNotRemembered(t *testing.T) {
	b := mem.New()
	s := open(t, b)
	config := pushBlob(t, s, "a", datedConfig)
	raw := imageOf(t, config, pushBlob(t, s, "a", "layer"))
	if _, err := s.PutManifest(t.Context(), "a", oci.Put{Raw: raw, Tags: []string{"v1"}}); err != nil {
		t.Fatal(err)
	}
	if err := b.Remove(t.Context(), meta.BlobKey(config.Digest)); err != nil {
		t.Fatal(err)
	}
	if d := detailsOf(t, s, "a")[0]; !d.Created.IsZero() || len(d.Platforms) != 0 {
		t.Fatalf("without its config: %+v", d)
	}
	pushBlob(t, s, "a", datedConfig)
	if d := detailsOf(t, s, "a")[0]; d.Created.Year() != 2024 || len(d.Platforms) != 1 {
		t.Errorf("healed: %+v", d)
	}
}

// A sparse image tells nothing of a config that only another repository has.
func TestDetailsReadOnlyWhatIsInTheRepository(t *testing.T) {
	s, err := store.New(t.Context(), mem.New(), store.Options{SparseImages: true})
	if err != nil {
		t.Fatal(err)
	}
	raw := imageOf(t, pushBlob(t, s, "secret", datedConfig), pushBlob(t, s, "secret", "layer"))
	if _, err := s.PutManifest(t.Context(), "public", oci.Put{Raw: raw, Tags: []string{"v1"}}); err != nil {
		t.Fatal(err)
	}
	if d := detailsOf(t, s, "public")[0]; !d.Created.IsZero() || len(d.Platforms) != 0 {
		t.Errorf("told: %+v", d)
	}
	pushBlob(t, s, "public", datedConfig)
	if d := detailsOf(t, s, "public")[0]; d.Created.Year() != 2024 {
		t.Errorf("once it is a member: %+v", d)
	}
}

// sparseIndex names n manifests that are nowhere.
func sparseIndex(n int) []byte {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, `,{"digest":"sha256:%064x"}`, i)
	}
	return []byte(`{"schemaVersion":2,"manifests":[` + strings.TrimPrefix(b.String(), ",") + `]}`)
}

// An index with missing children is walked once a listing, not once a tag.
func TestDetailsOfASparseIndexAreLookedUpOnce(t *testing.T) {
	const tags, children = 20, 50
	var looks atomic.Int64
	b := &onOpen{mem.New(), &looks}
	s := openWithoutMemory(t, b) // So that every look is one at the storage.
	var names []string
	for i := range tags {
		names = append(names, fmt.Sprint("t", i))
	}
	if _, err := s.PutManifest(t.Context(), "app", oci.Put{Raw: sparseIndex(children), Tags: names[:1]}); err != nil {
		t.Fatal(err)
	}
	looks.Store(0)
	detailsOf(t, s, "app")
	one := looks.Load()
	if _, err := s.PutManifest(t.Context(), "app", oci.Put{Raw: sparseIndex(children), Tags: names}); err != nil {
		t.Fatal(err)
	}
	looks.Store(0)
	if got := len(detailsOf(t, s, "app")); got != tags {
		t.Fatalf("%d tags", got)
	}
	if looks := looks.Load(); looks > 4*one+10*tags {
		t.Errorf("%d looks for %d tags of one index, %d for one", looks, tags, one)
	}
}

// Nothing goes on for a client that has gone.
func TestDetailsEndWithTheContext(t *testing.T) {
	s := open(t, mem.New())
	for i := range 50 {
		if _, err := s.PutManifest(t.Context(), "app", oci.Put{Raw: sparseIndex(i + 1), Tags: []string{fmt.Sprint("t", i)}}); err != nil {
			t.Fatal(err)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	n := 0
	for _, err := range s.TagDetails(ctx, "app", "") {
		if n++; n == 3 {
			cancel()
		}
		if n > 4 || n == 4 && !errors.Is(err, context.Canceled) || n < 4 && err != nil {
			t.Fatalf("the %dth: %v", n, err)
		}
	}
	if n != 4 {
		t.Errorf("%d were told", n)
	}
}
