package main_test

import (
	"bytes"
	"fmt"
	"maps"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/regctl/regctl/client/oci"
	"github.com/regctl/regctl/client/oci/ocitest"
)

// world is what must be in a directory, whichever server runs on it.
type world struct {
	tags      map[string]map[string]oci.Digest // By repository and tag.
	manifests map[string]map[oci.Digest]bool   // By repository; false: it is deleted.
	blobs     map[string]map[oci.Digest]bool   // Only those that no manifest needs.
}

func newWorld() *world {
	return &world{
		tags: map[string]map[string]oci.Digest{}, manifests: map[string]map[oci.Digest]bool{}, blobs: map[string]map[oci.Digest]bool{},
	}
}

// check reads everything that should be there, and asks for what should not.
func (v *world) check(t *testing.T, s *server) {
	t.Helper()
	w := speak(s)
	wantNames(t, "repositories", w.list(t, "/v2/_catalog?n=100", "repositories"), slices.Sorted(maps.Keys(v.manifests))...)
	for repo, manifests := range v.manifests {
		wantNames(t, "tags of "+repo, w.tags(t, repo), slices.Sorted(maps.Keys(v.tags[repo]))...)
		for tag, d := range v.tags[repo] {
			if got := w.whole(t, repo, tag); got != d {
				t.Errorf("%s:%s is %s, want %s", repo, tag, got, d)
			}
		}
		for d, there := range manifests {
			if there {
				w.whole(t, repo, string(d))
			} else {
				w.must(t, http.StatusNotFound, http.MethodGet, "/v2/"+repo+"/manifests/"+string(d))
			}
		}
		for d, there := range v.blobs[repo] {
			status := http.StatusNotFound
			if there {
				status = http.StatusOK
			}
			w.must(t, status, http.MethodGet, "/v2/"+repo+"/blobs/"+string(d))
		}
	}
}

// put pushes content and writes down what is there now.
func (v *world) put(t *testing.T, s *server, content ocitest.Content) map[string]oci.Digest {
	t.Helper()
	digests := push(t, s, content)
	for repo, c := range content {
		for _, m := range []map[string]map[oci.Digest]bool{v.manifests, v.blobs} {
			if m[repo] == nil {
				m[repo] = map[oci.Digest]bool{}
			}
		}
		if v.tags[repo] == nil {
			v.tags[repo] = map[string]oci.Digest{}
		}
		for name := range c.Manifests {
			v.manifests[repo][digests[name]] = true
		}
		for tag, name := range c.Tags {
			v.tags[repo][tag] = digests[name]
		}
	}
	return digests
}

// retag puts the manifest that from names under tag.
func (v *world) retag(t *testing.T, s *server, repo, from, tag string) {
	t.Helper()
	raw := speak(s).must(t, http.StatusOK, http.MethodGet, "/v2/"+repo+"/manifests/"+from).body
	if _, err := speak(s).PutManifest(t.Context(), repo, oci.Put{Raw: raw, Tags: []string{tag}}); err != nil {
		t.Fatal(err)
	}
	v.tags[repo][tag] = digest.FromBytes(raw)
}

// remove deletes a manifest, and its tags with it.
func (v *world) remove(t *testing.T, s *server, repo string, d oci.Digest) {
	t.Helper()
	speak(s).must(t, http.StatusAccepted, http.MethodDelete, "/v2/"+repo+"/manifests/"+string(d))
	v.manifests[repo][d] = false
	maps.DeleteFunc(v.tags[repo], func(_ string, of oci.Digest) bool { return of == d })
}

// untag deletes a tag alone, which registry:2 cannot.
func (v *world) untag(t *testing.T, s *server, repo, tag string) {
	t.Helper()
	speak(s).must(t, http.StatusAccepted, http.MethodDelete, "/v2/"+repo+"/manifests/"+tag)
	delete(v.tags[repo], tag)
}

func (v *world) removeBlob(t *testing.T, s *server, repo string, d oci.Digest) {
	t.Helper()
	speak(s).must(t, http.StatusAccepted, http.MethodDelete, "/v2/"+repo+"/blobs/"+string(d))
	v.blobs[repo][d] = false
}

var bothRepos = []string{"team/app", "team/app/sub"}

// turn is what happens to two repositories, one within the other, while a
// server runs: pushes, tags that move, images that go. It says which image it
// pushed.
func (v *world) turn(t *testing.T, s *server, n int, before map[string]oci.Digest) map[string]oci.Digest {
	t.Helper()
	repo := ocitest.Repo{
		Blobs: ocitest.Blobs{"base": "in every image", "top": fmt.Sprintf("new in turn %d", n), "doomed": fmt.Sprintf("for one turn %d", n)},
		Manifests: ocitest.Manifests{
			"image": {Layers: "base top", Platform: "linux/amd64"},
			"other": {Layers: "top", Platform: "linux/arm64", MediaType: oci.MediaTypeDockerManifest},
			"short": {Layers: "base doomed", Platform: "linux/amd64"},
			"multi": {Manifests: "image other"},
			"list":  {Manifests: "image other", MediaType: oci.MediaTypeDockerList},
			"sbom":  {Subject: "multi", ArtifactType: "application/spdx+json", Layers: "top"},
		},
		Tags: ocitest.Tags{
			"latest": "image", fmt.Sprintf("v%d", n): "image", "multi": "multi",
			fmt.Sprintf("list-%d", n): "list", fmt.Sprintf("short-%d", n): "short",
		},
	}
	digests := v.put(t, s, ocitest.Content{bothRepos[0]: repo, bothRepos[1]: repo})
	for _, repo := range bothRepos {
		v.retag(t, s, repo, string(digests["other"]), "stable")
		if before == nil {
			continue
		}
		v.retag(t, s, repo, string(before["image"]), "previous")
		v.remove(t, s, repo, before["short"])
		v.removeBlob(t, s, repo, before["doomed"])
		v.remove(t, s, repo, before["list"])
	}
	return digests
}

// One directory goes from registry:2 to regctl and back, again and again. What
// each leaves the other finds, and nothing else.
func TestRoundTrip(t *testing.T) {
	t.Parallel()
	dir, v := t.TempDir(), newWorld()
	var last map[string]oci.Digest
	for n := range 6 {
		ours := n%2 == 1
		s := servers[map[bool]string{false: "docker-registry", true: "regctl"}[ours]](t, dir)
		if n > 0 {
			v.check(t, s)
		}
		last = v.turn(t, s, n, last)
		if ours {
			v.untag(t, s, bothRepos[0], fmt.Sprintf("v%d", n-1))
			wantReferrers(t, s, last)
			s.contented(t)
		}
		v.check(t, s)
		s.end(t)
		if n == 2 || n == 3 {
			v.collect(t, dir)
		}
		if t.Failed() {
			t.Fatalf("in turn %d", n)
		}
	}
	s := startDockerRegistry(t, dir)
	v.check(t, s)
}

// wantReferrers checks that referrers are listed, whoever took them in.
func wantReferrers(t *testing.T, s *server, digests map[string]oci.Digest) {
	t.Helper()
	for _, repo := range bothRepos {
		if got := speak(s).referrers(t, repo, digests["multi"]); !slices.Equal(got, []oci.Digest{digests["sbom"]}) {
			t.Errorf("referrers in %s: %v, want the sbom", repo, got)
		}
	}
}

// collect runs the garbage collector of registry:2, which nobody needs to fear.
func (v *world) collect(t *testing.T, dir string) {
	t.Helper()
	config := filepath.Join(t.TempDir(), "config.yml")
	write(t, config, fmt.Appendf(nil, "version: 0.1\nstorage: {filesystem: {rootdirectory: %q}}\n", dir))
	out, err := exec.Command(peer(t, "docker-registry"), "garbage-collect", config).CombinedOutput()
	if err != nil {
		t.Fatalf("garbage-collect: %v\n%s", err, out)
	}
	if !bytes.Contains(out, []byte("blob eligible for deletion")) {
		t.Errorf("garbage-collect found nothing to delete:\n%s", out)
	}
}

// What registry:2 leaves behind that is no image is understood or passed over,
// and what we leave it passes over.
func TestLeftoversOfTheOther(t *testing.T) {
	t.Parallel()
	dir, v := t.TempDir(), newWorld()
	repo := filepath.Join(dir, "docker/registry/v2/repositories/team/app")
	theirs := startDockerRegistry(t, dir)
	v.put(t, theirs, ocitest.Content{"team/app": {
		Blobs: ocitest.Blobs{"a": "layer"}, Manifests: ocitest.Manifests{"m": {Layers: "a"}}, Tags: ocitest.Tags{"one": "m", "two": "m"},
	}})
	begun := pushBegun(t, theirs, "begun at registry:2")
	data := []byte("addressed by sha512")
	long := digest.SHA512.FromBytes(data)
	pushUnder(t, theirs, data, long)
	theirs.end(t)
	for _, empty := range []string{"_manifests/tags/gone", "_manifests/tags/half/current", "_manifests/tags/half/index/sha256", "_uploads/empty"} {
		if err := os.MkdirAll(filepath.Join(repo, empty), 0o777); err != nil {
			t.Fatal(err)
		}
	}

	ours := startRegctl(t, dir)
	v.check(t, ours)
	w := speak(ours)
	for _, d := range []oci.Digest{long, digest.FromBytes(data)} { // It stores what it got under both.
		if got := w.must(t, http.StatusOK, http.MethodGet, "/v2/team/app/blobs/"+string(d)).body; !bytes.Equal(got, data) {
			t.Errorf("%s is %q", d, got)
		}
	}
	w.must(t, http.StatusNotFound, http.MethodGet, "/v2/team/app/blobs/uploads/"+begun) // Ours are kept elsewhere.
	mine := pushBegun(t, ours, "begun at regctl")
	own := []byte("by sha512 here")
	pushUnder(t, ours, own, digest.SHA512.FromBytes(own))
	v.retag(t, ours, "team/app", "one", "gone") // A push into what was left.
	v.check(t, ours)
	if err := ours.stop(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}

	if got := read(t, filepath.Join(repo, "_uploads", begun, "data")); got != "begun at registry:2" {
		t.Errorf("the upload to registry:2 holds %q now", got)
	}
	if err := os.RemoveAll(filepath.Join(repo, "_manifests/tags/half")); err != nil { // It lists every directory as a tag.
		t.Fatal(err)
	}
	theirs = startDockerRegistry(t, dir)
	v.check(t, theirs)
	if got := speak(theirs).must(t, http.StatusOK, http.MethodGet, "/v2/team/app/blobs/"+string(digest.SHA512.FromBytes(own))).body; !bytes.Equal(got, own) {
		t.Errorf("registry:2 answers %q for a sha512 of ours", got)
	}
	theirs.end(t)

	v.collect(t, dir) // Only the blob that no manifest names goes.
	ours = startRegctl(t, dir)
	v.check(t, ours)
	resume(t, ours, mine, "begun at regctl", ", ended there")
	ours.contented(t)
}

// pushBegun uploads some bytes, does not end it and returns its id.
func pushBegun(t *testing.T, s *server, data string) (id string) {
	t.Helper()
	at, err := speak(s).unfinished("team/app", []byte(data))
	if err != nil {
		t.Fatal(err)
	}
	id, _, _ = strings.Cut(at[strings.LastIndex(at, "/uploads/")+len("/uploads/"):], "?")
	return id
}

// resume ends an upload that was begun before another server ran.
func resume(t *testing.T, s *server, id, data, rest string) {
	t.Helper()
	w, at := speak(s), "/v2/team/app/blobs/uploads/"+id
	a := w.must(t, http.StatusNoContent, http.MethodGet, at)
	if want := fmt.Sprintf("0-%d", len(data)-1); a.header.Get("Range") != want {
		t.Errorf("the upload has range %s, want %s", a.header.Get("Range"), want)
	}
	d := digest.FromString(data + rest)
	if _, err := w.want(http.StatusCreated, http.MethodPut, withDigest(at, d), "application/octet-stream", []byte(rest)); err != nil {
		t.Fatal(err)
	}
	if got := w.must(t, http.StatusOK, http.MethodGet, "/v2/team/app/blobs/"+string(d)).body; string(got) != data+rest {
		t.Errorf("resumed to %q", got)
	}
}

// pushUnder pushes a blob under a digest of any algorithm.
func pushUnder(t *testing.T, s *server, data []byte, d oci.Digest) {
	t.Helper()
	at, err := speak(s).unfinished("team/app", data)
	if err == nil {
		_, err = speak(s).want(http.StatusCreated, http.MethodPut, withDigest(at, d), "", nil)
	}
	if err != nil {
		t.Fatal(err)
	}
}
