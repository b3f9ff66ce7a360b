package serve

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/regctl/regctl/serve/config"
)

// rotation is a certificate in files that change, by a clock of its own.
type rotation struct {
	t     *testing.T
	ca    *issuer
	c     *certificates
	files []string
	log   *logBuffer
	clock atomic.Int64
}

func newRotation(t *testing.T) *rotation {
	t.Helper()
	r := &rotation{t: t, ca: newIssuer(t), log: &logBuffer{}}
	r.clock.Store(time.Now().UnixNano())
	certPEM, keyPEM := r.ca.leaf()
	r.files = pemFiles(t, certPEM, keyPEM)
	var err error
	r.c, err = newCertificates(r.files[0], r.files[1], func() time.Time { return time.Unix(0, r.clock.Load()) }, r.log.text())
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// pass lets time pass.
func (r *rotation) pass(d time.Duration) { r.clock.Add(int64(d)) }

// replace puts a new file in the place of one, as those do that renew them.
func (r *rotation) replace(file int, content string) {
	r.t.Helper()
	next := r.files[file] + ".new"
	if err := os.WriteFile(next, []byte(content), 0o600); err != nil {
		r.t.Fatal(err)
	}
	if err := os.Rename(next, r.files[file]); err != nil {
		r.t.Fatal(err)
	}
}

// serial is that of the certificate that a client gets.
func (r *rotation) serial() int64 {
	r.t.Helper()
	got, err := r.c.GetCertificate(&tls.ClientHelloInfo{})
	if err != nil {
		r.t.Fatal(err)
	}
	return got.Leaf.SerialNumber.Int64()
}

// complaints are the errors in the log.
func (r *rotation) complaints() int { return strings.Count(r.log.String(), "level=ERROR") }

func TestCertificatesChange(t *testing.T) {
	t.Parallel()
	r := newRotation(t)
	was := r.serial()
	certPEM, keyPEM := r.ca.leaf()
	r.replace(0, certPEM)
	r.replace(1, keyPEM)
	if r.pass(lookPause - 1); r.serial() != was {
		t.Error("the files were looked at before their time")
	}
	if r.pass(1); r.serial() == was {
		t.Error("the certificate is the old one")
	}
	if log := r.log.String(); !strings.Contains(log, "has changed and is in use") || r.complaints() > 0 {
		t.Error(log)
	}
	now := r.serial()
	if r.pass(-time.Hour); r.serial() != now { // The clock was set.
		t.Error("another certificate")
	}
	certPEM, keyPEM = r.ca.leaf()
	r.replace(0, certPEM)
	r.replace(1, keyPEM)
	if r.pass(lookPause); r.serial() == now {
		t.Error("nothing is looked at any more since the clock was set")
	}
}

// TestCertificatesHalfChanged: a pair that does not fit is not taken. That is
// told, but not between the first file and the second, and once.
func TestCertificatesHalfChanged(t *testing.T) {
	t.Parallel()
	r := newRotation(t)
	was := r.serial()
	certPEM, keyPEM := r.ca.leaf()
	r.replace(0, certPEM)
	r.pass(lookPause)
	if r.serial() != was || r.complaints() > 0 {
		t.Errorf("after the first file: %s", r.log)
	}
	for range 3 {
		r.pass(lookPause)
		if r.serial() != was || r.complaints() != 1 {
			t.Errorf("the second file does not come: %s", r.log)
		}
	}
	if log := r.log.String(); !strings.Contains(log, r.files[1]) || !strings.Contains(log, "is not that of the certificate") {
		t.Error(log)
	}
	r.replace(1, keyPEM)
	if r.pass(lookPause); r.serial() == was || r.complaints() != 1 {
		t.Errorf("after the second file: %s", r.log)
	}
}

func TestCertificatesGone(t *testing.T) {
	t.Parallel()
	r := newRotation(t)
	was := r.serial()
	raw, err := os.ReadFile(r.files[0])
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(r.files[0]); err != nil {
		t.Fatal(err)
	}
	for range 4 {
		if r.pass(lookPause); r.serial() != was {
			t.Error("another certificate")
		}
	}
	if r.complaints() != 1 || !strings.Contains(r.log.String(), "no such file") {
		t.Error(r.log)
	}
	r.replace(0, string(raw))
	for range 2 {
		if r.pass(lookPause); r.serial() != was || r.complaints() != 1 {
			t.Error(r.log)
		}
	}
}

// TestCertificatesAtOnce: clients that come while files change get one or the
// other.
func TestCertificatesAtOnce(t *testing.T) {
	t.Parallel()
	r := newRotation(t)
	var all sync.WaitGroup
	for range 4 {
		all.Go(func() {
			for range 200 {
				r.serial()
			}
		})
	}
	for range 5 {
		certPEM, keyPEM := r.ca.leaf()
		r.replace(0, certPEM)
		r.replace(1, keyPEM)
		r.pass(lookPause)
	}
	all.Wait()
	was := r.serial()
	if r.pass(lookPause); r.serial() < was {
		t.Error("an old certificate came back")
	}
}

// TestTLSErrors: what is wrong with which file.
func TestTLSErrors(t *testing.T) {
	t.Parallel()
	ca := newIssuer(t)
	certPEM, keyPEM := ca.leaf()
	_, otherKey := ca.leaf()
	der, _ := pem.Decode([]byte(certPEM))
	keyDER, _ := pem.Decode([]byte(keyPEM))
	encrypted := string(pem.EncodeToMemory(&pem.Block{Type: "ENCRYPTED PRIVATE KEY", Bytes: []byte("x")}))
	oldEncrypted := "-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: AES-128-CBC,00\n\nAAAA\n-----END RSA PRIVATE KEY-----\n"
	for name, tt := range map[string]struct{ cert, key, want string }{
		"another key":   {certPEM, otherKey, "the key in B is not that of the certificate in A; the server's own certificate must come first in its file"},
		"the CA first":  {ca.pem() + certPEM, keyPEM, "the key in B is not that of the certificate in A"},
		"swapped":       {keyPEM, certPEM, "A has no CERTIFICATE in it, but PRIVATE KEY"},
		"no key":        {certPEM, certPEM, "B has no PRIVATE KEY in it, but CERTIFICATE"},
		"empty":         {"", keyPEM, "A is empty"},
		"empty key":     {certPEM, " \n", "B is empty"},
		"DER":           {string(der.Bytes), keyPEM, "A is not PEM; if it is DER: openssl x509"},
		"DER key":       {certPEM, string(keyDER.Bytes), "B is not PEM; if it is DER: openssl pkey"},
		"encrypted":     {certPEM, encrypted, "B is encrypted, and nobody is there to ask for the passphrase"},
		"old encrypted": {certPEM, oldEncrypted, "B is encrypted"},
		"broken":        {"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", keyPEM, "certificate A, key B: "},
	} {
		f := pemFiles(t, tt.cert, tt.key)
		_, err := newTLS(config.TLS{Certificate: f[0], Key: f[1]}, time.Now, slog.New(slog.DiscardHandler))
		var wrong *ConfigError
		if !errors.As(err, &wrong) {
			t.Errorf("%s: %v", name, err)
			continue
		}
		got := strings.NewReplacer(f[0], "A", f[1], "B").Replace(err.Error())
		if !strings.HasPrefix(got, "http.tls: "+tt.want) {
			t.Errorf("%s: %s, want %s", name, got, tt.want)
		}
	}
}

func TestTLSFilesMissing(t *testing.T) {
	t.Parallel()
	certPEM, keyPEM := newIssuer(t).leaf()
	f := pemFiles(t, certPEM, keyPEM)
	none := filepath.Join(t.TempDir(), "none")
	for _, c := range []config.TLS{
		{Certificate: none, Key: f[1]}, {Certificate: f[0], Key: none}, {Certificate: f[0], Key: f[1], ClientCAs: []string{none}},
	} {
		_, err := newTLS(c, time.Now, slog.New(slog.DiscardHandler))
		if !errors.Is(err, fs.ErrNotExist) || !strings.Contains(err.Error(), none) {
			t.Errorf("%+v: %v", c, err)
		}
	}
	for _, c := range []config.TLS{
		{Certificate: f[0], Key: f[1], ClientCAs: []string{f[1]}},
		{Certificate: f[0], Key: f[1], ClientCAs: []string{f[0]}, ClientAuth: "sometimes"},
	} {
		if _, err := newTLS(c, time.Now, slog.New(slog.DiscardHandler)); err == nil {
			t.Errorf("%+v: no error", c)
		}
	}
}

// TestECKeyOfOpenSSL: a key file may begin with the parameters of the curve.
func TestECKeyOfOpenSSL(t *testing.T) {
	t.Parallel()
	ca := newIssuer(t)
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	_, cert := ca.sign(&x509.Certificate{DNSNames: []string{"localhost"}}, key)
	der, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	params := string(pem.EncodeToMemory(&pem.Block{Type: "EC PARAMETERS", Bytes: []byte{6, 8, 42, 134, 72, 206, 61, 3, 1, 7}}))
	f := pemFiles(t, string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert.Raw})),
		params+string(pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: der})))
	if _, err := loadPair(f[0], f[1]); err != nil {
		t.Error(err)
	}
}
