package commands

import (
	"crypto/x509"
	"crypto/x509/pkix"
	"strings"
	"testing"
)

// TestTrustSystems: other systems have other steps.
func TestTrustSystems(t *testing.T) {
	t.Parallel()
	anchor := trusted{host: "reg.lan:5000", ca: []byte("CA\n"), source: "my ca.crt", root: t.TempDir()}
	for name, c := range map[string]struct {
		goos, client, want string
	}{
		"docker on macOS": {"darwin", "docker", "# docker: Docker Desktop must be restarted\nmkdir -p /Users/me/.docker/certs.d/reg.lan:5000\ncp 'my ca.crt' /Users/me/.docker/certs.d/reg.lan:5000/ca.crt\n"},
		"macOS":           {"darwin", "os", "# os: docker and containerd must be restarted\nsecurity add-trusted-cert -d -r trustRoot -k /Library/Keychains/System.keychain 'my ca.crt'\n"},
		"Windows":         {"windows", "os", "# os: docker and containerd must be restarted\ncertutil -addstore -f Root 'my ca.crt'\n"},
		"a strange Linux": {"linux", "os", ""},
	} {
		anchor.goos, anchor.home = c.goos, "/Users/me"
		steps, err := anchor.steps([]string{c.client})
		if got := trustScript(steps); got != c.want || (err != nil) != (c.want == "") {
			t.Errorf("%s: %v, got\n%swant\n%s", name, err, got, c.want)
		}
	}
	anchor.source, anchor.goos = "", "darwin"
	if _, err := anchor.steps([]string{"os"}); err == nil {
		t.Error("macOS: a CA without a file")
	}
	steps, err := anchor.steps([]string{"podman"})
	if got := trustScript(steps); err != nil || !strings.HasSuffix(got, "cat >/etc/containers/certs.d/reg.lan:5000/ca.crt <<'END'\nCA\nEND\n") {
		t.Errorf("without a file: %v, got %s", err, got)
	}
}

func TestShellQuote(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{"a/b:1": "a/b:1", "": "''", "a b": "'a b'", "it's": `'it'\''s'`, "$HOME": "'$HOME'", "[::1]:5000": "'[::1]:5000'"} {
		if got := shellQuote(in); got != want {
			t.Errorf("%q: got %s, want %s", in, got, want)
		}
	}
}

// TestTrustOfStrangeNames: what a server calls its CA does not reach the
// terminal as orders, in an answer that asks whether to trust it.
func TestTrustOfStrangeNames(t *testing.T) {
	t.Parallel()
	name := pkix.Name{CommonName: "good\x1b[2K\nname"}
	for _, c := range []*x509.Certificate{{Subject: name, IsCA: true}, {Issuer: name, RawIssuer: []byte("x")}} {
		_, err := caToTrust([]*x509.Certificate{c}, &certTrustOptions{What: "reg:5000"}, true)
		if err == nil || !strings.Contains(err.Error(), "good?[2K?name") {
			t.Errorf("%q", err)
		}
	}
}
