package meta

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"path"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/regctl/regctl/client/oci"
	"github.com/regctl/regctl/serve/storage"
	"github.com/regctl/regctl/serve/storage/mem"
)

func openMeta(t testing.TB, b storage.Backend) *Meta {
	t.Helper()
	m, err := New(t.Context(), b, Options{})
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func put(t testing.TB, b storage.Backend, key, content string) {
	t.Helper()
	write := func() error { return storage.Put(t.Context(), b, key, []byte(content)) }
	if d, ok := b.(directory); ok { // A store of a benchmark is large.
		write = func() error { return d.write(key, content) }
	}
	if err := write(); err != nil {
		t.Fatal(err)
	}
}

// addIndex stores an empty index, distinguished by name, and tags it.
func addIndex(t testing.TB, m *Meta, repo, name string, tags ...string) oci.Digest {
	t.Helper()
	raw := fmt.Appendf(nil, `{"schemaVersion":2,"mediaType":%q,"manifests":[],"annotations":{"name":%q}}`, oci.MediaTypeIndex, name)
	d := digest.FromBytes(raw)
	put(t, m.backend, BlobKey(d), string(raw))
	g, err := oci.ParseManifest("", raw)
	if err != nil {
		t.Fatal(err)
	}
	h := m.Open(repo)
	defer h.Close()
	if err := h.AddManifest(t.Context(), d, Describe(d, raw, g), nil); err != nil {
		t.Fatal(err)
	}
	for _, tag := range tags {
		if err := moveTag(h, tag, d, false); err != nil {
			t.Fatal(err)
		}
	}
	return d
}

func moveTag(h *Repo, tag string, d oci.Digest, noOverwrite bool) error {
	v, err := h.PrepareMove(context.Background(), tag, d)
	if err != nil {
		return err
	}
	return errors.Join(v.Commit(context.Background(), noOverwrite), v.Cancel(context.Background()))
}

func repos(t testing.TB, m *Meta) (names []string) {
	t.Helper()
	for name, err := range m.Repos(t.Context(), "") {
		if err != nil {
			t.Fatal(err)
		}
		names = append(names, name)
	}
	return names
}

func tags(t testing.TB, m *Meta, repo string) (names []string) {
	t.Helper()
	for name, err := range m.Tags(t.Context(), repo, "") {
		if err != nil {
			t.Fatal(err)
		}
		names = append(names, name)
	}
	return names
}

func TestLayoutIsThatOfRegistry2(t *testing.T) {
	b := mem.New()
	m := openMeta(t, b)
	d := addIndex(t, m, "team/app", "x", "v1")
	hex := d.Encoded()
	const r = "docker/registry/v2/"
	for _, key := range []string{
		r + "blobs/sha256/" + hex[:2] + "/" + hex + "/data",
		r + "repositories/team/app/_manifests/revisions/sha256/" + hex + "/link",
		r + "repositories/team/app/_manifests/tags/v1/current/link",
		r + "repositories/team/app/_manifests/tags/v1/index/sha256/" + hex + "/link",
	} {
		data, _, err := storage.Get(t.Context(), b, key, oci.MaxManifest)
		if err != nil {
			t.Errorf("%s: %v", key, err)
		}
		if strings.HasSuffix(key, "/link") && string(data) != string(d) {
			t.Errorf("%s holds %q, want %q and no newline", key, data, d)
		}
	}
}

func TestCatalogueIsInBytewiseOrderOfFullNames(t *testing.T) {
	b := mem.New()
	m := openMeta(t, b)
	for _, repo := range []string{"a/b", "a", "a-b", "a.b", "b", "a/b/c"} {
		addIndex(t, m, repo, "x")
	}
	want := []string{"a", "a-b", "a.b", "a/b", "a/b/c", "b"}
	if got := repos(t, m); !slices.Equal(got, want) {
		t.Errorf("by memory: %q, want %q", got, want)
	}
	if got := repos(t, openMeta(t, b)); !slices.Equal(got, want) {
		t.Errorf("by disk: %q, want %q", got, want)
	}
}

func TestRepositoryWithoutManifestsLeavesTheCatalogue(t *testing.T) {
	b := mem.New()
	m := openMeta(t, b)
	d := addIndex(t, m, "a", "x")
	h := m.Open("a")
	if err := h.RemoveManifest(t.Context(), d); err != nil {
		t.Fatal(err)
	}
	h.Close()
	for what, m := range map[string]*Meta{"memory": m, "disk": openMeta(t, b)} {
		if got := repos(t, m); len(got) != 0 {
			t.Errorf("by %s: %q are listed", what, got)
		}
	}
}

func TestRemoveLeavesWhatIsBelowTheName(t *testing.T) {
	b := mem.New()
	m := openMeta(t, b)
	addIndex(t, m, "a", "x", "v1")
	addIndex(t, m, "a/b", "x", "v1")
	if found, err := m.Remove(t.Context(), "a"); !found || err != nil {
		t.Fatal(found, err)
	}
	if found, err := m.Remove(t.Context(), "a"); found || err != nil {
		t.Errorf("removed twice: %t, %v", found, err)
	}
	for what, m := range map[string]*Meta{"memory": m, "disk": openMeta(t, b)} {
		if got := repos(t, m); !slices.Equal(got, []string{"a/b"}) {
			t.Errorf("by %s: %q", what, got)
		}
		if got := tags(t, m, "a/b"); !slices.Equal(got, []string{"v1"}) {
			t.Errorf("by %s: a/b has tags %q", what, got)
		}
		if got := tags(t, m, "a"); len(got) != 0 {
			t.Errorf("by %s: a has tags %q", what, got)
		}
	}
	if got := under(t, b, repoDir("a")); !slices.Equal(got, []string{"b"}) {
		t.Errorf("%q are left of a, want b alone", got)
	}
}

func TestRemovalThatACrashCutShortIsFinishedAtStart(t *testing.T) {
	b := mem.New()
	addIndex(t, openMeta(t, b), "a", "x", "v1")
	if err := b.Rename(t.Context(), path.Join(repoDir("a"), manifests), path.Join(repoDir("a"), manifests+".X"+deleted)); err != nil {
		t.Fatal(err)
	}
	if got := repos(t, openMeta(t, b)); len(got) != 0 {
		t.Errorf("%q are listed", got)
	}
	if got := under(t, b, repoDir("a")); len(got) != 0 {
		t.Errorf("%q are left", got)
	}
}

func under(t testing.TB, b storage.Backend, dir string) (names []string) {
	t.Helper()
	for e, err := range b.List(t.Context(), dir) {
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil {
			t.Fatal(err)
		}
		names = append(names, e.Name)
	}
	return names
}

// What peers and power cuts leave behind is passed over, and pushed over.
func TestDamageCountsAsAbsentAndIsHealed(t *testing.T) {
	const repo = "team/app"
	whole := oci.Digest("sha256:" + strings.Repeat("a", 64))
	for name, damage := range map[string]func(t *testing.T, b storage.Backend, d oci.Digest){
		"empty tag link":   func(t *testing.T, b storage.Backend, _ oci.Digest) { put(t, b, tagLink(repo, "v1"), "") },
		"tag link of junk": func(t *testing.T, b storage.Backend, _ oci.Digest) { put(t, b, tagLink(repo, "v1"), "sha256:x\n") },
		"overlong tag link": func(t *testing.T, b storage.Backend, _ oci.Digest) {
			put(t, b, tagLink(repo, "v1"), strings.Repeat("x", 1e4))
		},
		"empty revision link": func(t *testing.T, b storage.Backend, d oci.Digest) { put(t, b, revisionLink(repo, d), "") },
		"empty manifest":      func(t *testing.T, b storage.Backend, d oci.Digest) { put(t, b, BlobKey(d), "") },
		"missing manifest":    func(t *testing.T, b storage.Backend, d oci.Digest) { remove(t, b, BlobKey(d)) },
		"manifest of junk":    func(t *testing.T, b storage.Backend, d oci.Digest) { put(t, b, BlobKey(d), "\x00\x01") },
		"link to what is not": func(t *testing.T, b storage.Backend, d oci.Digest) { put(t, b, revisionLink(repo, d), string(whole)) },
		"tag without current": func(t *testing.T, b storage.Backend, _ oci.Digest) { remove(t, b, tagLink(repo, "v1")) },
		"temporary files":     func(t *testing.T, b storage.Backend, _ oci.Digest) { put(t, b, tagLink(repo, "v1")+".1.tmp", "") },
		"stray directories": func(t *testing.T, b storage.Backend, _ oci.Digest) {
			put(t, b, path.Join(tagsDir(repo), "lost+found", "x"), "")
		},
		"stray algorithm": func(t *testing.T, b storage.Backend, _ oci.Digest) {
			put(t, b, path.Join(revisionDir(repo), "md5", "x", "link"), "")
		},
		"files for directories": func(t *testing.T, b storage.Backend, _ oci.Digest) { put(t, b, path.Join(tagsDir(repo), "v2"), "") },
		"junk among names": func(t *testing.T, b storage.Backend, _ oci.Digest) {
			put(t, b, path.Join(repositories, "@eaDir", manifests, "x"), "")
		},
	} {
		t.Run(name, func(t *testing.T) {
			b := mem.New()
			d := addIndex(t, openMeta(t, b), repo, "x", "v1")
			addIndex(t, openMeta(t, b), repo, "y", "other")
			damage(t, b, d)

			m := openMeta(t, b)
			if got := repos(t, m); !slices.Equal(got, []string{repo}) {
				t.Errorf("catalogue %q", got)
			}
			h := m.Open(repo)
			if tag, err := h.Tag(t.Context(), "v1"); err == nil && tag.Digest != d || err != nil && !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("tag: %v, %v; want it, or that it does not exist", tag, err)
			}
			if _, err := h.Manifest(t.Context(), d); err != nil && !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("manifest: %v", err)
			}
			if _, err := h.Namers(t.Context(), d); err != nil {
				t.Errorf("one bad manifest hides the others: %v", err)
			}
			h.Close()
			if got := tags(t, m, repo); !slices.Contains(got, "other") || slices.Contains(got, "lost+found") {
				t.Errorf("tags %q", got)
			}

			addIndex(t, m, repo, "x", "v1")
			for _, m := range []*Meta{m, openMeta(t, b)} {
				if got := tags(t, m, repo); !slices.Equal(got, []string{"other", "v1"}) {
					t.Errorf("after the next push: tags %q", got)
				}
				h := m.Open(repo)
				if _, err := h.Manifest(t.Context(), d); err != nil {
					t.Errorf("after the next push: %v", err)
				}
				h.Close()
			}
		})
	}
}

func remove(t testing.TB, b storage.Backend, key string) {
	t.Helper()
	if err := b.Remove(t.Context(), key); err != nil {
		t.Fatal(err)
	}
}

// registry:2 keeps a blob that was pushed by its sha512 under its sha256 and
// says so in the link.
func TestLinkContentCountsNotItsPath(t *testing.T) {
	b := mem.New()
	by512, by256 := digest.SHA512.FromString("x"), digest.SHA256.FromString("x")
	put(t, b, layerLink("a", by512), string(by256))
	m := openMeta(t, b)
	h := m.Open("a")
	defer h.Close()
	if content, err := h.Blob(t.Context(), by512); content != by256 || err != nil {
		t.Errorf("got %s, %v; want %s", content, err, by256)
	}
	if err := h.AddBlob(t.Context(), by512, nil); err != nil {
		t.Fatal(err)
	}
	if content, err := h.Blob(t.Context(), by512); content != by512 || err != nil {
		t.Errorf("after a push by sha512: got %s, %v", content, err)
	}
}

func TestStoreOfAnotherProductIsLeftAlone(t *testing.T) {
	b := mem.New()
	put(t, b, databaseInUse, "")
	if _, err := New(t.Context(), b, Options{}); !errors.Is(err, ErrForeign) {
		t.Errorf("got %v, want ErrForeign", err)
	}
}

func TestMemoryStaysWithinItsBudget(t *testing.T) {
	b := mem.New()
	m, err := New(t.Context(), b, Options{Budget: 10_000})
	if err != nil {
		t.Fatal(err)
	}
	for i := range 200 {
		addIndex(t, m, fmt.Sprintf("r%d", i), "x", "v1", "v2")
	}
	if m.used > 10_000 || len(m.repos) > 20 {
		t.Errorf("%d bytes are counted for %d repositories", m.used, len(m.repos))
	}
	for i := range 200 {
		if got := tags(t, m, fmt.Sprintf("r%d", i)); !slices.Equal(got, []string{"v1", "v2"}) {
			t.Fatalf("r%d was forgotten: %q", i, got)
		}
	}
}

type folding struct{ storage.Backend }

func (folding) FoldsCase() bool { return true }

func TestTagsThatDifferInCaseAreRefusedWhereTheyWouldCollide(t *testing.T) {
	m := openMeta(t, folding{mem.New()})
	addIndex(t, m, "a", "x", "latest")
	h := m.Open("a")
	defer h.Close()
	d := digest.FromString("whatever")
	if err := moveTag(h, "Latest", d, false); !errors.Is(err, ErrCase) {
		t.Errorf("got %v, want ErrCase", err)
	}
	if _, err := h.Tag(t.Context(), "LATEST"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("LATEST was taken for latest: %v", err)
	}
}

func TestConditionsAreDecidedUnderTheLockOfTheTag(t *testing.T) {
	m := openMeta(t, mem.New())
	x := addIndex(t, m, "a", "x", "v1")
	y := addIndex(t, m, "a", "y")
	h := m.Open("a")
	defer h.Close()
	ctx := context.Background()
	if err := moveTag(h, "v1", y, true); !errors.Is(err, ErrChanged) {
		t.Errorf("overwritten: %v", err)
	}
	if err := moveTag(h, "v1", x, true); err != nil {
		t.Errorf("the same again is refused: %v", err)
	}
	if err := h.RemoveTag(ctx, "v1", y); !errors.Is(err, ErrChanged) {
		t.Errorf("removed although it moved: %v", err)
	}
	if err := h.RemoveTag(ctx, "v1", x); err != nil {
		t.Error(err)
	}
	if err := h.RemoveTag(ctx, "v1", ""); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("removed twice: %v", err)
	}
}

// counted counts the lists of directories.
type counted struct {
	storage.Backend
	lists atomic.Int64
}

func (c *counted) List(ctx context.Context, dir string) iter.Seq2[storage.Entry, error] {
	c.lists.Add(1)
	return c.Backend.List(ctx, dir)
}

func TestPagesOfARepositoryBeyondTheBudgetAreReadOnce(t *testing.T) {
	b := &counted{Backend: mem.New()}
	first := openMeta(t, b)
	addIndex(t, first, "a", "x")
	h := first.Open("a")
	d := digest.FromString("whatever")
	for i := range 3000 {
		if err := moveTag(h, fmt.Sprintf("t%04d", i), d, false); err != nil {
			t.Fatal(err)
		}
	}
	h.Close()
	m, err := New(t.Context(), b, Options{Budget: 1})
	if err != nil {
		t.Fatal(err)
	}
	repos(t, m)
	b.lists.Store(0)
	if got := tags(t, m, "a"); len(got) != 3000 {
		t.Fatalf("%d tags", len(got))
	}
	if n := b.lists.Load(); n != 1 {
		t.Errorf("the directory of the tags was listed %d times for three pages, want once", n)
	}
}
