package serve

import (
	"bufio"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/regctl/regctl/client/oci"
	"github.com/regctl/regctl/client/oci/ocitest"
	"github.com/regctl/regctl/serve/auth"
	"github.com/regctl/regctl/serve/auth/rule"
	"github.com/regctl/regctl/serve/config"
)

// users are names with passwords; one whose password is an error makes it.
type users map[string]any

func (u users) Login(_ context.Context, user, password, _ string) (auth.Identity, error) {
	if err, ok := u[user].(error); ok {
		return auth.Identity{}, err
	}
	if u[user] == any(password) {
		return u.Lookup(context.Background(), "htpasswd", user, "")
	}
	return auth.Identity{}, auth.ErrDenied
}

func (u users) Lookup(_ context.Context, source, user, _ string) (auth.Identity, error) {
	if _, ok := u[user].(string); !ok || source != "htpasswd" {
		return auth.Identity{}, auth.ErrUnknown
	}
	return auth.Identity{Kind: rule.User, Name: user, Source: source}, nil
}

// newBasic asks for logins as registry:2 does with an htpasswd file.
func newBasic(realm string, u logins) *admission {
	a := &admission{logins: u, groups: auth.NewGroups(nil), rules: auth.NewRules(nil), log: slog.New(slog.DiscardHandler), now: time.Now}
	a.terms.Store(termsOf(&config.Config{Auth: config.Auth{Htpasswd: &config.Htpasswd{Realm: realm}}}))
	return a
}

func login(user, password string) string {
	return "Basic " + base64.StdEncoding.EncodeToString([]byte(user+":"+password))
}

// testUsers are some that are easy, and some that are not.
func testUsers() users {
	return users{"testuser": "secret", "": "empty", "busy": fmt.Errorf("check: %w", auth.ErrBusy), "broken": errors.New("disk on fire"), "with colon": "a:b:"}
}

// TestAsksForLogins compares with what registry:2 answers.
func TestAsksForLogins(t *testing.T) {
	t.Parallel()
	s := newServer(t, nil, Options{Auth: newBasic("Registry Realm", testUsers())})
	const mount = "sha256:0000000000000000000000000000000000000000000000000000000000000000"
	right := func(kind, name, action string) string {
		return `{"Type":"` + kind + `","Class":"","Name":"` + name + `","Action":"` + action + `"}`
	}
	pull, push := right("repository", "a/b", "pull"), right("repository", "a/b", "push")
	for _, c := range []struct{ request, detail string }{
		{"GET /v2/", "null"},
		{"POST /v2/", "null"},
		{"GET /v2/_catalog", "[" + right("registry", "catalog", "*") + "]"},
		{"GET /v2/a/b/tags/list", "[" + pull + "]"},
		{"GET /v2/a/b/_regctl/tags", "[" + pull + "]"},
		{"GET /v2/a/b/manifests/x", "[" + pull + "]"},
		{"GET /v2/a/b/blobs/" + mount, "[" + pull + "]"},
		{"GET /v2/a/b/referrers/" + mount, "[" + pull + "]"},
		{"PUT /v2/a/b/manifests/x", "[" + pull + "," + push + "]"},
		{"PATCH /v2/a/b/manifests/x", "[" + pull + "," + push + "]"},
		{"DELETE /v2/a/b/manifests/x", "[" + right("repository", "a/b", "delete") + "]"},
		{"DELETE /v2/a/b", "[" + right("repository", "a/b", "delete") + "]"},
		{"PATCH /v2/a/b/blobs/uploads/x", "[" + pull + "," + push + "]"},
		{"POST /v2/a/b/blobs/uploads/?mount=" + mount + "&from=c/d", "[" + pull + "," + push + "," + right("repository", "c/d", "pull") + "]"},
		{"GET /v2/_regctl/deletions", "[" + right("registry", "deletions", "*") + "]"},
		{"GET /v2/UPPER/tags/list", "[" + right("repository", "UPPER", "pull") + "]"},
		{"GET /v2/nothing", "[" + right("repository", "nothing", "pull") + "]"},
	} {
		method, path, _ := strings.Cut(c.request, " ")
		a := s.do(method, path, "")
		s.want(c.request, a, 401, "WWW-Authenticate", `Basic realm="Registry Realm"`, "Docker-Distribution-Api-Version", "registry/2.0")
		if want := `{"errors":[{"code":"UNAUTHORIZED","message":"authentication required","detail":` + c.detail + "}]}\n"; a.body != want {
			t.Errorf("%s:\n%swant\n%s", c.request, a.body, want)
		}
		head := s.do("HEAD", path, "")
		s.want("HEAD "+path, head, 401, "WWW-Authenticate", `Basic realm="Registry Realm"`)
	}
	for _, path := range []string{"/", "/healthz", "/readyz"} {
		s.want(path, s.do("GET", path, ""), 200, "WWW-Authenticate", "-")
	}
	s.want("nothing", s.do("GET", "/nothing", ""), 404, "WWW-Authenticate", "-")
	s.want("OPTIONS", s.do("OPTIONS", "/v2/a/b/manifests/x", ""), 204, "WWW-Authenticate", "-")
}

func TestLogins(t *testing.T) {
	t.Parallel()
	s := newServer(t, nil, Options{Auth: newBasic("r", testUsers())})
	for _, c := range []struct {
		authorization string
		status        int
		headers       []string
	}{
		{login("testuser", "secret"), 200, []string{"WWW-Authenticate", "-"}},
		{"bAsIc " + strings.TrimPrefix(login("testuser", "secret"), "Basic "), 200, nil},
		{login("with colon", "a:b:"), 200, nil},
		{login("testuser", "Secret"), 401, []string{"WWW-Authenticate", `Basic realm="r"`}},
		{login("testuser", ""), 401, nil},
		{login("nobody", "secret"), 401, nil},
		{login("", "empty"), 401, nil},
		{"Basic Og==", 401, nil}, // podman without a login.
		{"Basic", 401, nil},
		{"Basic !!!", 401, nil},
		{"Basic " + base64.StdEncoding.EncodeToString([]byte("testuser")), 401, nil},
		{"Bearer " + base64.StdEncoding.EncodeToString([]byte("testuser:secret")), 401, []string{"WWW-Authenticate", `Basic realm="r"`}},
		{"testuser:secret", 401, nil},
		{"", 401, nil},
		{login("busy", "x"), 429, []string{"Retry-After", "1", "WWW-Authenticate", "-"}},
		{login("broken", "x"), 500, []string{"WWW-Authenticate", "-"}},
	} {
		a := s.do("GET", "/v2/app/manifests/v1", "", "Authorization", c.authorization)
		s.want(c.authorization, a, c.status, c.headers...)
		if strings.Contains(a.body, "fire") {
			t.Errorf("the cause is told: %s", a.body)
		}
	}
}

// TestLoginsAreIgnored where nobody is asked.
func TestLoginsAreIgnored(t *testing.T) {
	t.Parallel()
	s := newServer(t, nil, Options{})
	for _, authorization := range []string{"Basic !!!", "Bearer x", login("nobody", "x"), "x"} {
		s.want(authorization, s.do("GET", "/v2/app/manifests/v1", "", "Authorization", authorization), 200, "WWW-Authenticate", "-")
	}
}

// TestEveryFormAsks but these: what is new is closed until it is opened.
func TestEveryFormAsks(t *testing.T) {
	t.Parallel()
	free := []form{formNone, formRoot, formHealth, formReady, formToken}
	for f := range form(len(methodsOf)) {
		q := &request{Request: &http.Request{Method: http.MethodGet}, target: target{form: f}}
		if q.asks() == slices.Contains(free, f) {
			t.Errorf("form %d asks for a login: %v", f, q.asks())
		}
	}
}

// TestCallerHasAName: for the registry, and in the log.
func TestCallerHasAName(t *testing.T) {
	t.Parallel()
	var names []string
	named := &naming{Registry: ocitest.NewRegistry(), names: &names}
	var log strings.Builder
	h := NewHandler(named, Options{Auth: newBasic("r", testUsers()), Access: slog.New(slog.NewTextHandler(&log, nil))})
	for _, authorization := range []string{login("testuser", "secret"), login("testuser", "guess"), ""} {
		r := httptest.NewRequest("GET", "/v2/app/manifests/v1", nil)
		r.Header.Set("Authorization", authorization)
		h.ServeHTTP(httptest.NewRecorder(), r)
	}
	if !slices.Equal(names, []string{"testuser"}) {
		t.Errorf("the registry was called by %q", names)
	}
	lines := strings.Split(log.String(), "\n")
	if !strings.Contains(lines[0], " user=testuser") || strings.Contains(lines[1], "user=") || strings.Contains(lines[2], "user=") {
		t.Errorf("the log is\n%s", &log)
	}
	if strings.Contains(log.String(), "secret") || strings.Contains(log.String(), "guess") {
		t.Errorf("the log tells a password:\n%s", &log)
	}
}

type naming struct {
	oci.Registry
	names *[]string
}

func (n *naming) Manifest(ctx context.Context, _, _ string) (oci.Manifest, error) {
	*n.names = append(*n.names, oci.CallerFrom(ctx).Name)
	return oci.Manifest{}, oci.ManifestUnknown
}

// neverRead is a body that must not be read.
type neverRead struct{ t *testing.T }

func (b neverRead) Read([]byte) (int, error) {
	b.t.Error("the body is read")
	return 0, io.EOF
}

func (neverRead) Close() error { return nil }

func TestBodyWithoutLoginIsNotRead(t *testing.T) {
	t.Parallel()
	h := newTestHandler(t, Options{Auth: newBasic("r", testUsers())})
	for _, c := range []string{"PUT /v2/app/manifests/x", "PATCH /v2/app/blobs/uploads/x", "PUT /v2/app/blobs/uploads/x?digest=x", "POST /v2/app/blobs/uploads/?digest=x"} {
		method, path, _ := strings.Cut(c, " ")
		r := httptest.NewRequest(method, path, neverRead{t})
		r.ContentLength = 10 << 30
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		if w.Code != 401 {
			t.Errorf("%s: status %d", c, w.Code)
		}
	}
}

// TestNoContinueWithoutLogin: who waits for leave to send gets 401 instead, and
// who does not wait is cut off.
func TestNoContinueWithoutLogin(t *testing.T) {
	t.Parallel()
	s := newServer(t, nil, Options{Auth: newBasic("r", testUsers())})
	for _, expect := range []string{"Expect: 100-continue\r\n", ""} {
		c, err := net.Dial("tcp", s.addr)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		if _, err := fmt.Fprintf(c, "PATCH /v2/app/blobs/uploads/x HTTP/1.1\r\nHost: x\r\nContent-Length: 10000000000\r\n%s\r\n", expect); err != nil {
			t.Fatal(err)
		}
		var sending sync.WaitGroup
		if expect == "" {
			sending.Go(func() {
				_, _ = io.Copy(c, io.LimitReader(zeros{}, 10e9)) // Until the server has had enough.
			})
		}
		res, err := http.ReadResponse(bufio.NewReader(c), nil)
		if err != nil {
			t.Fatalf("%q: %v", expect, err)
		}
		if res.StatusCode != 401 || !res.Close {
			t.Errorf("%q: status %d, closed %v", expect, res.StatusCode, res.Close)
		}
		sending.Wait()
		res.Body.Close()
	}
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { return len(p), nil }

func TestQuoted(t *testing.T) {
	t.Parallel()
	for s, want := range map[string]string{
		"": `""`, "Registry Realm": `"Registry Realm"`, `A "quoted" realm\`: `"A \"quoted\" realm\\"`,
		"two\r\nX-Evil: 1": `"two  X-Evil: 1"`, "Überall": `"Überall"`, "\x00\x7f": `"  "`,
	} {
		if got := quoted(s); got != want {
			t.Errorf("%q is %s, want %s", s, got, want)
		}
	}
}

// TestOpenAdmission: what the configuration says of logins is asked.
func TestOpenAdmission(t *testing.T) {
	t.Parallel()
	var a Assembly
	if ad, err := a.openAdmission(t.Context(), Parts{Config: &config.Config{}}); ad != nil || err != nil {
		t.Errorf("without a section: %v %v", ad, err)
	}
	path := filepath.Join(t.TempDir(), "htpasswd")
	encoded, err := auth.Hash("secret", auth.MinCost)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte("testuser:"+encoded+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	c := &config.Config{Auth: config.Auth{Htpasswd: &config.Htpasswd{Realm: "r", Path: path}}}
	ad, err := a.openAdmission(t.Context(), Parts{Config: c, Now: time.Now})
	if err != nil {
		t.Fatal(err)
	}
	s := newServer(t, nil, Options{Auth: ad})
	s.want("in", s.do("GET", "/v2/", "", "Authorization", login("testuser", "secret")), 200)
	s.want("out", s.do("GET", "/v2/", "", "Authorization", login("testuser", "wrong")), 401, "WWW-Authenticate", `Basic realm="r"`)
	if err := os.WriteFile(path, []byte("damaged\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := a.openAdmission(t.Context(), Parts{Config: c, Now: time.Now}); err == nil {
		t.Error("a damaged file is opened")
	}
}

// BenchmarkLogin: what it costs that every request brings a login.
func BenchmarkLogin(b *testing.B) {
	b.Run("none", func(b *testing.B) {
		s := newServer(b, nil, Options{})
		benchmarkGet(b, s.addr, "/v2/app/manifests/v1")
	})
	b.Run("htpasswd", func(b *testing.B) {
		path := filepath.Join(b.TempDir(), "htpasswd")
		if err := auth.Edit(path, func(f *auth.File) error {
			encoded, err := auth.Hash("secret", auth.DefaultCost)
			if err != nil {
				return err
			}
			_, err = f.Set("testuser", encoded)
			return err
		}); err != nil {
			b.Fatal(err)
		}
		h, err := auth.OpenHtpasswd(path, auth.Options{})
		if err != nil {
			b.Fatal(err)
		}
		s := newServer(b, nil, Options{Auth: newBasic("r", auth.NewLogins([]auth.Source{h}, auth.LoginOptions{}))})
		if err := h.Verify(b.Context(), "testuser", "secret"); err != nil {
			b.Fatal(err)
		}
		b.ResetTimer() // Once a minute is another matter.
		benchmarkGet(b, s.addr, "/v2/app/manifests/v1", "Authorization: "+login("testuser", "secret"))
	})
}
