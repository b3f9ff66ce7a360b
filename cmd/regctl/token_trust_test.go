package main_test

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// Other registries let in whoever has a token of ours: they have no users and
// no rules of their own.

// hubRules are those of the registry that gives out the tokens.
const hubRules = `tokens: {issuer: "The hub's tokens", services: ["Another registry"]}
access:
  - {who: everyone, what: "public/**", may: [pull]}
  - {who: user:bob, what: "private/**", may: [pull]}
  - {who: user:alice, what: "**", may: all}
`

// TestOthersTrustOurTokens: registry 3 is one for by hand, called registry3.
func TestOthersTrustOurTokens(t *testing.T) {
	for name, start := range map[string]func(*testing.T, string) *server{
		"registry 2.8": func(t *testing.T, lines string) *server {
			return startTrusting(t, peer(t, "docker-registry"), lines)
		},
		"registry 3": func(t *testing.T, lines string) *server { return startTrusting(t, byHand(t, "registry3"), lines) },
		"ours":       func(t *testing.T, lines string) *server { return startRegctlTrusting(t, lines) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			hub := startRuled(t, hubRules, admitGood, admitNarrow)
			other := start(t, hub.trust(t))
			exerciseTrust(t, hub.server, other)
		})
	}
}

// byHand is a program that is in no CI.
func byHand(t *testing.T, name string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		t.Skip(name + " is not installed; it is for by hand")
	}
	return path
}

// trust is what the config file of the other registry says, as regctl token
// trust prints it.
func (s ruled) trust(t *testing.T) string {
	t.Helper()
	bin, err := regctl()
	if err != nil {
		t.Fatal(err)
	}
	config := ruledConfig(t, s.dir, hubRules)
	run := tool{path: bin, env: []string{"HOME=" + t.TempDir()}}
	ca := filepath.Join(t.TempDir(), "token-ca.crt")
	write(t, ca, []byte(run.run(t, "token", "trust", "--ca", "--data", s.dir)+"\n"))
	lines := run.run(t, "token", "trust", "Another registry", "--host", s.url(""), "--config", config, "--data", s.dir)
	return strings.ReplaceAll(lines, "/etc/docker/registry/token-ca.crt", ca) + "\n"
}

// startTrusting starts a registry that trusts by these lines.
func startTrusting(t *testing.T, bin, lines string) *server {
	t.Helper()
	addr := freeAddr(t)
	config := filepath.Join(t.TempDir(), "config.yml")
	write(t, config, fmt.Appendf(nil, "version: 0.1\nlog: {level: error, accesslog: {disabled: true}}\nstorage: {filesystem: {rootdirectory: %q}, delete: {enabled: true}}\nhttp: {addr: %q, secret: x}\n%s", t.TempDir(), addr, lines))
	return start(t, exec.Command(bin, "serve", config), addr)
}

func startRegctlTrusting(t *testing.T, lines string) *server {
	t.Helper()
	dir := t.TempDir()
	config := filepath.Join(t.TempDir(), "config.yml")
	write(t, config, fmt.Appendf(nil, "version: 0.1\nstorage: {filesystem: {rootdirectory: %q}, delete: {enabled: true}}\n%s", dir, lines))
	return startRegctl(t, dir, config)
}

// exerciseTrust asks other with tokens of hub, by hand and with clients.
func exerciseTrust(t *testing.T, hub, other *server) {
	t.Helper()
	c := challenge(t, askAs(t, other, http.MethodGet, "/v2/", ""))
	if c["realm"] != hub.url("/v2/_token") || c["service"] != "Another registry" {
		t.Fatalf("it asks for %v", c)
	}
	with := func(login, scope string) string {
		raw := askAs(t, hub, http.MethodGet, "/v2/_token?service=Another+registry&scope="+scope, basicOf(login))
		var r tokenReply
		if err := json.Unmarshal(raw.body, &r); err != nil || r.Token == "" {
			t.Fatalf("no token: %d %s", raw.status, raw.body)
		}
		head, body, _ := strings.Cut(r.Token, ".")
		if !strings.Contains(decoded(t, head), `"x5c":[`) || strings.Contains(decoded(t, body), `"regctl":`) || !strings.Contains(decoded(t, body), `"aud":"Another registry"`) {
			t.Errorf("the token says %s %s", decoded(t, head), decoded(t, body))
		}
		return "Bearer " + r.Token
	}
	for _, ask := range []struct {
		login, scope, method, path string
		want                       int
	}{
		{admitGood, "repository:private/x:pull,push", http.MethodPost, "/v2/private/x/blobs/uploads/", http.StatusAccepted},
		{admitGood, "repository:private/x:pull,push", http.MethodPost, "/v2/private/y/blobs/uploads/", http.StatusUnauthorized},
		{admitNarrow, "repository:private/x:pull,push", http.MethodPost, "/v2/private/x/blobs/uploads/", http.StatusUnauthorized},
		{admitNarrow, "repository:private/x:pull,push", http.MethodGet, "/v2/private/x/tags/list", http.StatusNotFound},
		{"", "repository:public/x:pull", http.MethodGet, "/v2/public/x/tags/list", http.StatusNotFound},
		{"", "repository:private/x:pull", http.MethodGet, "/v2/private/x/tags/list", http.StatusUnauthorized},
		{admitGood, "", http.MethodGet, "/v2/", http.StatusOK},
		{admitGood, "registry:catalog:*", http.MethodGet, "/v2/_catalog", http.StatusOK},
		{admitNarrow, "registry:catalog:*", http.MethodGet, "/v2/_catalog", http.StatusUnauthorized},
	} {
		if got := askAs(t, other, ask.method, ask.path, with(ask.login, ask.scope)); got.status != ask.want {
			t.Errorf("%q with %s, %s %s: %d, want %d\n%s", ask.login, ask.scope, ask.method, ask.path, got.status, ask.want, got.body)
		}
	}
	// A token for the registry that gives them out is not for the other one.
	if got := askAs(t, other, http.MethodGet, "/v2/", "Bearer "+tokenFor(t, hub, admitGood)); got.status != http.StatusUnauthorized {
		t.Errorf("with a token for somebody else: %d", got.status)
	}
	trustOfClients(t, other)
}

func decoded(t *testing.T, part string) string {
	t.Helper()
	part, _, _ = strings.Cut(part, ".")
	raw, err := base64.RawURLEncoding.DecodeString(part)
	if err != nil {
		t.Fatal(err)
	}
	return string(raw)
}

// trustOfClients pushes and pulls with clients that find the token server by
// themselves.
func trustOfClients(t *testing.T, other *server) {
	t.Helper()
	dir, _ := layout(t, other.addr)
	push := []string{"copy", "--dest-tls-verify=false", "oci:" + dir + ":x", "docker://" + other.addr + "/public/app:one"}
	alice, nobody := newTool(t, "skopeo"), newTool(t, "skopeo")
	user, password, _ := strings.Cut(admitGood, ":")
	nobody.refused(t, "", push...)
	alice.refused(t, "", "login", "--tls-verify=false", "-u", user, "-p", "wrong", other.addr)
	alice.run(t, "login", "--tls-verify=false", "-u", user, "-p", password, other.addr)
	alice.run(t, push...)
	nobody.run(t, "copy", "--src-tls-verify=false", "docker://"+other.addr+"/public/app:one", "oci:"+t.TempDir()+":x")

	bin, err := regctl()
	if err != nil {
		t.Fatal(err)
	}
	home := t.TempDir()
	writeDockerLogin(t, home, other.addr, admitGood)
	ours := tool{path: bin, env: []string{"HOME=" + home}}
	ours.run(t, "cp", "-q", other.addr+"/public/app:one", other.addr+"/private/app:one")
	if got := ours.run(t, "ls", other.addr+"/private/app"); got != "one" {
		t.Errorf("it lists %q", got)
	}
	ours.env = []string{"HOME=" + t.TempDir()}
	ours.refused(t, "", "ls", other.addr+"/private/app")
}

// TestDockerAuth lets docker_auth give out the tokens; it is for by hand. Its
// keys are named for registry:2, or for registry 3.
func TestDockerAuth(t *testing.T) {
	t.Parallel()
	bin := byHand(t, "docker_auth")
	ours, err := regctl()
	if err != nil {
		t.Fatal(err)
	}
	for _, forRegistry3 := range []bool{false, true} {
		dir, addr := t.TempDir(), freeAddr(t)
		run := tool{path: ours, env: []string{"HOME=" + dir}}
		run.run(t, "cert", "make", "127.0.0.1", "--dir", dir)
		key := filepath.Join(dir, "server")
		config := filepath.Join(dir, "auth_config.yml")
		write(t, config, fmt.Appendf(nil, `server: {addr: %q}
token: {issuer: "Acme auth server", expiration: 900, certificate: %q, key: %q, disable_legacy_key_id: %v}
users:
  "": {}
  alice: {password: "$2y$05$WuwBasGDAgr.QCbGIjKJaep4dhxeai9gNZdmBnQXqpKly57oNutya"} # 123
acl:
  - {match: {account: ""}, actions: [pull]}
  - {match: {account: alice}, actions: ["*"]}
`, addr, key+".crt", key+".key", forRegistry3))
		start(t, exec.Command(bin, config), addr)
		s := startRegctlTrusting(t, fmt.Sprintf("auth: {token: {realm: \"http://%s/auth\", service: \"Docker registry\", issuer: \"Acme auth server\", rootcertbundle: %q}}\n", addr, key+".crt"))
		layoutDir, _ := layout(t, s.addr)
		push := []string{"copy", "--dest-tls-verify=false", "oci:" + layoutDir + ":x", "docker://" + s.addr + "/app:one"}
		alice, nobody := newTool(t, "skopeo"), newTool(t, "skopeo")
		nobody.refused(t, "", push...)
		alice.refused(t, "", "login", "--tls-verify=false", "-u", "alice", "-p", "wrong", s.addr)
		alice.run(t, "login", "--tls-verify=false", "-u", "alice", "-p", "123", s.addr)
		alice.run(t, push...)
		alice.run(t, "copy", "--dest-tls-verify=false", "--src-tls-verify=false", "docker://"+s.addr+"/app:one", "docker://"+s.addr+"/other:one")
		nobody.run(t, "copy", "--src-tls-verify=false", "docker://"+s.addr+"/app:one", "oci:"+t.TempDir()+":x")
		s.end(t)
	}
}
