package serve

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/regctl/regctl/client/oci/ocitest"
	"github.com/regctl/regctl/serve/auth"
	"github.com/regctl/regctl/serve/auth/rule"
	"github.com/regctl/regctl/serve/auth/token"
	"github.com/regctl/regctl/serve/config"
)

// people are logins that change. Who has no password cannot log in.
type people struct {
	mu    sync.Mutex
	known map[string]person
	asked int // How often a password was checked.
	err   error
}

type person struct {
	password string
	who      auth.Identity
}

func newPeople() *people {
	p := &people{known: map[string]person{}}
	for _, name := range []string{"alice", "bob"} {
		p.known[name] = person{name + "'s", auth.Identity{Kind: rule.User, Name: name, Source: "ldap"}}
	}
	limit, err := rule.Compile([]rule.Rule{{Who: []string{"everyone"}, What: []string{"app"}, May: []string{"pull"}}})
	if err != nil {
		return nil
	}
	p.known["ci"] = person{"regctl_x", auth.Identity{Kind: rule.Robot, Name: "ci", Source: auth.SourceRobots, ID: "1", Limit: limit}}
	return p
}

func (p *people) Login(_ context.Context, name, password, _ string) (auth.Identity, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.asked++
	if p.err != nil {
		return auth.Identity{}, p.err
	}
	if one, ok := p.known[name]; ok && one.password == password {
		return one.who, nil
	}
	return auth.Identity{}, auth.ErrDenied
}

func (p *people) Lookup(_ context.Context, source, name, id string) (auth.Identity, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.err != nil {
		return auth.Identity{}, p.err
	}
	if one, ok := p.known[name]; ok && one.who.Source == source && one.who.ID == id {
		return one.who, nil
	}
	return auth.Identity{}, auth.ErrUnknown
}

func (p *people) change(f func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	f()
}

// asking is a server that asks who somebody is.
type asking struct {
	*server
	people *people
	ad     *admission
	clock  *lateClock
}

// lateClock is a clock that goes when it is told to.
type lateClock struct {
	mu  sync.Mutex
	now time.Time
}

func (c *lateClock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *lateClock) pass(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

func newAsking(tb testing.TB, c *config.Config, o Options) *asking {
	tb.Helper()
	clock := &lateClock{now: time.Date(2026, 11, 21, 20, 0, 0, 0, time.UTC)}
	keys, err := token.OpenKeys("", token.Options{Now: clock.Now})
	if err != nil {
		tb.Fatal(err)
	}
	p := newPeople()
	ad := &admission{
		logins: p, groups: auth.NewGroups(nil), rules: auth.NewRules(nil), open: func() (*token.Keys, error) { return keys, nil }, uploads: make([]byte, uploadKeyLength),
		log: slog.New(slog.DiscardHandler), now: clock.Now,
	}
	if err := ad.take(c); err != nil {
		tb.Fatal(err)
	}
	reg := ocitest.NewRegistry()
	ocitest.Push(tb, reg, testContent)
	o.Auth, o.tokens = ad, ad
	s := newServer(tb, ad.guard(reg, nil), o)
	return &asking{s, p, ad, clock}
}

// public is what most people want.
func public() *config.Config {
	return &config.Config{Access: config.Access{On: true, Preset: "public-pull"}}
}

// rules are a list of them: "who what may", or "who what -deny".
func rules(list ...string) *config.Config {
	c := &config.Config{Access: config.Access{On: true}}
	for _, text := range list {
		f := strings.Fields(text)
		r := rule.Rule{Who: f[:1], What: f[1:2]}
		if deny, ok := strings.CutPrefix(f[2], "-"); ok {
			r.Deny = strings.Split(deny, ",")
		} else {
			r.May = strings.Split(f[2], ",")
		}
		c.Access.Rules = append(c.Access.Rules, r)
	}
	return c
}

// tokenFor gets a token as docker does. Who is "name:password", or empty.
func (s *asking) tokenFor(who string, scopes ...string) string {
	s.t.Helper()
	a := s.do("GET", "/v2/_token?"+url.Values{"service": {s.addr}, "scope": scopes}.Encode(), "", sayPassword(who)...)
	if a.status != 200 {
		s.t.Fatalf("a token for %s: %d %s", who, a.status, a.body)
	}
	var reply tokenJSON
	if err := json.Unmarshal([]byte(a.body), &reply); err != nil {
		s.t.Fatal(err)
	}
	return reply.Token
}

func sayPassword(who string) []string {
	if who == "" {
		return nil
	}
	return []string{"Authorization", "Basic " + base64.StdEncoding.EncodeToString([]byte(who))}
}

func sayToken(token string) []string { return []string{"Authorization", "Bearer " + token} }

// scopeIn is what a token says that it is for.
func scopeIn(tb testing.TB, raw string) string {
	tb.Helper()
	text, err := base64.RawURLEncoding.DecodeString(strings.Split(raw, ".")[1])
	if err != nil {
		tb.Fatal(err)
	}
	var claims struct{ Access []auth.Access }
	if err := json.Unmarshal(text, &claims); err != nil {
		tb.Fatal(err)
	}
	return scopeOf(claims.Access)
}

// TestTokenReplies: the protocol to the letter.
func TestTokenReplies(t *testing.T) {
	t.Parallel()
	s := newAsking(t, public(), Options{})
	s.want("HEAD", s.do("HEAD", "/v2/_token", ""), 405, "Allow", "GET, POST, OPTIONS")
	for _, c := range []struct {
		request string
		form    string
		who     string
		status  int
		scope   string
		body    string
	}{
		{"GET ?service=HOST&scope=repository:app:pull,push", "", "", 200, "repository:app:pull", ""},
		{"GET ?service=HOST&scope=repository:app:pull,push", "", "alice:alice's", 200, "repository:app:pull,push", ""},
		{"GET ?service=HOST&scope=repository:app:pull,push", "", "ci:regctl_x", 200, "repository:app:pull", ""}, // The rules allow more than its scope.
		{"GET ?service=HOST&scope=repository:app:pull&scope=repository:b:push+registry:catalog:*", "", "alice:alice's", 200, "repository:app:pull repository:b:push registry:catalog:*", ""},
		{"GET ?service=HOST&scope=repository:app:pull&account=bob&client_id=docker&offline_token=true", "", "alice:alice's", 200, "repository:app:pull", ""},
		{"GET ", "", "", 200, "", ""},
		{"GET ?service=HOST", "", ":", 200, "", ""},
		{"GET ?service=HOST", "", "alice:bob's", 401, "", "the user or the password is wrong"},
		{"GET ?service=HOST", "", "nobody:x", 401, "", "the user or the password is wrong"},
		{"GET ?service=HOST", "", ":x", 401, "", ""},
		{"GET ?service=elsewhere", "", "", 400, "", "HOST"},
		{"GET ?service=HOST&scope=app:pull", "", "", 400, "", `\"app:pull\" is no scope`},
		{"GET ?service=HOST&scope=%zz", "", "", 400, "", "query"},
		{"POST ", "grant_type=password&username=alice&password=alice%27s&service=HOST&scope=repository:app:push&client_id=x&access_type=offline", "", 200, "repository:app:push", `"scope":"repository:app:push"`},
		{"POST ", "grant_type=password&username=alice&password=wrong&service=HOST", "", 401, "", "the user or the password is wrong"},
		{"POST ", "grant_type=password&service=HOST", "", 400, "", "invalid_request"},
		{"POST ", "service=HOST&scope=repository:app:pull,push", "", 200, "repository:app:pull", ""},
		{"POST ", "service=HOST&scope=repository:app:pull&scope=repository:b:pull", "", 200, "repository:app:pull repository:b:pull", ""},
		{"POST ", "service=HOST&scope=repository:app:pull,push", "alice:alice's", 200, "repository:app:pull,push", ""},
		{"POST ", "service=HOST&username=alice&password=alice%27s&scope=repository:app:push", "", 200, "repository:app:push", ""},
		{"POST ", "grant_type=refresh_token&refresh_token=x&service=HOST", "", 400, "", `"error":"unsupported_grant_type"`},
		{"POST ", "grant_type=magic&service=HOST", "", 400, "", "unsupported_grant_type"},
		{"POST ", "grant_type=password&username=a:b&password=x&service=HOST", "", 401, "", ""},
		{"POST ", "service=%zz", "", 400, "", "form"},
		{"POST ", "scope=" + strings.Repeat("x", longestForm), "", 400, "", "too long"},
	} {
		method, query, _ := strings.Cut(strings.ReplaceAll(c.request, "HOST", s.addr), " ")
		headers := sayPassword(c.who)
		if method == "POST" {
			headers = append(headers, "Content-Type", "application/x-www-form-urlencoded; charset=utf-8")
		}
		a := s.do(method, "/v2/_token"+query, strings.ReplaceAll(c.form, "HOST", s.addr), headers...)
		what := c.request + " " + c.form[:min(len(c.form), 100)] + " " + c.who
		s.want(what, a, c.status, "Cache-Control", "no-store")
		if !strings.Contains(a.body, strings.ReplaceAll(c.body, "HOST", s.addr)) {
			t.Errorf("%s: %s, want %s", what, a.body, c.body)
		}
		if c.status == 401 {
			s.want(what, a, 401, "WWW-Authenticate", `Basic realm="regctl"`)
		}
		if c.status != 200 {
			continue
		}
		var reply map[string]any
		if err := json.Unmarshal([]byte(a.body), &reply); err != nil {
			t.Fatal(err)
		}
		if reply["token"] != reply["access_token"] || reply["expires_in"] != 300.0 || reply["issued_at"] != "2026-11-21T20:00:00Z" || reply["refresh_token"] != nil {
			t.Errorf("%s: %v", what, reply)
		}
		if got := scopeIn(t, reply["token"].(string)); got != c.scope {
			t.Errorf("%s: the token is for %q, want %q", what, got, c.scope)
		}
	}
	s.want("no form", s.do("POST", "/v2/_token", "{}", "Content-Type", "application/json"), 400)
	s.want("a token for a token", s.do("GET", "/v2/_token", "", sayToken(s.tokenFor("alice:alice's"))...), 401)
}

// TestNobodyGivesTokens where they are not asked for.
func TestNobodyGivesTokens(t *testing.T) {
	t.Parallel()
	open := newServer(t, nil, Options{})
	open.want("open", open.do("GET", "/v2/_token", ""), 404)
	basic := newAsking(t, &config.Config{Auth: config.Auth{Htpasswd: &config.Htpasswd{Realm: "r"}}}, Options{})
	basic.want("basic", basic.do("GET", "/v2/_token", ""), 404)
	basic.want("basic", basic.do("GET", "/v2/", "", sayToken("x")...), 401, "WWW-Authenticate", `Basic realm="r"`)
	if basic.people.asked != 0 {
		t.Error("somebody was asked")
	}
}

// TestPublicPull is the wish behind it all: everyone may pull, who logs in may
// push.
func TestPublicPull(t *testing.T) {
	t.Parallel()
	s := newAsking(t, public(), Options{})
	realm := `Bearer realm="` + s.url + `/v2/_token",service="` + s.addr + `"`
	nobody := s.tokenFor("", "repository:app:pull,push")
	alice := s.tokenFor("alice:alice's", "repository:app:pull,push", "registry:catalog:*")
	pull := s.tokenFor("alice:alice's", "repository:app:pull")
	basic, wrong := sayPassword("alice:alice's"), sayPassword("alice:x")
	push := `,scope="repository:app:pull,push"`
	for _, c := range []struct {
		what, request string
		as            []string
		status        int
		challenge     string
	}{
		{"no login", "GET /v2/", nil, 401, realm},
		{"podman without a login", "GET /v2/", sayPassword(":"), 401, realm},
		{"a token of nobody", "GET /v2/", sayToken(nobody), 200, "-"},
		{"a token", "GET /v2/", sayToken(alice), 200, "-"},
		{"a password", "GET /v2/", basic, 200, "-"},
		{"a wrong password", "GET /v2/", wrong, 401, realm},
		{"no token", "GET /v2/", sayToken("x"), 401, realm + `,error="invalid_token"`},
		{"no login", "GET /v2/app/manifests/v1", nil, 200, "-"},
		{"a token of nobody", "GET /v2/app/manifests/v1", sayToken(nobody), 200, "-"},
		{"a wrong password", "GET /v2/app/manifests/v1", wrong, 401, realm + `,scope="repository:app:pull"`},
		{"no login", "GET /v2/app/tags/list", nil, 200, "-"},
		{"no login", "POST /v2/app/blobs/uploads/", nil, 401, realm + push},
		{"a token of nobody", "POST /v2/app/blobs/uploads/", sayToken(nobody), 401, realm + push + `,error="insufficient_scope"`},
		{"a narrow token", "POST /v2/app/blobs/uploads/", sayToken(pull), 401, realm + push + `,error="insufficient_scope"`},
		{"a token", "POST /v2/app/blobs/uploads/", sayToken(alice), 202, "-"},
		{"a password", "POST /v2/app/blobs/uploads/", basic, 202, "-"},
		{"a wrong password", "POST /v2/app/blobs/uploads/", wrong, 401, realm + push},
		{"no login", "DELETE /v2/app/manifests/nothing", nil, 401, realm + `,scope="repository:app:delete"`},
		{"a narrow token", "DELETE /v2/app/manifests/nothing", sayToken(alice), 401, realm + `,scope="repository:app:delete",error="insufficient_scope"`},
		{"a password", "DELETE /v2/app/manifests/nothing", basic, 404, "-"},
		{"no login", "GET /v2/_catalog", nil, 401, realm + `,scope="registry:catalog:*"`},
		{"a narrow token", "GET /v2/_catalog", sayToken(pull), 401, realm + `,scope="registry:catalog:*",error="insufficient_scope"`},
		{"a token", "GET /v2/_catalog", sayToken(alice), 200, "-"},
		{"a robot's password", "GET /v2/", sayPassword("ci:regctl_x"), 200, "-"},
		{"a robot", "POST /v2/app/blobs/uploads/", sayPassword("ci:regctl_x"), 403, "-"},
		{"a robot", "GET /v2/app/manifests/v1", sayPassword("ci:regctl_x"), 200, "-"},
		{"no login", "OPTIONS /v2/app/manifests/v1", nil, 204, "-"},
		{"another scheme", "GET /v2/app/manifests/v1", []string{"Authorization", "Digest x"}, 401, realm + `,scope="repository:app:pull"`},
	} {
		method, path, _ := strings.Cut(c.request, " ")
		a := s.do(method, path, "", c.as...)
		if strings.Contains(c.challenge, ",error=") != (a.header.Get("WWW-Authenticate") != withoutText(a)) {
			t.Errorf("%s: %s: what is wrong is said in %q", c.what, c.request, a.header.Get("WWW-Authenticate"))
		}
		a.header.Set("WWW-Authenticate", withoutText(a))
		s.want(c.what+": "+c.request, a, c.status, "WWW-Authenticate", c.challenge)
		if a.status == 401 && len(c.as) == 0 && path != "/v2/" && !strings.Contains(a.body, "docker login "+s.addr) {
			t.Errorf("%s: %s does not say how to log in", c.request, a.body)
		}
	}
}

// withoutText is a challenge without what is for people in it.
func withoutText(a answer) string {
	challenge, _, _ := strings.Cut(a.header.Get("WWW-Authenticate"), ",error_description=")
	return challenge
}

// TestTokenEnds: by itself, with whom it was given to, and where it was not
// meant for.
func TestTokenEnds(t *testing.T) {
	t.Parallel()
	s := newAsking(t, public(), Options{})
	alice := s.tokenFor("alice:alice's", "repository:app:pull,push")
	robot := s.tokenFor("ci:regctl_x", "repository:app:pull")
	get := func(token string) answer { return s.do("GET", "/v2/app/manifests/v1", "", sayToken(token)...) }
	gone := `error="invalid_token"`
	s.want("good", get(alice), 200)
	s.want("at another name", s.do("GET", "/v2/app/manifests/v1", "", append(sayToken(alice), "Host", "other.example.com")...), 401)
	s.people.change(func() { s.people.err = fmt.Errorf("look up: %w", auth.ErrUnavailable) })
	s.want("while the directory is down", get(alice), 503, "Retry-After", "1")
	s.want("while the directory is down", s.do("GET", "/v2/_token", "", sayPassword("alice:alice's")...), 503)
	s.people.change(func() { s.people.err = nil })
	s.want("again", get(alice), 200)
	s.want("a robot", get(robot), 200)
	s.people.change(func() {
		delete(s.people.known, "alice")
		other := s.people.known["ci"]
		other.who.ID = "2"
		s.people.known["ci"] = other
	})
	for what, token := range map[string]string{"who is gone": alice, "a robot of the same name": robot} {
		if a := get(token); a.status != 401 || !strings.Contains(a.header.Get("WWW-Authenticate"), gone) {
			t.Errorf("%s: %d %s", what, a.status, a.header.Get("WWW-Authenticate"))
		}
	}
	bob := s.tokenFor("bob:bob's", "repository:app:pull")
	s.want("good", get(bob), 200)
	s.clock.pass(6*time.Minute + time.Second)
	if a := get(bob); a.status != 401 || !strings.Contains(a.header.Get("WWW-Authenticate"), gone) || !strings.Contains(a.body, "expired") {
		t.Errorf("after its time: %d %s %s", a.status, a.header.Get("WWW-Authenticate"), a.body)
	}
}

// TestGroupsAreOfNow: who leaves a group loses what it may at the next request.
func TestGroupsAreOfNow(t *testing.T) {
	t.Parallel()
	s := newAsking(t, rules("group:dev app pull,push"), Options{})
	join := func(groups ...string) {
		s.people.change(func() {
			alice := s.people.known["alice"]
			alice.who.Groups = groups
			s.people.known["alice"] = alice
		})
	}
	join("dev")
	token := s.tokenFor("alice:alice's", "repository:app:pull,push")
	s.want("in the group", s.do("POST", "/v2/app/blobs/uploads/", "", sayToken(token)...), 202)
	join("ops")
	a := s.do("POST", "/v2/app/blobs/uploads/", "", sayToken(token)...)
	s.want("not any more", a, 403, "WWW-Authenticate", "-")
	// A denial with a detail is final for docker, and said in its own words.
	if !strings.Contains(a.body, `{"code":"DENIED","message":"requested access to the resource is denied","detail":[{"Type":"repository",`) {
		t.Error(a.body)
	}
}

// TestRulesAreOfNow: a token is for no more than the rules allow now.
func TestRulesAreOfNow(t *testing.T) {
	t.Parallel()
	s := newAsking(t, public(), Options{})
	token := s.tokenFor("alice:alice's", "repository:app:pull,push")
	nobody := s.tokenFor("", "repository:app:pull")
	if err := s.ad.take(rules("user:bob app all", "alice app pull")); err == nil {
		t.Error("a rule that makes no sense is taken")
	}
	s.want("as before", s.do("POST", "/v2/app/blobs/uploads/", "", sayToken(token)...), 202)
	if err := s.ad.take(rules("user:bob app all", "user:alice app pull")); err != nil {
		t.Fatal(err)
	}
	s.want("pull", s.do("GET", "/v2/app/manifests/v1", "", sayToken(token)...), 200)
	a := s.do("POST", "/v2/app/blobs/uploads/", "", sayToken(token)...)
	s.want("push", a, 403)
	s.want("nobody", s.do("GET", "/v2/app/manifests/v1", "", sayToken(nobody)...), 401)
	s.want("nobody", s.do("GET", "/v2/app/manifests/v1", ""), 401)
}

// TestKeysChangeUnderLoad: the key that signs is followed by another one, and
// nobody notices.
func TestKeysChangeUnderLoad(t *testing.T) {
	t.Parallel()
	s := newAsking(t, public(), Options{})
	const clients, months, month = 4, 3, 30 * 24 * time.Hour
	var mu sync.Mutex
	keys := map[string]bool{} // By the header of a token.
	for range months {
		s.clock.pass(month - 5*time.Second)
		var all sync.WaitGroup
		for range clients {
			all.Go(func() {
				for range 10 {
					token := s.tokenFor("alice:alice's", "repository:app:pull")
					header, _, _ := strings.Cut(token, ".")
					mu.Lock()
					keys[header] = true
					mu.Unlock()
					s.clock.pass(time.Second)
					s.want("a token that was just given", s.do("GET", "/v2/app/manifests/v1", "", sayToken(token)...), 200)
				}
			})
		}
		all.Wait()
	}
	if len(keys) != months+1 {
		t.Errorf("%d keys have signed in %d months", len(keys), months)
	}
}

// TestMountScopes: a client learns at once all that it needs.
func TestMountScopes(t *testing.T) {
	t.Parallel()
	s := newAsking(t, rules("user:alice ** all", "user:bob app all"), Options{})
	mount := "/v2/app/blobs/uploads/?mount=sha256:" + strings.Repeat("0", 64) + "&from=other"
	both := `,scope="repository:app:pull,push repository:other:pull"`
	a := s.do("POST", mount, "")
	if !strings.Contains(a.header.Get("WWW-Authenticate"), both) {
		t.Errorf("nobody: %s", a.header.Get("WWW-Authenticate"))
	}
	a = s.do("POST", mount, "", sayToken(s.tokenFor("alice:alice's", "repository:app:pull,push"))...)
	if a.status != 401 || !strings.Contains(a.header.Get("WWW-Authenticate"), both+`,error="insufficient_scope"`) {
		t.Errorf("a narrow token: %d %s", a.status, a.header.Get("WWW-Authenticate"))
	}
	for _, as := range [][]string{sayToken(s.tokenFor("bob:bob's", "repository:app:pull,push")), sayPassword("bob:bob's")} {
		s.want("who may not know of it", s.do("POST", mount, "", as...), 202)
	}
}

// TestRealm is where clients see the registry.
func TestRealm(t *testing.T) {
	t.Parallel()
	spaced := public()
	spaced.Tokens = config.TokenService{Service: `Team "A" Registry`, Issuer: "Acme Auth", Services: []string{"Old One"}}
	for name, c := range map[string]struct {
		config  *config.Config
		options Options
		headers []string
		want    string
	}{
		"the host asked for": {public(), Options{}, []string{"Host", "reg.example.com:5000"}, `realm="http://reg.example.com:5000/v2/_token",service="reg.example.com:5000"`},
		"behind a proxy": {
			public(), Options{TrustedProxies: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}}, []string{"Host", "reg.example.com", "X-Forwarded-Proto", "https"},
			`realm="https://reg.example.com/v2/_token",service="reg.example.com"`,
		},
		"a proxy that is not trusted": {public(), Options{}, []string{"Host", "reg.example.com", "X-Forwarded-Proto", "https"}, `realm="http://reg.example.com/v2/_token",service="reg.example.com"`},
		"said":                        {public(), Options{Host: "https://said.example.com"}, nil, `realm="https://said.example.com/v2/_token",service="said.example.com"`},
		"with a path":                 {public(), Options{Host: "https://said.example.com/reg/"}, nil, `realm="https://said.example.com/reg/v2/_token",service="said.example.com"`},
		"below a prefix":              {public(), Options{Prefix: "/reg/"}, []string{"Host", "a.b"}, `realm="http://a.b/reg/v2/_token",service="a.b"`},
		"names with spaces":           {spaced, Options{}, []string{"Host", "a.b"}, `realm="http://a.b/v2/_token",service="Team \"A\" Registry"`},
	} {
		s := newAsking(t, c.config, c.options)
		at := "/" + strings.TrimPrefix(c.options.Prefix, "/")
		a := s.do("GET", at+"v2/", "", c.headers...)
		if got := a.header.Values("WWW-Authenticate"); !slices.Equal(got, []string{"Bearer " + c.want}) {
			t.Errorf("%s: %q\nwant %q", name, got, c.want)
		}
		service, err := unquote(c.want[strings.Index(c.want, "service=")+len("service="):])
		if err != nil {
			t.Fatal(err)
		}
		a = s.do("GET", at+"v2/_token?scope=repository:app:pull&service="+url.QueryEscape(service), "", c.headers...)
		var reply tokenJSON
		if err := json.Unmarshal([]byte(a.body), &reply); err != nil || a.status != 200 {
			t.Errorf("%s: %d %s", name, a.status, a.body)
		}
		s.want(name, s.do("GET", at+"v2/app/manifests/v1", "", append(sayToken(reply.Token), c.headers...)...), 200)
	}
	s := newAsking(t, spaced, Options{})
	a := s.do("GET", "/v2/_token?service=Old+One&scope=repository:app:pull", "")
	var reply tokenJSON
	if err := json.Unmarshal([]byte(a.body), &reply); err != nil {
		t.Fatal(err)
	}
	s.want("a token for elsewhere", s.do("GET", "/v2/", "", sayToken(reply.Token)...), 401)
	a = s.do("GET", "/v2/_token?service=x", "")
	if a.status != 400 || !strings.Contains(a.body, "Old One") || !strings.Contains(a.body, `Team \\\"A\\\" Registry`) && !strings.Contains(a.body, `Team \"A\" Registry`) {
		t.Errorf("%d %s", a.status, a.body)
	}
}

func unquote(s string) (string, error) {
	var out string
	err := json.Unmarshal([]byte(s), &out)
	return out, err
}

// TestGuessing: who asks too often is told when to come again, at each door.
func TestGuessing(t *testing.T) {
	t.Parallel()
	s := newAsking(t, public(), Options{})
	s.people.change(func() { s.people.err = &auth.ThrottledError{After: 90 * time.Second} })
	s.want("token", s.do("GET", "/v2/_token", "", sayPassword("alice:x")...), 429, "Retry-After", "90")
	s.want("basic", s.do("GET", "/v2/app/manifests/v1", "", sayPassword("alice:x")...), 429, "Retry-After", "90")
	s.want("form", s.do("POST", "/v2/_token", "username=alice&password=x", "Content-Type", "application/x-www-form-urlencoded"), 429, "Retry-After", "90")
	s.want("nobody", s.do("GET", "/v2/app/manifests/v1", ""), 200)
	s.people.change(func() { s.people.err = auth.ErrBusy })
	s.want("busy", s.do("GET", "/v2/_token", "", sayPassword("alice:x")...), 429, "Retry-After", "1")
}

// TestTwoLogins in one request are none.
func TestTwoLogins(t *testing.T) {
	t.Parallel()
	s := newAsking(t, public(), Options{})
	r, err := http.NewRequestWithContext(t.Context(), "GET", s.url+"/v2/app/manifests/v1", nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Header["Authorization"] = []string{sayPassword("alice:alice's")[1], sayPassword("bob:bob's")[1]}
	res, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	res.Body.Close()
	if res.StatusCode != 401 {
		t.Errorf("status %d", res.StatusCode)
	}
}

// elsewhere checks the tokens of somebody else.
type elsewhere map[string]token.Claims

func (e elsewhere) Verify(raw string) (token.Claims, error) {
	c, ok := e[raw]
	if !ok {
		return c, token.ErrInvalid
	}
	return c, nil
}

// TestElsewhere: the tokens of another token server decide, and the rules if
// there are any; passwords that are known here are good beside them.
func TestElsewhere(t *testing.T) {
	t.Parallel()
	for _, ruled := range []bool{false, true} {
		c := &config.Config{Auth: config.Auth{Token: &config.TokenAuth{Realm: "https://auth.example.com:5001/auth", Service: "Docker registry", Issuer: "Acme auth server"}}}
		if ruled {
			c.Access = rules("user:alice app pull", "user:bob ** all").Access
		}
		s := newAsking(t, c, Options{})
		pushing := []auth.Access{{Type: "repository", Name: "app", Actions: []string{"pull", "push"}}}
		s.ad.trust = elsewhere{"alice": {Subject: "alice", Access: pushing}, "nobody": {Access: pushing[:1]}}
		s.want("nothing", s.do("GET", "/v2/", ""), 401, "WWW-Authenticate", `Bearer realm="https://auth.example.com:5001/auth",service="Docker registry"`)
		s.want("pull", s.do("GET", "/v2/app/manifests/v1", ""), 401, "WWW-Authenticate", `Bearer realm="https://auth.example.com:5001/auth",service="Docker registry",scope="repository:app:pull"`)
		s.want("bad", s.do("GET", "/v2/", "", sayToken("x")...), 401, "WWW-Authenticate", `Bearer realm="https://auth.example.com:5001/auth",service="Docker registry",error="invalid_token",error_description="the token is not valid"`)
		s.want("ping", s.do("GET", "/v2/", "", sayToken("nobody")...), 200)
		s.want("pull", s.do("GET", "/v2/app/manifests/v1", "", sayToken("alice")...), 200)
		push := s.do("POST", "/v2/app/blobs/uploads/", "", sayToken("alice")...)
		if want := map[bool]int{false: 202, true: 403}[ruled]; push.status != want {
			t.Errorf("ruled %v: push is %d, want %d", ruled, push.status, want)
		}
		s.want("narrow", s.do("GET", "/v2/other/manifests/v1", "", sayToken("alice")...), map[bool]int{false: 401, true: 403}[ruled])
		s.want("a password", s.do("POST", "/v2/app/blobs/uploads/", "", sayPassword("bob:bob's")...), 202)
		s.want("no tokens of ours", s.do("GET", "/v2/_token", ""), 404)
	}
}

// TestRedirectedRealm is distribution's autoredirect.
func TestRedirectedRealm(t *testing.T) {
	t.Parallel()
	c := &config.Config{Auth: config.Auth{Token: &config.TokenAuth{Realm: "x", Service: "s", AutoRedirect: true, AutoRedirectPath: "/auth/token"}}}
	s := newAsking(t, c, Options{})
	s.want("nothing", s.do("GET", "/v2/", "", "Host", "a.b:1"), 401, "WWW-Authenticate", `Bearer realm="http://a.b:1/auth/token",service="s"`)
}

// benchmarkAuthorized gets a manifest, by another login each time round.
func benchmarkAuthorized(b *testing.B, get func(b *testing.B, h http.Handler, authorization string)) {
	reg := ocitest.NewRegistry()
	ocitest.Push(b, reg, testContent)
	b.Run("open", func(b *testing.B) { get(b, NewHandler(reg, Options{}), "") })
	s := newAsking(b, public(), Options{Host: "http://x"})
	h := NewHandler(s.reg, Options{Auth: s.ad, tokens: s.ad, Host: "http://x"})
	token := func(who string) string {
		a := s.do("GET", "/v2/_token?scope=repository:app:pull", "", sayPassword(who)...)
		var reply tokenJSON
		if err := json.Unmarshal([]byte(a.body), &reply); err != nil {
			b.Fatal(err)
		}
		return "Bearer " + reply.Token
	}
	alice, nobody := token("alice:alice's"), token("")
	b.Run("anonymous", func(b *testing.B) { get(b, h, "") })
	b.Run("anonymous token", func(b *testing.B) { get(b, h, nobody) })
	b.Run("token", func(b *testing.B) { get(b, h, alice) })
	b.Run("basic", func(b *testing.B) { get(b, h, sayPassword("alice:alice's")[1]) })
}

// BenchmarkManifestGet: what it costs that somebody is asked who they are, as
// part of all that a request costs.
func BenchmarkManifestGet(b *testing.B) {
	benchmarkAuthorized(b, func(b *testing.B, h http.Handler, authorization string) {
		addr := runServer(b, &Server{Handler: h})
		benchmarkGet(b, addr, "/v2/app/manifests/v1", "Authorization: "+authorization)
	})
}

// BenchmarkAdmission: what it costs without the network.
func BenchmarkAdmission(b *testing.B) {
	benchmarkAuthorized(b, func(b *testing.B, h http.Handler, authorization string) {
		r := httptest.NewRequest("GET", "/v2/app/manifests/v1", nil)
		if authorization != "" {
			r.Header.Set("Authorization", authorization)
		}
		b.ReportAllocs()
		for b.Loop() {
			w := &nowhere{header: http.Header{}}
			if h.ServeHTTP(w, r); w.status != 200 {
				b.Fatal(w.status)
			}
		}
	})
}

// nowhere is where an answer goes that nobody reads.
type nowhere struct {
	header http.Header
	status int
}

func (n *nowhere) Header() http.Header         { return n.header }
func (n *nowhere) WriteHeader(status int)      { n.status = status }
func (n *nowhere) Write(p []byte) (int, error) { return len(p), nil }
