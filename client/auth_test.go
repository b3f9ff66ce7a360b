package client

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/authn"

	"github.com/regctl/regctl/client/oci"
)

// guarded is a registry with a token server at /token. Its tokens are
// "WHO|SCOPES|NUMBER".
type guarded struct {
	mu      sync.Mutex
	open    bool                         // /v2/ asks nobody.
	answer  map[string]any               // Besides the token.
	refuse  func(scopes []string) int    // A status, or 0.
	want    func(r *http.Request) string // What the token must have in it; nil: the scope pull of app.
	ask     func(r *http.Request) string // The parameters of a challenge besides; nil: none.
	granted []string                     // Who got a token, and for what.
	revoked string                       // A token that is no good any more.
	token   func(w http.ResponseWriter, r *http.Request) bool
}

func (g *guarded) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if r.URL.Path == "/token" {
		if g.token == nil || !g.token(w, r) {
			g.give(w, r)
		}
		return
	}
	want := "repository:app:pull"
	if g.want != nil {
		want = g.want(r)
	}
	if r.URL.Path == "/v2/" {
		want = ""
	}
	value, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
	if (g.open && r.URL.Path == "/v2/") || ok && strings.Contains(value, want) && value != g.revoked {
		_, _ = io.WriteString(w, "hello")
		return
	}
	more := ""
	if g.ask != nil {
		more = g.ask(r)
	}
	w.Header().Set("WWW-Authenticate", fmt.Sprintf(`Bearer realm="http://%s/token",service="test"%s`, r.Host, more))
	w.WriteHeader(http.StatusUnauthorized)
}

func (g *guarded) give(w http.ResponseWriter, r *http.Request) {
	_ = r.ParseForm()
	who, _, ok := r.BasicAuth()
	if !ok {
		who = r.PostForm.Get("refresh_token")
	}
	scopes := strings.Fields(strings.Join(r.Form["scope"], " "))
	g.granted = append(g.granted, who+"|"+strings.Join(scopes, " "))
	if g.refuse != nil {
		if status := g.refuse(scopes); status != 0 {
			w.WriteHeader(status)
			return
		}
	}
	answer := map[string]any{"token": fmt.Sprintf("%s|%d", g.granted[len(g.granted)-1], len(g.granted))}
	for k, v := range g.answer {
		answer[k] = v
	}
	_ = json.NewEncoder(w).Encode(answer)
}

// tokens returns who got one and for what since it was last called.
func (g *guarded) tokens() []string {
	g.mu.Lock()
	defer g.mu.Unlock()
	granted := g.granted
	g.granted = nil
	return granted
}

func login1(user string) Options {
	return Options{Keychain: keychain{Username: user, Password: "secret"}}
}

// TestOneTokenForAScope: however many want it at once, until it runs out.
func TestOneTokenForAScope(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		answer map[string]any
		lasts  time.Duration
	}{
		"not said":     {nil, 45 * time.Second},
		"said":         {map[string]any{"expires_in": 300}, 285 * time.Second},
		"as text":      {map[string]any{"expires_in": "300"}, 285 * time.Second},
		"negative":     {map[string]any{"expires_in": -1}, 45 * time.Second},
		"short":        {map[string]any{"expires_in": 8}, 6 * time.Second},
		"access token": {map[string]any{"token": nil, "access_token": "repository:app:pull"}, 45 * time.Second},
		"issued now":   {map[string]any{"expires_in": 300, "issued_at": time.Now().UTC().Format(time.RFC3339)}, 285 * time.Second},
	} {
		g, clock := &guarded{answer: c.answer}, &clock{}
		o := clock.options(&faults{})
		o.Keychain = keychain{Username: "me", Password: "secret"}
		client := open(t, g.ServeHTTP, o)
		var all sync.WaitGroup
		for range 10 {
			all.Go(func() {
				if body, err := get(t, client, tags); err != nil || body != "hello" {
					t.Errorf("%s: got %q, %v", name, body, err)
				}
			})
		}
		all.Wait()
		if got := g.tokens(); !slices.Equal(got, []string{"me|repository:app:pull"}) {
			t.Errorf("%s: tokens %q", name, got)
		}
		clock.pass(c.lasts - 3*time.Second)
		if _, err := get(t, client, tags); err != nil || len(g.tokens()) != 0 {
			t.Errorf("%s: it did not last: %v", name, err)
		}
		clock.pass(3 * time.Second)
		if _, err := get(t, client, tags); err != nil || len(g.tokens()) != 1 {
			t.Errorf("%s: it was not renewed: %v", name, err)
		}
	}
}

// TestOldTokens: those of a server that hands out the same one for a while
// last as long as they still do, by its own clock.
func TestOldTokens(t *testing.T) {
	t.Parallel()
	start := time.Unix(1000, 0)
	head := http.Header{"Date": {"Fri, 02 Jan 2009 03:04:05 GMT"}}
	got, err := parseToken([]byte(`{"token":"x","expires_in":300,"issued_at":"2009-01-02T03:03:05Z"}`), head, start)
	if err != nil || !got.ends.Equal(start.Add(225*time.Second)) {
		t.Errorf("ends %s after, %v", got.ends.Sub(start), err)
	}
}

// TestTokensThatAreRefused: are replaced, once.
func TestTokensThatAreRefused(t *testing.T) {
	t.Parallel()
	g := &guarded{}
	client := open(t, g.ServeHTTP, login1("me"))
	if _, err := get(t, client, tags); err != nil {
		t.Fatal(err)
	}
	g.mu.Lock()
	g.revoked = "me|repository:app:pull|1"
	g.mu.Unlock()
	if body, err := get(t, client, tags); err != nil || body != "hello" || len(g.tokens()) != 2 {
		t.Errorf("got %q, %v", body, err)
	}
	g.want = func(*http.Request) string { return "never" }
	if _, err := get(t, client, tags); !errors.Is(err, oci.Unauthorized) || len(g.tokens()) != 1 {
		t.Errorf("got %v", err)
	}
	f, o := &faults{}, login1("me")
	o.Transport = f
	other := open(t, g.ServeHTTP, o)
	if _, err := get(t, other, tags); !errors.Is(err, oci.Unauthorized) || len(f.requests()) != 2 {
		t.Errorf("a token that is new and refused was shown or asked for again: %v", err)
	}
}

// TestRegistriesThatAskLater: or for more than one would think.
func TestRegistriesThatAskLater(t *testing.T) {
	t.Parallel()
	g := &guarded{open: true}
	client := open(t, g.ServeHTTP, Options{})
	if body, err := get(t, client, tags); err != nil || body != "hello" {
		t.Errorf("got %q, %v", body, err)
	}
	if err := put(t, client, http.MethodPut, "/v2/app/manifests/1", "x", 2); err != nil {
		t.Error(err)
	}
	once := open(t, (&guarded{open: true}).ServeHTTP, Options{})
	if err := put(t, once, http.MethodPut, "/v2/app/manifests/1", "x", 1); !errors.Is(err, oci.Unauthorized) {
		t.Errorf("a body that cannot be had again: %v", err)
	}
	g = &guarded{
		ask:  func(*http.Request) string { return `,scope="repository:cache/app:pull"` },
		want: func(*http.Request) string { return "repository:cache/app:pull" },
	}
	client = open(t, g.ServeHTTP, Options{})
	for range 2 {
		if body, err := get(t, client, tags); err != nil || body != "hello" {
			t.Errorf("got %q, %v", body, err)
		}
	}
	if got := g.tokens(); !slices.Equal(got, []string{"|repository:app:pull", "|repository:cache/app:pull repository:app:pull"}) {
		t.Errorf("tokens %q", got)
	}
}

// TestTheRightToDelete: has several names; the one that works is remembered.
func TestTheRightToDelete(t *testing.T) {
	t.Parallel()
	only := func(actions string) (func([]string) int, func(*http.Request) string) {
		scope := "repository:app:" + actions
		return func(scopes []string) int {
			if !slices.Contains(scopes, scope) {
				return http.StatusBadRequest
			}
			return 0
		}, func(*http.Request) string { return scope }
	}
	for actions, tries := range map[string]int{"delete": 1, "*": 2, "pull,push": 3} {
		for _, byServer := range []bool{true, false} {
			g := &guarded{}
			refuse, want := only(actions)
			if g.want = want; byServer {
				g.refuse = refuse
			}
			client := open(t, g.ServeHTTP, login1("me"))
			for _, want := range []int{tries, 0} {
				resp, err := client.do(t.Context(), request{method: http.MethodDelete, path: "/v2/app/manifests/1", scope: scope{repo: "app", actions: "delete"}})
				if err != nil {
					t.Errorf("%s: %v", actions, err)
					continue
				}
				_ = resp.Body.Close()
				if got := g.tokens(); len(got) != want {
					t.Errorf("%s: tokens %q, want %d", actions, got, want)
				}
			}
		}
	}
	g := &guarded{want: func(*http.Request) string { return "never" }}
	client := open(t, g.ServeHTTP, login1("me"))
	_, err := client.do(t.Context(), request{method: http.MethodDelete, path: "/v2/app/manifests/1", scope: scope{repo: "app", actions: "delete"}})
	if !errors.Is(err, oci.Unauthorized) || len(g.tokens()) != 3 {
		t.Errorf("got %v", err)
	}
}

// TestIdentityTokens: are exchanged as OAuth2 has it, or by the older way with
// servers that know no other.
func TestIdentityTokens(t *testing.T) {
	t.Parallel()
	g := &guarded{}
	client := open(t, g.ServeHTTP, Options{Keychain: keychain{IdentityToken: "id"}})
	if _, err := get(t, client, tags); err != nil || !slices.Equal(g.tokens(), []string{"id|repository:app:pull"}) {
		t.Errorf("got %v", err)
	}
	for _, status := range []int{404, 405} {
		g = &guarded{token: func(w http.ResponseWriter, r *http.Request) bool {
			if r.Method == http.MethodPost {
				w.WriteHeader(status)
			}
			return r.Method == http.MethodPost
		}}
		client = open(t, g.ServeHTTP, Options{Keychain: keychain{Username: "me", IdentityToken: "id"}})
		if _, err := get(t, client, tags); err != nil || !slices.Equal(g.tokens(), []string{"me|repository:app:pull"}) {
			t.Errorf("%d: got %v", status, err)
		}
	}
	g = &guarded{token: func(w http.ResponseWriter, _ *http.Request) bool {
		w.WriteHeader(http.StatusBadRequest)
		_, _ = io.WriteString(w, `{"error":"invalid_grant","error_description":"it has run out"}`)
		return true
	}}
	client = open(t, g.ServeHTTP, Options{Keychain: keychain{IdentityToken: "id"}})
	if _, err := get(t, client, tags); !errors.Is(err, oci.Unauthorized) || !strings.HasSuffix(err.Error(), ": it has run out") {
		t.Errorf("got %v", err)
	}
	g = &guarded{want: func(*http.Request) string { return "given" }}
	client = open(t, g.ServeHTTP, Options{Keychain: keychain{RegistryToken: "given"}})
	if _, err := get(t, client, tags); err != nil || len(g.tokens()) != 0 {
		t.Errorf("a token for the registry itself: %v", err)
	}
}

// TestAnswersThatAreNoTokens: are errors that say so.
func TestAnswersThatAreNoTokens(t *testing.T) {
	t.Parallel()
	for body, want := range map[string]struct {
		status int
		code   oci.Code
		says   string
	}{
		"":                                  {200, oci.Unknown, "the answer is no token"},
		"<html>":                            {200, oci.Unknown, "the answer is no token"},
		"{}":                                {200, oci.Unknown, "the answer is no token"},
		`{"token":5}`:                       {200, oci.Unknown, "the answer is no token"},
		`{"token":"x","expires_in":"soon"}`: {200, oci.Unknown, "the answer is no token"},
		`{"details":"incorrect username or password"}`:  {401, oci.Unauthorized, "incorrect username or password"},
		`{"errors":[{"code":"DENIED","message":"no"}]}`: {403, oci.Denied, ": no"},
		"busy": {503, oci.Unavailable, "503 Service Unavailable"},
	} {
		g := &guarded{token: func(w http.ResponseWriter, _ *http.Request) bool {
			w.WriteHeader(want.status)
			_, _ = io.WriteString(w, body)
			return true
		}}
		client := open(t, g.ServeHTTP, login1("me"))
		if _, err := get(t, client, tags); !errors.Is(err, want.code) || !strings.Contains(err.Error(), want.says) || !strings.HasPrefix(err.Error(), client.host+": ") {
			t.Errorf("%s: got %v", body, err)
		}
	}
	for _, realm := range []string{"", "nowhere://x", "http://", "http://%zz", "mailto:x"} {
		client := open(t, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("WWW-Authenticate", `Bearer realm="`+realm+`"`)
			w.WriteHeader(401)
		}, Options{})
		if _, err := get(t, client, tags); !errors.Is(err, oci.Unauthorized) || !strings.Contains(err.Error(), "which is no address") {
			t.Errorf("%s: got %v", realm, err)
		}
	}
}

// TestTokenServersThatAreBusy: are waited for.
func TestTokenServersThatAreBusy(t *testing.T) {
	t.Parallel()
	f, clock, g := &faults{}, &clock{}, &guarded{}
	client := spoiled(t, f, clock, g.ServeHTTP)
	f.add(1, "GET /token", answers(503, ""))
	f.add(1, "GET /token", loses)
	if body, err := get(t, client, tags); err != nil || body != "hello" || !slices.Equal(clock.waits(), seconds(1, 2)) {
		t.Errorf("got %q, %v", body, err)
	}
}

// TestNoLoginInTheClear: a registry in HTTPS does not get a password sent to a
// token server in plain HTTP. The only one that is reached here is a name that
// resolves to nothing.
func TestNoLoginInTheClear(t *testing.T) {
	t.Parallel()
	var shown []string
	tls := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("WWW-Authenticate", `Bearer realm="http://auth.lan/token"`)
		w.WriteHeader(http.StatusUnauthorized)
	}))
	defer tls.Close()
	o := login1("me")
	o.Transport = roundTrip(func(r *http.Request) (*http.Response, error) {
		if r.URL.Host != "auth.lan" {
			return tls.Client().Transport.RoundTrip(r)
		}
		shown = append(shown, r.Header.Get("Authorization")+r.URL.Query().Get("account"))
		return answers(200, `{"token":"anybody"}`)(r, nil)
	})
	client, err := New("https://"+tls.Listener.Addr().String(), o)
	if err != nil {
		t.Fatal(err)
	}
	_, err = get(t, client, tags)
	if !errors.Is(err, oci.Unauthorized) || !strings.HasSuffix(err.Error(), "; no login was sent to http://auth.lan/token, since others could read it on the way") {
		t.Errorf("got %v", err)
	}
	if !slices.Equal(shown, []string{""}) {
		t.Errorf("shown: %q", shown)
	}
}

type roundTrip func(*http.Request) (*http.Response, error)

func (f roundTrip) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// broken is a keychain whose helper is.
type brokenKeychain struct{}

func (brokenKeychain) Resolve(authn.Resource) (authn.Authenticator, error) {
	return &BrokenLogin{errors.New("docker-credential-x: no such program")}, nil
}

// TestBrokenHelpers: matter only where a login does.
func TestBrokenHelpers(t *testing.T) {
	t.Parallel()
	g := &guarded{}
	client := open(t, g.ServeHTTP, Options{Keychain: brokenKeychain{}})
	if _, err := get(t, client, tags); err != nil {
		t.Errorf("anonymous: %v", err)
	}
	for _, status := range []int{401, 403} {
		client = open(t, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(status) }, Options{Keychain: brokenKeychain{}})
		if _, err := get(t, client, tags); err == nil || !strings.HasSuffix(err.Error(), "; docker-credential-x: no such program") {
			t.Errorf("%d: %v", status, err)
		}
	}
	client = open(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/v2/" {
			w.WriteHeader(404)
		}
	}, Options{Keychain: brokenKeychain{}})
	if _, err := get(t, client, tags); err == nil || strings.Contains(err.Error(), "docker-credential") {
		t.Errorf("404: %v", err)
	}
}

// perRepo knows another login for each repository.
type perRepo struct{}

func (perRepo) Resolve(r authn.Resource) (authn.Authenticator, error) {
	_, repo, _ := strings.Cut(r.String(), "/")
	return authn.FromConfig(authn.AuthConfig{Username: "for-" + repo, Password: "x"}), nil
}

func TestLoginsOfRepositories(t *testing.T) {
	t.Parallel()
	g := &guarded{want: func(*http.Request) string { return "" }}
	client := open(t, g.ServeHTTP, Options{Keychain: perRepo{}})
	for _, repo := range []string{"team/app", "x"} {
		resp, err := client.do(t.Context(), request{method: http.MethodGet, path: "/v2/", scope: scope{repo: repo, actions: "pull"}})
		if err != nil {
			t.Fatal(err)
		}
		_ = resp.Body.Close()
	}
	if got := g.tokens(); !slices.Equal(got, []string{"for-team/app|repository:team/app:pull", "for-x|repository:x:pull"}) {
		t.Errorf("tokens %q", got)
	}
}

func TestMountAsksForBothRepositories(t *testing.T) {
	t.Parallel()
	g := &guarded{want: func(*http.Request) string { return "repository:from:pull" }}
	client := open(t, g.ServeHTTP, Options{})
	resp, err := client.do(t.Context(), request{
		method: http.MethodPost, path: "/v2/app/blobs/uploads/", scope: scope{repo: "app", actions: "pull,push", also: []string{"from"}},
	})
	if err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close()
	if got := g.tokens(); !slices.Equal(got, []string{"|repository:app:pull,push repository:from:pull"}) {
		t.Errorf("tokens %q", got)
	}
}

// TestCheck: a login that is wrong is told from one that is right, whatever
// the registry asks for.
func TestCheck(t *testing.T) {
	t.Parallel()
	basic := func(w http.ResponseWriter, r *http.Request) {
		if user, password, _ := r.BasicAuth(); user != "me" || password != "secret" {
			w.Header().Set("WWW-Authenticate", `Basic realm="x"`)
			w.WriteHeader(http.StatusUnauthorized)
		}
	}
	bearer := (&guarded{token: func(w http.ResponseWriter, r *http.Request) bool {
		user, _, _ := r.BasicAuth()
		if user != "me" {
			w.WriteHeader(http.StatusUnauthorized)
		}
		return user != "me"
	}}).ServeHTTP
	hollow := (&guarded{answer: map[string]any{"token": "bad"}, revoked: "bad"}).ServeHTTP
	for name, c := range map[string]struct {
		registry http.HandlerFunc
		user     string
		want     oci.Code
	}{
		"basic": {basic, "me", ""}, "basic, wrong": {basic, "you", oci.Unauthorized}, "bearer": {bearer, "me", ""},
		"bearer, wrong": {bearer, "you", oci.Unauthorized}, "a token that is no good": {hollow, "me", oci.Unauthorized},
		"nobody is asked": {echo(""), "you", ""}, "no registry": {http.NotFound, "me", oci.NotFound},
	} {
		err := open(t, c.registry, login1(c.user)).Check(t.Context())
		if c.want == "" && err != nil || c.want != "" && !errors.Is(err, c.want) {
			t.Errorf("%s: got %v", name, err)
		}
	}
}

func TestChallenges(t *testing.T) {
	t.Parallel()
	for field, want := range map[string]challenge{
		`Bearer realm="https://a/token",service="b c",scope="repository:x:pull,push"`: {"bearer",
			map[string]string{"realm": "https://a/token", "service": "b c", "scope": "repository:x:pull,push"}},
		`bEaReR Realm = "a" , SERVICE=b`:             {"bearer", map[string]string{"realm": "a", "service": "b"}},
		`Bearer realm=https://a/token?x=y,service=b`: {"bearer", map[string]string{"realm": "https://a/token?x=y", "service": "b"}},
		`Basic realm="a \"b\", Bearer realm=c"`:      {"basic", map[string]string{"realm": `a "b", Bearer realm=c`}},
		`Basic realm="a", Bearer realm="b"`:          {"bearer", map[string]string{"realm": "b"}},
		`Negotiate, Basic realm="a"`:                 {"basic", map[string]string{"realm": "a"}},
		`Negotiate YWJj==, Basic realm="a"`:          {"basic", map[string]string{"realm": "a"}},
		`Basic`:                                      {"basic", map[string]string{}},
		`Bearer`:                                     {"bearer", map[string]string{}},
		`Bearer realm="a`:                            {"bearer", map[string]string{"realm": "a"}},
		`Bearer realm="a\`:                           {"bearer", map[string]string{"realm": `a\`}},
		`, ,Bearer ,realm="a",,service="b"`:          {"bearer", map[string]string{"realm": "a", "service": "b"}},
		``:                                           {},
		`=`:                                          {},
		`Digest realm="x"`:                           {},
		`realm="x"`:                                  {},
	} {
		got := challengeOf(http.Header{"Www-Authenticate": {field}})
		if fmt.Sprint(got) != fmt.Sprint(want) {
			t.Errorf("%s: got %v, want %v", field, got, want)
		}
	}
	two := http.Header{"Www-Authenticate": {`Basic realm="a"`, `Bearer realm="b"`}}
	if got := challengeOf(two); got.scheme != "bearer" || got.params["realm"] != "b" {
		t.Errorf("two fields: got %v", got)
	}
}

func TestCovers(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		had, wanted string
		want        bool
	}{
		{"repository:a:pull,push", "repository:a:pull", true}, {"repository:a:pull", "repository:a:pull,push", false},
		{"repository:a:pull repository:b:pull", "repository:b:pull repository:a:pull", true}, {"repository:a:pull", "repository:b:pull", false},
		{"repository:h:5/a:pull", "repository:h:5/a:pull", true}, {"", "", true}, {"", "x", false}, {"registry:catalog:*", "registry:catalog:*", true},
	} {
		if got := covers(c.had, c.wanted); got != c.want {
			t.Errorf("%q covers %q: %v", c.had, c.wanted, got)
		}
	}
}

func FuzzChallenges(f *testing.F) {
	for _, s := range []string{`Bearer realm="a",b=c`, `Basic`, `a b==, c d="\"`, `Negotiate x=`, "\x00", `=,=`} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, field string) {
		for _, c := range parseChallenges(field) {
			if c.scheme == "" || c.scheme != strings.ToLower(c.scheme) {
				t.Errorf("%q has the scheme %q", field, c.scheme)
			}
		}
	})
}

func FuzzToken(f *testing.F) {
	f.Add([]byte(`{"token":"x","expires_in":1e308,"issued_at":"2026-01-02T03:04:05Z"}`), "Fri, 02 Jan 2026 03:04:05 GMT")
	f.Fuzz(func(t *testing.T, raw []byte, date string) {
		start := time.Unix(0, 0)
		got, err := parseToken(raw, http.Header{"Date": {date}}, start)
		if err == nil && (got.value == "" || got.ends.Before(start) || got.ends.After(start.Add(longestLife))) {
			t.Errorf("%q gives %+v", raw, got)
		}
	})
}

// FuzzRealm: whatever a registry says where its tokens are, nothing panics and
// no login goes anywhere in the clear.
func FuzzRealm(f *testing.F) {
	f.Add("http://x/token")
	f.Add("//[::1%25x]:0/")
	f.Fuzz(func(t *testing.T, realm string) {
		o := login1("me")
		o.Transport = roundTrip(func(r *http.Request) (*http.Response, error) {
			if r.URL.Scheme == "http" && r.Header.Get("Authorization") != "" && !isLoopback(r.URL.Host) {
				t.Errorf("%q is told who asks", realm)
			}
			return answers(200, `{"token":"x"}`)(r, nil)
		})
		c, err := New("https://reg.lan", o)
		if err != nil {
			t.Fatal(err)
		}
		l, err := c.newLink("https")
		if err != nil {
			t.Fatal(err)
		}
		_, _ = l.exchange(t.Context(), authn.AuthConfig{Username: "me", Password: "p"}, challenge{"bearer", map[string]string{"realm": realm}}, nil)
	})
}
