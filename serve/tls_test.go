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
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert.Raw})),
		string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}))
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
