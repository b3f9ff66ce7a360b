//go:build unix

package commands

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/regctl/regctl/serve/cert"
	"github.com/regctl/regctl/serve/config"
)

// TestServeTLSSelf: a certificate is made, told of, and renewed while it
// serves, so that a client that trusts the CA sees nothing of it.
func TestServeTLSSelf(t *testing.T) {
	t.Parallel()
	home := t.TempDir()
	env := newTestEnv(nil, "HOME="+home)
	env.Home = home
	var now atomic.Pointer[time.Time]
	at := env.Now()
	now.Store(&at)
	env.Now = func() time.Time { return *now.Load() }
	ticks := make(chan time.Time)
	env.After = func(d time.Duration) <-chan time.Time {
		if d == renewals {
			return ticks
		}
		return soon(d)
	}
	r := start(t, env, "--addr", "127.0.0.1:0", "--data", filepath.Join(home, "store"), "--tls", "self", "--tls-name", "reg.lan")
	ca, err := os.ReadFile(filepath.Join(home, "store/.regctl/tls/ca.crt"))
	if err != nil {
		t.Fatal(err)
	}
	if !strings.HasPrefix(r.greeting[0], "https://127.0.0.1:") {
		t.Errorf("greeting %q", r.greeting)
	}
	first := certOf(t, r.url, ca, *now.Load())
	late := at.Add(300 * 24 * time.Hour)
	now.Store(&late)
	if err := first.VerifyHostname("reg.lan"); err != nil {
		t.Error(err)
	}
	ticks <- late // Looks.
	ticks <- late // Has looked.
	second := certOf(t, r.url, ca, late)
	if second.SerialNumber.Cmp(first.SerialNumber) == 0 || !second.NotAfter.After(first.NotAfter) {
		t.Errorf("it is good until %s, as before", second.NotAfter)
	}
	ticks <- late
	if third := certOf(t, r.url, ca, late); third.SerialNumber.Cmp(second.SerialNumber) != 0 {
		t.Error("renewed again")
	}
	r.end(t)
}

// certOf is what a server shows to a client that trusts a CA.
func certOf(t *testing.T, url string, ca []byte, now time.Time) *x509.Certificate {
	t.Helper()
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(ca) {
		t.Fatal("no CA")
	}
	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots, Time: func() time.Time { return now }}}
	defer transport.CloseIdleConnections()
	resp, err := (&http.Client{Transport: transport}).Get(url + "/v2/")
	if err != nil {
		t.Fatal(err)
	}
	_, _ = io.Copy(io.Discard, resp.Body)
	resp.Body.Close()
	return resp.TLS.PeerCertificates[0]
}

func TestOwnTLSGreeting(t *testing.T) {
	t.Parallel()
	env := newTestEnv(nil)
	env.Home = t.TempDir()
	var c config.Config
	c.HTTP.Host = "https://front.lan:8443/registry"
	for name, tt := range map[string]struct {
		addr, host string
		names      []string
	}{
		"all":         {"0.0.0.0:5000", "reg.lan:5000", []string{"reg.lan", "other.lan"}},
		"wildcard":    {"[::]:5000", "reg.lan:5000", []string{"*.lan", "reg.lan"}},
		"by host":     {"[::]:5000", "front.lan:5000", nil},
		"one":         {"192.168.1.5:5000", "192.168.1.5:5000", []string{"reg.lan"}},
		"loopback":    {"127.0.0.1:5001", "localhost:5001", []string{"reg.lan"}},
		"HTTPS":       {"0.0.0.0:443", "reg.lan", []string{"reg.lan"}},
		"IP and port": {"192.168.1.5:443", "192.168.1.5", []string{"reg.lan"}},
	} {
		store := filepath.Join(env.Home, name)
		own, err := newOwnTLS(env.Env, &ownTLSOptions{TLS: "self", TLSNames: tt.names}, &c, store, slog.New(slog.DiscardHandler))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := own.certifier(t.Context())(); err != nil {
			t.Fatal(err)
		}
		addr, err := net.ResolveTCPAddr("tcp", tt.addr)
		if err != nil {
			t.Fatal(err)
		}
		env.stderr.Reset()
		own.greet([]net.Addr{addr})
		want := "copy ~/" + name + "/.regctl/tls/ca.crt to /etc/docker/certs.d/" + tt.host + "/ca.crt on each client\n" +
			"or, there: regctl cert trust " + tt.host + " --fingerprint sha256:X --write\n"
		if got := regexp.MustCompile(`sha256:[0-9a-f]{64}`).ReplaceAllString(env.stderr.String(), "sha256:X"); got != want {
			t.Errorf("%s: got\n%swant\n%s", name, got, want)
		}
		for _, n := range append(tt.names, "front.lan", "localhost") {
			if !slices.Contains(own.names(t.Context()), n) {
				t.Errorf("%s: it is not for %s", name, n)
			}
		}
	}
}

// TestOwnTLSRenewalFails: it is told, and the server goes on.
func TestOwnTLSRenewalFails(t *testing.T) {
	t.Parallel()
	env := newTestEnv(nil)
	var log strings.Builder
	own := &ownTLS{env: env.Env, log: slog.New(slog.NewTextHandler(&log, nil)), dir: t.TempDir(), names: func(context.Context) []string { return []string{"reg.lan"} }}
	own.renew(t.Context())
	if !strings.Contains(log.String(), "level=INFO") {
		t.Errorf("log: %s", &log)
	}
	log.Reset()
	own.renew(t.Context())
	if log.Len() > 0 {
		t.Errorf("log: %s", &log)
	}
	if err := os.WriteFile(filepath.Join(own.dir, "ca.crt"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	own.renew(t.Context())
	if !strings.Contains(log.String(), "level=ERROR") || !strings.Contains(log.String(), "ca.crt: the file is empty") {
		t.Errorf("log: %s", &log)
	}
	log.Reset()
	own.renew(t.Context())
	if log.Len() > 0 {
		t.Errorf("told again at once: %s", &log)
	}
	tomorrow := env.Now().Add(24 * time.Hour)
	env.Now = func() time.Time { return tomorrow }
	own.renew(t.Context())
	if !strings.Contains(log.String(), "level=ERROR") {
		t.Errorf("log: %s", &log)
	}
	var none *ownTLS
	if none.certifier(t.Context()) != nil {
		t.Error("a certificate is made that nobody asked for")
	}
	none.greet(nil)
	none.keep(t.Context())()
	if env.stderr.Len() > 0 {
		t.Error(env.stderr)
	}
}

// TestOwnTLSKept: a certificate that is good serves on, though it is to be
// renewed and cannot.
func TestOwnTLSKept(t *testing.T) {
	t.Parallel()
	env := newTestEnv(nil)
	store := t.TempDir()
	own, err := newOwnTLS(env.Env, &ownTLSOptions{TLS: "self"}, &config.Config{}, store, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	first, err := own.certifier(t.Context())()
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(filepath.Join(store, ".regctl/tls/ca.key")); err != nil {
		t.Fatal(err)
	}
	later := env.Now().Add(300 * 24 * time.Hour)
	env.Now = func() time.Time { return later }
	again, err := own.certifier(t.Context())()
	if err != nil || again.Certificate != first.Certificate || again.Key != first.Key {
		t.Errorf("%v, %+v, was %+v", err, again, first)
	}
	if got := env.stderr.String(); !strings.HasPrefix(got, "warning: the certificate is to be renewed, and cannot: ") {
		t.Errorf("said %q", got)
	}
}

// TestServeWarnsOfTLS: what clients refuse is told at the start.
func TestServeWarnsOfTLS(t *testing.T) {
	t.Parallel()
	env := newTestEnv(nil)
	made, err := cert.Self(t.TempDir(), []string{"reg.lan"}, env.Now().Add(-380*24*time.Hour))
	if err != nil {
		t.Fatal(err)
	}
	leaf := filepath.Join(t.TempDir(), "leaf.crt")
	other, err := cert.Self(t.TempDir(), []string{"reg.lan"}, env.Now())
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(other.Certificate, leaf); err != nil {
		t.Fatal(err)
	}
	env.warnOfTLS(config.TLS{Certificate: made.Certificate, Key: made.Key, ClientCAs: []string{made.CA, leaf}})
	want := "warning: " + made.Certificate + ": the certificate ends on 2026-12-07, in 16 days. Try: regctl cert renew\n" +
		"warning: " + leaf + ": CN=reg.lan is no CA, and can vouch only for itself\n"
	if got := env.stderr.String(); got != want {
		t.Errorf("got %s, want %s…", got, want)
	}
	env.stderr.Reset()
	env.warnOfTLS(config.TLS{})
	if env.stderr.Len() > 0 {
		t.Error(env.stderr)
	}
}

func TestMachineNames(t *testing.T) {
	t.Parallel()
	names := machineNames(t.Context())
	for _, want := range []string{"localhost", "127.0.0.1"} {
		if !slices.Contains(names, want) {
			t.Errorf("%q lacks %s", names, want)
		}
	}
	if got := validNames([]string{"A.lan", "a b", "a.lan", "::1", "10.0.0.1"}); !slices.Equal(got, []string{"a.lan", "::1", "10.0.0.1"}) {
		t.Errorf("got %q", got)
	}
}
