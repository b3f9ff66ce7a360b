package client

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"io"
	"log"
	"math/big"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/regctl/regctl/client/oci"
)

// secure starts a registry in HTTPS that wants to see a certificate if mutual
// says so, and returns its certificate in PEM.
func secure(t *testing.T, mutual bool) (host string, ca []byte) {
	t.Helper()
	server := httptest.NewUnstartedServer(http.HandlerFunc(echo("hello")))
	server.Config.ErrorLog = log.New(io.Discard, "", 0) // Of handshakes that are meant to fail.
	if mutual {
		server.TLS = &tls.Config{ClientAuth: tls.RequireAnyClientCert}
	}
	server.StartTLS()
	t.Cleanup(server.Close)
	return server.Listener.Addr().String(), pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw})
}

// pair makes a certificate and its key in PEM.
func pair(t *testing.T) (cert, key []byte) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, private.Public(), private)
	if err != nil {
		t.Fatal(err)
	}
	raw, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: raw})
}

// files writes what is in all below a new directory.
func files(t *testing.T, all map[string][]byte) (dir string) {
	t.Helper()
	dir = t.TempDir()
	for name, raw := range all {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, raw, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func check(t *testing.T, host string, o Options) error {
	t.Helper()
	c, err := New("https://"+host, o)
	if err != nil {
		t.Fatal(err)
	}
	return c.Check(t.Context())
}

// TestCertificates: of authorities and of our own, by file and by directory.
func TestCertificates(t *testing.T) {
	t.Parallel()
	host, ca := secure(t, false)
	mutual, mutualCA := secure(t, true)
	cert, key := pair(t)
	dir := files(t, map[string][]byte{
		"ca.pem": append(ca, mutualCA...), "me.pem": append(cert, key...), "cert": cert, "key": key,
		"d/" + host + "/any.crt": ca, "d/" + mutual + "/ca.crt": mutualCA, "d/" + mutual + "/me.cert": cert, "d/" + mutual + "/me.key": key,
	})
	at := func(name string) string { return filepath.Join(dir, name) }
	for name, o := range map[string]Options{
		"file": {CAs: []string{at("ca.pem")}}, "directory": {CertDirs: []string{at("none"), at("d")}}, "insecure": {Insecure: true},
	} {
		if err := check(t, host, o); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	for name, o := range map[string]Options{
		"two files": {CAs: []string{at("ca.pem")}, Cert: at("cert"), Key: at("key")}, "one file": {CAs: []string{at("ca.pem")}, Cert: at("me.pem")},
		"directory": {CertDirs: []string{at("d")}}, "insecure": {Insecure: true, CertDirs: []string{at("d")}},
	} {
		if err := check(t, mutual, o); err != nil {
			t.Errorf("mutual, %s: %v", name, err)
		}
	}
	if err := check(t, mutual, Options{CAs: []string{at("ca.pem")}}); !errors.Is(err, oci.Unavailable) {
		t.Errorf("without a certificate: %v", err)
	}
	for name, o := range map[string]Options{
		"missing": {CAs: []string{at("none")}}, "no certificate": {CAs: []string{at("key")}}, "missing key": {Cert: at("cert")}, "key only": {Key: at("key")},
	} {
		if _, err := New(host, o); err == nil || !strings.Contains(err.Error(), dir) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestUnknownAuthority: the error says which file was not read, or where one
// would be.
func TestUnknownAuthority(t *testing.T) {
	t.Parallel()
	host, ca := secure(t, false)
	dir := files(t, map[string][]byte{"d/" + host + "/ca.pem": ca})
	at := filepath.Join(dir, "d", host)
	for want, dirs := range map[string][]string{
		"certificate signed by unknown authority":                                                                                  nil,
		"certificate signed by unknown authority; " + at + "/ca.pem is not read: its name must end in .crt":                        {filepath.Join(dir, "d")},
		"certificate signed by unknown authority; the certificate of its authority is read from " + dir + "/e/" + host + "/ca.crt": {filepath.Join(dir, "e")},
	} {
		err := check(t, host, Options{CertDirs: dirs})
		if !errors.Is(err, oci.Unavailable) || err.Error() != host+": "+want {
			t.Errorf("got  %v\nwant %s", err, want)
		}
	}
}

// TestDirectoriesThatCannotBeRead: are told, and stop nothing.
func TestDirectoriesThatCannotBeRead(t *testing.T) {
	t.Parallel()
	host, ca := secure(t, false)
	cert, _ := pair(t)
	dir := files(t, map[string][]byte{
		"broken/" + host + "/a.crt": []byte("nothing"), "broken/" + host + "/b.cert": cert, "broken/" + host + "/c.crt": ca,
		"file/" + host: {},
	})
	var warned []string
	c, err := New("https://"+host, Options{
		CertDirs: []string{filepath.Join(dir, "broken"), filepath.Join(dir, "file")},
		Warn:     func(err error) { warned = append(warned, err.Error()) },
	})
	if err != nil || len(warned) > 0 {
		t.Fatalf("warned %q by New, %v", warned, err)
	}
	if err := errors.Join(c.Check(t.Context()), c.Check(t.Context())); err != nil {
		t.Errorf("the good one was not used: %v", err)
	}
	if len(warned) != 2 || !strings.Contains(warned[0], "a.crt has no certificate") || !strings.Contains(warned[0], "b.key") ||
		!strings.HasSuffix(warned[1], "; going on without it") {
		t.Errorf("warned %q", warned)
	}
}

// TestWrap: sees the requests, with the certificates in place.
func TestWrap(t *testing.T) {
	t.Parallel()
	host, ca := secure(t, false)
	dir := files(t, map[string][]byte{"ca.pem": ca})
	var seen []string
	err := check(t, host, Options{CAs: []string{filepath.Join(dir, "ca.pem")}, Wrap: func(inner http.RoundTripper) http.RoundTripper {
		return roundTrip(func(r *http.Request) (*http.Response, error) {
			seen = append(seen, r.Method+" "+r.URL.Path)
			return inner.RoundTrip(r)
		})
	}})
	if err != nil || len(seen) != 2 {
		t.Errorf("seen %q, %v", seen, err)
	}
}

// TestOneConnectionForEachBlob: also with a server that would rather have all
// on one.
func TestOneConnectionForEachBlob(t *testing.T) {
	t.Parallel()
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Proto != "HTTP/1.1" {
			t.Errorf("%s is asked for in %s", r.URL.Path, r.Proto)
		}
	}))
	server.EnableHTTP2 = true
	server.StartTLS()
	t.Cleanup(server.Close)
	if err := check(t, server.Listener.Addr().String(), Options{Insecure: true}); err != nil {
		t.Error(err)
	}
}
