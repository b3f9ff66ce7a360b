package client

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/opencontainers/go-digest"

	"github.com/regctl/regctl/client/oci"
)

// TestARedirectedWriteIsNoSuccess: net/http makes a GET of a write that is
// answered with 301, 302 or 303, and who looks after logins answers that with
// 200.
func TestARedirectedWriteIsNoSuccess(t *testing.T) {
	t.Parallel()
	for _, status := range []int{http.StatusMovedPermanently, http.StatusFound, http.StatusSeeOther} {
		h := func(w http.ResponseWriter, r *http.Request) {
			switch {
			case r.URL.Path == "/v2/", r.URL.Path == "/login":
				_, _ = io.WriteString(w, "<html>")
			case r.Method == http.MethodHead:
				w.Header().Set("Docker-Content-Digest", string(digestOf(nil)))
				w.Header().Set("Content-Type", oci.MediaTypeIndex)
				w.Header().Set("Content-Length", "1")
			default:
				http.Redirect(w, r, "/login", status)
			}
		}
		c := open(t, h, (&clock{}).options(&faults{}))
		ctx, raw := t.Context(), []byte(`{"schemaVersion":2}`)
		if d, err := c.PutManifest(ctx, "app", oci.Put{Raw: raw, MediaType: oci.MediaTypeIndex, Tags: []string{"v1"}}); err == nil {
			t.Errorf("%d: a manifest that nobody has was pushed as %v", status, d.Digest)
		} else if !strings.Contains(err.Error(), "/login") {
			t.Errorf("%d: %v does not say where it was led", status, err)
		}
		if err := c.DeleteTag(ctx, "app", "v1", ""); err == nil {
			t.Errorf("%d: a tag that is there was deleted", status)
		}
		if err := c.DeleteManifest(ctx, "app", digestOf(raw)); err == nil {
			t.Errorf("%d: a manifest that is there was deleted", status)
		}
	}
}

// moving is a registry:2 of one tag that answers the first writes of a method
// with 429, and in the meantime somebody pushes.
type moving struct {
	method string
	tag    string // What it points to; empty: it is not there.
	next   string // What it points to once a write was put off.
	wrote  int
}

func (m *moving) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	switch {
	case r.URL.Path == "/v2/":
	case r.Method == m.method && m.next != "":
		m.tag, m.next = m.next, ""
		w.WriteHeader(http.StatusTooManyRequests)
	case r.Method == m.method:
		m.wrote++
		w.WriteHeader(http.StatusAccepted)
	case m.tag == "":
		w.WriteHeader(http.StatusNotFound)
	default:
		w.Header().Set("Docker-Content-Digest", m.tag)
		w.Header().Set("Content-Type", oci.MediaTypeIndex)
		w.Header().Set("Content-Length", "1")
	}
}

// TestWhatWaitedLooksAgain: who pushes while a registry lets us wait is not
// overwritten, and his tag not deleted.
func TestWhatWaitedLooksAgain(t *testing.T) {
	t.Parallel()
	was, now := string(digestOf([]byte("1"))), string(digestOf([]byte("2")))
	m := &moving{method: http.MethodDelete, tag: was, next: now}
	c := open(t, m.ServeHTTP, (&clock{}).options(&faults{}))
	if err := c.DeleteTag(t.Context(), "app", "v1", oci.Digest(was)); !errors.Is(err, oci.TagMoved) || m.wrote > 0 {
		t.Errorf("DeleteTag: %v, and %d tags deleted", err, m.wrote)
	}
	m = &moving{method: http.MethodPut, next: now}
	c = open(t, m.ServeHTTP, (&clock{}).options(&faults{}))
	_, err := c.PutManifest(t.Context(), "app", oci.Put{Raw: []byte(`{}`), MediaType: oci.MediaTypeIndex, Tags: []string{"v1"}, NoOverwrite: true})
	if !errors.Is(err, oci.TagExists) || m.wrote > 0 {
		t.Errorf("PutManifest: %v, and %d tags moved", err, m.wrote)
	}
	m = &moving{method: http.MethodPut, next: now}
	c = open(t, m.ServeHTTP, (&clock{}).options(&faults{}))
	_, err = c.PutManifest(t.Context(), "app", oci.Put{Raw: []byte(`{}`), MediaType: oci.MediaTypeIndex, Tags: []string{"v1"}, Fixed: []string{"v1"}})
	if !errors.Is(err, oci.TagExists) || m.wrote > 0 {
		t.Errorf("PutManifest of a fixed tag: %v, and %d tags moved", err, m.wrote)
	}
	m = &moving{method: http.MethodDelete, tag: was, next: was}
	c = open(t, m.ServeHTTP, (&clock{}).options(&faults{}))
	if err := c.DeleteTag(t.Context(), "app", "v1", oci.Digest(was)); err != nil || m.wrote != 1 {
		t.Errorf("DeleteTag of what did not move: %v, and %d tags deleted", err, m.wrote)
	}
}

// impatiently opens a registry that is given up on at once.
func impatiently(t *testing.T, h http.HandlerFunc, f *faults) *Client {
	t.Helper()
	c := open(t, h, (&clock{}).options(f))
	c.patience = time.Millisecond
	return c
}

// TestServersThatSayNothing: neither to a greeting nor to who asks for a token.
func TestServersThatSayNothing(t *testing.T) {
	t.Parallel()
	f := &faults{}
	f.add(maxAttempts, "GET /v2/", hangs)
	_, err := get(t, impatiently(t, echo(""), f), "/v2/app/tags/list")
	if !errors.Is(err, errNoAnswer) || !errors.Is(err, oci.Unavailable) {
		t.Errorf("greeting: got %v", err)
	}
	f = &faults{}
	f.add(maxAttempts, "GET /token", hangs)
	_, err = get(t, impatiently(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("WWW-Authenticate", `Bearer realm="/token"`)
		w.WriteHeader(http.StatusUnauthorized)
	}, f), "/v2/app/tags/list")
	if !errors.Is(err, errNoAnswer) || !errors.Is(err, oci.Unavailable) {
		t.Errorf("token: got %v", err)
	}
}

// TestWhoGivesUpIsNotHeld: an upload that cannot be committed is taken away,
// but nobody waits for a server that does not answer.
func TestWhoGivesUpIsNotHeld(t *testing.T) {
	t.Parallel()
	f := &faults{}
	f.add(1<<10, "DELETE /v2/app/blobs/uploads/", hangs)
	c := open(t, func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodPost {
			w.Header().Set("Location", "/v2/app/blobs/uploads/1")
			w.WriteHeader(http.StatusAccepted)
		}
	}, (&clock{}).options(f))
	up, err := c.Upload(t.Context(), "app", "", oci.UploadOptions{})
	if err != nil {
		t.Fatal(err)
	}
	c.patience = time.Millisecond
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	done := make(chan error)
	go func() {
		_, err := up.Commit(ctx, digestOf(nil))
		done <- err
	}()
	select {
	case err := <-done:
		if !errors.Is(err, context.Canceled) {
			t.Errorf("got %v", err)
		}
	case <-time.After(time.Minute):
		t.Error("it still waits")
	}
}

// TestIdentityTokensStay: a token server that sends us on gets nothing told
// there.
func TestIdentityTokensStay(t *testing.T) {
	t.Parallel()
	told := make(chan string, 8)
	elsewhere := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		told <- string(body) + r.Header.Get("Authorization")
	}))
	t.Cleanup(elsewhere.Close)
	c := open(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/token" {
			http.Redirect(w, r, elsewhere.URL, http.StatusTemporaryRedirect)
			return
		}
		w.Header().Set("WWW-Authenticate", `Bearer realm="/token"`)
		w.WriteHeader(http.StatusUnauthorized)
	}, Options{Keychain: keychain(authn.AuthConfig{IdentityToken: "secret"})})
	if err := c.Check(t.Context()); err == nil {
		t.Error("there is no token, and no error")
	}
	close(told)
	for body := range told {
		if strings.Contains(body, "secret") {
			t.Errorf("another server was told %q", body)
		}
	}
}

// TestPagesInACircle: a list whose pages lead to each other ends with an error.
func TestPagesInACircle(t *testing.T) {
	t.Parallel()
	asked := 0
	c := open(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/v2/" {
			return
		}
		if asked++; asked > 100 {
			panic(http.ErrAbortHandler)
		}
		next := "b"
		if r.URL.Query().Get("last") == "b" {
			next = "a"
		}
		w.Header().Set("Link", fmt.Sprintf(`<%s?last=%s>; rel="next"`, r.URL.Path, next))
		_, _ = io.WriteString(w, `{"tags":["a"],"manifests":[]}`)
	}, (&clock{}).options(&faults{}))
	if _, err := collect(c.Tags(t.Context(), "app", "")); !errors.Is(err, oci.Unknown) || asked > 10 {
		t.Errorf("tags: %d pages, then %v", asked, err)
	}
	asked = 0
	if _, err := collect(c.Referrers(t.Context(), "app", digestOf(nil), "")); !errors.Is(err, oci.Unknown) || asked > 10 {
		t.Errorf("referrers: %d pages, then %v", asked, err)
	}
}

// TestATagThatIsNoListOfReferrers: what lies under the tag that would be one is
// somebody's image, and is not overwritten.
func TestATagThatIsNoListOfReferrers(t *testing.T) {
	t.Parallel()
	image := `{"schemaVersion":2,"mediaType":"` + oci.MediaTypeManifest + `","config":{"mediaType":"a/b","digest":"` + string(digestOf(nil)) + `","size":0},"layers":[]}`
	subject := digest.SHA512.FromString("subject")
	var put []string
	c := open(t, func(w http.ResponseWriter, r *http.Request) {
		switch tag := "sha512-" + subject.Encoded()[:64]; {
		case r.URL.Path == "/v2/":
		case r.Method == http.MethodPut:
			put = append(put, strings.TrimPrefix(r.URL.Path, "/v2/app/manifests/"))
			w.WriteHeader(http.StatusCreated)
		case r.URL.Path == "/v2/app/manifests/"+tag:
			w.Header().Set("Content-Type", oci.MediaTypeManifest)
			_, _ = io.WriteString(w, image)
		default:
			w.WriteHeader(http.StatusNotFound)
		}
	}, (&clock{}).options(&faults{}))
	raw := strings.TrimSuffix(image, "}") + `,"subject":{"mediaType":"` + oci.MediaTypeManifest + `","digest":"` + string(subject) + `","size":1}}`
	_, err := c.PutManifest(t.Context(), "app", oci.Put{Raw: []byte(raw), Tags: []string{"sig"}})
	if err == nil || !slices.Equal(put, []string{"sig"}) {
		t.Errorf("got %v after pushes to %v", err, put)
	}
}

// TestNoTokenForNothing: a token server that gives none where no scope is
// asked for does not keep us from what it gives tokens for.
func TestNoTokenForNothing(t *testing.T) {
	t.Parallel()
	c := open(t, func(w http.ResponseWriter, r *http.Request) {
		switch {
		case r.URL.Path == "/token" && r.URL.Query().Get("scope") == "":
			w.WriteHeader(http.StatusForbidden)
		case r.URL.Path == "/token":
			_, _ = io.WriteString(w, `{"token":"t"}`)
		case r.Header.Get("Authorization") == "":
			w.Header().Set("WWW-Authenticate", `Bearer realm="/token"`)
			w.WriteHeader(http.StatusUnauthorized)
		case strings.HasSuffix(r.URL.Path, "/tags/list"):
			_, _ = io.WriteString(w, `{"tags":["v1"]}`)
		case r.Method == http.MethodPut:
			w.WriteHeader(http.StatusCreated)
		default:
			w.WriteHeader(http.StatusNotFound)
		}
	}, (&clock{}).options(&faults{}))
	if _, err := c.PutManifest(t.Context(), "app", oci.Put{Raw: []byte(`{}`), MediaType: oci.MediaTypeIndex, Tags: []string{"v1"}}); err != nil {
		t.Error("PutManifest:", err)
	}
	if details, err := collect(c.TagDetails(t.Context(), "app", "")); err != nil || len(details) != 1 {
		t.Errorf("TagDetails: %v, %v", details, err)
	}
}

// TestChunksOfAnySize: a registry does not make us keep more in memory than we
// would.
func TestChunksOfAnySize(t *testing.T) {
	t.Parallel()
	for said, want := range map[string]int64{"": 0, "-5": 0, "1000": 1000, "9223372036854775807": 0, "x": 0} {
		c := open(t, func(w http.ResponseWriter, r *http.Request) {
			if r.Method == http.MethodPost {
				w.Header().Set("Location", "/v2/app/blobs/uploads/1")
				w.Header().Set("OCI-Chunk-Min-Length", said)
				w.WriteHeader(http.StatusAccepted)
			}
		}, Options{})
		up, err := c.Upload(t.Context(), "app", "", oci.UploadOptions{})
		if err != nil {
			t.Fatal(err)
		}
		if got := up.(*uploading).least; got != want {
			t.Errorf("%q: the least is %d, want %d", said, got, want)
		}
	}
}
