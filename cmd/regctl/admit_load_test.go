package main_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/crypto/bcrypt"

	"github.com/regctl/regctl/serve/auth/token"
)

// bearer gets tokens as clients do: it asks without one, or with the one that
// it has for this place, and on a challenge gets one and asks again, once.
type bearer struct {
	login string // USER:PASSWORD; empty: anonymous.

	mu     sync.Mutex
	tokens map[string]string // By method and repository.
	got    atomic.Int64
}

// RoundTrip implements [http.RoundTripper].
func (b *bearer) RoundTrip(r *http.Request) (*http.Response, error) {
	key := r.Method + " " + strings.Join(strings.SplitN(r.URL.Path, "/", 5)[:min(4, strings.Count(r.URL.Path, "/")+1)], "/")
	b.mu.Lock()
	token := b.tokens[key]
	b.mu.Unlock()
	resp, err := b.once(r, token)
	if err != nil || resp.StatusCode != http.StatusUnauthorized {
		return resp, err
	}
	_, _ = io.Copy(io.Discard, resp.Body)
	resp.Body.Close()
	params := map[string]string{}
	for _, m := range challengeParam.FindAllStringSubmatch(resp.Header.Get("Www-Authenticate"), -1) {
		params[m[1]] = m[2]
	}
	if token, err = b.token(params); err != nil {
		return nil, err
	}
	b.mu.Lock()
	if b.tokens == nil {
		b.tokens = map[string]string{}
	}
	b.tokens[key] = token
	b.mu.Unlock()
	return b.once(r, token)
}

func (b *bearer) once(r *http.Request, token string) (*http.Response, error) {
	r = r.Clone(r.Context())
	if r.GetBody != nil {
		body, err := r.GetBody()
		if err != nil {
			return nil, err
		}
		r.Body = body
	}
	if token != "" {
		r.Header.Set("Authorization", "Bearer "+token)
	}
	return http.DefaultTransport.RoundTrip(r)
}

// token asks for one by what a challenge says.
func (b *bearer) token(challenge map[string]string) (string, error) {
	b.got.Add(1)
	req, err := http.NewRequest(http.MethodGet, challenge["realm"]+"?"+url.Values{"service": {challenge["service"]}, "scope": strings.Fields(challenge["scope"])}.Encode(), http.NoBody)
	if err != nil {
		return "", err
	}
	if user, password, ok := strings.Cut(b.login, ":"); ok {
		req.SetBasicAuth(user, password)
	}
	resp, err := http.DefaultTransport.RoundTrip(req)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	raw, err := io.ReadAll(resp.Body)
	var reply tokenReply
	if resp.StatusCode != http.StatusOK {
		return "", fmt.Errorf("no token: %d %s", resp.StatusCode, raw)
	}
	return reply.Token, errors.Join(err, json.Unmarshal(raw, &reply), wantToken(&reply))
}

func wantToken(r *tokenReply) error {
	if r.Token == "" {
		return errors.New("the reply has no token")
	}
	return nil
}

// speakToken speaks HTTP with tokens; login may be empty.
func speakToken(s *server, login string) wire {
	return wire{base: "http://" + s.addr, client: &http.Client{Transport: &bearer{login: login}}}
}

// admitted is a server whose users and rules change while it is at work.
type admitted struct {
	*server
	dir, bin string
	first    string // A token of alice, the first one there was.
}

func (a *admitted) at(name string) string { return filepath.Join(a.dir, name) }

func (a *admitted) replace(t *testing.T, name string, content []byte) {
	t.Helper()
	write(t, a.at(name+".new"), content)
	if err := os.Rename(a.at(name+".new"), a.at(name)); err != nil {
		t.Fatal(err)
	}
}

// users writes who has a login, with the password "secret".
func (a *admitted) users(t *testing.T, names ...string) {
	t.Helper()
	hash, err := bcrypt.GenerateFromPassword([]byte("secret"), bcrypt.MinCost)
	if err != nil {
		t.Fatal(err)
	}
	var lines []byte
	for _, name := range names {
		lines = fmt.Appendf(lines, "%s:%s\n", name, hash)
	}
	a.replace(t, "htpasswd", lines)
}

// rules writes who may do what besides what always holds here.
func (a *admitted) rules(t *testing.T, more string) {
	t.Helper()
	a.replace(t, "config.yml", fmt.Appendf(nil, `version: 0.1
log: {accesslog: {disabled: true}}
storage: {filesystem: {rootdirectory: %q}}
http: {addr: %s}
auth: {htpasswd: {realm: test, path: %q}}
groups: {makers: [alice, bob]}
access:
%s  - {who: everyone, what: "team/**", may: [pull]}
  - {who: group:makers, what: "team/**", may: [pull, push]}
`, a.at("data"), a.addr, a.at("htpasswd"), more))
}

func startAdmitted(t *testing.T, before func(dir string)) *admitted {
	t.Helper()
	a := &admitted{server: &server{addr: freeAddr(t)}, dir: t.TempDir()}
	var err error
	if a.bin, err = regctl(); err != nil {
		t.Fatal(err)
	}
	a.users(t, "alice", "bob")
	a.rules(t, "")
	if before != nil {
		before(a.at("data"))
	}
	cmd := exec.Command(a.bin, "serve", a.at("config.yml"))
	cmd.Env = []string{"HOME=" + a.dir}
	a.server = start(t, cmd, a.addr)
	return a
}

// regctl runs a command beside the server, and returns what it says.
func (a *admitted) regctl(t *testing.T, args ...string) string {
	t.Helper()
	cmd := exec.Command(a.bin, args...)
	cmd.Env = []string{"HOME=" + a.dir}
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("regctl %s: %v\n%s", strings.Join(args, " "), err, &stderr)
	}
	return strings.TrimSpace(string(out))
}

// TestAccessChangesUnderLoad changes users, rules, robots and keys while
// people, robots and nobody in particular push and pull. None of them fails.
func TestAccessChangesUnderLoad(t *testing.T) {
	t.Parallel()
	a := startAdmitted(t, oldKeys(t))
	a.first = tokenFor(t, a.server, "alice:secret", "repository:team/app:pull")
	first, err := speakToken(a.server, "alice:secret").image("team/app", random(1, 20_000), "first")
	if err != nil {
		t.Fatal(err)
	}
	secret := a.regctl(t, "token", "create", "ci", "--scope", "team/**:pull,push", "--data", a.at("data"))

	stop, done := make(chan struct{}), sync.WaitGroup{}
	var count atomic.Int64
	for id := range 12 {
		// The first eight push.
		w := []wire{
			speakToken(a.server, "alice:secret"), speakAs(a.server, "bob", "secret"), speakToken(a.server, "ci:"+secret), speakToken(a.server, "bob:secret"),
			speakAs(a.server, "ci", secret), speakToken(a.server, "alice:secret"), speakAs(a.server, "alice", "secret"), speakToken(a.server, "ci:"+secret),
			speakToken(a.server, ""), speakToken(a.server, ""), speakToken(a.server, "bob:secret"), speakAs(a.server, "ci", secret),
		}[id]
		done.Go(func() {
			for n := 0; ; n++ {
				select {
				case <-stop:
					return
				default:
				}
				if err := work(w, id, n, first); err != nil {
					t.Errorf("%d, request %d: %v", id, n, err)
					return
				}
				count.Add(1)
			}
		})
	}
	defer done.Wait()
	defer close(stop)
	some := func() {
		t.Helper()
		from := count.Load()
		a.await(t, func() error {
			if now := count.Load(); now < from+40 && !t.Failed() {
				return fmt.Errorf("%d served", now-from)
			}
			return nil
		})
	}
	some()
	a.changeUsers(t)
	some()
	a.changeRules(t)
	some()
	a.changeRobots(t)
	some()
	a.changeKeys(t)
	some()
}

// eventually asks until the answer has this status.
func (a *admitted) eventually(t *testing.T, w wire, status int, method, path string) {
	t.Helper()
	a.await(t, func() error { _, err := w.want(status, method, path, "", nil); return err })
}

func (a *admitted) changeUsers(t *testing.T) {
	t.Helper()
	a.users(t, "alice", "bob", "carol")
	a.eventually(t, speakAs(a.server, "carol", "secret"), http.StatusOK, http.MethodGet, "/v2/")
	token := "Bearer " + tokenFor(t, a.server, "carol:secret", "repository:team/app:pull")
	if got := askAs(t, a.server, http.MethodGet, "/v2/team/app/manifests/first", token); got.status != http.StatusOK {
		t.Errorf("carol: %d %s", got.status, got.body)
	}
	a.users(t, "alice", "bob")
	a.eventually(t, speakAs(a.server, "carol", "secret"), http.StatusUnauthorized, http.MethodGet, "/v2/")
	if got := askAs(t, a.server, http.MethodGet, "/v2/team/app/manifests/first", token); got.status != http.StatusUnauthorized {
		t.Errorf("carol is gone, her token still counts: %d %s", got.status, got.body)
	}
}

func (a *admitted) changeRules(t *testing.T) {
	t.Helper()
	token := "Bearer " + tokenFor(t, a.server, "bob:secret", "repository:team/closed:pull,push")
	path := "/v2/team/closed/blobs/uploads/"
	if got := askAs(t, a.server, http.MethodPost, path, token); got.status != http.StatusAccepted {
		t.Errorf("bob may not push yet: %d %s", got.status, got.body)
	}
	a.rules(t, `  - {who: user:bob, what: team/closed, deny: [push], because: it is closed}`+"\n")
	a.eventually(t, speakAs(a.server, "bob", "secret"), http.StatusForbidden, http.MethodPost, path)
	if got := askAs(t, a.server, http.MethodPost, path, token); got.status != http.StatusForbidden || !strings.Contains(string(got.body), "it is closed") {
		t.Errorf("the rules have changed, the token still counts: %d %s", got.status, got.body)
	}
	a.rules(t, `  - {who: anonymous, what: other/app, may: [pull]}`+"\n")
	a.eventually(t, speakToken(a.server, ""), http.StatusNotFound, http.MethodGet, "/v2/other/app/manifests/x")
}

func (a *admitted) changeRobots(t *testing.T) {
	t.Helper()
	secret := a.regctl(t, "token", "create", "short", "--scope", "team/app:pull", "--data", a.at("data"))
	path := "/v2/team/app/manifests/first"
	token := "Bearer " + tokenFor(t, a.server, "short:"+secret, "repository:team/app:pull")
	for _, authorization := range []string{token, basicOf("short:" + secret)} {
		if got := askAs(t, a.server, http.MethodGet, path, authorization); got.status != http.StatusOK {
			t.Errorf("the robot: %d %s", got.status, got.body)
		}
	}
	a.regctl(t, "token", "revoke", "short", "--data", a.at("data"))
	for _, authorization := range []string{token, basicOf("short:" + secret)} {
		if got := askAs(t, a.server, http.MethodGet, path, authorization); got.status != http.StatusUnauthorized {
			t.Errorf("the robot is revoked: %d %s", got.status, got.body)
		}
	}
}

// oldKeys puts keys into a store that are due to be renewed soon after.
func oldKeys(t *testing.T) func(dir string) {
	return func(dir string) {
		dir = filepath.Join(dir, ".regctl")
		if err := os.MkdirAll(dir, 0o700); err != nil {
			t.Fatal(err)
		}
		made := time.Now().Add(20*time.Second - 30*24*time.Hour)
		if _, err := token.OpenKeys(dir, token.Options{Now: func() time.Time { return made }}); err != nil {
			t.Fatal(err)
		}
	}
}

// changeKeys waits until there is a new key; tokens of the old one still count.
func (a *admitted) changeKeys(t *testing.T) {
	t.Helper()
	const scope, path = "repository:team/app:pull", "/v2/team/app/manifests/first"
	first := a.first
	a.await(t, func() error {
		if keyOf(tokenFor(t, a.server, "alice:secret", scope)) == keyOf(first) {
			return errors.New("it is signed by the same key")
		}
		return nil
	})
	if got := askAs(t, a.server, http.MethodGet, path, "Bearer "+first); got.status != http.StatusOK {
		t.Errorf("a token of the old key: %d %s", got.status, got.body)
	}
}

// keyOf is the header of a token, which names its key.
func keyOf(raw string) string {
	header, _, _ := strings.Cut(raw, ".")
	return header
}
