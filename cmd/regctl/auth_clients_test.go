package main_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/regctl/regctl/client/oci"
)

// writeHtpasswd makes an htpasswd file by regctl: users with their passwords.
func writeHtpasswd(tb testing.TB, users ...string) string {
	tb.Helper()
	bin, err := regctl()
	if err != nil {
		tb.Fatal(err)
	}
	path := filepath.Join(tb.TempDir(), "htpasswd")
	for _, u := range users {
		name, password, _ := strings.Cut(u, ":")
		cmd := exec.Command(bin, "htpasswd", "add", path, name, "--password-stdin", "--cost", "5")
		cmd.Stdin = strings.NewReader(password)
		if out, err := cmd.CombinedOutput(); err != nil {
			tb.Fatalf("%v: %s", err, out)
		}
	}
	return path
}

// authConfig writes a config file of registry:2 that asks for logins.
func authConfig(tb testing.TB, htpasswd, rest string) string {
	tb.Helper()
	path := filepath.Join(tb.TempDir(), "config.yml")
	text := fmt.Sprintf("version: 0.1\nauth: {htpasswd: {realm: 'A \"quoted\" realm', path: %q}}\n%s\n", htpasswd, rest)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		tb.Fatal(err)
	}
	return path
}

func startWithLogins(tb testing.TB, users ...string) *server {
	tb.Helper()
	dir := tb.TempDir()
	config := authConfig(tb, writeHtpasswd(tb, users...), fmt.Sprintf("storage: {filesystem: {rootdirectory: %q}, delete: {enabled: true}}", dir))
	return startRegctl(tb, dir, config)
}

// speakAs speaks HTTP with a login.
func speakAs(s *server, user, password string) wire {
	at := url.URL{Scheme: "http", User: url.UserPassword(user, password), Host: s.addr}
	return wire{base: at.String()}
}

// loginClient is a program with the commands that log in, push and pull; none
// of them is answered without asking the registry.
type loginClient struct {
	tool
	login, push, pull func(t *testing.T) []string // Of login, the password is added.
	logout            func(t *testing.T) []string
	denied            string // What it says without a login.
	unchecked         bool   // It saves a login whether or not it is right.
}

// refused runs what must fail, and wants it to say something.
func (p tool) refused(tb testing.TB, want string, args ...string) {
	tb.Helper()
	cmd := exec.Command(p.path, append(p.args[:len(p.args):len(p.args)], args...)...)
	cmd.Env = p.env
	out, err := cmd.CombinedOutput()
	if err == nil || !strings.Contains(strings.ToLower(string(out)), want) {
		tb.Errorf("%s %s: %v, want %q in\n%s", filepath.Base(p.path), strings.Join(args, " "), err, want, out)
	}
}

const (
	loginUser     = "testuser"
	loginPassword = "pass:word with $igns"
)

// TestClientsLogIn: docker is in TestDocker.
func TestClientsLogIn(t *testing.T) {
	for name, newClient := range map[string]func(t *testing.T, ref string) loginClient{
		"podman": podmanLogin, "skopeo": skopeoLogin, "crane": craneLogin,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := startWithLogins(t, loginUser+":"+loginPassword)
			exerciseLogin(t, s, newClient(t, s.addr+"/team/app:one"))
		})
	}
}

// exerciseLogin is the negative test of every tutorial: a push fails, a login
// makes it succeed.
func exerciseLogin(t *testing.T, s *server, c loginClient) {
	t.Helper()
	c.refused(t, c.denied, c.push(t)...)
	if !c.unchecked {
		c.refused(t, "", append(c.login(t), "wrong", s.addr)...)
	}
	c.refused(t, c.denied, c.push(t)...)
	w := speakAs(s, loginUser, loginPassword)
	w.must(t, http.StatusNotFound, http.MethodGet, "/v2/team/app/tags/list")
	c.run(t, append(c.login(t), loginPassword, s.addr)...)
	c.run(t, c.push(t)...)
	w.whole(t, "team/app", "one")
	c.run(t, c.pull(t)...)
	c.run(t, append(c.logout(t), s.addr)...)
	c.refused(t, c.denied, c.pull(t)...)
	speak(s).must(t, http.StatusUnauthorized, http.MethodGet, "/v2/team/app/manifests/one")
	s.end(t)
	log := s.log.String()
	if !strings.Contains(log, "user="+loginUser) && !strings.Contains(log, "user\":\""+loginUser) {
		t.Errorf("the log does not name the user:\n%s", log)
	}
	if strings.Contains(log, "igns") {
		t.Errorf("the log tells the password:\n%s", log)
	}
	if strings.Contains(log, "level=error") {
		t.Errorf("the server says:\n%s", log)
	}
}

func always(args ...string) func(*testing.T) []string {
	return func(*testing.T) []string { return append([]string(nil), args...) }
}

func podmanLogin(t *testing.T, ref string) loginClient {
	p := newPodman(t)
	p.run(t, "import", layer(t, ref), ref)
	return loginClient{
		tool: p, denied: "authentication required",
		login:  always("login", "--tls-verify=false", "-u", loginUser, "-p"),
		logout: always("logout"),
		push:   always("push", "--tls-verify=false", ref, "docker://"+ref),
		pull:   always("pull", "--tls-verify=false", ref),
	}
}

func skopeoLogin(t *testing.T, ref string) loginClient {
	dir, _ := layout(t, ref)
	return loginClient{
		tool: newTool(t, "skopeo"), denied: "authentication required",
		login:  always("login", "--tls-verify=false", "-u", loginUser, "-p"),
		logout: always("logout"),
		push:   always("copy", "--dest-tls-verify=false", "oci:"+dir+":x", "docker://"+ref),
		pull: func(t *testing.T) []string {
			return []string{"copy", "--src-tls-verify=false", "docker://" + ref, "oci:" + t.TempDir() + ":x"}
		},
	}
}

func craneLogin(t *testing.T, ref string) loginClient {
	file := layer(t, ref)
	return loginClient{
		tool: newTool(t, "crane", "--insecure"), denied: "unauthorized", unchecked: true,
		login:  always("auth", "login", "-u", loginUser, "-p"),
		logout: always("auth", "logout"),
		push:   always("append", "--base", "", "--new_layer", file, "--new_tag", ref),
		pull: func(t *testing.T) []string {
			return []string{"pull", "--format", "oci", ref, filepath.Join(t.TempDir(), "layout")}
		},
	}
}

// TestRegistry2TakesOurHtpasswd: it lets in whom we let in.
func TestRegistry2TakesOurHtpasswd(t *testing.T) {
	t.Parallel()
	s := startDockerRegistryWith(t, writeHtpasswd(t, "testuser:secret", "пользователь:пароль", "gone:x", "testuser:changed"))
	speakAs(s, "testuser", "changed").must(t, http.StatusOK, http.MethodGet, "/v2/")
	speakAs(s, "testuser", "secret").must(t, http.StatusUnauthorized, http.MethodGet, "/v2/")
	speakAs(s, "пользователь", "пароль").must(t, http.StatusOK, http.MethodGet, "/v2/")
}

func startDockerRegistryWith(t *testing.T, htpasswd string) *server {
	t.Helper()
	addr := freeAddr(t)
	config := authConfig(t, htpasswd, fmt.Sprintf("log: {level: error, accesslog: {disabled: true}}\nstorage: {filesystem: {rootdirectory: %q}, delete: {enabled: true}}\nhttp: {addr: %q}", t.TempDir(), addr))
	return start(t, exec.Command(peer(t, "docker-registry"), "serve", config), addr)
}

// TestLoginAnswersAsRegistry2 compares a session with and without logins.
func TestLoginAnswersAsRegistry2(t *testing.T) {
	t.Parallel()
	theirs, ours := startDockerRegistryWith(t, writeHtpasswd(t, "testuser:secret")), startWithLogins(t, "testuser:secret")
	const (
		good   = "Basic dGVzdHVzZXI6c2VjcmV0"
		wrong  = "Basic dGVzdHVzZXI6d3Jvbmc="
		digest = "sha256:0000000000000000000000000000000000000000000000000000000000000000"
	)
	for _, authorization := range []string{"", good, "basic dGVzdHVzZXI6c2VjcmV0", wrong, "Basic !!!", "Basic", "Basic Og==", "Basic dGVzdHVzZXI=", "Bearer dGVzdHVzZXI6c2VjcmV0", "x"} {
		for _, request := range []string{
			"GET /", "GET /v2/", "HEAD /v2/", "GET /v2/_catalog", "GET /v2/team/app/tags/list", "GET /v2/team/app/manifests/x",
			"PUT /v2/team/app/manifests/x", "DELETE /v2/team/app/manifests/" + digest, "GET /v2/team/app/blobs/" + digest, "DELETE /v2/team/app/blobs/" + digest,
			"POST /v2/team/app/blobs/uploads/", "POST /v2/team/app/blobs/uploads/?mount=" + digest + "&from=team/base", "PATCH /v2/team/app/blobs/uploads/x",
		} {
			if authorization != "" && strings.HasPrefix(request, "P") {
				continue // What is pushed is another matter.
			}
			method, path, _ := strings.Cut(request, " ")
			t1, t2 := askAs(t, theirs, method, path, authorization), askAs(t, ours, method, path, authorization)
			if t1.status != t2.status {
				t.Errorf("%s with %q: status %d, theirs %d", request, authorization, t2.status, t1.status)
			}
			for _, name := range []string{"Www-Authenticate", "Docker-Distribution-Api-Version"} {
				if a, b := t1.header.Get(name), t2.header.Get(name); a != b {
					t.Errorf("%s with %q: %s is %q, theirs %q", request, authorization, name, b, a)
				}
			}
			if t1.status == http.StatusUnauthorized && !bytes.Equal(bytes.TrimSpace(t1.body), bytes.TrimSpace(t2.body)) {
				t.Errorf("%s with %q: got\n%stheirs\n%s", request, authorization, t2.body, t1.body)
			}
		}
	}
}

func askAs(t *testing.T, s *server, method, path, authorization string) answer {
	t.Helper()
	req, err := http.NewRequest(method, s.url("%s", path), http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	if authorization != "" {
		req.Header.Set("Authorization", authorization)
	}
	resp, err := http.DefaultTransport.RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	var body bytes.Buffer
	if _, err := body.ReadFrom(resp.Body); err != nil {
		t.Fatal(err)
	}
	return answer{resp.StatusCode, resp.Header, body.Bytes()}
}

// TestDeletionsNameTheUser: who deletes is on record.
func TestDeletionsNameTheUser(t *testing.T) {
	t.Parallel()
	s := startWithLogins(t, "testuser:secret")
	w := speakAs(s, "testuser", "secret")
	raw := []byte(`{"schemaVersion":2,"mediaType":"` + oci.MediaTypeIndex + `","manifests":[]}`)
	for _, step := range []struct {
		method string
		status int
	}{{http.MethodPut, http.StatusCreated}, {http.MethodDelete, http.StatusAccepted}} {
		if a, err := w.call(step.method, "/v2/team/app/manifests/x", oci.MediaTypeIndex, raw); err != nil || a.status != step.status {
			t.Fatalf("%s: %v %d %s", step.method, err, a.status, a.body)
		}
	}
	a := w.must(t, http.StatusOK, http.MethodGet, "/v2/_regctl/deletions")
	if !json.Valid(a.body) || !strings.Contains(string(a.body), `"by":"testuser"`) {
		t.Errorf("the record is %s", a.body)
	}
}
