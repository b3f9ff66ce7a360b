package client_test

import (
	"bytes"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/regctl/regctl/client"
	"github.com/regctl/regctl/client/oci"
	"github.com/regctl/regctl/client/oci/ocitest"
)

// Servers that cannot delete a tag have many ways to say so.
func TestTagsThatCannotBeDeleted(t *testing.T) {
	const off = "storage.delete.enabled: true"
	for name, c := range map[string]struct {
		match  string
		status int
		body   string
		say    string
	}{
		"registry:2":             {"DELETE /v2/team/app/manifests/v1", 400, `{"errors":[{"code":"DIGEST_INVALID"}]}`, "without its manifest"},
		"Harbor":                 {"DELETE /v2/team/app/manifests/v1", 405, `{"errors":[{"code":"UNSUPPORTED"}]}`, "without its manifest"},
		"no route":               {"DELETE /v2/team/app/manifests/v1", 404, "404 page not found", "without its manifest"},
		"registry:2 deletes off": {"DELETE ", 405, `{"errors":[{"code":"UNSUPPORTED"}]}`, off},
		"GHCR":                   {"DELETE ", 405, "", off},
	} {
		g := worse(t, refusing(c.match, c.status, c.body))
		d := image(t, g, "v1")["image"]
		err := g.DeleteTag(t.Context(), repo, "v1", d)
		if !errors.Is(err, oci.Unsupported) || !strings.Contains(err.Error(), c.say) {
			t.Errorf("%s: error is %v", name, err)
		}
		if err := g.DeleteTag(t.Context(), repo, "v2", ""); !errors.Is(err, oci.ManifestUnknown) {
			t.Errorf("%s: error for a tag that is not there is %v", name, err)
		}
		if now, err := g.Resolve(t.Context(), repo, "v1"); err != nil || now.Digest != d {
			t.Errorf("%s: v1 is %v, %v", name, now, err)
		}
	}
	g := worse(t, refusing("DELETE ", 405, ""))
	for what, err := range map[string]error{
		"manifest": g.DeleteManifest(t.Context(), repo, image(t, g)["image"]),
		"blob":     g.DeleteBlob(t.Context(), repo, image(t, g)["layer"]),
	} {
		if !errors.Is(err, oci.Unsupported) || !strings.Contains(err.Error(), off) {
			t.Errorf("%s: error is %v", what, err)
		}
	}
	g.requests("")
	if err := g.DeleteRepo(t.Context(), repo); !errors.Is(err, oci.Unsupported) {
		t.Errorf("repository: error is %v", err)
	}
	if asked := g.requests("/v2/team/app"); len(asked) > 0 {
		t.Errorf("asked %v", asked)
	}
}

// A tag that moved is left alone, whoever decides.
func TestTagsThatMoved(t *testing.T) {
	for name, how := range map[string]func(http.ResponseWriter, *http.Request, http.Handler){"ours": nil, "foreign": foreign} {
		g := worse(t, how)
		d := image(t, g, "v1")["image"]
		if err := g.DeleteTag(t.Context(), repo, "v1", digest.FromString("else")); !errors.Is(err, oci.TagMoved) {
			t.Errorf("%s: error is %v", name, err)
		}
		for _, p := range []oci.Put{{Tags: []string{"v1"}, NoOverwrite: true}, {Tags: []string{"latest", "v1"}, Fixed: []string{"v1"}}} {
			p.Raw = []byte(`{"schemaVersion":2,"manifests":[]}`)
			if _, err := g.PutManifest(t.Context(), repo, p); !errors.Is(err, oci.TagExists) {
				t.Errorf("%s: %v: error is %v", name, p.Tags, err)
			}
			if _, err := g.Resolve(t.Context(), repo, "latest"); !errors.Is(err, oci.ManifestUnknown) {
				t.Errorf("%s: %v: latest: %v", name, p.Tags, err)
			}
		}
		if now, err := g.Resolve(t.Context(), repo, "v1"); err != nil || now.Digest != d {
			t.Errorf("%s: v1 is %v, %v", name, now, err)
		}
	}
}

// withoutReferrers is a registry from before the referrers API.
func withoutReferrers(w http.ResponseWriter, r *http.Request, next http.Handler) {
	if strings.Contains(r.URL.Path, "/referrers/") {
		http.NotFound(w, r)
		return
	}
	next.ServeHTTP(&edited{ResponseWriter: w, edit: func(h http.Header) {
		h.Del("OCI-Subject")
		h.Del("Regctl-Extensions")
	}}, r)
}

func TestReferrersAreKeptByHand(t *testing.T) {
	g := worse(t, withoutReferrers)
	digests := ocitest.Push(t, g, ocitest.Content{repo: {Manifests: ocitest.Manifests{
		"subject": {Platform: "linux/amd64"},
		"sbom":    {Subject: "subject", ArtifactType: "application/sbom", Annotations: map[string]string{"k": "v"}},
		"sig":     {Subject: "subject", ArtifactType: "application/sig"},
	}, Tags: ocitest.Tags{"v1": "subject"}}})
	list := func(artifactType string) (found []oci.Digest) {
		for d, err := range g.Referrers(t.Context(), repo, digests["subject"], artifactType) {
			if err != nil {
				t.Fatal(err)
			}
			if d.Digest == digests["sbom"] && (d.ArtifactType != "application/sbom" || d.Annotations["k"] != "v") {
				t.Errorf("listed as %+v", d)
			}
			found = append(found, d.Digest)
		}
		return found
	}
	if got := list(""); len(got) != 2 || !slices.IsSorted(got) {
		t.Errorf("referrers are %v", got)
	}
	if got := list("application/sig"); !slices.Equal(got, []oci.Digest{digests["sig"]}) {
		t.Errorf("signatures are %v", got)
	}
	tag := strings.Replace(string(digests["subject"]), ":", "-", 1)
	if _, err := g.Resolve(t.Context(), repo, tag); err != nil {
		t.Errorf("others do not find the list: %v", err)
	}
}

// Others do not lose what they write into the same list, as long as one process
// does it.
func TestReferrersAddedAtOnce(t *testing.T) {
	g := worse(t, withoutReferrers)
	subject := image(t, g, "v1")["image"]
	config := ocitest.PushBlob(t, g, repo, "{}")
	m, err := g.Manifest(t.Context(), repo, "v1")
	if err != nil {
		t.Fatal(err)
	}
	errs := make(chan error)
	const n = 8
	for i := range n {
		go func() {
			raw := fmt.Sprintf(`{"schemaVersion":2,"mediaType":%q,"artifactType":"a/%d","config":{"mediaType":"a/b","digest":%q,"size":2},"layers":[],"subject":{"mediaType":%q,"digest":%q,"size":%d}}`,
				oci.MediaTypeManifest, i, config.Digest, oci.MediaTypeManifest, subject, len(m.Raw))
			_, err := g.PutManifest(t.Context(), repo, oci.Put{Raw: []byte(raw)})
			errs <- err
		}()
	}
	for range n {
		if err := <-errs; err != nil {
			t.Error(err)
		}
	}
	found := 0
	for _, err := range g.Referrers(t.Context(), repo, subject, "") {
		if err != nil {
			t.Fatal(err)
		}
		found++
	}
	if found != n {
		t.Errorf("%d referrers, want %d", found, n)
	}
}

func TestReferrersByPagesAndWithoutFilter(t *testing.T) {
	d := digest.FromString("subject")
	one, two := digest.FromString("1"), digest.FromString("2")
	page := func(of oci.Digest, artifactType string) string {
		return fmt.Sprintf(`{"schemaVersion":2,"manifests":[{"mediaType":"x","digest":%q,"size":1,"artifactType":%q}]}`, of, artifactType)
	}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case r.URL.Path == "/v2/":
		case r.URL.Query().Get("page") == "2":
			fmt.Fprint(w, page(two, "b"))
		case strings.HasSuffix(r.URL.Path, string(d)):
			w.Header().Set("Link", "<"+r.URL.Path+`?page=2>; rel="next"`)
			fmt.Fprint(w, page(one, "a"))
		default:
			fmt.Fprint(w, `{"manifests":null}`)
		}
	}))
	t.Cleanup(server.Close)
	c, err := client.New(server.Listener.Addr().String(), client.Options{})
	if err != nil {
		t.Fatal(err)
	}
	for artifactType, want := range map[string]int{"": 2, "a": 1, "b": 1, "c": 0} {
		n := 0
		for _, err := range c.Referrers(t.Context(), repo, d, artifactType) {
			if err != nil {
				t.Fatal(err)
			}
			n++
		}
		if n != want {
			t.Errorf("%d referrers of type %q, want %d", n, artifactType, want)
		}
	}
	for d, err := range c.Referrers(t.Context(), repo, one, "") {
		t.Errorf("null lists %v, %v", d, err)
	}
}

// An authentic tags/list, tag by tag.
func TestTagDetailsOfOthers(t *testing.T) {
	gone := ""
	g := worse(t, func(w http.ResponseWriter, r *http.Request, next http.Handler) {
		if gone != "" && strings.HasSuffix(r.URL.Path, "/manifests/"+gone) {
			http.NotFound(w, r)
			return
		}
		foreign(w, r, next)
	})
	digests := ocitest.Push(t, g, ocitest.Content{repo: {
		Blobs: ocitest.Blobs{"base": "shared", "app": "one"},
		Manifests: ocitest.Manifests{
			"amd64": {Layers: "base app", Platform: "linux/amd64", Created: "2020-01-01T00:00:00Z"},
			"arm64": {Layers: "base", Platform: "linux/arm64/v8", Created: "2021-01-01T00:00:00Z"},
			"proof": {Layers: "base", Platform: "unknown/unknown"},
			"multi": {Manifests: "amd64 arm64 proof"},
			"dated": {Manifests: "proof", Annotations: map[string]string{"org.opencontainers.image.created": "2022-01-01T00:00:00Z"}},
		},
		Tags: ocitest.Tags{"latest": "multi", "v1": "multi", "dated": "dated", "amd64": "amd64", "zz": "amd64"},
	}})
	g.requests("")
	gone = "zz"
	details := map[string]oci.TagDetail{}
	var order []string
	for d, err := range g.TagDetails(t.Context(), repo, "") {
		if err != nil {
			t.Fatal(err)
		}
		details[d.Tag], order = d, append(order, d.Tag)
	}
	if !slices.Equal(order, []string{"amd64", "dated", "latest", "v1", "zz"}) {
		t.Errorf("order is %v", order)
	}
	latest := details["latest"]
	if latest.Manifest.Digest != digests["multi"] || latest.Created.Format(time.DateOnly) != "2021-01-01" || len(latest.Platforms) != 2 || latest.Platforms[1].Variant != "v8" {
		t.Errorf("latest is %+v", latest)
	}
	if v1 := details["v1"]; v1.Size != latest.Size || v1.Size == 0 {
		t.Errorf("sizes are %d and %d", v1.Size, latest.Size)
	}
	if got := details["dated"].Created.Format(time.DateOnly); got != "2022-01-01" {
		t.Errorf("dated is of %s", got)
	}
	if z := details["zz"]; z.Manifest.Digest != "" || z.Tag != "zz" {
		t.Errorf("a tag that is gone is %+v", z)
	}
}

func TestTagDetailsEndWithAnError(t *testing.T) {
	g := worse(t, refusing("HEAD /v2/team/app/manifests/v2", http.StatusInternalServerError, ""))
	image(t, g, "v1", "v2", "v3")
	var got []string
	var last error
	for d, err := range g.TagDetails(t.Context(), repo, "") {
		if last = err; err == nil {
			got = append(got, d.Tag)
		}
	}
	if !slices.Equal(got, []string{"v1"}) || last == nil {
		t.Errorf("got %v, %v", got, last)
	}
	for range g.TagDetails(t.Context(), repo, "") {
		break // Nobody is left waiting: the race detector and the next test see.
	}
}

func TestNightlyRunsAreHeads(t *testing.T) {
	dir := t.TempDir()
	h := ours(t)
	first := dial(t, foreignly(h, nil), client.Options{Cache: client.NewDirCache(dir, 1<<20, nil)})
	d := image(t, first, "v1", "v2", "v3")["image"]
	run := func(asked *[]string) oci.TagDetail {
		var last oci.TagDetail
		c := dial(t, foreignly(h, asked), client.Options{Cache: client.NewDirCache(dir, 1<<20, nil)})
		for detail, err := range c.TagDetails(t.Context(), repo, "") {
			if err != nil {
				t.Fatal(err)
			}
			last = detail
		}
		if m, err := c.Manifest(t.Context(), repo, string(d)); err != nil || m.Descriptor.Digest != d {
			t.Error(err)
		}
		return last
	}
	var asked, again []string
	if one, two := run(&asked), run(&again); one.Created != two.Created || one.Created.IsZero() {
		t.Errorf("created %v, then %v", one.Created, two.Created)
	}
	slices.Sort(again)
	if want := []string{"GET /v2/team/app/tags/list", "HEAD /v2/team/app/manifests/v1", "HEAD /v2/team/app/manifests/v2", "HEAD /v2/team/app/manifests/v3"}; !slices.Equal(again, want) {
		t.Errorf("asked %q", again)
	}
	if err := first.DeleteManifest(t.Context(), repo, d); err != nil {
		t.Fatal(err)
	}
	c := dial(t, foreignly(h, nil), client.Options{Cache: client.NewDirCache(dir, 1<<20, nil)})
	if _, err := c.Manifest(t.Context(), repo, string(d)); !errors.Is(err, oci.ManifestUnknown) {
		t.Errorf("what is only in the cache is answered: %v", err)
	}
}

// foreignly serves h as if it were not ours, one request after the other.
func foreignly(h http.Handler, asked *[]string) http.Handler {
	turn := make(chan struct{}, 1)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		turn <- struct{}{}
		defer func() { <-turn }()
		if asked != nil && r.URL.Path != "/v2/" {
			*asked = append(*asked, r.Method+" "+r.URL.Path)
		}
		foreign(w, r, h)
	})
}

func TestDirCache(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "cache")
	now := time.Now()
	c := client.NewDirCache(dir, 1000, func() time.Time { return now })
	put := func(s string) oci.Digest {
		c.Put(digest.FromString(s), []byte(s))
		return digest.FromString(s)
	}
	d := put("content")
	c.Put(digest.FromString("else"), []byte("lie"))
	if _, ok := c.Get(digest.FromString("else")); ok {
		t.Error("keeps what is not what it is called")
	}
	if got, ok := c.Get(d); !ok || string(got) != "content" {
		t.Errorf("got %q, %v", got, ok)
	}
	path := filepath.Join(dir, "sha256", d.Encoded()[:2], d.Encoded())
	if err := os.WriteFile(path, []byte("damaged"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, ok := c.Get(d); ok {
		t.Error("gives what is damaged")
	}
	d = put("content")
	if err := os.Chtimes(path, now.Add(-time.Hour), now.Add(-time.Hour)); err != nil {
		t.Fatal(err)
	}
	for i := range 20 {
		put(fmt.Sprint(i) + strings.Repeat("x", 90))
	}
	if _, ok := c.Get(d); ok {
		t.Error("keeps what is oldest")
	}
	var size int64
	_ = filepath.Walk(dir, func(_ string, info os.FileInfo, err error) error {
		if err == nil && info.Mode().IsRegular() {
			size += info.Size()
		}
		return nil
	})
	if size > 1000 || size < 500 {
		t.Errorf("%d bytes are kept of 1000", size)
	}
	for _, bad := range []oci.Digest{"", "x", "sha256:../../x"} {
		c.Put(bad, nil)
		if _, ok := c.Get(bad); ok {
			t.Errorf("has %q", bad)
		}
	}
	if err := os.WriteFile(dir+".file", nil, 0o600); err != nil {
		t.Fatal(err)
	}
	broken := client.NewDirCache(filepath.Join(dir+".file", "no directory"), 1000, nil)
	broken.Put(d, []byte("content")) // Costs nothing.
	if got, ok := broken.Get(d); ok || !bytes.Equal(got, nil) {
		t.Errorf("got %q", got)
	}
}
