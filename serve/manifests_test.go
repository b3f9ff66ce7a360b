package serve

import (
	"fmt"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/regctl/regctl/client/oci"
	"github.com/regctl/regctl/client/oci/ocitest"
)

func TestGetManifest(t *testing.T) {
	t.Parallel()
	s := newServer(t, nil, Options{})
	one := string(s.digests["one"])
	m, err := s.reg.Manifest(t.Context(), "app", one)
	if err != nil {
		t.Fatal(err)
	}
	headers := []string{
		"Content-Type", oci.MediaTypeManifest, "Docker-Content-Digest", one, "Etag", `"` + one + `"`,
		"Content-Length", fmt.Sprint(len(m.Raw)), "Docker-Distribution-Api-Version", "registry/2.0",
	}
	for _, ref := range []string{"v1", one} {
		for _, accept := range []string{"", "*/*", oci.MediaTypeDockerManifest} {
			a := s.do("GET", "/v2/app/manifests/"+ref, "", "Accept", accept)
			s.want("GET "+ref, a, 200, headers...)
			if a.body != string(m.Raw) {
				t.Errorf("GET %s: body %q", ref, a.body)
			}
		}
		s.want("HEAD "+ref, s.do("HEAD", "/v2/app/manifests/"+ref, ""), 200, headers...)
	}
	for _, method := range []string{"GET", "HEAD"} {
		s.want("no such tag", s.do(method, "/v2/app/manifests/none", ""), 404, "Etag", "-")
		s.want("no such repository", s.do(method, "/v2/none/manifests/v1", ""), 404)
	}
	if a := s.do("GET", "/v2/app/manifests/none", ""); a.code() != oci.ManifestUnknown {
		t.Errorf("code %s", a.code())
	}
}

func TestGetManifestNotModified(t *testing.T) {
	t.Parallel()
	s := newServer(t, nil, Options{})
	one, two := `"`+string(s.digests["one"])+`"`, `"`+string(s.digests["two"])+`"`
	tests := []struct {
		condition string
		status    int
	}{
		{one, 304}, {"W/" + one, 304}, {two + ", " + one, 304}, {two + ",W/" + one, 304}, {"*", 304},
		{strings.Trim(one, `"`), 304}, // As registry:2.
		{two, 200}, {`"x"`, 200}, {"", 200},
	}
	for _, tt := range tests {
		for _, method := range []string{"GET", "HEAD"} {
			a := s.do(method, "/v2/app/manifests/v1", "", "If-None-Match", tt.condition)
			s.want(method+" "+tt.condition, a, tt.status, "Etag", one, "Docker-Content-Digest", string(s.digests["one"]))
			if tt.status == 304 && (a.body != "" || a.header.Get("Content-Length") != "") {
				t.Errorf("%s %s: 304 with a body", method, tt.condition)
			}
		}
	}
	s.want("unknown", s.do("GET", "/v2/app/manifests/none", "", "If-None-Match", "*"), 404)
}

// image is a manifest without layers, its config in repository app.
func image(t *testing.T, s *server, annotation string) string {
	t.Helper()
	config := ocitest.PushBlob(t, s.reg, "app", "{}")
	return fmt.Sprintf(`{"schemaVersion":2,"mediaType":%q,"config":{"mediaType":"application/vnd.oci.image.config.v1+json","digest":%q,"size":2},"layers":[],"annotations":{"x":%q}}`,
		oci.MediaTypeManifest, config.Digest, annotation)
}

func TestPutManifest(t *testing.T) {
	t.Parallel()
	s := newServer(t, nil, Options{})
	raw := image(t, s, "put")
	d := digest.FromString(raw)
	d512 := digest.SHA512.FromString(raw)
	headers := func(d digest.Digest) []string {
		return []string{"Location", "/v2/app/manifests/" + string(d), "Docker-Content-Digest", string(d), "Content-Length", "0", "Oci-Subject", "-"}
	}
	put := func(ref string, more ...string) answer {
		return s.do("PUT", "/v2/app/manifests/"+ref, raw, append(more, "Content-Type", oci.MediaTypeManifest)...)
	}
	s.want("by tag", put("new"), 201, append(headers(d), "Oci-Tag", "-")...)
	s.want("by digest", put(string(d)), 201, append(headers(d), "Oci-Tag", "-")...)
	s.want("by sha512", put(string(d512)+"?tag=big"), 201, append(headers(d512), "Oci-Tag", "big")...)
	s.want("by digest with tags", put(string(d)+"?tag=a&tag=b&tag=c"), 201, append(headers(d), "Oci-Tag", "a|b|c")...)
	s.want("by tag with tags", put("x?tag=y"), 201, append(headers(d), "Oci-Tag", "x|y")...)
	for _, tag := range []string{"new", "a", "b", "c", "x", "y"} {
		s.want(tag, s.do("HEAD", "/v2/app/manifests/"+tag, ""), 200, "Docker-Content-Digest", string(d))
	}
	s.want("big", s.do("GET", "/v2/app/manifests/big", ""), 200, "Docker-Content-Digest", string(d512))
	s.want("parameters of the type are ignored", s.do("PUT", "/v2/app/manifests/p", raw, "Content-Type", oci.MediaTypeManifest+"; charset=utf-8"), 201)

	many := func(n int) string {
		var q strings.Builder
		for i := range n {
			fmt.Fprintf(&q, "&tag=t%d", i)
		}
		return string(d) + "?" + q.String()[1:]
	}
	s.want("100 tags", put(many(100)), 201)
	a := put(many(101))
	s.want("101 tags", a, 414)
	if a.code() != oci.TooManyTags {
		t.Errorf("code %s", a.code())
	}
	s.want("the 101st", s.do("HEAD", "/v2/app/manifests/t100", ""), 404)
}

func TestPutManifestWithHost(t *testing.T) {
	t.Parallel()
	s := newServer(t, nil, Options{Host: "https://reg.example.com/"})
	raw := image(t, s, "host")
	s.want("location", s.do("PUT", "/v2/app/manifests/h", raw), 201,
		"Location", "https://reg.example.com/v2/app/manifests/"+string(digest.FromString(raw)))
	up := s.do("POST", "/v2/app/blobs/uploads/", "")
	if l := up.header.Get("Location"); !strings.HasPrefix(l, "https://reg.example.com/v2/app/blobs/uploads/") {
		t.Errorf("location %q", l)
	}
}

func TestPutManifestRefused(t *testing.T) {
	t.Parallel()
	s := newServer(t, nil, Options{})
	raw := image(t, s, "refused")
	large := strings.Repeat(" ", oci.MaxManifest) + "{}"
	tests := []struct {
		name, ref, body string
		headers         []string
		code            oci.Code
	}{
		{"malformed tag in the query", "x?tag=..", raw, nil, oci.TagInvalid},
		{"digest of something else", sha256abc, raw, nil, oci.DigestInvalid},
		{"no JSON", "x", "hello", nil, oci.ManifestInvalid},
		{"nothing", "x", "", nil, oci.ManifestInvalid},
		{"type contradicts", "x", raw, []string{"Content-Type", oci.MediaTypeIndex}, oci.ManifestInvalid},
		{"too large by its length", "x", large, nil, oci.ManifestTooLarge},
		{"tag exists", "v1", raw, []string{"If-None-Match", "*"}, oci.TagExists},
		{"If-Match", "v1", raw, []string{"If-Match", `"` + sha256abc + `"`}, oci.Unsupported},
		{"missing config", "x", strings.Replace(raw, string(digest.FromString("{}")), sha256abc[:len(sha256abc)-1]+"0", 1), nil, oci.ManifestBlobUnknown},
	}
	for _, tt := range tests {
		a := s.do("PUT", "/v2/app/manifests/"+tt.ref, tt.body, tt.headers...)
		s.want(tt.name, a, tt.code.Status())
		if a.code() != tt.code {
			t.Errorf("%s: code %s, body %s", tt.name, a.code(), a.body)
		}
	}
	s.want("v1 is where it was", s.do("HEAD", "/v2/app/manifests/v1", ""), 200, "Docker-Content-Digest", string(s.digests["one"]))
	s.want("not overwriting", s.do("PUT", "/v2/app/manifests/fresh", raw, "If-None-Match", "*"), 201)
}

func TestPutManifestOfUnknownLength(t *testing.T) {
	t.Parallel()
	s := newServer(t, nil, Options{})
	a := s.doChunked("PUT", "/v2/app/manifests/x", strings.Repeat(" ", oci.MaxManifest+1))
	s.want("too large", a, 413)
	if a.code() != oci.ManifestTooLarge {
		t.Errorf("code %s", a.code())
	}
	raw := image(t, s, "chunked")
	s.want("fitting", s.doChunked("PUT", "/v2/app/manifests/x", raw+strings.Repeat(" ", oci.MaxManifest-len(raw))), 201)
}

func TestPutManifestWithSubject(t *testing.T) {
	t.Parallel()
	s := newServer(t, nil, Options{})
	raw := image(t, s, "subject")
	raw = strings.TrimSuffix(raw, "}") + fmt.Sprintf(`,"subject":{"mediaType":%q,"digest":%q,"size":3}}`, oci.MediaTypeManifest, sha256abc)
	s.want("subject", s.do("PUT", "/v2/app/manifests/"+string(digest.FromString(raw)), raw), 201, "Oci-Subject", sha256abc)
}

func TestDeleteManifest(t *testing.T) {
	t.Parallel()
	s := newServer(t, nil, Options{})
	one, two := string(s.digests["one"]), string(s.digests["two"])
	a := s.do("DELETE", "/v2/app/manifests/v1", "", "If-Match", `"`+two+`"`)
	s.want("moved tag", a, 412)
	if a.code() != oci.TagMoved {
		t.Errorf("code %s", a.code())
	}
	s.want("weak tags never match", s.do("DELETE", "/v2/app/manifests/v1", "", "If-Match", `W/"`+one+`"`), 412)
	s.want("tag still there", s.do("HEAD", "/v2/app/manifests/v1", ""), 200)
	s.want("one of a list", s.do("DELETE", "/v2/app/manifests/v1", "", "If-Match", `"`+two+`", "`+one+`"`), 202, "Content-Length", "0")
	s.want("tag gone", s.do("HEAD", "/v2/app/manifests/v1", ""), 404)
	s.want("other tag stays", s.do("HEAD", "/v2/app/manifests/latest", ""), 200)
	s.want("unknown tag", s.do("DELETE", "/v2/app/manifests/v1", ""), 404)
	s.want("unknown tag, any", s.do("DELETE", "/v2/app/manifests/v1", "", "If-Match", "*"), 404)
	s.want("any", s.do("DELETE", "/v2/app/manifests/v2", "", "If-Match", "*"), 202)
	s.want("manifest, other condition", s.do("DELETE", "/v2/app/manifests/"+one, "", "If-Match", `"`+two+`"`), 412)
	s.want("manifest", s.do("DELETE", "/v2/app/manifests/"+one, ""), 202)
	s.want("its tag", s.do("HEAD", "/v2/app/manifests/latest", ""), 404)
	s.want("unknown manifest", s.do("DELETE", "/v2/app/manifests/"+one, ""), 404)
}

func TestDeleteRepo(t *testing.T) {
	t.Parallel()
	s := newServer(t, nil, Options{})
	s.want("the beginning of a longer path", s.do("DELETE", "/v2/app/", ""), 400)
	s.want("is no repository", s.do("GET", "/v2/app/tags/list", ""), 200)
	s.want("delete", s.do("DELETE", "/v2/app", ""), 202)
	s.want("gone", s.do("GET", "/v2/app/tags/list", ""), 404)
	a := s.do("DELETE", "/v2/app", "")
	s.want("again", a, 404)
	if a.code() != oci.NameUnknown {
		t.Errorf("code %s", a.code())
	}
}
