//go:build unix

package serve

import (
	"bufio"
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/regctl/regctl/client/oci"
	"github.com/regctl/regctl/client/oci/ocitest"
	"github.com/regctl/regctl/serve/auth"
)

// advisedRules are those of most of these tests. The users are named for what
// they may do in bob/app.
const advisedRules = `
access:
  - {who: user:fixed, what: "**", deny: [overwrite], because: it only adds}
  - {who: user:alice, what: "**", may: all}
  - {who: everyone, what: "open/**", may: [pull]}
  - {who: user:bob, what: "bob/**", may: [pull, push, delete, list]}
  - {who: user:pull, what: bob/app, may: [pull]}
  - {who: [user:push, user:fixed], what: "bob/**", may: [push]}
  - {who: user:delete, what: bob/app, may: [delete]}
  - {who: user:list, what: bob/app, may: [list]}
  - {who: group:team, what: "team/**", may: [pull]}
groups: {team: [bob]}
`

// advisedUsers are those who have a login; the password is the name and "-secret".
var advisedUsers = []string{"alice", "bob", "pull", "push", "fixed", "delete", "list", "none"}

func passwordOf(name string) string { return name + "-secret" }

// passwordHashes are made once: that takes a while.
var passwordHashes = sync.OnceValue(func() []byte {
	var b bytes.Buffer
	for _, name := range advisedUsers {
		hash, err := auth.Hash(passwordOf(name), auth.MinCost)
		if err != nil {
			panic(err)
		}
		fmt.Fprintf(&b, "%s:%s\n", name, hash)
	}
	return b.Bytes()
})

// advised is a whole registry with logins and rules.
type advised struct {
	*server
	a    *Assembly
	yaml string
	log  *logLines
}

// logLines are a log. They are written to from several requests.
type logLines struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *logLines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *logLines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// advise returns a registry with logins and rules, which holds one image in each
// of some repositories.
func advise(t testing.TB, yaml string) *advised {
	t.Helper()
	s := adviseEmpty(t, t.TempDir(), yaml)
	content := ocitest.Content{}
	for _, repo := range []string{"open/app", "bob/app", "team/app", "secret/app"} {
		content[repo] = ocitest.Repo{
			Blobs:     ocitest.Blobs{"blob@" + repo: "bytes of " + repo, "free@" + repo: "free bytes of " + repo},
			Manifests: ocitest.Manifests{"image@" + repo: {Layers: "blob@" + repo}, "signature@" + repo: {Subject: "image@" + repo, ArtifactType: "application/x.sig"}},
			Tags:      ocitest.Tags{"latest": "image@" + repo, "v1": "image@" + repo},
		}
	}
	content["secret/app"].Blobs["blob@secret/app"] = secretLayer
	s.digests = ocitest.Push(t, s.reg, content)
	return s
}

// secretLayer is in secret/app only.
const secretLayer = "what nobody else may see"

// adviseEmpty returns one that is empty. Without a directory it is in memory.
func adviseEmpty(t testing.TB, dir, yaml string) *advised {
	t.Helper()
	path := filepath.Join(t.TempDir(), "htpasswd")
	if err := os.WriteFile(path, passwordHashes(), 0o600); err != nil {
		t.Fatal(err)
	}
	yaml += fmt.Sprintf("\nauth: {htpasswd: {realm: test, path: %q}}", path)
	log := &logLines{}
	logger := slog.New(slog.NewJSONHandler(log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	a, err := Assemble(t.Context(), Parts{Config: configured(t, yaml), Dir: dir, Log: logger, Access: logger})
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- a.Serve(ctx) }()
	t.Cleanup(func() {
		stop()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	addr := a.Addrs()[0].String()
	s := &server{t: t, url: "http://" + addr, addr: addr, reg: a.store}
	return &advised{s, a, yaml, log}
}

// header is the header of a user; "" is nobody.
func header(name string) string {
	if name == "" {
		return ""
	}
	return login(name, passwordOf(name))
}

// as makes a request with a header Authorization, if it is not empty.
func (s *advised) as(authorization, method, path, body string, headers ...string) answer {
	s.t.Helper()
	if authorization != "" {
		headers = append(headers, "Authorization", authorization)
	}
	return s.do(method, path, body, headers...)
}

// token is the header of a token for scopes, which user gets; "" is nobody.
func (s *advised) token(user string, scopes ...string) string {
	s.t.Helper()
	a := s.as(header(user), "GET", "/v2/_token?"+url.Values{"service": {s.addr}, "scope": scopes}.Encode(), "")
	var reply tokenJSON
	if err := json.Unmarshal([]byte(a.body), &reply); err != nil || a.status != 200 || reply.Token == "" {
		s.t.Fatalf("a token for %q: %d %s", user, a.status, a.body)
	}
	return "Bearer " + reply.Token
}

// robot is the header of a robot with these scopes.
func (s *advised) robot(name string, scopes ...string) (authorization, secret string) {
	s.t.Helper()
	secret, sum := auth.NewRobotSecret()
	if _, err := s.a.robots.Create(s.t.Context(), RobotRequest{Name: name, Scopes: scopes, Sum: sum[:]}); err != nil {
		s.t.Fatal(err)
	}
	return login(name, secret), secret
}

// probe is a request about a repository, or about the registry.
type probe struct {
	kind         kind
	method, path string
	body         string
	headers      []string
	needs        string // pull, push, delete or list.
}

func (r probe) String() string { return r.method + " " + r.path }

// noUpload is the id of an upload that is not there.
const noUpload = "3fa85f64-5717-4562-b3fc-2c963f66afa6"

// routesOf are all requests that there are about repo, as if it held the image
// of like. What takes something away comes last.
func (s *advised) routesOf(repo, like string) []probe {
	s.t.Helper()
	image, blob, free, signature := s.digest("image@"+like), s.digest("blob@"+like), s.digest("free@"+like), s.digest("signature@"+like)
	paths := map[form][]string{
		formTags: {"/tags/list"}, formDetails: {"/_regctl/tags"}, formManifest: {"/manifests/latest", "/manifests/" + string(image)},
		formBlob: {"/blobs/" + string(blob)}, formUploads: {"/blobs/uploads/", "/blobs/uploads/?mount=" + string(blob) + "&from=open/app", "/blobs/uploads/?mount=" + string(blob), "/blobs/uploads/?digest=" + string(digest.FromString("x"))},
		formUpload: {"/blobs/uploads/" + noUpload}, formReferrers: {"/referrers/" + string(image)}, formRepo: {""},
	}
	var all, last []probe
	for f, methods := range methodsOf {
		for _, m := range methods {
			r := probe{kind: m.kind, method: m.method}
			switch r.needs = map[string]string{"GET": "pull", "HEAD": "pull", "DELETE": "delete"}[m.method]; {
			case form(f) == formUpload, r.needs == "": // An upload is part of a push, whatever is done to it.
				r.needs = "push"
			}
			switch form(f) {
			case formNone, formRoot, formPing, formHealth, formReady, formToken:
				continue
			case formCatalog, formDeletions:
				r.path, r.needs = "/v2/_catalog", "list"
				if form(f) == formDeletions {
					r.path, r.needs = "/v2/_regctl/deletions", "delete"
				}
				all = append(all, r)
				continue
			}
			if len(paths[form(f)]) == 0 {
				s.t.Fatalf("nobody knows how to make a request of form %d", f)
			}
			for _, path := range paths[form(f)] {
				one := r
				one.path = "/v2/" + repo + path
				switch one.kind {
				case kindManifestPut:
					one.body, one.headers = noManifests, []string{"Content-Type", oci.MediaTypeIndex}
					one.path = strings.Replace(one.path, string(image), string(digest.FromString(noManifests))+"?tag=latest", 1)
				case kindUploadFinish:
					one.path += "?digest=" + string(digest.FromString("x"))
				case kindBlobDelete:
					one.path = "/v2/" + repo + "/blobs/" + string(free)
				case kindBlobGet:
					ranged := one
					ranged.headers = []string{"Range", "bytes=0-0"}
					all = append(all, ranged)
				case kindManifestGet, kindManifestHead:
					conditional := one
					conditional.headers = []string{"If-None-Match", `"` + string(image) + `"`}
					referrer := one
					referrer.path = "/v2/" + repo + "/manifests/" + string(signature)
					all = append(all, conditional, referrer)
				}
				if one.method == "DELETE" {
					conditional := one
					conditional.headers = []string{"If-Match", `"` + string(image) + `"`}
					last = append(last, conditional, one)
					continue
				}
				all = append(all, one)
			}
		}
	}
	return append(all, last...)
}

// digest is that of something that was pushed.
func (s *advised) digest(name string) oci.Digest {
	s.t.Helper()
	d, ok := s.digests[name]
	if !ok {
		s.t.Fatalf("nothing is called %s", name)
	}
	return d
}

// intact fails the test if something of the image of repo is missing or moved.
func (s *advised) intact(repo string) {
	s.t.Helper()
	for _, tag := range []string{"latest", "v1"} {
		d, err := s.reg.Resolve(s.t.Context(), repo, tag)
		if err != nil || d.Digest != s.digest("image@"+repo) {
			s.t.Errorf("%s:%s is %s, %v", repo, tag, d.Digest, err)
		}
	}
	for _, blob := range []string{"blob@", "free@"} {
		if _, err := s.reg.StatBlob(s.t.Context(), repo, s.digests[blob+repo]); err != nil {
			s.t.Error(err)
		}
	}
	for tag, err := range s.reg.Tags(s.t.Context(), repo, "") {
		if err != nil || tag != "latest" && tag != "v1" {
			s.t.Errorf("%s has the tag %s, %v", repo, tag, err)
		}
	}
}

// CVE-2026-41888 (a DELETE of a tag minded neither delete.enabled nor
// read-only), CVE-2026-27771 (private images that anybody could pull), and each
// method that is ever added: everything against everybody in every mode.
func TestAdvisoryEveryMethodInEveryMode(t *testing.T) {
	t.Parallel()
	for mode, yaml := range map[string]string{
		"plain":      "storage: {delete: {enabled: true}}",
		"no deletes": "storage: {delete: {enabled: false}}",
		"read-only":  "storage: {delete: {enabled: true}, maintenance: {readonly: {enabled: true}}}",
	} {
		t.Run(mode, func(t *testing.T) {
			t.Parallel()
			s := advise(t, yaml+advisedRules)
			routes := s.routesOf("bob/app", "bob/app")
			robot, _ := s.robot("ci", "bob/app:pull")
			useless, _ := s.robot("other", "other:pull,push")
			public, anyone := s.token("", "repository:open/app:pull"), s.token("")
			all := s.token("alice", "repository:bob/app:*", "repository:open/app:pull", "registry:catalog:*", "registry:deletions:*")
			for _, c := range []struct {
				name, authorization string
				may                 string
				denied              int
			}{
				{"nobody", "", "", 401},
				{"nobody with a token", anyone, "", 401},
				{"nobody with a token for something else", public, "", 401},
				{"nobody, as podman says it", login("", ""), "", 401},
				{"a wrong password", login("alice", "wrong"), "", 401},
				{"an unknown name", login("mallory", "wrong"), "", 401},
				{"no token", "Bearer x", "", 401},
				{"none", header("none"), "", 403},
				{"none with a token", s.token("none", "repository:bob/app:*"), "", 403},
				{"a robot for something else", useless, "", 403},
				{"pull", header("pull"), "pull", 403},
				{"a robot to pull", robot, "pull", 403},
				{"pull with a token", s.token("pull", "repository:bob/app:pull"), "pull", 403},
				{"list", header("list"), "list", 403},
				{"all with a token for nothing", s.token("alice"), "", 401},
				{"all with a token for something else", s.token("alice", "repository:bob/apps:*"), "", 401},
				{"push", header("push"), "push", 403},
				{"delete", header("delete"), "delete", 403},
				{"all", header("alice"), "pull push delete list", 0},
				{"all with a token for all", all, "pull push delete list", 0},
			} {
				s.everyMethod(mode, c.name, c.authorization, c.may, c.denied, routes)
				if mode == "read-only" || c.name == "all with a token for something else" {
					s.intact("bob/app")
				}
			}
			s.intact("open/app")
			s.intact("secret/app")
		})
	}
}

// everyMethod makes requests and holds the answers against what a caller may.
func (s *advised) everyMethod(mode, name, authorization, may string, denied int, routes []probe) {
	s.t.Helper()
	for _, r := range routes {
		a := s.as(authorization, r.method, r.path, r.body, r.headers...)
		allowed := slices.Contains(strings.Fields(may), r.needs)
		if r.needs == "delete" && slices.Contains(r.headers, "If-Match") && !strings.Contains(may, "pull") {
			allowed = allowed && r.kind != kindManifestDelete // It would tell what is there.
		}
		off := mode == "no deletes" && r.method == "DELETE" && r.kind != kindUploadCancel ||
			mode == "read-only" && r.method != "GET" && r.method != "HEAD"
		switch {
		case !allowed && a.status != denied:
			s.t.Errorf("%s: %s: status %d, want %d: %s", name, r, a.status, denied, a.body)
		case !allowed && r.method != "HEAD" && !strings.Contains(a.body, map[int]string{401: `"UNAUTHORIZED"`, 403: `"DENIED"`}[denied]):
			s.t.Errorf("%s: %s: %s", name, r, a.body)
		case !allowed && (denied == 401) != (len(a.header.Values("Www-Authenticate")) == 1):
			s.t.Errorf("%s: %s: challenges %q", name, r, a.header.Values("Www-Authenticate"))
		case allowed && (a.status == 401 || a.status == 403 || a.status >= 500):
			s.t.Errorf("%s: %s: status %d: %s", name, r, a.status, a.body)
		case allowed && off && a.status != 405 && a.status != 404 && a.status != 412:
			s.t.Errorf("%s: %s: status %d, want 405: %s", name, r, a.status, a.body)
		}
	}
}

// CVE-2024-39897, the same by Range, and CVE-2023 of others: a digest is no key.
// What is not in the repository is not there, warm or cold, however it is asked
// for.
func TestAdvisoryReadsAcrossRepositories(t *testing.T) {
	t.Parallel()
	s := advise(t, advisedRules)
	blob, image := string(s.digest("blob@secret/app")), string(s.digest("image@secret/app"))
	bob := header("bob")
	for round := range 2 {
		for _, scoped := range []string{bob, s.token("bob", "repository:bob/app:pull,push", "repository:secret/app:pull")} {
			for _, r := range []struct {
				method, path string
				headers      []string
				want         int
			}{
				{"GET", "blobs/" + blob, nil, 404}, {"HEAD", "blobs/" + blob, nil, 404},
				{"GET", "blobs/" + blob, []string{"Range", "bytes=0-3"}, 404},
				{"GET", "blobs/" + blob, []string{"If-None-Match", `"` + blob + `"`}, 404},
				{"HEAD", "blobs/" + blob, []string{"If-None-Match", "*"}, 404},
				{"GET", "manifests/" + image, nil, 404}, {"HEAD", "manifests/" + image, nil, 404},
				{"GET", "manifests/" + image, []string{"If-None-Match", `"` + image + `"`}, 404},
				{"POST", "blobs/uploads/?mount=" + blob + "&from=secret/app", nil, 202},
				{"POST", "blobs/uploads/?mount=" + blob, nil, 202},
				{"POST", "blobs/uploads/?mount=" + blob + "&from=bob/app", nil, 202},
				{"GET", "blobs/" + blob, nil, 404},
			} {
				a := s.as(scoped, r.method, "/v2/bob/app/"+r.path, "", r.headers...)
				if a.status != r.want || strings.Contains(a.body, "nobody else") {
					s.t.Errorf("%s %s: status %d, want %d: %s", r.method, r.path, a.status, r.want, a.body)
				}
			}
			a := s.as(scoped, "GET", "/v2/bob/app/referrers/"+image, "")
			if a.status != 200 || !strings.Contains(a.body, `"manifests":[]`) {
				t.Errorf("referrers: %d %s", a.status, a.body)
			}
			// A manifest that names what is elsewhere brings it not here.
			m, err := s.reg.Manifest(t.Context(), "secret/app", image)
			if err != nil {
				t.Fatal(err)
			}
			if a := s.as(scoped, "PUT", "/v2/bob/app/manifests/stolen", string(m.Raw), "Content-Type", m.Descriptor.MediaType); a.code() != oci.ManifestBlobUnknown {
				t.Errorf("a manifest of others: %d %s", a.status, a.body)
			}
		}
		if round == 0 { // Who may reads it, so that all caches have it.
			for _, path := range []string{"blobs/" + blob, "manifests/" + image, "manifests/latest"} {
				if a := s.as(header("alice"), "GET", "/v2/secret/app/"+path, ""); a.status != 200 {
					t.Errorf("%s: %d", path, a.status)
				}
			}
		}
	}
}

// CVE-2026-35172: what was deleted in a repository is gone there, whatever is
// remembered of it and wherever else it is.
func TestAdvisoryDeletedStaysDeleted(t *testing.T) {
	t.Parallel()
	s := advise(t, "storage: {delete: {enabled: true}}"+advisedRules)
	alice, bob := header("alice"), s.token("bob", "repository:bob/app:pull", "repository:bob/copy:pull,push")
	blob, image := string(s.digest("blob@bob/app")), string(s.digest("image@bob/app"))
	if a := s.as(bob, "POST", "/v2/bob/copy/blobs/uploads/?mount="+blob+"&from=bob/app", ""); a.status != 201 {
		t.Fatalf("mount: %d %s", a.status, a.body)
	}
	paths := []string{"manifests/latest", "manifests/v1", "manifests/" + image, "blobs/" + blob}
	read := func(want int) {
		t.Helper()
		for _, path := range paths {
			for _, method := range []string{"GET", "HEAD"} {
				if a := s.as(bob, method, "/v2/bob/app/"+path, ""); a.status != want {
					t.Errorf("%s %s: status %d, want %d", method, path, a.status, want)
				}
			}
		}
	}
	read(200)
	for _, path := range []string{"manifests/" + string(s.digest("signature@bob/app")), "manifests/" + image, "blobs/" + blob} {
		if a := s.as(alice, "DELETE", "/v2/bob/app/"+path, ""); a.status != 202 {
			t.Errorf("%s: %d %s", path, a.status, a.body)
		}
	}
	read(404)
	if a := s.as(bob, "GET", "/v2/bob/copy/blobs/"+blob, ""); a.status != 200 {
		t.Errorf("the copy: %d", a.status)
	}
	read(404)
}

// Caches in between, as that of nginx, keep what may be kept, with a login or
// without: what is not for everybody says that it may not.
func TestAdvisoryCachesInBetween(t *testing.T) {
	t.Parallel()
	s := advise(t, advisedRules)
	public := s.token("", "repository:open/app:pull")
	for _, c := range []struct{ as, repo, want string }{
		{header("bob"), "bob/app", "private, max-age=31536000, immutable"},
		{s.token("bob", "repository:bob/app:pull"), "bob/app", "private, max-age=31536000, immutable"},
		{public, "open/app", "max-age=31536000, immutable"},
		{"", "open/app", "max-age=31536000, immutable"},
		{"", "bob/app", ""},
	} {
		for _, method := range []string{"GET", "HEAD"} {
			a := s.as(c.as, method, "/v2/"+c.repo+"/blobs/"+string(s.digest("blob@"+c.repo)), "")
			if got := a.header.Get("Cache-Control"); got != c.want {
				t.Errorf("%s of %s as %.10q: status %d, Cache-Control %q, want %q", method, c.repo, c.as, a.status, got, c.want)
			}
		}
	}
}

// CVE-2022-46463 and its like: nobody finds out what is there by asking for
// what is not theirs. Unknown and forbidden are the same, to the byte.
func TestAdvisoryUnknownOrForbidden(t *testing.T) {
	t.Parallel()
	s := advise(t, "storage: {delete: {enabled: true}}"+advisedRules)
	robot, _ := s.robot("ci", "bob/app:all")
	for name, authorization := range map[string]string{
		"nobody": "", "nobody with a token": s.token("", "repository:secret/app:pull", "repository:absent/app:pull"),
		"bob": header("bob"), "bob with a token": s.token("bob", "repository:secret/app:*", "repository:absent/app:*"),
		"none": header("none"), "a robot": robot, "a wrong password": login("bob", "wrong"), "no token": "Bearer x",
	} {
		hidden, absent := s.routesOf("secret/app", "secret/app"), s.routesOf("absent/app", "secret/app")
		for i, r := range hidden {
			if !strings.Contains(r.path, "secret/app") {
				continue
			}
			one, other := s.as(authorization, r.method, r.path, r.body, r.headers...), s.as(authorization, absent[i].method, absent[i].path, r.body, r.headers...)
			if got, want := plainly(one, "secret/app"), plainly(other, "absent/app"); got != want {
				t.Errorf("%s: %s:\nhidden: %s\nabsent: %s", name, r, got, want)
			}
			if one.status != 401 && one.status != 403 {
				t.Errorf("%s: %s: status %d", name, r, one.status)
			}
		}
		// As the source of a mount, too.
		blob := string(s.digest("blob@secret/app"))
		one := s.as(authorization, "POST", "/v2/bob/app/blobs/uploads/?mount="+blob+"&from=secret/app", "")
		other := s.as(authorization, "POST", "/v2/bob/app/blobs/uploads/?mount="+blob+"&from=absent/app", "")
		if one.status != other.status || one.status/100 == 4 && plainly(one, "secret/app") != plainly(other, "absent/app") {
			t.Errorf("%s: mount:\nhidden: %s\nabsent: %s", name, plainly(one, "secret/app"), plainly(other, "absent/app"))
		}
	}
	s.intact("secret/app")
	for _, user := range []string{"", "bob", "none", "list", "delete"} {
		for _, path := range []string{"/v2/_catalog", "/v2/_catalog?n=1000&last=secre", "/v2/_regctl/deletions"} {
			if a := s.as(header(user), "GET", path, ""); strings.Contains(a.body, "secret") {
				t.Errorf("%s at %s: %s", user, path, a.body)
			}
		}
	}
}

// plainly is an answer without what differs by chance, and without the name of
// the repository.
func plainly(a answer, repo string) string {
	h := a.header.Clone()
	h.Del("Date")
	h.Del("X-Request-Id")
	return strings.ReplaceAll(fmt.Sprintln(a.status, h, a.body), repo, "REPO")
}

// Of what is deleted nobody learns who might not have done it.
func TestAdvisoryDeletionsOfOthers(t *testing.T) {
	t.Parallel()
	s := advise(t, "storage: {delete: {enabled: true}}"+advisedRules)
	for _, repo := range []string{"secret/app", "bob/app", "team/app"} {
		for _, tag := range []string{"latest", "v1"} {
			if a := s.as(header("alice"), "DELETE", "/v2/"+repo+"/manifests/"+tag, ""); a.status != 202 {
				t.Fatalf("%d %s", a.status, a.body)
			}
		}
	}
	for _, c := range []struct {
		who, authorization string
		status             int
		want               string
	}{
		{"alice", header("alice"), 200, "bob/app bob/app secret/app secret/app team/app team/app"},
		{"bob", header("bob"), 200, "bob/app bob/app"}, {"delete", header("delete"), 200, "bob/app bob/app"},
		{"bob with a token", s.token("bob", "registry:deletions:*"), 200, "bob/app bob/app"},
		{"bob with another token", s.token("bob", "repository:bob/app:*"), 401, ""},
		{"pull", header("pull"), 403, ""}, {"nobody", "", 401, ""},
	} {
		for _, n := range []string{"1", "2", "100"} {
			var repos []string
			for path := "/v2/_regctl/deletions?n=" + n; path != ""; {
				a := s.as(c.authorization, "GET", path, "")
				if a.status != c.status {
					t.Fatalf("%s: status %d, want %d: %s", c.who, a.status, c.status, a.body)
				}
				var page deletionsJSON
				if err := json.Unmarshal([]byte(a.body), &page); err != nil {
					t.Fatal(err)
				}
				for _, d := range page.Deletions {
					repos = append(repos, d.Repo)
				}
				path, _, _ = strings.Cut(strings.TrimPrefix(a.header.Get("Link"), "<"), ">")
			}
			if slices.Sort(repos); strings.Join(repos, " ") != c.want {
				t.Errorf("%s by %s: got %v, want %s", c.who, n, repos, c.want)
			}
		}
	}
}

// Who may delete, and not pull, reads no manifest by deleting it.
func TestAdvisoryDeletedManifests(t *testing.T) {
	t.Parallel()
	s := advise(t, "storage: {delete: {enabled: true}}"+advisedRules)
	for _, path := range []string{string(s.digest("signature@bob/app")), string(s.digest("image@bob/app"))} {
		if a := s.as(header("delete"), "DELETE", "/v2/bob/app/manifests/"+path, ""); a.status != 202 {
			t.Fatalf("%d %s", a.status, a.body)
		}
	}
	for who, want := range map[string]bool{"alice": true, "bob": true, "delete": false} {
		a := s.as(header(who), "GET", "/v2/_regctl/deletions?raw=1", "")
		if got := strings.Contains(a.body, `"raw":`); a.status != 200 || got != want || !strings.Contains(a.body, "bob/app") {
			t.Errorf("%s: status %d, manifests %t: %s", who, a.status, got, a.body)
		}
	}
}

// CVE-2026-32589: an upload belongs to who began it, where it was begun.
func TestAdvisoryUploadsOfOthers(t *testing.T) {
	t.Parallel()
	s := advise(t, advisedRules)
	robot, _ := s.robot("bob", "bob/app:push,pull")
	bob := header("bob")
	begun := s.as(bob, "POST", "/v2/bob/app/blobs/uploads/", "")
	at := begun.header.Get("Location")
	if begun.status != 202 || at == "" {
		t.Fatalf("%d %v", begun.status, begun.header)
	}
	if u, err := url.Parse(at); err == nil {
		at = u.Path
	}
	if a := s.as(bob, "PATCH", at, "some"); a.status != 202 {
		t.Fatalf("%d %s", a.status, a.body)
	}
	id := at[strings.LastIndexByte(at, '/')+1:]
	stored, _, _ := strings.Cut(id, ".")
	for name, c := range map[string]struct{ authorization, repo, id string }{
		"an administrator": {header("alice"), "bob/app", id}, "who may push there": {header("push"), "bob/app", id},
		"a robot of that name": {robot, "bob/app", id}, "elsewhere": {bob, "bob/other", id},
		"the id of the store": {bob, "bob/app", stored}, "another end": {bob, "bob/app", stored + ".AAAAAAAAAAAAAAAAAAAAAA"},
	} {
		for _, method := range []string{"GET", "HEAD", "PATCH", "PUT", "DELETE"} {
			body, path := "", "/v2/"+c.repo+"/blobs/uploads/"+c.id
			if method == "PATCH" || method == "PUT" {
				body = "evil"
			}
			if method == "PUT" {
				path += "?digest=" + string(digest.FromString("someevil"))
			}
			if a := s.as(c.authorization, method, path, body); a.status != 404 || method != "HEAD" && a.code() != oci.BlobUploadUnknown {
				t.Errorf("%s: %s: %d %s", name, method, a.status, a.body)
			}
		}
	}
	if a := s.as("", "GET", at, ""); a.status != 401 {
		t.Errorf("nobody: %d", a.status)
	}
	// It is bob's, by a token, too.
	token := s.token("bob", "repository:bob/app:pull,push")
	if a := s.as(token, "GET", at, ""); a.status != 204 || a.header.Get("Range") != "0-3" {
		t.Errorf("%d %v", a.status, a.header)
	}
	if a := s.as(token, "PUT", at+"?digest="+string(digest.FromString("some more")), " more"); a.status != 201 {
		t.Errorf("%d %s", a.status, a.body)
	}
}

// CVE-2025-24976: a key that comes with a token is no key of ours; neither is
// there an algorithm but ours.
func TestAdvisoryForgedTokens(t *testing.T) {
	t.Parallel()
	s := advise(t, advisedRules)
	good := strings.TrimPrefix(s.token("bob", "repository:bob/app:pull"), "Bearer ")
	parts := strings.Split(good, ".")
	var header, claims map[string]any
	for i, into := range []*map[string]any{&header, &claims} {
		raw, err := base64.RawURLEncoding.DecodeString(parts[i])
		if err != nil || json.Unmarshal(raw, into) != nil {
			t.Fatalf("%s: %v", raw, err)
		}
	}
	mine, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	coordinate := func(n *big.Int) string { return base64.RawURLEncoding.EncodeToString(n.FillBytes(make([]byte, 32))) }
	point, err := mine.PublicKey.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	jwk := map[string]any{"kty": "EC", "crv": "P-256", "x": coordinate(new(big.Int).SetBytes(point[1:33])), "y": coordinate(new(big.Int).SetBytes(point[33:])), "kid": header["kid"]}
	sign := func(signed string) []byte {
		sum := sha256.Sum256([]byte(signed))
		r, ss, err := ecdsa.Sign(rand.Reader, mine, sum[:])
		if err != nil {
			t.Fatal(err)
		}
		return append(r.FillBytes(make([]byte, 32)), ss.FillBytes(make([]byte, 32))...)
	}
	hashed := func(key string) func(string) []byte {
		return func(signed string) []byte {
			mac := hmac.New(sha256.New, []byte(key))
			mac.Write([]byte(signed))
			return mac.Sum(nil)
		}
	}
	ca, err := os.ReadFile(s.a.locked.Path("token-ca.crt"))
	if err != nil {
		t.Fatal(err)
	}
	none := func(string) []byte { return nil }
	with := func(changes map[string]any, but ...string) map[string]any {
		h := map[string]any{}
		for k, v := range header {
			h[k] = v
		}
		for k, v := range changes {
			h[k] = v
		}
		for _, k := range but {
			delete(h, k)
		}
		return h
	}
	kid := fmt.Sprint(header["kid"])
	forged := map[string]string{}
	for name, c := range map[string]struct {
		header map[string]any
		sign   func(string) []byte
	}{
		"another key": {with(nil), sign}, "a key with it": {with(map[string]any{"jwk": jwk}), sign}, "only a key with it": {with(map[string]any{"jwk": jwk}, "kid"), sign},
		"another kid": {with(map[string]any{"kid": "x"}), sign}, "a kid that is a path": {with(map[string]any{"kid": "../../../../dev/null"}), hashed("")},
		"a key elsewhere":    {with(map[string]any{"jku": s.url + "/keys", "x5u": s.url + "/cert"}), sign},
		"a certificate":      {with(map[string]any{"x5c": []string{"MIIB"}}), sign},
		"no algorithm":       {with(map[string]any{"alg": "none"}), none},
		"no algorithm, None": {with(map[string]any{"alg": "None"}), none}, "no algorithm at all": {with(nil, "alg"), none},
		"HS256 by the kid": {with(map[string]any{"alg": "HS256"}), hashed(kid)}, "HS256 by the certificate": {with(map[string]any{"alg": "HS256"}), hashed(string(ca))},
		"HS256 by nothing": {with(map[string]any{"alg": "HS256"}), hashed("")}, "ES384": {with(map[string]any{"alg": "ES384"}), sign},
		"crit": {with(map[string]any{"crit": []string{"x"}, "x": 1}), sign}, "b64": {with(map[string]any{"crit": []string{"b64"}, "b64": false}), sign},
	} {
		raw, err := json.Marshal(c.header)
		if err != nil {
			t.Fatal(err)
		}
		signed := base64.RawURLEncoding.EncodeToString(raw) + "." + parts[1]
		forged[name] = signed + "." + base64.RawURLEncoding.EncodeToString(c.sign(signed))
	}
	claims["sub"] = "alice"
	raw, err := json.Marshal(claims)
	if err != nil {
		t.Fatal(err)
	}
	forged["another name"] = parts[0] + "." + base64.RawURLEncoding.EncodeToString(raw) + "." + parts[2]
	forged["no signature"] = parts[0] + "." + parts[1] + "."
	forged["two parts"] = parts[0] + "." + parts[1]
	forged["twice"] = good + "." + good
	forged["with padding"] = good + "="
	forged["in JSON"] = `{"payload":"` + parts[1] + `","protected":"` + parts[0] + `","signature":"` + parts[2] + `"}`
	for name, raw := range forged {
		a := s.as("Bearer "+raw, "GET", "/v2/bob/app/manifests/latest", "")
		if got := a.header.Get("Www-Authenticate"); a.status != 401 || !strings.Contains(got, `error="invalid_token"`) {
			t.Errorf("%s: %d %s", name, a.status, got)
		}
	}
	if a := s.as("Bearer "+good, "GET", "/v2/bob/app/manifests/latest", ""); a.status != 200 {
		t.Errorf("the one that is good: %d %s", a.status, a.body)
	}
}

// CVE-2026-31801: who may add may not overwrite, by whatever name.
func TestAdvisoryOverwriteByWhoMayAdd(t *testing.T) {
	t.Parallel()
	s := advise(t, advisedRules)
	d := string(digest.FromString(noManifests))
	for _, authorization := range []string{header("fixed"), s.token("fixed", "repository:bob/app:pull,push"), s.token("fixed", "repository:bob/app:*")} {
		for _, c := range []struct {
			path string
			want int
		}{
			{"latest", 403}, {d + "?tag=latest", 403}, {d + "?tag=new&tag=latest", 403}, {"new?tag=v1", 403}, {d, 201},
			{"added", 201}, {"added", 201}, {d + "?tag=added&tag=more", 201},
		} {
			a := s.as(authorization, "PUT", "/v2/bob/app/manifests/"+c.path, noManifests, "Content-Type", oci.MediaTypeIndex)
			if a.status != c.want || strings.Contains(a.body, "rule") { // It may not pull: it is not told why.
				t.Errorf("%s: status %d, want %d: %s", c.path, a.status, c.want, a.body)
			}
		}
		for _, tag := range []string{"added", "more"} {
			if err := s.reg.DeleteTag(t.Context(), "bob/app", tag, ""); err != nil {
				t.Error(err)
			}
		}
		s.intact("bob/app")
	}
}

// A tag that must stay stays, by whatever name it would go.
func TestAdvisoryTagsThatStay(t *testing.T) {
	t.Parallel()
	const kept = "\naccess:\n  - {who: everyone, what: '**:v*', deny: [overwrite, delete], because: releases never change}\n  - {who: all, what: '**', may: all}\n"
	s := advise(t, "storage: {delete: {enabled: true}}"+kept)
	image, signature := string(s.digest("image@bob/app")), string(s.digest("signature@bob/app"))
	for _, authorization := range []string{header("bob"), s.token("bob", "repository:bob/app:*")} {
		for _, r := range []string{"DELETE manifests/v1", "DELETE manifests/" + image, "DELETE ", "PUT manifests/v1", "PUT manifests/latest?tag=v1"} {
			method, path, _ := strings.Cut(r, " ")
			path = strings.TrimSuffix("/v2/bob/app/"+path, "/")
			a := s.as(authorization, method, path, noManifests, "Content-Type", oci.MediaTypeIndex)
			if a.status != 403 || !strings.Contains(a.body, "releases never change") {
				t.Errorf("%s: %d %s", r, a.status, a.body)
			}
		}
		s.intact("bob/app")
	}
	for _, path := range []string{"latest", signature} {
		if a := s.as(header("bob"), "DELETE", "/v2/bob/app/manifests/"+path, ""); a.status != 202 {
			t.Errorf("%s: %d %s", path, a.status, a.body)
		}
	}
	if a := s.as(header("bob"), "GET", "/v2/bob/app/manifests/v1", ""); a.status != 200 {
		t.Errorf("%d %s", a.status, a.body)
	}
}

// A token for one thing is for no other: that DELETE needed no more than push
// was so in zot until June 2026.
func TestAdvisoryTokenForAnotherMethod(t *testing.T) {
	t.Parallel()
	s := advise(t, "storage: {delete: {enabled: true}}"+advisedRules)
	scopes := map[string]string{
		"pull": "repository:bob/app:pull", "push": "repository:bob/app:push", "delete": "repository:bob/app:delete", "list": "registry:catalog:*",
	}
	for _, has := range []string{"", "pull", "list", "push", "delete"} {
		token := s.token("alice", scopes[has])
		for _, r := range s.routesOf("bob/app", "bob/app") {
			a := s.as(token, r.method, r.path, r.body, r.headers...)
			switch {
			case r.kind == kindDeletions:
				r.needs = "deletions"
			case r.kind == kindUploadStatus && has == "pull": // It will do for who may push.
				r.needs = has
			}
			challenge := a.header.Get("Www-Authenticate")
			mount := has == "push" && strings.Contains(r.path, "from=open/app") // It lacks the source.
			switch {
			case (r.needs != has || mount) && (a.status != 401 || !strings.Contains(challenge, `error="insufficient_scope"`) || !strings.Contains(challenge, "scope=")):
				t.Errorf("%s: %s: %d %s", has, r, a.status, challenge)
			case r.needs == has && !mount && (a.status == 401 || a.status == 403):
				t.Errorf("%s: %s: %d %s %s", has, r, a.status, challenge, a.body)
			}
		}
		if has != "push" && has != "delete" {
			s.intact("bob/app")
		}
	}
}

// CVE-2025-23208: who has left a group, is no user any more, or a robot no
// more, is out, whatever token there still is.
func TestAdvisoryRightsThatEnd(t *testing.T) {
	t.Parallel()
	s := advise(t, advisedRules)
	robot, secret := s.robot("ci", "bob/app:pull")
	reply := s.as(robot, "GET", "/v2/_token?service="+s.addr+"&scope=repository:bob/app:pull", "")
	var got tokenJSON
	if err := json.Unmarshal([]byte(reply.body), &got); err != nil {
		t.Fatal(reply.body)
	}
	bob := s.token("bob", "repository:team/app:pull", "repository:bob/app:pull")
	check := func(what, authorization, repo string, want int) {
		t.Helper()
		if a := s.as(authorization, "GET", "/v2/"+repo+"/manifests/latest", ""); a.status != want {
			t.Errorf("%s: %s: status %d, want %d: %s", what, repo, a.status, want, a.body)
		}
	}
	check("in the group", bob, "team/app", 200)
	check("a robot", robot, "bob/app", 200)
	check("a robot's token", "Bearer "+got.Token, "bob/app", 200)

	if later := s.a.Reconfigure(configured(t, strings.Replace(s.yaml, "team: [bob]", "team: [list]", 1))); len(later) > 0 {
		t.Errorf("%v need a restart", later)
	}
	check("out of the group", bob, "team/app", 403)
	check("out of the group", header("bob"), "team/app", 403)
	check("still a user", bob, "bob/app", 200)
	s.a.Reconfigure(configured(t, strings.Replace(s.yaml, "who: user:bob", "who: user:list", 1)))
	check("without a rule", bob, "bob/app", 403)
	s.a.Reconfigure(configured(t, s.yaml))
	check("back again", bob, "team/app", 200)

	if _, err := s.a.robots.Revoke(t.Context(), RobotNames{Names: []string{"ci"}}); err != nil {
		t.Fatal(err)
	}
	check("revoked", robot, "bob/app", 401)
	check("revoked, with a token", "Bearer "+got.Token, "bob/app", 401)
	again, _ := s.robot("ci", "bob/app:pull")
	check("another of the same name", again, "bob/app", 200)
	check("the token of the one before", "Bearer "+got.Token, "bob/app", 401)
	check("the secret of the one before", login("ci", secret), "bob/app", 401)
}

// zot 8a99a3ed: no secret is in a log, or in an answer to somebody else.
func TestAdvisorySecretsInLogs(t *testing.T) {
	t.Parallel()
	s := advise(t, advisedRules)
	robot, secret := s.robot("ci", "bob/app:pull")
	bob := s.token("bob", "repository:bob/app:pull")
	form := url.Values{"grant_type": {"password"}, "service": {s.addr}, "username": {"bob"}, "password": {"posted-wrong"}, "scope": {"repository:bob/app:pull"}}
	secrets := []string{passwordOf("bob"), secret, strings.TrimPrefix(bob, "Bearer "), "basic-wrong", "posted-wrong", "Bearer-wrong", "queried-wrong"}
	for _, a := range []answer{
		s.as(header("bob"), "GET", "/v2/bob/app/manifests/latest", ""), s.as(header("bob"), "GET", "/v2/secret/app/manifests/latest", ""),
		s.as(robot, "GET", "/v2/bob/app/manifests/latest", ""), s.as(robot, "DELETE", "/v2/bob/app/manifests/latest", ""),
		s.as(bob, "GET", "/v2/bob/app/manifests/latest", ""), s.as(bob, "DELETE", "/v2/bob/app/manifests/latest", ""),
		s.as(login("bob", "basic-wrong"), "GET", "/v2/", ""), s.as("Bearer Bearer-wrong", "GET", "/v2/", ""), s.as("Bearer-wrong x", "GET", "/v2/", ""),
		s.as("", "POST", "/v2/_token", form.Encode(), "Content-Type", "application/x-www-form-urlencoded"),
		s.as("", "GET", "/v2/_token?password=queried-wrong&service="+s.addr, ""), s.as(login("bob", "basic-wrong"), "GET", "/v2/_token?service="+s.addr, ""),
	} {
		for _, secret := range secrets {
			if strings.Contains(fmt.Sprint(a.header, a.body), secret) {
				t.Errorf("an answer tells %s: %v %s", secret, a.header, a.body)
			}
		}
	}
	log := s.log.String()
	if !strings.Contains(log, `"user":"bob"`) || !strings.Contains(log, `"user":"robot:ci"`) {
		t.Errorf("the log tells not who it was:\n%s", log)
	}
	for _, secret := range secrets {
		for _, said := range []string{secret, login("bob", secret), login("ci", secret)} {
			said = strings.TrimPrefix(said, "Basic ")
			if strings.Contains(log, said) {
				t.Errorf("the log tells %s", secret)
			}
		}
	}
}

// Who is not trusted to hand on requests cannot say where they are from.
func TestAdvisoryForwardedAddresses(t *testing.T) {
	t.Parallel()
	rules := "\naccess:\n  - {who: everyone, what: '**', may: [pull], from: [203.0.113.0/24]}\n"
	for trusted, want := range map[string]int{"http: {trustedproxies: []}": 401, "http: {trustedproxies: [127.0.0.0/8]}": 200} {
		s := advise(t, trusted+rules)
		if a := s.as("", "GET", "/v2/bob/app/manifests/latest", ""); a.status != 401 {
			t.Errorf("%s: from here: %d", trusted, a.status)
		}
		if a := s.as("", "GET", "/v2/bob/app/manifests/latest", "", "X-Forwarded-For", "203.0.113.9"); a.status != want {
			t.Errorf("%s: status %d, want %d: %s", trusted, a.status, want, a.body)
		}
		if a := s.as("", "GET", "/v2/bob/app/manifests/latest", "", "X-Forwarded-For", "203.0.113.9, 198.51.100.1"); a.status != 401 {
			t.Errorf("%s: from further away: %d", trusted, a.status)
		}
	}
}

// CVE-2017-11468 and its like: what somebody may not push is not read.
func TestAdvisoryBodiesThatNobodyWants(t *testing.T) {
	t.Parallel()
	s := advise(t, advisedRules)
	for _, c := range []struct{ authorization, status string }{
		{"", "401"}, {header("pull"), "403"}, {s.token("alice", "repository:bob/app:pull"), "401"}, {header("bob"), "100"},
	} {
		conn, err := net.Dial("tcp", s.addr)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		fmt.Fprintf(conn, "PUT /v2/bob/app/manifests/new HTTP/1.1\r\nHost: %s\r\nContent-Length: %d\r\nContent-Type: %s\r\nExpect: 100-continue\r\n", s.addr, oci.MaxManifest, oci.MediaTypeIndex)
		if c.authorization != "" {
			fmt.Fprintf(conn, "Authorization: %s\r\n", c.authorization)
		}
		fmt.Fprint(conn, "\r\n")
		first, err := bufio.NewReader(conn).ReadString('\n')
		if err != nil || !strings.HasPrefix(first, "HTTP/1.1 "+c.status+" ") {
			t.Errorf("%.12q: got %q, %v, want %s", c.authorization, first, err, c.status)
		}
	}
}

// Only the names of methods that are known lead anywhere, in any spelling.
func TestAdvisoryMethodsInDisguise(t *testing.T) {
	t.Parallel()
	s := advise(t, "storage: {delete: {enabled: true}}"+advisedRules)
	for _, authorization := range []string{"", header("pull"), header("none")} {
		for _, method := range []string{"delete", "Delete", "DELETE ", "X-DELETE", "TRACE", "CONNECT", "PROPFIND", "get", "COPY", "MOVE"} {
			r, err := http.NewRequestWithContext(t.Context(), strings.TrimSpace(method), s.url+"/v2/bob/app/manifests/latest", nil)
			if err != nil {
				t.Fatal(err)
			}
			r.Header.Set("X-Http-Method-Override", "DELETE")
			if authorization != "" {
				r.Header.Set("Authorization", authorization)
			}
			res, err := client.RoundTrip(r)
			if err != nil {
				continue // It does not even speak.
			}
			res.Body.Close()
			if res.StatusCode < 400 {
				t.Errorf("%q by %q: %d", method, authorization, res.StatusCode)
			}
		}
		if a := s.as(authorization, "POST", "/v2/bob/app/manifests/latest", "", "X-Http-Method-Override", "DELETE"); a.status < 400 {
			t.Errorf("%d", a.status)
		}
		if a := s.as(authorization, "OPTIONS", "/v2/secret/app/manifests/latest", ""); a.status != 204 {
			t.Errorf("OPTIONS: %d", a.status)
		}
	}
	s.intact("bob/app")
}
