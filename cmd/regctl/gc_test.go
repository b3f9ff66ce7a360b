//go:build unix

package main_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/regctl/regctl/client/oci"
	"github.com/regctl/regctl/client/oci/ocitest"
	"github.com/regctl/regctl/gc"
)

// collection is what a run of gc says it did.
type collection struct {
	DryRun  bool
	Server  *struct{ PID int }
	Before  gc.Count
	Freed   int64
	Removed map[gc.Kind]gc.Count
	Kept    map[gc.Reason]gc.Count
	Frozen  []gc.Frozen
	Doubts  []string
	Failed  []gc.Failure
}

// collect runs gc on a store; all must go well.
func collect(tb testing.TB, dir string, args ...string) collection {
	tb.Helper()
	return parseCollection(tb, newRegctl(tb).run(tb, append([]string{"gc", "--data", dir, "-o", "json"}, args...)...))
}

func parseCollection(tb testing.TB, out string) collection {
	tb.Helper()
	var c collection
	if err := json.Unmarshal([]byte(out), &c); err != nil {
		tb.Fatalf("%v: %s", err, out)
	}
	if len(c.Frozen)+len(c.Doubts)+len(c.Failed) > 0 {
		tb.Errorf("frozen %v, doubts %v, failed %v", c.Frozen, c.Doubts, c.Failed)
	}
	return c
}

// usage is what files and directories below dir take: blocks of 512 bytes and
// names.
type usage struct {
	blocks, names int64
}

func du(tb testing.TB, dir string) usage {
	tb.Helper()
	var u usage
	err := filepath.WalkDir(filepath.Join(dir, storeRoot), func(_ string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		u.names++
		if st, ok := info.Sys().(*syscall.Stat_t); ok && d.Type().IsRegular() {
			u.blocks += st.Blocks
		}
		return nil
	})
	if err != nil {
		tb.Fatal(err)
	}
	return u
}

func sum(data map[oci.Digest]int64) (bytes int64) {
	for _, size := range data {
		bytes += size
	}
	return bytes
}

// reach adds to found the digests of all that ref leads to.
func (w wire) reach(tb testing.TB, repo, ref string, found map[oci.Digest]bool) {
	tb.Helper()
	a := w.must(tb, http.StatusOK, http.MethodGet, "/v2/"+repo+"/manifests/"+ref)
	g, err := oci.ParseManifest(a.header.Get("Content-Type"), a.body)
	if err != nil {
		tb.Fatal(err)
	}
	found[digest.FromBytes(a.body)] = true
	for _, b := range g.Blobs() {
		found[b.Digest] = true
	}
	for _, m := range g.Manifests {
		w.reach(tb, repo, string(m.Digest), found)
	}
}

// wantWhole reads the disk: a manifest that is there has all that it names,
// with its bytes. What gc goes from top to bottom holds at any time.
func wantWhole(tb testing.TB, dir string) {
	tb.Helper()
	root := filepath.Join(dir, storeRoot)
	data := dataOf(tb, dir)
	var wrong problems
	err := filepath.WalkDir(filepath.Join(root, "repositories"), func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.Name() != "link" || strings.Contains(path, "/index/") {
			return err
		}
		raw, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		is := oci.Digest(raw)
		repo, below, _ := strings.Cut(strings.TrimPrefix(path, filepath.Join(root, "repositories")+"/"), "/_")
		if _, ok := data[is]; !ok {
			wrong.add("%s: no data of %s", path, is)
			return nil
		}
		if strings.HasPrefix(below, "layers/") {
			return nil
		}
		if raw, err = os.ReadFile(filepath.Join(root, "blobs/sha256", is.Encoded()[:2], is.Encoded(), "data")); err != nil {
			return err
		}
		g, err := oci.ParseManifest(oci.MediaTypeOf(raw), raw)
		if err != nil || digest.FromBytes(raw) != is {
			return fmt.Errorf("%s: %w, its bytes are %s", path, err, digest.FromBytes(raw))
		}
		named := []string{linkOf(repo, "_manifests/revisions", is)}
		for _, b := range g.Blobs() {
			named = append(named, linkOf(repo, "_layers", b.Digest))
		}
		for _, m := range g.Manifests {
			named = append(named, linkOf(repo, "_manifests/revisions", m.Digest))
		}
		for _, name := range named {
			if _, err := os.Lstat(filepath.Join(root, name)); err != nil {
				wrong.add("%s needs: %v", path, err)
			}
		}
		return nil
	})
	if err != nil {
		tb.Error(err)
	}
	wrong.tell(tb)
}

// theirConfig is a config file of registry:2 for a store.
func theirConfig(tb testing.TB, dir string) string {
	tb.Helper()
	cmd, _ := dockerRegistryCommand(tb, dir)
	return cmd.Args[len(cmd.Args)-1]
}

var eligible = regexp.MustCompile(`(\d+) blobs marked, (\d+) blobs and (\d+) manifests eligible for deletion`)

// theirCollect runs the collector of registry:2 and tells how many blobs and
// manifests it found.
func theirCollect(tb testing.TB, dir string, args ...string) (blobs, manifests int) {
	tb.Helper()
	config := theirConfig(tb, dir)
	p := tool{path: peer(tb, "docker-registry"), env: []string{"PATH=" + os.Getenv("PATH")}}
	out := p.run(tb, append(append([]string{"garbage-collect"}, args...), config)...)
	m := eligible.FindStringSubmatch(out)
	if m == nil {
		tb.Fatalf("docker-registry says nothing of what it found:\n%s", out)
	}
	blobs, _ = strconv.Atoi(m[2])
	manifests, _ = strconv.Atoi(m[3])
	return blobs, manifests
}

// tagged is repositories of n images each that share layers, with dates.
func tagged(n int) ocitest.Content {
	content := ocitest.Content{}
	for _, name := range []string{"team/app", "team/app/sub", "other"} {
		repo := ocitest.Repo{Blobs: ocitest.Blobs{"base": string(random(1, 50_000))}, Manifests: ocitest.Manifests{}, Tags: ocitest.Tags{}}
		for i := range n {
			m := fmt.Sprintf("%s%02d", strings.ReplaceAll(name, "/", ""), i)
			repo.Blobs["layer"+m] = string(random(seed(m), 2000+1000*i))
			repo.Manifests[m] = ocitest.Manifest{
				Layers: "base layer" + m, Created: time.Date(2024, 1, i+1, 0, 0, 0, 0, time.UTC).Format(time.RFC3339),
			}
			repo.Tags[fmt.Sprintf("1.%02d", i)] = m
		}
		content[name] = repo
	}
	return content
}

// prunedData is what goes with the four oldest images of three repositories:
// layers, manifests, and the configs that they share.
const prunedData = 3*4*2 + 4

// TestPruneThenCollect: the disk shrinks by what the plan said, on a day-old
// store of either server, and what is left is all that is needed.
func TestPruneThenCollect(t *testing.T) {
	t.Parallel()
	for name, start := range servers {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			peer(t, "docker-registry")
			dir := t.TempDir()
			s := start(t, dir)
			push(t, s, tagged(14))
			s.end(t)
			aDayOld(t, dir)

			s = start(t, dir)
			newRegctl(t).run(t, "prune", "-keep", "10", "-q", s.addr)
			s.end(t)
			before, had := du(t, dir), dataOf(t, dir)
			planned := collect(t, dir, "--undo", "0", "--dry-run")
			if !maps.Equal(dataOf(t, dir), had) {
				t.Fatal("a dry run removed data")
			}
			did := collect(t, dir, "--undo", "0")
			after, left := du(t, dir), dataOf(t, dir)

			planned.DryRun = false
			if !reflect.DeepEqual(planned, did) {
				t.Errorf("planned %+v\ndid     %+v", planned, did)
			}
			data := did.Removed[gc.KindData]
			if freed := sum(had) - sum(left); freed != data.Bytes || len(had)-len(left) != data.N || data.N != prunedData {
				t.Errorf("%d data of %d bytes are gone, gc tells of %+v", len(had)-len(left), freed, data)
			}
			if did.Before != (gc.Count{N: len(had), Bytes: sum(had)}) {
				t.Errorf("before: %+v, want %d data of %d bytes", did.Before, len(had), sum(had))
			}
			if freed := (before.blocks - after.blocks) * 512; freed < did.Freed {
				t.Errorf("the disk has shrunk by %d bytes, gc says %d", freed, did.Freed)
			}
			if before.names-after.names < int64(3*data.N) { // Data, its directory, its link.
				t.Errorf("%d names of %d are gone", before.names-after.names, before.names)
			}
			wantKeepsTen(t, startDockerRegistry(t, dir), left)
			if blobs, manifests := theirCollect(t, dir, "--dry-run", "-m"); blobs+manifests > 0 {
				t.Errorf("docker-registry finds %d blobs and %d manifests more", blobs, manifests)
			}
			if again := collect(t, dir, "--undo", "0", "--untagged", "--older", "0"); again.Freed != 0 || again.Removed[gc.KindManifest].N != 0 {
				t.Errorf("a second run removes %+v", again.Removed)
			}
		})
	}
}

// wantKeepsTen wants the ten newest tags of each repository, whole, and no
// other data than what they need.
func wantKeepsTen(t *testing.T, s *server, left map[oci.Digest]int64) {
	t.Helper()
	w, needed := speak(s), map[oci.Digest]bool{}
	for repo := range tagged(0) {
		tags := w.tags(t, repo)
		if len(tags) != 10 || tags[0] != "1.04" {
			t.Errorf("%s has %q", repo, tags)
		}
		for _, tag := range tags {
			w.whole(t, repo, tag)
			w.reach(t, repo, tag, needed)
		}
	}
	for d := range needed {
		if _, ok := left[d]; !ok {
			t.Errorf("%s is missing", d)
		}
	}
	for d := range left {
		if !needed[d] {
			t.Errorf("%s is there, and nothing needs it", d)
		}
	}
}

var collectShape = shape{repos: 4, images: 12, tags: 30, garbage: 0.3, orphans: 5, seed: 7}

// TestCollectAfterTheirs: what docker-registry has collected holds no more data
// to collect for us, and still serves all.
func TestCollectAfterTheirs(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	g := generate(t, dir, collectShape)
	n, _ := g.garbage()
	if blobs, _ := theirCollect(t, dir, "-m"); blobs != n {
		t.Fatalf("docker-registry collected %d of %d", blobs, n)
	}
	left := dataOf(t, dir)
	c := collect(t, dir, "--untagged", "--undo", "0", "--offline")
	if c.Removed[gc.KindData].N != 0 || !maps.Equal(dataOf(t, dir), left) {
		t.Errorf("removed %+v", c.Removed)
	}
	g.wantCollected(t, dir) // With the links that docker-registry leaves.
	wantWhole(t, dir)
	for _, start := range servers {
		s := start(t, dir)
		g.wantServed(t, s, 1)
		s.end(t)
	}
}

// TestTheirsAfterCollect: after us docker-registry has nothing to collect, and
// loses nothing.
func TestTheirsAfterCollect(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	g := generate(t, dir, collectShape)
	n, bytes := g.garbage()
	if c := collect(t, dir, "--untagged", "--undo", "0"); c.Removed[gc.KindData] != (gc.Count{N: n, Bytes: bytes}) || c.Server != nil {
		t.Errorf("removed %+v, want %d data of %d bytes", c.Removed, n, bytes)
	}
	g.wantCollected(t, dir)
	wantWhole(t, dir)
	if blobs, manifests := theirCollect(t, dir, "-m"); blobs+manifests > 0 {
		t.Errorf("docker-registry finds %d blobs and %d manifests more", blobs, manifests)
	}
	g.wantCollected(t, dir)
	g.wantServed(t, startDockerRegistry(t, dir), 1)
}

// TestUntaggedStay, but for what nothing links, unless it is said; indexes keep
// their children.
func TestUntaggedStay(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	g := generate(t, dir, shape{repos: 3, images: 12, garbage: 0.3, indexes: 3, orphans: 5, seed: 3})
	if c := collect(t, dir); c.Removed[gc.KindData].N != g.unlinked() || c.Removed[gc.KindManifest].N != 0 || c.Kept[gc.KeptUntagged].N == 0 {
		t.Errorf("removed %+v, kept %+v", c.Removed, c.Kept)
	}
	s := startRegctl(t, dir)
	g.wantServed(t, s, 1)
	for repo, digests := range g.untagged {
		for _, d := range digests {
			speak(s).whole(t, repo, string(d))
		}
	}
	s.end(t)
	collect(t, dir, "--untagged")
	g.wantCollected(t, dir)
	wantWhole(t, dir)
	g.wantServed(t, startRegctl(t, dir), 1)
}

// TestCollectAsksTheServer that has the store; what it began with counts as
// young until it has run for an hour.
func TestCollectAsksTheServer(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	g := generate(t, dir, shape{repos: 4, images: 12, garbage: 0.3, indexes: 4, orphans: 5, seed: 4})
	n, bytes := g.garbage()
	s := startRegctl(t, dir)
	c := collect(t, dir, "--untagged")
	if c.Server == nil || c.Server.PID != s.proc.Pid {
		t.Fatalf("asked %+v, the server is %d", c.Server, s.proc.Pid)
	}
	if c.Removed[gc.KindData].N != 0 || c.Kept[gc.KeptYoung].N != n {
		t.Errorf("a young server removed %+v, kept %+v", c.Removed, c.Kept)
	}
	if c = collect(t, dir, "--untagged", "--older", "0"); c.Removed[gc.KindData] != (gc.Count{N: n, Bytes: bytes}) {
		t.Errorf("removed %+v, want %d data of %d bytes", c.Removed, n, bytes)
	}
	g.wantCollected(t, dir)
	wantWhole(t, dir)
	g.wantServed(t, s, 1)
	if _, err := speak(s).image("team0/app000", random(5, 5000), "new"); err != nil {
		t.Error(err)
	}
	s.contented(t)
	s.end(t)
	if c = collect(t, dir); c.Server != nil {
		t.Errorf("asked %+v, but no server runs", c.Server)
	}
	s = startRegctl(t, dir)
	g.wantServed(t, s, 1)
	speak(s).whole(t, "team0/app000", "new")
}

// TestPruneThenCollectOnline: one after the other against a server that runs,
// with nothing of what was pushed a day ago in the way.
func TestPruneThenCollectOnline(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := startRegctl(t, dir)
	push(t, s, tagged(14))
	s.end(t)
	aDayOld(t, dir)
	s = startRegctl(t, dir)
	p := newRegctl(t)
	p.run(t, "prune", "-keep", "10", "--by", "name", "-q", s.addr)
	if c := collect(t, dir, "--older", "0"); c.Removed[gc.KindData].N != 0 || c.Kept[gc.KeptUndo].N != prunedData {
		t.Errorf("within --undo: removed %+v, kept %+v", c.Removed, c.Kept)
	}
	p.run(t, "undo", "-q")
	w := speak(s)
	for repo := range tagged(0) {
		if got := w.wholeTags(t, repo); len(got) != 14 {
			t.Errorf("undone, %s has %d tags", repo, len(got))
		}
	}
	p.run(t, "prune", "-keep", "10", "--by", "name", "-q", s.addr)
	if c := collect(t, dir, "--older", "0", "--undo", "0"); c.Removed[gc.KindData].N != prunedData {
		t.Errorf("removed %+v, kept %+v", c.Removed, c.Kept)
	}
	wantWhole(t, dir)
	wantKeepsTen(t, s, dataOf(t, dir))
	s.contented(t)
}

// TestCollectBesideRegistry2: a registry:2 takes no lock. What it wrote lately
// tells that it may be there.
func TestCollectBesideRegistry2(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := startDockerRegistry(t, dir)
	digests := push(t, s, ocitest.Content{"app": tagged(3)["other"]})
	speak(s).must(t, http.StatusAccepted, http.MethodDelete, "/v2/app/manifests/"+string(digests["other00"]))
	had := dataOf(t, dir)
	out, err := newRegctl(t).try(t, "gc", "--data", dir, "--older", "0")
	var exit *exec.ExitError
	if !errors.As(err, &exit) || exit.ExitCode() != 9 || !strings.Contains(out, "--offline") {
		t.Errorf("%v\n%s", err, out)
	}
	if !maps.Equal(dataOf(t, dir), had) {
		t.Error("data was removed")
	}
	s.end(t)
	if c := collect(t, dir, "--older", "0", "--offline"); c.Removed[gc.KindData].N != 3 {
		t.Errorf("removed %+v", c.Removed)
	}
	wantWhole(t, dir)
	if got := speak(startDockerRegistry(t, dir)).wholeTags(t, "app"); !slices.Equal(slices.Sorted(maps.Keys(got)), []string{"1.01", "1.02"}) {
		t.Errorf("left: %v", got)
	}
}
