package main_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/regctl/regctl/client/oci"
	"github.com/regctl/regctl/client/oci/ocitest"
)

// wire speaks the distribution API with nothing but net/http and believes no
// server: whatever it gets it hashes. It puts manifests and blobs as an
// [oci.Registry] does; its other methods say what they need.
type wire struct {
	oci.Registry // Nil: what is not spoken here must not be called.

	base   string
	client *http.Client // Nil: that of net/http.
}

// push makes the server hold content, over HTTP.
func push(tb testing.TB, s *server, content ocitest.Content) map[string]oci.Digest {
	tb.Helper()
	return ocitest.Push(tb, speak(s), content)
}

func speak(s *server) wire { return wire{base: "http://" + s.addr} }

// answer is a response with its whole body.
type answer struct {
	status int
	header http.Header
	body   []byte
}

func (w wire) call(method, path, contentType string, body []byte) (answer, error) {
	if strings.HasPrefix(path, "/") {
		path = w.base + path
	}
	req, err := http.NewRequest(method, path, bytes.NewReader(body))
	if err != nil {
		return answer{}, err
	}
	req.Header["Accept"] = oci.ManifestTypes()
	if contentType != "" {
		req.Header.Set("Content-Type", contentType)
	}
	client := w.client
	if client == nil {
		client = http.DefaultClient
	}
	resp, err := client.Do(req)
	if err != nil {
		return answer{}, err
	}
	defer resp.Body.Close()
	got, err := io.ReadAll(resp.Body)
	return answer{status: resp.StatusCode, header: resp.Header, body: got}, err
}

// want is a call that must be answered with status.
func (w wire) want(status int, method, path, contentType string, body []byte) (answer, error) {
	a, err := w.call(method, path, contentType, body)
	if err == nil && a.status != status {
		err = fmt.Errorf("%s %s: status %d, want %d: %s", method, path, a.status, status, a.body)
	}
	return a, err
}

// must is want for tests.
func (w wire) must(tb testing.TB, status int, method, path string) answer {
	tb.Helper()
	a, err := w.want(status, method, path, "", nil)
	if err != nil {
		tb.Fatal(err)
	}
	return a
}

// PutManifest implements [oci.Writer].
func (w wire) PutManifest(_ context.Context, repo string, p oci.Put) (oci.Descriptor, error) {
	d, mediaType := digest.FromBytes(p.Raw), oci.MediaTypeOf(p.Raw)
	refs := p.Tags
	if len(refs) == 0 {
		refs = []string{string(d)}
	}
	for _, ref := range refs {
		if _, err := w.want(http.StatusCreated, http.MethodPut, "/v2/"+repo+"/manifests/"+ref, mediaType, p.Raw); err != nil {
			return oci.Descriptor{}, err
		}
	}
	return oci.Descriptor{MediaType: mediaType, Digest: d, Size: int64(len(p.Raw))}, nil
}

// Upload implements [oci.Writer].
func (w wire) Upload(_ context.Context, repo, id string, _ oci.UploadOptions) (oci.Upload, error) {
	if id != "" {
		return nil, errors.New("only new uploads")
	}
	return &wireUpload{w: w, repo: repo}, nil
}

// wireUpload is sent as docker does it: POST, PATCH, PUT.
type wireUpload struct {
	oci.Upload // Nil, as in wire.

	w    wire
	repo string
	data []byte
}

func (u *wireUpload) Write(p []byte) (int, error) {
	u.data = append(u.data, p...)
	return len(p), nil
}

func (u *wireUpload) Commit(_ context.Context, d oci.Digest) (oci.Descriptor, error) {
	at, err := u.w.unfinished(u.repo, u.data)
	if err == nil {
		_, err = u.w.want(http.StatusCreated, http.MethodPut, withDigest(at, d), "", nil)
	}
	return oci.Descriptor{Digest: d, Size: int64(len(u.data))}, err
}

func (u *wireUpload) Close() error { return nil }

// unfinished uploads data but does not end the upload; it returns where that
// goes on.
func (w wire) unfinished(repo string, data []byte) (string, error) {
	a, err := w.want(http.StatusAccepted, http.MethodPost, "/v2/"+repo+"/blobs/uploads/", "", nil)
	if err == nil {
		a, err = w.want(http.StatusAccepted, http.MethodPatch, a.header.Get("Location"), "application/octet-stream", data)
	}
	return a.header.Get("Location"), err
}

// withDigest is the address that ends an upload.
func withDigest(at string, d oci.Digest) string {
	if strings.Contains(at, "?") {
		return at + "&digest=" + string(d)
	}
	return at + "?digest=" + string(d)
}

// list follows a list of names from page to page.
func (w wire) list(tb testing.TB, path, key string) []string {
	tb.Helper()
	names := []string{}
	for path != "" {
		a := w.must(tb, http.StatusOK, http.MethodGet, path)
		page := map[string]json.RawMessage{}
		var some []string
		if err := errors.Join(json.Unmarshal(a.body, &page), json.Unmarshal(page[key], &some)); err != nil {
			tb.Fatalf("%s: %v: %s", path, err, a.body)
		}
		names = append(names, some...)
		path = nextPage(a.header.Get("Link"))
	}
	return names
}

// nextPage reads the header Link.
func nextPage(link string) string {
	link, _, _ = strings.Cut(link, ">")
	return strings.TrimPrefix(link, "<")
}

// tags returns the tags of repo, sorted; none if the server does not know it.
func (w wire) tags(tb testing.TB, repo string) []string {
	tb.Helper()
	path := "/v2/" + repo + "/tags/list?n=100"
	if a, err := w.call(http.MethodGet, path, "", nil); err == nil && a.status == http.StatusNotFound {
		return []string{}
	}
	return slices.Sorted(slices.Values(w.list(tb, path, "tags")))
}

// referrers returns the digests of what refers to d, sorted.
func (w wire) referrers(tb testing.TB, repo string, d oci.Digest) []oci.Digest {
	tb.Helper()
	a := w.must(tb, http.StatusOK, http.MethodGet, "/v2/"+repo+"/referrers/"+string(d))
	g, err := oci.ParseManifest(oci.MediaTypeIndex, a.body)
	if err != nil {
		tb.Fatalf("referrers of %s: %v", d, err)
	}
	digests := []oci.Digest{}
	for _, m := range g.Manifests {
		digests = append(digests, m.Digest)
	}
	return slices.Sorted(slices.Values(digests))
}

// whole pulls ref with everything it names, children and blobs, hashes all of
// it and returns the digest of ref.
func (w wire) whole(tb testing.TB, repo, ref string) oci.Digest {
	tb.Helper()
	a := w.must(tb, http.StatusOK, http.MethodGet, "/v2/"+repo+"/manifests/"+ref)
	d := digest.FromBytes(a.body)
	if told := a.header.Get("Docker-Content-Digest"); told != string(d) || oci.IsDigest(ref) && ref != string(d) {
		tb.Fatalf("%s:%s has digest %s, the server says %s", repo, ref, d, told)
	}
	g, err := oci.ParseManifest(a.header.Get("Content-Type"), a.body)
	if err != nil {
		tb.Fatalf("%s:%s: %v", repo, ref, err)
	}
	for _, b := range g.Blobs() {
		content := w.must(tb, http.StatusOK, http.MethodGet, "/v2/"+repo+"/blobs/"+string(b.Digest)).body
		if got := digest.FromBytes(content); got != b.Digest || int64(len(content)) != b.Size {
			tb.Fatalf("%s:%s: blob %s of %d bytes came as %s of %d", repo, ref, b.Digest, b.Size, got, len(content))
		}
	}
	for _, m := range g.Manifests {
		w.whole(tb, repo, string(m.Digest))
	}
	return d
}

// work is a push, by the first eight, or a pull of what is there.
func work(w wire, id, n int, first oci.Digest) error {
	if id < 8 {
		_, err := w.image(fmt.Sprintf("team/app%d", id), random(uint64(id)<<32|uint64(n), 5000), fmt.Sprintf("v%d", n%10))
		return err
	}
	a, err := w.want(http.StatusOK, http.MethodGet, "/v2/team/app/manifests/first", "", nil)
	if err != nil {
		return err
	}
	if got := digest.FromBytes(a.body); got != first {
		return fmt.Errorf("pulled %s, pushed %s", got, first)
	}
	g, err := oci.ParseManifest(a.header.Get("Content-Type"), a.body)
	if err != nil {
		return err
	}
	for _, b := range g.Blobs() {
		a, err := w.want(http.StatusOK, http.MethodGet, "/v2/team/app/blobs/"+string(b.Digest), "", nil)
		if err == nil && digest.FromBytes(a.body) != b.Digest {
			err = fmt.Errorf("blob %s came as %s", b.Digest, digest.FromBytes(a.body))
		}
		if err != nil {
			return err
		}
	}
	return nil
}
