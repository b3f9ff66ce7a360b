package main_test

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/regctl/regctl/client/oci"
	"github.com/regctl/regctl/client/oci/ocitest"
	"github.com/regctl/regctl/serve/auth/token"
)

// The people of the tests of who may do what: alice may all, bob only look,
// and nobody else has a login.
const (
	admitGood   = "alice:good:password"
	admitNarrow = "bob:narrow"
	admitWrong  = "alice:wrong"
)

const admitRules = `access:
  - {who: everyone, what: "public/**", may: [pull], because: anybody may look}
  - {who: user:bob, what: "private/**", may: [pull], because: bob only looks}
  - {who: user:alice, what: "**", may: all}
`

// ruled is a server with logins and rules.
type ruled struct {
	*server
	dir string // Its store.
}

// startRuled starts one with what follows in its config file.
func startRuled(tb testing.TB, rest string, users ...string) ruled {
	tb.Helper()
	dir := tb.TempDir()
	return ruled{startRegctl(tb, dir, ruledConfig(tb, dir, rest, users...)), dir}
}

func ruledConfig(tb testing.TB, dir, rest string, users ...string) string {
	tb.Helper()
	return authConfig(tb, writeHtpasswd(tb, users...), fmt.Sprintf("storage: {filesystem: {rootdirectory: %q}, delete: {enabled: true}}\n%s", dir, rest))
}

// startAdmission is that of the matrix, with an image in public/app and one in
// private/app.
func startAdmission(tb testing.TB) ruled {
	tb.Helper()
	s := startRuled(tb, admitRules, admitGood, admitNarrow)
	for i, repo := range []string{"public/app", "private/app", "secret/app"} {
		seedImage(tb, s.server, repo, "one", uint64(i))
	}
	return s
}

// seedImage makes alice push an image, and returns its digest.
func seedImage(tb testing.TB, s *server, repo, tag string, n uint64) oci.Digest {
	tb.Helper()
	archive := layerBytes(tb, fmt.Sprint(repo, n))
	config := fmt.Sprintf(`{"architecture":%q,"os":"linux","rootfs":{"type":"layers","diff_ids":[%q]}}`, runtime.GOARCH, digest.FromBytes(archive))
	w, ctx := speakAsWho(s, admitGood), context.Background()
	put := func(mediaType string, data []byte) oci.Descriptor {
		up, err := w.Upload(ctx, repo, "", oci.UploadOptions{})
		if err == nil {
			_, err = up.Write(data)
		}
		if err == nil {
			_, err = up.Commit(ctx, digest.FromBytes(data))
		}
		if err != nil {
			tb.Fatal(err)
		}
		return ocitest.Describe(mediaType, string(data))
	}
	image := ocitest.NewImage(put(ocispec.MediaTypeImageConfig, []byte(config)), put(ocispec.MediaTypeImageLayer, archive))
	d, err := w.PutManifest(ctx, repo, oci.Put{Raw: []byte(jsonText(tb, image)), Tags: []string{tag}})
	if err != nil {
		tb.Fatal(err)
	}
	return d.Digest
}

func speakAsWho(s *server, login string) wire {
	user, password, _ := strings.Cut(login, ":")
	return speakAs(s, user, password)
}

// scopeQuery asks for a token.
func scopeQuery(s *server, scopes ...string) string {
	q := url.Values{"service": {s.addr}}
	if len(scopes) > 0 {
		q["scope"] = scopes
	}
	return "/v2/_token?" + q.Encode()
}

// tokenReply is what a token server says.
type tokenReply struct {
	Token       string `json:"token"`
	AccessToken string `json:"access_token"`
	ExpiresIn   int    `json:"expires_in"`
	IssuedAt    string `json:"issued_at"`
}

// tokenFor asks for a token as a client does; login may be empty.
func tokenFor(t *testing.T, s *server, login string, scopes ...string) string {
	t.Helper()
	a := askAs(t, s, http.MethodGet, scopeQuery(s, scopes...), basicOf(login))
	var r tokenReply
	if err := json.Unmarshal(a.body, &r); err != nil || a.status != http.StatusOK || r.Token == "" || r.Token != r.AccessToken || r.ExpiresIn < 60 || r.IssuedAt == "" {
		t.Fatalf("a token for %q as %q: %v, %d %s", scopes, login, err, a.status, a.body)
	}
	return r.Token
}

func basicOf(login string) string {
	if login == "" {
		return ""
	}
	return "Basic " + base64.StdEncoding.EncodeToString([]byte(login))
}

var challengeParam = regexp.MustCompile(`(\w+)="([^"]*)"`)

// challenge is the one that an answer has.
func challenge(t *testing.T, a answer) map[string]string {
	t.Helper()
	all := a.header.Values("Www-Authenticate")
	if len(all) != 1 || !strings.HasPrefix(all[0], "Bearer ") || strings.Contains(all[0], "Basic") {
		t.Errorf("challenges are %q, want one for Bearer", all)
		return nil
	}
	params := map[string]string{}
	for _, m := range challengeParam.FindAllStringSubmatch(all[0], -1) {
		params[m[1]] = m[2]
	}
	return params
}

// What somebody may be told, besides a status of success.
const (
	mustLogIn   = "log in"  // 401 with a challenge, and how to log in.
	noneMay     = "none"    // The same with a token that is for nobody in particular.
	mustRefresh = "refresh" // 401, invalid_token.
	mustWiden   = "widen"   // 401, insufficient_scope.
	isDenied    = "denied"  // 403.
	isWrong     = "wrong"   // 401: the password is.
)

// admitColumns are the ways to ask: each returns the header Authorization for
// a request that needs these scopes.
var admitColumns = []struct {
	name   string
	header func(t *testing.T, s ruled, scope []string) string
}{
	{"nothing", func(*testing.T, ruled, []string) string { return "" }},
	{"anonymous", func(t *testing.T, s ruled, scope []string) string {
		return "Bearer " + tokenFor(t, s.server, "", scope...)
	}},
	{"good", func(t *testing.T, s ruled, scope []string) string {
		return "Bearer " + tokenFor(t, s.server, admitGood, scope...)
	}},
	{"good Basic", func(*testing.T, ruled, []string) string { return basicOf(admitGood) }},
	{"wrong", func(*testing.T, ruled, []string) string { return basicOf(admitWrong) }},
	{"broken", func(t *testing.T, s ruled, scope []string) string {
		raw := tokenFor(t, s.server, admitGood, scope...)
		return "Bearer " + raw[:len(raw)-8] + "AAAAAAAA"
	}},
	{"expired", func(t *testing.T, s ruled, scope []string) string {
		return "Bearer " + s.expired(t, tokenFor(t, s.server, admitGood, scope...))
	}},
	{"narrow token", func(t *testing.T, s ruled, _ []string) string {
		return "Bearer " + tokenFor(t, s.server, admitGood, "repository:public/app:pull")
	}},
	{"narrow", func(t *testing.T, s ruled, scope []string) string {
		return "Bearer " + tokenFor(t, s.server, admitNarrow, scope...)
	}},
	{"narrow Basic", func(*testing.T, ruled, []string) string { return basicOf(admitNarrow) }},
}

// expired is a token as another one, but an hour old.
func (s ruled) expired(t *testing.T, raw string) string {
	t.Helper()
	dir := t.TempDir()
	names, err := filepath.Glob(filepath.Join(s.dir, ".regctl", "token*"))
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		write(t, filepath.Join(dir, filepath.Base(name)), []byte(read(t, name)))
	}
	now := time.Now()
	keys, err := token.OpenKeys(dir, token.Options{Now: func() time.Time { return now }})
	if err != nil {
		t.Fatal(err)
	}
	c, err := keys.Verify(raw)
	if err != nil {
		t.Fatal(err)
	}
	now = now.Add(-time.Hour)
	c.IssuedAt, c.NotBefore, c.Expires = now, now, now.Add(5*time.Minute)
	old, err := keys.Issue(c, true)
	if err != nil {
		t.Fatal(err)
	}
	return old
}

// admitRows are requests, what a token must be for, and the outcome in each
// column.
var admitRows = []struct {
	name, method, path, scope string
	want                      [10]any
}{
	{"ping", "GET", "/v2/", "", [10]any{mustLogIn, 200, 200, 200, isWrong, mustRefresh, mustRefresh, 200, 200, 200}},
	{"public manifest", "GET", "/v2/public/app/manifests/one", "repository:public/app:pull", [10]any{200, 200, 200, 200, isWrong, mustRefresh, mustRefresh, 200, 200, 200}},
	{"public manifest that is not there", "HEAD", "/v2/public/app/manifests/two", "repository:public/app:pull", [10]any{404, 404, 404, 404, isWrong, mustRefresh, mustRefresh, 404, 404, 404}},
	{"public tags", "GET", "/v2/public/app/tags/list", "repository:public/app:pull", [10]any{200, 200, 200, 200, isWrong, mustRefresh, mustRefresh, 200, 200, 200}},
	{"private manifest", "GET", "/v2/private/app/manifests/one", "repository:private/app:pull", [10]any{mustLogIn, noneMay, 200, 200, isWrong, mustRefresh, mustRefresh, mustWiden, 200, 200}},
	{"private manifest, HEAD", "HEAD", "/v2/private/app/manifests/one", "repository:private/app:pull", [10]any{mustLogIn, noneMay, 200, 200, isWrong, mustRefresh, mustRefresh, mustWiden, 200, 200}},
	{"private blob", "GET", "/v2/private/app/blobs/PRIVATE", "repository:private/app:pull", [10]any{mustLogIn, noneMay, 200, 200, isWrong, mustRefresh, mustRefresh, mustWiden, 200, 200}},
	{"private referrers", "GET", "/v2/private/app/referrers/PRIVATE", "repository:private/app:pull", [10]any{mustLogIn, noneMay, 200, 200, isWrong, mustRefresh, mustRefresh, mustWiden, 200, 200}},
	{"private details", "GET", "/v2/private/app/_regctl/tags", "repository:private/app:pull", [10]any{mustLogIn, noneMay, 200, 200, isWrong, mustRefresh, mustRefresh, mustWiden, 200, 200}},
	{"hidden manifest", "GET", "/v2/secret/app/manifests/one", "repository:secret/app:pull", [10]any{mustLogIn, noneMay, 200, 200, isWrong, mustRefresh, mustRefresh, mustWiden, isDenied, isDenied}},
	{"absent manifest", "GET", "/v2/absent/app/manifests/one", "repository:absent/app:pull", [10]any{mustLogIn, noneMay, 404, 404, isWrong, mustRefresh, mustRefresh, mustWiden, isDenied, isDenied}},
	{"a private blob elsewhere", "HEAD", "/v2/public/app/blobs/PRIVATE", "repository:public/app:pull", [10]any{404, 404, 404, 404, isWrong, mustRefresh, mustRefresh, 404, 404, 404}},
	{"push", "POST", "/v2/private/new/blobs/uploads/", "repository:private/new:pull,push", [10]any{mustLogIn, noneMay, 202, 202, isWrong, mustRefresh, mustRefresh, mustWiden, isDenied, isDenied}},
	{"push to public", "POST", "/v2/public/app/blobs/uploads/", "repository:public/app:pull,push", [10]any{mustLogIn, noneMay, 202, 202, isWrong, mustRefresh, mustRefresh, mustWiden, isDenied, isDenied}},
	{"mount", "POST", "/v2/public/other/blobs/uploads/?mount=PRIVATE&from=private/app", "repository:public/other:pull,push repository:private/app:pull",
		[10]any{mustLogIn, noneMay, 201, 201, isWrong, mustRefresh, mustRefresh, mustWiden, isDenied, isDenied}},
	{"delete", "DELETE", "/v2/private/app/manifests/COLUMN", "repository:private/app:delete", [10]any{mustLogIn, noneMay, 202, 202, isWrong, mustRefresh, mustRefresh, mustWiden, isDenied, isDenied}},
	{"delete a repository", "DELETE", "/v2/private/COLUMN", "repository:private/COLUMN:delete", [10]any{mustLogIn, noneMay, 202, 202, isWrong, mustRefresh, mustRefresh, mustWiden, isDenied, isDenied}},
	{"catalogue", "GET", "/v2/_catalog", "registry:catalog:*", [10]any{mustLogIn, noneMay, 200, 200, isWrong, mustRefresh, mustRefresh, mustWiden, isDenied, isDenied}},
	{"deletions", "GET", "/v2/_regctl/deletions", "registry:deletions:*", [10]any{mustLogIn, noneMay, 200, 200, isWrong, mustRefresh, mustRefresh, mustWiden, isDenied, isDenied}},
}

// TestAdmission is the matrix of who may do what, without any client.
func TestAdmission(t *testing.T) {
	t.Parallel()
	s := startAdmission(t)
	w := speakAsWho(s.server, admitGood)
	m, err := oci.ParseManifest("", w.must(t, http.StatusOK, http.MethodGet, "/v2/private/app/manifests/one").body)
	if err != nil {
		t.Fatal(err)
	}
	for i, c := range admitColumns {
		column := strings.ReplaceAll(strings.ToLower(c.name), " ", "-")
		seedImage(t, s.server, "private/app", column, uint64(10+i))
		seedImage(t, s.server, "private/"+column, "one", uint64(30+i))
	}
	for _, row := range admitRows {
		for i, c := range admitColumns {
			t.Run(row.name+"/"+c.name, func(t *testing.T) {
				fill := strings.NewReplacer("PRIVATE", string(m.Blobs()[0].Digest), "COLUMN", strings.ReplaceAll(strings.ToLower(c.name), " ", "-"))
				scope := fill.Replace(row.scope)
				a := askAs(t, s.server, row.method, fill.Replace(row.path), c.header(t, s, strings.Fields(scope)))
				wantAdmitted(t, s.server, row.method, a, row.want[i], scope)
			})
		}
	}
	s.contented(t)
}

// wantAdmitted holds an answer against what is to be told.
func wantAdmitted(t *testing.T, s *server, method string, a answer, want any, scope string) {
	t.Helper()
	if status, ok := want.(int); ok {
		if a.status != status {
			t.Errorf("status %d, want %d: %s", a.status, status, clipped(a.body))
		}
		if h := a.header.Values("Www-Authenticate"); len(h) > 0 {
			t.Errorf("it challenges: %q", h)
		}
		return
	}
	if want == isDenied {
		if a.status != http.StatusForbidden || method != http.MethodHead && !strings.Contains(string(a.body), `"DENIED"`) {
			t.Errorf("status %d: %s", a.status, clipped(a.body))
		}
		return
	}
	if a.status != http.StatusUnauthorized || method != http.MethodHead && !strings.Contains(string(a.body), `"UNAUTHORIZED"`) {
		t.Errorf("status %d: %s", a.status, clipped(a.body))
		return
	}
	got := challenge(t, a)
	if got["realm"] != s.url("/v2/_token") || got["service"] != s.addr {
		t.Errorf("the challenge is %q", a.header.Get("Www-Authenticate"))
	}
	if !sameScopes(got["scope"], scope) {
		t.Errorf("the challenge is for %q, want %q", got["scope"], scope)
	}
	wantError := map[any]string{mustRefresh: "invalid_token", mustWiden: "insufficient_scope", noneMay: "insufficient_scope"}[want]
	if got["error"] != wantError && want != isWrong {
		t.Errorf("the error of the challenge is %q, want %q", got["error"], wantError)
	}
	if (want == mustLogIn || want == noneMay) && method != http.MethodHead && scope != "" && !strings.Contains(string(a.body), "docker login "+s.addr) {
		t.Errorf("it does not say how to log in: %s", clipped(a.body))
	}
}

func clipped(body []byte) []byte { return body[:min(len(body), 300)] }

// sameScopes compares scopes, whatever the order of their actions.
func sameScopes(a, b string) bool {
	sorted := func(s string) []string {
		var all []string
		for _, scope := range strings.Fields(s) {
			i := strings.LastIndexByte(scope, ':')
			actions := strings.Split(scope[i+1:], ",")
			slices.Sort(actions)
			all = append(all, scope[:i+1]+strings.Join(actions, ","))
		}
		slices.Sort(all)
		return all
	}
	return slices.Equal(sorted(a), sorted(b))
}

// writeDockerLogin saves a login where docker has it, and all others look.
func writeDockerLogin(tb testing.TB, home, host, login string) {
	tb.Helper()
	if login == "" {
		return
	}
	raw := fmt.Sprintf(`{"auths":{%q:{"auth":%q}}}`, host, base64.StdEncoding.EncodeToString([]byte(login)))
	if err := os.MkdirAll(filepath.Join(home, ".docker"), 0o700); err != nil {
		tb.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(home, ".docker", "config.json"), []byte(raw), 0o600); err != nil {
		tb.Fatal(err)
	}
}
