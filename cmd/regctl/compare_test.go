package main_test

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/opencontainers/go-digest"
	"golang.org/x/crypto/bcrypt"
)

// What real clients ask of the real registry 2.8 is recorded, then asked again
// of a new one of each, ours and theirs, with the same config file. What they
// answer must be the same, but for what is in a list, with a reason.

// exchanged is a request of a recorded session, and where its answer led.
type exchanged struct {
	method, uri string
	header      http.Header
	body        []byte
	chunked     bool
	upload      string // The id in the Location of the answer, if it leads to an upload.
}

// recorder stands between clients and a registry.
type recorder struct {
	addr string
	mu   sync.Mutex
	all  []*exchanged
}

func record(tb testing.TB, to string) *recorder {
	tb.Helper()
	r := &recorder{}
	inner := &httputil.ReverseProxy{
		Rewrite: func(p *httputil.ProxyRequest) {
			p.SetURL(&url.URL{Scheme: "http", Host: to})
			p.Out.Host = p.In.Host
		},
		ModifyResponse: func(resp *http.Response) error {
			e, _ := resp.Request.Context().Value(r).(*exchanged)
			r.mu.Lock()
			defer r.mu.Unlock()
			e.upload = uploadID(resp.Header.Get("Location"))
			return nil
		},
	}
	inner.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelError)
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		body, err := io.ReadAll(q.Body)
		if err != nil {
			panic(http.ErrAbortHandler)
		}
		e := &exchanged{method: q.Method, uri: q.URL.RequestURI(), header: q.Header.Clone(), body: body, chunked: q.ContentLength < 0}
		r.mu.Lock()
		r.all = append(r.all, e)
		r.mu.Unlock()
		q.Body = io.NopCloser(bytes.NewReader(body))
		inner.ServeHTTP(w, q.WithContext(context.WithValue(q.Context(), r, e)))
	}))
	tb.Cleanup(s.Close)
	r.addr = s.Listener.Addr().String()
	return r
}

var uploadPath = regexp.MustCompile(`^(?:https?://[^/]*)?/v2/.+/blobs/uploads/([^/?]+)`)

// uploadID is the id of an upload in its address, "" if it is none.
func uploadID(at string) string {
	if m := uploadPath.FindStringSubmatch(at); m != nil {
		return m[1]
	}
	return ""
}

// again asks a server what was recorded. uploads has, by the id of each upload
// in the session, where that of this server goes on.
func (e *exchanged) again(s *server, uploads map[string]string) (answer, error) {
	uri := e.uri
	if id := uploadID(uri); id != "" && uploads[id] != "" {
		at, err := url.Parse(uploads[id])
		if err != nil {
			return answer{}, err
		}
		asked, err := url.Parse(uri)
		if err != nil {
			return answer{}, err
		}
		query := at.Query()
		for name, values := range asked.Query() {
			if name != "_state" {
				query[name] = values
			}
		}
		uri = at.EscapedPath() + "?" + query.Encode()
	}
	req, err := http.NewRequest(e.method, "http://"+s.addr+uri, bytes.NewReader(e.body))
	if err != nil {
		return answer{}, err
	}
	if len(e.body) == 0 {
		req.Body = http.NoBody
	}
	if e.chunked {
		req.ContentLength = -1
	}
	req.Header, req.Host = e.header.Clone(), "registry.test:5000"
	resp, err := (&http.Transport{DisableCompression: true, DisableKeepAlives: true}).RoundTrip(req)
	if err != nil {
		return answer{}, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if errors.Is(err, io.ErrUnexpectedEOF) {
		body, err = []byte("cut"), nil // Theirs does so with a range that is none.
	}
	if at := resp.Header.Get("Location"); e.upload != "" && uploadID(at) != "" {
		uploads[e.upload] = at
	}
	return answer{status: resp.StatusCode, header: resp.Header, body: body}, err
}

// comparedHeaders are those that a client may look at.
var comparedHeaders = []string{
	"Docker-Content-Digest", "Content-Type", "Content-Length", "Content-Range", "Location", "Range", "Docker-Upload-Uuid", "Link",
	"Www-Authenticate", "Etag", "Accept-Ranges", "Allow", "Docker-Distribution-Api-Version", "Cache-Control", "X-Content-Type-Options",
}

// answerShape is what of an answer must be the same.
func answerShape(method string, a answer) map[string]string {
	s := map[string]string{}
	for _, name := range comparedHeaders {
		if v := strings.Join(a.header.Values(name), "; "); v != "" {
			s[name] = v
		}
	}
	if at := s["Location"]; at != "" {
		if id := uploadID(at); id != "" {
			at = strings.Replace(at, id, "ID", 1)
		}
		s["Location"], _, _ = strings.Cut(at, "?")
	}
	if s["Docker-Upload-Uuid"] != "" {
		s["Docker-Upload-Uuid"] = "ID"
	}
	var failed struct{ Errors []struct{ Code string } }
	switch {
	case method == http.MethodHead:
	case a.status >= 400:
		_ = json.Unmarshal(a.body, &failed) // Theirs is not always JSON.
		var codes []string
		for _, e := range failed.Errors {
			codes = append(codes, e.Code)
		}
		s["errors"] = strings.Join(codes, " ")
	case strings.HasPrefix(a.header.Get("Content-Type"), "application/json"):
		s["body"] = strings.TrimSpace(string(a.body))
	default:
		s["body"] = digest.FromBytes(a.body).String()
	}
	return s
}

var kinds = []struct {
	kind string
	path *regexp.Regexp
}{
	{"ping", regexp.MustCompile(`^/v2/$`)},
	{"catalogue", regexp.MustCompile(`^/v2/_catalog`)},
	{"tags", regexp.MustCompile(`^/v2/.+/tags/list`)},
	{"upload", regexp.MustCompile(`^/v2/.+/blobs/uploads/`)},
	{"blob", regexp.MustCompile(`^/v2/.+/blobs/`)},
	{"manifest", regexp.MustCompile(`^/v2/.+/manifests/`)},
}

// differences are how two answers to e differ, one a line.
func (e *exchanged) differences(theirs, ours answer) []string {
	kind := "other"
	for _, k := range kinds {
		if k.path.MatchString(e.uri) {
			kind = k.kind
			break
		}
	}
	a, b := answerShape(e.method, theirs), answerShape(e.method, ours)
	begin := fmt.Sprintf("%s %s %d", e.method, kind, theirs.status)
	if theirs.status != ours.status {
		return []string{fmt.Sprintf("%s %s → %d %s", begin, a["errors"], ours.status, b["errors"])}
	}
	names := comparedHeaders
	if theirs.status >= 400 { // Whoever gets it looks at nothing else.
		names = []string{"errors", "Www-Authenticate", "Allow", "Docker-Distribution-Api-Version"}
	}
	var lines []string
	for _, name := range append(slices.Clone(names), "body") {
		if a[name] != b[name] {
			lines = append(lines, fmt.Sprintf("%s %s: %s → %s", begin, name, a[name], b[name]))
		}
	}
	return lines
}

// allowed are the ways in which our answers may differ, and why.
var allowed = []struct{ difference, why string }{
	{` Location: http://registry.test:5000(.*) → /v2/`, "a path is right whatever a proxy made of scheme and host; http.host makes it whole"},
	{` 200 Content-Type: application/json; charset=utf-8 → application/json$`, "JSON is UTF-8; the distribution specification has it without"},
	{`blob 2?3?0[0-9] Cache-Control: max-age=31536000 → (private, )?max-age=31536000, immutable$`, "content of a digest never changes; what takes a login is for no shared cache"},
	{`^GET tags 200 body: `, "theirs lists tags as the file system has them, and all of them; the distribution specification wants them sorted and paged"},
	{`^GET tags 200 (Link:  → |Content-Length: )`, "as above: theirs knows no pages of tags"},
	{`^GET tags (200|404) (NAME_UNKNOWN)? ?→ 400 PAGINATION_NUMBER_INVALID$`, "as above"},
	{`^GET blob 416 errors:  → RANGE_INVALID$`, "theirs has no JSON there, and cuts the connection"},
	{`^PATCH upload 202  → 416 RANGE_INVALID$`, "theirs takes a chunk that does not fit where the upload is; the specification wants 416"},
	{`^PATCH upload 202 Range: 0-1009 → 0-999$`, "so it has more than was meant"},
	{`^POST upload 202  → 201 $`, "theirs does not take a blob in one request, as the specification allows; clients go on with PUT"},
	{`^(HEAD|GET) manifest 400 (MANIFEST_INVALID)? ?→ 200 $`, "theirs makes schema 1 of an image for who accepts no other, or fails; bytes here are never rewritten"},
	{`^GET manifest 304 (Docker-Content-Digest|Etag):  → `, "a 304 has the headers that a 200 would have, RFC 9110, 15.4.5"},
	{`^PUT manifest 400 errors: MANIFEST_BLOB_UNKNOWN MANIFEST_BLOB_UNKNOWN → MANIFEST_BLOB_UNKNOWN$`, "one is enough to fail"},
	{`^PUT manifest 404  → 400 TAG_INVALID$`, "theirs does not say what is wrong with the name"},
	{`^GET manifest 404  → 400 (NAME|TAG)_INVALID$`, "as above"},
	{`^GET other 301  → 400 NAME_INVALID$`, "as above"},
	{`^GET other 404 errors:  → NOT_FOUND$`, "theirs has no JSON there"},
	{`^DELETE manifest 400 DIGEST_INVALID → `, "theirs deletes no tags"},
	{`^GET catalogue 200 (body|Content-Length|Link): .*`, "theirs lists a repository that has had a layer but never an image"},
	{`^GET catalogue 200  → 400 PAGINATION_NUMBER_INVALID$`, "theirs takes a number below zero for none"},
	{`^GET upload 404 errors: BLOB_UPLOAD_INVALID → BLOB_UPLOAD_UNKNOWN$`, "theirs looks at how the id is made"},
	{`^GET other 301  → 200 $`, "/v2 is as good as /v2/"},
	{`^GET other 200 `, "theirs is empty at /"},
	{`^GET other 404 Docker-Distribution-Api-Version: registry/2.0 → $`, "that is not of this version of the API"},
	{`^[A-Z]+ ping 200  → 405 UNSUPPORTED$`, "theirs answers to any method"},
	{`^[A-Z]+ (catalogue|tags|manifest|blob|upload) 405 (errors:  → UNSUPPORTED|Allow: )`, "theirs has no JSON there; HEAD and OPTIONS are answered here"},
	{`^HEAD (catalogue|tags) 405  → `, "as above"},
	{`^OPTIONS (ping|catalogue|tags) 200  → 204 $`, "there is nothing in it"},
	{`^GET upload 404 BLOB_UPLOAD_UNKNOWN → 405 UNSUPPORTED$`, "there is no upload in the path"},
}

// session is what is done with a registry at host.
type session struct {
	name    string
	login   bool   // alice:secret is asked for.
	storage string // More keys of the section storage; empty: deletes are on.
	do      func(t *testing.T, host string)
}

func TestAnswersAsRegistry2(t *testing.T) {
	t.Parallel()
	peer(t, "docker-registry")
	var mu sync.Mutex
	used := map[string]bool{}
	t.Run("sessions", func(t *testing.T) {
		for _, s := range append(sessions(false), sessions(true)...) {
			t.Run(s.name, func(t *testing.T) {
				t.Parallel()
				for _, a := range compareSession(t, s) {
					mu.Lock()
					used[a] = true
					mu.Unlock()
				}
			})
		}
	})
	for _, a := range allowed {
		if !used[a.difference] && !t.Failed() && !testing.Short() {
			t.Errorf("nothing differs as in %q any more", a.difference)
		}
	}
}

// compareSession returns which of the allowed differences it met.
func compareSession(t *testing.T, s session) (used []string) {
	r := record(t, startWithConfig(t, "docker-registry", s).addr)
	s.do(t, r.addr)
	theirs, ours := startWithConfig(t, "docker-registry", s), startWithConfig(t, "regctl", s)
	theirUploads, ourUploads := map[string]string{}, map[string]string{}
	if len(r.all) == 0 {
		t.Fatal("nothing was recorded")
	}
	seen := map[string]bool{}
	for n, e := range r.all {
		a, errA := e.again(theirs, theirUploads)
		b, errB := e.again(ours, ourUploads)
		if err := errors.Join(errA, errB); err != nil {
			t.Fatalf("%s %s: %v", e.method, e.uri, err)
		}
	lines:
		for _, line := range e.differences(a, b) {
			for _, d := range allowed {
				if regexp.MustCompile(d.difference).MatchString(line) {
					used = append(used, d.difference)
					continue lines
				}
			}
			if !seen[line] {
				seen[line] = true
				t.Errorf("%s\nrequest %d, %s %s\n%s", line, n, e.method, e.uri, b.body[:min(300, len(b.body))])
			}
		}
	}
	return used
}

// startWithConfig starts a registry on a new directory with a config file that
// is the same for both.
func startWithConfig(t *testing.T, name string, s session) *server {
	t.Helper()
	dir, addr := t.TempDir(), freeAddr(t)
	text := fmt.Sprintf(`version: 0.1
log: {level: error}
storage:
  filesystem: {rootdirectory: %q}
  cache: {blobdescriptor: inmemory}
  %s
http: {headers: {X-Content-Type-Options: [nosniff]}, secret: one}
`, filepath.Join(dir, "data"), cmp.Or(s.storage, "delete: {enabled: true}"))
	if s.login {
		hash, err := bcrypt.GenerateFromPassword([]byte("secret"), bcrypt.MinCost)
		if err != nil {
			t.Fatal(err)
		}
		write(t, filepath.Join(dir, "htpasswd"), fmt.Appendf(nil, "alice:%s\n", hash))
		text += fmt.Sprintf("auth: {htpasswd: {realm: Registry Realm, path: %q}}\n", filepath.Join(dir, "htpasswd"))
	}
	config := filepath.Join(dir, "config.yml")
	write(t, config, []byte(text))
	bin, err := regctl()
	if name == "docker-registry" {
		bin = peer(t, name)
	}
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(bin, "serve", config)
	cmd.Env = []string{"HOME=" + dir, "REGISTRY_HTTP_ADDR=" + addr}
	return start(t, cmd, addr)
}

// creds are what a client says of who it is.
func creds(login bool, flag string) []string {
	if login {
		return []string{flag, "alice:secret"}
	}
	return nil
}

func sessions(login bool) []session {
	suffix := ""
	if login {
		suffix = "-htpasswd"
	}
	all := []session{
		{name: "podman", do: func(t *testing.T, host string) { podmanSession(t, host, login) }},
		{name: "skopeo", do: func(t *testing.T, host string) { skopeoSession(t, host, login) }},
		{name: "by-hand", do: func(t *testing.T, host string) { handSession(t, host, login) }},
		{name: "no-deletes", storage: "redirect: {disable: true}", do: func(t *testing.T, host string) { handSession(t, host, login) }},
		{name: "read-only", storage: "maintenance: {readonly: {enabled: true}}", do: func(t *testing.T, host string) { handSession(t, host, login) }},
	}
	for i := range all {
		all[i].name += suffix
		all[i].login = login
	}
	return all
}

func podmanSession(t *testing.T, host string, login bool) {
	p := newPodman(t)
	ref := host + "/team/app:one"
	p.run(t, "import", "--change", `CMD ["/hello"]`, layer(t, "one"), ref)
	if login {
		p.fails(t, "push", "--tls-verify=false", ref)
		p.fails(t, "login", "--tls-verify=false", "-u", "alice", "-p", "wrong", host)
		p.run(t, "login", "--tls-verify=false", "-u", "alice", "-p", "secret", host)
	}
	for _, format := range []string{"oci", "v2s2", "v2s2"} {
		p.run(t, "push", "--tls-verify=false", "--format", format, ref)
	}
	p.run(t, "tag", ref, host+"/other/app:two")
	p.run(t, "push", "--tls-verify=false", host+"/other/app:two")
	p.run(t, "rmi", "--all", "--force")
	p.run(t, "pull", "--tls-verify=false", ref)
	p.run(t, "search", "--tls-verify=false", "--list-tags", host+"/team/app")
	p.run(t, "search", "--tls-verify=false", host+"/")
	p.fails(t, "pull", "--tls-verify=false", host+"/team/app:missing")
	p.fails(t, "pull", "--tls-verify=false", host+"/no/such:one")
}

func skopeoSession(t *testing.T, host string, login bool) {
	p := newTool(t, "skopeo")
	copyTo := append([]string{"copy", "--dest-tls-verify=false"}, creds(login, "--dest-creds")...)
	copyFrom := append([]string{"copy", "--src-tls-verify=false"}, creds(login, "--src-creds")...)
	one, _ := layout(t, "one")
	for _, ref := range []string{"team/app:one", "team/app:one", "team/app:1.0", "other/app:one"} {
		p.run(t, append(slices.Clone(copyTo), "oci:"+one+":x", "docker://"+host+"/"+ref)...)
	}
	both := append(append(slices.Clone(copyTo), "--src-tls-verify=false"), creds(login, "--src-creds")...)
	p.run(t, append(slices.Clone(both), "docker://"+host+"/team/app:one", "docker://"+host+"/third/app:one")...)
	p.run(t, append(slices.Clone(copyFrom), "docker://"+host+"/team/app:one", "oci:"+t.TempDir()+":x")...)
	for _, args := range [][]string{{"inspect"}, {"inspect", "--raw"}, {"inspect", "--config"}} {
		p.run(t, append(append(args, "--tls-verify=false", "docker://"+host+"/team/app:one"), creds(login, "--creds")...)...)
	}
	p.run(t, append([]string{"list-tags", "--tls-verify=false", "docker://" + host + "/team/app"}, creds(login, "--creds")...)...)
	p.run(t, append([]string{"delete", "--tls-verify=false", "docker://" + host + "/other/app:one"}, creds(login, "--creds")...)...)
	for _, ref := range []string{"/other/app:one", "/no/such:tag"} {
		p.fails(t, append([]string{"inspect", "--tls-verify=false", "docker://" + host + ref}, creds(login, "--creds")...)...)
	}
	if login {
		p.fails(t, "inspect", "--tls-verify=false", "docker://"+host+"/team/app:one")
		p.fails(t, "inspect", "--tls-verify=false", "--creds", "alice:wrong", "docker://"+host+"/team/app:one")
	}
}

// fails runs what must not succeed.
func (p tool) fails(tb testing.TB, args ...string) {
	tb.Helper()
	cmd := exec.Command(p.path, append(slices.Clone(p.args), args...)...)
	cmd.Env = p.env
	if out, err := cmd.CombinedOutput(); err == nil {
		tb.Fatalf("%s %s succeeded: %s", p.path, strings.Join(args, " "), out)
	}
}

// handSession asks what the clients do not.
func handSession(t *testing.T, host string, login bool) {
	auth := ""
	if login {
		auth = "alice:secret@"
	}
	w := wire{base: "http://" + auth + host}
	ask := func(method, path string, body []byte, header ...string) answer {
		t.Helper()
		at := path
		if strings.HasPrefix(path, "/") {
			at = w.base + path
		} else if login {
			at = strings.Replace(path, "://", "://"+auth, 1)
		}
		req, err := http.NewRequest(method, at, bytes.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		for n := 0; n+1 < len(header); n += 2 {
			req.Header.Set(header[n], header[n+1])
		}
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			return answer{header: http.Header{}} // Theirs cuts some; what matters is recorded.
		}
		defer resp.Body.Close()
		_, _ = io.Copy(io.Discard, resp.Body)
		return answer{status: resp.StatusCode, header: resp.Header}
	}
	upload := func(repo string, content []byte) string {
		t.Helper()
		d := digest.FromBytes(content)
		at := ask(http.MethodPost, "/v2/"+repo+"/blobs/uploads/", nil).header.Get("Location")
		ask(http.MethodPut, withDigest(at, d), content)
		return string(d)
	}
	handBlobs(ask, upload)
	handManifests(ask, upload)
	handWrong(ask)
}

type asker func(method, path string, body []byte, header ...string) answer

func handBlobs(ask asker, upload func(repo string, content []byte) string) {
	content := random(7, 1000)
	d := upload("hand/made", content)
	blob := "/v2/hand/made/blobs/" + d
	ask(http.MethodHead, blob, nil)
	ask(http.MethodGet, blob, nil)
	for _, r := range []string{"bytes=0-99", "bytes=900-", "bytes=-10", "bytes=2000-", "bytes=5-1", "lines=1-2"} {
		ask(http.MethodGet, blob, nil, "Range", r)
	}
	ask(http.MethodGet, blob, nil, "If-None-Match", `"`+d+`"`)
	missing := string(digest.FromString("missing"))
	for _, path := range []string{"/v2/hand/made/blobs/" + missing, "/v2/no/such/blobs/" + d, "/v2/hand/made/blobs/sha256:12"} {
		for _, method := range []string{http.MethodGet, http.MethodHead, http.MethodDelete} {
			ask(method, path, nil)
		}
	}
	// Chunks, their state, one out of order, the end, a cancelled one.
	at := ask(http.MethodPost, "/v2/hand/made/blobs/uploads/", nil).header.Get("Location")
	chunks := random(8, 1000)
	next := ask(http.MethodPatch, at, chunks[:500], "Content-Type", "application/octet-stream", "Content-Range", "0-499").header.Get("Location")
	ask(http.MethodGet, next, nil)
	ask(http.MethodPatch, next, chunks[:10], "Content-Type", "application/octet-stream", "Content-Range", "700-709")
	next = ask(http.MethodPatch, next, chunks[500:], "Content-Type", "application/octet-stream", "Content-Range", "500-999").header.Get("Location")
	ask(http.MethodPut, withDigest(next, digest.FromBytes(chunks)), nil)
	at = ask(http.MethodPost, "/v2/hand/made/blobs/uploads/", nil).header.Get("Location")
	ask(http.MethodDelete, at, nil)
	ask(http.MethodGet, at, nil)
	at = ask(http.MethodPost, "/v2/hand/made/blobs/uploads/", nil).header.Get("Location")
	ask(http.MethodPut, withDigest(at, digest.FromString("another")), content)
	at = ask(http.MethodPost, "/v2/hand/made/blobs/uploads/", nil).header.Get("Location")
	ask(http.MethodPut, at, content)
	ask(http.MethodPost, "/v2/hand/made/blobs/uploads/?digest="+string(digest.FromBytes(content)), content)
	ask(http.MethodPost, "/v2/hand/other/blobs/uploads/?mount="+d+"&from=hand/made", nil)
	ask(http.MethodPost, "/v2/hand/other/blobs/uploads/?mount="+missing+"&from=hand/made", nil)
	ask(http.MethodDelete, "/v2/hand/other/blobs/"+d, nil)
	ask(http.MethodGet, "/v2/hand/other/blobs/"+d, nil)
}

func handManifests(ask asker, upload func(repo string, content []byte) string) {
	const manifestType = "application/vnd.docker.distribution.manifest.v2+json"
	image := func(repo string, n uint64) []byte {
		config, layer := []byte(fmt.Sprintf(`{"os":"linux","n":%d}`, n)), random(n, 100)
		return fmt.Appendf(nil, `{"schemaVersion":2,"mediaType":%q,"config":{"mediaType":"application/vnd.docker.container.image.v1+json","size":%d,"digest":%q},`+
			`"layers":[{"mediaType":"application/vnd.docker.image.rootfs.diff.tar.gzip","size":100,"digest":%q}]}`,
			manifestType, len(config), upload(repo, config), upload(repo, layer))
	}
	for n, name := range []string{"hand/made", "zoo/a", "zoo/b", "zoo/c"} {
		raw := image(name, uint64(n))
		for _, tag := range []string{"a", "b", "c"} {
			ask(http.MethodPut, "/v2/"+name+"/manifests/"+tag, raw, "Content-Type", manifestType)
		}
		ask(http.MethodPut, "/v2/"+name+"/manifests/"+string(digest.FromBytes(raw)), raw, "Content-Type", manifestType)
	}
	raw := image("hand/made", 9)
	d := string(digest.FromBytes(raw))
	at := "/v2/hand/made/manifests/"
	ask(http.MethodPut, at+"one", raw, "Content-Type", manifestType)
	for _, ref := range []string{"one", d, "missing", string(digest.FromString("missing"))} {
		for _, method := range []string{http.MethodHead, http.MethodGet} {
			ask(method, at+ref, nil, "Accept", manifestType)
			ask(method, at+ref, nil)
		}
	}
	ask(http.MethodGet, at+"one", nil, "Accept", manifestType, "If-None-Match", `"`+d+`"`)
	ask(http.MethodGet, at+"one", nil, "Accept", manifestType, "If-None-Match", d)
	ask(http.MethodPut, at+string(digest.FromString("another")), raw, "Content-Type", manifestType)
	ask(http.MethodPut, at+"bad", []byte(`{"schemaVersion":2`), "Content-Type", manifestType)
	ask(http.MethodPut, at+"bad", bytes.Replace(raw, []byte(`"size":100`), []byte(`"size":100,"x":1`), 1), "Content-Type", manifestType)
	ask(http.MethodPut, "/v2/zoo/a/manifests/lost", raw, "Content-Type", manifestType)
	ask(http.MethodPut, at+"!wrong", raw, "Content-Type", manifestType)
	ask(http.MethodGet, "/v2/hand/made/tags/list", nil)
	ask(http.MethodGet, "/v2/hand/made/tags/list?n=2", nil)
	ask(http.MethodGet, "/v2/hand/made/tags/list?n=2&last=a", nil)
	ask(http.MethodGet, "/v2/hand/made/tags/list?n=-1", nil)
	ask(http.MethodGet, "/v2/no/such/tags/list", nil)
	for _, query := range []string{"", "?n=2", "?n=2&last=hand/other", "?n=2&last=zoo/b", "?n=0", "?n=-1", "?n=x", "?n=1001"} {
		ask(http.MethodGet, "/v2/_catalog"+query, nil)
	}
	ask(http.MethodDelete, at+d, nil)
	ask(http.MethodDelete, at+d, nil)
	ask(http.MethodGet, at+d, nil)
	ask(http.MethodDelete, at+"missing", nil)
	ask(http.MethodGet, "/v2/hand/made/tags/list", nil)
}

func handWrong(ask asker) {
	for _, path := range []string{
		"/v2/", "/v2", "/", "/v2/Upper/manifests/one", "/v2/hand/made/nothing/one", "/v2/hand/made/manifests/", "/v2/_nothing",
		"/v2//manifests/one", "/v2/hand/made/blobs/uploads/no-such-id", "/v2/hand/made/blobs/uploads/00000000-0000-0000-0000-000000000000", "/v1/_ping",
	} {
		ask(http.MethodGet, path, nil)
	}
	for _, method := range []string{http.MethodPost, http.MethodPut, http.MethodDelete, http.MethodPatch, http.MethodOptions, http.MethodHead} {
		for _, path := range []string{"/v2/", "/v2/_catalog", "/v2/hand/made/tags/list"} {
			ask(method, path, nil)
		}
	}
	ask(http.MethodPost, "/v2/hand/made/manifests/one", nil)
	ask(http.MethodPut, "/v2/hand/made/blobs/"+string(digest.FromString("missing")), nil)
	ask(http.MethodGet, "/v2/hand/made/blobs/uploads/", nil)
}
