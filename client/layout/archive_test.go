package layout_test

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/regctl/regctl/client/layout"
	"github.com/regctl/regctl/client/oci"
	"github.com/regctl/regctl/client/oci/ocitest"
)

// content is a repository with a bit of everything.
func content() ocitest.Content {
	return ocitest.Content{"team/app": {
		Blobs: ocitest.Blobs{"base": "bytes of a layer", "app": "more bytes", "sbom": "all there is in it"},
		Manifests: ocitest.Manifests{
			"amd64": {Layers: "base app", Platform: "linux/amd64", Created: "2020-01-01T00:00:00Z"},
			"arm64": {Layers: "base", Platform: "linux/arm64"},
			"multi": {Manifests: "arm64 amd64"},
			"list":  {Subject: "multi", ArtifactType: "application/spdx+json", Layers: "sbom"},
		},
		Tags: ocitest.Tags{"latest": "multi", "1.0": "multi", "small": "arm64"},
	}}
}

// contentOf gathers what repo holds below the given refs.
func contentOf(t testing.TB, reg oci.Registry, host, repo string, refs ...string) layout.Content {
	t.Helper()
	c := layout.Content{From: reg, Repo: repo, Name: layout.Name{Host: host, Repo: repo}}
	for _, ref := range refs {
		desc, err := reg.Resolve(t.Context(), repo, ref)
		if err != nil {
			t.Fatal(err)
		}
		if !oci.IsDigest(ref) {
			c.Tags = append(c.Tags, layout.Tag{Tag: ref, Digest: desc.Digest})
		}
		gather(t, &c, desc.Digest)
	}
	return c
}

func gather(t testing.TB, c *layout.Content, d oci.Digest) {
	t.Helper()
	m, err := c.From.Manifest(t.Context(), c.Repo, string(d))
	if err != nil {
		t.Fatal(err)
	}
	g, err := oci.ParseManifest("", m.Raw)
	if err != nil {
		t.Fatal(err)
	}
	for _, child := range g.Manifests {
		gather(t, c, child.Digest)
	}
	c.Blobs = append(c.Blobs, g.Blobs()...)
	c.Manifests = append(c.Manifests, m)
}

// archived returns the bytes of an archive.
func archived(t testing.TB, contents ...layout.Content) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := layout.WriteArchive(t.Context(), &b, contents...); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// opened opens the bytes of an archive as a file.
func opened(t testing.TB, raw []byte) (*layout.Archive, error) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "a.tar")
	if err := os.WriteFile(path, raw, 0o600); err != nil {
		t.Fatal(err)
	}
	a, err := layout.OpenArchive(path)
	if err == nil {
		t.Cleanup(func() { a.Close() })
	}
	return a, err
}

func mustOpen(t testing.TB, raw []byte) *layout.Archive {
	t.Helper()
	a, err := opened(t, raw)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// same fails the test unless what ref leads to is in both repositories.
func same(t *testing.T, got oci.Reader, want oci.Registry, repo, ref string) {
	t.Helper()
	c := contentOf(t, want, "", repo, ref)
	root := c.Manifests[len(c.Manifests)-1].Descriptor.Digest
	if desc, err := got.Resolve(t.Context(), repo, ref); err != nil || desc.Digest != root {
		t.Errorf("%s:%s is %s, %v; want %s", repo, ref, desc.Digest, err, root)
	}
	for _, m := range c.Manifests {
		if g, err := got.Manifest(t.Context(), repo, string(m.Descriptor.Digest)); err != nil || !bytes.Equal(g.Raw, m.Raw) || g.Descriptor.MediaType != m.Descriptor.MediaType {
			t.Errorf("manifest %s: %s, %v", m.Descriptor.Digest, g.Raw, err)
		}
	}
	for _, b := range c.Blobs {
		if data, err := readBlob(t.Context(), got, repo, b.Digest); err != nil || digest.FromBytes(data) != b.Digest {
			t.Errorf("blob %s: %q, %v", b.Digest, data, err)
		}
	}
}

func readBlob(ctx context.Context, r oci.Reader, repo string, d oci.Digest) ([]byte, error) {
	b, err := r.Blob(ctx, repo, d)
	if err != nil {
		return nil, err
	}
	defer b.Close()
	return io.ReadAll(b)
}

func TestAnArchiveHoldsWhatWasWritten(t *testing.T) {
	t.Parallel()
	reg := ocitest.NewRegistry()
	digests := ocitest.Push(t, reg, content())
	raw := archived(t, contentOf(t, reg, "registry.example:5000", "team/app", "latest", "1.0", "small", string(digests["list"])))

	zipped := filepath.Join(t.TempDir(), "a.tar.gz")
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	_, _ = z.Write(raw)
	z.Close()
	if err := os.WriteFile(zipped, b.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	for what, open := range map[string]func() (*layout.Archive, error){
		"file":            func() (*layout.Archive, error) { return opened(t, raw) },
		"stream":          func() (*layout.Archive, error) { return layout.SpoolArchive(bytes.NewReader(raw)) },
		"compressed file": func() (*layout.Archive, error) { return layout.OpenArchive(zipped) },
	} {
		a, err := open()
		if err != nil {
			t.Fatalf("%s: %v", what, err)
		}
		for _, ref := range []string{"latest", "1.0", "small", string(digests["list"])} {
			same(t, a, reg, "team/app", ref)
		}
		var referrers []oci.Digest
		for r, err := range a.Referrers(t.Context(), "team/app", digests["multi"], "application/spdx+json") {
			if err != nil {
				t.Fatal(err)
			}
			referrers = append(referrers, r.Digest)
		}
		if !slices.Equal(referrers, []oci.Digest{digests["list"]}) {
			t.Errorf("%s: referrers are %v", what, referrers)
		}
		if err := a.Close(); err != nil {
			t.Errorf("%s: %v", what, err)
		}
	}
}

func TestTheSameImagesGiveTheSameArchive(t *testing.T) {
	t.Parallel()
	one, two := ocitest.NewRegistry(), newDirectory(t)
	ocitest.Push(t, one, content())
	ocitest.Push(t, two, content())
	a := archived(t, contentOf(t, one, "h:1", "team/app", "latest", "small"))
	b := archived(t, contentOf(t, two, "h:1", "team/app", "latest", "small"))
	if !bytes.Equal(a, b) {
		t.Error("they differ")
	}
}

// entries leads from the names in a tar file to their content. A name that is
// there twice fails the test.
func entries(t *testing.T, raw []byte) map[string]string {
	t.Helper()
	found := map[string]string{}
	for r := tar.NewReader(bytes.NewReader(raw)); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return found
		}
		if err != nil {
			t.Fatal(err)
		}
		if _, twice := found[h.Name]; twice {
			t.Errorf("%s is there twice", h.Name)
		}
		data, err := io.ReadAll(r)
		if err != nil {
			t.Fatal(err)
		}
		found[h.Name] = string(data)
	}
}

func TestAnArchiveIsReadByOthers(t *testing.T) {
	t.Parallel()
	reg := ocitest.NewRegistry()
	digests := ocitest.Push(t, reg, content())
	files := entries(t, archived(t,
		contentOf(t, reg, "docker.io", "team/app", "latest", "1.0", string(digests["list"])),
		contentOf(t, reg, "h:1", "team/app", "1.0", "small"),
	))
	if got := files["oci-layout"]; got != `{"imageLayoutVersion":"1.0.0"}` {
		t.Errorf("oci-layout is %s", got)
	}
	var index ocispec.Index
	if err := json.Unmarshal([]byte(files["index.json"]), &index); err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, e := range index.Manifests {
		names = append(names, e.Annotations["io.containerd.image.name"]+" "+e.Annotations["org.opencontainers.image.ref.name"])
	}
	want := []string{
		"docker.io/team/app:latest latest", "docker.io/team/app:1.0 docker.io/team/app:1.0",
		" docker.io/team/app@" + string(digests["list"]), "h:1/team/app:1.0 h:1/team/app:1.0", "h:1/team/app:small small",
	}
	if !slices.Equal(names, want) {
		t.Errorf("names are\n%s\nwant\n%s", strings.Join(names, "\n"), strings.Join(want, "\n"))
	}
	var docker []struct {
		Config           string
		RepoTags, Layers []string
	}
	if err := json.Unmarshal([]byte(files["manifest.json"]), &docker); err != nil {
		t.Fatal(err)
	}
	if len(docker) != 4 || docker[0].RepoTags[0] != "team/app:latest" || len(docker[0].Layers) != 2 || len(docker[3].Layers) != 1 {
		t.Errorf("manifest.json is %s", files["manifest.json"])
	}
	for _, image := range docker {
		for _, name := range append(image.Layers, image.Config) {
			if _, ok := files[name]; !ok {
				t.Errorf("%s is missing", name)
			}
		}
	}
}

func TestWriteArchiveVerifies(t *testing.T) {
	t.Parallel()
	reg := ocitest.NewRegistry()
	digests := ocitest.Push(t, reg, content())
	whole := contentOf(t, reg, "", "team/app", "small")
	for want, serve := range map[oci.Code]string{oci.DigestInvalid: "bytes of a lAyer", oci.SizeInvalid: "bytes of a laye", "longer": "bytes of a layer!"} {
		if want == "longer" {
			want = oci.SizeInvalid
		}
		c := whole
		c.From = &ocitest.Funcs{Registry: reg, OnBlob: func(ctx context.Context, repo string, d oci.Digest) (oci.BlobReader, error) {
			b, err := reg.Blob(ctx, repo, d)
			if d == digests["base"] {
				b.ReadSeekCloser = nopCloser{strings.NewReader(serve)}
			}
			return b, err
		}}
		if err := layout.WriteArchive(t.Context(), io.Discard, c); !errors.Is(err, want) {
			t.Errorf("%q: error is %v, want %v", serve, err, want)
		}
	}
	c := whole
	c.Manifests = nil
	if err := layout.WriteArchive(t.Context(), io.Discard, c); !errors.Is(err, oci.ManifestUnknown) {
		t.Errorf("without the manifest: error is %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := layout.WriteArchive(ctx, io.Discard, whole); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: error is %v", err)
	}
}

type nopCloser struct{ io.ReadSeeker }

func (nopCloser) Close() error { return nil }

// tarOf writes a tar file. Content that begins with "-> " is a link.
func tarOf(t testing.TB, files ...[2]string) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, f := range files {
		h := &tar.Header{Name: f[0], Typeflag: tar.TypeReg, Size: int64(len(f[1])), Mode: 0o644}
		if to, ok := strings.CutPrefix(f[1], "-> "); ok {
			h = &tar.Header{Name: f[0], Typeflag: tar.TypeSymlink, Linkname: to}
			f[1] = ""
		}
		if err := w.WriteHeader(h); err != nil {
			t.Fatal(err)
		}
		_, _ = io.WriteString(w, f[1])
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

const (
	layoutVersion = `{"imageLayoutVersion":"1.0.0"}`
	emptyList     = `{"schemaVersion":2,"manifests":[]}`
)

func TestHostileArchives(t *testing.T) {
	t.Parallel()
	whole := tarOf(t, [2]string{"oci-layout", layoutVersion}, [2]string{"index.json", emptyList})
	if _, err := opened(t, whole); err != nil {
		t.Fatal(err)
	}
	huge := fmt.Sprintf(`{"schemaVersion":2,"manifests":[],"x":%q}`, strings.Repeat("x", 1<<20))
	sparse := sparseTar(t)
	for what, c := range map[string]struct {
		raw  []byte
		says string
	}{
		"empty":          {nil, "not a tar archive"},
		"text":           {[]byte(strings.Repeat("text ", 200)), "not a tar archive"},
		"zstd":           {[]byte("\x28\xb5\x2f\xfd" + strings.Repeat("x", 600)), "compressed by zstd"},
		"cut gzip":       {[]byte("\x1f\x8b\x08\x00"), "cut off or damaged"},
		"no image":       {tarOf(t, [2]string{"a.txt", "x"}), "neither oci-layout nor manifest.json, but a.txt"},
		"cut in a file":  {whole[:520], "cut off after 1 entries"},
		"cut header":     {whole[:1100], "cut off after 1 entries"},
		"sparse":         {sparse, "is a sparse file"},
		"leads out":      {tarOf(t, [2]string{"../x", ""}), "leads out of it"},
		"leads far out":  {tarOf(t, [2]string{"a/../../x", ""}), "leads out of it"},
		"absolute":       {tarOf(t, [2]string{"/etc/passwd", ""}), "leads out of it"},
		"link out":       {tarOf(t, [2]string{"oci-layout", "-> ../../etc/passwd"}), "leads out of it"},
		"absolute link":  {tarOf(t, [2]string{"a", "-> /etc/passwd"}), "no archive of images"},
		"link to itself": {tarOf(t, [2]string{"oci-layout", "-> b"}, [2]string{"b", "-> oci-layout"}), "link to itself"},
		"two lists":      {tarOf(t, [2]string{"oci-layout", layoutVersion}, [2]string{"index.json", emptyList}, [2]string{"./index.json", huge}), "index.json twice"},
		"no list":        {tarOf(t, [2]string{"oci-layout", layoutVersion}), "has no index.json"},
		"bad list":       {tarOf(t, [2]string{"oci-layout", layoutVersion}, [2]string{"index.json", "["}), "not of the right form"},
		"bad digest":     {tarOf(t, [2]string{"oci-layout", layoutVersion}, [2]string{"index.json", `{"manifests":[{"digest":"sha256:../x"}]}`}), "hexadecimal digit"},
		"other version":  {tarOf(t, [2]string{"oci-layout", `{"imageLayoutVersion":"2"}`}), "version"},
		"no config":      {tarOf(t, [2]string{"manifest.json", `[{"Config":"x.json"}]`}), "does not have"},
		"layers missing": {tarOf(t, [2]string{"manifest.json", `[{"Config":"x.json","Layers":["a"]}]`}, [2]string{"x.json", "{}"}), "tells of 0 layers"},
	} {
		_, err := opened(t, c.raw)
		_, spooled := layout.SpoolArchive(bytes.NewReader(c.raw))
		for _, err := range []error{err, spooled} {
			if err == nil || !strings.Contains(err.Error(), c.says) {
				t.Errorf("%s: error is %v, want … %s …", what, err, c.says)
			}
			if !errors.Is(err, oci.ManifestInvalid) && !errors.Is(err, oci.NotFound) {
				t.Errorf("%s: %v has no code", what, err)
			}
		}
	}
}

// sparseTar is a file with holes as GNU tar writes it.
func sparseTar(t testing.TB) []byte {
	t.Helper()
	raw := tarOf(t, [2]string{"oci-layout", layoutVersion})
	h := raw[:512]
	h[156] = tar.TypeGNUSparse
	copy(h[257:], "ustar  \x00")
	copy(h[148:156], "        ")
	sum := 0
	for _, b := range h {
		sum += int(b)
	}
	copy(h[148:156], fmt.Sprintf("%06o\x00 ", sum))
	return raw
}

func FuzzArchive(f *testing.F) {
	f.Add(tarOf(f, [2]string{"oci-layout", layoutVersion}, [2]string{"index.json", emptyList}))
	f.Add(tarOf(f, [2]string{"manifest.json", `[{"Config":"x.json","Layers":[]}]`}, [2]string{"x.json", "{}"}))
	f.Fuzz(func(t *testing.T, raw []byte) {
		a, err := layout.SpoolArchive(bytes.NewReader(raw))
		if err != nil {
			return
		}
		defer a.Close()
		images, err := a.Images()
		if err != nil {
			t.Fatal(err)
		}
		for _, image := range images {
			_, _ = a.Manifest(t.Context(), image.Name.Repo, string(image.Descriptor.Digest))
		}
	})
}

// A damaged blob is found when it is read, whatever was read of it before.
func TestArchiveVerifiesBlobs(t *testing.T) {
	t.Parallel()
	reg := ocitest.NewRegistry()
	digests := ocitest.Push(t, reg, content())
	raw := archived(t, contentOf(t, reg, "", "team/app", "small"))
	raw = bytes.Replace(raw, []byte("bytes of a layer"), []byte("bytes of A layer"), 1)
	a := mustOpen(t, raw)
	if _, err := readBlob(t.Context(), a, "team/app", digests["base"]); !errors.Is(err, oci.DigestInvalid) {
		t.Errorf("error is %v", err)
	}
	b, err := a.Blob(t.Context(), "team/app", digests["base"])
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	_, _ = io.ReadFull(b, make([]byte, 12))
	if _, err := b.Seek(4, io.SeekStart); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadAll(b); !errors.Is(err, oci.DigestInvalid) {
		t.Errorf("after a seek: error is %v", err)
	}
	raw = bytes.Replace(raw, []byte(`"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest`), []byte(`"schemaVersion":3,"mediaType":"application/vnd.oci.image.manifest`), 1)
	if _, err := mustOpen(t, raw).Manifest(t.Context(), "team/app", "small"); !errors.Is(err, oci.DigestInvalid) {
		t.Errorf("manifest: error is %v", err)
	}
}

func TestAnArchiveCannotBeChanged(t *testing.T) {
	t.Parallel()
	reg := ocitest.NewRegistry()
	digests := ocitest.Push(t, reg, content())
	a := mustOpen(t, archived(t, contentOf(t, reg, "", "team/app", "small")))
	ctx, d := t.Context(), digests["arm64"]
	_, put := a.PutManifest(ctx, "team/app", oci.Put{Raw: []byte("{}")})
	_, mount := a.MountBlob(ctx, "team/app", "", d)
	_, upload := a.Upload(ctx, "team/app", "", oci.UploadOptions{})
	for what, err := range map[string]error{
		"PutManifest": put, "MountBlob": mount, "Upload": upload,
		"DeleteTag": a.DeleteTag(ctx, "team/app", "small", ""), "DeleteManifest": a.DeleteManifest(ctx, "team/app", d),
		"DeleteBlob": a.DeleteBlob(ctx, "team/app", d), "DeleteRepo": a.DeleteRepo(ctx, "team/app"),
	} {
		if !errors.Is(err, oci.Unsupported) {
			t.Errorf("%s: error is %v", what, err)
		}
	}
	same(t, a, reg, "team/app", "small")
}

// Docker wrote a folder for each layer, and links to those that came twice.
func TestArchiveOfOldDocker(t *testing.T) {
	t.Parallel()
	layer := string(tarOf(t, [2]string{"hello", "hello"}))
	var zipped bytes.Buffer
	z := gzip.NewWriter(&zipped)
	_, _ = io.WriteString(z, layer)
	z.Close()
	id := digest.FromString(layer)
	config := fmt.Sprintf(`{"architecture":"arm64","os":"linux","created":"2020-01-02T03:04:05Z","rootfs":{"type":"layers","diff_ids":[%q,%q,%q]}}`, id, id, id)
	a := mustOpen(t, tarOf(t,
		[2]string{"manifest.json", `[{"Config":"c.json","RepoTags":["alpine:3.20","quay.io/team/app:1"],"Layers":["a/layer.tar","b/layer.tar","c.tar.gz"]}]`},
		[2]string{"c.json", config}, [2]string{"a/layer.tar", layer}, [2]string{"b/layer.tar", "-> ../a/layer.tar"},
		[2]string{"c.tar.gz", zipped.String()}, [2]string{"repositories", "{}"},
	))
	m, err := a.Manifest(t.Context(), "alpine", "3.20")
	if err != nil {
		t.Fatal(err)
	}
	g, err := oci.ParseManifest(m.Descriptor.MediaType, m.Raw)
	if err != nil {
		t.Fatal(err)
	}
	want := []oci.Digest{digest.FromString(config), id, id, digest.FromBytes(zipped.Bytes())}
	for i, b := range g.Blobs() {
		data, err := readBlob(t.Context(), a, "alpine", b.Digest)
		if err != nil || b.Digest != want[i] || int64(len(data)) != b.Size {
			t.Errorf("blob %d is %s of %d bytes, %v; want %s", i, b.Digest, len(data), err, want[i])
		}
	}
	if other, err := a.Resolve(t.Context(), "team/app", "1"); err != nil || other.Digest != m.Descriptor.Digest {
		t.Errorf("team/app:1 is %v, %v", other, err)
	}
	for detail, err := range a.TagDetails(t.Context(), "alpine", "") {
		if err != nil || detail.Created.Year() != 2020 || detail.Platforms[0].Architecture != "arm64" {
			t.Errorf("details are %+v, %v", detail, err)
		}
	}
}

// names lists what an open layout calls its images.
func names(t *testing.T, list func() ([]layout.Image, error)) []string {
	t.Helper()
	images, err := list()
	if err != nil {
		t.Fatal(err)
	}
	found := map[string]bool{}
	for _, image := range images {
		found[image.Name.String()] = true
	}
	return slices.Sorted(maps.Keys(found))
}

func TestLayoutInAFolderOfTheArchive(t *testing.T) {
	t.Parallel()
	a := mustOpen(t, tarOf(t,
		[2]string{"./images/oci-layout", layoutVersion},
		[2]string{"./images/index.json", `{"manifests":[{"digest":"` + string(digest.FromString("x")) + `","annotations":{"org.opencontainers.image.ref.name":"v1"}}]}`}))
	if got := names(t, a.Images); !slices.Equal(got, []string{layout.Unnamed + ":v1"}) {
		t.Errorf("images are %v", got)
	}
}
