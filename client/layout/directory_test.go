package layout_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/regctl/regctl/client/layout"
	"github.com/regctl/regctl/client/oci"
	"github.com/regctl/regctl/client/oci/ocitest"
)

func newDirectory(t testing.TB) *layout.Directory {
	t.Helper()
	d, err := layout.Create(filepath.Join(t.TempDir(), "images"))
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func TestDirectoryIsARegistry(t *testing.T) {
	t.Parallel()
	ocitest.Run(t, func(t testing.TB) oci.Registry { return newDirectory(t) })
}

// again opens the same directory as another process would.
func again(t testing.TB, dir string) *layout.Directory {
	t.Helper()
	d, err := layout.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func TestOpenAndCreate(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	write := func(name, content string) string {
		path := filepath.Join(dir, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o777), os.WriteFile(path, []byte(content), 0o600)); err != nil {
			t.Fatal(err)
		}
		return filepath.Dir(path)
	}
	for what, path := range map[string]string{
		"missing": filepath.Join(dir, "none"), "empty": dir, "garbage": write("a/oci-layout", "x"),
		"other version": write("b/oci-layout", `{"imageLayoutVersion":"9"}`),
	} {
		if _, err := layout.Open(path); !errors.Is(err, oci.NotFound) {
			t.Errorf("open %s: error is %v", what, err)
		}
	}
	for what, path := range map[string]string{"of another version": filepath.Join(dir, "b"), "with other things": write("c/photo.jpg", "x")} {
		if _, err := layout.Create(path); !errors.Is(err, oci.Unsupported) {
			t.Errorf("create in one %s: error is %v", what, err)
		}
	}
	path := filepath.Join(dir, "new", "deep")
	for range 2 {
		if _, err := layout.Create(path); err != nil {
			t.Fatal(err)
		}
	}
	// What a crash of Create leaves is finished by the next.
	if err := os.Remove(filepath.Join(path, "oci-layout")); err != nil {
		t.Fatal(err)
	}
	d, err := layout.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	ocitest.Push(t, d, content())
	same(t, again(t, path), d, "team/app", "latest")
}

// What one process has pushed the next one finds, with nothing but the files.
func TestAnotherProcessFindsAll(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "images")
	d, err := layout.Create(dir)
	if err != nil {
		t.Fatal(err)
	}
	digests := ocitest.Push(t, d, content())
	names := ocitest.Content{}
	for _, repo := range []string{"a", "a.b/c", "localhost/x", "example.com/team/app", layout.Unnamed} {
		names[repo] = ocitest.Repo{Manifests: ocitest.Manifests{"empty": {MediaType: oci.MediaTypeIndex}}, Tags: ocitest.Tags{"v1": "empty"}}
	}
	ocitest.Push(t, d, names)
	untagged := ocitest.PushManifest(t, d, "only/digests", `{"schemaVersion":2,"manifests":[]}`)

	other := again(t, dir)
	for repo := range names {
		same(t, other, d, repo, "v1")
	}
	for _, ref := range []string{"latest", "1.0", "small", string(digests["amd64"]), string(digests["list"])} {
		same(t, other, d, "team/app", ref)
	}
	same(t, other, d, "only/digests", string(untagged.Digest))
	var repos []string
	for repo, err := range other.Repos(t.Context(), "") {
		if err != nil {
			t.Fatal(err)
		}
		repos = append(repos, repo)
	}
	if want := []string{"a", "a.b/c", "example.com/team/app", layout.Unnamed, "localhost/x", "only/digests", "team/app"}; !slices.Equal(repos, want) {
		t.Errorf("repositories are %v, want %v", repos, want)
	}
	// The one list has an entry for each name, and none for what is below.
	images, err := other.Images()
	if err != nil || len(images) != 3+len(names)+2 {
		t.Errorf("%d images, %v: %v", len(images), err, images)
	}
}

// Other tools write names in their own ways.
func TestNamesOfOthers(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	digestOf := digest.FromString("x")
	for entry, want := range map[string]string{
		`{}`: layout.Unnamed, // crane
		`{"org.opencontainers.image.ref.name":"v1"}`:                                                        layout.Unnamed + ":v1", // skopeo, oras, regclient
		`{"org.opencontainers.image.ref.name":"docker.io/library/alpine:3"}`:                                "docker.io/alpine:3",
		`{"org.opencontainers.image.ref.name":"localhost:5000/team/app:1"}`:                                 "localhost:5000/team/app:1",
		`{"org.opencontainers.image.ref.name":"team/app:1@` + string(digestOf) + `"}`:                       "team/app:1",
		`{"org.opencontainers.image.ref.name":"q.io/app@` + string(digestOf) + `"}`:                         "q.io/app",
		`{"io.containerd.image.name":"docker.io/library/alpine:3","org.opencontainers.image.ref.name":"3"}`: "docker.io/alpine:3", // docker, buildx
		`{"io.containerd.image.name":"q.io/A:1","org.opencontainers.image.ref.name":"3"}`:                   layout.Unnamed + ":3",
		`{"org.opencontainers.image.ref.name":"no tag at all"}`:                                             layout.Unnamed,
		`{"org.opencontainers.image.ref.name":"q.io/app:no/tag"}`:                                           layout.Unnamed,
		`{"org.opencontainers.image.ref.name":"sha256-` + digestOf.Encoded() + `"}`:                         layout.Unnamed + ":sha256-" + digestOf.Encoded(),
	} {
		list := fmt.Sprintf(`{"schemaVersion":2,"manifests":[{"mediaType":"x","digest":%q,"size":1,"annotations":%s}]}`, digestOf, entry)
		if err := errors.Join(
			os.WriteFile(filepath.Join(dir, "oci-layout"), []byte(layoutVersion), 0o600),
			os.WriteFile(filepath.Join(dir, "index.json"), []byte(list), 0o600),
		); err != nil {
			t.Fatal(err)
		}
		if got := names(t, again(t, dir).Images); !slices.Equal(got, []string{want}) {
			t.Errorf("%s is %v, want %s", entry, got, want)
		}
	}
}

// What others say of an entry survives our changes.
func TestEntriesOfOthersStay(t *testing.T) {
	t.Parallel()
	d := newDirectory(t)
	ocitest.Push(t, d, content())
	path := filepath.Join(layout.DirOf(d), "index.json")
	raw, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	raw = bytes.Replace(raw, []byte(`"annotations":{`), []byte(`"annotations":{"com.example":"kept",`), 1)
	raw = bytes.Replace(raw, []byte(`{"schemaVersion":2`), []byte(`{"annotations":{"of.the":"list"},"schemaVersion":2`), 1)
	if err := os.WriteFile(path, raw, 0o600); err != nil {
		t.Fatal(err)
	}
	ocitest.PushManifest(t, d, "new", `{"schemaVersion":2,"manifests":[]}`, "v1")
	if err := d.DeleteTag(t.Context(), "team/app", "latest", ""); err != nil {
		t.Fatal(err)
	}
	raw, err = os.ReadFile(path)
	if err != nil || !bytes.Contains(raw, []byte(`"com.example":"kept"`)) || !bytes.Contains(raw, []byte(`"of.the":"list"`)) {
		t.Errorf("%s, %v", raw, err)
	}
}

// A copy that was broken off goes on in another process: what it had pushed
// belongs to nobody yet, and so to whoever asks.
func TestBlobsOfNobody(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "images")
	d, err := layout.Create(dir)
	if err != nil {
		t.Fatal(err)
	}
	config, layer := ocitest.PushBlob(t, d, "team/app", "{}"), ocitest.PushBlob(t, d, "team/app", "layer")
	up, err := d.Upload(t.Context(), "team/app", "", oci.UploadOptions{})
	if err != nil {
		t.Fatal(err)
	}
	_, _ = io.WriteString(up, "half of")
	if err := up.Close(); err != nil {
		t.Fatal(err)
	}

	other := again(t, dir)
	raw, err := json.Marshal(ocitest.NewImage(config, layer))
	if err != nil {
		t.Fatal(err)
	}
	ocitest.PushManifest(t, other, "team/app", string(raw), "v1")
	same(t, again(t, dir), other, "team/app", "v1")
	if _, err := again(t, dir).StatBlob(t.Context(), "team/web", layer.Digest); !errors.Is(err, oci.BlobUnknown) {
		t.Errorf("once it belongs to somebody: error is %v", err)
	}
	if up, err = other.Upload(t.Context(), "team/app", up.ID(), oci.UploadOptions{}); err != nil {
		t.Fatal(err)
	}
	_, _ = io.WriteString(up, " a blob")
	if _, err := up.Commit(t.Context(), digest.FromString("half of a blob")); err != nil {
		t.Error(err)
	}
}

func TestUnfinishedUploadsGoInTheEnd(t *testing.T) {
	t.Parallel()
	d := newDirectory(t)
	up, err := d.Upload(t.Context(), "app", "", oci.UploadOptions{})
	if err != nil {
		t.Fatal(err)
	}
	_ = up.Close()
	for _, days := range []int{6, 8} {
		later := again(t, layout.DirOf(d))
		layout.SetNow(later, func() time.Time { return time.Now().AddDate(0, 0, days) })
		if _, err := later.Upload(t.Context(), "app", "", oci.UploadOptions{}); err != nil {
			t.Fatal(err)
		}
		_, err := again(t, layout.DirOf(d)).Upload(t.Context(), "app", up.ID(), oci.UploadOptions{})
		if (err == nil) != (days < 7) {
			t.Errorf("after %d days: error is %v", days, err)
		}
	}
}

// Two processes push to one layout; neither loses what the other pushed.
func TestTwoProcessesPushAtOnce(t *testing.T) {
	t.Parallel()
	d := newDirectory(t)
	var running sync.WaitGroup
	for i := range 4 {
		running.Go(func() {
			mine := again(t, layout.DirOf(d))
			for j := range 8 {
				raw := fmt.Sprintf(`{"schemaVersion":2,"manifests":[],"annotations":{"n":"%d.%d"}}`, i, j)
				if _, err := mine.PutManifest(t.Context(), "app", oci.Put{Raw: []byte(raw), Tags: []string{fmt.Sprintf("%d.%d", i, j)}}); err != nil {
					t.Error(err)
				}
			}
		})
	}
	running.Wait()
	n := 0
	for tag, err := range d.Tags(t.Context(), "app", "") {
		if err != nil {
			t.Fatal(err)
		}
		same(t, d, d, "app", tag)
		n++
	}
	if n != 32 {
		t.Errorf("%d tags, want 32", n)
	}
}

// Damage is found, told, and healed by the next push.
func TestDamage(t *testing.T) {
	t.Parallel()
	d := newDirectory(t)
	digests := ocitest.Push(t, d, content())
	dir := layout.DirOf(d)
	m, err := d.Manifest(t.Context(), "team/app", "small")
	if err != nil {
		t.Fatal(err)
	}
	blob := func(name string) string { return filepath.Join(dir, "blobs", "sha256", digests[name].Encoded()) }
	if err := os.WriteFile(blob("arm64"), []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	other := again(t, dir)
	if _, err := other.Manifest(t.Context(), "team/app", "small"); !errors.Is(err, oci.DigestInvalid) || !strings.Contains(err.Error(), "blobs/sha256/") {
		t.Errorf("damaged: error is %v", err)
	}
	if err := os.Remove(blob("arm64")); err != nil {
		t.Fatal(err)
	}
	if _, err := other.Manifest(t.Context(), "team/app", "small"); !errors.Is(err, oci.ManifestUnknown) {
		t.Errorf("missing: error is %v", err)
	}
	ocitest.PushManifest(t, other, "team/app", string(m.Raw), "small")
	same(t, other, d, "team/app", "small")

	if err := os.Truncate(blob("base"), 3); err != nil {
		t.Fatal(err)
	}
	_, err = again(t, dir).PutManifest(t.Context(), "team/app", oci.Put{Raw: m.Raw, Tags: []string{"again"}})
	if !errors.Is(err, oci.ManifestBlobUnknown) || !strings.Contains(err.Error(), "damaged") {
		t.Errorf("a layer that was cut off: error is %v", err)
	}
}

// A write that fails changes nothing, and leaves nothing behind.
func TestWritesThatFail(t *testing.T) {
	t.Parallel()
	d := newDirectory(t)
	ocitest.Push(t, d, content())
	dir := layout.DirOf(d)
	before := listing(t, dir)
	// The place of a sha512 blob is taken.
	if err := os.WriteFile(filepath.Join(dir, "blobs", "sha512"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	up, err := d.Upload(t.Context(), "team/app", "", oci.UploadOptions{Algorithm: digest.SHA512})
	if err != nil {
		t.Fatal(err)
	}
	_, _ = io.WriteString(up, "x")
	if _, err := up.Commit(t.Context(), digest.SHA512.FromString("x")); err == nil {
		t.Error("a blob was stored where none can be")
	}
	raw := []byte(`{"schemaVersion":2,"manifests":[]}`)
	if _, err := d.PutManifest(t.Context(), "team/app", oci.Put{Digest: digest.SHA512.FromBytes(raw), Raw: raw, Tags: []string{"latest"}}); err == nil {
		t.Error("a manifest was stored where none can be")
	}
	if err := os.Remove(filepath.Join(dir, "blobs", "sha512")); err != nil {
		t.Fatal(err)
	}
	if after := listing(t, dir); !slices.Equal(after, before) {
		t.Errorf("there is\n%s\nand was\n%s", strings.Join(after, "\n"), strings.Join(before, "\n"))
	}
}

// listing tells the files below dir with their content.
func listing(t *testing.T, dir string) []string {
	t.Helper()
	var found []string
	err := filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		raw, err := os.ReadFile(path)
		found = append(found, path+" "+string(raw))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return found
}

// What is deleted frees its space, unless something else needs it.
func TestDeletionFreesSpace(t *testing.T) {
	t.Parallel()
	d := newDirectory(t)
	digests := ocitest.Push(t, d, content())
	ocitest.Push(t, d, ocitest.Content{"kept": {
		Blobs: ocitest.Blobs{"base": "bytes of a layer"}, Tags: ocitest.Tags{"v1": "arm64"},
		Manifests: ocitest.Manifests{"arm64": {Layers: "base", Platform: "linux/arm64"}},
	}})
	if err := again(t, layout.DirOf(d)).DeleteRepo(t.Context(), "team/app"); err != nil {
		t.Fatal(err)
	}
	there := strings.Join(listing(t, filepath.Join(layout.DirOf(d), "blobs")), "\n")
	for name, want := range map[string]bool{"base": true, "arm64": true, "app": false, "amd64": false, "multi": false, "list": false} {
		if got := strings.Contains(there, digests[name].Encoded()); got != want {
			t.Errorf("%s is there: %t, want %t", name, got, want)
		}
	}
	same(t, again(t, layout.DirOf(d)), d, "kept", "v1")
}
