package store_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"math/rand/v2"
	"path"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/regctl/regctl/client/oci"
	"github.com/regctl/regctl/client/oci/ocitest"
	"github.com/regctl/regctl/serve/meta"
	"github.com/regctl/regctl/serve/storage"
	"github.com/regctl/regctl/serve/storage/file"
	"github.com/regctl/regctl/serve/storage/file/filetest"
	"github.com/regctl/regctl/serve/storage/mem"
	"github.com/regctl/regctl/serve/storage/storagetest"
	"github.com/regctl/regctl/serve/store"
)

// base is what the store holds, acknowledged, before anything goes wrong.
var base = ocitest.Content{
	"app": {
		Blobs: ocitest.Blobs{"first": "first layer", "second": "second layer", "spare": "of no image"},
		Manifests: ocitest.Manifests{
			"one":  {Layers: "first"},
			"two":  {Layers: "first second"},
			"both": {Manifests: "one two"},
		},
		Tags: ocitest.Tags{"v1": "one", "v2": "two", "all": "both", "again": "one"},
	},
	"app/below": {
		Blobs:     ocitest.Blobs{"below": "deep layer"},
		Manifests: ocitest.Manifests{"deep": {Layers: "below", Platform: "linux/arm64"}},
		Tags:      ocitest.Tags{"v1": "deep"},
	},
}

// A write is one call that changes the store. It returns what must be so once
// it was acknowledged.
type write struct {
	name string
	do   func(ctx context.Context, r oci.Registry, at map[string]oci.Digest) error
	want func(r oci.Registry, at map[string]oci.Digest) error
	goes []string // What it may take away: "repo:tag" and "repo@name" of base.
}

func writes() []write {
	fresh := digest.FromString("a new layer")
	image := func(at map[string]oci.Digest) []byte { return imageNamed(at["spare"], at["first"]) }
	return []write{
		{
			name: "push a blob in pieces",
			do: func(ctx context.Context, r oci.Registry, _ map[string]oci.Digest) error {
				u, err := r.Upload(ctx, "app", "", oci.UploadOptions{})
				if err != nil {
					return err
				}
				for _, piece := range []string{"a new", " layer"} {
					if u, err = r.Upload(ctx, "app", u.ID(), oci.UploadOptions{}); err != nil {
						return err
					}
					if _, err := io.Copy(u, strings.NewReader(piece)); err != nil {
						return errors.Join(err, u.Close())
					}
					if err := u.Close(); err != nil {
						return err
					}
				}
				if u, err = r.Upload(ctx, "app", u.ID(), oci.UploadOptions{}); err != nil {
					return err
				}
				_, err = u.Commit(ctx, fresh)
				return errors.Join(err, u.Close())
			},
			want: func(r oci.Registry, _ map[string]oci.Digest) error { return hasBlob(r, "app", fresh) },
		},
		{
			name: "push a blob again",
			do: func(ctx context.Context, r oci.Registry, _ map[string]oci.Digest) error {
				return push(ctx, r, "app", "first layer")
			},
			want: func(r oci.Registry, _ map[string]oci.Digest) error {
				return hasBlob(r, "app", digest.FromString("first layer"))
			},
		},
		{
			name: "mount a blob",
			do: func(ctx context.Context, r oci.Registry, _ map[string]oci.Digest) error {
				u, err := r.MountBlob(ctx, "elsewhere", "app", digest.FromString("first layer"))
				if u != nil {
					err = errors.Join(errNotMounted, u.Cancel(ctx))
				}
				return err
			},
			want: func(r oci.Registry, _ map[string]oci.Digest) error {
				return hasBlob(r, "elsewhere", digest.FromString("first layer"))
			},
		},
		{
			name: "push an image to a new tag and an old one",
			do: func(ctx context.Context, r oci.Registry, at map[string]oci.Digest) error {
				_, err := r.PutManifest(ctx, "app", oci.Put{Raw: image(at), Tags: []string{"new", "v2"}})
				return err
			},
			want: func(r oci.Registry, at map[string]oci.Digest) error {
				return errors.Join(points(r, "app", "new", digest.FromBytes(image(at))),
					points(r, "app", "v2", digest.FromBytes(image(at))))
			},
			goes: []string{"app:v2"},
		},
		{
			name: "point a tag at an old image",
			do: func(ctx context.Context, r oci.Registry, at map[string]oci.Digest) error {
				m, err := r.Manifest(ctx, "app", string(at["two"]))
				if err == nil {
					_, err = r.PutManifest(ctx, "app", oci.Put{Raw: m.Raw, Tags: []string{"v1"}})
				}
				return err
			},
			want: func(r oci.Registry, at map[string]oci.Digest) error { return points(r, "app", "v1", at["two"]) },
			goes: []string{"app:v1"},
		},
		{
			name: "delete a tag",
			do: func(ctx context.Context, r oci.Registry, at map[string]oci.Digest) error {
				return r.DeleteTag(ctx, "app", "v1", at["one"])
			},
			want: func(r oci.Registry, _ map[string]oci.Digest) error { return lacks(r, "app", "v1") },
			goes: []string{"app:v1"},
		},
		{
			name: "delete a manifest",
			do: func(ctx context.Context, r oci.Registry, at map[string]oci.Digest) error {
				return r.DeleteManifest(ctx, "app", at["both"])
			},
			want: func(r oci.Registry, at map[string]oci.Digest) error {
				return errors.Join(lacks(r, "app", "all"), lacks(r, "app", string(at["both"])))
			},
			goes: []string{"app:all"},
		},
		{
			name: "delete a blob",
			do: func(ctx context.Context, r oci.Registry, _ map[string]oci.Digest) error {
				return r.DeleteBlob(ctx, "app", digest.FromString("of no image"))
			},
			want: func(r oci.Registry, _ map[string]oci.Digest) error {
				if err := hasBlob(r, "app", digest.FromString("of no image")); !errors.Is(err, oci.BlobUnknown) {
					return fmt.Errorf("the blob is still there: %w", err)
				}
				return nil
			},
		},
		{
			name: "delete a repository",
			do: func(ctx context.Context, r oci.Registry, _ map[string]oci.Digest) error {
				return r.DeleteRepo(ctx, "app")
			},
			want: func(r oci.Registry, _ map[string]oci.Digest) error {
				return errors.Join(lacks(r, "app", "v1"), lacks(r, "app", "all"))
			},
			goes: []string{"app:v1", "app:v2", "app:all", "app:again"},
		},
	}
}

var errNotMounted = errors.New("not mounted")

func TestEveryStepOfEveryWriteMayFail(t *testing.T) {
	for _, w := range writes() {
		t.Run(w.name, func(t *testing.T) {
			t.Parallel()
			var s *store.Store // The one that saw the fault.
			var at map[string]oci.Digest
			storagetest.EveryStep(t,
				func(t testing.TB) storage.Backend {
					b := mem.New()
					at = ocitest.Push(t, open(t, b), base)
					return b
				},
				func(t testing.TB, b storage.Backend) error {
					s = open(t, b)
					return w.do(t.Context(), s, at)
				},
				func(t testing.TB, b storage.Backend, err error) {
					checkWhole(t, open(t, b), at, w.goes)
					checkWhole(t, s, at, w.goes)
					if a, b := state(t, s), state(t, open(t, b)); !slices.Equal(a, b) {
						t.Errorf("memory differs from the layout:\n%q\n%q", a, b)
					}
					if err == nil {
						checkDone(t, b, w, at)
						checkTidy(t, b)
					}
				})
		})
	}
}

// The power is cut before every call that changes or syncs anything, and once
// more after the write was acknowledged; each time what was not synced is
// lost, or kept by chance.
func TestPowerCutLosesNothingAcknowledged(t *testing.T) {
	for _, w := range writes() {
		t.Run(w.name, func(t *testing.T) {
			t.Parallel()
			disk := filetest.NewDisk()
			at := ocitest.Push(t, open(t, onDisk(t, disk)), base)
			s := open(t, onDisk(t, disk))
			state(t, s)       // The catalogue has been read: nothing goes on but the write.
			var mu sync.Mutex // Some calls are made at the same time.
			chance := rand.New(rand.NewPCG(1, 2))
			var cuts []*filetest.Disk
			disk.Before = func(filetest.Call) error {
				mu.Lock()
				defer mu.Unlock()
				cuts = append(cuts, disk.PowerCut(), disk.PowerCutKeeping(func() bool { return chance.IntN(2) == 0 }))
				return nil
			}
			if err := w.do(t.Context(), s, at); err != nil {
				t.Fatal(err)
			}
			disk.Before = nil
			for i, cut := range cuts {
				checkWhole(t, open(t, onDisk(t, cut)), at, w.goes)
				if t.Failed() {
					t.Fatalf("power cut %d of %d", i, len(cuts))
				}
			}
			for range 10 {
				cut := disk.PowerCutKeeping(func() bool { return chance.IntN(2) == 0 })
				checkDone(t, onDisk(t, cut), w, at)
			}
			checkDone(t, onDisk(t, disk.PowerCut()), w, at)
			checkTidy(t, onDisk(t, disk))
		})
	}
}

func onDisk(t testing.TB, d *filetest.Disk) storage.Backend {
	t.Helper()
	b, err := file.Open("/registry", file.Options{FS: d, Euid: func() int { return 1000 }})
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// checkDone checks the store that a later process finds.
func checkDone(t testing.TB, b storage.Backend, w write, at map[string]oci.Digest) {
	t.Helper()
	s := open(t, b)
	if err := w.want(s, at); err != nil {
		t.Errorf("acknowledged and lost: %v", err)
	}
	checkWhole(t, s, at, w.goes)
}

func checkTidy(t testing.TB, b storage.Backend) {
	t.Helper()
	if junk := leftovers(t, b, "docker"); len(junk) > 0 {
		t.Errorf("left behind: %q", junk)
	}
}

// checkWhole checks that every tag leads to an image that is all there, and
// that all of base but goes is still as it was.
func checkWhole(t testing.TB, r oci.Registry, at map[string]oci.Digest, goes []string) {
	t.Helper()
	for repo, err := range r.Repos(t.Context(), "") {
		if err != nil {
			t.Fatal(err)
		}
		for tag, err := range r.Tags(t.Context(), repo, "") {
			if err != nil {
				t.Fatal(err)
			}
			if err := wholeImage(r, repo, tag); err != nil {
				t.Errorf("%s:%s is not whole: %v", repo, tag, err)
			}
		}
	}
	for repo, content := range base {
		for tag, name := range content.Tags {
			if slices.Contains(goes, repo+":"+tag) {
				continue
			}
			if err := points(r, repo, tag, at[name]); err != nil {
				t.Error(err)
			}
		}
	}
}

func wholeImage(r oci.Registry, repo, ref string) error {
	m, err := r.Manifest(context.Background(), repo, ref)
	if err != nil {
		return err
	}
	if got := m.Descriptor.Digest.Algorithm().FromBytes(m.Raw); got != m.Descriptor.Digest {
		return fmt.Errorf("the manifest is %s", got)
	}
	g, err := oci.ParseManifest("", m.Raw)
	if err != nil {
		return err
	}
	for _, b := range g.Blobs() {
		if err := hasBlob(r, repo, b.Digest); err != nil {
			return err
		}
	}
	for _, c := range g.Manifests {
		if err := wholeImage(r, repo, string(c.Digest)); err != nil {
			return err
		}
	}
	return nil
}

func hasBlob(r oci.Registry, repo string, d oci.Digest) error {
	b, err := r.Blob(context.Background(), repo, d)
	if err != nil {
		return fmt.Errorf("blob %s of %s: %w", d, repo, err)
	}
	defer b.Close()
	got, err := d.Algorithm().FromReader(b)
	if err == nil && got != d {
		err = fmt.Errorf("blob %s has the content of %s", d, got)
	}
	return err
}

func points(r oci.Registry, repo, tag string, want oci.Digest) error {
	d, err := r.Resolve(context.Background(), repo, tag)
	if err == nil && d.Digest != want {
		err = fmt.Errorf("points to %s, want %s", d.Digest, want)
	}
	if err != nil {
		return fmt.Errorf("%s:%s: %w", repo, tag, err)
	}
	return nil
}

func lacks(r oci.Registry, repo, ref string) error {
	if _, err := r.Resolve(context.Background(), repo, ref); !errors.Is(err, oci.ManifestUnknown) {
		return fmt.Errorf("%s of %s is still there: %v", ref, repo, err)
	}
	return nil
}

func push(ctx context.Context, r oci.Registry, repo, content string) error {
	u, err := r.Upload(ctx, repo, "", oci.UploadOptions{})
	if err != nil {
		return err
	}
	defer u.Close()
	if _, err := io.Copy(u, strings.NewReader(content)); err != nil {
		return err
	}
	_, err = u.Commit(ctx, digest.FromString(content))
	return err
}

func imageNamed(config, layer oci.Digest) []byte {
	return fmt.Appendf(nil, `{"schemaVersion":2,"mediaType":%q,"config":{"digest":%q,"size":1},"layers":[{"digest":%q,"size":1}]}`,
		oci.MediaTypeManifest, config, layer)
}

// state is everything that lists tell.
func state(t testing.TB, r oci.Registry) []string {
	t.Helper()
	seen := map[string]bool{}
	for repo, err := range r.Repos(t.Context(), "") {
		if err != nil {
			t.Fatal(err)
		}
		for tag, err := range r.TagDetails(t.Context(), repo, "") {
			if err != nil {
				t.Fatal(err)
			}
			seen[fmt.Sprintf("%s:%s %s %d", repo, tag.Tag, tag.Manifest.Digest, tag.Size)] = true
		}
		seen[repo] = true
	}
	return slices.Sorted(maps.Keys(seen))
}

// leftovers are temporary files and unfinished uploads.
func leftovers(t testing.TB, b storage.Backend, dir string) (junk []string) {
	t.Helper()
	for e, err := range b.List(t.Context(), dir) {
		if errors.Is(err, fs.ErrNotExist) {
			return junk
		}
		if err != nil {
			t.Fatal(err)
		}
		key := path.Join(dir, e.Name)
		switch {
		case e.Dir:
			junk = append(junk, leftovers(t, b, key)...)
		case strings.HasSuffix(key, ".tmp"), strings.Contains(key, "/_uploads/"), strings.Contains(key, ".deleted"):
			junk = append(junk, key)
		}
	}
	return junk
}

// A blob or manifest that a peer or a power cut left damaged is replaced by
// the next push of it.
func TestPushHealsWhatIsDamaged(t *testing.T) {
	for name, damage := range map[string]string{"empty": "", "torn": "first", "wrong": "other layer"} {
		t.Run(name, func(t *testing.T) {
			b := mem.New()
			at := ocitest.Push(t, open(t, b), base)
			for _, of := range []string{"first", "one"} {
				if err := storage.Put(t.Context(), b, meta.BlobKey(at[of]), []byte(damage)); err != nil {
					t.Fatal(err)
				}
			}
			s := open(t, b)
			if err := hasBlob(s, "app", at["first"]); err == nil {
				t.Fatal("the blob is not damaged")
			}
			if err := push(t.Context(), s, "app", "first layer"); err != nil {
				t.Fatal(err)
			}
			ocitest.Push(t, s, base)
			for _, r := range []oci.Registry{s, open(t, b)} {
				checkWhole(t, r, at, nil)
			}
		})
	}
}

// How often a push waits for the device, and for what: stated here, so that no
// change makes it more by accident.
func TestSyncsOfAPush(t *testing.T) {
	disk := filetest.NewDisk()
	s := open(t, onDisk(t, disk))
	at := ocitest.Push(t, s, base) // Directories shared by all pushes are there now.
	count := func(do func() error) (files, dirs int) {
		disk.TakeSyncs()
		if err := do(); err != nil {
			t.Fatal(err)
		}
		for _, what := range disk.TakeSyncs() {
			if strings.HasPrefix(what, "file ") {
				files++
			} else {
				dirs++
			}
		}
		return files, dirs
	}
	put := func(tags ...string) func() error {
		return func() error {
			_, err := s.PutManifest(t.Context(), "app", oci.Put{Raw: imageNamed(at["spare"], at["first"]), Tags: tags})
			return err
		}
	}
	for _, c := range []struct {
		what        string
		do          func() error
		files, dirs int
	}{
		{"blob: bytes and link", func() error { return push(t.Context(), s, "app", "new layer") }, 2, 5},
		{"the same again: bytes", func() error { return push(t.Context(), s, "app", "new layer") }, 1, 1},
		{"manifest without a tag: bytes and link", put(), 2, 5},
		{"again, to a new tag: link and history", put("t1"), 2, 7},
		{"again, to the same tag", put("t1"), 1, 1},
		{"again, to an old tag", put("v1"), 2, 3},
		{"delete a tag", func() error { return s.DeleteTag(t.Context(), "app", "t1", "") }, 0, 1},
	} {
		if files, dirs := count(c.do); files != c.files || dirs != c.dirs {
			t.Errorf("%s: %d files and %d directories are synced, want %d and %d", c.what, files, dirs, c.files, c.dirs)
		}
	}
}
