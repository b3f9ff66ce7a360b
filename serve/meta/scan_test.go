package meta

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/regctl/regctl/client/oci"
	"github.com/regctl/regctl/serve/storage"
	"github.com/regctl/regctl/serve/storage/file"
	"github.com/regctl/regctl/serve/storage/file/filetest"
	"github.com/regctl/regctl/serve/storage/mem"
)

// onEach runs a test on every backend that a local store can be on.
func onEach(t *testing.T, test func(t *testing.T, b storage.Backend)) {
	t.Helper()
	t.Run("mem", func(t *testing.T) { test(t, mem.New()) })
	t.Run("file", func(t *testing.T) { test(t, openFile(t, t.TempDir())) })
	t.Run("disk", func(t *testing.T) { test(t, onDisk(t, filetest.NewDisk())) })
}

func openFile(t testing.TB, root string) *file.Backend {
	t.Helper()
	b, err := file.Open(root, file.Options{NoSync: true})
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// onDisk opens a backend on a model of a disk, as a user who is not root.
func onDisk(t testing.TB, d *filetest.Disk) *file.Backend {
	t.Helper()
	b, err := file.Open("/store", file.Options{FS: d, Euid: func() int { return 1000 }})
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// offline opens the metadata as who collects a store that nobody serves.
func offline(t testing.TB, b storage.Backend) *Meta {
	t.Helper()
	m, err := New(t.Context(), b, Options{NoCatalogue: true})
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// blob puts a blob into a repository, as registry:2 lays it out.
func blob(t testing.TB, s storage.Backend, repo, data string) digest.Digest {
	t.Helper()
	d := digest.FromString(data)
	put(t, s, BlobKey(d), data)
	put(t, s, layerLink(repo, d), string(d))
	return d
}

// image puts an image with such a tag into a repository.
func image(t testing.TB, s storage.Backend, repo, tag string, layers ...digest.Digest) digest.Digest {
	t.Helper()
	config := blob(t, s, repo, `{"architecture":"amd64","os":"linux","created":"`+repo+tag+`"}`)
	list := descriptors("application/vnd.oci.image.layer.v1.tar+gzip", layers)
	return manifest(t, s, repo, tag, `"mediaType":"application/vnd.oci.image.manifest.v1+json","config":`+
		descriptors("application/vnd.oci.image.config.v1+json", []digest.Digest{config})+`,"layers":[`+list+`]`)
}

// index puts an index with such a tag into a repository.
func index(t testing.TB, s storage.Backend, repo, tag string, children ...digest.Digest) digest.Digest {
	t.Helper()
	return manifest(t, s, repo, tag, `"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[`+
		descriptors("application/vnd.oci.image.manifest.v1+json", children)+`]`)
}

func descriptors(mediaType string, digests []digest.Digest) string {
	var list []string
	for _, d := range digests {
		list = append(list, fmt.Sprintf(`{"mediaType":%q,"digest":%q,"size":1000}`, mediaType, d))
	}
	return strings.Join(list, ",")
}

func manifest(t testing.TB, s storage.Backend, repo, tag, fields string) digest.Digest {
	t.Helper()
	raw := `{"schemaVersion":2,` + fields + `}`
	d := digest.FromString(raw)
	put(t, s, BlobKey(d), raw)
	put(t, s, revisionLink(repo, d), string(d))
	if tag != "" {
		put(t, s, tagIndexLink(repo, tag, d), string(d))
		put(t, s, tagLink(repo, tag), string(d))
	}
	return d
}

func scanRepo(t testing.TB, m *Meta, repo string) *RepoScan {
	t.Helper()
	s, err := m.ScanRepo(t.Context(), repo, 2)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// scanned returns the names found, with aliases after "=", and the errors.
func scanned(t testing.TB, m *Meta) (names []string, errs []error) {
	t.Helper()
	for r, err := range m.ScanRepos(t.Context()) {
		switch {
		case err != nil:
			errs = append(errs, err)
		default:
			names = append(names, strings.Join(append([]string{r.Name}, r.Aliases...), "="))
		}
	}
	return names, errs
}

// mention fails the test unless there is one error for each of what, in any
// order, that says it.
func mention(t testing.TB, errs []error, what ...string) {
	t.Helper()
	for _, w := range what {
		if !slices.ContainsFunc(errs, func(err error) bool { return strings.Contains(err.Error(), w) }) {
			t.Errorf("no error mentions %s: %v", w, errs)
		}
	}
	if len(errs) != len(what) {
		t.Errorf("%d errors, want %d: %v", len(errs), len(what), errs)
	}
}

func TestScanRepoTellsWhatIsThere(t *testing.T) {
	onEach(t, func(t *testing.T, b storage.Backend) {
		const repo = "team/app"
		layer := blob(t, b, repo, "layer")
		img := image(t, b, repo, "v1", layer)
		all := index(t, b, repo, "latest", img)
		sign := manifest(t, b, repo, "", `"mediaType":"application/vnd.oci.image.manifest.v1+json","config":`+
			descriptors("application/vnd.oci.empty.v1+json", []digest.Digest{layer})+`,"layers":[],"subject":`+
			descriptors("application/vnd.oci.image.manifest.v1+json", []digest.Digest{img}))
		by512 := digest.SHA512.FromString("layer")
		put(t, b, layerLink(repo, by512), string(layer))

		s := scanRepo(t, offline(t, b), repo)
		if len(s.Errs) > 0 || s.Name != repo {
			t.Errorf("%s: %v", s.Name, s.Errs)
		}
		var tags []string
		for _, v := range s.Tags {
			tags = append(tags, fmt.Sprint(v.Tag, " ", v.Digest, " ", v.Err))
			if v.Moved.IsZero() {
				t.Errorf("tag %s never moved", v.Tag)
			}
		}
		if want := []string{fmt.Sprint("latest ", all, " <nil>"), fmt.Sprint("v1 ", img, " <nil>")}; !slices.Equal(tags, want) {
			t.Errorf("tags %q, want %q", tags, want)
		}
		names := map[oci.Digest]ManifestScan{}
		for _, f := range s.Manifests {
			if f.Err != nil || f.Content != f.Digest || f.Linked.IsZero() || f.Written.IsZero() || f.Size < 100 {
				t.Errorf("%+v", f)
			}
			names[f.Digest] = f
		}
		if f := names[all]; !slices.Equal(f.Names, []oci.Digest{img}) || f.MediaType != oci.MediaTypeIndex {
			t.Errorf("index: %+v", f)
		}
		if f := names[img]; len(f.Names) != 2 || !slices.Contains(f.Names, layer) || f.Subject != "" {
			t.Errorf("image: %+v", f)
		}
		if f := names[sign]; f.Subject != img || len(names) != 3 {
			t.Errorf("of %d manifests, the one with a subject: %+v", len(names), f)
		}
		i := slices.IndexFunc(s.Blobs, func(b BlobScan) bool { return b.Digest == by512 })
		if len(s.Blobs) != 3 || i < 0 || s.Blobs[i].Content != layer || s.Blobs[i].Err != nil || s.Blobs[i].Linked.IsZero() {
			t.Errorf("blobs: %+v", s.Blobs)
		}
	})
}

func TestScanRepoOfWhatIsNot(t *testing.T) {
	m := offline(t, mem.New())
	if s := scanRepo(t, m, "a/b"); len(s.Tags)+len(s.Manifests)+len(s.Blobs)+len(s.Errs) > 0 {
		t.Errorf("%+v", s)
	}
	if _, err := m.ScanRepo(t.Context(), "../a", 1); err == nil {
		t.Error("no error for a name that is none")
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := m.ScanRepo(ctx, "a", 1); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want that it was cancelled", err)
	}
}

// What cannot be read is told of just the thing it is about, and in a way that
// tells damage from what is not there and from what could not be read.
func TestScanRepoOfDamage(t *testing.T) {
	const repo = "team/app"
	other := digest.FromString("other")
	for name, c := range map[string]struct {
		damage   func(t *testing.T, b storage.Backend, d oci.Digest)
		tag      error // Of tag v1.
		manifest error
		names    int  // Of the manifest, although it is damaged.
		blob     bool // The membership of its layer is damaged.
		errs     []string
	}{
		"empty tag link":   {damage: func(t *testing.T, b storage.Backend, _ oci.Digest) { put(t, b, tagLink(repo, "v1"), "") }, tag: ErrDamaged, names: 2},
		"tag link of junk": {damage: func(t *testing.T, b storage.Backend, _ oci.Digest) { put(t, b, tagLink(repo, "v1"), "sha256:x") }, tag: ErrDamaged, names: 2},
		"overlong tag link": {damage: func(t *testing.T, b storage.Backend, _ oci.Digest) {
			put(t, b, tagLink(repo, "v1"), strings.Repeat("x", 1e4))
		}, tag: ErrDamaged, names: 2},
		"empty revision link": {damage: func(t *testing.T, b storage.Backend, d oci.Digest) { put(t, b, revisionLink(repo, d), "") }, manifest: ErrDamaged},
		"empty blob link": {damage: func(t *testing.T, b storage.Backend, _ oci.Digest) {
			put(t, b, layerLink(repo, digest.FromString("layer")), "")
		}, names: 2, blob: true},
		"a directory for a link": {damage: func(t *testing.T, b storage.Backend, d oci.Digest) {
			remove(t, b, revisionLink(repo, d))
			put(t, b, path.Join(revisionLink(repo, d), "x"), "")
		}, manifest: ErrDamaged},
		"empty manifest":   {damage: func(t *testing.T, b storage.Backend, d oci.Digest) { put(t, b, BlobKey(d), "") }, manifest: ErrDamaged},
		"missing manifest": {damage: func(t *testing.T, b storage.Backend, d oci.Digest) { remove(t, b, BlobKey(d)) }, manifest: ErrMissing},
		"huge manifest": {damage: func(t *testing.T, b storage.Backend, d oci.Digest) {
			put(t, b, BlobKey(d), strings.Repeat(" ", oci.MaxManifest+1))
		}, manifest: ErrDamaged},
		"other bytes": {damage: func(t *testing.T, b storage.Backend, d oci.Digest) {
			put(t, b, BlobKey(d), `{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[]}`)
		}, manifest: ErrDamaged},
		"half a manifest": {damage: func(t *testing.T, b storage.Backend, d oci.Digest) {
			put(t, b, BlobKey(d), `{"layers":[{"digest":"`+string(other)+`"`)
		}, manifest: ErrDamaged, names: 1},
		"a stray algorithm": {damage: func(t *testing.T, b storage.Backend, _ oci.Digest) {
			put(t, b, path.Join(revisionDir(repo), "md5", "x", "link"), "")
			put(t, b, path.Join(layerDir(repo), "sha256", "x", "link"), "junk")
		}, names: 2},
		"a link in a stray place": {damage: func(t *testing.T, b storage.Backend, _ oci.Digest) {
			put(t, b, path.Join(revisionDir(repo), "sha384", "x", "link"), string(other))
			put(t, b, path.Join(layerDir(repo), "sha256", "x", "link"), string(other))
		}, names: 2, errs: []string{"sha384/x/link", "sha256/x/link"}},
		"files for directories": {damage: func(t *testing.T, b storage.Backend, _ oci.Digest) {
			put(t, b, path.Join(tagsDir(repo), "file"), "")
			put(t, b, path.Join(revisionDir(repo), "sha256", "file"), "")
			put(t, b, path.Join(revisionDir(repo), "file"), "")
		}, names: 2},
		"temporary files": {damage: func(t *testing.T, b storage.Backend, d oci.Digest) {
			put(t, b, tagLink(repo, "v1")+".x.tmp", "")
			put(t, b, revisionLink(repo, d)+".x.tmp", "")
		}, names: 2},
		"remains": {damage: func(t *testing.T, b storage.Backend, _ oci.Digest) {
			put(t, b, tagIndexLink(repo, "old", other), string(other))
			put(t, b, revisionLink(repo, other)+".x.tmp", "")
			put(t, b, layerLink(repo, other)+".x.tmp", "")
			put(t, b, path.Join(revisionDir(repo), "sha256", other.Encoded(), "signatures", "x"), "")
		}, names: 2},
	} {
		t.Run(name, func(t *testing.T) {
			onEach(t, func(t *testing.T, b storage.Backend) {
				d := image(t, b, repo, "v1", blob(t, b, repo, "layer"))
				c.damage(t, b, d)
				s := scanRepo(t, offline(t, b), repo)
				mention(t, s.Errs, c.errs...)
				if len(s.Tags) != 1 || s.Tags[0].Tag != "v1" || !errors.Is(s.Tags[0].Err, c.tag) || s.Tags[0].Err == nil && s.Tags[0].Digest != d {
					t.Errorf("tags: %+v", s.Tags)
				}
				if len(s.Manifests) != 1 || !errors.Is(s.Manifests[0].Err, c.manifest) || len(s.Manifests[0].Names) != c.names {
					t.Errorf("manifests: %+v", s.Manifests)
				}
				if len(s.Manifests) == 1 && errors.Is(s.Manifests[0].Err, fs.ErrNotExist) {
					t.Error("a manifest whose bytes are missing looks like one that is not there")
				}
				damaged := 0
				for _, l := range s.Blobs {
					if errors.Is(l.Err, ErrDamaged) && l.Digest == digest.FromString("layer") {
						damaged++
					} else if l.Err != nil {
						t.Errorf("blob: %+v", l)
					}
				}
				if len(s.Blobs) != 2 || (damaged == 1) != c.blob {
					t.Errorf("blobs: %+v", s.Blobs)
				}
			})
		})
	}
}

// A manifest of a kind that no push may bring in today still names what it
// names.
func TestScanRepoOfOldManifests(t *testing.T) {
	b := mem.New()
	layer := digest.FromString("layer")
	d := manifest(t, b, "a", "v1", `"mediaType":"application/vnd.oci.image.manifest.v1+json","manifests":[],"layers":[{"digest":"`+string(layer)+`"}]`)
	s := scanRepo(t, offline(t, b), "a")
	if len(s.Manifests) != 1 || s.Manifests[0].Err != nil || s.Manifests[0].Digest != d || !slices.Contains(s.Manifests[0].Names, layer) {
		t.Errorf("%+v", s.Manifests)
	}
}

// deaf is a backend that cannot list some directories, or not look at some
// keys.
type deaf struct {
	storage.Backend
	dir string
}

var errDeaf = errors.New("input/output error on purpose")

func (d deaf) List(ctx context.Context, dir string) iter.Seq2[storage.Entry, error] {
	if dir != d.dir {
		return d.Backend.List(ctx, dir)
	}
	return func(yield func(storage.Entry, error) bool) { yield(storage.Entry{}, errDeaf) }
}

func (d deaf) Stat(ctx context.Context, key string) (storage.Info, error) {
	if key == d.dir {
		return storage.Info{}, errDeaf
	}
	return d.Backend.Stat(ctx, key)
}

func TestWhatCannotBeListedIsTold(t *testing.T) {
	const repo = "team/app"
	b := mem.New()
	layer := blob(t, b, repo, "a layer alone under its prefix")
	image(t, b, repo, "v1", layer)
	image(t, b, "zoo", "v1")
	for _, dir := range []string{tagsDir(repo), path.Dir(tagsDir(repo)), revisionDir(repo), layerDir(repo), path.Join(layerDir(repo), "sha256")} {
		s := scanRepo(t, offline(t, deaf{b, dir}), repo)
		mention(t, s.Errs, dir)
		if len(s.Errs) > 0 && !errors.Is(s.Errs[0], errDeaf) {
			t.Errorf("%s: %v hides why", dir, s.Errs)
		}
	}
	for dir, want := range map[string][]string{
		repoDir("team"): {"zoo"}, repoDir(repo): {"zoo"}, repositories: nil,
	} {
		names, errs := scanned(t, offline(t, deaf{b, dir}))
		if !slices.Equal(names, want) {
			t.Errorf("without %s: %q, want %q", dir, names, want)
		}
		mention(t, errs, dir)
	}
	all := count(t, offline(t, b).ScanData(t.Context(), 2))
	for dir, less := range map[string]int{
		blobsDir: all, path.Join(blobsDir, "sha256"): all, path.Dir(path.Dir(BlobKey(layer))): 1, BlobKey(layer): 1,
	} {
		n, errs := 0, []error(nil)
		for _, err := range offline(t, deaf{b, dir}).ScanData(t.Context(), 2) {
			if err != nil {
				errs = append(errs, err)
			} else {
				n++
			}
		}
		if n != all-less {
			t.Errorf("without %s: %d data, want %d of %d", dir, n, all-less, all)
		}
		mention(t, errs, dir)
	}
	for _, dir := range []string{uploadsDir, path.Dir(tagLink(repo, "v1"))} {
		errs := 0
		for _, err := range offline(t, deaf{b, dir}).ScanLitter(t.Context()) {
			if errors.Is(err, errDeaf) {
				errs++
			}
		}
		if errs != 1 {
			t.Errorf("litter without %s: %d errors, want 1", dir, errs)
		}
	}
}

func TestScanReposFindsEveryRepository(t *testing.T) {
	d := digest.FromString("x")
	for name, c := range map[string]struct {
		files []string // Those named link hold a digest.
		want  []string
		errs  []string
	}{
		"nothing": {},
		"each part makes a repository": {
			files: []string{revisionLink("m", d), layerLink("l", d), path.Join(uploadDir("u"), "id", "data"), layerLink("m/below", d)},
			want:  []string{"l", "m", "m/below", "u"},
		},
		"blobs without repositories": {files: []string{BlobKey(d)}, errs: []string{repositories}},
		"blobs and an empty repository": {
			files: []string{BlobKey(d), path.Join(repoDir("a"), manifests, "x")}, want: []string{"a"},
		},
		"junk": {
			files: []string{
				path.Join(repositories, "lost+found", manifests, "revisions", "sha256", d.Encoded(), "link"),
				path.Join(repositories, "@eaDir", layers, "x"), path.Join(repositories, "UPPER", manifests, "x"),
				path.Join(repositories, ".hidden", "x"), path.Join(repositories, "_what", layers, "x"), path.Join(repositories, "file"),
				layerLink("a", d), path.Join(repoDir("a"), "file"),
			},
			want: []string{"a"},
		},
		"links where no repository can be": {
			files: []string{
				layerLink("a", d), layerLink("APP", d), revisionLink("app.bak~/web", d), layerLink(".old/x", d),
			},
			want: []string{"a"},
			errs: []string{"repositories/APP holds", "repositories/app.bak~/web holds", "repositories/.old/x holds"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			onEach(t, func(t *testing.T, b storage.Backend) {
				for _, key := range c.files {
					content := "x"
					if path.Base(key) == "link" {
						content = string(d)
					}
					put(t, b, key, content)
				}
				names, errs := scanned(t, offline(t, b))
				if !slices.Equal(names, c.want) {
					t.Errorf("got %q, want %q", names, c.want)
				}
				mention(t, errs, c.errs...)
			})
		})
	}
}

func TestScanReposFollowsSymbolicLinks(t *testing.T) {
	for name, c := range map[string]struct {
		links map[string]string // Below the repositories.
		want  []string
		errs  []string
	}{
		"to a repository":        {links: map[string]string{"alias": "team/app", "team/more": "../team/app"}, want: []string{"team", "team/app=alias=team/more"}},
		"to those below":         {links: map[string]string{"other": "team"}, want: []string{"team=other", "team/app=other/app"}},
		"to a link":              {links: map[string]string{"b": "a", "a": "team/app"}, want: []string{"team", "team/app=a=b"}},
		"away":                   {links: map[string]string{"far": "{away}", "more": "{away}/x"}, want: []string{"far/x=more", "team", "team/app"}},
		"in a circle":            {links: map[string]string{"team/app/up": "..", "team/self": ".", "round": "round"}, want: []string{"team", "team/app"}, errs: []string{"round"}},
		"through a circle":       {links: map[string]string{"team/x": "../zoo", "zoo/y": "../team"}, want: []string{"team=zoo/y", "team/app=zoo/y/app", "zoo=team/x"}},
		"to nowhere":             {links: map[string]string{"gone": "/no/such/volume", "team/gone": "nowhere"}, want: []string{"team", "team/app"}, errs: []string{"repositories/gone", "team/gone"}},
		"to nothing mounted":     {links: map[string]string{"vol": "{empty}"}, want: []string{"team", "team/app"}, errs: []string{"repositories/vol"}},
		"of a part":              {links: map[string]string{"zoo/_layers": "../team/_layers"}, want: []string{"team", "team/app", "zoo"}, errs: []string{"zoo/_layers"}},
		"to a file":              {links: map[string]string{"file": "{away}/file"}, want: []string{"team", "team/app"}},
		"under a name of no one": {links: map[string]string{"APP": "team/app"}, want: []string{"team", "team/app"}, errs: []string{"APP"}},
	} {
		t.Run(name, func(t *testing.T) {
			root, away := t.TempDir(), t.TempDir()
			b := openFile(t, root)
			for _, repo := range []string{"team", "team/app"} {
				image(t, b, repo, "v1")
			}
			far := filepath.Join(away, "x", manifests)
			empty := filepath.Join(t.TempDir(), "empty")
			if err := errors.Join(os.MkdirAll(far, 0o777), os.Mkdir(empty, 0o777), os.WriteFile(filepath.Join(away, "file"), nil, 0o666)); err != nil {
				t.Fatal(err)
			}
			if err := os.Mkdir(filepath.Join(root, repositories, "zoo"), 0o777); err != nil {
				t.Fatal(err)
			}
			if strings.Contains(name, "circle") {
				blob(t, b, "zoo", "x")
			}
			if name == "in a circle" {
				c.want = append(slices.Clone(c.want), "zoo")
			}
			for link, to := range c.links {
				to = strings.NewReplacer("{away}", away, "{empty}", empty).Replace(to)
				if err := os.Symlink(to, filepath.Join(root, repositories, link)); err != nil {
					t.Fatal(err)
				}
			}
			names, errs := scanned(t, offline(t, b))
			if !slices.Equal(names, c.want) {
				t.Errorf("got %q, want %q", names, c.want)
			}
			mention(t, errs, c.errs...)
		})
	}
}

// A directory of a repository may be on a volume that is not there.
func TestScanRepoTellsOfLinksThatLeadNowhere(t *testing.T) {
	for _, dir := range []string{revisionDir("a"), tagsDir("a"), layerDir("a") + "/sha256", tagDir("a", "v1")} {
		root := t.TempDir()
		b := openFile(t, root)
		image(t, b, "a", "v1")
		name := filepath.Join(root, dir)
		if err := errors.Join(os.RemoveAll(name), os.Symlink("/no/such/volume", name)); err != nil {
			t.Fatal(err)
		}
		mention(t, scanRepo(t, offline(t, b), "a").Errs, dir)
	}
}

func TestScanDataYieldsAllOnce(t *testing.T) {
	onEach(t, func(t *testing.T, b storage.Backend) {
		var want []string
		for i := range 600 {
			data := strings.Repeat("x", i)
			d := digest.FromString(data)
			if i%3 == 0 {
				d = digest.SHA512.FromString(data)
			}
			put(t, b, BlobKey(d), data)
			want = append(want, fmt.Sprint(d, " ", i))
		}
		stray := digest.FromString("stray")
		for _, key := range []string{
			"/sha256/lost+found/x/data", "/sha256/ab/cd/data", "/md5/ab/abcd/data", "/file", "/sha256/aa",
			"/sha256/zz/" + stray.Encoded() + "/data",
			strings.TrimPrefix(BlobKey(digest.FromString("dir")), blobsDir) + "/x",
			strings.TrimPrefix(BlobKey(digest.FromString("tmp")), blobsDir) + ".1.tmp",
		} {
			if _, err := b.Stat(t.Context(), blobsDir+key); errors.Is(err, fs.ErrNotExist) {
				put(t, b, blobsDir+key, "junk")
			}
		}
		m := offline(t, b)
		var got []string
		for d, err := range m.ScanData(t.Context(), 3) {
			if err != nil || d.Written.IsZero() {
				t.Errorf("%+v, %v", d, err)
			}
			got = append(got, fmt.Sprint(d.Digest, " ", d.Size))
		}
		slices.Sort(got)
		slices.Sort(want)
		if !slices.Equal(got, want) {
			t.Errorf("%d data, want %d", len(got), len(want))
		}
		for range m.ScanData(t.Context(), 3) {
			break // And nobody goes on reading.
		}
	})
}

func TestScanDataEndsWithItsContext(t *testing.T) {
	b := mem.New()
	for i := range 50 {
		blob(t, b, "a", fmt.Sprint(i))
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var last error
	for _, err := range offline(t, b).ScanData(ctx, 2) {
		cancel()
		last = err
	}
	if !errors.Is(last, context.Canceled) {
		t.Errorf("ended with %v: what is missing looks as if it were not there", last)
	}
}

// What is no directory where one must be may have been one, with links in it.
func TestScanFilesForDirectories(t *testing.T) {
	t.Parallel()
	for _, key := range []string{repositories, path.Join(repoDir("app"), manifests), path.Join(repoDir("app"), layers), revisionDir("app"), tagsDir("app")} {
		root := t.TempDir()
		b := openFile(t, root)
		image(t, b, "app", "v1")
		image(t, b, "web", "v1")
		name := filepath.Join(root, filepath.FromSlash(key))
		if err := errors.Join(os.RemoveAll(name), os.WriteFile(name, []byte("x"), 0o666)); err != nil {
			t.Fatal(err)
		}
		m := openMeta(t, b)
		var errs []error
		for _, err := range m.ScanRepos(t.Context()) {
			if err != nil {
				errs = append(errs, err)
			}
		}
		s, err := m.ScanRepo(t.Context(), "app", 1)
		if err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(append(errs, s.Errs...)...); !errors.Is(err, ErrDamaged) || !strings.Contains(err.Error(), key+" is no directory") {
			t.Errorf("%s: %v", key, err)
		}
	}
}
