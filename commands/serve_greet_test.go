//go:build unix

package commands

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/regctl/regctl/serve/auth/rule"
	"github.com/regctl/regctl/serve/cert"
	"github.com/regctl/regctl/serve/config"
)

// TestGreet: where it is, who may come, how to push.
func TestGreet(t *testing.T) {
	t.Parallel()
	loopback := &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 5000}
	everywhere := &net.TCPAddr{IP: net.IPv4zero, Port: 5000}
	logins := config.Auth{Htpasswd: &config.Htpasswd{Realm: "r", Path: "users"}}
	directory := config.Auth{LDAP: &config.LDAP{URL: "ldaps://x"}}
	encrypted := config.TLS{Certificate: "/none.crt", Key: "/none.key"}
	socket := &net.UnixAddr{Net: "unix", Name: "/run/regctl.sock"}
	for name, c := range map[string]struct {
		addr net.Addr
		c    config.Config
		want []string
		not  string
	}{
		"here":            {loopback, config.Config{}, []string{"http://127.0.0.1:5000 · ", " · this machine only\n", "push localhost:5000/NAME"}, "warning"},
		"here, login":     {loopback, config.Config{Auth: logins}, []string{" · this machine only, with a login\n"}, "warning"},
		"open":            {everywhere, config.Config{}, []string{"http://localhost:5000 · ", "warning: no login is asked, whoever reaches it may pull and push\n"}, ""},
		"open, deletes":   {everywhere, config.Config{Storage: config.Storage{Deletes: true}}, []string{"may pull, push and delete\n"}, ""},
		"open, read-only": {everywhere, config.Config{Storage: config.Storage{Deletes: true, ReadOnly: true}}, []string{"deletes off, read-only · ", "may pull\n"}, ""},
		"open, login":     {everywhere, config.Config{Auth: logins}, []string{" · all who reach it, with a login\n", "warning: without TLS passwords cross the network"}, "no login"},
		"public pull":     {everywhere, config.Config{Auth: logins, Access: config.Access{Preset: "public-pull", On: true}}, []string{" · all who reach it, with a login but for pulls\n", "without TLS"}, "no login"},
		"private":         {loopback, config.Config{Access: config.Access{Preset: "private", On: true}}, []string{" · this machine only, with a login\n"}, "warning"},
		"rules":           {everywhere, config.Config{Auth: directory, Access: config.Access{Rules: make([]rule.Rule, 3), On: true}}, []string{" · all who reach it, by 3 rules\n", "without TLS"}, "no login"},
		"open by name":    {everywhere, config.Config{Auth: logins, Access: config.Access{Preset: "open", On: true}}, []string{"warning: no login is asked"}, ""},
		"LDAP":            {everywhere, config.Config{Auth: directory}, []string{" · all who reach it, with a login\n", "without TLS"}, "no login"},
		"token server":    {everywhere, config.Config{Auth: config.Auth{Token: &config.TokenAuth{Issuer: "auth server"}}}, []string{" · all who reach it, with a token of auth server\n"}, "warning"},
		"TLS": {everywhere, config.Config{Auth: logins, HTTP: config.HTTP{TLS: encrypted}},
			[]string{"https://localhost:5000 · ", "all who reach it, with a login\n"}, "without TLS"},
		"TLS, open": {everywhere, config.Config{HTTP: config.HTTP{TLS: encrypted}}, []string{"https://localhost:5000 · ", "warning: no login is asked"}, ""},
		"client certificates": {everywhere, config.Config{HTTP: config.HTTP{TLS: config.TLS{Certificate: "/none", Key: "/none", ClientCAs: []string{"/none"}}}},
			[]string{" · clients with a certificate\n"}, "no login"},
		"client certificates if given": {everywhere, config.Config{HTTP: config.HTTP{TLS: config.TLS{Certificate: "/none", ClientCAs: []string{"/none"}, ClientAuth: "verify-client-cert-if-given"}}},
			[]string{"warning: no login is asked"}, ""},
		"socket":       {socket, config.Config{HTTP: config.HTTP{Network: "unix"}}, []string{"unix:/run/regctl.sock · ", " · who may write to the socket\n", "push: through a proxy that passes /v2/ on to the socket\n"}, "warning"},
		"prefix":       {loopback, config.Config{HTTP: config.HTTP{Prefix: "/reg/"}}, []string{"http://127.0.0.1:5000/reg · ", "push: through a proxy that passes /v2/ on to /reg/v2/"}, ""},
		"host":         {loopback, config.Config{HTTP: config.HTTP{Host: "https://reg.example.com"}}, []string{"http://127.0.0.1:5000 · ", "push: docker tag IMAGE reg.example.com/NAME && docker push reg.example.com/NAME\n"}, ""},
		"host, prefix": {loopback, config.Config{HTTP: config.HTTP{Host: "https://reg.example.com", Prefix: "/reg/"}}, []string{"push reg.example.com/NAME\n"}, ""},
	} {
		env := newTestEnv(nil)
		env.Now = time.Now
		env.greet([]net.Addr{c.addr}, config.Place{}, &c.c)
		said := env.stderr.String()
		for _, want := range c.want {
			if !strings.Contains(said, want) {
				t.Errorf("%s: %q, want %q", name, said, want)
			}
		}
		if c.not != "" && strings.Contains(said, c.not) {
			t.Errorf("%s: %q has %q", name, said, c.not)
		}
	}
}

func TestNotAllowed(t *testing.T) {
	t.Parallel()
	denied := &os.SyscallError{Syscall: "bind", Err: syscall.EACCES}
	for _, c := range []struct {
		addr net.Addr
		want string
	}{
		{&net.TCPAddr{Port: 443}, "this user may not listen on port 443, as on none below 1024. Allow it: sudo setcap "},
		{&net.TCPAddr{Port: 443}, "; or take another: regctl serve --addr :8443"},
		{&net.TCPAddr{Port: 5000}, "listen on x: listen tcp :5000: bind: permission denied"},
		{&net.UnixAddr{Net: "unix", Name: "/x"}, "listen on x: listen tcp /x: bind: permission denied"},
	} {
		err := cannotServe(fmt.Errorf("listen on x: %w", &net.OpError{Op: "listen", Net: "tcp", Addr: c.addr, Err: denied}))
		if !strings.Contains(err.Error(), c.want) || exitStatus(err) != exitFailed || !errors.Is(err, syscall.EACCES) {
			t.Errorf("%v, status %d, want %q", err, exitStatus(err), c.want)
		}
	}
}

// TestServeWithCertificateAndLogins: --tls-cert, --tls-key and --htpasswd.
func TestServeWithCertificateAndLogins(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	made, err := cert.Self(filepath.Join(dir, "tls"), []string{"localhost", "127.0.0.1"}, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	users := filepath.Join(dir, "users")
	// "secret" at the least cost.
	line := "alice:$2y$04$VxCcSMmGXr1VSGcDq6WSpeaapLiBHaQMHtEbTuyBlCjxBFDgNUU8y\n"
	if err := os.WriteFile(users, []byte(line), 0o600); err != nil {
		t.Fatal(err)
	}
	env := newTestEnv(nil)
	env.Now = time.Now
	r := start(t, env, "--addr", "127.0.0.1:0", "--data", filepath.Join(dir, "store"),
		"--tls-cert", made.Certificate, "--tls-key", made.Key, "--htpasswd", users)
	if !strings.HasPrefix(r.greeting[0], "https://127.0.0.1:") || !strings.HasSuffix(r.greeting[0], " · this machine only, with a login") {
		t.Errorf("greeting %q", r.greeting)
	}
	pem, err := os.ReadFile(made.CA)
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(pem)
	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots}}
	defer transport.CloseIdleConnections()
	resp, err := (&http.Client{Transport: transport}).Get(r.url + "/v2/")
	if err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close()
	if got := resp.Header.Get("WWW-Authenticate"); resp.StatusCode != http.StatusUnauthorized || got != `Basic realm="regctl"` {
		t.Errorf("%s, %s", resp.Status, got)
	}
	r.end(t)
}

func TestServeFlagsOfTLS(t *testing.T) {
	t.Parallel()
	for args, want := range map[string]string{
		"--tls-cert x":        "--tls-cert and --tls-key go together",
		"--access publicpull": "--access publicpull is none of open, public-pull, private",
		"--tls-key x":         "--tls-cert and --tls-key go together",
		"--tls-cert /none.crt --tls-key /none.key":  "/none.crt: no such file",
		"--htpasswd /dev/null/x --addr 127.0.0.1:0": "/dev/null/x",
		"--tls-cert /dev/null --tls-key /dev/null":  "/dev/null is empty",
	} {
		env := newTestEnv(nil)
		status := Main(t.Context(), env.Env, append(strings.Fields("serve --data "+t.TempDir()), strings.Fields(args)...))
		if status == 0 || !strings.Contains(env.stderr.String(), want) {
			t.Errorf("%s: status %d: %s", args, status, env.stderr)
		}
	}
}

// TestServeAccess: --access is in force, and what is strange about it is told.
func TestServeAccess(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	users := filepath.Join(dir, "users")
	if err := os.WriteFile(users, []byte("alice:$2b$04$abcdefghijklmnopqrstuu2r9OfJnfCsdneAXAGHnS4UpFFP8WIrW\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	r := start(t, newTestEnv(nil), "--addr", "127.0.0.1:0", "--data", filepath.Join(dir, "store"), "--access", "public-pull", "--htpasswd", users)
	if !strings.HasSuffix(r.greeting[0], " · this machine only, with a login but for pulls") {
		t.Errorf("greeting %q", r.greeting)
	}
	for _, c := range []struct {
		method, path string
		status       int
		challenge    string
	}{
		{http.MethodGet, "/v2/", 401, `Bearer realm="` + r.url + `/v2/_token"`},
		{http.MethodGet, "/v2/app/manifests/v1", 404, ""},
		{http.MethodPost, "/v2/app/blobs/uploads/", 401, `scope="repository:app:pull,push"`},
	} {
		req, err := http.NewRequestWithContext(t.Context(), c.method, r.url+c.path, nil)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		_ = resp.Body.Close()
		if got := resp.Header.Get("WWW-Authenticate"); resp.StatusCode != c.status || !strings.Contains(got, c.challenge) {
			t.Errorf("%s %s: %s, %q", c.method, c.path, resp.Status, got)
		}
	}
	r.end(t)

	r = start(t, newTestEnv(nil), "--addr", "127.0.0.1:0", "--data", filepath.Join(dir, "store"), "--access", "private")
	r.end(t)
	if want := "warning: access: there is no auth, and so only robots can log in, see regctl token"; r.greeting[0] != want {
		t.Errorf("%q, want %q first", r.greeting, want)
	}
}
