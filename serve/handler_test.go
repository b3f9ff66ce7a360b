package serve

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/regctl/regctl/client/oci"
	"github.com/regctl/regctl/client/oci/ocitest"
)

// testContent is what most tests find in the registry.
var testContent = ocitest.Content{"app": {
	Blobs:     ocitest.Blobs{"abc": "abc", "long": strings.Repeat("0123456789", 100)},
	Manifests: ocitest.Manifests{"one": {Layers: "abc", Platform: "linux/amd64", Created: "2024-05-06T07:08:09Z"}, "two": {Layers: "long abc"}, "sig": {Subject: "one", ArtifactType: "application/x.sig"}},
	Tags:      ocitest.Tags{"v1": "one", "v2": "two", "latest": "one"},
}}

func newTestHandler(t testing.TB, o Options) *Handler {
	reg := ocitest.NewRegistry()
	ocitest.Push(t, reg, testContent)
	return NewHandler(reg, o)
}

// server is a registry behind real connections.
type server struct {
	t       testing.TB
	url     string
	addr    string
	reg     oci.Registry
	digests map[string]oci.Digest
}

// newServer runs a handler over reg, by default one with testContent.
func newServer(t testing.TB, reg oci.Registry, o Options) *server {
	t.Helper()
	s := &server{t: t, reg: reg}
	if reg == nil {
		s.reg = ocitest.NewRegistry()
		s.digests = ocitest.Push(t, s.reg, testContent)
	}
	s.addr = runServer(t, &Server{Handler: NewHandler(s.reg, o), Stall: o.Stall, Log: o.Log})
	s.url = "http://" + s.addr
	return s
}

// runServer runs srv on a free port until the test ends.
func runServer(t testing.TB, srv *Server) string {
	t.Helper()
	ctx, stop := context.WithCancel(context.Background())
	ls, err := Listen(ctx, []string{"127.0.0.1:0"}, nil)
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- srv.Serve(ctx, ls) }()
	t.Cleanup(func() {
		stop()
		if err := <-done; err != nil {
			t.Errorf("server ended with %v", err)
		}
	})
	return ls[0].Addr().String()
}

type answer struct {
	status int
	header http.Header
	body   string
}

func (a answer) code() oci.Code { return oci.UnmarshalError(a.status, []byte(a.body)).Code }

// do sends a request; headers are names and values by turns.
func (s *server) do(method, path, body string, headers ...string) answer {
	s.t.Helper()
	var from io.Reader
	if body != "" {
		from = strings.NewReader(body)
	}
	r, err := http.NewRequestWithContext(context.Background(), method, s.url+path, from)
	if err != nil {
		s.t.Fatal(err)
	}
	for i := 0; i < len(headers); i += 2 {
		switch headers[i] {
		case "":
		case "Host":
			r.Host = headers[i+1]
		default:
			r.Header.Add(headers[i], headers[i+1])
		}
	}
	res, err := client.RoundTrip(r)
	if err != nil {
		s.t.Fatalf("%s %s: %v", method, path, err)
	}
	defer res.Body.Close()
	data, err := io.ReadAll(res.Body)
	if err != nil {
		s.t.Fatalf("%s %s: %v", method, path, err)
	}
	if !strings.Contains(string(data), "no such endpoint") {
		wantDocumented(s.t, method, path, res.StatusCode)
	}
	return answer{res.StatusCode, res.Header, string(data)}
}

// client follows no redirects and leaves compression alone.
var client = &http.Transport{DisableCompression: true, DisableKeepAlives: true}

// want fails the test unless a has the status and these headers; a value of
// "-" means that the header is missing.
func (s *server) want(what string, a answer, status int, headers ...string) {
	s.t.Helper()
	if a.status != status {
		s.t.Errorf("%s: status %d, want %d; body %q", what, a.status, status, a.body)
	}
	for i := 0; i < len(headers); i += 2 {
		got := strings.Join(a.header.Values(headers[i]), "|")
		if want := strings.TrimPrefix(headers[i+1], "-"); got != want {
			s.t.Errorf("%s: %s is %q, want %q", what, headers[i], got, want)
		}
	}
	if got := a.header.Get("Content-Type"); a.status >= 400 && a.body != "" && got != "application/json" {
		s.t.Errorf("%s: an error of type %q: %s", what, got, a.body)
	}
}

func TestPing(t *testing.T) {
	t.Parallel()
	s := newServer(t, nil, Options{Headers: http.Header{"x-content-type-options": {"nosniff"}, "X-Two": {"a", "b"}}})
	for _, path := range []string{"/v2/", "/v2"} {
		a := s.do("GET", path, "", "Authorization", "Basic bm86Ym9keQ==")
		s.want(path, a, 200, "Content-Type", "application/json", "Docker-Distribution-Api-Version", "registry/2.0",
			"X-Content-Type-Options", "nosniff", "X-Two", "a|b", "Content-Length", "2", "Regctl-Extensions", "tags, repositories, conditions")
		if a.body != "{}" {
			t.Errorf("%s: body %q", path, a.body)
		}
	}
	s.want("/", s.do("GET", "/", ""), 200)
	s.want("HEAD /v2/", s.do("HEAD", "/v2/", ""), 200)
	s.want("/healthz", s.do("GET", "/healthz", ""), 200)
	s.want("unknown path", s.do("GET", "/v3/", ""), 404, "Docker-Distribution-Api-Version", "-")
	s.want("unknown path", s.do("GET", "/v2/x", ""), 404, "Docker-Distribution-Api-Version", "registry/2.0")
}

func TestReadyUntilDrained(t *testing.T) {
	t.Parallel()
	h := newTestHandler(t, Options{})
	get := func() *httptest.ResponseRecorder {
		w := httptest.NewRecorder()
		h.ServeHTTP(w, httptest.NewRequest("GET", "/readyz", nil))
		return w
	}
	if w := get(); w.Code != 200 {
		t.Errorf("before: %d", w.Code)
	}
	h.Drain()
	if w := get(); w.Code != 503 || oci.UnmarshalError(w.Code, w.Body.Bytes()).Code != oci.Unavailable {
		t.Errorf("draining: %d %s", w.Code, w.Body)
	}
}

func TestMethodsAreAnswered(t *testing.T) {
	t.Parallel()
	s := newServer(t, nil, Options{})
	a := s.do("POST", "/v2/app/manifests/v1", "x")
	s.want("POST manifest", a, 405, "Allow", "GET, HEAD, PUT, DELETE, OPTIONS", "Content-Type", "application/json")
	if a.code() != oci.Unsupported {
		t.Errorf("code %s", a.code())
	}
	s.want("OPTIONS", s.do("OPTIONS", "/v2/app/blobs/uploads/", ""), 204, "Allow", "POST, OPTIONS")
	s.want("TRACE", s.do("TRACE", "/v2/", ""), 405, "Allow", "GET, HEAD, OPTIONS")
	s.want("no redirect", s.do("GET", "/v2//app/../app/manifests/v1", ""), 400)
}

// broken is a registry of which one thing goes wrong.
type broken struct {
	oci.Registry
	err error
}

func (b broken) Manifest(context.Context, string, string) (oci.Manifest, error) {
	if b.err == nil {
		panic("the registry is broken")
	}
	return oci.Manifest{}, b.err
}

func TestErrorsGoOutInOneForm(t *testing.T) {
	t.Parallel()
	tests := []struct {
		err     error
		status  int
		code    oci.Code
		headers []string
	}{
		{oci.Errorf(oci.ManifestUnknown, "no tag %q", "v1"), 404, oci.ManifestUnknown, nil},
		{&oci.Error{Code: oci.TooManyRequests, RetryAfter: 1500 * time.Millisecond}, 429, oci.TooManyRequests, []string{"Retry-After", "2"}},
		{errors.New("open /secret/path: permission denied"), 500, oci.Unknown, []string{"Retry-After", "-"}},
		{&oci.Error{Code: oci.InsufficientStorage, Err: errors.New("/secret/path is full")}, 507, oci.InsufficientStorage, nil},
		{oci.Unsupported, 405, oci.Unsupported, []string{"Allow", "HEAD, PUT, DELETE, OPTIONS"}},
	}
	for _, tt := range tests {
		log := &logBuffer{}
		s := newServer(t, broken{ocitest.NewRegistry(), tt.err}, Options{Log: log.text()})
		a := s.do("GET", "/v2/app/manifests/v1", "", "X-Request-Id", "my-id")
		s.want(tt.err.Error(), a, tt.status, append(tt.headers, "Content-Type", "application/json", "X-Request-Id", "my-id")...)
		if a.code() != tt.code || strings.Contains(a.body, "secret") {
			t.Errorf("%v: code %s, body %s", tt.err, a.code(), a.body)
		}
		logged := log.String()
		if secret := strings.Contains(tt.err.Error(), "secret"); secret != strings.Contains(logged, "secret") || secret != strings.Contains(logged, "my-id") {
			t.Errorf("%v: the log has %q", tt.err, logged)
		}
	}
}

func TestPanicIsAnsweredAndLogged(t *testing.T) {
	t.Parallel()
	log := &logBuffer{}
	s := newServer(t, broken{Registry: ocitest.NewRegistry()}, Options{Log: log.text(), Access: log.text()})
	for range 2 {
		a := s.do("GET", "/v2/app/manifests/v1", "")
		s.want("panic", a, 500)
		if a.code() != oci.Unknown || strings.Contains(a.body, "broken") {
			t.Errorf("body %s", a.body)
		}
	}
	for _, part := range []string{"the registry is broken", "handler_test.go", "status=500"} {
		if !strings.Contains(log.String(), part) {
			t.Errorf("the log lacks %q: %s", part, log)
		}
	}
}

func TestAccessLog(t *testing.T) {
	t.Parallel()
	log := &logBuffer{}
	s := newServer(t, nil, Options{Access: log.json()})
	s.do("GET", "/v2/app/tags/list", "", "User-Agent", "docker/27", "X-Request-Id", "abc.1")
	s.do("GET", "/v2/evil%0Alevel=ERROR%20msg=owned/manifests/x", "", "X-Request-Id", "not a token")
	lines := log.lines(t, 2)
	first, second := lines[0], lines[1]
	if first["method"] != "GET" || first["path"] != "/v2/app/tags/list" || first["repo"] != "app" || first["status"] != 200.0 ||
		first["bytes"] != 43.0 || first["client"] != "127.0.0.1" || first["agent"] != "docker/27" || first["request"] != "abc.1" {
		t.Errorf("%v", first)
	}
	if _, ok := first["duration"].(float64); !ok {
		t.Errorf("no duration: %v", first)
	}
	if second["status"] != 400.0 || second["repo"] != nil || second["request"] == "not a token" || second["request"] == "" {
		t.Errorf("%v", second)
	}
}

func TestNamesCannotForgeLogLines(t *testing.T) {
	t.Parallel()
	log := &logBuffer{}
	s := newServer(t, nil, Options{Access: log.text()})
	s.do("GET", "/v2/a%0Atime=now%20msg=forged/manifests/x%0D%0A", "")
	s.do("GET", "/v2/"+strings.Repeat("x", 5000), "")
	log.wait(t, 2)
	for line := range strings.Lines(log.String()) {
		if !strings.HasPrefix(line, "time=") || strings.HasPrefix(line, "time=now") || len(line) > 1024 {
			t.Errorf("line %.200q", line)
		}
	}
}

// seer records the caller that it is asked for.
type seer struct {
	oci.Registry
	caller chan oci.Caller
}

func (s seer) Resolve(ctx context.Context, _, _ string) (oci.Descriptor, error) {
	s.caller <- oci.CallerFrom(ctx)
	return oci.Descriptor{}, oci.ManifestUnknown
}

func TestCallerReachesTheRegistry(t *testing.T) {
	t.Parallel()
	reg := seer{ocitest.NewRegistry(), make(chan oci.Caller, 2)}
	s := newServer(t, reg, Options{})
	s.do("HEAD", "/v2/app/manifests/v1", "", "User-Agent", "me", "X-Request-Id", "id-1")
	s.do("HEAD", "/v2/app/manifests/v1", "")
	host := strings.TrimPrefix(s.url, "http://")
	want := oci.Caller{Addr: "127.0.0.1", RequestID: "id-1", UserAgent: "me", Method: "HEAD", Host: host, Base: s.url + "/"}
	if got := <-reg.caller; got != want {
		t.Errorf("%+v", got)
	}
	if got := <-reg.caller; !isToken(got.RequestID, 64) {
		t.Errorf("made request id %q", got.RequestID)
	}
}

func TestDeletesOff(t *testing.T) {
	t.Parallel()
	reg := ocitest.NewRegistry()
	digests := ocitest.Push(t, reg, testContent)
	s := newServer(t, WithoutDeletes(reg), Options{})
	for _, path := range []string{
		"/v2/app/manifests/v1", "/v2/app/manifests/" + string(digests["one"]), "/v2/app/blobs/" + string(digests["abc"]), "/v2/app", "/v2/none/manifests/x",
	} {
		a := s.do("DELETE", path, "")
		s.want(path, a, 405)
		want := "deletes are off: set storage.delete.enabled: true (or REGISTRY_STORAGE_DELETE_ENABLED=true)"
		if a.code() != oci.Unsupported || oci.UnmarshalError(a.status, []byte(a.body)).Message != want {
			t.Errorf("%s: %s", path, a.body)
		}
	}
	s.want("still there", s.do("HEAD", "/v2/app/manifests/v1", ""), 200)
	up := s.do("POST", "/v2/app/blobs/uploads/", "")
	s.want("an upload can be cancelled", s.do("DELETE", up.header.Get("Location"), ""), 204)
}

func TestHeaderTooLarge(t *testing.T) {
	t.Parallel()
	s := newServer(t, nil, Options{})
	c, err := net.Dial("tcp", s.addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	go io.WriteString(c, "GET /v2/ HTTP/1.1\r\nHost: x\r\nX-Large: "+strings.Repeat("x", 100<<10)+"\r\n\r\n")
	head := make([]byte, len("HTTP/1.1 431"))
	if _, err := io.ReadFull(c, head); err != nil || string(head) != "HTTP/1.1 431" {
		t.Errorf("%q, %v", head, err)
	}
}

// logBuffer is a log to look into.
type logBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (l *logBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(p)
}

func (l *logBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.String()
}

func (l *logBuffer) text() *slog.Logger {
	return slog.New(slog.NewTextHandler(l, &slog.HandlerOptions{Level: slog.LevelDebug}))
}

func (l *logBuffer) json() *slog.Logger { return slog.New(slog.NewJSONHandler(l, nil)) }

// wait waits for n lines: an answer may arrive before its line is written.
func (l *logBuffer) wait(t *testing.T, n int) string {
	t.Helper()
	eventually(t, func() bool { return strings.Count(l.String(), "\n") >= n })
	return l.String()
}

func (l *logBuffer) lines(t *testing.T, n int) []map[string]any {
	t.Helper()
	var lines []map[string]any
	for line := range strings.Lines(l.wait(t, n)) {
		var m map[string]any
		if err := json.Unmarshal([]byte(line), &m); err != nil {
			t.Fatalf("%q: %v", line, err)
		}
		lines = append(lines, m)
	}
	return lines
}

// eventually polls until ok holds.
func eventually(t *testing.T, ok func() bool) {
	t.Helper()
	deadline := time.NewTimer(20 * time.Second)
	defer deadline.Stop()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-deadline.C:
			t.Fatal("it did not happen")
		case <-tick.C:
		}
	}
}
