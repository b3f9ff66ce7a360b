//go:build unix

package serve

import (
	"context"
	"encoding/json"
	"errors"
	"io/fs"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/regctl/regctl/serve/config"
)

// oneUser is an htpasswd file with alice, whose password nobody knows.
func oneUser(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "htpasswd")
	if err := os.WriteFile(path, []byte("alice:$2y$05$abcdefghijklmnopqrstuuWLOYJMyJtd6fOm2RSEpsEaUTbA0PD2C\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// running serves what a configuration says until the test ends, or stop.
func running(t *testing.T, dir string, c *config.Config) (a *Assembly, s *server, stop func()) {
	t.Helper()
	a, err := Assemble(t.Context(), Parts{Config: c, Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- a.Serve(ctx) }()
	stop = func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
		done <- nil
	}
	t.Cleanup(stop)
	addr := a.Addrs()[0].String()
	return a, &server{t: t, addr: addr, url: "http://" + addr}, stop
}

// TestRestartKeepsTokens, and the uploads of those who have begun one.
func TestRestartKeepsTokens(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	yaml := "access: [{who: anonymous, what: '**', may: [pull, push]}]\ntokens: {service: ours}"
	_, s, stop := running(t, dir, configured(t, yaml))
	a := s.do("GET", "/v2/_token?service=ours&scope=repository:app:pull,push", "")
	var reply tokenJSON
	if err := json.Unmarshal([]byte(a.body), &reply); err != nil || a.status != http.StatusOK {
		t.Fatal(a.status, a.body)
	}
	as := []string{"Authorization", "Bearer " + reply.Token}
	begun := s.do("POST", "/v2/app/blobs/uploads/", "", as...)
	s.want("begin", begun, http.StatusAccepted)
	path := strings.TrimPrefix(begun.header.Get("Location"), s.url)
	stop()
	_, s, _ = running(t, dir, configured(t, yaml))
	s.want("go on", s.do("PATCH", path, "hello", as...), http.StatusAccepted)
	for _, name := range []string{"token.keys", "token-ca.crt", "token-ca.key", "uploads.key"} {
		if info, err := os.Stat(filepath.Join(dir, ".regctl", name)); err != nil || info.Mode() != 0o600 {
			t.Errorf("%s: %v %v", name, info, err)
		}
	}
}

// TestTokensBegin without a restart, and only then there are keys.
func TestTokensBegin(t *testing.T) {
	t.Parallel()
	dir, users := t.TempDir(), oneUser(t)
	only := "auth: {htpasswd: {realm: r, path: " + users + "}}"
	a, s, _ := running(t, dir, configured(t, only))
	s.want("passwords only", s.do("GET", "/v2/", ""), 401, "WWW-Authenticate", `Basic realm="r"`)
	keys := filepath.Join(dir, ".regctl", "token.keys")
	if _, err := os.Stat(keys); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("there are keys that nobody needs: %v", err)
	}
	if later := a.Reconfigure(configured(t, only+"\naccess: public-pull")); len(later) > 0 {
		t.Errorf("%v need a restart", later)
	}
	s.want("tokens", s.do("GET", "/v2/", ""), 401, "WWW-Authenticate", `Bearer realm="`+s.url+`/v2/_token",service="`+s.addr+`"`)
	s.want("a token", s.do("GET", "/v2/_token", ""), 200)
	before, err := os.ReadFile(keys)
	if err != nil {
		t.Fatal(err)
	}
	a.Reconfigure(configured(t, only))
	s.want("passwords only", s.do("GET", "/v2/_token", ""), 404)
	a.Reconfigure(configured(t, only+"\naccess: private"))
	s.want("tokens", s.do("GET", "/v2/_token", ""), 200)
	if after, err := os.ReadFile(keys); err != nil || string(after) != string(before) {
		t.Errorf("there are other keys now, %v", err)
	}
}

// TestDamagedKeys stop the start, and stay as they are.
func TestDamagedKeys(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ name, content string }{
		{"token.keys", "damaged"}, {"token-ca.key", "damaged"}, {"uploads.key", "damaged"}, {"uploads.key", strings.Repeat("ab", 40)},
	} {
		name, dir := c.name, t.TempDir()
		_, _, stop := running(t, dir, configured(t, "access: public-pull"))
		stop()
		path := filepath.Join(dir, ".regctl", name)
		if err := os.WriteFile(path, []byte(c.content), 0o600); err != nil {
			t.Fatal(err)
		}
		_, err := Assemble(t.Context(), Parts{Config: configured(t, "access: public-pull"), Dir: dir})
		if err == nil || !strings.Contains(err.Error(), path) {
			t.Errorf("%s: %v", name, err)
		}
		if raw, err := os.ReadFile(path); err != nil || string(raw) != c.content {
			t.Errorf("%s: it is %q %v", name, raw, err)
		}
	}
}

// TestUploadKeyIsKeptLate: what could not be written at the start is tried again.
func TestUploadKeyIsKeptLate(t *testing.T) {
	t.Parallel()
	dir, again, asked := t.TempDir(), make(chan time.Time), make(chan struct{}, 10)
	after := func(d time.Duration) <-chan time.Time {
		if d != keepAgain {
			return make(chan time.Time)
		}
		asked <- struct{}{}
		return again
	}
	inTheWay := filepath.Join(dir, ".regctl", uploadKeyFile+".new")
	if err := os.MkdirAll(inTheWay, 0o700); err != nil {
		t.Fatal(err)
	}
	a, err := Assemble(t.Context(), Parts{Config: configured(t, "access: public-pull"), Dir: dir, After: after})
	if err != nil {
		t.Fatal(err)
	}
	defer a.Close()
	<-asked
	again <- time.Time{}
	<-asked // It did not work.
	if err := os.Remove(inTheWay); err != nil {
		t.Fatal(err)
	}
	again <- time.Time{}
	a.Close() // It ends what runs in the background, and waits for it.
	raw, err := os.ReadFile(filepath.Join(dir, ".regctl", uploadKeyFile))
	if err != nil || len(raw) != 2*uploadKeyLength {
		t.Errorf("%q %v", raw, err)
	}
}

// TestOpenPreset asks nobody, but lets in who logs in; without any logins it is
// as if nothing had been said.
func TestOpenPreset(t *testing.T) {
	t.Parallel()
	_, s, _ := running(t, t.TempDir(), configured(t, "access: open"))
	s.want("no logins", s.do("GET", "/v2/", "", "Authorization", "Bearer x"), 200, "WWW-Authenticate", "-")
	_, s, _ = running(t, t.TempDir(), configured(t, "access: open\nauth: {htpasswd: {realm: r, path: "+oneUser(t)+"}}"))
	s.want("docker login", s.do("GET", "/v2/", ""), 401, "WWW-Authenticate", `Bearer realm="`+s.url+`/v2/_token",service="`+s.addr+`"`)
	s.want("push", s.do("POST", "/v2/app/blobs/uploads/", ""), 202)
	s.want("a wrong password", s.do("POST", "/v2/app/blobs/uploads/", "", "Authorization", login("alice", "x")), 401)
	s.want("catalogue", s.do("GET", "/v2/_catalog", ""), 200)
}

// TestDirectoryDown: it keeps nothing from starting, nor those out who are in
// the file.
func TestDirectoryDown(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			c.Close()
		}
	}()
	users := filepath.Join(t.TempDir(), "htpasswd")
	if err := os.WriteFile(users, passwordHashes(), 0o600); err != nil {
		t.Fatal(err)
	}
	_, s, _ := running(t, t.TempDir(), configured(t, "auth:\n  htpasswd: {realm: r, path: "+users+"}\n"+
		"  ldap: {url: 'ldap://"+l.Addr().String()+"', userbase: 'dc=example,dc=com', timeout: 2s}"))
	s.want("who is in the file", s.do("GET", "/v2/_token", "", "Authorization", header("bob")), 200)
	s.want("who may be in the directory", s.do("GET", "/v2/_token", "", "Authorization", login("eve", "x")), 503, "Retry-After", "1")
	s.want("nobody", s.do("GET", "/v2/", ""), 401, "WWW-Authenticate", `Bearer realm="`+s.url+`/v2/_token",service="`+s.addr+`"`)
}

// TestTrustFails says what is wrong with which section.
func TestTrustFails(t *testing.T) {
	t.Parallel()
	c := configured(t, "auth: {token: {realm: 'https://a.b', service: s, issuer: i, rootcertbundle: /nothing/here.crt}}")
	_, err := Assemble(t.Context(), Parts{Config: c})
	var wrong *ConfigError
	if !errors.As(err, &wrong) || wrong.Key != "auth.token" || strings.Count(err.Error(), "auth.token") != 1 || !strings.Contains(err.Error(), "/nothing/here.crt") {
		t.Errorf("%v", err)
	}
}
