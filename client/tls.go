package client

import (
	"cmp"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// Transport returns given, or if that is nil what carries requests otherwise:
// it gives up on servers that do not answer, lets no registry lead it to an
// address that is nobody else's business, uses the proxies that the
// environment names, and speaks HTTP/1.1. Blobs that share one connection by
// HTTP/2 cost twice the time, and all wait for one lost packet.
// Where insecure, it accepts any certificate; but one of another kind than
// [*http.Transport] is left alone.
func Transport(given http.RoundTripper, insecure bool) http.RoundTripper {
	if given == nil {
		var protocols http.Protocols
		protocols.SetHTTP1(true)
		given = &http.Transport{
			Proxy:                 http.ProxyFromEnvironment,
			DialContext:           dialer(net.Dialer{Timeout: 10 * time.Second, KeepAlive: 30 * time.Second}),
			TLSHandshakeTimeout:   10 * time.Second,
			ResponseHeaderTimeout: slowest,
			ExpectContinueTimeout: time.Second,
			IdleConnTimeout:       90 * time.Second,
			MaxIdleConns:          100,
			MaxIdleConnsPerHost:   32,
			ReadBufferSize:        64 << 10,
			WriteBufferSize:       64 << 10,
			Protocols:             &protocols,
		}
	}
	if !insecure {
		return given
	}
	return secured(given, func(c *tls.Config) { c.InsecureSkipVerify = true })
}

// secured returns given with another TLS configuration. One of another kind
// than [*http.Transport] is left alone.
func secured(given http.RoundTripper, change func(*tls.Config)) http.RoundTripper {
	t, ok := given.(*http.Transport)
	if !ok {
		return given
	}
	t = t.Clone()
	if t.TLSClientConfig == nil {
		t.TLSClientConfig = &tls.Config{}
	}
	change(t.TLSClientConfig)
	return t
}

// trust is whose certificates are accepted and which are shown.
type trust struct {
	pool   *x509.CertPool // Nil: those of the system.
	own    []tls.Certificate
	dirs   []string // Where certificates for this registry would be.
	unread []string // Files there that look as if they were meant.
	// trouble is with what lies in dirs, and is told when it may matter.
	trouble []error
}

func (t *trust) apply(given http.RoundTripper) http.RoundTripper {
	if t.pool == nil && len(t.own) == 0 {
		return given
	}
	return secured(given, func(c *tls.Config) {
		if t.pool != nil {
			c.RootCAs = t.pool
		}
		c.Certificates = append(c.Certificates, t.own...)
	})
}

// hint says where the certificate of an authority would be read.
func (t *trust) hint() string {
	switch {
	case len(t.unread) > 0:
		return fmt.Sprintf("; %s is not read: its name must end in .crt", t.unread[0])
	case len(t.dirs) > 0:
		return fmt.Sprintf("; the certificate of its authority is read from %s", filepath.Join(t.dirs[0], "ca.crt"))
	}
	return ""
}

// add takes the certificates in a PEM file for authorities.
func (t *trust) add(path string) error {
	raw, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	if t.pool == nil {
		if t.pool, err = x509.SystemCertPool(); err != nil {
			t.pool = x509.NewCertPool() // A system without any.
		}
	}
	if !t.pool.AppendCertsFromPEM(raw) {
		return fmt.Errorf("%s has no certificate in PEM in it", path)
	}
	return nil
}

func (t *trust) addOwn(cert, key string) error {
	pair, err := tls.LoadX509KeyPair(cert, key)
	if err != nil {
		return fmt.Errorf("%s and %s: %w", cert, key, err)
	}
	t.own = append(t.own, pair)
	return nil
}

// trustOf reads what o names, which must be there, and what lies in the
// directories for the registry, of which nothing need.
func trustOf(o Options, hosts ...string) (*trust, error) {
	t := &trust{}
	for _, path := range o.CAs {
		if err := t.add(path); err != nil {
			return nil, err
		}
	}
	if o.Cert != "" || o.Key != "" {
		if err := t.addOwn(cmp.Or(o.Cert, o.Key), cmp.Or(o.Key, o.Cert)); err != nil {
			return nil, err
		}
	}
	for _, dir := range o.CertDirs {
		for _, host := range hosts {
			t.dirs = append(t.dirs, filepath.Join(dir, host))
			if err := t.addDir(filepath.Join(dir, host)); err != nil {
				t.trouble = append(t.trouble, fmt.Errorf("%w; going on without it", err))
			}
		}
	}
	return t, nil
}

// addDir reads a directory as docker and containers have them: *.crt are
// authorities, *.cert with *.key is what we show.
func (t *trust) addDir(dir string) error {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	failures := []error{err}
	for _, e := range entries {
		path := filepath.Join(dir, e.Name())
		switch stem, kind := strings.TrimSuffix(path, filepath.Ext(path)), filepath.Ext(path); kind {
		case ".crt":
			failures = append(failures, t.add(path))
		case ".cert":
			failures = append(failures, t.addOwn(path, stem+".key"))
		case ".pem", ".cer", ".ca":
			t.unread = append(t.unread, path)
		}
	}
	return errors.Join(failures...)
}
