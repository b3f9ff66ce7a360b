package store_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"path"
	"slices"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/regctl/regctl/client/oci"
	"github.com/regctl/regctl/client/oci/ocitest"
	"github.com/regctl/regctl/serve/meta"
	"github.com/regctl/regctl/serve/storage"
	"github.com/regctl/regctl/serve/storage/mem"
	"github.com/regctl/regctl/serve/storage/storagetest"
	"github.com/regctl/regctl/serve/store"
)

const repositories = "docker/registry/v2/repositories"

// The bytes of a manifest that were lost come back by a push to another
// repository: the first one sees them again, and keeps what it names.
func TestWhatIsHealedElsewhereIsSeen(t *testing.T) {
	b := mem.New()
	at := ocitest.Push(t, open(t, b), ocitest.Content{
		"a": {Blobs: ocitest.Blobs{"layer": "layer"}, Manifests: ocitest.Manifests{"m": {Layers: "layer"}, "n": {Platform: "linux/arm64"}}, Tags: ocitest.Tags{"v1": "m"}},
	})
	if err := b.Remove(t.Context(), meta.BlobKey(at["m"])); err != nil {
		t.Fatal(err)
	}
	s := open(t, b)
	for _, err := range s.Referrers(t.Context(), "a", at["m"], "") { // Reads every manifest of a.
		t.Fatal(err)
	}
	ocitest.Push(t, s, ocitest.Content{
		"b": {Blobs: ocitest.Blobs{"layer": "layer"}, Manifests: ocitest.Manifests{"m": {Layers: "layer"}}},
	})
	if err := wholeImage(s, "a", "v1"); err != nil {
		t.Errorf("a:v1: %v", err)
	}
	if err := s.DeleteBlob(t.Context(), "a", at["layer"]); !errors.Is(err, oci.Unsupported) {
		t.Errorf("its layer is deleted: %v", err)
	}
}

// An empty file in the place of a blob, as registry:2 leaves it, is no blob:
// HEAD must not keep a client from pushing it again.
func TestEmptyFileIsNoBlob(t *testing.T) {
	b := mem.New()
	at := ocitest.Push(t, open(t, b), base)
	if err := storage.Put(t.Context(), b, meta.BlobKey(at["first"]), nil); err != nil {
		t.Fatal(err)
	}
	s := open(t, b)
	if _, err := s.StatBlob(t.Context(), "app", at["first"]); !errors.Is(err, oci.BlobUnknown) {
		t.Errorf("HEAD: %v", err)
	}
	if err := hasBlob(s, "app", at["first"]); !errors.Is(err, oci.BlobUnknown) {
		t.Errorf("GET: %v", err)
	}
	if _, err := s.PutManifest(t.Context(), "app", oci.Put{Raw: imageNamed(at["spare"], at["first"])}); !errors.Is(err, oci.ManifestBlobUnknown) {
		t.Errorf("a manifest that names it: %v", err)
	}
	if err := push(t.Context(), s, "app", "first layer"); err != nil {
		t.Fatal(err)
	}
	if err := hasBlob(s, "app", at["first"]); err != nil {
		t.Errorf("after the next push: %v", err)
	}
	if err := push(t.Context(), s, "app", ""); err != nil { // The one that is empty.
		t.Fatal(err)
	}
	if err := hasBlob(s, "app", digest.FromString("")); err != nil {
		t.Error(err)
	}
}

// unreadable fails to open some keys.
type unreadable struct {
	storage.Backend
	key string
}

func (u unreadable) Open(ctx context.Context, key string) (io.ReadSeekCloser, storage.Info, error) {
	if key == u.key {
		return nil, storage.Info{}, fmt.Errorf("open %s: %w", key, fs.ErrPermission)
	}
	return u.Backend.Open(ctx, key)
}

// A link that cannot be read, or is a directory, blocks nothing but itself.
func TestOneBadLinkBlocksNothingElse(t *testing.T) {
	tag := path.Join(repositories, "app/_manifests/tags/v1/current/link")
	hex := strings.Repeat("0", 64)
	for name, damage := range map[string]func(t *testing.T, b storage.Backend) storage.Backend{
		"unreadable tag": func(_ *testing.T, b storage.Backend) storage.Backend { return unreadable{b, tag} },
		"revision link that is a directory": func(t *testing.T, b storage.Backend) storage.Backend {
			key := path.Join(repositories, "app/_manifests/revisions/sha256", hex, "link/x")
			if err := storage.Put(t.Context(), b, key, nil); err != nil {
				t.Fatal(err)
			}
			return b
		},
	} {
		t.Run(name, func(t *testing.T) {
			b := mem.New()
			at := ocitest.Push(t, open(t, b), base)
			s := open(t, damage(t, b))
			if got := collect(t, s.Repos(t.Context(), "")); !slices.Equal(got, []string{"app", "app/below"}) {
				t.Errorf("catalogue: %q", got)
			}
			if got := collect(t, s.Tags(t.Context(), "app", "")); !slices.Contains(got, "v2") || !slices.Contains(got, "all") {
				t.Errorf("tags: %q", got)
			}
			for _, err := range s.Referrers(t.Context(), "app", at["one"], "") {
				t.Errorf("referrers: %v", err)
			}
			if err := s.DeleteTag(t.Context(), "app", "all", ""); err != nil {
				t.Errorf("delete another tag: %v", err)
			}
			if _, err := s.PutManifest(t.Context(), "app", oci.Put{Raw: imageNamed(at["spare"], at["first"]), Tags: []string{"v1"}}); err != nil {
				t.Errorf("push over it: %v", err)
			}
			if err := points(open(t, b), "app", "v1", digest.FromBytes(imageNamed(at["spare"], at["first"]))); err != nil {
				t.Error(err)
			}
		})
	}
}

// What cannot be read may be what must not go.
func TestDeleteStopsBeforeWhatCannotBeRead(t *testing.T) {
	b := mem.New()
	at := ocitest.Push(t, open(t, b), base)
	s := open(t, unreadable{b, meta.BlobKey(at["both"])})
	if err := s.DeleteManifest(t.Context(), "app", at["one"]); err == nil {
		t.Error("a child was deleted although its index could not be read")
	}
	if err := s.DeleteBlob(t.Context(), "app", at["spare"]); err == nil {
		t.Error("a blob was deleted although a manifest could not be read")
	}
}

// A refused push leaves no directory that registry:2 would take for a tag.
func TestFailedPushLeavesNoTag(t *testing.T) {
	b := mem.New()
	at := ocitest.Push(t, open(t, b), base)
	for n := 1; ; n++ {
		f := storagetest.NewFaulty(b, false, storagetest.FailAt(n, false))
		_, err := open(t, f).PutManifest(t.Context(), "app", oci.Put{Raw: imageNamed(at["second"], at["first"]), Tags: []string{"ghost"}})
		if err == nil {
			return
		}
		if _, err := b.Stat(t.Context(), path.Join(repositories, "app/_manifests/tags/ghost")); err == nil {
			if err := points(open(t, b), "app", "ghost", digest.FromBytes(imageNamed(at["second"], at["first"]))); err != nil {
				t.Fatalf("with change %d failing there is a directory of a tag that is none: %v", n, err)
			}
		}
	}
}

// A repository is gone as soon as it was renamed aside; emptying what is left
// of it keeps nobody waiting.
func TestDeletingARepositoryBlocksNoOther(t *testing.T) {
	b := mem.New()
	at := ocitest.Push(t, open(t, b), base)
	reached, goOn := make(chan struct{}), make(chan struct{})
	first := true
	f := storagetest.NewFaulty(b, false, func(c storagetest.Change) error {
		if c.Op == "Remove" && strings.Contains(c.Key, ".deleted") && first {
			first = false
			close(reached)
			<-goOn
		}
		return nil
	})
	s := open(t, f)
	collect(t, s.Repos(t.Context(), ""))
	done := make(chan error)
	go func() { done <- s.DeleteRepo(t.Context(), "app") }()
	<-reached
	if _, err := s.StatBlob(t.Context(), "app", at["first"]); !errors.Is(err, oci.BlobUnknown) {
		t.Errorf("the repository still has its blob: %v", err)
	}
	if err := push(t.Context(), s, "app", "first layer"); err != nil {
		t.Errorf("push to the same name: %v", err)
	}
	if err := hasBlob(s, "app/below", digest.FromString("deep layer")); err != nil {
		t.Error(err)
	}
	close(goOn)
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	if err := hasBlob(s, "app", at["first"]); err != nil {
		t.Errorf("what was pushed meanwhile went, too: %v", err)
	}
}

// slowWalk lists nothing of the repositories until it is told to.
type slowWalk struct {
	storage.Backend
	goOn chan struct{}
}

func (s slowWalk) List(ctx context.Context, dir string) iter.Seq2[storage.Entry, error] {
	if dir == repositories {
		<-s.goOn
	}
	return s.Backend.List(ctx, dir)
}

func TestMountDoesNotWaitForTheCatalogue(t *testing.T) {
	b := mem.New()
	at := ocitest.Push(t, open(t, b), base)
	slow := slowWalk{b, make(chan struct{})}
	s, err := store.New(t.Context(), slow, store.Options{})
	if err != nil {
		t.Fatal(err)
	}
	u, err := s.MountBlob(t.Context(), "elsewhere", "", at["first"])
	if err != nil || u == nil {
		t.Fatalf("got %v, %v; want an upload, as nothing is known yet", u, err)
	}
	if err := u.Cancel(t.Context()); err != nil {
		t.Fatal(err)
	}
	close(slow.goOn)
	collect(t, s.Repos(t.Context(), ""))
	if u, err := s.MountBlob(t.Context(), "elsewhere", "", at["first"]); u != nil || err != nil {
		t.Errorf("got %v, %v; want it mounted", u, err)
	}
}

func collect(t testing.TB, names iter.Seq2[string, error]) (all []string) {
	t.Helper()
	for name, err := range names {
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, name)
	}
	return all
}
