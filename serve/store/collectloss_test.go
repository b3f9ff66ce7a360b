package store_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/regctl/regctl/client/oci"
	"github.com/regctl/regctl/client/oci/ocitest"
	"github.com/regctl/regctl/gc"
	"github.com/regctl/regctl/serve/meta"
	journal "github.com/regctl/regctl/serve/state"
	"github.com/regctl/regctl/serve/storage"
	"github.com/regctl/regctl/serve/storage/file"
	"github.com/regctl/regctl/serve/store"
)

// shop is a store in a directory, as somebody left it, with garbage: "old" in
// "app" and all of "lib".
type shop struct {
	t   *testing.T
	dir string
	at  map[string]oci.Digest
}

func newShop(t *testing.T) *shop {
	t.Helper()
	s := &shop{t: t, dir: t.TempDir()}
	s.at = ocitest.Push(t, open(t, s.disk()), aged)
	return s
}

func (s *shop) disk() storage.Backend {
	s.t.Helper()
	b, err := file.Open(s.dir, file.Options{NoSync: true})
	if err != nil {
		s.t.Fatal(err)
	}
	return b
}

func (s *shop) push(c ocitest.Content) {
	s.t.Helper()
	for name, d := range ocitest.Push(s.t, open(s.t, s.disk()), c) {
		s.at[name] = d
	}
}

// path is that of a file of the layout.
func (s *shop) path(elem ...string) string {
	return filepath.Join(append([]string{s.dir, "docker/registry/v2"}, elem...)...)
}

func (s *shop) revision(repo, name string) string {
	return s.path("repositories", repo, "_manifests/revisions/sha256", s.at[name].Encoded(), "link")
}

func (s *shop) layer(repo string, d oci.Digest) string {
	return s.path("repositories", repo, "_layers", string(d.Algorithm()), d.Encoded(), "link")
}

func (s *shop) data(d oci.Digest) string { return filepath.Join(s.dir, meta.BlobKey(d)) }

func (s *shop) must(err error) {
	s.t.Helper()
	if err != nil {
		s.t.Fatal(err)
	}
}

func (s *shop) write(name, content string) {
	s.t.Helper()
	s.must(os.MkdirAll(filepath.Dir(name), 0o700))
	s.must(os.WriteFile(name, []byte(content), 0o600))
}

// collect runs as a cron job does at night, with nobody served.
func (s *shop) collect(b storage.Backend) gc.Report {
	s.t.Helper()
	r, err := store.New(s.t.Context(), b, store.Options{Now: later, NoCatalogue: true})
	s.must(err)
	report, err := r.Collect(s.t.Context(), gc.Options{Untagged: true, Jobs: 2}, false)
	s.must(err)
	if len(report.Failed) > 0 {
		s.t.Errorf("failed: %+v", report.Failed)
	}
	return report
}

// whole checks that images are there, bytes and all.
func (s *shop) whole(repo string, refs ...string) {
	s.t.Helper()
	r := open(s.t, s.disk())
	for _, ref := range refs {
		if d, ok := s.at[ref]; ok {
			ref = string(d)
		}
		if err := wholeImage(r, repo, ref); err != nil {
			s.t.Errorf("%s:%s: %v", repo, ref, err)
		}
	}
}

// has tells whether the data of names is still there.
func (s *shop) has(want bool, names ...string) {
	s.t.Helper()
	for _, name := range names {
		_, err := os.Stat(s.data(s.at[name]))
		if (err == nil) != want {
			s.t.Errorf("data of %s: %v, it is to be there: %t", name, err, want)
		}
	}
}

// frozen checks that a repository is, and that the report says why.
func (s *shop) frozen(r gc.Report, repo, why string) {
	s.t.Helper()
	for _, f := range r.Frozen {
		if f.Repo == repo && strings.Contains(f.Why, why) {
			return
		}
	}
	s.t.Errorf("%s is not frozen for %q: %+v", repo, why, r.Frozen)
}

func doubts(t *testing.T, r gc.Report, why string) {
	t.Helper()
	if !strings.Contains(strings.Join(r.Doubts, "\n"), why) {
		t.Errorf("no doubt says %q: %q", why, r.Doubts)
	}
	if r.Removed[gc.KindData].N > 0 {
		t.Errorf("in doubt, and data went: %+v", r.Removed)
	}
}

func TestLossOfMultiArchChildren(t *testing.T) {
	t.Parallel()
	s := newShop(t)
	r := s.collect(s.disk())
	s.whole("app", "v1", "multi", "child1")
	s.has(false, "child2", "oldindex", "old", "lb", "oldlib", "loose")
	if len(r.Frozen)+len(r.Doubts) > 0 {
		t.Errorf("%+v", r)
	}
}

// The same index is sparse in the first repository: its child is looked for in
// each all the same.
func TestLossOfSparseIndexInAnotherRepository(t *testing.T) {
	t.Parallel()
	s := newShop(t)
	whole := ocitest.Repo{
		Blobs:     ocitest.Blobs{"x": "only of the child"},
		Manifests: ocitest.Manifests{"kid": {Layers: "x", Platform: "linux/arm"}, "fat": {Manifests: "kid"}},
		Tags:      ocitest.Tags{"fat": "fat"},
	}
	s.push(ocitest.Content{"a": whole, "z": whole})
	r := open(t, s.disk())
	s.must(os.RemoveAll(filepath.Dir(s.revision("a", "kid"))))
	s.must(os.RemoveAll(filepath.Dir(s.layer("a", s.at["x"]))))
	if _, err := r.Resolve(t.Context(), "a", "fat"); err != nil {
		t.Fatal(err)
	}
	s.collect(s.disk())
	s.whole("z", "fat")
	s.has(true, "kid", "x", "fat")
}

// registry:2 keeps a blob that was pushed by its sha512 under its sha256.
func TestLossOfSHA512Links(t *testing.T) {
	t.Parallel()
	s := newShop(t)
	content := "a layer by sha512"
	long, short := digest.SHA512.FromString(content), digest.FromString(content)
	s.write(s.data(short), content)
	s.write(s.layer("app", long), string(short))
	r := open(t, s.disk())
	_, err := r.PutManifest(t.Context(), "app", oci.Put{Raw: imageNamed(s.at["l1"], long), Tags: []string{"long"}})
	s.must(err)
	s.collect(s.disk())
	s.whole("app", "long")

	s.write(s.layer("app", long), "") // Nobody knows what it meant.
	report := s.collect(s.disk())
	s.frozen(report, "app", "sha512")
	doubts(t, report, "sha512")
	if _, err := os.Stat(s.data(short)); err != nil {
		t.Error(err)
	}
}

func TestLossOfReferrers(t *testing.T) {
	t.Parallel()
	s := newShop(t)
	s.push(ocitest.Content{"app": {
		Blobs: ocitest.Blobs{"sbom": "of the signature", "base": "shared", "l1": "live", "c1": "child 1"},
		Manifests: ocitest.Manifests{
			"live":     {Layers: "base l1", Platform: "linux/amd64"},
			"livesig":  {Subject: "live", Layers: "c1", ArtifactType: "application/sig"},
			"sigofsig": {Subject: "livesig", Layers: "sbom", ArtifactType: "application/sig"},
		},
	}})
	s.collect(s.disk())
	s.whole("app", "livesig", "sigofsig")
	s.has(false, "oldsig")
}

// A tag is moved to garbage between the plan and its execution.
func TestLossByATagThatMoves(t *testing.T) {
	t.Parallel()
	s := newShop(t)
	r, err := store.New(t.Context(), s.disk(), store.Options{Now: later})
	s.must(err)
	o := gc.Options{Untagged: true, Approve: func(gc.Report) error {
		old, err := r.Manifest(t.Context(), "app", string(s.at["old"]))
		if err == nil {
			_, err = r.PutManifest(t.Context(), "app", oci.Put{Raw: old.Raw, Tags: []string{"v1"}})
		}
		return err
	}}
	report, err := r.Collect(t.Context(), o, false)
	s.must(err)
	s.whole("app", "v1", "old", "oldsig")
	if report.Kept[gc.KeptBusy].N == 0 || report.Removed[gc.KindData].N == 0 {
		t.Errorf("%+v", report)
	}
}

func TestLossByAnUnreadableManifest(t *testing.T) {
	t.Parallel()
	for name, damage := range map[string]func(*shop, string){
		"torn":        func(s *shop, f string) { s.must(os.Truncate(f, 20)) },
		"empty":       func(s *shop, f string) { s.must(os.Truncate(f, 0)) },
		"other bytes": func(s *shop, f string) { s.write(f, `{"schemaVersion":2}`) },
		"missing":     func(s *shop, f string) { s.must(os.Remove(f)) },
		"a directory": func(s *shop, f string) { s.must(os.Remove(f)); s.must(os.Mkdir(f, 0o700)) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newShop(t)
			damage(s, s.data(s.at["live"]))
			report := s.collect(s.disk())
			s.frozen(report, "app", string(s.at["live"]))
			s.has(true, "base", "l1", "l2", "loose", "old", "child2")
			s.has(false, "lb", "oldlib") // Of another repository.
			s.whole("app", "multi", "old", "oldindex")
		})
	}
}

// blind cannot list a directory.
type blind struct {
	storage.Backend
	dir string
}

func (b blind) List(ctx context.Context, dir string) iter.Seq2[storage.Entry, error] {
	if strings.HasSuffix(dir, b.dir) {
		return func(yield func(storage.Entry, error) bool) { yield(storage.Entry{}, fs.ErrPermission) }
	}
	return b.Backend.List(ctx, dir)
}

func TestLossByAnUnlistableDirectory(t *testing.T) {
	t.Parallel()
	for _, dir := range []string{
		"repositories", "repositories/app", "app/_manifests/revisions", "app/_manifests/revisions/sha256", "app/_manifests/tags", "app/_layers/sha256",
	} {
		t.Run(dir, func(t *testing.T) {
			t.Parallel()
			s := newShop(t)
			doubts(t, s.collect(blind{s.disk(), dir}), dir)
			s.whole("app", "v1", "multi", "old", "oldindex")
		})
	}
}

func TestLossOfASymlinkedRepository(t *testing.T) {
	t.Parallel()
	t.Run("on another disk", func(t *testing.T) {
		t.Parallel()
		s := newShop(t)
		elsewhere := filepath.Join(t.TempDir(), "app")
		s.must(os.Rename(s.path("repositories/app"), elsewhere))
		s.must(os.Symlink(elsewhere, s.path("repositories/app")))
		s.collect(s.disk())
		s.whole("app", "v1", "multi", "livesig")
		s.has(false, "old", "oldlib")
	})
	t.Run("by two names", func(t *testing.T) {
		t.Parallel()
		s := newShop(t)
		s.must(os.Symlink(s.path("repositories/app"), s.path("repositories/alias")))
		report := s.collect(s.disk())
		s.frozen(report, "app", "alias")
		s.whole("app", "v1", "old", "oldindex")
		s.whole("alias", "v1", "old")
		s.has(false, "oldlib")
	})
	t.Run("in a circle", func(t *testing.T) {
		t.Parallel()
		s := newShop(t)
		s.must(os.Symlink(s.path("repositories"), s.path("repositories/app/loop")))
		s.collect(s.disk())
		s.whole("app", "v1", "multi")
	})
	t.Run("that leads nowhere", func(t *testing.T) {
		t.Parallel()
		s := newShop(t)
		s.must(os.Symlink(filepath.Join(s.dir, "unmounted"), s.path("repositories/gone")))
		doubts(t, s.collect(s.disk()), "gone")
	})
}

func TestLossByAnEmptyLink(t *testing.T) {
	t.Parallel()
	for name, link := range map[string]func(*shop) string{
		"manifest": func(s *shop) string { return s.revision("app", "live") },
		"blob":     func(s *shop) string { return s.layer("app", s.at["l1"]) },
		"tag":      func(s *shop) string { return s.path("repositories/app/_manifests/tags/v1/current/link") },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newShop(t)
			s.must(os.Truncate(link(s), 0))
			report := s.collect(s.disk())
			if len(report.Frozen) != 1 || report.Frozen[0].Repo != "app" {
				t.Errorf("%+v", report)
			}
			s.has(true, "live", "l1", "base", "old", "l2", "loose")
			s.has(false, "oldlib")
		})
	}
}

// A pull-through cache has manifests without links of their blobs.
func TestLossByMissingLayers(t *testing.T) {
	t.Parallel()
	s := newShop(t)
	s.must(os.RemoveAll(s.path("repositories/app/_layers")))
	s.must(os.RemoveAll(s.path("repositories/lib/_manifests")))
	s.collect(s.disk())
	s.has(true, "live", "base", "l1", "c1", "child1")
	s.has(false, "old", "l2", "lb")
}

func TestLossWithoutRepositories(t *testing.T) {
	t.Parallel()
	s := newShop(t)
	s.must(os.Rename(s.path("repositories"), filepath.Join(s.dir, "moved")))
	doubts(t, s.collect(s.disk()), "repositories")
	s.must(os.Rename(filepath.Join(s.dir, "moved"), s.path("repositories")))
	s.whole("app", "v1", "multi", "old")
}

func TestLossByJunk(t *testing.T) {
	t.Parallel()
	s := newShop(t)
	junk := []string{
		"repositories/lost+found/x", "repositories/.snapshot/app/_layers/x", "repositories/@eaDir/x", "repositories/README",
		"repositories/app/notes", "repositories/app/_manifests/tags/v1/junk", "repositories/app/_layers/sha999/x",
		"repositories/app/_layers/sha256/nothex/link", "repositories/app/_manifests/revisions/sha256/x/link",
		"blobs/sha999/aa/x", "blobs/sha256/zz/x/data", "blobs/sha256/README", "blobs/sha256/aa/nothex/data",
	}
	for _, name := range junk {
		s.write(s.path(name), "junk")
	}
	s.collect(s.disk())
	s.whole("app", "v1", "multi", "livesig")
	for _, name := range junk {
		if _, err := os.Stat(s.path(name)); err != nil {
			t.Errorf("not ours, and gone: %v", err)
		}
	}
}

func TestLossOfWhatADatabaseKnows(t *testing.T) {
	t.Parallel()
	s := newShop(t)
	s.write(filepath.Join(s.dir, "docker/registry/lockfiles/database-in-use"), "")
	_, err := store.New(t.Context(), s.disk(), store.Options{NoCatalogue: true})
	if !errors.Is(err, meta.ErrForeign) {
		t.Errorf("%v, want ErrForeign", err)
	}
}

// records are those of a test.
type records struct {
	list []journal.Deletion
	err  error
}

func (r records) Deleted(_ context.Context, repo string, since time.Time) (found []journal.Deletion, err error) {
	for _, d := range r.list {
		if d.Repo == repo && !d.At.Before(since) {
			found = append(found, d)
		}
	}
	return found, r.err
}

func (r records) DeletedRepos(_ context.Context, since time.Time) (found []string, err error) {
	for _, d := range r.list {
		if !d.At.Before(since) {
			found = append(found, d.Repo)
		}
	}
	return found, r.err
}

// What was deleted stays as long as it can be undone, also of a repository
// that is gone.
func TestLossOfWhatCanBeUndone(t *testing.T) {
	t.Parallel()
	s := newShop(t)
	now := later()
	read := func(name string) []byte {
		raw, err := os.ReadFile(s.data(s.at[name]))
		s.must(err)
		return raw
	}
	deleted := records{list: []journal.Deletion{
		{At: now.Add(-2 * time.Hour), Kind: journal.KindTag, Repo: "app", Tag: "v2", Digest: s.at["old"]},
		{At: now.Add(-2 * time.Hour), Kind: journal.KindManifest, Repo: "app", Digest: s.at["child2"], Raw: read("child2")},
		{At: now.Add(-2 * time.Hour), Kind: journal.KindRepository, Repo: "lib"},
		{At: now.Add(-2 * time.Hour), Kind: journal.KindManifest, Repo: "lib", Digest: s.at["oldlib"]},
		{At: now.Add(-2 * time.Hour), Kind: journal.KindBlob, Repo: "app", Digest: s.at["loose"]},
	}}
	r := open(t, s.disk())
	s.must(r.DeleteRepo(t.Context(), "lib"))
	s.must(r.DeleteManifest(t.Context(), "app", s.at["oldindex"]))
	s.must(r.DeleteManifest(t.Context(), "app", s.at["child2"]))
	s.must(r.DeleteBlob(t.Context(), "app", s.at["loose"]))
	run := func(rec store.Records, undo time.Duration) gc.Report {
		c, err := store.New(t.Context(), s.disk(), store.Options{Now: func() time.Time { return now }, NoCatalogue: true, Records: rec})
		s.must(err)
		report, err := c.Collect(t.Context(), gc.Options{Untagged: true, Undo: undo}, false)
		s.must(err)
		return report
	}
	doubts(t, run(records{list: deleted.list, err: errors.New("no such table")}, 3*time.Hour), "no such table")
	report := run(deleted, 3*time.Hour)
	s.has(true, "old", "l2", "oldsig", "child2", "c2", "oldlib", "lb", "loose")
	s.has(false, "oldindex")
	if want := now.Add(time.Hour); !report.UndoUntil.Equal(want) || report.Kept[gc.KeptUndo].N == 0 {
		t.Errorf("%+v; can be undone until %v", report, want)
	}
	s.whole("app", "old") // The tag can be put back.
	run(deleted, time.Hour)
	s.has(false, "old", "l2", "child2", "oldlib", "lb", "loose")
	s.whole("app", "v1", "multi")
}

// What is younger than asked for stays, by the latest of its link, its data
// and the last touch.
func TestLossOfWhatIsYoung(t *testing.T) {
	t.Parallel()
	s := newShop(t)
	c, err := store.New(t.Context(), s.disk(), store.Options{NoCatalogue: true})
	s.must(err)
	ago := time.Now().Add(-2 * time.Hour)
	s.must(filepath.WalkDir(s.dir, func(name string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		return os.Chtimes(name, ago, ago)
	}))
	s.must(push(t.Context(), open(t, s.disk()), "app", "of no image")) // Again: the link is old.
	report, err := c.Collect(t.Context(), gc.Options{Untagged: true, Older: time.Hour}, false)
	s.must(err)
	s.has(true, "loose")
	s.has(false, "old", "l2")
	if err := hasBlob(open(t, s.disk()), "app", s.at["loose"]); err != nil {
		t.Error(fmt.Errorf("pushed again a moment ago: %w", err))
	}
	if report.Kept[gc.KeptYoung].N != 1 {
		t.Errorf("%+v", report)
	}
}
