package serve

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// lookPause is how long certificate files are believed not to have changed.
const lookPause = time.Second

// certificates hands out the certificate of two files, and another one once
// they have changed and fit each other.
type certificates struct {
	certFile, keyFile string
	now               func() time.Time
	log               *slog.Logger

	pair   atomic.Pointer[tls.Certificate]
	looked atomic.Int64 // When the files were last looked at, in nanoseconds.

	mu     sync.Mutex
	loaded [2]fs.FileInfo // The files that pair is of.
	failed [2]fs.FileInfo // The files that were of no use when last looked at.
	told   bool           // The log has why.
}

// newCertificates reads a certificate and its key, both PEM. The files are
// looked at again when a client comes, at most once a second; connections that
// are open keep what they have.
// Errors say which file is wrong, and in what.
func newCertificates(certFile, keyFile string, now func() time.Time, log *slog.Logger) (*certificates, error) {
	c := &certificates{certFile: certFile, keyFile: keyFile, now: now, log: log}
	var err error
	if c.loaded, err = c.stat(); err != nil {
		return nil, err
	}
	pair, err := loadPair(certFile, keyFile)
	if err != nil {
		return nil, err
	}
	c.pair.Store(pair)
	c.looked.Store(now().UnixNano())
	return c, nil
}

// GetCertificate is for [tls.Config].
func (c *certificates) GetCertificate(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
	now, last := c.now().UnixNano(), c.looked.Load()
	// Away from last in either direction: a clock may be set back.
	if apart := now - last; (apart >= int64(lookPause) || apart < 0) && c.looked.CompareAndSwap(last, now) {
		c.look(hello.Context())
	}
	return c.pair.Load(), nil
}

// look takes the files if they have changed. Of two files one is always
// written first, so that a failure counts when it is seen twice.
func (c *certificates) look(ctx context.Context) {
	c.mu.Lock()
	defer c.mu.Unlock()
	files, err := c.stat()
	if err == nil {
		if same(files, c.loaded) {
			c.failed, c.told = [2]fs.FileInfo{}, false
			return
		}
		if same(files, c.failed) && c.told {
			return
		}
		var pair *tls.Certificate
		if pair, err = loadPair(c.certFile, c.keyFile); err == nil {
			c.pair.Store(pair)
			c.loaded, c.failed, c.told = files, [2]fs.FileInfo{}, false
			c.log.LogAttrs(ctx, slog.LevelInfo, "the certificate has changed and is in use",
				slog.String("file", c.certFile), slog.Time("until", pair.Leaf.NotAfter))
			return
		}
	}
	again := same(files, c.failed)
	if again && !c.told {
		c.log.LogAttrs(ctx, slog.LevelError, "the certificate has changed, but is of no use; the old one stays", slog.Any("error", err))
	}
	c.failed, c.told = files, again
}

// stat looks at the files; those that are missing are nil.
func (c *certificates) stat() (files [2]fs.FileInfo, err error) {
	for i, name := range []string{c.certFile, c.keyFile} {
		f, statErr := os.Stat(name)
		if statErr != nil {
			err = errors.Join(err, statErr)
			continue
		}
		files[i] = f
	}
	return files, err
}

// same tells whether no file was written or replaced.
func same(a, b [2]fs.FileInfo) bool {
	for i := range a {
		if (a[i] == nil) != (b[i] == nil) {
			return false
		}
		if a[i] != nil && (!os.SameFile(a[i], b[i]) || a[i].Size() != b[i].Size() || !a[i].ModTime().Equal(b[i].ModTime())) {
			return false
		}
	}
	return true
}

// loadPair reads a certificate and its key.
func loadPair(certFile, keyFile string) (*tls.Certificate, error) {
	certPEM, err := os.ReadFile(certFile)
	if err != nil {
		return nil, err
	}
	keyPEM, err := os.ReadFile(keyFile)
	if err != nil {
		return nil, err
	}
	pair, err := tls.X509KeyPair(certPEM, keyPEM)
	if err == nil {
		return &pair, nil
	}
	if why := noCertificate(certPEM); why != "" {
		return nil, fmt.Errorf("%s %s", certFile, why)
	}
	if why := noKey(keyPEM); why != "" {
		return nil, fmt.Errorf("%s %s", keyFile, why)
	}
	what := strings.TrimPrefix(err.Error(), "tls: ")
	if strings.Contains(what, "does not match") {
		return nil, fmt.Errorf("the key in %s is not that of the certificate in %s; the server's own certificate must come first in its file", keyFile, certFile)
	}
	return nil, fmt.Errorf("certificate %s, key %s: %s", certFile, keyFile, what)
}

// noCertificate says why data is no PEM file with a certificate, if it is not.
func noCertificate(data []byte) string {
	types := blockTypes(data)
	for _, t := range types {
		if t == "CERTIFICATE" {
			return ""
		}
	}
	switch {
	case len(bytes.TrimSpace(data)) == 0:
		return "is empty"
	case len(types) > 0:
		return "has no CERTIFICATE in it, but " + strings.Join(types, ", ")
	}
	return "is not PEM; if it is DER: openssl x509 -inform der -in FILE -out NEW"
}

// noKey says why data is no PEM file with a key that can be used, if it is not.
func noKey(data []byte) string {
	types := blockTypes(data)
	for rest := data; ; {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			break
		}
		switch {
		case block.Type == "ENCRYPTED PRIVATE KEY", strings.Contains(block.Headers["Proc-Type"], "ENCRYPTED"):
			return "is encrypted, and nobody is there to ask for the passphrase; take it off: openssl pkey -in FILE -out NEW"
		case block.Type == "PRIVATE KEY", strings.HasSuffix(block.Type, " PRIVATE KEY"):
			return ""
		}
	}
	switch {
	case len(bytes.TrimSpace(data)) == 0:
		return "is empty"
	case len(types) > 0:
		return "has no PRIVATE KEY in it, but " + strings.Join(types, ", ")
	}
	return "is not PEM; if it is DER: openssl pkey -inform der -in FILE -out NEW"
}

// blockTypes lists what a PEM file has in it.
func blockTypes(data []byte) (types []string) {
	for {
		var block *pem.Block
		if block, data = pem.Decode(data); block == nil {
			return types
		}
		types = append(types, block.Type)
	}
}
