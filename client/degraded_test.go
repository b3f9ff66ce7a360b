package client_test

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/regctl/regctl/client"
	"github.com/regctl/regctl/client/oci"
	"github.com/regctl/regctl/client/oci/ocitest"
)

// rig is regctl serve made worse, with a record of what it was asked.
type rig struct {
	*client.Client

	mu    sync.Mutex
	asked []string
}

// worse is a client of our server behind what makes it worse; nil: nothing.
func worse(t testing.TB, how func(w http.ResponseWriter, r *http.Request, next http.Handler), o ...client.Options) *rig {
	t.Helper()
	g, inner := &rig{}, ours(t)
	h := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		g.mu.Lock()
		if r.URL.Path != "/v2/" {
			g.asked = append(g.asked, r.Method+" "+r.URL.Path)
		}
		g.mu.Unlock()
		if how == nil {
			inner.ServeHTTP(w, r)
			return
		}
		how(w, r, inner)
	})
	options := client.Options{After: atOnce}
	if len(o) > 0 {
		options = o[0]
		options.After = atOnce
	}
	g.Client = dial(t, h, options)
	return g
}

func atOnce(time.Duration) <-chan time.Time {
	c := make(chan time.Time)
	close(c)
	return c
}

// requests returns what was asked since it was last called, with methods only
// of paths that have in in them.
func (g *rig) requests(in string) []string {
	g.mu.Lock()
	defer g.mu.Unlock()
	var methods []string
	for _, a := range g.asked {
		method, path, _ := strings.Cut(a, " ")
		if strings.Contains(path, in) {
			methods = append(methods, method)
		}
	}
	g.asked = nil
	return methods
}

// edited changes the headers of an answer before they go out.
type edited struct {
	http.ResponseWriter

	edit func(http.Header)
	done bool
}

func (e *edited) WriteHeader(status int) {
	if !e.done {
		e.done = true
		e.edit(e.Header())
	}
	e.ResponseWriter.WriteHeader(status)
}

func (e *edited) Write(p []byte) (int, error) {
	if !e.done {
		e.WriteHeader(http.StatusOK)
	}
	return e.ResponseWriter.Write(p)
}

// without takes headers off every answer.
func without(names ...string) func(http.ResponseWriter, *http.Request, http.Handler) {
	return func(w http.ResponseWriter, r *http.Request, next http.Handler) {
		next.ServeHTTP(&edited{ResponseWriter: w, edit: func(h http.Header) {
			for _, n := range names {
				h.Del(n)
			}
		}}, r)
	}
}

// refusing answers requests whose "METHOD /path" has match in it.
func refusing(match string, status int, body string) func(http.ResponseWriter, *http.Request, http.Handler) {
	return func(w http.ResponseWriter, r *http.Request, next http.Handler) {
		if strings.Contains(r.Method+" "+r.URL.RequestURI(), match) {
			w.WriteHeader(status)
			fmt.Fprint(w, body)
			return
		}
		foreign(w, r, next)
	}
}

// foreign is a server that does not say that it is regctl serve, and is not.
func foreign(w http.ResponseWriter, r *http.Request, next http.Handler) {
	if strings.Contains(r.URL.Path, "/_regctl/") {
		http.NotFound(w, r)
		return
	}
	without("Regctl-Extensions")(w, r, next)
}

// broken ends a connection after some bytes of an answer.
type broken struct {
	http.ResponseWriter

	left int
}

func (b *broken) Write(p []byte) (int, error) {
	n, err := b.ResponseWriter.Write(p[:min(len(p), b.left)])
	if b.left -= n; b.left == 0 {
		_ = http.NewResponseController(b.ResponseWriter).Flush()
		panic(http.ErrAbortHandler)
	}
	return n, err
}

const repo = "team/app"

func image(t testing.TB, reg oci.Registry, tags ...string) map[string]oci.Digest {
	t.Helper()
	named := ocitest.Tags{}
	for _, tag := range tags {
		named[tag] = "image"
	}
	return ocitest.Push(t, reg, ocitest.Content{repo: {
		Blobs:     ocitest.Blobs{"layer": "bytes of a layer"},
		Manifests: ocitest.Manifests{"image": {Layers: "layer", Platform: "linux/amd64", Created: "2020-01-02T03:04:05Z"}},
		Tags:      named,
	}})
}

func TestResolveWhereHeadDoesNotTell(t *testing.T) {
	for name, how := range map[string]func(http.ResponseWriter, *http.Request, http.Handler){
		"no digest":   without("Docker-Content-Digest"),
		"no length":   without("Content-Length"),
		"no type":     without("Content-Type"),
		"no HEAD":     refusing("HEAD /v2/team/app/manifests", http.StatusMethodNotAllowed, ""),
		"HEAD is 400": refusing("HEAD /v2/team/app/manifests", http.StatusBadRequest, ""),
	} {
		g := worse(t, how)
		want := image(t, g, "v1")["image"]
		d, err := g.Resolve(t.Context(), repo, "v1")
		if err != nil || d.Digest != want || d.Size <= 0 || d.MediaType != oci.MediaTypeManifest {
			t.Errorf("%s: %+v, %v", name, d, err)
		}
		if _, err := g.Resolve(t.Context(), repo, "v2"); !errors.Is(err, oci.ManifestUnknown) {
			t.Errorf("%s: error is %v", name, err)
		}
	}
}

func TestAManifestIsWhatWasAskedFor(t *testing.T) {
	var lie []byte
	g := worse(t, func(w http.ResponseWriter, r *http.Request, next http.Handler) {
		if lie != nil && r.Method == http.MethodGet && strings.Contains(r.URL.Path, "/manifests/") {
			w.Header().Set("Docker-Content-Digest", string(digest.FromString("else")))
			_, _ = w.Write(lie)
			return
		}
		next.ServeHTTP(w, r)
	})
	d := image(t, g, "v1")["image"]
	for _, body := range []string{"{}", strings.Repeat(" ", 17<<20)} {
		lie = []byte(body)
		for _, ref := range []string{"v1", string(d)} {
			if m, err := g.Manifest(t.Context(), repo, ref); err == nil {
				t.Errorf("%s is taken for %s", m.Descriptor.Digest, ref)
			}
		}
	}
}

func TestVagueMediaTypesAreToldFromTheBody(t *testing.T) {
	for _, vague := range []string{"application/json; charset=utf-8", "text/plain", ""} {
		g := worse(t, func(w http.ResponseWriter, r *http.Request, next http.Handler) {
			next.ServeHTTP(&edited{ResponseWriter: w, edit: func(h http.Header) { h.Set("Content-Type", vague) }}, r)
		})
		image(t, g, "v1")
		if m, err := g.Manifest(t.Context(), repo, "v1"); err != nil || m.Descriptor.MediaType != oci.MediaTypeManifest {
			t.Errorf("%q: %+v, %v", vague, m.Descriptor, err)
		}
	}
}

// big is content that no buffer holds at once.
func big(n int) []byte {
	b := make([]byte, n)
	for i := 0; i < n; i += sha256.Size {
		sum := sha256.Sum256([]byte(fmt.Sprint(i)))
		copy(b[i:], sum[:])
	}
	return b
}

func TestDownloadsGoOnWhereTheyBroke(t *testing.T) {
	content := big(3 << 20)
	d := digest.FromBytes(content)
	for name, c := range map[string]struct {
		breaks int
		edit   func(w http.ResponseWriter, r *http.Request)
	}{
		"with Range":    {6, func(http.ResponseWriter, *http.Request) {}},
		"without Range": {3, func(_ http.ResponseWriter, r *http.Request) { r.Header.Del("Range") }},
		"with Range it does not like": {3, func(w http.ResponseWriter, r *http.Request) {
			if r.Header.Get("Range") != "" {
				w.WriteHeader(http.StatusBadRequest)
			}
		}},
	} {
		breaks := 0
		g := worse(t, func(w http.ResponseWriter, r *http.Request, next http.Handler) {
			if r.Method != http.MethodGet || !strings.Contains(r.URL.Path, "/blobs/sha256") {
				next.ServeHTTP(w, r)
				return
			}
			e := &edited{ResponseWriter: w, edit: func(http.Header) {}}
			if c.edit(e, r); e.done {
				return
			}
			if breaks++; breaks <= c.breaks {
				w = &broken{w, 400_000 * breaks}
			}
			next.ServeHTTP(w, r)
		})
		ocitest.PushBlob(t, g, repo, string(content))
		b, err := g.Blob(t.Context(), repo, d)
		if err != nil {
			t.Fatal(name, err)
		}
		got, err := io.ReadAll(b)
		if err != nil || !bytes.Equal(got, content) {
			t.Errorf("%s: %d bytes, %v", name, len(got), err)
		}
		if breaks <= c.breaks/2 {
			t.Errorf("%s: broke %d times", name, breaks)
		}
		b.Close()
	}
}

func TestDownloadsThatGetNowhereEnd(t *testing.T) {
	content := big(1 << 20)
	n := 0
	g := worse(t, func(w http.ResponseWriter, r *http.Request, next http.Handler) {
		if r.Method == http.MethodGet && strings.Contains(r.URL.Path, "/blobs/sha256") {
			n++
			w = &broken{w, 100}
		}
		next.ServeHTTP(w, r)
	})
	ocitest.PushBlob(t, g, repo, string(content))
	b, err := g.Blob(t.Context(), repo, digest.FromBytes(content))
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	if _, err := io.Copy(io.Discard, b); !errors.Is(err, oci.Unavailable) || n > 20 {
		t.Errorf("error is %v after %d requests", err, n)
	}
}

func TestABlobIsVerified(t *testing.T) {
	content := big(1 << 20)
	for name, c := range map[string]struct {
		send, announce int
		flip           bool
		want           error
	}{
		"other bytes":          {1 << 20, 1 << 20, true, oci.DigestInvalid},
		"too few":              {1 << 19, 1 << 19, false, oci.DigestInvalid},
		"fewer than announced": {1 << 20, 1<<20 + 5000, false, nil},
	} {
		g := worse(t, func(w http.ResponseWriter, r *http.Request, next http.Handler) {
			if r.Method == http.MethodGet && strings.Contains(r.URL.Path, "/blobs/sha256") {
				sent := bytes.Clone(content[:c.send])
				if c.flip {
					sent[77] ^= 1
				}
				w.Header().Set("Content-Length", fmt.Sprint(c.announce))
				_, _ = w.Write(sent)
				return
			}
			next.ServeHTTP(w, r)
		})
		b, err := g.Blob(t.Context(), repo, digest.FromBytes(content))
		if err != nil {
			t.Fatal(name, err)
		}
		n, err := io.Copy(io.Discard, b)
		if !errors.Is(err, c.want) || c.want == nil && (err != nil || n != 1<<20) {
			t.Errorf("%s: %d bytes, error is %v", name, n, err)
		}
		b.Close()
	}
}

func TestSmallBlobsAreTwoRequests(t *testing.T) {
	g := worse(t, nil)
	ocitest.PushBlob(t, g, repo, "small")
	if got := g.requests("/blobs/"); !slices.Equal(got, []string{"POST", "PUT"}) {
		t.Errorf("asked %v", got)
	}
	if up, err := g.MountBlob(t.Context(), "team/other", repo, digest.FromString("small")); up != nil || err != nil {
		t.Error(up, err)
	}
	if got := g.requests("/"); !slices.Equal(got, []string{"POST"}) {
		t.Errorf("asked %v", got)
	}
	raw := []byte(`{"schemaVersion":2,"mediaType":"` + oci.MediaTypeIndex + `","manifests":[]}`)
	if _, err := g.PutManifest(t.Context(), repo, oci.Put{Tags: []string{"a", "b", "c"}, Raw: raw}); err != nil {
		t.Error(err)
	}
	if got := g.requests("/"); !slices.Equal(got, []string{"PUT"}) {
		t.Errorf("asked %v", got)
	}
}

// onlyReader cannot seek.
type onlyReader struct{ io.Reader }

func push(t *testing.T, reg oci.Registry, r io.Reader, content []byte) error {
	t.Helper()
	up, err := reg.Upload(t.Context(), repo, "", oci.UploadOptions{})
	if err != nil {
		return err
	}
	defer up.Close()
	n, err := up.ReadFrom(r)
	if err == nil && (n != int64(len(content)) || up.Size() != n) {
		t.Errorf("read %d, size %d, want %d", n, up.Size(), len(content))
	}
	if err != nil {
		return err
	}
	d, err := up.Commit(t.Context(), digest.FromBytes(content))
	if err == nil && d.Size != n {
		t.Errorf("committed %d bytes", d.Size)
	}
	return err
}

// cutting breaks the n-th to m-th PATCH after some bytes of it have arrived.
func cutting(first, last, after int, forget bool) func(http.ResponseWriter, *http.Request, http.Handler) {
	n := 0
	return func(w http.ResponseWriter, r *http.Request, next http.Handler) {
		if forget && r.Method == http.MethodGet && strings.Contains(r.URL.Path, "/uploads/") {
			http.NotFound(w, r)
			return
		}
		if r.Method != http.MethodPatch {
			next.ServeHTTP(w, r)
			return
		}
		if n++; n < first || n > last {
			next.ServeHTTP(w, r)
			return
		}
		var start int
		first, _, _ := strings.Cut(r.Header.Get("Content-Range"), "-")
		_, _ = fmt.Sscan(first, &start) // Zero without one.
		if r.Header.Del("Content-Range"); after > 0 {
			r.Header.Set("Content-Range", fmt.Sprintf("%d-%d", start, start+after-1))
		}
		r.Body = io.NopCloser(io.LimitReader(r.Body, int64(after)))
		r.ContentLength = int64(after)
		next.ServeHTTP(&edited{ResponseWriter: w, edit: func(http.Header) { panic(http.ErrAbortHandler) }}, r)
	}
}

func TestUploadsGoOnWhereTheyBroke(t *testing.T) {
	content := big(12 << 20)
	for name, how := range map[string]func(http.ResponseWriter, *http.Request, http.Handler){
		"whole":     nil,
		"cut":       cutting(1, 3, 3<<20, false),
		"cut later": cutting(2, 2, 1<<20, false),
		"no status": cutting(1, 1, 3<<20, true),
		"one byte":  cutting(1, 2, 1, false),
		"absolute": func(w http.ResponseWriter, r *http.Request, next http.Handler) {
			next.ServeHTTP(&edited{ResponseWriter: w, edit: func(h http.Header) {
				if l := h.Get("Location"); l != "" {
					h.Set("Location", "http://"+r.Host+l+"?_state=a%2Fb")
				}
			}}, r)
		},
		"no PATCH over 3 MiB": func(w http.ResponseWriter, r *http.Request, next http.Handler) {
			if r.ContentLength > 3<<20 {
				w.WriteHeader(http.StatusRequestEntityTooLarge)
				return
			}
			next.ServeHTTP(w, r)
		},
		"chunks only": func(w http.ResponseWriter, r *http.Request, next http.Handler) {
			if r.ContentLength > 8<<20 {
				w.WriteHeader(http.StatusBadRequest)
				fmt.Fprint(w, `{"errors":[{"code":"SIZE_INVALID","message":"send chunks"}]}`)
				return
			}
			next.ServeHTTP(w, r)
		},
		"answer to the commit lost": func(w http.ResponseWriter, r *http.Request, next http.Handler) {
			if r.Method == http.MethodPut {
				w = &edited{ResponseWriter: w, edit: func(http.Header) { panic(http.ErrAbortHandler) }}
			}
			next.ServeHTTP(w, r)
		},
	} {
		for kind, source := range map[string]io.Reader{"seekable": bytes.NewReader(content), "stream": onlyReader{bytes.NewReader(content)}} {
			if name == "no status" && kind == "stream" {
				continue // What is gone from memory cannot be sent again: see below.
			}
			g := worse(t, how)
			if err := push(t, g, source, content); err != nil {
				t.Errorf("%s, %s: %v", name, kind, err)
				continue
			}
			b, err := g.Blob(t.Context(), repo, digest.FromBytes(content))
			if err != nil {
				t.Errorf("%s, %s: %v", name, kind, err)
				continue
			}
			if n, err := io.Copy(io.Discard, b); n != int64(len(content)) || err != nil {
				t.Errorf("%s, %s: %d bytes, %v", name, kind, n, err)
			}
			b.Close()
		}
	}
}

func TestAnUploadThatCannotGoOnFails(t *testing.T) {
	content := big(20 << 20)
	g := worse(t, cutting(2, 2, 1<<20, true))
	if err := push(t, g, onlyReader{bytes.NewReader(content)}, content); err == nil {
		t.Error("what was lost was committed")
	}
	g = worse(t, cutting(1, 1000, 0, false))
	if err := push(t, g, bytes.NewReader(content), content); !errors.Is(err, oci.Unavailable) {
		t.Errorf("error is %v", err)
	}
	if n := len(g.requests("/uploads/")); n > 60 {
		t.Errorf("%d requests", n)
	}
}

func TestABrokenSourceIsNoTroubleOfTheRegistry(t *testing.T) {
	broken := errors.New("the disk is broken")
	g := worse(t, nil)
	up, err := g.Upload(t.Context(), repo, "", oci.UploadOptions{})
	if err != nil {
		t.Fatal(err)
	}
	source := &failing{ReadSeeker: bytes.NewReader(big(5 << 20)), after: 3 << 20, err: broken}
	n, err := up.ReadFrom(source)
	if !errors.Is(err, broken) || n != up.Size() || n > 3<<20 {
		t.Errorf("read %d, size %d, %v", n, up.Size(), err)
	}
}

type failing struct {
	io.ReadSeeker

	after int
	err   error
}

func (f *failing) Read(p []byte) (int, error) {
	if f.after == 0 {
		return 0, f.err
	}
	n, err := f.ReadSeeker.Read(p[:min(len(p), f.after)])
	f.after -= n
	return n, err
}

func TestMountsThatAreRefusedBecomeUploads(t *testing.T) {
	for _, status := range []int{401, 403, 404, 405} {
		g := worse(t, refusing("?from=", status, ""))
		ocitest.PushBlob(t, g, "team/other", "content")
		up, err := g.MountBlob(t.Context(), repo, "team/other", digest.FromString("content"))
		if err != nil || up == nil {
			t.Fatalf("%d: %v, %v", status, up, err)
		}
		if _, err := up.Write([]byte("content")); err != nil {
			t.Error(err)
		}
		if _, err := up.Commit(t.Context(), digest.FromString("content")); err != nil {
			t.Error(err)
		}
	}
}

func TestUploadsAreFoundByAnotherClient(t *testing.T) {
	h := ours(t)
	one, two := dial(t, h, client.Options{}), dial(t, h, client.Options{})
	up, err := one.Upload(t.Context(), repo, "", oci.UploadOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := up.Write([]byte("con")); err != nil {
		t.Fatal(err)
	}
	if err := up.Close(); err != nil {
		t.Fatal(err)
	}
	again, err := two.Upload(t.Context(), repo, up.ID(), oci.UploadOptions{})
	if err != nil || again.Size() != 3 || again.ID() != up.ID() {
		t.Fatalf("%+v, %v", again, err)
	}
	if _, err := again.Write([]byte("tent")); err != nil {
		t.Error(err)
	}
	if _, err := again.Commit(t.Context(), digest.FromString("content")); err != nil {
		t.Error(err)
	}
}
