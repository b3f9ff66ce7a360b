package serve

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/regctl/regctl/client/oci"
	"github.com/regctl/regctl/client/oci/ocitest"
)

// doChunked is do with a body whose length is not announced.
func (s *server) doChunked(method, path, body string, headers ...string) answer {
	s.t.Helper()
	r, err := http.NewRequestWithContext(context.Background(), method, s.url+path, struct{ io.Reader }{strings.NewReader(body)})
	if err != nil {
		s.t.Fatal(err)
	}
	for i := 0; i < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	res, err := client.RoundTrip(r)
	if err != nil {
		s.t.Fatal(err)
	}
	defer res.Body.Close()
	data, err := io.ReadAll(res.Body)
	if err != nil {
		s.t.Fatal(err)
	}
	return answer{res.StatusCode, res.Header, string(data)}
}

// start starts an upload and returns its location.
func (s *server) start(query string) string {
	s.t.Helper()
	a := s.do("POST", "/v2/app/blobs/uploads/"+query, "")
	s.want("start", a, 202, "Range", "0-0", "Content-Length", "0", "Docker-Content-Digest", "-")
	location, id := a.header.Get("Location"), a.header.Get("Docker-Upload-UUID")
	if id == "" || location != "/v2/app/blobs/uploads/"+id {
		s.t.Fatalf("location %q, id %q", location, id)
	}
	return location
}

func TestUploadInChunks(t *testing.T) {
	t.Parallel()
	s := newServer(t, nil, Options{})
	at := s.start("")
	state := func(last string) []string { return []string{"Location", at, "Range", "0-" + last} }
	s.want("state of nothing", s.do("GET", at, ""), 204, state("0")...)
	s.want("first", s.do("PATCH", at, "hello", "Content-Range", "0-4"), 202, append(state("4"), "Content-Length", "0")...)
	s.want("state", s.do("GET", at, ""), 204, append(state("4"), "Docker-Upload-Uuid", at[strings.LastIndex(at, "/")+1:])...)
	s.want("state", s.do("HEAD", at, ""), 204, state("4")...)
	s.want("without a range", s.do("PATCH", at, ", "), 202, state("6")...)
	s.want("of unknown length", s.doChunked("PATCH", at, "wor"), 202, state("9")...)
	s.want("of unknown length, with a range", s.doChunked("PATCH", at, "l", "Content-Range", "10-10"), 202, state("10")...)
	want := digest.FromString("hello, world")
	s.want("last", s.do("PUT", at+"?digest="+string(want), "d", "Content-Range", "11-11"), 201,
		"Location", "/v2/app/blobs/"+string(want), "Docker-Content-Digest", string(want), "Content-Length", "0")
	if a := s.do("GET", "/v2/app/blobs/"+string(want), ""); a.body != "hello, world" {
		t.Errorf("%d %q", a.status, a.body)
	}
	a := s.do("GET", at, "")
	s.want("the upload is over", a, 404)
	if a.code() != oci.BlobUploadUnknown {
		t.Errorf("code %s", a.code())
	}
}

func TestUploadOutOfOrder(t *testing.T) {
	t.Parallel()
	s := newServer(t, nil, Options{})
	at := s.start("")
	s.want("first", s.do("PATCH", at, "hello", "Content-Range", "0-4"), 202)
	d := string(digest.FromString("hello"))
	tests := []struct {
		method, rng, body string
		status            int
		code              oci.Code
	}{
		{"PATCH", "6-7", "xx", 416, oci.RangeInvalid},
		{"PATCH", "0-4", "hello", 416, oci.RangeInvalid},
		{"PUT", "6-7", "xx", 416, oci.RangeInvalid},
		{"PUT", "0-4", "hello", 416, oci.RangeInvalid},
		{"PATCH", "bytes 5-6/*", "xx", 416, oci.RangeInvalid},
		{"PATCH", "7-5", "xx", 416, oci.RangeInvalid},
		{"PATCH", "+5-6", "xx", 416, oci.RangeInvalid},
		{"PATCH", "5", "xx", 416, oci.RangeInvalid},
		{"PATCH", "5-99999999999999999999", "xx", 416, oci.RangeInvalid},
		{"PATCH", "5-9", "xx", 400, oci.SizeInvalid},
		{"PUT", "5-5", "xx", 400, oci.SizeInvalid},
	}
	for _, tt := range tests {
		a := s.do(tt.method, at+"?digest="+d, tt.body, "Content-Range", tt.rng)
		s.want(tt.method+" "+tt.rng, a, tt.status)
		if a.code() != tt.code {
			t.Errorf("%s %s: code %s", tt.method, tt.rng, a.code())
		}
		if tt.status == 416 {
			s.want(tt.method+" "+tt.rng, a, 416, "Location", at, "Range", "0-4")
		}
	}
	for _, body := range []string{"xxx", "x"} {
		other := s.start("")
		a := s.doChunked("PATCH", other, body, "Content-Range", "0-1")
		s.want("body of another length", a, 400)
		if a.code() != oci.SizeInvalid {
			t.Errorf("code %s", a.code())
		}
	}
	s.want("nothing of it was taken", s.do("PUT", at+"?digest="+d, ""), 201)
}

func TestUploadAtOnce(t *testing.T) {
	t.Parallel()
	s := newServer(t, nil, Options{})
	for _, d := range []digest.Digest{digest.FromString("abc 1"), digest.SHA512.FromString("abc 1")} {
		a := s.do("POST", "/v2/app/blobs/uploads/?digest="+string(d), "abc 1", "Content-Type", "application/octet-stream")
		s.want("POST", a, 201, "Location", "/v2/app/blobs/"+string(d), "Docker-Content-Digest", string(d))
		at := s.start("?digest-algorithm=" + string(d.Algorithm()))
		s.want("PUT", s.do("PUT", at+"?digest="+string(d), "abc 1"), 201, "Location", "/v2/app/blobs/"+string(d))
		s.want("there", s.do("HEAD", "/v2/app/blobs/"+string(d), ""), 200, "Content-Length", "5")
	}
	empty := string(digest.FromString(""))
	s.want("nothing", s.do("POST", "/v2/app/blobs/uploads/?digest="+empty, ""), 201)
	s.want("it has no byte", s.do("GET", "/v2/app/blobs/"+empty, ""), 200, "Content-Length", "0")
}

func TestUploadRefused(t *testing.T) {
	t.Parallel()
	s := newServer(t, nil, Options{})
	at := s.start("")
	tests := []struct {
		method, path, body string
		code               oci.Code
	}{
		{"POST", "/v2/app/blobs/uploads/?digest=" + sha256abc, "abd", oci.DigestInvalid},
		{"POST", "/v2/app/blobs/uploads/?digest=x", "abc", oci.DigestInvalid},
		{"POST", "/v2/app/blobs/uploads/?digest=", "abc", oci.DigestInvalid},
		{"POST", "/v2/app/blobs/uploads/?digest-algorithm=md5", "", oci.DigestInvalid},
		{"POST", "/v2/app/blobs/uploads/?mount=x", "", oci.DigestInvalid},
		{"POST", "/v2/app/blobs/uploads/?from=..&mount=" + sha256abc, "", oci.NameInvalid},
		{"PUT", at, "abc", oci.DigestInvalid},
		{"PUT", at + "?digest=sha256:x", "abc", oci.DigestInvalid},
		{"PATCH", "/v2/other" + strings.TrimPrefix(at, "/v2/app"), "abc", oci.BlobUploadUnknown},
		{"GET", "/v2/app/blobs/uploads/none", "", oci.BlobUploadUnknown},
		{"DELETE", "/v2/app/blobs/uploads/none", "", oci.BlobUploadUnknown},
		{"PUT", "/v2/app/blobs/uploads/none?digest=" + sha256abc, "abc", oci.BlobUploadUnknown},
	}
	for _, tt := range tests {
		a := s.do(tt.method, tt.path, tt.body)
		s.want(tt.method+" "+tt.path, a, tt.code.Status())
		if a.code() != tt.code {
			t.Errorf("%s %s: code %s, body %s", tt.method, tt.path, a.code(), a.body)
		}
	}
	s.want("still at 0", s.do("GET", at, ""), 204, "Range", "0-0")
	s.want("cancel", s.do("DELETE", at, ""), 204, "Content-Length", "-")
	s.want("gone", s.do("GET", at, ""), 404)
}

func TestMount(t *testing.T) {
	t.Parallel()
	s := newServer(t, nil, Options{})
	d := string(s.digests["long"])
	mounted := []string{"Location", "/v2/a/b/blobs/" + d, "Docker-Content-Digest", d, "Content-Length", "0"}
	s.want("not before", s.do("HEAD", "/v2/a/b/blobs/"+d, ""), 404)
	s.want("mount", s.do("POST", "/v2/a/b/blobs/uploads/?from=app&mount="+d, ""), 201, mounted...)
	s.want("there", s.do("HEAD", "/v2/a/b/blobs/"+d, ""), 200)
	s.want("from anywhere", s.do("POST", "/v2/c/blobs/uploads/?mount="+d, ""), 201, "Location", "/v2/c/blobs/"+d)
	a := s.do("POST", "/v2/a/b/blobs/uploads/?from=none&mount="+sha512abc, "")
	s.want("not found", a, 202, "Range", "0-0")
	s.want("go on", s.do("PUT", a.header.Get("Location")+"?digest="+sha512abc, "abc"), 201)
}

func TestUploadBusy(t *testing.T) {
	t.Parallel()
	s := newServer(t, nil, Options{})
	at := s.start("")
	up, err := s.reg.Upload(t.Context(), "app", at[strings.LastIndex(at, "/")+1:], oci.UploadOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(up, "mine"); err != nil {
		t.Fatal(err)
	}
	for _, method := range []string{"PATCH", "PUT", "DELETE"} {
		a := s.do(method, at+"?digest="+sha256abc, "other")
		s.want(method, a, 409)
		if a.code() != oci.UploadBusy {
			t.Errorf("code %s", a.code())
		}
	}
	up.Close()
	s.want("now", s.do("PATCH", at, "yours", "Content-Range", "4-8"), 202, "Range", "0-8")
}

// raced is a registry in which another request always is faster.
type raced struct{ oci.Registry }

func (r raced) Upload(ctx context.Context, repo, id string, o oci.UploadOptions) (oci.Upload, error) {
	up, err := r.Registry.Upload(ctx, repo, id, o)
	if id == "" || err != nil || up.Size() > 0 {
		return up, err
	}
	other, err := r.Registry.Upload(ctx, repo, id, o)
	if err != nil {
		return nil, err
	}
	defer other.Close()
	_, err = io.WriteString(other, "faster")
	return up, err
}

func TestUploadThatGrewMeanwhile(t *testing.T) {
	t.Parallel()
	s := newServer(t, raced{ocitest.NewRegistry()}, Options{})
	at := s.start("")
	a := s.do("PATCH", at, "slower", "Content-Range", "0-5")
	s.want("raced", a, 416, "Range", "0-5", "Location", at)
	if a.code() != oci.RangeInvalid {
		t.Errorf("code %s", a.code())
	}
}

func TestBodyThatEndsEarly(t *testing.T) {
	t.Parallel()
	log := &logBuffer{}
	s := newServer(t, nil, Options{Access: log.json()})
	at := s.start("")
	for i, head := range []string{
		"PATCH " + at + " HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nhello",
		"PUT " + at + "?digest=" + sha256abc + " HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\n, wor",
	} {
		c := dial(t, s.addr)
		if _, err := io.WriteString(c, head); err != nil {
			t.Fatal(err)
		}
		if err := c.CloseWrite(); err != nil {
			t.Fatal(err)
		}
		res, err := http.ReadResponse(bufio.NewReader(c), nil)
		if err != nil {
			t.Fatal(err)
		}
		body, _ := io.ReadAll(res.Body)
		if res.StatusCode != 400 || oci.UnmarshalError(400, body).Code != oci.BlobUploadInvalid {
			t.Errorf("%d %s", res.StatusCode, body)
		}
		c.Close()
		if line := log.lines(t, i+2)[i+1]; line["status"] != 499.0 {
			t.Errorf("log %v", line)
		}
	}
	s.want("what came is kept", s.do("GET", at, ""), 204, "Range", "0-9")
	s.want("go on", s.do("PUT", at+"?digest="+string(digest.FromString("hello, world")), "ld", "Content-Range", "10-11"), 201)
}

func dial(t *testing.T, addr string) *net.TCPConn {
	t.Helper()
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	// A test that waits for the server in vain must end as well.
	if err := c.SetDeadline(time.Now().Add(30 * time.Second)); err != nil {
		t.Fatal(err)
	}
	return c.(*net.TCPConn)
}

func TestUploadIsRefusedBeforeItsBody(t *testing.T) {
	t.Parallel()
	s := newServer(t, nil, Options{})
	c := dial(t, s.addr)
	fmt.Fprintf(c, "PATCH /v2/app/blobs/uploads/none HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 1000000000\r\n\r\n")
	res, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil || res.StatusCode != 404 {
		t.Errorf("%v, %v", res, err)
	}
}
