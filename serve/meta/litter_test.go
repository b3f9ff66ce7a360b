package meta

import (
	"errors"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/regctl/regctl/serve/storage"
)

// litter scans everything, as a collector does, and returns the litter by key.
func litter(t testing.TB, m *Meta) map[string]LitterScan {
	t.Helper()
	count(t, m.ScanData(t.Context(), 2))
	for r, err := range m.ScanRepos(t.Context()) {
		if err == nil {
			scanRepo(t, m, r.Name)
		}
	}
	found := map[string]LitterScan{}
	for l, err := range m.ScanLitter(t.Context()) {
		if err != nil {
			t.Fatal(err)
		}
		if _, twice := found[l.Key]; twice || l.Changed.IsZero() {
			t.Errorf("twice, or not dated: %+v", l)
		}
		found[l.Key] = l
	}
	return found
}

// tree returns every file of a store, and every directory with nothing in it.
func tree(t testing.TB, b storage.Backend, dir string) (all []string) {
	t.Helper()
	n := 0
	for e, err := range b.List(t.Context(), dir) {
		if err != nil {
			t.Fatal(err)
		}
		n++
		key := path.Join(dir, e.Name)
		switch {
		case e.Name == ".regctl":
		case e.Dir:
			all = append(all, tree(t, b, key)...)
		default:
			all = append(all, key)
		}
	}
	if n == 0 {
		all = append(all, dir+"/")
	}
	return all
}

// mkdir makes a directory with nothing in it.
func mkdir(t testing.TB, b storage.Backend, dir string) {
	t.Helper()
	put(t, b, path.Join(dir, "x"), "")
	remove(t, b, path.Join(dir, "x"))
}

func TestLitterIsFoundAndRemoved(t *testing.T) {
	const repo = "team/app"
	d := digest.FromString("what never was whole")
	id := "f3a6e3a4-7a05-4d3c-a5a6-4b1b1b1b1b1b"
	revision, dataDir := path.Dir(revisionLink(repo, d)), path.Dir(BlobKey(d))
	for name, c := range map[string]struct {
		files, dirs []string
		want        []LitterScan
		stays       []string // Of files, but what is below want; "/" ends a directory.
	}{
		"nothing": {},
		"uploads": {
			files: []string{UploadKey(repo, id), UploadKey("unknown", id), path.Join(uploadDir(repo), id, "data"), path.Join(uploadDir(repo), id, "hashstates/sha256/0"), path.Join(uploadDir("new"), id, "startedat")},
			want: []LitterScan{
				{Kind: LitterUpload, Repo: repo, Key: UploadKey(repo, id), Size: 4},
				{Kind: LitterUpload, Key: UploadKey("unknown", id), Size: 4},
				{Kind: LitterUpload, Repo: repo, Key: path.Join(uploadDir(repo), id), Size: 8},
				{Kind: LitterUpload, Repo: "new", Key: path.Join(uploadDir("new"), id), Size: 4},
			},
			stays: []string{uploadsDir + "/", uploadDir(repo) + "/", uploadDir("new") + "/"},
		},
		"scratch": {
			files: []string{
				tagLink(repo, "v1") + ".1.tmp", path.Join(tagDir(repo, "v1"), "index/sha256", d.Encoded(), "link.1.tmp"),
				revisionLink(repo, d) + ".1.tmp", layerLink(repo, d) + ".1.tmp", BlobKey(d) + ".1.tmp",
			},
			want: []LitterScan{
				{Kind: LitterScratch, Repo: repo, Key: tagLink(repo, "v1") + ".1.tmp", Size: 4},
				{Kind: LitterScratch, Repo: repo, Key: path.Join(tagDir(repo, "v1"), "index/sha256", d.Encoded(), "link.1.tmp"), Size: 4},
				{Kind: LitterScratch, Repo: repo, Key: revisionLink(repo, d) + ".1.tmp", Size: 4},
				{Kind: LitterScratch, Repo: repo, Key: layerLink(repo, d) + ".1.tmp", Size: 4},
				{Kind: LitterScratch, Key: BlobKey(d) + ".1.tmp", Size: 4},
			},
		},
		"remains": {
			files: []string{
				path.Join(tagDir(repo, "old"), "index/sha256", d.Encoded(), "link"), tagLink(repo, "half") + ".1.tmp",
				path.Join(repoDir(repo), "_manifests.ABC"+deleted, "tags/v1/current/link"), path.Join(repoDir("gone/app"), "_layers.ABC"+deleted, "x"),
			},
			want: []LitterScan{
				{Kind: LitterRemains, Repo: repo, Key: tagDir(repo, "old"), Size: 4},
				{Kind: LitterRemains, Repo: repo, Key: tagDir(repo, "half"), Size: 4},
				{Kind: LitterRemains, Key: path.Join(repoDir(repo), "_manifests.ABC"+deleted), Size: 4},
				{Kind: LitterRemains, Key: path.Join(repoDir("gone/app"), "_layers.ABC"+deleted), Size: 4},
			},
		},
		"empty": {
			dirs: []string{
				path.Join(revisionDir("old"), "sha256"), tagsDir("old"), path.Join(layerDir("old"), "sha256"), uploadDir("old"),
				repoDir("no/repository"), revision, path.Dir(layerLink(repo, d)), dataDir, path.Join(blobsDir, "sha256", "00"),
			},
			want: []LitterScan{
				{Kind: LitterEmpty, Repo: "old", Key: repoDir("old")},
				{Kind: LitterEmpty, Key: repoDir("no/repository")},
				{Kind: LitterEmpty, Repo: repo, Key: revision},
				{Kind: LitterEmpty, Repo: repo, Key: path.Dir(layerLink(repo, d))},
				{Kind: LitterEmpty, Key: dataDir},
				{Kind: LitterEmpty, Key: path.Join(blobsDir, "sha256", "00")},
			},
		},
		"an empty repository above another": {
			files: []string{layerLink("a/b", d)}, dirs: []string{layerDir("a")},
			want:  []LitterScan{{Kind: LitterEmpty, Repo: "a", Key: repoDir("a")}},
			stays: []string{layerLink("a/b", d)},
		},
		"what is not ours": {
			files: []string{
				path.Join(dataDir, "data.damaged"), path.Join(revision, "signatures/sha256/x/link"), path.Join(tagsDir(repo), "lost+found/x"),
				path.Join(uploadsDir, "README"), path.Join(uploadDir(repo), "README"), path.Join(repoDir("OLD"), layers, "x"),
				path.Join(root, "notes.tmp"), "notes.tmp",
			},
			dirs: []string{path.Join(repositories, "lost+found"), path.Join(repositories, "OLD2")},
			stays: []string{
				path.Join(dataDir, "data.damaged"), path.Join(revision, "signatures/sha256/x/link"), path.Join(tagsDir(repo), "lost+found/x"),
				path.Join(uploadsDir, "README"), path.Join(uploadDir(repo), "README"), path.Join(repoDir("OLD"), layers, "x"),
				path.Join(root, "notes.tmp"), "notes.tmp", path.Join(repositories, "lost+found") + "/", path.Join(repositories, "OLD2") + "/",
			},
		},
	} {
		t.Run(name, func(t *testing.T) {
			onEach(t, func(t *testing.T, b storage.Backend) {
				image(t, b, repo, "v1", blob(t, b, repo, "layer"))
				before := tree(t, b, ".")
				for _, key := range c.files {
					put(t, b, key, "four")
				}
				for _, dir := range c.dirs {
					mkdir(t, b, dir)
				}
				m := offline(t, b)
				found := litter(t, m)
				for _, want := range c.want {
					l := found[want.Key]
					want.Changed = l.Changed
					if l != want {
						t.Errorf("got %+v, want %+v", l, want)
					}
					if err := m.RemoveLitter(t.Context(), l); err != nil {
						t.Error(err)
					}
					if err := m.RemoveLitter(t.Context(), l); !errors.Is(err, fs.ErrNotExist) {
						t.Errorf("removed again: %v", err)
					}
				}
				if len(found) != len(c.want) {
					t.Errorf("found %v", found)
				}
				want := slices.Sorted(slices.Values(slices.Concat(before, c.stays)))
				if got := slices.Sorted(slices.Values(tree(t, b, "."))); !slices.Equal(got, want) {
					t.Errorf("left is\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
				}
				if err := m.Settle(t.Context()); err != nil {
					t.Error(err)
				}
			})
		})
	}
}

// What looked like litter may be work under way.
func TestLitterThatIsTouchedStays(t *testing.T) {
	const repo = "team/app"
	d := digest.FromString("new")
	for name, c := range map[string]struct {
		files []string // Are litter.
		dir   string   // So is this.
		key   string   // By this key.
		touch string   // Is written then.
		later bool     // The touch is seen by its time.
	}{
		"an upload that goes on":       {files: []string{UploadKey(repo, "id")}, key: UploadKey(repo, "id"), touch: UploadKey(repo, "id"), later: true},
		"an upload of registry:2":      {files: []string{uploadDir(repo) + "/id/data"}, key: uploadDir(repo) + "/id", touch: uploadDir(repo) + "/id/hashstates/sha256/1", later: true},
		"scratch":                      {files: []string{BlobKey(d) + ".1.tmp"}, key: BlobKey(d) + ".1.tmp", touch: BlobKey(d) + ".1.tmp", later: true},
		"a tag that is set":            {files: []string{tagIndexLink(repo, "new", d)}, key: tagDir(repo, "new"), touch: tagLink(repo, "new")},
		"a directory that gets a link": {dir: path.Dir(revisionLink(repo, d)), key: path.Dir(revisionLink(repo, d)), touch: revisionLink(repo, d)},
		"a repository that is used":    {dir: layerDir("new"), key: repoDir("new"), touch: layerLink("new", d)},
		"a directory of data":          {dir: path.Dir(BlobKey(d)), key: path.Dir(BlobKey(d)), touch: BlobKey(d)},
	} {
		t.Run(name, func(t *testing.T) {
			onEach(t, func(t *testing.T, b storage.Backend) {
				image(t, b, repo, "v1")
				for _, key := range c.files {
					put(t, b, key, "x")
				}
				if c.dir != "" {
					mkdir(t, b, c.dir)
				}
				m := offline(t, b)
				l, ok := litter(t, m)[c.key]
				if !ok {
					t.Fatal("not found")
				}
				put(t, b, c.touch, "more")
				if c.later {
					l.Changed = l.Changed.Add(-time.Second)
				} else {
					l.Changed = l.Changed.Add(time.Hour) // Clocks may be coarse.
				}
				if err := m.RemoveLitter(t.Context(), l); !errors.Is(err, ErrChanged) {
					t.Errorf("got %v, want ErrChanged", err)
				}
				for _, key := range append(c.files, c.touch) {
					if _, err := b.Stat(t.Context(), key); err != nil {
						t.Error(err)
					}
				}
			})
		})
	}
}

// Nothing but litter goes, whatever the key.
func TestRemoveLitterRefusesWhatIsNone(t *testing.T) {
	onEach(t, func(t *testing.T, b storage.Backend) {
		d := image(t, b, "a", "v1")
		m := offline(t, b)
		before := tree(t, b, ".")
		future := time.Now().Add(time.Hour)
		for _, key := range []string{".", "docker", root, blobsDir, repositories, BlobKey(d), path.Dir(BlobKey(d)), revisionLink("a", d), tagDir("a", "v1"), repoDir("a"), "../x", "", "/etc"} {
			for _, kind := range []string{LitterUpload, LitterScratch, LitterRemains, LitterEmpty, ""} {
				for _, repo := range []string{"", "a"} {
					if err := m.RemoveLitter(t.Context(), LitterScan{Kind: kind, Repo: repo, Key: key, Changed: future}); err == nil {
						t.Errorf("%s %q was removed", kind, key)
					}
				}
			}
		}
		if got := tree(t, b, "."); !slices.Equal(got, before) {
			t.Errorf("left is %q", got)
		}
	})
}

// A symbolic link may lead to what is mounted only now and then.
func TestSymbolicLinksAreNoLitter(t *testing.T) {
	dir, away := t.TempDir(), t.TempDir()
	b := openFile(t, dir)
	image(t, b, "a", "v1")
	for _, d := range []string{filepath.Join(away, "empty"), filepath.Join(away, "repo", layers, "sha256")} {
		if err := os.MkdirAll(d, 0o777); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{"empty", "repo", "nowhere"} {
		if err := os.Symlink(filepath.Join(away, name), filepath.Join(dir, repositories, name)); err != nil {
			t.Fatal(err)
		}
	}
	if found := litter(t, offline(t, b)); len(found) > 0 {
		t.Errorf("found %v", found)
	}
}
