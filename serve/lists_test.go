package serve

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/regctl/regctl/client/oci"
	"github.com/regctl/regctl/client/oci/ocitest"
)

func TestTags(t *testing.T) {
	t.Parallel()
	s := newServer(t, nil, Options{MaxTags: 2})
	tests := []struct {
		query  string
		status int
		body   string
		link   string
	}{
		{"", 200, `{"name":"app","tags":["latest","v1","v2"]}`, ""},
		{"?n=", 200, `{"name":"app","tags":["latest","v1","v2"]}`, ""},
		{"?last=latest", 200, `{"name":"app","tags":["v1","v2"]}`, ""},
		{"?last=m", 200, `{"name":"app","tags":["v1","v2"]}`, ""},
		{"?last=z", 200, `{"name":"app","tags":[]}`, ""},
		{"?n=0", 200, `{"name":"app","tags":[]}`, ""},
		{"?n=1", 200, `{"name":"app","tags":["latest"]}`, `</v2/app/tags/list?last=latest&n=1>; rel="next"`},
		{"?n=1&last=v1", 200, `{"name":"app","tags":["v2"]}`, ""},
		{"?n=2", 200, `{"name":"app","tags":["latest","v1"]}`, `</v2/app/tags/list?last=v1&n=2>; rel="next"`},
		{"?n=2&last=latest", 200, `{"name":"app","tags":["v1","v2"]}`, ""},
		{"?n=3", 200, `{"name":"app","tags":["latest","v1"]}`, `</v2/app/tags/list?last=v1&n=2>; rel="next"`},
		{"?n=99999999999999999999999", 200, `{"name":"app","tags":["latest","v1"]}`, `</v2/app/tags/list?last=v1&n=2>; rel="next"`},
		{"?n=x", 400, "", ""},
		{"?n=-1", 400, "", ""},
		{"?n=1.5", 400, "", ""},
		{"?last=%00", 200, `{"name":"app","tags":["latest","v1","v2"]}`, "-"},
		{"?last=not%20a%20tag", 200, `{"name":"app","tags":["v1","v2"]}`, "-"},
	}
	for _, tt := range tests {
		a := s.do("GET", "/v2/app/tags/list"+tt.query, "")
		s.want(tt.query, a, tt.status, "Content-Type", "application/json", "Link", tt.link)
		if tt.body != "" && strings.TrimSpace(a.body) != tt.body {
			t.Errorf("%s: %s, want %s", tt.query, a.body, tt.body)
		}
		if strings.HasPrefix(tt.query, "?n=") && tt.status == 400 && a.code() != oci.PaginationInvalid {
			t.Errorf("%s: code %s", tt.query, a.code())
		}
	}
	for _, query := range []string{"", "?n=0", "?n=1"} {
		a := s.do("GET", "/v2/none/tags/list"+query, "")
		s.want("unknown repository", a, 404)
		if a.code() != oci.NameUnknown {
			t.Errorf("code %s", a.code())
		}
	}
	s.want("HEAD", s.do("HEAD", "/v2/app/tags/list", ""), 200, "Content-Type", "application/json")
}

func TestCatalog(t *testing.T) {
	t.Parallel()
	s := newServer(t, ocitest.NewRegistry(), Options{})
	if a := s.do("GET", "/v2/_catalog", ""); strings.TrimSpace(a.body) != `{"repositories":[]}` {
		t.Errorf("empty: %d %s", a.status, a.body)
	}
	raw := `{"schemaVersion":2,"mediaType":"` + oci.MediaTypeIndex + `","manifests":[]}`
	for i := range 101 {
		ocitest.PushManifest(t, s.reg, fmt.Sprintf("r%03d/x", i), raw)
	}
	names := func(a answer) []string {
		var list struct{ Repositories []string }
		if err := json.Unmarshal([]byte(a.body), &list); err != nil {
			t.Fatal(err)
		}
		return list.Repositories
	}
	a := s.do("GET", "/v2/_catalog", "")
	s.want("default page", a, 200, "Link", `</v2/_catalog?last=r099%2Fx&n=100>; rel="next"`)
	if got := names(a); len(got) != 100 || got[0] != "r000/x" {
		t.Errorf("%v", got)
	}
	a = s.do("GET", "/v2/_catalog?last=r099%2Fx&n=100", "")
	s.want("last page", a, 200, "Link", "-")
	if got := names(a); len(got) != 1 || got[0] != "r100/x" {
		t.Errorf("%v", got)
	}
	s.want("all", s.do("GET", "/v2/_catalog?n=1000", ""), 200, "Link", "-")
	s.want("none", s.do("GET", "/v2/_catalog?n=0", ""), 200, "Link", "-")
	for _, query := range []string{"n=1001", "n=-1", "n=2147483648", "n=99999999999999999999", "n=x"} {
		a := s.do("GET", "/v2/_catalog?"+query, "")
		s.want(query, a, 400)
		if a.code() != oci.PaginationInvalid {
			t.Errorf("%s: code %s", query, a.code())
		}
	}
	a = s.do("GET", "/v2/_catalog?n=1&last=../x", "")
	s.want("last that is no name", a, 200)
	if got := names(a); len(got) != 1 || got[0] != "r000/x" {
		t.Errorf("after ../x: %v", got)
	}
}

// endless is a registry with as many tags as asked for, and what goes wrong
// after them.
type endless struct {
	oci.Registry
	n   int
	err error
}

func (e endless) Tags(context.Context, string, string) iter.Seq2[string, error] {
	return func(yield func(string, error) bool) {
		for i := range e.n {
			if !yield(fmt.Sprintf("tag-%08d", i), nil) {
				return
			}
		}
		if e.err != nil {
			yield("", e.err)
		}
	}
}

func TestTagsWholeAndLarge(t *testing.T) {
	t.Parallel()
	s := newServer(t, endless{n: 100_000}, Options{})
	a := s.do("GET", "/v2/app/tags/list", "")
	s.want("all", a, 200, "Link", "-")
	var list struct{ Tags []string }
	if err := json.Unmarshal([]byte(a.body), &list); err != nil || len(list.Tags) != 100_000 || list.Tags[99_999] != "tag-00099999" {
		t.Errorf("%d tags, %v", len(list.Tags), err)
	}
}

func TestListThatBreaksOffIsCut(t *testing.T) {
	t.Parallel()
	s := newServer(t, endless{n: 100_000, err: errors.New("disk on fire")}, Options{})
	c := dial(t, s.addr)
	fmt.Fprintf(c, "GET /v2/app/tags/list HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
	var all strings.Builder
	_, _ = c.WriteTo(&all)
	if body := all.String(); !strings.Contains(body, "tag-00000001") || strings.HasSuffix(body, "\r\n0\r\n\r\n") {
		t.Errorf("the answer ends as if it were whole: …%q", body[max(0, len(body)-40):])
	}
	small := newServer(t, endless{n: 3, err: errors.New("disk on fire")}, Options{})
	small.want("nothing is out yet", small.do("GET", "/v2/app/tags/list", ""), 500)
}

func TestTagDetails(t *testing.T) {
	t.Parallel()
	s := newServer(t, nil, Options{})
	get := func(query string) (answer, detailsJSON) {
		a := s.do("GET", "/v2/app/_regctl/tags"+query, "")
		var page detailsJSON
		if err := json.Unmarshal([]byte(a.body), &page); err != nil {
			t.Fatalf("%s: %v", a.body, err)
		}
		return a, page
	}
	a, page := get("")
	s.want("all", a, 200, "Link", "-", "Content-Type", "application/json")
	if page.Schema != "regctl.tags/v1" || page.Name != "app" || len(page.Tags) != 3 {
		t.Fatalf("%+v", page)
	}
	v1 := page.Tags[1]
	created := time.Date(2024, 5, 6, 7, 8, 9, 0, time.UTC)
	if v1.Tag != "v1" || v1.Digest != s.digests["one"] || v1.MediaType != oci.MediaTypeManifest || v1.ManifestSize == 0 ||
		v1.Size <= v1.ManifestSize || !v1.Created.Equal(created) || len(v1.Platforms) != 1 || v1.Platforms[0].Architecture != "amd64" {
		t.Errorf("%+v", v1)
	}
	if !strings.Contains(a.body, `"created":"2024-05-06T07:08:09Z"`) || strings.Contains(a.body, "null") || strings.Contains(a.body, "0001-") {
		t.Errorf("%s", a.body)
	}
	a, page = get("?n=1&last=latest")
	s.want("a page", a, 200, "Link", `</v2/app/_regctl/tags?last=v1&n=1>; rel="next"`)
	if len(page.Tags) != 1 || page.Tags[0].Tag != "v1" {
		t.Errorf("%+v", page)
	}
	a, page = get("?n=0")
	if s.want("nothing", a, 200, "Link", "-"); page.Tags == nil || len(page.Tags) != 0 {
		t.Errorf("%s", a.body)
	}
	s.want("n", s.do("GET", "/v2/app/_regctl/tags?n=x", ""), 400)
	s.want("unknown", s.do("GET", "/v2/none/_regctl/tags", ""), 404)
}

func TestReferrers(t *testing.T) {
	t.Parallel()
	s := newServer(t, nil, Options{})
	one := string(s.digests["one"])
	get := func(path string) (answer, oci.Descriptor, int) {
		a := s.do("GET", path, "")
		var index struct {
			SchemaVersion int
			MediaType     string
			Manifests     []oci.Descriptor
		}
		if err := json.Unmarshal([]byte(a.body), &index); err != nil || index.SchemaVersion != 2 || index.MediaType != oci.MediaTypeIndex || index.Manifests == nil {
			t.Fatalf("%s: %s, %v", path, a.body, err)
		}
		return a, append(index.Manifests, oci.Descriptor{})[0], len(index.Manifests)
	}
	a, d, n := get("/v2/app/referrers/" + one)
	s.want("all", a, 200, "Content-Type", oci.MediaTypeIndex, "Oci-Filters-Applied", "-", "Link", "-")
	if n != 1 || d.Digest != s.digests["sig"] || d.ArtifactType != "application/x.sig" {
		t.Errorf("%s", a.body)
	}
	a, _, n = get("/v2/app/referrers/" + one + "?artifactType=" + url.QueryEscape("application/x.sig"))
	if s.want("filter", a, 200, "Oci-Filters-Applied", "artifactType"); n != 1 {
		t.Errorf("%s", a.body)
	}
	a, _, n = get("/v2/app/referrers/" + one + "?artifactType=other")
	if s.want("filter of others", a, 200, "Oci-Filters-Applied", "artifactType"); n != 0 {
		t.Errorf("%s", a.body)
	}
	for _, path := range []string{"/v2/app/referrers/" + sha512abc, "/v2/none/referrers/" + one} {
		if _, _, n := get(path); n != 0 {
			t.Errorf("%s has %d", path, n)
		}
	}
	s.want("malformed", s.do("GET", "/v2/app/referrers/x", ""), 400)
}

// referred is a registry in which everything has many large referrers.
type referred struct{ oci.Registry }

func (referred) Referrers(_ context.Context, _ string, _ oci.Digest, artifactType string) iter.Seq2[oci.Descriptor, error] {
	return func(yield func(oci.Descriptor, error) bool) {
		for i := range 100 {
			d := oci.Descriptor{
				Digest: digest.NewDigestFromEncoded("sha256", fmt.Sprintf("%064d", i)), ArtifactType: artifactType,
				Annotations: map[string]string{"x": strings.Repeat("x", 100_000)},
			}
			if !yield(d, nil) {
				return
			}
		}
	}
}

func TestReferrersByPages(t *testing.T) {
	t.Parallel()
	s := newServer(t, referred{}, Options{})
	next, pages, seen := "/v2/app/referrers/"+sha256abc+"?artifactType=a%2Fb", 0, 0
	for next != "" {
		a := s.do("GET", next, "")
		var index struct{ Manifests []oci.Descriptor }
		if err := json.Unmarshal([]byte(a.body), &index); err != nil || len(a.body) > oci.MaxManifest {
			t.Fatalf("%d bytes, %v", len(a.body), err)
		}
		for _, d := range index.Manifests {
			if want := fmt.Sprintf("sha256:%064d", seen); string(d.Digest) != want || d.ArtifactType != "a/b" {
				t.Fatalf("%s (%s) after %d", d.Digest, d.ArtifactType, seen)
			}
			seen++
		}
		link := a.header.Get("Link")
		next = strings.TrimSuffix(strings.TrimPrefix(link, "<"), `>; rel="next"`)
		pages++
	}
	if pages != 3 || seen != 100 {
		t.Errorf("%d referrers on %d pages", seen, pages)
	}
}
