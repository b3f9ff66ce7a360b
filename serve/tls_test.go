package serve

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/regctl/regctl/serve/config"
)

// issuer is a CA of a test.
type issuer struct {
	t    *testing.T
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	next int64

	lastCert, lastKey string // The leaf made last.
}

func newIssuer(t *testing.T) *issuer {
	t.Helper()
	i := &issuer{t: t, next: 2}
	i.key, i.cert = i.make(&x509.Certificate{
		Subject: pkix.Name{CommonName: "CA of a test"}, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	})
	return i
}

// make makes a certificate, by itself or by the CA.
func (i *issuer) make(c *x509.Certificate) (*ecdsa.PrivateKey, *x509.Certificate) {
	i.t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		i.t.Fatal(err)
	}
	return i.sign(c, key)
}

// sign makes a certificate of a key.
func (i *issuer) sign(c *x509.Certificate, key *ecdsa.PrivateKey) (*ecdsa.PrivateKey, *x509.Certificate) {
	i.t.Helper()
	i.next++
	c.SerialNumber, c.NotBefore, c.NotAfter = big.NewInt(i.next), time.Now().Add(-time.Hour), time.Now().Add(24*time.Hour)
	parent, by := i.cert, i.key
	if parent == nil {
		parent, by = c, key
	}
	der, err := x509.CreateCertificate(rand.Reader, c, parent, key.Public(), by)
	if err != nil {
		i.t.Fatal(err)
	}
	made, err := x509.ParseCertificate(der)
	if err != nil {
		i.t.Fatal(err)
	}
	return key, made
}

// leaf makes a certificate of a server or a client on this machine.
func (i *issuer) leaf() (certPEM, keyPEM string) {
	i.t.Helper()
	key, cert := i.make(&x509.Certificate{
		Subject: pkix.Name{CommonName: "leaf"}, DNSNames: []string{"localhost"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	})
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		i.t.Fatal(err)
	}
	i.lastCert = string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert.Raw}))
	i.lastKey = string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}))
	return i.lastCert, i.lastKey
}

func (i *issuer) pem() string {
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: i.cert.Raw}))
}

func (i *issuer) pool() *x509.CertPool {
	p := x509.NewCertPool()
	p.AddCert(i.cert)
	return p
}

// pemFiles writes contents into a new directory and returns the paths.
func pemFiles(t *testing.T, contents ...string) []string {
	t.Helper()
	dir := t.TempDir()
	paths := make([]string, len(contents))
	for i, c := range contents {
		paths[i] = filepath.Join(dir, string(rune('a'+i))+".pem")
		if err := os.WriteFile(paths[i], []byte(c), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return paths
}

// serveTLS assembles a registry in memory with the section http, and serves it.
func serveTLS(t *testing.T, h config.HTTP) (addr string) {
	t.Helper()
	h.Addrs = []string{"127.0.0.1:0"}
	ctx, stop := context.WithCancel(t.Context())
	a, err := Assemble(ctx, Parts{Config: &config.Config{HTTP: h, Storage: config.Storage{Deletes: true}}})
	if err != nil {
		stop()
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- a.Serve(ctx) }()
	t.Cleanup(func() {
		stop()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return a.Addrs()[0].String()
}

func clientOf(t *testing.T, c *tls.Config, h2 bool) *http.Client {
	t.Helper()
	p := new(http.Protocols)
	p.SetHTTP1(true)
	p.SetHTTP2(h2)
	tr := &http.Transport{TLSClientConfig: c, Protocols: p}
	t.Cleanup(tr.CloseIdleConnections)
	return &http.Client{Transport: tr}
}

func TestServeTLS(t *testing.T) {
	t.Parallel()
	ca := newIssuer(t)
	certPEM, keyPEM := ca.leaf()
	f := pemFiles(t, certPEM, keyPEM)
	for _, tt := range []struct {
		name   string
		off    bool
		h2     bool
		proto  string
		client uint16
	}{
		{name: "HTTP/1.1", proto: "HTTP/1.1"},
		{name: "HTTP/2", h2: true, proto: "HTTP/2.0"},
		{name: "HTTP/2 off", off: true, h2: true, proto: "HTTP/1.1"},
		{name: "TLS 1.2", h2: true, client: tls.VersionTLS12, proto: "HTTP/2.0"},
		{name: "TLS 1.1", client: tls.VersionTLS11},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			addr := serveTLS(t, config.HTTP{TLS: config.TLS{Certificate: f[0], Key: f[1]}, HTTP2Off: tt.off})
			c := clientOf(t, &tls.Config{RootCAs: ca.pool(), MinVersion: tls.VersionTLS10, MaxVersion: tt.client}, tt.h2)
			resp, err := c.Get("https://" + addr + "/v2/")
			if tt.proto == "" {
				if err == nil || !strings.Contains(err.Error(), "protocol version") {
					t.Errorf("%v, %v", resp, err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			defer resp.Body.Close()
			if resp.StatusCode != 200 || resp.Proto != tt.proto {
				t.Errorf("%s %s", resp.Proto, resp.Status)
			}
		})
	}
}

// TestClientCertificates: the four modes of http.tls.clientauth, by what they
// take: no certificate, one of a stranger, one of the CA.
func TestClientCertificates(t *testing.T) {
	t.Parallel()
	ca, stranger := newIssuer(t), newIssuer(t)
	certPEM, keyPEM := ca.leaf()
	f := pemFiles(t, certPEM, keyPEM, ca.pem())
	pair := func(i *issuer) []tls.Certificate {
		c, err := tls.X509KeyPair([]byte(i.lastCert), []byte(i.lastKey))
		if err != nil {
			t.Fatal(err)
		}
		return []tls.Certificate{c}
	}
	ca.leaf()
	stranger.leaf()
	own, strange := pair(ca), pair(stranger)
	for mode, want := range map[string][3]bool{
		"":                               {false, false, true},
		"require-and-verify-client-cert": {false, false, true},
		"verify-client-cert-if-given":    {true, false, true},
		"require-any-client-cert":        {false, true, true},
		"request-client-cert":            {true, true, true},
	} {
		addr := serveTLS(t, config.HTTP{TLS: config.TLS{Certificate: f[0], Key: f[1], ClientCAs: f[2:], ClientAuth: mode}})
		for i, certs := range [][]tls.Certificate{nil, strange, own} {
			// Also a certificate that the server did not ask for is sent.
			give := func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
				if len(certs) == 0 {
					return new(tls.Certificate), nil
				}
				return &certs[0], nil
			}
			c := clientOf(t, &tls.Config{RootCAs: ca.pool(), GetClientCertificate: give}, true)
			resp, err := c.Get("https://" + addr + "/v2/")
			if err == nil {
				resp.Body.Close()
			}
			if (err == nil) != want[i] {
				t.Errorf("%q, certificate %d: %v", mode, i, err)
			}
		}
	}
}

func TestMinimumTLSAndCiphers(t *testing.T) {
	t.Parallel()
	ca := newIssuer(t)
	certPEM, keyPEM := ca.leaf()
	f := pemFiles(t, certPEM, keyPEM)
	const suite, other = tls.TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384, tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256
	for name, tt := range map[string]struct {
		min    uint16
		suites []uint16
		client *tls.Config
		ok     bool
	}{
		"1.3 of 1.3":      {tls.VersionTLS13, nil, &tls.Config{}, true},
		"1.2 of 1.3":      {tls.VersionTLS13, nil, &tls.Config{MaxVersion: tls.VersionTLS12}, false},
		"the suite":       {0, []uint16{suite}, &tls.Config{MaxVersion: tls.VersionTLS12, CipherSuites: []uint16{suite, other}}, true},
		"another suite":   {0, []uint16{suite}, &tls.Config{MaxVersion: tls.VersionTLS12, CipherSuites: []uint16{other}}, false},
		"of HTTP/1.1":     {0, []uint16{suite, tls.TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA}, &tls.Config{MaxVersion: tls.VersionTLS12, NextProtos: []string{"h2", "http/1.1"}}, true},
		"TLS 1.3 has own": {0, []uint16{suite}, &tls.Config{}, true},
	} {
		addr := serveTLS(t, config.HTTP{TLS: config.TLS{Certificate: f[0], Key: f[1], MinVersion: tt.min, CipherSuites: tt.suites}})
		tt.client.RootCAs = ca.pool()
		c, err := tls.Dial("tcp", addr, tt.client)
		if err == nil {
			if s := c.ConnectionState(); s.Version == tls.VersionTLS12 && s.CipherSuite != suite {
				t.Errorf("%s: cipher suite %x", name, s.CipherSuite)
			} else if name == "of HTTP/1.1" && s.NegotiatedProtocol != "http/1.1" {
				t.Errorf("%s: %s", name, s.NegotiatedProtocol)
			}
			c.Close()
		}
		if (err == nil) != tt.ok {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestH2C: HTTP/2 without TLS is spoken if it is asked for.
func TestH2C(t *testing.T) {
	t.Parallel()
	p := new(http.Protocols)
	p.SetUnencryptedHTTP2(true)
	for _, on := range []bool{true, false} {
		addr := serveTLS(t, config.HTTP{H2C: on})
		tr := &http.Transport{Protocols: p}
		t.Cleanup(tr.CloseIdleConnections)
		resp, err := (&http.Client{Transport: tr}).Get("http://" + addr + "/v2/")
		if err == nil {
			resp.Body.Close()
		}
		if (err == nil) != on || on && resp.Proto != "HTTP/2.0" {
			t.Errorf("h2c %v: %v, %v", on, resp, err)
		}
	}
}

// TestServeTLSOnSeveralAddresses: one certificate for all of them.
func TestServeTLSOnSeveralAddresses(t *testing.T) {
	t.Parallel()
	ca := newIssuer(t)
	certPEM, keyPEM := ca.leaf()
	f := pemFiles(t, certPEM, keyPEM)
	ctx, stop := context.WithCancel(t.Context())
	h := config.HTTP{Addrs: []string{"127.0.0.1:0", "127.0.0.1:0"}, TLS: config.TLS{Certificate: f[0], Key: f[1]}}
	a, err := Assemble(ctx, Parts{Config: &config.Config{HTTP: h}})
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- a.Serve(ctx) }()
	for _, at := range a.Addrs() {
		resp, err := clientOf(t, &tls.Config{RootCAs: ca.pool()}, true).Get("https://" + at.String() + "/v2/")
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
	}
	stop()
	if err := <-done; err != nil {
		t.Error(err)
	}
}
