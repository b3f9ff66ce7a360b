package commands

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestLoginAsks: what is not given is asked for on a terminal; the password is
// not shown.
func TestLoginAsks(t *testing.T) {
	t.Parallel()
	home := t.TempDir()
	env := newTestEnv(network(t, asking(newRegistry("app:1"), "testuser:secret")))
	env.Home, env.Asks = home, true
	env.Stdin = strings.NewReader("testuser\n")
	password, failure := "secret", error(nil)
	env.ReadPassword = func() (string, error) { return password, failure }
	env.run(t, "login", 0, "", "Username for localhost:5000: Password: \nlogin succeeded; saved in "+filepath.Join("~", ".docker", "config.json")+"\n")
	env.run(t, "ls", 0, "app\n", "")

	password = "wrong"
	env.run(t, "login http://other.lan -u testuser", 4, "",
		"Password: \nother.lan does not take this login: other.lan: 401 Unauthorized. Nothing was saved\n")
	password = ""
	env.run(t, "login -u testuser", 2, "", "Password: \na login has a username and a password; one of them is empty\n")
	failure = errors.New("no terminal after all")
	env.run(t, "login -u testuser", 1, "", "Password: \nno terminal after all\n")
	env.run(t, "login", 2, "", "Username for localhost:5000: no username was given\n")
	env.run(t, "login -u a -p b --password-stdin", 2, "", "--password and --password-stdin are two passwords; give one\n")

	env.run(t, "logout", 0, "", "forgot the login for localhost:5000\n")
	raw, err := os.ReadFile(filepath.Join(home, ".docker", "config.json"))
	if err != nil || strings.Contains(string(raw), "localhost") {
		t.Errorf("left: %s, %v", raw, err)
	}
}

// TestHosts: a bare name is a host where no repository can be meant.
func TestHosts(t *testing.T) {
	t.Parallel()
	env := newTestEnv(nil, "REGCTL_REGISTRY=def.lan")
	for typed, want := range map[string]string{
		"": "def.lan", "myhost": "myhost", "myhost/": "myhost", "h.lan:5000": "h.lan:5000",
		"http://h.lan/": "http://h.lan", "docker.io": "docker.io",
	} {
		if got, err := env.host(typed); err != nil || got.address() != want {
			t.Errorf("%q: got %q, %v, want %q", typed, got.address(), err, want)
		}
	}
	for _, typed := range []string{"h.lan/team", "h.lan:5000/team/app", "oci:dir", "http://"} {
		if got, err := env.host(typed); exitStatus(err) != exitUsage {
			t.Errorf("%q: got %+v, %v", typed, got, err)
		}
	}
}
