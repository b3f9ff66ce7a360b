package serve

import (
	"crypto/tls"
	"log/slog"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/regctl/regctl/serve/config"
)

// TestClientCAsChange: who has a certificate of a CA that is taken out of
// http.tls.clientcas is out, with a session to resume, too; and one of a CA that
// is put in is in.
func TestClientCAsChange(t *testing.T) {
	t.Parallel()
	ca, next := newIssuer(t), newIssuer(t)
	certPEM, keyPEM := ca.leaf()
	f := pemFiles(t, certPEM, keyPEM, ca.pem())
	log := &logBuffer{}
	var ahead atomic.Int64
	now := func() time.Time { return time.Now().Add(time.Duration(ahead.Load())) }
	encrypted, err := newTLS(config.TLS{Certificate: f[0], Key: f[1], ClientCAs: f[2:]}, now, log.text())
	if err != nil {
		t.Fatal(err)
	}
	addr := runServer(t, &Server{Handler: newTestHandler(t, Options{}), TLS: encrypted})
	client := func(i *issuer) func() (proto string) {
		certPEM, keyPEM := i.leaf()
		pair, err := tls.X509KeyPair([]byte(certPEM), []byte(keyPEM))
		if err != nil {
			t.Fatal(err)
		}
		c := clientOf(t, &tls.Config{RootCAs: ca.pool(), Certificates: []tls.Certificate{pair}, ClientSessionCache: tls.NewLRUClientSessionCache(1)}, true)
		return func() string {
			defer c.CloseIdleConnections()
			resp, err := c.Get("https://" + addr + "/v2/")
			if err != nil {
				return ""
			}
			resp.Body.Close()
			return resp.Proto
		}
	}
	first, second := client(ca), client(next)
	wants := func(when, ofFirst, ofSecond string) {
		t.Helper()
		if a, b := first(), second(); a != ofFirst || b != ofSecond {
			t.Errorf("%s: %q and %q, want %q and %q", when, a, b, ofFirst, ofSecond)
		}
	}
	write := func(content string, rest time.Duration) {
		t.Helper()
		if err := os.WriteFile(f[2], []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		ahead.Add(int64(rest))
	}
	const in, out = "HTTP/2.0", ""
	wants("at first", in, out)
	write(next.pem(), restAfter+time.Second)
	wants("with another CA", out, in)
	write("", restAfter+time.Second)
	wants("with an empty file", out, in)
	if n := strings.Count(log.String(), "level=ERROR"); n != 1 {
		t.Errorf("%d complaints about the empty file: %s", n, log)
	}
	write(ca.pem()+next.pem(), restAfter+time.Second)
	wants("with both", in, in)
	if n := strings.Count(log.String(), "have changed and are in force"); n != 2 {
		t.Errorf("%d changes are told: %s", n, log)
	}
}

// TestClientCAsAreWhole: what somebody may be writing is not taken yet.
func TestClientCAsAreWhole(t *testing.T) {
	t.Parallel()
	ca, next := newIssuer(t), newIssuer(t)
	f := pemFiles(t, ca.pem())
	at := time.Now()
	c, err := newClientCAs(f, func() time.Time { return at }, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	first := c.pool.Load()
	if err := os.WriteFile(f[0], []byte(next.pem()), 0o600); err != nil {
		t.Fatal(err)
	}
	written := at.Add(time.Hour)
	if err := os.Chtimes(f[0], written, written); err != nil {
		t.Fatal(err)
	}
	if at = written.Add(restAfter - 1); c.current(t.Context()) != first {
		t.Error("taken at once")
	}
	if at = at.Add(lookPause); c.current(t.Context()) == first {
		t.Error("not taken when it has come to rest")
	}
	c.mu.Lock() // As of who reads from a disk that hangs.
	defer c.mu.Unlock()
	if c.current(t.Context()) == nil {
		t.Error("none while somebody looks")
	}
}
