//go:build unix

package main_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/crypto/bcrypt"

	"github.com/regctl/regctl/client/oci"
)

// loaded is a server under load, and where what it reads is.
type loaded struct {
	*server
	dir   string
	roots *x509.CertPool
}

// replace puts a file in the place of another at once, as editors and
// certificate managers do.
func (l *loaded) replace(t *testing.T, name string, content []byte) {
	t.Helper()
	write(t, filepath.Join(l.dir, name+".new"), content)
	if err := os.Rename(filepath.Join(l.dir, name+".new"), filepath.Join(l.dir, name)); err != nil {
		t.Fatal(err)
	}
}

// certificate makes a new one, which clients trust besides those before.
func (l *loaded) certificate(t *testing.T, serial int64) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	now := time.Now()
	c := &x509.Certificate{
		SerialNumber: big.NewInt(serial), Subject: pkix.Name{CommonName: fmt.Sprint("test ", serial)},
		NotBefore: now.Add(-time.Hour), NotAfter: now.Add(24 * time.Hour), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
	}
	der, err := x509.CreateCertificate(rand.Reader, c, c, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	raw, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	if c, err = x509.ParseCertificate(der); err != nil {
		t.Fatal(err)
	}
	l.roots.AddCert(c)
	// Between the two the files do not fit together, which must hurt nobody.
	l.replace(t, "tls.key", pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: raw}))
	l.replace(t, "tls.crt", pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
	if err := os.Chmod(filepath.Join(l.dir, "tls.key"), 0o600); err != nil {
		t.Fatal(err)
	}
}

func (l *loaded) htpasswd(t *testing.T, users ...string) {
	t.Helper()
	var lines []byte
	for _, name := range users {
		hash, err := bcrypt.GenerateFromPassword([]byte("secret"), bcrypt.MinCost)
		if err != nil {
			t.Fatal(err)
		}
		lines = fmt.Appendf(lines, "%s:%s\n", name, hash)
	}
	l.replace(t, "htpasswd", lines)
}

func (l *loaded) config(t *testing.T, level, version string) {
	t.Helper()
	at := func(name string) string { return filepath.Join(l.dir, name) }
	l.replace(t, "config.yml", fmt.Appendf(nil, `version: 0.1
log: {level: %s}
storage: {filesystem: {rootdirectory: %q}}
http:
  addr: %s
  headers: {X-Version: [%s]}
  tls: {certificate: %q, key: %q}
auth: {htpasswd: {realm: test, path: %q}}
`, level, at("data"), l.addr, version, at("tls.crt"), at("tls.key"), at("htpasswd")))
}

// as is a client that trusts the server; a fresh one shakes hands anew for each
// request.
func (l *loaded) as(user string, fresh bool) wire {
	return wire{base: "https://" + user + ":secret@" + l.addr, client: &http.Client{Transport: &http.Transport{
		TLSClientConfig: &tls.Config{RootCAs: l.roots.Clone()}, DisableKeepAlives: fresh,
	}}}
}

// serial is that of the certificate that a new connection gets.
func (l *loaded) serial() (int64, error) {
	c, err := tls.Dial("tcp", l.addr, &tls.Config{InsecureSkipVerify: true})
	if err != nil {
		return 0, err
	}
	defer c.Close()
	return c.ConnectionState().PeerCertificates[0].SerialNumber.Int64(), nil
}

func startLoaded(t *testing.T) *loaded {
	t.Helper()
	l := &loaded{server: &server{addr: freeAddr(t)}, dir: t.TempDir(), roots: x509.NewCertPool()}
	l.certificate(t, 1)
	l.htpasswd(t, "alice", "carol")
	l.config(t, "error", "one")
	bin, err := regctl()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(bin, "serve", filepath.Join(l.dir, "config.yml"))
	cmd.Env = []string{"HOME=" + l.dir}
	addr := l.addr
	l.server = launch(t, cmd, func(string) {})
	l.addr = addr
	l.await(t, func() error { _, err := l.serial(); return err })
	return l
}

// TestChangesUnderLoad changes all that can change while eight push and eight
// pull: certificate, logins, log level, headers. None of them fails.
func TestChangesUnderLoad(t *testing.T) {
	t.Parallel()
	l := startLoaded(t)
	first, err := l.as("alice", true).image("team/app", random(1, 20_000), "first")
	if err != nil {
		t.Fatal(err)
	}
	next := &loaded{server: l.server, dir: t.TempDir(), roots: l.roots} // What it makes is trusted from now on.
	next.certificate(t, 2)

	stop, done := make(chan struct{}), sync.WaitGroup{}
	var count atomic.Int64
	for id := range 16 {
		w := l.as("alice", id%2 == 0)
		done.Go(func() {
			for n := 0; ; n++ {
				select {
				case <-stop:
					return
				default:
				}
				if err := work(w, id, n, first); err != nil {
					t.Errorf("%d, request %d: %v", id, n, err)
					return
				}
				count.Add(1)
			}
		})
	}
	defer done.Wait()
	defer close(stop)
	// some goes on until as many more were served.
	some := func() {
		t.Helper()
		from := count.Load()
		l.await(t, func() error {
			if now := count.Load(); now < from+40 && !t.Failed() {
				return fmt.Errorf("%d served", now-from)
			}
			return nil
		})
	}
	some()
	for _, name := range []string{"tls.key", "tls.crt"} {
		l.replace(t, name, []byte(read(t, filepath.Join(next.dir, name))))
	}
	l.await(t, func() error {
		if serial, err := l.serial(); err != nil || serial != 2 {
			return fmt.Errorf("certificate %d, %v", serial, err)
		}
		return nil
	})
	some()
	l.htpasswd(t, "alice", "bob")
	for user, want := range map[string]int{"bob": http.StatusOK, "carol": http.StatusUnauthorized} {
		l.await(t, func() error { _, err := l.as(user, false).want(want, http.MethodGet, "/v2/", "", nil); return err })
	}
	some()
	if log := l.log.String(); strings.Contains(log, "level=debug") {
		t.Errorf("the level is error, and there is\n%s", log)
	}
	l.config(t, "debug", "two")
	l.await(t, func() error {
		// One that does not trust it is told at level debug.
		if c, err := tls.Dial("tcp", l.addr, &tls.Config{RootCAs: x509.NewCertPool(), ServerName: "127.0.0.1"}); err == nil {
			c.Close()
		}
		if !strings.Contains(l.log.String(), "level=debug") {
			return fmt.Errorf("nothing is told at level debug")
		}
		a, err := l.as("alice", false).want(http.StatusOK, http.MethodGet, "/v2/", "", nil)
		if err == nil && a.header.Get("X-Version") != "two" {
			err = fmt.Errorf("the header is %q", a.header.Get("X-Version"))
		}
		return err
	})
	some()
}

// TestTERMUnderLoad ends the server in the middle of pushes, twice, while
// nobody takes its notifications: it ends in order, and all that it has
// acknowledged is there.
func TestTERMUnderLoad(t *testing.T) {
	t.Parallel()
	a := &acked{images: map[string]oci.Digest{}, moving: map[string][2]oci.Digest{}, begun: map[string][]byte{}}
	dir := t.TempDir()
	config := filepath.Join(t.TempDir(), "config.yml")
	write(t, config, fmt.Appendf(nil, `version: 0.1
log: {accesslog: {disabled: true}}
storage: {filesystem: {rootdirectory: %q}, delete: {enabled: true}}
notifications: {endpoints: [{name: down, url: "http://%s/", timeout: 500ms, threshold: 3, backoff: 1s}]}
`, dir, freeAddr(t)))
	for round := range 2 {
		s := startConfig(t, config)
		a.finish(t, s)
		a.check(t, s)
		const clients = 8
		enough := a.count + 60
		var term sync.Once
		errs := make(chan error, clients)
		for id := range clients {
			go func() {
				errs <- a.pusher(s, id, round, func(sum int) bool {
					if sum >= enough {
						term.Do(func() { _ = s.proc.Signal(syscall.SIGTERM) })
					}
					return sum < enough+500
				})
			}()
		}
		for range clients {
			if err := <-errs; err == nil {
				t.Error("the server was not ended")
			} else if !died(err) {
				t.Errorf("before it ended: %v", err)
			}
		}
		// To ask twice would not let it end in order.
		select {
		case <-s.done:
		case <-time.After(time.Minute):
			t.Fatalf("it has not ended a minute after the signal:\n%s", s.log)
		}
		if s.err != nil {
			t.Errorf("it ended: %v\n%s", s.err, s.log)
		}
	}
	s := startConfig(t, config)
	a.finish(t, s)
	a.check(t, s)
	a.checkListed(t, s)
}

func startConfig(t *testing.T, config string) *server {
	t.Helper()
	bin, err := regctl()
	if err != nil {
		t.Fatal(err)
	}
	addr := freeAddr(t)
	cmd := exec.Command(bin, "serve", config)
	cmd.Env = []string{"HOME=" + t.TempDir(), "REGISTRY_HTTP_ADDR=" + addr}
	return start(t, cmd, addr)
}
