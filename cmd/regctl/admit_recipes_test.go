package main_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// accessRecipe is a recipe of README: the lines that are indented after its
// name.
func accessRecipe(tb testing.TB, name string) string {
	tb.Helper()
	_, section, found := strings.Cut(read(tb, "../../README.md"), "\n### Who may do what, ready to use\n")
	section, _, _ = strings.Cut(section, "\n## ")
	_, rest, named := strings.Cut(section, "\n**"+name)
	if !found || !named {
		tb.Fatalf("README has no recipe %q", name)
	}
	rest, _, _ = strings.Cut(rest, "\n**")
	var lines []string
	for line := range strings.Lines(rest) {
		if code, ok := strings.CutPrefix(line, "    "); ok {
			lines = append(lines, code)
		}
	}
	if len(lines) == 0 {
		tb.Fatalf("the recipe %q has no lines", name)
	}
	return strings.Join(lines, "")
}

// cook is a directory in which a recipe is followed.
type cook struct {
	dir string
	tool
}

func newCook(t *testing.T) cook {
	t.Helper()
	bin, err := regctl()
	if err != nil {
		t.Fatal(err)
	}
	p := newTool(t, "sh", "-euc")
	dir := t.TempDir()
	p.env = append(p.env, "PATH="+filepath.Dir(bin)+":"+strings.TrimPrefix(p.env[len(p.env)-1], "PATH="), "REGCTL_DATA="+filepath.Join(dir, "data"))
	return cook{dir, p}
}

// do runs a script in the directory.
func (c cook) do(t *testing.T, script string) string {
	t.Helper()
	return c.run(t, "cd "+c.dir+"\n"+script)
}

// serve serves what a recipe has in its config file.
func (c cook) serve(t *testing.T, access string) *server {
	t.Helper()
	write(t, filepath.Join(c.dir, "config.yml"), []byte("version: 0.1\n"+access))
	return c.start(t, "config.yml")
}

func (c cook) start(t *testing.T, args ...string) *server {
	t.Helper()
	cmd := regctlCommand(t, filepath.Join(c.dir, "data"), args...)
	cmd.Dir = c.dir
	return start(t, cmd, "")
}

func (c cook) users(t *testing.T, logins ...string) {
	t.Helper()
	for _, login := range logins {
		name, password, _ := strings.Cut(login, ":")
		c.do(t, fmt.Sprintf("echo '%s' | regctl htpasswd add auth/htpasswd %s --password-stdin --cost 5", password, name))
	}
}

// begins tells whether somebody may begin an upload, and pulls whether they may
// pull what is not there.
func begins(t *testing.T, s *server, login, repo string, want int) {
	t.Helper()
	if a := askAs(t, s, http.MethodPost, "/v2/"+repo+"/blobs/uploads/", basicOf(login)); a.status != want {
		t.Errorf("%q begins a push to %s: %d, want %d: %s", login, repo, a.status, want, a.body)
	}
}

func pulls(t *testing.T, s *server, login, repo string, want int) {
	t.Helper()
	if a := askAs(t, s, http.MethodGet, "/v2/"+repo+"/manifests/none", basicOf(login)); a.status != want {
		t.Errorf("%q pulls of %s: %d, want %d: %s", login, repo, a.status, want, a.body)
	}
}

// TestAccessRecipes follows the recipes of README. Those with docker are in
// TestArticles.
func TestAccessRecipes(t *testing.T) {
	for name, do := range map[string]func(*testing.T, cook){
		"Everyone pulls, who has logged in pushes": cookPublicPull,
		"The same, with the catalogue":             cookCatalogue,
		"Teams** that":                             cookTeams,
		"Test and production":                      cookStages,
		"Teams of a directory":                     cookDirectory,
		"A job of a CI":                            cookCI,
		"Kubernetes":                               cookKubernetes,
		"From docker_auth":                         cookDockerAuth,
	} {
		t.Run(strings.ReplaceAll(name, "*", ""), func(t *testing.T) {
			t.Parallel()
			do(t, newCook(t))
		})
	}
}

func cookPublicPull(t *testing.T, c cook) {
	add, serve, _ := strings.Cut(accessRecipe(t, "Everyone pulls"), "\n")
	c.do(t, "echo 'of alice' | "+add+" --password-stdin --cost 5")
	args := strings.Fields(strings.NewReplacer("regctl serve --addr :5000", "", "--tls self", "").Replace(serve))
	s := c.start(t, args...)
	pulls(t, s, "", "any/app", http.StatusNotFound)
	begins(t, s, "", "any/app", http.StatusUnauthorized)
	begins(t, s, "alice:of alice", "any/app", http.StatusAccepted)
	begins(t, s, "alice:wrong", "any/app", http.StatusUnauthorized)
	if a := askAs(t, s, http.MethodGet, "/v2/_catalog", ""); a.status != http.StatusUnauthorized {
		t.Errorf("anybody sees the catalogue: %d", a.status)
	}
}

func cookCatalogue(t *testing.T, c cook) {
	c.users(t, "alice:a")
	s := c.serve(t, accessRecipe(t, "The same, with the catalogue"))
	if _, err := speakAs(s, "alice", "a").image("team/app", random(1, 100), "one"); err != nil {
		t.Fatal(err)
	}
	for _, authorization := range []string{"", "Bearer " + tokenFor(t, s, "", "registry:catalog:*")} {
		if a := askAs(t, s, http.MethodGet, "/v2/_catalog", authorization); a.status != http.StatusOK || !strings.Contains(string(a.body), `"team/app"`) {
			t.Errorf("the catalogue is %d %s", a.status, a.body)
		}
	}
	begins(t, s, "", "team/app", http.StatusUnauthorized)
}

func cookTeams(t *testing.T, c cook) {
	c.users(t, "ann:a", "bob:b", "admin:c")
	s := c.serve(t, accessRecipe(t, "Teams** that"))
	pulls(t, s, "ann:a", "php/app", http.StatusNotFound)
	begins(t, s, "ann:a", "php/app", http.StatusForbidden)
	pulls(t, s, "ann:a", "java/app", http.StatusForbidden)
	begins(t, s, "bob:b", "java/app", http.StatusAccepted)
	pulls(t, s, "bob:b", "php/app", http.StatusForbidden)
	begins(t, s, "admin:c", "any/app", http.StatusAccepted)
	pulls(t, s, "", "php/app", http.StatusUnauthorized)
}

func cookStages(t *testing.T, c cook) {
	c.users(t, "ann:a")
	s := c.serve(t, accessRecipe(t, "Test and production"))
	release := "release:" + c.do(t, "regctl token create release --scope 'test/**:pull' --scope 'prod/**:pull,push'")
	begins(t, s, "ann:a", "test/app", http.StatusAccepted)
	begins(t, s, "ann:a", "prod/app", http.StatusForbidden)
	begins(t, s, release, "prod/app", http.StatusAccepted)
	begins(t, s, release, "test/app", http.StatusForbidden)
	pulls(t, s, "", "prod/app", http.StatusNotFound)
	user, secret, _ := strings.Cut(release, ":")
	w := speakAs(s, user, secret)
	for n, want := range []string{"", "releases never change"} {
		if _, err := w.image("prod/app", random(uint64(n), 100), "1.0"); (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("push %d of 1.0: %v, want %q", n, err, want)
		}
	}
}

func cookDirectory(t *testing.T, c cook) {
	_, at := startSlapd(t)
	s := c.serve(t, strings.NewReplacer("ldaps://ldap.lan", at, "ldap: {", "ldap: {timeout: 1m, ").Replace(accessRecipe(t, "Teams of a directory")))
	begins(t, s, "alice:of alice", "php/app", http.StatusAccepted)
	begins(t, s, "alice:of alice", "alice/app", http.StatusAccepted)
	begins(t, s, "bob:of bob", "bob/app", http.StatusAccepted)
	begins(t, s, "bob:of bob", "alice/app", http.StatusForbidden)
	begins(t, s, "bob:of bob", "php/app", http.StatusForbidden)
	begins(t, s, "bob:of alice", "bob/app", http.StatusUnauthorized)
	pulls(t, s, "", "public/app", http.StatusNotFound)
}

func cookCI(t *testing.T, c cook) {
	peer(t, "skopeo")
	s := c.serve(t, accessRecipe(t, "Teams** that"))
	// What docker does with a login is in TestArticles; skopeo needs no daemon.
	c.do(t, strings.NewReplacer("docker login", "skopeo login --tls-verify=false --authfile auth.json", "registry.lan:5000", s.addr).Replace(accessRecipe(t, "A job of a CI")))
	dir, _ := layout(t, t.Name())
	push := "skopeo copy --authfile auth.json --dest-tls-verify=false oci:" + dir + ":x docker://" + s.addr
	c.do(t, push+"/team/app:one")
	if out, err := exec.Command(c.path, "-euc", "cd "+c.dir+"; "+push+"/other/app:one").CombinedOutput(); err == nil || !strings.Contains(string(out), "403") {
		t.Errorf("the robot pushes elsewhere: %v, %s", err, out)
	}
	secret := strings.TrimSpace(read(t, filepath.Join(c.dir, "secret")))
	if !regexp.MustCompile(`^regctl_\w{20,}$`).MatchString(secret) {
		t.Errorf("the secret is %q", secret)
	}
	c.do(t, "regctl token revoke ci")
	begins(t, s, "ci:"+secret, "team/app", http.StatusUnauthorized)
	if log := s.log.String(); strings.Contains(log, secret) {
		t.Errorf("the log tells the secret: %s", log)
	}
}

func cookKubernetes(t *testing.T, c cook) {
	s := c.serve(t, strings.ReplaceAll(accessRecipe(t, "Test and production"), "who: all,", "who: group:people,"))
	lines := strings.Split(strings.ReplaceAll(accessRecipe(t, "Kubernetes"), "registry.lan:5000", s.addr), "\n")
	c.do(t, lines[0])
	var got struct {
		Auths map[string]struct{ Username, Password, Auth string }
	}
	if err := json.Unmarshal([]byte(read(t, filepath.Join(c.dir, "config.json"))), &got); err != nil {
		t.Fatal(err)
	}
	login := got.Auths[s.addr]
	if login.Username != "nodes" || basicOf(login.Username+":"+login.Password) != "Basic "+login.Auth {
		t.Errorf("the secret is %+v", got)
	}
	pulls(t, s, "nodes:"+login.Password, "team/app", http.StatusNotFound)
	begins(t, s, "nodes:"+login.Password, "team/app", http.StatusForbidden)
	c.do(t, "DOCKER_CONFIG=$PWD regctl ls "+s.addr+"/team/app || test $? -eq 5")
}

func cookDockerAuth(t *testing.T, c cook) {
	write(t, filepath.Join(c.dir, "auth_config.yml"), []byte(read(t, filepath.Join("testdata", "recipes", "a-auth_config.yml"))))
	write(t, filepath.Join(c.dir, "config.yml"), []byte("version: 0.1\n"))
	c.do(t, accessRecipe(t, "From docker_auth"))
	s := c.start(t, "config.yml")
	pulls(t, s, "", "any/app", http.StatusNotFound)
	begins(t, s, "", "any/app", http.StatusUnauthorized)
}
