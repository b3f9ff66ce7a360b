package store_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"maps"
	"path"
	"slices"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/regctl/regctl/client/oci"
	"github.com/regctl/regctl/client/oci/ocitest"
	"github.com/regctl/regctl/serve/meta"
	"github.com/regctl/regctl/serve/storage"
	"github.com/regctl/regctl/serve/storage/file"
	"github.com/regctl/regctl/serve/storage/mem"
	"github.com/regctl/regctl/serve/storage/storagetest"
	"github.com/regctl/regctl/serve/store"
)

// backends are those that a check has to work on.
func backends() map[string]func(t testing.TB) storage.Backend {
	return map[string]func(t testing.TB) storage.Backend{
		"mem": func(testing.TB) storage.Backend { return mem.New() },
		"file": func(t testing.TB) storage.Backend {
			b, err := file.Open(t.TempDir(), file.Options{NoSync: true})
			if err != nil {
				t.Fatal(err)
			}
			return b
		},
	}
}

func check(t testing.TB, s *store.Store, o store.CheckOptions) store.CheckReport {
	t.Helper()
	if o.Jobs == 0 {
		o.Jobs = 3
	}
	last := store.CheckProgress{}
	o.Progress = func(p store.CheckProgress) {
		if p.Total > 0 && p.Done > p.Total || p.Phase == last.Phase && p.Done < last.Done {
			t.Errorf("progress goes from %+v to %+v", last, p)
		}
		last = p
	}
	r, err := s.Check(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	corrupt := 0
	for _, f := range r.Faults {
		if f.What == "" || f.Hurts == nil || f.CanRepair && f.Action == "" || f.CanRepair && f.Repaired {
			t.Errorf("a fault says too little, or too much: %+v", f)
		}
		if f.Level == store.LevelCorrupt && !f.Repaired {
			corrupt++
		}
	}
	if corrupt != r.Corrupt {
		t.Errorf("%d faults are corrupt, the report says %d", corrupt, r.Corrupt)
	}
	return r
}

// told writes the faults of a report, with the names of at for digests.
func told(r store.CheckReport, at map[string]oci.Digest) []string {
	var pairs []string
	for name, d := range at {
		pairs = append(pairs, string(d), name)
	}
	names := strings.NewReplacer(pairs...)
	lines := []string{}
	for _, f := range r.Faults {
		line := string(f.Kind)
		switch where := f.Repo; {
		case f.Tag != "":
			line += " " + where + ":" + f.Tag
		case f.Digest != "":
			line += " " + where + "@" + string(f.Digest)
		case where != "":
			line += " " + where
		}
		if len(f.Hurts) > 0 {
			line += " hurts " + strings.Join(f.Hurts, ",")
		}
		switch {
		case f.CanRepair:
			line += " (mendable)"
		case f.Repaired:
			line += " (mended)"
		}
		lines = append(lines, names.Replace(line))
	}
	slices.Sort(lines)
	return lines
}

func revision(repo string, d oci.Digest) string {
	return path.Join(repositories, repo, "_manifests/revisions", string(d.Algorithm()), d.Encoded(), "link")
}

func layer(repo string, d oci.Digest) string {
	return path.Join(repositories, repo, "_layers", string(d.Algorithm()), d.Encoded(), "link")
}

func tagged(repo, tag string) string {
	return path.Join(repositories, repo, "_manifests/tags", tag, "current/link")
}

func TestCheckOfAWholeStore(t *testing.T) {
	for name, open1 := range backends() {
		for _, fast := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s,fast=%t", name, fast), func(t *testing.T) {
				s := open(t, open1(t))
				ocitest.Push(t, s, base)
				r := check(t, s, store.CheckOptions{Fast: fast, Repair: true})
				if len(r.Faults) > 0 {
					t.Errorf("faults: %+v", r.Faults)
				}
				if r.Repositories != 2 || r.Tags != 5 || r.Manifests != 4 || r.Blobs != 6 || r.Data != 10 {
					t.Errorf("counted %+v", r)
				}
				if read := r.Read == r.Bytes; read == fast || r.Bytes == 0 {
					t.Errorf("%d of %d bytes were read", r.Read, r.Bytes)
				}
			})
		}
	}
}

// fault is something that may be wrong with base.
type fault struct {
	name  string
	plant func(put func(key, data string), remove func(key string), at map[string]oci.Digest)
	found []string
	fast  []string // Nil: the same.
	left  []string // After a repair; nil: nothing.
}

func faults() []fault {
	type m = map[string]oci.Digest
	type put = func(key, data string)
	type remove = func(key string)
	allOfFirst := "app:again,app:all,app:v1,app:v2"
	return []fault{
		{
			name:  "empty link of a layer",
			plant: func(put put, _ remove, at m) { put(layer("app", at["first"]), "") },
			found: []string{"damaged-link app@first hurts " + allOfFirst + " (mendable)"},
		},
		{
			name:  "empty link of a blob without bytes that nothing names",
			plant: func(put put, rm remove, at m) { put(layer("app", at["spare"]), ""); rm(meta.BlobKey(at["spare"])) },
			found: []string{"dead-link app"},
			left:  []string{"dead-link app"},
		},
		{
			name:  "empty link of a layer without bytes",
			plant: func(put put, rm remove, at m) { put(layer("app", at["second"]), ""); rm(meta.BlobKey(at["second"])) },
			found: []string{"damaged-link app@second hurts app:all,app:v2"},
			left:  []string{"damaged-link app@second hurts app:all,app:v2"},
		},
		{
			name:  "torn link of a manifest",
			plant: func(put put, _ remove, at m) { put(revision("app", at["two"]), "sha256:00") },
			found: []string{"damaged-link app@two hurts app:all,app:v2 (mendable)"},
		},
		{
			name: "torn link of a manifest without bytes",
			plant: func(put put, rm remove, at m) {
				put(revision("app", at["two"]), "sha256:00")
				rm(meta.BlobKey(at["two"]))
			},
			found: []string{"damaged-link app@two hurts app:all,app:v2"},
			left:  []string{"damaged-link app@two hurts app:all,app:v2"},
		},
		{
			name: "torn link of a manifest with the bytes of none",
			plant: func(put put, rm remove, _ m) {
				put(revision("app", digest.FromString("{}")), "")
				put(meta.BlobKey(digest.FromString("{}")), "{}")
			},
			found: []string{"damaged-link app@{} hurts app@{}"},
			left:  []string{"damaged-link app@{} hurts app@{}"},
		},
		{
			name:  "empty link of a tag",
			plant: func(put put, _ remove, _ m) { put(tagged("app", "v2"), "") },
			found: []string{"damaged-link app:v2 hurts app:v2"},
			left:  []string{"damaged-link app:v2 hurts app:v2"},
		},
		{
			name:  "tag of no manifest",
			plant: func(_ put, rm remove, at m) { rm(revision("app", at["both"])) },
			found: []string{"dangling-tag app:all hurts app:all"},
			left:  []string{"dangling-tag app:all hurts app:all"},
		},
		{
			name:  "link of a layer to another blob",
			plant: func(put put, _ remove, at m) { put(layer("app", at["second"]), string(at["first"])) },
			found: []string{"wrong-link app@second hurts app:all,app:v2 (mendable)"},
		},
		{
			name:  "link of a manifest to another one",
			plant: func(put put, _ remove, at m) { put(revision("app", at["two"]), string(at["one"])) },
			found: []string{"wrong-link app@two hurts app:all,app:v2 (mendable)"},
		},
		{
			name:  "layer that is not linked",
			plant: func(_ put, rm remove, at m) { rm(layer("app", at["second"])) },
			found: []string{"missing-link app@second hurts app:all,app:v2 (mendable)"},
		},
		{
			name:  "layer without bytes",
			plant: func(_ put, rm remove, at m) { rm(meta.BlobKey(at["second"])) },
			found: []string{"missing-data @second hurts app:all,app:v2"},
			left:  []string{"missing-data @second hurts app:all,app:v2"},
		},
		{
			name:  "layer without bytes and link",
			plant: func(_ put, rm remove, at m) { rm(layer("app", at["second"])); rm(meta.BlobKey(at["second"])) },
			found: []string{"missing-data @second hurts app:all,app:v2"},
			left:  []string{"missing-data @second hurts app:all,app:v2"},
		},
		{
			name:  "blob without bytes that nothing names",
			plant: func(_ put, rm remove, at m) { rm(meta.BlobKey(at["spare"])) },
			found: []string{"dead-link app"},
			left:  []string{"dead-link app"},
		},
		{
			name:  "manifest without bytes",
			plant: func(_ put, rm remove, at m) { rm(meta.BlobKey(at["two"])) },
			found: []string{"missing-data @two hurts app:all,app:v2"},
			left:  []string{"missing-data @two hurts app:all,app:v2"},
		},
		{
			name:  "layer with other bytes",
			plant: func(put put, _ remove, at m) { put(meta.BlobKey(at["second"]), "second l4yer") },
			found: []string{"wrong-bytes @second hurts app:all,app:v2 (mendable)"},
			fast:  []string{},
			left:  []string{"missing-data @second hurts app:all,app:v2", "wrong-bytes @second hurts app:all,app:v2 (mended)"},
		},
		{
			name:  "layer cut off",
			plant: func(put put, _ remove, at m) { put(meta.BlobKey(at["second"]), "second") },
			found: []string{"wrong-bytes @second hurts app:all,app:v2 (mendable)"},
			left:  []string{"missing-data @second hurts app:all,app:v2", "wrong-bytes @second hurts app:all,app:v2 (mended)"},
		},
		{
			name:  "empty layer",
			plant: func(put put, _ remove, at m) { put(meta.BlobKey(at["second"]), "") },
			found: []string{"empty-data @second hurts app:all,app:v2 (mendable)"},
			left:  []string{"empty-data @second hurts app:all,app:v2 (mended)", "missing-data @second hurts app:all,app:v2"},
		},
		{
			name:  "other bytes that nothing needs",
			plant: func(put put, _ remove, at m) { put(meta.BlobKey(at["spare"]), "nothing") },
			found: []string{"wrong-bytes @spare (mendable)"},
			fast:  []string{},
			left:  []string{"dead-link app", "wrong-bytes @spare (mended)"},
		},
		{
			name:  "manifest with other bytes",
			plant: func(put put, _ remove, at m) { put(meta.BlobKey(at["two"]), "{}") },
			found: []string{"wrong-bytes @two hurts app:all,app:v2 (mendable)"},
			left:  []string{"missing-data @two hurts app:all,app:v2", "wrong-bytes @two hurts app:all,app:v2 (mended)"},
		},
		{
			name:  "empty manifest",
			plant: func(put put, _ remove, at m) { put(meta.BlobKey(at["deep"]), "") },
			found: []string{"empty-data @deep hurts app/below:v1 (mendable)"},
			left:  []string{"empty-data @deep hurts app/below:v1 (mended)", "missing-data @deep hurts app/below:v1"},
		},
		{
			name: "size that is none of the layer",
			plant: func(put put, _ remove, at m) {
				raw := imageNamed(at["first"], at["second"])
				d := digest.FromBytes(raw)
				put(meta.BlobKey(d), string(raw))
				put(revision("app", d), string(d))
				put(tagged("app", "lie"), string(d))
			},
			found: []string{"wrong-size app@first hurts app:lie", "wrong-size app@second hurts app:lie"},
			left:  []string{"wrong-size app@first hurts app:lie", "wrong-size app@second hurts app:lie"},
		},
		{
			name: "child that is not there",
			plant: func(put put, _ remove, at m) {
				raw := fmt.Sprintf(`{"schemaVersion":2,"mediaType":%q,"manifests":[{"digest":%q,"size":1}]}`, oci.MediaTypeIndex, at["deep"])
				put(meta.BlobKey(digest.FromString(raw)), raw)
				put(revision("app", digest.FromString(raw)), digest.FromString(raw).String())
				put(tagged("app", "sparse"), digest.FromString(raw).String())
			},
			found: []string{"sparse-index app hurts app:sparse"},
			left:  []string{"sparse-index app hurts app:sparse"},
		},
		{
			name: "manifest that is none",
			plant: func(put put, _ remove, _ m) {
				put(meta.BlobKey(digest.FromString("{}")), "{}")
				put(revision("app", digest.FromString("{}")), digest.FromString("{}").String())
			},
			found: []string{"no-manifest app@{} hurts app@{}"},
			left:  []string{"no-manifest app@{} hurts app@{}"},
		},
		{
			name: "sha512 as registry:2 keeps it",
			plant: func(put put, _ remove, at m) {
				put(layer("app", digest.SHA512.FromString("first layer")), string(at["first"]))
			},
			found: []string{"other-digest app"},
			left:  []string{"other-digest app"},
		},
		{
			name: "sha512 of something else",
			plant: func(put put, _ remove, at m) {
				put(layer("app", digest.SHA512.FromString("else")), string(at["first"]))
			},
			found: []string{"wrong-link app@else"},
			fast:  []string{"other-digest app"},
			left:  []string{"wrong-link app@else"},
		},
		{
			name:  "no repositories",
			plant: func(_ put, rm remove, _ m) { rm(repositories) },
			found: []string{"unreadable"},
			left:  []string{"unreadable"},
		},
	}
}

// plant returns a store with base and what is wrong with it.
func (f fault) in(t testing.TB, b storage.Backend) map[string]oci.Digest {
	t.Helper()
	at := ocitest.Push(t, open(t, b), base)
	at["{}"], at["else"] = digest.FromString("{}"), digest.SHA512.FromString("else")
	ctx := context.WithoutCancel(t.Context())
	f.plant(func(key, data string) {
		if err := storage.Put(ctx, b, key, []byte(data)); err != nil {
			t.Fatal(err)
		}
	}, func(key string) { removeAll(t, b, key) }, at)
	return at
}

func removeAll(t testing.TB, b storage.Backend, key string) {
	t.Helper()
	err := b.Remove(t.Context(), key)
	if errors.Is(err, storage.ErrNotEmpty) {
		for e, err := range b.List(t.Context(), key) {
			if err != nil {
				t.Fatal(err)
			}
			removeAll(t, b, path.Join(key, e.Name))
		}
		err = b.Remove(t.Context(), key)
	}
	if err != nil {
		t.Fatal(err)
	}
}

func TestCheckFindsAndMends(t *testing.T) {
	for name, open1 := range backends() {
		for _, f := range faults() {
			t.Run(name+"/"+f.name, func(t *testing.T) {
				b := open1(t)
				at := f.in(t, b)
				wantTold(t, "fast", check(t, open(t, b), store.CheckOptions{Fast: true}), at, or(f.fast, f.found))
				wantTold(t, "", check(t, open(t, b), store.CheckOptions{}), at, f.found)

				s := open(t, b)
				readAll(s) // Memory knows what was wrong.
				mended := check(t, s, store.CheckOptions{Repair: true})
				n := 0
				for _, f := range f.found {
					if strings.HasSuffix(f, " (mendable)") {
						n++
					}
				}
				if mended.Repaired != n {
					t.Errorf("%d were repaired, want %d", mended.Repaired, n)
				}
				left := slices.DeleteFunc(slices.Clone(f.left), func(s string) bool { return strings.HasSuffix(s, " (mended)") })
				wantTold(t, "after repair", check(t, open(t, b), store.CheckOptions{}), at, or(left, []string{}))
				stillGood(t, s, f.left, "what was not hurt, by the server that mended")
				stillGood(t, open(t, b), f.left, "what was not hurt, by the next")
			})
		}
	}
}

func or(a, b []string) []string {
	if a != nil {
		return a
	}
	return b
}

func wantTold(t *testing.T, when string, r store.CheckReport, at map[string]oci.Digest, want []string) {
	t.Helper()
	if got := told(r, at); !slices.Equal(got, want) {
		t.Errorf("%s found\n\t%s\nwant\n\t%s", when, strings.Join(got, "\n\t"), strings.Join(want, "\n\t"))
	}
}

// readAll lets memory know what the store holds.
func readAll(s *store.Store) {
	for repo, content := range base {
		for tag := range content.Tags {
			_ = wholeImage(s, repo, tag)
		}
	}
}

// stillGood makes sure that every image of base that is in none of these lines
// can be pulled.
func stillGood(t *testing.T, s *store.Store, hurt []string, what string) {
	t.Helper()
	if slices.Contains(hurt, "unreadable") {
		return
	}
	for repo, content := range base {
		for _, tag := range slices.Sorted(maps.Keys(content.Tags)) {
			isHurt := slices.ContainsFunc(hurt, func(line string) bool {
				return slices.Contains(strings.FieldsFunc(line, func(r rune) bool { return r == ' ' || r == ',' }), repo+":"+tag)
			})
			if err := wholeImage(s, repo, tag); err != nil && !isHurt {
				t.Errorf("%s: %s:%s: %v", what, repo, tag, err)
			} else if err == nil && isHurt && !strings.Contains(strings.Join(hurt, " "), "wrong-size") {
				t.Errorf("%s: %s:%s is said to be hurt, and is whole", what, repo, tag)
			}
		}
	}
}

// With a repair that fails at any step nothing is worse than before, and the
// next one mends it.
func TestRepairFailsAtEveryStep(t *testing.T) {
	for _, f := range faults() {
		if f.name == "no repositories" {
			continue
		}
		t.Run(f.name, func(t *testing.T) {
			var at map[string]oci.Digest
			storagetest.EveryStep(t, func(t testing.TB) storage.Backend {
				b := mem.New()
				at = f.in(t, b)
				return b
			}, func(t testing.TB, b storage.Backend) error {
				s, err := store.New(t.Context(), b, store.Options{})
				if err != nil {
					return err
				}
				r, err := s.Check(t.Context(), store.CheckOptions{Repair: true})
				for _, f := range r.Faults {
					if strings.HasPrefix(f.Action, "could not") {
						err = errors.New(f.Action)
					}
				}
				return err
			}, func(t testing.TB, b storage.Backend, _ error) {
				check(t, open(t, b), store.CheckOptions{Repair: true})
				left := slices.DeleteFunc(slices.Clone(f.left), func(s string) bool { return strings.HasSuffix(s, " (mended)") })
				if got := told(check(t, open(t, b), store.CheckOptions{}), at); !slices.Equal(got, or(left, []string{})) {
					t.Errorf("after the next repair: %q, want %q", got, left)
				}
			})
		})
	}
}

// A push heals what was set aside, though a client asks first whether it is
// there.
func TestPushHealsWhatWasSetAside(t *testing.T) {
	b := mem.New()
	at := ocitest.Push(t, open(t, b), base)
	for _, name := range []string{"second", "two"} {
		if err := storage.Put(t.Context(), b, meta.BlobKey(at[name]), []byte(`{"mediaType":"damaged"}`)); err != nil {
			t.Fatal(err)
		}
	}
	s := open(t, b)
	readAll(s)
	check(t, s, store.CheckOptions{Repair: true})
	if _, err := s.StatBlob(t.Context(), "app", at["second"]); !errors.Is(err, oci.BlobUnknown) {
		t.Errorf("the layer is still there: %v", err)
	}
	if err := lacks(s, "app", string(at["two"])); err != nil {
		t.Error(err)
	}
	ocitest.Push(t, s, base)
	if r := check(t, s, store.CheckOptions{}); len(r.Faults) > 0 {
		t.Errorf("after the push: %+v", r.Faults)
	}
	aside := 0
	for _, name := range []string{"second", "two"} {
		for e, err := range b.List(t.Context(), path.Dir(meta.BlobKey(at[name]))) {
			if err != nil {
				t.Fatal(err)
			}
			if e.Name != "data" {
				aside++
			}
		}
	}
	if aside != 2 {
		t.Errorf("%d files are aside, want the bytes of both", aside)
	}
}

// What a server accepts without knowing that its sender may read it is not
// linked by a repair.
func TestRepairGrantsNothing(t *testing.T) {
	b := mem.New()
	at := ocitest.Push(t, open(t, b), base)
	s, err := store.New(t.Context(), b, store.Options{SparseImages: true})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.PutManifest(t.Context(), "thief", oci.Put{Raw: imageNamed(at["spare"], at["first"]), Tags: []string{"v1"}}); err != nil {
		t.Fatal(err)
	}
	check(t, s, store.CheckOptions{Repair: true})
	if _, err := s.StatBlob(t.Context(), "thief", at["first"]); !errors.Is(err, oci.BlobUnknown) {
		t.Errorf("the blob of another repository: %v, want BLOB_UNKNOWN", err)
	}
}

// unlistable fails to list a directory.
type unlistable struct {
	storage.Backend
	dir string
}

func (u unlistable) List(ctx context.Context, dir string) iter.Seq2[storage.Entry, error] {
	if dir != u.dir {
		return u.Backend.List(ctx, dir)
	}
	return func(yield func(storage.Entry, error) bool) {
		yield(storage.Entry{}, fmt.Errorf("list %s: %w", dir, fs.ErrPermission))
	}
}

// What cannot be listed is told, and the rest is checked all the same.
func TestCheckOfWhatCannotBeListed(t *testing.T) {
	b := mem.New()
	at := ocitest.Push(t, open(t, b), base)
	if err := b.Remove(t.Context(), meta.BlobKey(at["below"])); err != nil {
		t.Fatal(err)
	}
	const missing = "missing-data @below hurts app/below:v1"
	for dir, want := range map[string]string{
		path.Join(repositories, "app/_manifests/tags"):               "unreadable app",
		path.Join(repositories, "app/_layers/sha256"):                "unreadable app",
		path.Join(repositories, "app"):                               "unreadable",
		"docker/registry/v2/blobs/sha256":                            "unreadable",
		path.Dir(path.Dir(meta.BlobKey(at["first"]))):                "unreadable",
		path.Join(repositories, "app/below/_manifests/tags/v1/none"): "",
	} {
		r := check(t, open(t, unlistable{b, dir}), store.CheckOptions{})
		got := told(r, at)
		if want != "" && !slices.Contains(got, want) {
			t.Errorf("%s: found %q, want %q too", dir, got, want)
		}
		if dir != path.Join(repositories, "app") && !slices.Contains(got, missing) {
			t.Errorf("%s: found %q, want %q too", dir, got, missing)
		}
		if want != "" && r.Unread == 0 {
			t.Errorf("%s: nothing is unreadable", dir)
		}
	}
}

// What cannot be read is no corruption, and is not mended.
func TestCheckOfWhatCannotBeRead(t *testing.T) {
	b := mem.New()
	at := ocitest.Push(t, open(t, b), base)
	for key, want := range map[string]string{
		meta.BlobKey(at["second"]):  "unreadable @second hurts app:all,app:v2",
		meta.BlobKey(at["two"]):     "unreadable @two hurts app:all,app:v2",
		layer("app", at["second"]):  "unreadable app@second hurts app:all,app:v2",
		revision("app", at["two"]):  "unreadable app@two hurts app:all,app:v2",
		tagged("app/below", "v1"):   "unreadable app/below:v1 hurts app/below:v1",
		revision("app", at["both"]): "unreadable app@both hurts app:all",
	} {
		r := check(t, open(t, unreadable{b, key}), store.CheckOptions{Repair: true})
		wantTold(t, key, r, at, []string{want})
		if r.Corrupt != 0 || r.Unread != 1 {
			t.Errorf("%s: %d corrupt, %d unread", key, r.Corrupt, r.Unread)
		}
	}
	if _, err := b.Stat(t.Context(), tagged("app", "all")); errors.Is(err, fs.ErrNotExist) {
		t.Error(err)
	}
}
