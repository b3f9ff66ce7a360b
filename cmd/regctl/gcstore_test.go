package main_test

import (
	"encoding/json"
	"fmt"
	"io/fs"
	"maps"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/regctl/regctl/client/oci"
	"github.com/regctl/regctl/client/oci/ocitest"
)

// shape is how a generated store looks. The same shape makes the same bytes.
type shape struct {
	repos, images int     // Images of each repository.
	tags          int     // Tags of one more repository, called many: each is an image of its own.
	garbage       float64 // The share of images that a push of the same tag has left without one.
	indexes       int     // Every so manyth image is an index of two; 0: none.
	orphans       int     // Data that nothing links.
	seed          uint64
}

// generated is a store in the layout of registry:2, written without a server.
type generated struct {
	dir      string
	tags     map[string]map[string]oci.Digest // By repository.
	untagged map[string][]oci.Digest          // Manifests that no tag leads to.
	data     map[oci.Digest]int64             // All bytes under digests.
	live     map[oci.Digest]bool              // Those of data that tags lead to.
	links    map[string]bool                  // All links but those of tags: whether a tag of the repository leads there.
	random   *rand.Rand
	tb       testing.TB
}

const (
	storeRoot = "docker/registry/v2"
	layerType = "application/vnd.oci.image.layer.v1.tar+gzip"
)

// generate makes a store below dir that nobody has touched for a day.
func generate(tb testing.TB, dir string, s shape) *generated {
	tb.Helper()
	g := &generated{
		dir: filepath.Join(dir, storeRoot), tb: tb, random: rand.New(rand.NewPCG(s.seed, 1)),
		tags: map[string]map[string]oci.Digest{}, untagged: map[string][]oci.Digest{},
		data: map[oci.Digest]int64{}, live: map[oci.Digest]bool{}, links: map[string]bool{},
	}
	bases := make([]oci.Descriptor, 4)
	for i := range bases {
		bases[i] = g.blob(layerType, g.bytes(20_000+i*20_000))
	}
	for r := range s.repos {
		g.repository(fmt.Sprintf("team%d/app%03d", r%7, r), s.images, s, bases)
	}
	if s.tags > 0 {
		g.repository("many", s.tags, s, bases)
	}
	for range s.orphans {
		g.blob(layerType, g.bytes(3000))
	}
	aDayOld(tb, dir)
	return g
}

func (g *generated) bytes(n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(g.random.Uint32())
	}
	return b
}

// layerSize is mostly a few kilobytes and now and then many.
func (g *generated) layerSize() int {
	switch n := g.random.IntN(100); {
	case n < 70:
		return 300 + g.random.IntN(3000)
	case n < 95:
		return 4000 + g.random.IntN(12_000)
	default:
		return 40_000 + g.random.IntN(60_000)
	}
}

func (g *generated) repository(repo string, images int, s shape, bases []oci.Descriptor) {
	g.tags[repo] = map[string]oci.Digest{}
	own := []oci.Descriptor{bases[g.random.IntN(len(bases))], g.blob(layerType, g.bytes(g.layerSize()))}
	var old []oci.Digest // What the next tag had before.
	for i := range images {
		if g.random.Float64() < s.garbage {
			d := g.image(repo, i, own, false).Digest
			g.untagged[repo], old = append(g.untagged[repo], d), append(old, d)
			continue
		}
		var d oci.Descriptor
		if s.indexes > 0 && i%s.indexes == 0 {
			d = g.index(repo, g.image(repo, i, own, true), g.image(repo, i, own, true))
		} else {
			d = g.image(repo, i, own, true)
		}
		tag := fmt.Sprintf("1.%d", i)
		g.tags[repo][tag] = d.Digest
		for _, had := range append(old, d.Digest) {
			g.file(linkOf(repo, "_manifests/tags/"+tag+"/index", had), string(had))
		}
		g.file(filepath.Join("repositories", repo, "_manifests/tags", tag, "current/link"), string(d.Digest))
		old = nil
	}
}

// image has the layers that are given, one that is new, and a config.
func (g *generated) image(repo string, n int, layers []oci.Descriptor, live bool) oci.Descriptor {
	created := time.Date(2024, 1, 1, 0, n, 0, 0, time.UTC).Format(time.RFC3339)
	config := g.blob("application/vnd.oci.image.config.v1+json",
		fmt.Appendf(nil, `{"architecture":"amd64","os":"linux","created":%q,"n":%d,"pad":%q}`, created, g.random.Uint64(), strings.Repeat("x", 700)))
	m := ocitest.NewImage(config, append(slices.Clone(layers), g.blob(layerType, g.bytes(g.layerSize())))...)
	for _, b := range append(m.Layers, config) {
		g.link(repo, "_layers", b.Digest, live)
	}
	return g.manifest(repo, oci.MediaTypeManifest, m, live)
}

func (g *generated) index(repo string, children ...oci.Descriptor) oci.Descriptor {
	for i, arch := range []string{"amd64", "arm64"} {
		children[i].Platform = &oci.Platform{OS: "linux", Architecture: arch}
	}
	return g.manifest(repo, oci.MediaTypeIndex, ocitest.NewIndex(children...), true)
}

func (g *generated) manifest(repo, mediaType string, m any, live bool) oci.Descriptor {
	g.tb.Helper()
	raw, err := json.Marshal(m)
	if err != nil {
		g.tb.Fatal(err)
	}
	d := g.blob(mediaType, raw)
	g.link(repo, "_manifests/revisions", d.Digest, live)
	return d
}

func (g *generated) blob(mediaType string, content []byte) oci.Descriptor {
	d := digest.FromBytes(content)
	hex := d.Encoded()
	g.file(filepath.Join("blobs/sha256", hex[:2], hex, "data"), string(content))
	g.data[d] = int64(len(content))
	return oci.Descriptor{MediaType: mediaType, Digest: d, Size: int64(len(content))}
}

func (g *generated) link(repo, below string, d oci.Digest, live bool) {
	name := linkOf(repo, below, d)
	g.file(name, string(d))
	g.live[d] = g.live[d] || live
	g.links[name] = g.links[name] || live
}

func linkOf(repo, below string, d oci.Digest) string {
	return filepath.Join("repositories", repo, below, d.Algorithm().String(), d.Encoded(), "link")
}

func (g *generated) file(name, content string) {
	g.tb.Helper()
	path := filepath.Join(g.dir, name)
	if _, err := os.Stat(path); err == nil {
		return
	}
	err := os.MkdirAll(filepath.Dir(path), 0o777)
	if err == nil {
		err = os.WriteFile(path, []byte(content), 0o666)
	}
	if err != nil {
		g.tb.Fatal(err)
	}
}

// aDayOld makes everything below dir as if it had been written yesterday.
func aDayOld(tb testing.TB, dir string) {
	tb.Helper()
	yesterday := time.Now().Add(-25 * time.Hour)
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.Type()&fs.ModeSymlink != 0 || d.Type()&fs.ModeSocket != 0 {
			return err
		}
		return os.Chtimes(path, yesterday, yesterday)
	})
	if err != nil {
		tb.Fatal(err)
	}
}

// garbage is how much data no tag leads to.
func (g *generated) garbage() (n int, bytes int64) {
	for d, size := range g.data {
		if !g.live[d] {
			n, bytes = n+1, bytes+size
		}
	}
	return n, bytes
}

// unlinked is how much data is in no repository.
func (g *generated) unlinked() (n int) {
	for d := range g.data {
		if _, linked := g.live[d]; !linked {
			n++
		}
	}
	return n
}

// wantCollected wants all data and links in dir but those that no tag leads
// to.
func (g *generated) wantCollected(tb testing.TB, dir string) {
	tb.Helper()
	left := dataOf(tb, dir)
	var wrong problems
	for d := range g.data {
		if _, there := left[d]; there != g.live[d] {
			wrong.add("data of %s is there: %v, want %v", d, there, g.live[d])
		}
	}
	for name, live := range g.links {
		if _, err := os.Lstat(filepath.Join(dir, storeRoot, name)); (err == nil) != live {
			wrong.add("%s: %v; of use: %v", name, err, live)
		}
	}
	wrong.tell(tb)
}

// problems are many of a kind.
type problems []string

func (p *problems) add(format string, args ...any) { *p = append(*p, fmt.Sprintf(format, args...)) }

// tell fails the test by some of them.
func (p *problems) tell(tb testing.TB) {
	tb.Helper()
	if len(*p) > 0 {
		tb.Errorf("%d problems:\n%s", len(*p), strings.Join((*p)[:min(len(*p), 5)], "\n"))
	}
}

// wantServed pulls some images of every repository, all if each is 1.
func (g *generated) wantServed(tb testing.TB, s *server, each int) {
	tb.Helper()
	w := speak(s)
	for repo, tags := range g.tags {
		n := 0
		for tag, d := range tags {
			if n++; n%each != 0 {
				continue
			}
			if got := w.whole(tb, repo, tag); got != d {
				tb.Errorf("%s:%s is %s, want %s", repo, tag, got, d)
			}
		}
	}
}

// dataOf lists all bytes that a store keeps under digests.
func dataOf(tb testing.TB, dir string) map[oci.Digest]int64 {
	tb.Helper()
	found := map[oci.Digest]int64{}
	err := filepath.WalkDir(filepath.Join(dir, storeRoot, "blobs"), func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.Name() != "data" {
			return err
		}
		info, err := d.Info()
		if err == nil {
			at := filepath.Dir(path)
			alg := filepath.Base(filepath.Dir(filepath.Dir(at)))
			found[digest.NewDigestFromEncoded(digest.Algorithm(alg), filepath.Base(at))] = info.Size()
		}
		return err
	})
	if err != nil {
		tb.Fatal(err)
	}
	return found
}

// TestGeneratedStore: both servers serve what is generated, and it is the same
// each time.
func TestGeneratedStore(t *testing.T) {
	t.Parallel()
	s := shape{repos: 3, images: 6, tags: 20, garbage: 0.3, indexes: 5, orphans: 2, seed: 1}
	for name, start := range servers {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			g := generate(t, dir, s)
			again := generate(t, t.TempDir(), s)
			if len(g.data) != len(again.data) || len(g.data) != len(dataOf(t, dir)) {
				t.Fatalf("%d data, then %d", len(g.data), len(again.data))
			}
			if n, bytes := g.garbage(); n < 20 || bytes < 20_000 {
				t.Errorf("only %d data of %d bytes are garbage", n, bytes)
			}
			srv := start(t, dir)
			g.wantServed(t, srv, 1)
			w := speak(srv)
			for repo, digests := range g.untagged {
				wantNames(t, "tags of "+repo, w.tags(t, repo), slices.Sorted(maps.Keys(g.tags[repo]))...)
				for _, d := range digests {
					w.must(t, http.StatusOK, http.MethodGet, "/v2/"+repo+"/manifests/"+string(d))
				}
			}
		})
	}
}
