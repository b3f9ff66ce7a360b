package main_test

import (
	"crypto/tls"
	"crypto/x509"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/regctl/regctl/serve/cert"
)

// encrypted are servers with TLS, of one certificate.
type encrypted struct {
	made  cert.Made
	roots *x509.CertPool
}

func newEncrypted(tb testing.TB) *encrypted {
	tb.Helper()
	made, err := cert.Self(filepath.Join(tb.TempDir(), "tls"), []string{"localhost", "127.0.0.1"}, time.Now())
	if err != nil {
		tb.Fatal(err)
	}
	pem, err := os.ReadFile(made.CA)
	if err != nil {
		tb.Fatal(err)
	}
	e := &encrypted{made: made, roots: x509.NewCertPool()}
	if !e.roots.AppendCertsFromPEM(pem) {
		tb.Fatal("no CA")
	}
	return e
}

// start runs a server by its name, and returns it with a client.
func (e *encrypted) start(tb testing.TB, name string, h2 bool) (*server, *generator) {
	tb.Helper()
	var cmd *exec.Cmd
	var addr string
	if name == "docker-registry" {
		cmd, addr = dockerRegistryCommand(tb, tb.TempDir())
		cmd.Env = append(os.Environ(), "REGISTRY_HTTP_TLS_CERTIFICATE="+e.made.Certificate, "REGISTRY_HTTP_TLS_KEY="+e.made.Key)
	} else {
		bin, err := regctl()
		if err != nil {
			tb.Fatal(err)
		}
		addr = freeAddr(tb)
		cmd = exec.Command(bin, "serve", "--addr", addr, "--data", tb.TempDir(), "--tls-cert", e.made.Certificate, "--tls-key", e.made.Key)
		cmd.Env = []string{"HOME=" + tb.TempDir()}
	}
	s := launch(tb, cmd, func(string) {})
	s.addr = addr
	protocols := new(http.Protocols)
	protocols.SetHTTP1(!h2)
	protocols.SetHTTP2(h2)
	c := &generator{base: "https://" + addr, client: &http.Client{Transport: &http.Transport{
		TLSClientConfig: &tls.Config{RootCAs: e.roots}, Protocols: protocols, MaxIdleConnsPerHost: 16,
		DisableCompression: true, ReadBufferSize: 256 << 10, WriteBufferSize: 256 << 10,
	}}}
	s.await(tb, func() error { return c.do(http.MethodGet, "/v2/", nil, http.StatusOK) })
	return s, c
}

// BenchmarkTLS is what encryption costs: manifests, which are many small
// answers, and blobs, which no kernel can send by itself then.
func BenchmarkTLS(b *testing.B) {
	e := newEncrypted(b)
	for _, protocol := range []string{"HTTP1", "HTTP2"} {
		for _, name := range []string{"regctl", "docker-registry"} {
			b.Run("ManifestByTag/"+protocol+"/"+name, func(b *testing.B) {
				s, c := e.start(b, name, protocol == "HTTP2")
				c.pushImage(b, "bench/app", "latest", random(1, 100))
				measure(b, s, 8, func(int64) error {
					return c.do(http.MethodGet, "/v2/bench/app/manifests/latest", nil, http.StatusOK)
				})
			})
			b.Run("PullBlob10MiB/"+protocol+"/"+name, func(b *testing.B) {
				s, c := e.start(b, name, protocol == "HTTP2")
				d := c.pushBlob(b, "bench/app", random(1, blobSize))
				b.SetBytes(blobSize)
				measure(b, s, 2, func(int64) error {
					return c.do(http.MethodGet, "/v2/bench/app/blobs/"+d, nil, http.StatusOK)
				})
			})
		}
	}
}
