//go:build unix

package serve

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/regctl/regctl/client/oci"
	"github.com/regctl/regctl/serve/auth/token"
	"github.com/regctl/regctl/serve/config"
)

// usersOfAudit are alice and bob, with the password "secret" at the least cost.
const usersOfAudit = "alice:$2b$04$abcdefghijklmnopqrstuu2r9OfJnfCsdneAXAGHnS4UpFFP8WIrW\nbob:$2b$04$abcdefghijklmnopqrstuu2r9OfJnfCsdneAXAGHnS4UpFFP8WIrW\n"

const rulesOfAudit = `
storage: {delete: {enabled: true}}
auth: {htpasswd: {realm: r, path: %[1]s/users}}
access:
  - {who: everyone, what: pub/**, may: pull}
  - {who: user:alice, what: "**", may: all}
  - {who: user:bob, what: pub/**, deny: [push], because: bob only reads}
audit: {path: %[1]s/log/audit.log%[2]s}
`

// audited is a registry with an audit log.
type audited struct {
	*Assembly
	dir  string
	read int
}

func newAudited(t *testing.T, more string) *audited {
	t.Helper()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "users"), []byte(usersOfAudit), 0o600); err != nil {
		t.Fatal(err)
	}
	a, err := Assemble(t.Context(), Parts{Config: configured(t, fmt.Sprintf(rulesOfAudit, dir, more)), Dir: filepath.Join(dir, "store")})
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- a.Serve(ctx) }()
	t.Cleanup(func() {
		stop()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return &audited{Assembly: a, dir: dir}
}

// send makes a request with a header Authorization, or the name of who has the
// password "secret".
func (a *audited) send(t *testing.T, method, path, as, body string) (status int, answer string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, "http://"+a.Addrs()[0].String()+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	name, password, basic := strings.Cut(as, ":")
	switch {
	case basic:
		req.SetBasicAuth(name, password)
	case as != "":
		req.Header.Set("Authorization", "Bearer "+as)
	}
	if method == "POST" {
		req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	req.Header.Set("User-Agent", "test/1")
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	raw, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return res.StatusCode, string(raw)
}

// lines are those that have come since it was last called, in short.
func (a *audited) lines(t *testing.T) (short []string) {
	t.Helper()
	raw, err := os.ReadFile(filepath.Join(a.dir, "log", "audit.log"))
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(string(raw), "secret") || strings.Contains(string(raw), "wrong1") {
		t.Errorf("a password is in the log: %s", raw)
	}
	for line := range strings.Lines(string(raw[a.read:])) {
		var r auditRecord
		if err := json.Unmarshal([]byte(line), &r); err != nil {
			t.Fatalf("%s: %v", line, err)
		}
		if r.Action == "configure" {
			short = append(short, "configure "+r.Reason)
			continue
		}
		if r.Time.IsZero() || r.Address != "127.0.0.1" || r.Agent != "test/1" || r.Request == "" {
			t.Errorf("something is missing: %s", line)
		}
		digest, _, _ := strings.Cut(r.Digest, ":")
		short = append(short, fmt.Sprintf("%s %s %d %s %s/%s %s:%s@%s %s", r.Action, r.Outcome, r.Status, r.Who, r.Credential, r.Source, r.Repository, r.Tag, digest, r.Reason))
	}
	a.read = len(raw)
	return short
}

func tokenOf(t *testing.T, answer string) string {
	t.Helper()
	var reply struct{ Token string }
	if err := json.Unmarshal([]byte(answer), &reply); err != nil || reply.Token == "" {
		t.Fatal(answer, err)
	}
	return reply.Token
}

// TestAudit: what is done and what is denied is recorded once, and what every
// client does on its way is not.
func TestAudit(t *testing.T) {
	t.Parallel()
	a := newAudited(t, "")
	_, answer := a.send(t, "GET", "/v2/_token?scope=repository:app:pull", "", "")
	nobody := tokenOf(t, answer)
	form := url.Values{"grant_type": {"password"}, "username": {"bob"}, "password": {"wrong1"}}.Encode()
	const manifests = "/v2/pub/app/manifests/"
	for _, tt := range []struct {
		method, path, as, body string
		want                   string // Empty: nothing is recorded.
	}{
		{"GET", "/v2/", "", "", ""},
		{"GET", "/v2/_token", "", "", ""},
		{"GET", "/healthz", "", "", ""},
		{"GET", "/v2/_token", "alice:secret", "", "login ok 200 user:alice password/htpasswd :@ "},
		{"GET", "/v2/", "alice:secret", "", "login ok 200 user:alice password/htpasswd :@ "},
		{"GET", "/v2/_token", "alice:wrong1", "", "login denied 401 user:alice password/ :@ the user or the password is wrong"},
		{"POST", "/v2/_token", "", form, "login denied 401 user:bob password/ :@ the user or the password is wrong"},
		{"GET", "/v2/", "mallory:wrong1", "", "login denied 401 user:mallory password/ :@ the user or the password is wrong"},
		{"PUT", manifests + "v1", "", noManifests, ""}, // That is how a client asks what for it needs a token.
		{"PUT", manifests + "v1", "alice:secret", noManifests, "push ok 201 user:alice password/htpasswd pub/app:v1@sha256 "},
		{"PUT", manifests + "v1", "alice:secret", "{", "push failed 400 user:alice password/htpasswd pub/app:v1@ "},
		{"PUT", manifests + "v1", "bob:secret", noManifests, "push denied 403 user:bob password/htpasswd pub/app:v1@ rule 3 (config.yml:7): bob only reads"},
		{"POST", "/v2/pub/app/blobs/uploads/", "bob:secret", "", "push denied 403 user:bob password/htpasswd pub/app:@ rule 3 (config.yml:7): bob only reads"},
		{"GET", manifests + "v1", "", "", ""},
		{"GET", manifests + "v1", "bob:secret", "", ""},
		{"GET", "/v2/app/manifests/v1", "", "", ""},
		{"GET", "/v2/app/manifests/v1", nobody, "", "pull denied 401 anonymous token/ app:v1@ no rule allows it"},
		{"GET", "/v2/app/tags/list", "bob:secret", "", "pull denied 403 user:bob password/htpasswd app:@ no rule allows it"},
		{"GET", "/v2/_catalog", "bob:secret", "", "list denied 403 user:bob password/htpasswd :@ "},
		{"GET", manifests + "v1", "rubbish", "", "pull denied 401  token/ pub/app:v1@ "},
		{"DELETE", manifests + "v1", "bob:secret", "", "delete denied 403 user:bob password/htpasswd pub/app:v1@ no rule allows it"},
		{"DELETE", manifests + "v1", "alice:secret", "", "delete ok 202 user:alice password/htpasswd pub/app:v1@ "},
		{"DELETE", manifests + "v1", "alice:secret", "", "delete failed 404 user:alice password/htpasswd pub/app:v1@ "},
	} {
		status, answer := a.send(t, tt.method, tt.path, tt.as, tt.body)
		got := a.lines(t)
		if len(got) > 1 || tt.want == "" && len(got) > 0 || tt.want != "" && (len(got) != 1 || !strings.HasPrefix(got[0], tt.want)) {
			t.Errorf("%s %s as %q: %q\nwant %q\nanswer %d %s", tt.method, tt.path, tt.as, got, tt.want, status, answer)
		}
	}
}

// TestAuditPulls: if they are wanted, so are all tags of a push.
func TestAuditPulls(t *testing.T) {
	t.Parallel()
	a := newAudited(t, ", pulls: true")
	a.send(t, "PUT", "/v2/pub/app/manifests/v1", "alice:secret", noManifests)
	a.send(t, "GET", "/v2/pub/app/manifests/v1", "", "")
	a.send(t, "HEAD", "/v2/pub/app/manifests/v1", "", "")
	a.send(t, "GET", "/v2/pub/app/manifests/v2", "", "")
	want := []string{
		"push ok 201 user:alice password/htpasswd pub/app:v1@sha256 ",
		"pull ok 200 anonymous / pub/app:v1@sha256 ",
		"pull failed 404 anonymous / pub/app:v2@ manifest unknown",
	}
	got := a.lines(t)
	for i := range max(len(got), len(want)) {
		if i >= len(want) || i >= len(got) || !strings.HasPrefix(got[i], want[i]) {
			t.Errorf("%d: %q", i, got)
		}
	}
}

// TestReconfigureAccess: rules, groups and the audit log change while it runs;
// that somebody is asked at all does not.
func TestReconfigureAccess(t *testing.T) {
	t.Parallel()
	a := newAudited(t, "")
	change := func(old, now string) []string {
		return a.Reconfigure(configured(t, strings.ReplaceAll(fmt.Sprintf(rulesOfAudit, a.dir, ""), old, now)))
	}
	pushes := func(as string, want int) {
		t.Helper()
		if status, answer := a.send(t, "PUT", "/v2/pub/app/manifests/v1", as, noManifests); status != want {
			t.Errorf("as %s: %d %s", as, status, answer)
		}
	}
	pushes("bob:secret", 403)
	if later := change("deny: [push]", "may: [push]"); len(later) > 0 {
		t.Error(later)
	}
	pushes("bob:secret", 201)
	if later := change("user:bob", "group:readers"); len(later) > 0 {
		t.Error(later)
	}
	pushes("bob:secret", 403)
	if later := change("{who: user:bob, what: pub/**, deny: [push], because: bob only reads}\n", "{who: group:writers, what: pub/**, may: push}\ngroups: {writers: [bob]}\n"); len(later) > 0 {
		t.Error(later)
	}
	pushes("bob:secret", 201)
	if got := strings.Join(a.lines(t), "\n"); strings.Count(got, "configure access changed in the configuration") != 2 || strings.Count(got, "configure access groups changed") != 1 {
		t.Error(got)
	}
	moved := strings.ReplaceAll(fmt.Sprintf(rulesOfAudit, a.dir, ""), "audit.log", "other.log")
	a.Reconfigure(configured(t, moved))
	a.lines(t)
	pushes("bob:secret", 403)
	if got := a.lines(t); len(got) > 0 {
		t.Errorf("still recorded in the old file: %q", got)
	}
	raw, err := os.ReadFile(filepath.Join(a.dir, "log", "other.log"))
	if err != nil || !strings.Contains(string(raw), `"reason":"rule 3 (config.yml:7): bob only reads"`) {
		t.Errorf("%s, %v", raw, err)
	}
}

// TestReconfigureOpen: a registry that is open stays so until it restarts, and
// says so.
func TestReconfigureOpen(t *testing.T) {
	t.Parallel()
	c := configured(t, "tags: {maxtags: 5}")
	a, err := Assemble(t.Context(), Parts{Config: c})
	if err != nil {
		t.Fatal(err)
	}
	defer a.Close()
	for access, want := range map[string]string{"open": "[]", "private": "[access]"} {
		next := *c
		next.Access = config.Access{Preset: access, On: true}
		if later := fmt.Sprint(a.Reconfigure(&next)); later != want {
			t.Errorf("%s: %s, want %s", access, later, want)
		}
	}
}

// TestAuditThrottled: who guesses is recorded, guess by guess.
func TestAuditThrottled(t *testing.T) {
	t.Parallel()
	a := newAudited(t, "")
	for i := range 12 {
		a.send(t, "GET", "/v2/_token", fmt.Sprintf("alice:wrong1%d", i), "")
	}
	got := a.lines(t)
	if len(got) != 12 || !strings.HasPrefix(got[0], "login denied 401 user:alice ") || !strings.HasPrefix(got[11], "login denied 429 user:alice password/ :@ too many wrong passwords") {
		t.Errorf("%q", got)
	}
}

// TestAuditIsShort: who has no login cannot fill the audit log with a few
// requests.
func TestAuditIsShort(t *testing.T) {
	t.Parallel()
	q := &request{Request: &http.Request{Method: "GET"}, target: target{form: formManifest}}
	why := fmt.Errorf("%w: its key %q is none of those that are trusted", token.ErrInvalid, strings.Repeat("x", 60<<10))
	r, ok := q.refusal(badToken(why))
	if !ok || len(r.Reason) > 600 || !strings.HasPrefix(r.Reason, "the token is not valid: its key") {
		t.Errorf("%t, %d bytes: %.100s", ok, len(r.Reason), r.Reason)
	}
}

// TestAuditOfManyTags: what was done is recorded whole, what was denied is not
// for who asks to choose.
func TestAuditOfManyTags(t *testing.T) {
	t.Parallel()
	a := newAudited(t, "")
	query := "?tag=t"
	for i := range 50 {
		query += fmt.Sprintf("&tag=t%d", i)
	}
	path := "/v2/pub/app/manifests/" + string(oci.Digest("sha256:"+strings.Repeat("0", 64)))
	a.send(t, "PUT", path+query, "bob:secret", noManifests)
	got := a.lines(t)
	if len(got) != 10 || !strings.HasPrefix(got[1], "push denied 403 user:bob password/htpasswd pub/app:t0@sha256 rule 3") {
		t.Errorf("%d: %q", len(got), got)
	}
	a.send(t, "PUT", path+query+"&tag="+strings.Repeat("x", 1000), "", noManifests)
	if got := a.lines(t); len(got) > 1 {
		t.Errorf("of nobody: %d: %q", len(got), got)
	}
}
