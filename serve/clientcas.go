package serve

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"sync/atomic"
	"time"
)

// restAfter is how old the last change of a file is before it is taken for
// whole: a part of a list of CAs is one, too.
const restAfter = 2 * time.Second

// clientCAs are the CAs of clients that are in files, and others once those have
// changed.
type clientCAs struct {
	files []string
	now   func() time.Time
	log   *slog.Logger

	pool atomic.Pointer[x509.CertPool]

	mu     sync.Mutex
	raw    []byte // What pool is of.
	looked time.Time
	told   string // What was complained about last.
}

// newClientCAs reads CAs in PEM files. The files are looked at again when a
// client comes, at most once a second; connections that are open stay.
// Errors say which file is wrong, and in what.
func newClientCAs(files []string, now func() time.Time, log *slog.Logger) (*clientCAs, error) {
	c := &clientCAs{files: files, now: now, log: log, looked: now()}
	pool, raw, _, err := c.read()
	c.raw = raw
	c.pool.Store(pool)
	return c, err
}

// read reads the files, and tells when one of them was last changed.
func (c *clientCAs) read() (pool *x509.CertPool, raw []byte, changed time.Time, err error) {
	pool = x509.NewCertPool()
	for _, name := range c.files {
		info, err := os.Stat(name)
		if err != nil {
			return nil, nil, changed, err
		}
		data, err := os.ReadFile(name)
		if err != nil {
			return nil, nil, changed, err
		}
		if info.ModTime().After(changed) {
			changed = info.ModTime()
		}
		if !pool.AppendCertsFromPEM(data) {
			why := noCertificate(data)
			if why == "" {
				why = "has no certificate in it that can be read"
			}
			return nil, nil, changed, fmt.Errorf("%s %s", name, why)
		}
		raw = append(append(raw, data...), '\n')
	}
	return pool, raw, changed, nil
}

// current are the CAs as they are now. Nobody waits for who looks: a disk may
// hang.
func (c *clientCAs) current(ctx context.Context) *x509.CertPool {
	if c.mu.TryLock() {
		defer c.mu.Unlock()
		c.look(ctx)
	}
	return c.pool.Load()
}

func (c *clientCAs) look(ctx context.Context) {
	now := c.now()
	if since := now.Sub(c.looked); since >= 0 && since < lookPause {
		return
	}
	c.looked = now
	pool, raw, changed, err := c.read()
	if age := now.Sub(changed); err == nil && !bytes.Equal(raw, c.raw) && age >= 0 && age < restAfter {
		return // Somebody may be writing.
	}
	switch {
	case err != nil && err.Error() != c.told:
		c.told = err.Error()
		c.log.LogAttrs(ctx, slog.LevelError, "the CAs of clients cannot be read again; what was read last stays in force", slog.Any("error", err))
	case err == nil && !bytes.Equal(raw, c.raw):
		c.pool.Store(pool)
		c.raw = raw
		c.log.LogAttrs(ctx, slog.LevelInfo, "the CAs of clients have changed and are in force", slog.Any("files", c.files))
	}
	if err == nil {
		c.told = ""
	}
}

// follow makes t, which has the CAs that were read first, take those that
// come after.
func (c *clientCAs) follow(t *tls.Config) {
	t.ClientCAs = c.pool.Load()
	t.GetConfigForClient = func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
		pool := c.current(hello.Context())
		if pool == t.ClientCAs {
			return nil, nil
		}
		other := t.Clone()
		other.ClientCAs = pool
		return other, nil
	}
}
