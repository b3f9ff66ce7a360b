package transfer_test

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"
	"strings"
	"testing"

	"github.com/regctl/regctl/client/oci"
	"github.com/regctl/regctl/client/oci/ocitest"
	"github.com/regctl/regctl/client/transfer"
)

// far is a registry as a client sees one: a page at a time.
type far struct {
	*ocitest.FaultyRegistry
	page  int // Of tags with details; 0: it has none.
	byTag bool
}

func (f *far) ReferrersByTag() bool { return f.byTag }

func (f *far) FirstTagDetails(ctx context.Context, repo string) (list []oci.TagDetail, more bool, err error) {
	if f.page == 0 {
		return nil, false, oci.Errorf(oci.Unsupported, "no details")
	}
	for d, err := range f.Registry.TagDetails(ctx, repo, "") {
		if err != nil {
			return nil, false, err
		}
		if len(list) == f.page {
			return list, true, nil
		}
		list = append(list, d)
	}
	return list, false, nil
}

// TestFar asks a registry that is far away for no more than it can tell.
func TestFar(t *testing.T) {
	t.Parallel()
	src, _ := source(t)
	for _, test := range []struct {
		page  int
		byTag bool
		want  string
	}{
		{100, false, "Blob=8 Manifest=8 Referrers=8"},
		{1, true, "Blob=7 Manifest=5 TagDetails=1"},
		{0, true, "Blob=7 Manifest=5 Resolve=4 Tags=1"},
		{0, false, "Blob=8 Manifest=8 Referrers=8 Resolve=4 Tags=1"},
	} {
		reg := &far{FaultyRegistry: ocitest.Faulty(src), page: test.page, byTag: test.byTag}
		dst := ocitest.NewRegistry()
		copies(t, dst, reg, transfer.Options{}, transfer.Item{SrcRepo: "app", DstRepo: "app"})
		if got := calls(reg.FaultyRegistry); got != test.want {
			t.Errorf("page %d, by tag %v: calls %s, want %s", test.page, test.byTag, got, test.want)
		}
		wantAllWhole(t, dst)
	}
}

// TestManyTags: signatures are found although the list of tags is too long to
// be read for one image, and without one.
func TestManyTags(t *testing.T) {
	t.Parallel()
	for name, end := range map[string]error{"many": nil, "refused": oci.Errorf(oci.Denied, "not for you")} {
		src, digests := source(t)
		f := &ocitest.Funcs{Registry: src, OnTags: func(context.Context, string, string) iter.Seq2[string, error] {
			return func(yield func(string, error) bool) {
				for i := 0; end == nil; i++ {
					if !yield(fmt.Sprint("a", i), nil) {
						return
					}
				}
				yield("", end)
			}
		}}
		dst := ocitest.NewRegistry()
		copies(t, dst, f, transfer.Options{}, item("app:1", "app:1"))
		if digestOf(t, dst, "app", cosignTag(digests["multi"])) != digests["cosign"] {
			t.Errorf("%s: no signature", name)
		}
		wantAllWhole(t, dst)
	}
}

// TestListRefused: who may push but not list can copy a repository, too, but
// not ask for the tags that are new.
func TestListRefused(t *testing.T) {
	t.Parallel()
	src, digests := source(t)
	dst := ocitest.NewRegistry()
	denied := oci.Errorf(oci.Denied, "not for you")
	faults := []ocitest.Fault{{Method: "Tags", Err: denied}, {Method: "TagDetails", Err: denied}}
	whole := transfer.Item{SrcRepo: "app", DstRepo: "app"}
	copies(t, ocitest.Faulty(dst, faults...), src, transfer.Options{}, whole)
	if digestOf(t, dst, "app", "1") != digests["multi"] {
		t.Error("it is another")
	}
	_, err := transfer.MakePlan(t.Context(), ocitest.Faulty(dst, faults...), src, []transfer.Item{whole}, transfer.Options{NewTags: true})
	if !errors.Is(err, oci.Denied) || !strings.HasPrefix(err.Error(), "destination app: list tags: ") {
		t.Errorf("error: %v", err)
	}
}

// TestMountRefused: a registry that mounts nothing gets the bytes.
func TestMountRefused(t *testing.T) {
	t.Parallel()
	src, _ := source(t)
	for _, code := range []oci.Code{oci.Unsupported, oci.Denied, oci.Unauthorized, oci.NameUnknown} {
		dst := ocitest.NewRegistry()
		copies(t, ocitest.Faulty(dst, ocitest.Fault{Method: "MountBlob", Err: code}), src, transfer.Options{}, item("app:1", "app:1"))
		wantAllWhole(t, dst)
	}
}

// TestLargeBlobs are asked for before they are sent to a repository that may
// have them, and mounted from wherever they are.
func TestLargeBlobs(t *testing.T) {
	t.Parallel()
	large := strings.Repeat("x", 1<<20)
	src, dst := ocitest.NewRegistry(), ocitest.NewRegistry()
	digests := ocitest.Push(t, src, ocitest.Content{"app": {
		Blobs:     ocitest.Blobs{"large": large, "other": large + "y"},
		Manifests: ocitest.Manifests{"m": {Layers: "large other"}},
		Tags:      ocitest.Tags{"1": "m"},
	}})
	ocitest.PushBlob(t, dst, "app", large)
	ocitest.PushBlob(t, dst, "elsewhere", large+"y")
	f := ocitest.Faulty(dst)
	r := copies(t, f, src, transfer.Options{}, item("app:1", "app:1"))
	if r.Moved >= 1<<20 || r.There != 2<<20+1 {
		t.Errorf("report: %+v", r)
	}
	if got := f.Calls(); !slices.Contains(got, "StatBlob app") {
		t.Errorf("calls: %q", got)
	}
	if digestOf(t, dst, "app", "1") != digests["m"] {
		t.Error("it is another")
	}
}

// TestBlobsInIndex: a cache of buildkit is an index of layers.
func TestBlobsInIndex(t *testing.T) {
	t.Parallel()
	src, dst := ocitest.NewRegistry(), ocitest.NewRegistry()
	layer := ocitest.PushBlob(t, src, "app", "a layer")
	raw := fmt.Sprintf(`{"schemaVersion":2,"mediaType":%q,"manifests":[{"mediaType":"application/vnd.oci.image.layer.v1.tar+gzip","digest":%q,"size":%d}]}`,
		oci.MediaTypeIndex, layer.Digest, layer.Size)
	ocitest.PushManifest(t, src, "app", raw, "cache")
	copies(t, dst, src, transfer.Options{}, item("app:cache", "app:cache"))
	if _, err := dst.StatBlob(t.Context(), "app", layer.Digest); err != nil {
		t.Error(err)
	}
}

// TestForce repairs a destination that has lost what an index names.
func TestForce(t *testing.T) {
	t.Parallel()
	src, digests := source(t)
	index, err := src.Manifest(t.Context(), "app", "1")
	if err != nil {
		t.Fatal(err)
	}
	dst := ocitest.NewRegistry()
	ocitest.PushManifest(t, dst, "app", string(index.Raw), "1")
	copies(t, dst, src, transfer.Options{}, item("app:1", "app:1"))
	if _, err := dst.Resolve(t.Context(), "app", string(digests["amd64"])); !errors.Is(err, oci.ManifestUnknown) {
		t.Errorf("it was there, and yet: %v", err)
	}
	copies(t, dst, src, transfer.Options{Force: true}, item("app:1", "app:1"))
	wantAllWhole(t, dst)
}
