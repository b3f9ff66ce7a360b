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
	"sync"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/regctl/regctl/client/oci"
	"github.com/regctl/regctl/serve/storage"
	"github.com/regctl/regctl/serve/storage/file/filetest"
	"github.com/regctl/regctl/serve/storage/mem"
	"github.com/regctl/regctl/serve/storage/storagetest"
)

// victim is an index of two images that share a layer, in one repository.
type victim struct {
	repo      string
	manifests []oci.Digest // Parents first.
	blobs     []oci.Digest
}

func newVictim(t testing.TB, b storage.Backend, repo string) victim {
	t.Helper()
	layer := blob(t, b, repo, "layer of "+repo)
	x, y := image(t, b, repo, "x", layer), image(t, b, repo, "", layer)
	v := victim{repo: repo, manifests: []oci.Digest{index(t, b, repo, "all", x, y), x, y}}
	for _, l := range scanRepo(t, offline(t, b), repo).Blobs {
		v.blobs = append(v.blobs, l.Digest)
	}
	return v
}

// sweep removes all of v, top down, and returns the first error.
func (v victim) sweep(ctx context.Context, m *Meta) error {
	h := m.Open(v.repo)
	defer h.Close()
	for _, d := range v.manifests {
		if err := h.DropManifest(ctx, d); err != nil {
			return err
		}
	}
	for _, d := range v.blobs {
		if err := h.DropBlob(ctx, d); err != nil {
			return err
		}
	}
	if err := h.TidyTags(ctx, func(d oci.Digest) bool { return slices.Contains(v.manifests, d) }); err != nil {
		return err
	}
	for _, d := range slices.Concat(v.manifests, v.blobs) {
		if err := m.RemoveData(ctx, d); err != nil {
			return err
		}
	}
	return m.Settle(ctx)
}

// checkWhole fails the test if something is gone while what needs it is there.
func (v victim) checkWhole(t testing.TB, b storage.Backend) {
	t.Helper()
	s := scanRepo(t, offline(t, b), v.repo)
	linked := map[oci.Digest]bool{}
	for _, l := range s.Blobs {
		linked[l.Digest] = true
		if _, err := b.Stat(t.Context(), BlobKey(l.Content)); err != nil {
			t.Errorf("the bytes of linked blob %s: %v", l.Digest, err)
		}
	}
	for _, f := range s.Manifests {
		linked[f.Digest] = true
		if f.Err != nil {
			t.Errorf("manifest %s: %v", f.Digest, f.Err)
		}
	}
	for _, f := range s.Manifests {
		for _, d := range f.Names {
			if !linked[d] {
				t.Errorf("%s is there and names %s, which is not", f.Digest, d)
			}
		}
	}
	if len(s.Errs) > 0 {
		t.Error(s.Errs)
	}
}

func TestSweepLeavesNothing(t *testing.T) {
	onEach(t, func(t *testing.T, b storage.Backend) {
		stays := newVictim(t, b, "stays")
		before := tree(t, b, ".")
		v := newVictim(t, b, "goes")
		m := offline(t, b)
		if err := v.sweep(t.Context(), m); err != nil {
			t.Fatal(err)
		}
		stays.checkWhole(t, b)
		var left []string
		for _, key := range tree(t, b, ".") {
			if !strings.Contains(key, "repositories/goes/_manifests/tags") {
				left = append(left, key)
			}
		}
		for _, dir := range []string{path.Join(layerDir("goes"), "sha256"), path.Join(revisionDir("goes"), "sha256")} {
			before = append(before, dir+"/")
		}
		slices.Sort(before)
		slices.Sort(left)
		if !slices.Equal(left, before) {
			t.Errorf("left is\n%s\nwant\n%s", strings.Join(left, "\n"), strings.Join(before, "\n"))
		}
		h := m.Open("goes")
		defer h.Close()
		for what, err := range map[string]error{
			"manifest": h.DropManifest(t.Context(), v.manifests[0]), "blob": h.DropBlob(t.Context(), v.blobs[0]),
			"data": m.RemoveData(t.Context(), v.blobs[0]), "what never was": h.DropBlob(t.Context(), digest.FromString("never")),
		} {
			if !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("%s again: %v", what, err)
			}
		}
	})
}

// Whatever fails, what is left is whole, and the next run finishes.
func TestSweepFailsAtEveryStep(t *testing.T) {
	var v victim
	storagetest.EveryStep(t,
		func(t testing.TB) storage.Backend {
			b := onDisk(t, filetest.NewDisk())
			v = newVictim(t, b, "a")
			return b
		},
		func(t testing.TB, b storage.Backend) error { return v.sweep(t.Context(), offline(t, b)) },
		func(t testing.TB, b storage.Backend, err error) {
			v.checkWhole(t, b)
			m := offline(t, b)
			h := m.Open(v.repo)
			defer h.Close()
			for _, d := range v.manifests {
				if err := h.DropManifest(t.Context(), d); err != nil && !errors.Is(err, fs.ErrNotExist) {
					t.Error(err)
				}
			}
			for _, d := range v.blobs {
				if err := h.DropBlob(t.Context(), d); err != nil && !errors.Is(err, fs.ErrNotExist) {
					t.Error(err)
				}
			}
			for d := range m.ScanData(t.Context(), 1) {
				if err := m.RemoveData(t.Context(), d.Digest); err != nil {
					t.Error(err)
				}
			}
			if n := count(t, m.ScanData(t.Context(), 1)); n > 0 {
				t.Errorf("%d data stay", n)
			}
		})
}

// After a power cut before any change, and with any single change that was not
// waited for on the disk or not, nothing is gone that something needs.
func TestSweepOverAPowerCutAtEveryStep(t *testing.T) {
	for _, known := range []bool{false, true} {
		t.Run(fmt.Sprintf("known=%t", known), func(t *testing.T) { sweepOverPowerCuts(t, known) })
	}
}

// sweepOverPowerCuts sweeps what a scan has found, or what nobody knows.
func sweepOverPowerCuts(t *testing.T, known bool) {
	disk := filetest.NewDisk()
	b := onDisk(t, disk)
	v := newVictim(t, b, "a")
	cuts := 0
	check := func(cut *filetest.Disk) {
		cuts++
		v.checkWhole(t, onDisk(t, cut))
	}
	f := storagetest.NewFaulty(b, false, func(c storagetest.Change) error {
		check(disk.PowerCut())
		for n := 1; ; n++ {
			i := 0
			one := disk.PowerCutKeeping(func() bool { i++; return i == n })
			i = 0
			rest := disk.PowerCutKeeping(func() bool { i++; return i >= n })
			if i < n {
				break
			}
			check(one)
			check(rest)
		}
		if t.Failed() {
			t.Fatalf("before %v", c)
		}
		return nil
	})
	m := offline(t, f)
	if known {
		scanRepo(t, m, "a")
	}
	if err := v.sweep(t.Context(), m); err != nil {
		t.Fatal(err)
	}
	v.checkWhole(t, onDisk(t, disk.PowerCut()))
	if m := offline(t, onDisk(t, disk.PowerCut())); count(t, m.ScanData(t.Context(), 1)) > 0 || len(scanRepo(t, m, "a").Blobs) > 0 {
		t.Error("what was removed and settled is back")
	}
	if cuts < 50 {
		t.Errorf("only %d power cuts", cuts)
	}
}

// A collector is run when the disk is full.
func TestSweepNeedsNoRoom(t *testing.T) {
	disk := filetest.NewDisk()
	b := onDisk(t, disk)
	v := newVictim(t, b, "a")
	mkdir(t, b, layerDir("old"))
	put(t, b, UploadKey("a", "id"), "x")
	disk.SetRoom(0)
	f := storagetest.NewFaulty(b, false, func(c storagetest.Change) error {
		if c.Op != "Remove" && c.Op != "Sync" {
			t.Errorf("a collector does %v", c)
		}
		return nil
	})
	m := offline(t, f)
	for _, l := range litter(t, m) {
		if err := m.RemoveLitter(t.Context(), l); err != nil {
			t.Error(err)
		}
	}
	if err := v.sweep(t.Context(), m); err != nil {
		t.Error(err)
	}
}

// Waiting for the device is what takes the time.
func TestSweepWaitsForTheDeviceOncePerDirectory(t *testing.T) {
	disk := filetest.NewDisk()
	b := onDisk(t, disk)
	var blobs, images []oci.Digest
	for i := range 100 {
		blobs = append(blobs, blob(t, b, "a", fmt.Sprint(i)))
		images = append(images, image(t, b, "a", fmt.Sprint(i), blobs[i]))
	}
	all := index(t, b, "a", "", images...)
	m := offline(t, b)
	scanRepo(t, m, "a")
	h := m.Open("a")
	defer h.Close()
	disk.TakeSyncs()
	for _, d := range append([]oci.Digest{all}, images...) {
		if err := h.DropManifest(t.Context(), d); err != nil {
			t.Fatal(err)
		}
	}
	if syncs := disk.TakeSyncs(); len(syncs) != 1 || !strings.HasSuffix(syncs[0], "revisions/sha256") {
		t.Errorf("waits before the children of an index go: %q", syncs)
	}
	for _, d := range blobs {
		if err := h.DropBlob(t.Context(), d); err != nil {
			t.Fatal(err)
		}
	}
	if syncs := disk.TakeSyncs(); len(syncs) != 1 || !strings.HasSuffix(syncs[0], "revisions/sha256") {
		t.Errorf("waits before the blobs of images go: %q", syncs)
	}
	for _, d := range blobs {
		if err := m.RemoveData(t.Context(), d); err != nil {
			t.Fatal(err)
		}
	}
	if syncs := disk.TakeSyncs(); len(syncs) != 1 || !strings.HasSuffix(syncs[0], "_layers/sha256") {
		t.Errorf("waits before the data goes: %q", syncs)
	}
	if err := m.Settle(t.Context()); err != nil {
		t.Fatal(err)
	}
	if n := len(disk.TakeSyncs()); n < 1 || n > 100 {
		t.Errorf("%d waits at the end", n)
	}
}

// A server of ours goes on meanwhile: what it remembers is what is there.
// After a power cut no image is back that has lost its signature.
func TestReferrersGoAfterTheirSubject(t *testing.T) {
	disk := filetest.NewDisk()
	b := onDisk(t, disk)
	config := blob(t, b, "a", "{}")
	signed := image(t, b, "a", "", config)
	sign := manifest(t, b, "a", "", `"mediaType":"application/vnd.oci.image.manifest.v1+json","config":`+
		descriptors("application/vnd.oci.empty.v1+json", []digest.Digest{config})+`,"layers":[],"subject":`+
		descriptors("application/vnd.oci.image.manifest.v1+json", []digest.Digest{signed}))
	m := offline(t, b)
	scanRepo(t, m, "a")
	h := m.Open("a")
	defer h.Close()
	disk.TakeSyncs()
	if err := h.DropManifest(t.Context(), signed); err != nil {
		t.Fatal(err)
	}
	if err := h.DropManifest(t.Context(), sign); err != nil {
		t.Fatal(err)
	}
	if syncs := disk.TakeSyncs(); len(syncs) != 1 || !strings.HasSuffix(syncs[0], "revisions/sha256") {
		t.Errorf("waits before the signature goes: %q", syncs)
	}
}

func TestMemoryForgetsWhatIsDropped(t *testing.T) {
	b := mem.New()
	v := newVictim(t, b, "a")
	m := openMeta(t, b)
	h := m.Open("a")
	defer h.Close()
	if got := repos(t, m); !slices.Equal(got, []string{"a"}) {
		t.Fatalf("catalogue %q", got)
	}
	if _, err := h.Namers(t.Context(), v.blobs[0]); err != nil { // All manifests are known now.
		t.Fatal(err)
	}
	for _, d := range v.blobs {
		if _, err := h.Blob(t.Context(), d); err != nil {
			t.Fatal(err)
		}
	}
	if err := v.sweep(t.Context(), m); err != nil {
		t.Fatal(err)
	}
	for _, d := range v.manifests {
		if f, err := h.Manifest(t.Context(), d); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("manifest: %+v, %v", f, err)
		}
	}
	for _, d := range v.blobs {
		if _, err := h.Blob(t.Context(), d); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("blob: %v", err)
		}
	}
	if got := repos(t, m); len(got) != 0 {
		t.Errorf("catalogue %q", got)
	}
}

// A drop reads nothing of what it drops, and lists nothing.
func TestDropReadsNothing(t *testing.T) {
	b := mem.New()
	v := newVictim(t, b, "a")
	m := offline(t, mute{b, t})
	h := m.Open("a")
	defer h.Close()
	if err := errors.Join(h.DropManifest(t.Context(), v.manifests[0]), h.DropBlob(t.Context(), v.blobs[0]), m.RemoveData(t.Context(), v.blobs[0])); err != nil {
		t.Error(err)
	}
}

// mute is a backend that nobody is to read.
type mute struct {
	*mem.Backend
	t *testing.T
}

func (m mute) Get(_ context.Context, key string, _ int64) ([]byte, storage.Info, error) {
	m.t.Errorf("%s is read", key)
	return nil, storage.Info{}, errDeaf
}

func (m mute) List(_ context.Context, dir string) iter.Seq2[storage.Entry, error] {
	m.t.Errorf("%s is listed", dir)
	return func(func(storage.Entry, error) bool) {}
}

func TestTidyTagsKeepsWhereTagsPoint(t *testing.T) {
	onEach(t, func(t *testing.T, b storage.Backend) {
		old, now := image(t, b, "a", "v1", blob(t, b, "a", "old")), image(t, b, "a", "v1")
		image(t, b, "a", "v2")
		put(t, b, tagIndexLink("a", "bad", old), string(old))
		put(t, b, tagLink("a", "bad"), "")
		put(t, b, path.Join(tagsDir("a"), "lost+found", "x"), "")
		m := offline(t, b)
		h := m.Open("a")
		defer h.Close()
		err := h.TidyTags(t.Context(), func(d oci.Digest) bool { return d == old || d == now })
		if !errors.Is(err, ErrDamaged) || !strings.Contains(err.Error(), "bad") {
			t.Errorf("got %v, want that tag bad is damaged: its history is all there is of it", err)
		}
		for key, stays := range map[string]bool{
			tagIndexLink("a", "v1", old): false, tagIndexLink("a", "v1", now): true, tagIndexLink("a", "bad", old): true, tagLink("a", "v1"): true,
		} {
			if _, err := b.Stat(t.Context(), key); (err == nil) != stays {
				t.Errorf("%s: %v, want it to stay: %t", key, err, stays)
			}
		}
	})
}

// Whoever removes data waits for the links that were dropped before, also if
// somebody else waits for them already.
func TestNobodyGetsAheadOfTheDevice(t *testing.T) {
	disk := filetest.NewDisk()
	b := onDisk(t, disk)
	x, y := blob(t, b, "a", "x"), blob(t, b, "a", "y")
	waiting, go_ := make(chan struct{}), make(chan struct{})
	var once sync.Once
	f := storagetest.NewFaulty(b, false, func(c storagetest.Change) error {
		if c.Op == "Sync" {
			once.Do(func() { close(waiting); <-go_ })
		}
		if c.Op == "Remove" && strings.HasSuffix(c.Key, "/data") {
			s := scanRepo(t, offline(t, onDisk(t, disk.PowerCut())), "a")
			if len(s.Blobs) > 0 {
				t.Errorf("data goes while %d links may come back", len(s.Blobs))
			}
		}
		return nil
	})
	m := offline(t, f)
	h := m.Open("a")
	defer h.Close()
	if err := errors.Join(h.DropBlob(t.Context(), x), h.DropBlob(t.Context(), y)); err != nil {
		t.Fatal(err)
	}
	var all sync.WaitGroup
	first := make(chan struct{})
	all.Go(func() {
		defer close(first)
		if err := m.RemoveData(t.Context(), x); err != nil {
			t.Error(err)
		}
	})
	select {
	case <-waiting:
	case <-first:
		t.Fatal("nobody waited for the device")
	}
	all.Go(func() {
		if err := m.RemoveData(t.Context(), y); err != nil {
			t.Error(err)
		}
	})
	close(go_)
	all.Wait()
}

func TestMendedLinksSayTheirDigest(t *testing.T) {
	for _, bad := range []string{"", "junk", string(digest.FromString("other")), "-"} {
		onEach(t, func(t *testing.T, b storage.Backend) {
			layer := blob(t, b, "a", "layer")
			img := image(t, b, "a", "v1", layer)
			if bad == "-" {
				remove(t, b, layerLink("a", layer))
				remove(t, b, revisionLink("a", img))
			} else {
				put(t, b, layerLink("a", layer), bad)
				put(t, b, revisionLink("a", img), bad)
			}
			m := openMeta(t, b)
			h := m.Open("a")
			defer h.Close()
			if err := errors.Join(h.MendBlobLink(t.Context(), layer), h.MendManifestLink(t.Context(), img)); err != nil {
				t.Fatal(err)
			}
			for _, m := range []*Meta{m, openMeta(t, b)} {
				h := m.Open("a")
				if content, err := h.Blob(t.Context(), layer); content != layer || err != nil {
					t.Errorf("blob: %s, %v", content, err)
				}
				if f, err := h.Manifest(t.Context(), img); f.Content != img || err != nil {
					t.Errorf("manifest: %+v, %v", f, err)
				}
				h.Close()
				if got := repos(t, m); !slices.Equal(got, []string{"a"}) {
					t.Errorf("catalogue %q", got)
				}
			}
		})
	}
}

func TestOnlyDamagedTagsAreRemovedAsSuch(t *testing.T) {
	onEach(t, func(t *testing.T, b storage.Backend) {
		image(t, b, "a", "good")
		for tag, content := range map[string]string{"empty": "", "junk": "junk", "long": strings.Repeat("x", 1e4)} {
			image(t, b, "a", tag)
			put(t, b, tagLink("a", tag), content)
		}
		m := offline(t, b)
		h := m.Open("a")
		defer h.Close()
		for tag, want := range map[string]error{"good": ErrChanged, "empty": nil, "junk": nil, "long": nil, "none": fs.ErrNotExist} {
			if err := h.RemoveDamagedTag(t.Context(), tag); !errors.Is(err, want) {
				t.Errorf("%s: %v, want %v", tag, err, want)
			}
		}
		if s := scanRepo(t, m, "a"); len(s.Tags) != 1 || s.Tags[0].Tag != "good" {
			t.Errorf("tags: %+v", s.Tags)
		}
		if got := under(t, b, tagsDir("a")); !slices.Equal(got, []string{"good"}) {
			t.Errorf("left of the tags is %q", got)
		}
	})
}

func TestBytesThatAreSetAsideStay(t *testing.T) {
	onEach(t, func(t *testing.T, b storage.Backend) {
		m := offline(t, b)
		d := digest.FromString("right")
		if _, err := m.SetAside(t.Context(), d); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("nothing set aside: %v", err)
		}
		for _, data := range []string{"wrong", "wronger"} {
			put(t, b, BlobKey(d), data)
			key, err := m.SetAside(t.Context(), d)
			if err != nil {
				t.Fatal(err)
			}
			got, _, err := storage.Get(t.Context(), b, key, 100)
			if string(got) != data || err != nil {
				t.Errorf("%s: %q, %v", key, got, err)
			}
		}
		if n := count(t, m.ScanData(t.Context(), 1)); n != 0 {
			t.Errorf("%d data", n)
		}
		if found := litter(t, m); len(found) != 0 {
			t.Errorf("what was set aside is litter: %v", found)
		}
		if names := under(t, b, path.Dir(BlobKey(d))); len(names) != 2 {
			t.Errorf("set aside are %q", names)
		}
	})
}

func TestWithoutACatalogueNobodyIsToldThereIsNothing(t *testing.T) {
	b := mem.New()
	image(t, b, "a", "v1")
	for name, err := range offline(t, b).Repos(t.Context(), "") {
		if name != "" || !errors.Is(err, ErrNoCatalogue) {
			t.Errorf("got %q, %v", name, err)
		}
	}
}
