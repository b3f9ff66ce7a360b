package serve

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	"github.com/regctl/regctl/client/oci"
)

const (
	sha256abc = "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
	sha512abc = "sha512:ddaf35a193617abacc417349ae20413112e6fa4e89a97ea20a9eeee64b55d39a2192992a274fc1a836ba3c23a3feebbd454d4423643ce80e2a9ac94fa54ca49f"
)

func TestParse(t *testing.T) {
	t.Parallel()
	tests := []struct {
		method, path string
		kind         kind
		repo, ref    string
		err          oci.Code
	}{
		{"GET", "/v2/", kindPing, "", "", ""},
		{"GET", "/v2", kindPing, "", "", ""},
		{"HEAD", "/", kindPing, "", "", ""},
		{"GET", "/healthz", kindHealth, "", "", ""},
		{"GET", "/readyz", kindReady, "", "", ""},
		{"GET", "/v2/_catalog", kindCatalog, "", "", ""},
		{"GET", "/v2/a/tags/list", kindTags, "a", "", ""},
		{"GET", "/v2/a/b/c/tags/list", kindTags, "a/b/c", "", ""},
		{"GET", "/v2/a/_regctl/tags", kindTagDetails, "a", "", ""},
		{"GET", "/v2/a/manifests/latest", kindManifestGet, "a", "latest", ""},
		{"HEAD", "/v2/a/manifests/latest", kindManifestHead, "a", "latest", ""},
		{"PUT", "/v2/a/manifests/" + sha512abc, kindManifestPut, "a", sha512abc, ""},
		{"DELETE", "/v2/a/manifests/" + sha256abc, kindManifestDelete, "a", sha256abc, ""},
		{"GET", "/v2/a/b/blobs/" + sha256abc, kindBlobGet, "a/b", sha256abc, ""},
		{"HEAD", "/v2/a/blobs/" + sha256abc, kindBlobHead, "a", sha256abc, ""},
		{"DELETE", "/v2/a/blobs/" + sha256abc, kindBlobDelete, "a", sha256abc, ""},
		{"POST", "/v2/a/blobs/uploads/", kindUploadStart, "a", "", ""},
		{"POST", "/v2/a/blobs/uploads", kindUploadStart, "a", "uploads", ""},
		{"GET", "/v2/a/blobs/uploads/x-1", kindUploadStatus, "a", "x-1", ""},
		{"PATCH", "/v2/a/blobs/uploads/x-1", kindUploadChunk, "a", "x-1", ""},
		{"PUT", "/v2/a/blobs/uploads/x-1", kindUploadFinish, "a", "x-1", ""},
		{"DELETE", "/v2/a/blobs/uploads/x-1", kindUploadCancel, "a", "x-1", ""},
		{"GET", "/v2/a/referrers/" + sha256abc, kindReferrers, "a", sha256abc, ""},
		{"DELETE", "/v2/a/b", kindRepoDelete, "a/b", "", ""},
		{"DELETE", "/v2/a/b/", 0, "", "", oci.NameInvalid}, // Of a longer path the rest was lost.
		{"OPTIONS", "/v2/a/manifests/latest", kindOptions, "a", "latest", ""},

		// The end of the path decides.
		{"GET", "/v2/a/blobs/b/manifests/x", kindManifestGet, "a/blobs/b", "x", ""},
		{"GET", "/v2/a/blobs/uploads/manifests/x", kindManifestGet, "a/blobs/uploads", "x", ""},
		{"GET", "/v2/a/manifests/tags/list", kindTags, "a/manifests", "", ""},
		{"GET", "/v2/a/tags/list/tags/list", kindTags, "a/tags/list", "", ""},
		{"POST", "/v2/a/manifests/b/blobs/uploads/", kindUploadStart, "a/manifests/b", "", ""},
		{"POST", "/v2/blobs/uploads/blobs/uploads/", kindUploadStart, "blobs/uploads", "", ""},
		{"PATCH", "/v2/a/blobs/uploads/blobs/uploads/id", kindUploadChunk, "a/blobs/uploads", "id", ""},
		{"DELETE", "/v2/manifests/latest", kindRepoDelete, "manifests/latest", "", ""},
		{"DELETE", "/v2/a/tags", kindRepoDelete, "a/tags", "", ""},
		{"GET", "/v2/a/manifests/sha256%3Aba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad", kindManifestGet, "a", sha256abc, ""},

		// What is no name.
		{"GET", "/v2/A/manifests/latest", 0, "", "", oci.NameInvalid},
		{"GET", "/v2/a%2Fb/manifests/latest", 0, "", "", oci.NameInvalid},
		{"GET", "/v2/a%252Fb/manifests/latest", 0, "", "", oci.NameInvalid},
		{"GET", "/v2/a/../b/manifests/latest", 0, "", "", oci.NameInvalid},
		{"GET", "/v2/a/%2e%2e/b/manifests/latest", 0, "", "", oci.NameInvalid},
		{"GET", "/v2/a//b/manifests/latest", 0, "", "", oci.NameInvalid},
		{"GET", "/v2//a/manifests/latest", 0, "", "", oci.NameInvalid},
		{"GET", "/v2//manifests/latest", 0, "", "", oci.NameInvalid},
		{"GET", "/v2/a%00/manifests/latest", 0, "", "", oci.NameInvalid},
		{"GET", "/v2/a%0Ab/manifests/latest", 0, "", "", oci.NameInvalid},
		{"GET", "/v2/%C3%A4/manifests/latest", 0, "", "", oci.NameInvalid},
		{"GET", "/v2/a./tags/list", 0, "", "", oci.NameInvalid},
		{"GET", "/v2/" + strings.Repeat("a", 256) + "/tags/list", 0, "", "", oci.NameInvalid},
		{"DELETE", "/v2/_regctl", 0, "", "", oci.NameInvalid},
		{"DELETE", "/v2/..", 0, "", "", oci.NameInvalid},
		{"GET", "/v2/a/manifests/", 0, "", "", oci.TagInvalid},
		{"DELETE", "/v2/a/manifests/", 0, "", "", oci.TagInvalid},
		{"GET", "/v2/a/manifests/.x", 0, "", "", oci.TagInvalid},
		{"GET", "/v2/a/manifests/" + strings.Repeat("x", 129), 0, "", "", oci.TagInvalid},
		{"GET", "/v2/a/manifests/sha256:abc", 0, "", "", oci.DigestInvalid},
		{"GET", "/v2/a/manifests/md5:900150983cd24fb0d6963f7d28e17f72", 0, "", "", oci.DigestInvalid},
		{"GET", "/v2/a/blobs/latest", 0, "", "", oci.DigestInvalid},
		{"GET", "/v2/a/referrers/x", 0, "", "", oci.DigestInvalid},
		{"GET", "/v2/a/blobs/uploads/..", 0, "", "", oci.BlobUploadUnknown},
		{"GET", "/v2/a/blobs/uploads/" + strings.Repeat("x", 129), 0, "", "", oci.BlobUploadUnknown},

		// What is no endpoint, or takes another method.
		{"GET", "/v1/search", 0, "", "", oci.NotFound},
		{"GET", "/v2x/", 0, "", "", oci.NotFound},
		{"GET", "/v2/a", 0, "", "", oci.NotFound},
		{"GET", "/v2/a/tags", 0, "", "", oci.NotFound},
		{"GET", "/healthz/", 0, "", "", oci.NotFound},
		{"OPTIONS", "/x", 0, "", "", oci.NotFound},
		{"POST", "/v2/", 0, "", "", oci.Unsupported},
		{"POST", "/v2/a/manifests/latest", 0, "", "", oci.Unsupported},
		{"GET", "/v2/a/blobs/uploads/", 0, "", "", oci.Unsupported},
		{"PUT", "/v2/a/blobs/" + sha256abc, 0, "", "", oci.Unsupported},
		{"DELETE", "/v2/a/tags/list", 0, "", "", oci.Unsupported},
		{"get", "/v2/", 0, "", "", oci.Unsupported},
	}
	for _, tt := range tests {
		u, err := url.ParseRequestURI(tt.path)
		if err != nil {
			t.Fatalf("%s: %v", tt.path, err)
		}
		q, err := parse(&http.Request{Method: tt.method, URL: u}, newSite(Options{}))
		if tt.err != "" {
			if !errors.Is(err, tt.err) || q.kind != kindNone {
				t.Errorf("%s %s: kind %d, error %v; want %s", tt.method, tt.path, q.kind, err, tt.err)
			}
			continue
		}
		wantRef := tt.ref
		if tt.kind == kindUploadStart {
			wantRef = ""
		}
		if err != nil || q.kind != tt.kind || q.repo != tt.repo || q.ref != wantRef {
			t.Errorf("%s %s: kind %d, repo %q, ref %q, error %v; want %d, %q, %q",
				tt.method, tt.path, q.kind, q.repo, q.ref, err, tt.kind, tt.repo, wantRef)
		}
	}
}

func TestEveryKindHasAMethod(t *testing.T) {
	t.Parallel()
	seen := map[kind]bool{kindOptions: true}
	for _, methods := range methodsOf {
		for _, m := range methods {
			seen[m.kind] = true
		}
	}
	for k := kindNone + 1; k <= kindOptions; k++ {
		if methods[k] == nil || !seen[k] {
			t.Errorf("kind %d: a method is there: %t, a path leads to it: %t", k, methods[k] != nil, seen[k])
		}
	}
}

// FuzzParse holds that nothing unchecked gets out of the parser.
func FuzzParse(f *testing.F) {
	for _, path := range []string{
		"/v2/", "/v2/a/blobs/uploads/", "/v2/a/b/manifests/latest?tag=x", "/v2/a%2Fb/tags/list", "/v2/a/%2e%2e/manifests/x",
		"/v2/a/blobs/" + sha256abc, "/v2/a/blobs/uploads/id?digest=" + sha512abc, "/v2/_catalog?n=5&last=%00", "//v2//", "/v2/a/_regctl/tags", "/", "/_ping", "/v1/_ping", "/healthz", "/v2/_regctl/deletions", "/v2/a",
	} {
		for _, method := range []string{"GET", "PUT", "DELETE", "POST"} {
			f.Add(method, path)
		}
	}
	f.Fuzz(func(t *testing.T, method, target string) {
		u, err := url.ParseRequestURI(target)
		if err != nil {
			return
		}
		q, err := parse(&http.Request{Method: method, URL: u}, newSite(Options{}))
		if err != nil {
			if s := oci.AsError(err).Code.Status(); q.kind != kindNone || s < 400 || s >= 500 {
				t.Fatalf("kind %d with an error of status %d: %v", q.kind, s, err)
			}
			return
		}
		checkParts(t, q)
	})
}

func checkParts(t *testing.T, q *request) {
	t.Helper()
	switch q.form {
	case formRoot, formPing, formHealth, formReady, formCatalog, formDeletions:
		if q.repo != "" || q.ref != "" {
			t.Fatalf("names from nowhere: %+v", q.target)
		}
		return
	case formManifest:
		if err := oci.CheckRef(q.ref); err != nil {
			t.Fatal(err)
		}
	case formBlob, formReferrers:
		if d, err := oci.ParseDigest(q.ref); err != nil || d != q.digest {
			t.Fatalf("digest %q from %q: %v", q.digest, q.ref, err)
		}
	case formUpload:
		if !isToken(q.ref, 128) {
			t.Fatalf("upload id %q", q.ref)
		}
	}
	if err := oci.CheckRepo(q.repo); err != nil {
		t.Fatal(err)
	}
}

func FuzzContentRange(f *testing.F) {
	for _, s := range []string{"0-0", "5-9", "9-5", "-5", "5-", "0--1", "+1-2", "1-+2", " 1-2", "bytes 0-1/2", "9223372036854775807-9223372036854775807", ""} {
		f.Add(s, int64(5))
	}
	f.Fuzz(func(t *testing.T, s string, length int64) {
		r, err := parseContentRange(s, length)
		if err != nil {
			if !errors.Is(err, oci.RangeInvalid) && !errors.Is(err, oci.SizeInvalid) {
				t.Fatalf("%q: %v", s, err)
			}
			return
		}
		if r.start < 0 || r.size < 1 || r.start+r.size < 0 || length >= 0 && r.size != length {
			t.Fatalf("%q with length %d: %+v", s, length, r)
		}
	})
}

// FuzzQuery holds that no query makes a list fail in any other way than 4xx.
func FuzzQuery(f *testing.F) {
	h := newTestHandler(f, Options{})
	for _, query := range []string{"n=1", "n=-1", "n=99999999999999999999", "n=1&last=b", "last=%00", "n=&last=", "n=0", "a;b", "%"} {
		f.Add(query)
	}
	f.Fuzz(func(t *testing.T, query string) {
		for _, path := range []string{"/v2/_catalog", "/v2/app/tags/list", "/v2/app/_regctl/tags", "/v2/app/referrers/" + sha256abc} {
			r := httptest.NewRequest("GET", path, nil)
			r.URL.RawQuery = query
			w := httptest.NewRecorder()
			h.ServeHTTP(w, r)
			if w.Code != 200 && w.Code != 400 {
				t.Fatalf("%s?%s: %d %s", path, query, w.Code, w.Body)
			}
		}
	})
}
