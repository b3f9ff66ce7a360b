package main_test

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/regctl/regctl/client/oci"
	"github.com/regctl/regctl/client/oci/ocitest"
)

// The clients here are the programs that people have. Each pushes images of
// its own making to regctl serve and must get back what it pushed; what
// arrived is read once more without it.

// tool is a program that talks to registries, with a home of its own.
type tool struct {
	path string
	args []string // Before those of each call.
	env  []string
}

func newTool(tb testing.TB, name string, args ...string) tool {
	tb.Helper()
	home := tb.TempDir()
	return tool{path: peer(tb, name), args: args, env: []string{
		"HOME=" + home, "XDG_RUNTIME_DIR=" + home, "TMPDIR=" + home, "PATH=" + os.Getenv("PATH"),
	}}
}

// run returns what the program says on stdout, without the last newline.
func (p tool) run(tb testing.TB, args ...string) string {
	tb.Helper()
	cmd := exec.Command(p.path, append(slices.Clone(p.args), args...)...)
	cmd.Env = p.env
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		tb.Fatalf("%s %s: %v\n%s%s", filepath.Base(p.path), strings.Join(args, " "), err, out, &stderr)
	}
	return strings.TrimSpace(string(out))
}

// client is what a program can do with a registry. A ref is HOST/REPO:TAG.
type client struct {
	push   func(t *testing.T, ref string) oci.Digest      // An image that is new each time.
	pull   func(t *testing.T, ref string) oci.Digest      // By one that has forgotten it; it checks what came.
	tags   func(t *testing.T, repo string) []string       // Nil: it lists none.
	repos  func(t *testing.T, host string) []string       // Nil: it lists none.
	remove func(t *testing.T, ref string, was oci.Digest) // Nil: it deletes nothing.
}

func TestClients(t *testing.T) {
	for name, newClient := range map[string]func(*testing.T, *server) client{
		"podman":      func(t *testing.T, _ *server) client { return podman(t, "oci") },
		"podman-v2s2": func(t *testing.T, _ *server) client { return podman(t, "v2s2") },
		"buildah":     buildah,
		"skopeo":      skopeo,
		"crane":       crane,
		"regclient":   regclient,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := startRegctl(t, t.TempDir())
			exercise(t, s, newClient(t, s))
		})
	}
}

// exercise pushes two images, pulls them, lists them and takes the first away.
func exercise(t *testing.T, s *server, c client) {
	t.Helper()
	w, repo := speak(s), s.addr+"/team/app"
	digests := map[string]oci.Digest{}
	for _, tag := range []string{"one", "two"} {
		digests[tag] = c.push(t, repo+":"+tag)
		if got := w.whole(t, "team/app", tag); got != digests[tag] {
			t.Errorf("%s arrived as %s, the client pushed %s", tag, got, digests[tag])
		}
	}
	if digests["one"] == digests["two"] {
		t.Fatal("the two images are one")
	}
	for tag, want := range digests {
		if got := c.pull(t, repo+":"+tag); got != want {
			t.Errorf("pulled %s as %s, want %s", tag, got, want)
		}
	}
	if c.tags != nil {
		wantNames(t, "tags", c.tags(t, repo), "one", "two")
	}
	if c.repos != nil {
		wantNames(t, "repositories", c.repos(t, s.addr), "team/app")
	}
	if c.remove != nil {
		c.remove(t, repo+":one", digests["one"])
		w.must(t, http.StatusNotFound, http.MethodGet, "/v2/team/app/manifests/one")
		wantNames(t, "tags", w.tags(t, "team/app"), "two")
		if got := w.whole(t, "team/app", "two"); got != digests["two"] {
			t.Errorf("the other image is %s now, was %s", got, digests["two"])
		}
	}
	s.contented(t)
}

// contented checks that the server found nothing to warn of.
func (s *server) contented(tb testing.TB) {
	tb.Helper()
	for line := range strings.Lines(s.log.String()) {
		if strings.Contains(line, "level=warning") || strings.Contains(line, "level=error") {
			tb.Errorf("the server says: %s", line)
		}
	}
}

func wantNames(tb testing.TB, what string, got []string, want ...string) {
	tb.Helper()
	if got = slices.Sorted(slices.Values(got)); !slices.Equal(got, want) {
		tb.Errorf("%s: %q, want %q", what, got, want)
	}
}

// podman keeps images in a store of its own; so does buildah.
func storeFlags(tb testing.TB) []string {
	return []string{"--root", tb.TempDir(), "--runroot", shortTempDir(tb, nil), "--storage-driver", "vfs"}
}

// shortTempDir is TempDir for programs that bound its length, because sockets
// do. At the end release is called before the directory is removed, and keeps
// it there by an error.
func shortTempDir(tb testing.TB, release func(dir string) error) string {
	tb.Helper()
	dir, err := os.MkdirTemp("", "r-")
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		var err error
		if release != nil {
			err = release(dir)
		}
		if err == nil {
			err = os.RemoveAll(dir)
		}
		if err != nil {
			tb.Error(err)
		}
	})
	return dir
}

func newPodman(t *testing.T) tool {
	t.Helper()
	return newTool(t, "podman", append(storeFlags(t), "--cgroup-manager", "cgroupfs", "--tmpdir", t.TempDir())...)
}

func podman(t *testing.T, format string) client {
	p := newPodman(t)
	ids := map[string]string{}
	return client{
		push: func(t *testing.T, ref string) oci.Digest {
			p.run(t, "import", "--change", `CMD ["/hello"]`, layer(t, ref), ref)
			ids[ref] = p.run(t, "image", "inspect", "--format", "{{.Id}}", ref)
			file := filepath.Join(t.TempDir(), "digest")
			p.run(t, "push", "--tls-verify=false", "--format", format, "--digestfile", file, ref, "docker://"+ref)
			return readDigest(t, file)
		},
		pull: func(t *testing.T, ref string) oci.Digest {
			p.run(t, "rmi", ref)
			p.run(t, "pull", "--tls-verify=false", ref)
			if id := p.run(t, "image", "inspect", "--format", "{{.Id}}", ref); id != ids[ref] && format == "oci" {
				t.Errorf("podman pulled image %s, had pushed %s", id, ids[ref])
			}
			return oci.Digest(p.run(t, "image", "inspect", "--format", "{{.Digest}}", ref))
		},
		tags: func(t *testing.T, repo string) []string {
			var list []struct{ Tags []string } // The other formats of podman 4 have headings.
			if err := json.Unmarshal([]byte(p.run(t, "search", "--tls-verify=false", "--list-tags", "--format", "json", repo)), &list); err != nil {
				t.Fatal(err)
			}
			if len(list) != 1 {
				t.Fatalf("podman lists tags of %d repositories", len(list))
			}
			return list[0].Tags
		},
		repos: func(t *testing.T, host string) []string {
			names := strings.Fields(p.run(t, "search", "--tls-verify=false", "--format", "{{.Name}}", host+"/"))
			for i := range names {
				names[i] = strings.TrimPrefix(names[i], host+"/")
			}
			return names
		},
	}
}

func buildah(t *testing.T, _ *server) client {
	p := newTool(t, "buildah", storeFlags(t)...)
	ids := map[string]string{}
	return client{
		push: func(t *testing.T, ref string) oci.Digest {
			hello := filepath.Join(t.TempDir(), "hello")
			write(t, hello, random(seed(ref), 100_000))
			c := p.run(t, "from", "scratch")
			p.run(t, "copy", c, hello, "/hello")
			p.run(t, "config", "--entrypoint", `["/hello"]`, c)
			p.run(t, "commit", "--rm", c, ref)
			ids[ref] = p.run(t, "images", "--quiet", "--no-trunc", ref)
			file := filepath.Join(t.TempDir(), "digest")
			p.run(t, "push", "--tls-verify=false", "--digestfile", file, ref)
			return readDigest(t, file)
		},
		pull: func(t *testing.T, ref string) oci.Digest {
			p.run(t, "rmi", ref)
			p.run(t, "pull", "--tls-verify=false", ref)
			if id := p.run(t, "images", "--quiet", "--no-trunc", ref); id != ids[ref] {
				t.Errorf("buildah pulled image %s, had pushed %s", id, ids[ref])
			}
			return oci.Digest(p.run(t, "images", "--format", "{{.Digest}}", ref))
		},
	}
}

func skopeo(t *testing.T, _ *server) client {
	p := newTool(t, "skopeo")
	return client{
		push: func(t *testing.T, ref string) oci.Digest {
			dir, d := layout(t, ref)
			p.run(t, "copy", "--dest-tls-verify=false", "oci:"+dir+":x", "docker://"+ref)
			return d
		},
		pull: func(t *testing.T, ref string) oci.Digest {
			dir := t.TempDir()
			p.run(t, "copy", "--src-tls-verify=false", "docker://"+ref, "oci:"+dir+":x")
			return checkLayout(t, dir)
		},
		tags: func(t *testing.T, repo string) []string {
			var list struct{ Tags []string }
			if err := json.Unmarshal([]byte(p.run(t, "list-tags", "--tls-verify=false", "docker://"+repo)), &list); err != nil {
				t.Fatal(err)
			}
			return list.Tags
		},
		remove: func(t *testing.T, ref string, _ oci.Digest) {
			p.run(t, "delete", "--tls-verify=false", "docker://"+ref)
		},
	}
}

func crane(t *testing.T, _ *server) client {
	p := newTool(t, "crane", "--insecure")
	return client{
		push: func(t *testing.T, ref string) oci.Digest {
			said := p.run(t, "append", "--base", "", "--new_layer", layer(t, ref), "--new_tag", ref)
			p.run(t, "validate", "--remote", ref)
			_, d, _ := strings.Cut(said, "@")
			return oci.Digest(d)
		},
		pull: func(t *testing.T, ref string) oci.Digest {
			dir := filepath.Join(t.TempDir(), "layout")
			p.run(t, "pull", "--format", "oci", ref, dir)
			return checkLayout(t, dir)
		},
		tags:  func(t *testing.T, repo string) []string { return strings.Fields(p.run(t, "ls", repo)) },
		repos: func(t *testing.T, host string) []string { return strings.Fields(p.run(t, "catalog", host)) },
		remove: func(t *testing.T, ref string, _ oci.Digest) {
			p.run(t, "delete", ref)
		},
	}
}

func regclient(t *testing.T, s *server) client {
	p := newTool(t, "regclient", "--host", "reg="+s.addr+",tls=disabled")
	return client{
		push: func(t *testing.T, ref string) oci.Digest {
			dir, d := layout(t, ref)
			p.run(t, "image", "copy", "ocidir://"+dir+":x", ref)
			return d
		},
		pull: func(t *testing.T, ref string) oci.Digest {
			dir := t.TempDir()
			p.run(t, "image", "copy", ref, "ocidir://"+dir+":x")
			return checkLayout(t, dir)
		},
		tags:   func(t *testing.T, repo string) []string { return strings.Fields(p.run(t, "tag", "ls", repo)) },
		repos:  func(t *testing.T, host string) []string { return strings.Fields(p.run(t, "repo", "ls", host)) },
		remove: func(t *testing.T, ref string, _ oci.Digest) { p.run(t, "tag", "delete", ref) },
	}
}

// layer writes a tar archive with one file whose content depends on name.
func layer(tb testing.TB, name string) string {
	tb.Helper()
	file := filepath.Join(tb.TempDir(), "layer.tar")
	write(tb, file, layerBytes(tb, name))
	return file
}

func layerBytes(tb testing.TB, name string) []byte {
	tb.Helper()
	content := random(seed(name), 100_000)
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	err := w.WriteHeader(&tar.Header{Name: "hello", Mode: 0o755, Size: int64(len(content))})
	if err == nil {
		_, err = w.Write(content)
	}
	if err == nil {
		err = w.Close()
	}
	if err != nil {
		tb.Fatal(err)
	}
	return b.Bytes()
}

// seed is a number for a name.
func seed(name string) uint64 {
	sum := digest.FromString(name).Encoded()
	var n uint64
	_, _ = fmt.Sscanf(sum[:8], "%x", &n) // Hexadecimal by its making.
	return n
}

// layout writes an OCI layout with one image that depends on name, called x.
func layout(tb testing.TB, name string) (dir string, d oci.Digest) {
	tb.Helper()
	dir = tb.TempDir()
	archive := layerBytes(tb, name)
	var packed bytes.Buffer
	z := gzip.NewWriter(&packed)
	if _, err := z.Write(archive); err != nil {
		tb.Fatal(err)
	}
	if err := z.Close(); err != nil {
		tb.Fatal(err)
	}
	put := func(mediaType, data string) oci.Descriptor {
		desc := ocitest.Describe(mediaType, data)
		write(tb, filepath.Join(dir, "blobs/sha256", desc.Digest.Encoded()), []byte(data))
		return desc
	}
	config := fmt.Sprintf(`{"architecture":"amd64","os":"linux","rootfs":{"type":"layers","diff_ids":[%q]}}`, digest.FromBytes(archive))
	m := put(oci.MediaTypeManifest, jsonText(tb, ocitest.NewImage(
		put(ocispec.MediaTypeImageConfig, config), put(ocispec.MediaTypeImageLayerGzip, packed.String()))))
	m.Annotations = map[string]string{ocispec.AnnotationRefName: "x"}
	write(tb, filepath.Join(dir, "oci-layout"), []byte(`{"imageLayoutVersion":"1.0.0"}`))
	write(tb, filepath.Join(dir, "index.json"), []byte(jsonText(tb, ocitest.NewIndex(m))))
	return dir, m.Digest
}

func jsonText(tb testing.TB, v any) string {
	tb.Helper()
	raw, err := json.Marshal(v)
	if err != nil {
		tb.Fatal(err)
	}
	return string(raw)
}

func write(tb testing.TB, file string, content []byte) {
	tb.Helper()
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		tb.Fatal(err)
	}
	if err := os.WriteFile(file, content, 0o644); err != nil {
		tb.Fatal(err)
	}
}

// checkLayout hashes everything in an OCI layout, which must hold one image
// whole, and returns its digest.
func checkLayout(tb testing.TB, dir string) oci.Digest {
	tb.Helper()
	var index ocispec.Index
	if err := json.Unmarshal([]byte(read(tb, filepath.Join(dir, "index.json"))), &index); err != nil || len(index.Manifests) != 1 {
		tb.Fatalf("%s holds %d images: %v", dir, len(index.Manifests), err)
	}
	blob := func(d oci.Digest) []byte {
		content := read(tb, filepath.Join(dir, "blobs/sha256", d.Encoded()))
		if got := digest.FromString(content); got != d {
			tb.Fatalf("blob %s came as %s", d, got)
		}
		return []byte(content)
	}
	m := index.Manifests[0]
	g, err := oci.ParseManifest(m.MediaType, blob(m.Digest))
	if err != nil {
		tb.Fatal(err)
	}
	for _, b := range g.Blobs() {
		blob(b.Digest)
	}
	return m.Digest
}

func readDigest(tb testing.TB, file string) oci.Digest {
	tb.Helper()
	d, err := oci.ParseDigest(strings.TrimSpace(read(tb, file)))
	if err != nil {
		tb.Fatal(err)
	}
	return d
}

func read(tb testing.TB, file string) string {
	tb.Helper()
	content, err := os.ReadFile(file)
	if err != nil {
		tb.Fatal(err)
	}
	return string(content)
}
