package client

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/authn"

	"github.com/regctl/regctl/client/oci"
)

// open starts h as a registry in plain HTTP and returns a client of it.
func open(t *testing.T, h http.HandlerFunc, o Options) *Client {
	t.Helper()
	server := httptest.NewServer(h)
	t.Cleanup(server.Close)
	if o.After == nil {
		o.After = atOnce
	}
	c, err := New(server.Listener.Addr().String(), o)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// answer is a registry that answers every list with body.
func answer(body string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/v2/" {
			_, _ = io.WriteString(w, body)
		}
	}
}

func collect[T any](seq iter.Seq2[T, error]) ([]T, error) {
	var all []T
	for item, err := range seq {
		if err != nil {
			return all, err
		}
		all = append(all, item)
	}
	return all, nil
}

// paged lists names by pages of two.
func paged(key string, names ...string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/v2/" {
			return
		}
		rest := names
		if last := r.URL.Query().Get("last"); last != "" {
			rest = names[slices.Index(names, last)+1:]
		}
		if len(rest) > 2 {
			rest = rest[:2]
			w.Header().Set("Link", "<"+r.URL.Path+"?n=2&last="+rest[1]+`>; rel="next"`)
		}
		_ = json.NewEncoder(w).Encode(map[string]any{"name": "x", key: rest})
	}
}

func TestListsFollowPages(t *testing.T) {
	t.Parallel()
	want := []string{"a", "c", "b", "e", "d"} // Not every server sorts.
	got, err := collect(open(t, paged("repositories", want...), Options{}).Repos(t.Context(), ""))
	if err != nil || !slices.Equal(got, want) {
		t.Errorf("Repos: got %q, %v", got, err)
	}
	c := open(t, paged("tags", want...), Options{})
	got, err = collect(c.Tags(t.Context(), "app", ""))
	if err != nil || !slices.Equal(got, want) {
		t.Errorf("Tags: got %q, %v", got, err)
	}
	got, err = collect(c.Tags(t.Context(), "app", "c"))
	if err != nil || !slices.Equal(got, want[2:]) {
		t.Errorf("Tags after c: got %q, %v", got, err)
	}
}

// TestListsStopEarly: who has enough costs the registry no further page.
func TestListsStopEarly(t *testing.T) {
	t.Parallel()
	var pages atomic.Int64
	h := paged("tags", "a", "b", "c", "d", "e")
	c := open(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/v2/" {
			pages.Add(1)
		}
		h(w, r)
	}, Options{})
	for tag, err := range c.Tags(t.Context(), "app", "") {
		if err != nil {
			t.Fatal(err)
		}
		if tag == "c" {
			break
		}
	}
	if n := pages.Load(); n != 2 {
		t.Errorf("%d pages were asked for, want 2", n)
	}
}

func TestEmptyLists(t *testing.T) {
	t.Parallel()
	for _, body := range []string{
		`{"name":"app","tags":null}`, `{"tags":[]}`, `{"name":"app"}`, `{}`, `{"tags":null,"name":{"x":[1]}}`, "{\"tags\" : [ ]}\n",
	} {
		got, err := collect(open(t, answer(body), Options{}).Tags(t.Context(), "app", ""))
		if err != nil || len(got) > 0 {
			t.Errorf("%s: got %q, %v", body, got, err)
		}
	}
}

func TestAnswersThatAreNoLists(t *testing.T) {
	t.Parallel()
	for body, code := range map[string]oci.Code{
		"":                             oci.Unknown,
		"<html>":                       oci.Unknown,
		"[]":                           oci.Unknown,
		`{"tags":{}}`:                  oci.Unknown,
		`{"tags":"x"}`:                 oci.Unknown,
		`{"tags":[1]}`:                 oci.Unknown,
		`{"tags":["a"`:                 oci.Unknown,
		`{"tags":["a",]}`:              oci.Unknown,
		`{"tags":["a\nb"]}`:            oci.NameInvalid,
		`{"tags":["a\u001b[2J"]}`:      oci.NameInvalid,
		`{"tags":["a b"]}`:             oci.NameInvalid,
		`{"name":"x","tags":["a"]`:     "", // The list was seen to end.
		`{"tags":["a"],"tags":["b"]}`:  "",
		`{"x":[{"tags":[]}],"tags":[]`: "",
	} {
		c := open(t, answer(body), Options{})
		_, err := collect(c.Tags(t.Context(), "app", ""))
		if code == "" {
			if err != nil {
				t.Errorf("%s: %v", body, err)
			}
			continue
		}
		if !errors.Is(err, code) || !strings.HasPrefix(err.Error(), c.Host()+"/app: ") {
			t.Errorf("%s: got %v, want %s", body, err, code)
		}
	}
}

// TestListBrokenOff: half a list is never taken for a whole one.
func TestListBrokenOff(t *testing.T) {
	t.Parallel()
	c := open(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/v2/" {
			return
		}
		w.Header().Set("Content-Length", "1000")
		_, _ = io.WriteString(w, `{"tags":["a","b"`)
	}, Options{})
	got, err := collect(c.Tags(t.Context(), "app", ""))
	if !errors.Is(err, oci.Unavailable) || len(got) == 0 || got[0] != "a" {
		t.Errorf("got %q, %v", got, err)
	}
}

func TestTagDetails(t *testing.T) {
	t.Parallel()
	digest := "sha256:" + strings.Repeat("a", 64)
	var asked atomic.Int64
	c := open(t, func(w http.ResponseWriter, r *http.Request) {
		asked.Add(1)
		switch {
		case r.URL.Path == "/v2/":
			w.Header().Set(extensionsHeader, listsDetails)
		case r.URL.Path != "/v2/app/_regctl/tags":
			w.WriteHeader(http.StatusNotFound)
		case r.URL.Query().Get("last") == "":
			w.Header().Set("Link", `<?last=1>; rel="next"`)
			_, _ = fmt.Fprintf(w, `{"schema":"regctl.tags/v1","name":"app","tags":[{"tag":"1","digest":%q,"mediaType":"m","manifestSize":5,
				"size":7,"created":"2026-01-02T03:04:05Z","platforms":[{"os":"linux","architecture":"amd64"}]}]}`, digest)
		default:
			_, _ = fmt.Fprintf(w, `{"tags":[{"tag":"2","digest":%q}]}`, digest)
		}
	}, Options{})
	got, err := collect(c.TagDetails(t.Context(), "app", ""))
	if err != nil || len(got) != 2 {
		t.Fatalf("got %+v, %v", got, err)
	}
	one := got[0]
	if one.Tag != "1" || one.Manifest.Digest != oci.Digest(digest) || one.Manifest.MediaType != "m" || one.Manifest.Size != 5 ||
		one.Size != 7 || !one.Created.Equal(time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)) || !one.Pushed.IsZero() ||
		len(one.Platforms) != 1 || one.Platforms[0].OS != "linux" {
		t.Errorf("got %+v", one)
	}
	asked.Store(0)
	first, more, err := c.FirstTagDetails(t.Context(), "app")
	if err != nil || !more || len(first) != 1 || first[0].Tag != "1" || asked.Load() != 1 {
		t.Errorf("got %+v, %v, %v by %d requests", first, more, err, asked.Load())
	}
	if _, _, err := c.FirstTagDetails(t.Context(), "nope"); !errors.Is(err, oci.NotFound) && !errors.Is(err, oci.NameUnknown) {
		t.Errorf("got %v", err)
	}
	if _, _, err := c.FirstTagDetails(t.Context(), "NO"); !errors.Is(err, oci.NameInvalid) {
		t.Errorf("got %v", err)
	}
	last := open(t, answer(`{"tags":[{"tag":"1","digest":"`+digest+`"}]}`), Options{})
	if first, more, err := last.FirstTagDetails(t.Context(), "app"); err != nil || more || len(first) != 1 {
		t.Errorf("got %+v, %v, %v", first, more, err)
	}
	for _, bad := range []string{`{"tag":"-","digest":"` + digest + `"}`, `{"tag":"1","digest":"x"}`, `{"tag":"1","digest":5}`} {
		if _, err := collect(open(t, answer(`{"tags":[`+bad+`]}`), Options{}).TagDetails(t.Context(), "app", "")); err == nil {
			t.Errorf("%s was accepted", bad)
		}
		if got, _, err := open(t, answer(`{"tags":[`+bad+`]}`), Options{}).FirstTagDetails(t.Context(), "app"); err == nil || got != nil {
			t.Errorf("%s was accepted", bad)
		}
	}
}

// TestNextPage: the next page is never on another host, in another scheme, or
// this one again.
func TestNextPage(t *testing.T) {
	t.Parallel()
	for link, want := range map[string]string{
		`</v2/app/tags/list?last=b>; rel="next"`:              "c",
		`<?last=b>;rel=next`:                                  "c",
		`<?last=b>`:                                           "c",
		`<?last=b>; rel="prev"`:                               "",
		`<?last=x>; rel="prev", <?last=b>; rel="next"`:        "c",
		`<?last=b>; rel="next", <?last=x>; rel="last"`:        "c",
		`<?last=x>; rel=prev,<?last=b>; REL=Next`:             "c",
		`<?last=x>; rel="prev"; title="a, <b>; rel=\"next\""`: "",
		`<?last=b>; title="x"; rel="first next"`:              "c",
		`<?last=x>; rel="nextish"`:                            "",
		`<?last=x>; rel="prev`:                                "",
		``:                                                    "",
		`garbage`:                                             "",
		`<>; rel="next"`:                                      "",
		`<http://192.0.2.1/v2/app/tags/list?last=b>; rel="next"`: "error",
		`<https://HOST/v2/app/tags/list?last=b>; rel="next"`:     "error",
		`<http://HOST/v2/app/tags/list?last=b>; rel="next"`:      "c",
		`<//192.0.2.1/x>; rel="next"`:                            "error",
		`<?n=1000>; rel="next"`:                                  "error",
		`<http://%zz>; rel="next"`:                               "error",
	} {
		c := open(t, func(w http.ResponseWriter, r *http.Request) {
			switch {
			case r.URL.Path == "/v2/":
			case r.URL.Query().Get("last") == "b":
				_, _ = io.WriteString(w, `{"tags":["c"]}`)
			default:
				w.Header().Set("Link", strings.ReplaceAll(link, "HOST", r.Host))
				_, _ = io.WriteString(w, `{"tags":["a","b"]}`)
			}
		}, Options{})
		got, err := collect(c.Tags(t.Context(), "app", ""))
		switch {
		case want == "error" && err == nil, want != "error" && err != nil,
			want == "c" && !slices.Equal(got, []string{"a", "b", "c"}), want == "" && !slices.Equal(got, []string{"a", "b"}):
			t.Errorf("%s: got %q, %v", link, got, err)
		}
	}
}

func TestErrorCodes(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		status int
		body   string
		want   oci.Code
	}{
		{401, "", oci.Unauthorized}, {403, "", oci.Denied}, {429, "", oci.TooManyRequests}, {500, "", oci.Unknown},
		{502, "<html>", oci.Unavailable}, {503, "", oci.Unavailable}, {404, "", oci.NotFound},
		{404, `{"errors":[{"code":"NAME_UNKNOWN","message":"no such thing"}]}`, oci.NameUnknown},
	} {
		client := open(t, func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path != "/v2/" {
				w.WriteHeader(c.status)
				_, _ = io.WriteString(w, c.body)
			}
		}, Options{})
		if _, err := collect(client.Tags(t.Context(), "app", "")); !errors.Is(err, c.want) {
			t.Errorf("%d %s: got %v", c.status, c.body, err)
		}
	}
}

func TestNoCatalogue(t *testing.T) {
	t.Parallel()
	for status, want := range map[int]oci.Code{404: oci.Unsupported, 405: oci.Unsupported, 401: oci.Unauthorized, 403: oci.Denied} {
		c := open(t, func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path != "/v2/" {
				w.WriteHeader(status)
			}
		}, Options{})
		if _, err := collect(c.Repos(t.Context(), "")); !errors.Is(err, want) {
			t.Errorf("%d: got %v", status, err)
		}
	}
	web := open(t, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(404) }, Options{})
	if _, err := collect(web.Repos(t.Context(), "")); !errors.Is(err, oci.NotFound) || !strings.HasSuffix(err.Error(), " is not a registry: it has no /v2/") {
		t.Errorf("got %v", err)
	}
}

func TestBadRepo(t *testing.T) {
	t.Parallel()
	c := open(t, func(_ http.ResponseWriter, r *http.Request) { t.Errorf("%s was asked for", r.URL) }, Options{})
	if _, err := collect(c.Tags(t.Context(), "../x", "")); !errors.Is(err, oci.NameInvalid) {
		t.Errorf("got %v", err)
	}
}

// tokens is a registry that wants a token for each repository, and counts
// them.
func tokens(granted *atomic.Int64) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/token" {
			granted.Add(1)
			user, _, _ := r.BasicAuth()
			_ = json.NewEncoder(w).Encode(map[string]string{"token": user + "|" + strings.Join(r.URL.Query()["scope"], " ")})
			return
		}
		_, repo, _ := strings.Cut(r.URL.Path, "/v2/")
		repo = strings.TrimSuffix(repo, "/tags/list")
		if r.Header.Get("Authorization") != "Bearer testuser|repository:"+repo+":pull" {
			w.Header().Set("WWW-Authenticate", `Bearer realm="http://`+r.Host+`/token",service="test"`)
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		_, _ = io.WriteString(w, `{"tags":["1"]}`)
	}
}

func TestTokens(t *testing.T) {
	t.Parallel()
	var granted atomic.Int64
	c := open(t, tokens(&granted), Options{Keychain: keychain{Username: "testuser", Password: "secret"}})
	for _, repo := range []string{"app", "team/app", "app"} {
		if got, err := collect(c.Tags(t.Context(), repo, "")); err != nil || len(got) != 1 {
			t.Errorf("%s: got %q, %v", repo, got, err)
		}
	}
	if n := granted.Load(); n != 2 {
		t.Errorf("%d tokens for two repositories", n)
	}
	for i := range 2 * maxTokens {
		if _, err := collect(c.Tags(t.Context(), fmt.Sprintf("r%d", i), "")); err != nil {
			t.Fatal(err)
		}
	}
	if n := len(c.link.Load().auth.tokens); n > maxTokens {
		t.Errorf("%d tokens are kept", n)
	}
	denied := open(t, tokens(&granted), Options{})
	if _, err := collect(denied.Tags(t.Context(), "app", "")); !errors.Is(err, oci.Unauthorized) {
		t.Errorf("without a login: got %v", err)
	}
}

// keychain knows one login.
type keychain authn.AuthConfig

func (k keychain) Resolve(authn.Resource) (authn.Authenticator, error) {
	return authn.FromConfig(authn.AuthConfig(k)), nil
}

func TestSchemes(t *testing.T) {
	t.Parallel()
	for host, want := range map[string][]string{
		"localhost:5000": {"http"}, "127.0.0.1": {"http"}, "[::1]:5000": {"http"}, "a.localhost": {"http"}, "127.9.9.9:1": {"http"},
		"10.0.0.1:5000": {"https"}, "192.168.211.15:5000": {"https"}, "reg.local": {"https"}, "docker.io": {"https"},
		"http://reg.lan": {"http"}, "https://localhost:5000/": {"https"}, "localhost.example.com": {"https"},
	} {
		c, err := New(host, Options{})
		if err != nil || !slices.Equal(c.schemes, want) {
			t.Errorf("%s: got %v, %v", host, c.schemes, err)
		}
	}
	for _, host := range []string{"", "http://", "a b", "a/b", "user@host", "http://a?b"} {
		if _, err := New(host, Options{}); !errors.Is(err, oci.NameInvalid) {
			t.Errorf("%q: got %v", host, err)
		}
	}
}

// TestOneScheme: a registry on a private address is not tried in plain HTTP
// behind the user's back, and a redirect does not lead there either.
func TestOneScheme(t *testing.T) {
	t.Parallel()
	var plain atomic.Bool
	dial := func(ctx context.Context, _, addr string) (net.Conn, error) {
		if strings.HasSuffix(addr, ":80") {
			plain.Store(true)
		}
		return nil, syscall.ECONNREFUSED
	}
	c, err := New("192.168.211.15", Options{Transport: &http.Transport{DialContext: dial}})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := collect(c.Repos(t.Context(), "")); !errors.Is(err, oci.Unavailable) || err.Error() != "192.168.211.15: connection refused" {
		t.Errorf("got %v", err)
	}
	if plain.Load() {
		t.Error("plain HTTP was tried")
	}
	tls := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/v2/" {
			http.Redirect(w, r, "http://"+r.Host+r.URL.Path, http.StatusFound)
		}
	}))
	defer tls.Close()
	c, err = New("https://"+tls.Listener.Addr().String(), Options{Transport: tls.Client().Transport})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := collect(c.Repos(t.Context(), "")); !errors.Is(err, oci.Unavailable) || !strings.Contains(err.Error(), "is spoken to in https only") {
		t.Errorf("got %v", err)
	}
}

func TestSpeaks(t *testing.T) {
	t.Parallel()
	plain := httptest.NewServer(answer(`{"repositories":[]}`))
	defer plain.Close()
	tls := httptest.NewUnstartedServer(answer(`{"repositories":[]}`))
	tls.StartTLS()
	defer tls.Close()
	for host, want := range map[string]*SpeaksError{
		"https://" + plain.Listener.Addr().String(): {Plain: true},
		tls.Listener.Addr().String():                {Plain: false},
	} {
		c, err := New(host, Options{})
		if err != nil {
			t.Fatal(err)
		}
		_, err = collect(c.Repos(t.Context(), ""))
		var got *SpeaksError
		if !errors.As(err, &got) || got.Plain != want.Plain || !errors.Is(err, oci.Unavailable) || got.Host != c.Host() {
			t.Errorf("%s: got %v", host, err)
		}
	}
	for _, server := range []*httptest.Server{plain, tls} {
		c, err := New(server.Listener.Addr().String(), Options{Insecure: true})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := collect(c.Repos(t.Context(), "")); err != nil {
			t.Errorf("insecure %s: %v", server.URL, err)
		}
	}
}

// TestCancelled: the end of a context is told as such, not as a registry that
// cannot be reached.
func TestCancelled(t *testing.T) {
	t.Parallel()
	for _, hang := range []string{"/v2/", "/v2/_catalog"} {
		ctx, cancel := context.WithCancel(t.Context())
		c := open(t, func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path == hang {
				cancel()
				<-r.Context().Done()
			}
		}, Options{})
		if _, err := collect(c.Repos(ctx, "")); !errors.Is(err, context.Canceled) || errors.Is(err, oci.Unavailable) {
			t.Errorf("%s: got %v", hang, err)
		}
		cancel()
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
	defer cancel()
	c := open(t, func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }, Options{})
	if _, err := collect(c.Repos(ctx, "")); !errors.Is(err, oci.Unavailable) || !strings.HasSuffix(err.Error(), ": no answer in time") {
		t.Errorf("got %v", err)
	}
}

func TestUserAgent(t *testing.T) {
	t.Parallel()
	for agent, want := range map[string]string{"": "regctl", "regctl/1.2": "regctl/1.2"} {
		c := open(t, func(w http.ResponseWriter, r *http.Request) {
			if r.UserAgent() != want {
				t.Errorf("%s: User-Agent %q, want %q", r.URL, r.UserAgent(), want)
			}
			answer(`{"tags":[]}`)(w, r)
		}, Options{UserAgent: agent})
		if _, err := collect(c.Tags(t.Context(), "app", "")); err != nil {
			t.Error(err)
		}
	}
}

// FuzzItems: no answer makes the decoder do anything but list names or fail.
func FuzzItems(f *testing.F) {
	for _, s := range []string{`{"tags":["a","b"]}`, `{"tags":null}`, `{"x":{"tags":[]},"tags":["a"]}`, `[`, `{"tags":[{}]}`} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, body string) {
		failed := false
		items(strings.NewReader(body), "tags", decodeName, func(name string, err error) bool {
			if failed {
				t.Error("went on after an error")
			}
			failed = err != nil
			if err == nil && strings.ContainsAny(name, "\n\r\x1b ") {
				t.Errorf("name %q", name)
			}
			return err == nil
		})
	})
}
