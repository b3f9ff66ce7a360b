package serve

import (
	"crypto/tls"
	"fmt"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/regctl/regctl/serve/config"
)

// clientAuth are the words of http.tls.clientauth.
func clientAuth(word string) (tls.ClientAuthType, error) {
	switch word {
	case "", "require-and-verify-client-cert":
		return tls.RequireAndVerifyClientCert, nil
	case "request-client-cert":
		return tls.RequestClientCert, nil
	case "require-any-client-cert":
		return tls.RequireAnyClientCert, nil
	case "verify-client-cert-if-given":
		return tls.VerifyClientCertIfGiven, nil
	}
	return 0, &ConfigError{"http.tls.clientauth", fmt.Errorf("no such word: %q", word)}
}

// ConfigError says that something the configuration names is of no use.
type ConfigError struct {
	Key string // Of the configuration.
	Err error
}

// Error names the key.
func (e *ConfigError) Error() string { return e.Key + ": " + e.Err.Error() }

// Unwrap returns what is wrong.
func (e *ConfigError) Unwrap() error { return e.Err }

// newTLS makes what the section http.tls asks for; nil if that is no TLS. As
// in registry:2, clients are asked for certificates only if there are CAs to
// hold them against.
// Errors: [*ConfigError], which names the file that is wrong.
func newTLS(c config.TLS, now func() time.Time, log *slog.Logger) (*tls.Config, error) {
	if c.Certificate == "" {
		return nil, nil
	}
	certs, err := newCertificates(c.Certificate, c.Key, now, log)
	if err != nil {
		return nil, &ConfigError{"http.tls", err}
	}
	t := &tls.Config{
		GetCertificate: certs.GetCertificate,
		MinVersion:     max(c.MinVersion, tls.VersionTLS12),
		CipherSuites:   c.CipherSuites,
		Time:           now,
	}
	if len(c.ClientCAs) == 0 {
		return t, nil
	}
	if t.ClientAuth, err = clientAuth(c.ClientAuth); err != nil {
		return nil, err
	}
	cas, err := newClientCAs(c.ClientCAs, now, log)
	if err != nil {
		return nil, &ConfigError{"http.tls.clientcas", err}
	}
	cas.follow(t)
	return t, nil
}

// protocols are those that the section http leaves on. HTTP/2 forbids cipher
// suites without forward secrecy or AEAD (RFC 9113, appendix A), and clients
// would agree on it before they find out.
func protocols(c config.HTTP) *http.Protocols {
	p := new(http.Protocols)
	p.SetHTTP1(true)
	p.SetHTTP2(!c.HTTP2Off && !slices.ContainsFunc(c.TLS.CipherSuites, forbidden))
	p.SetUnencryptedHTTP2(c.H2C && c.TLS.Certificate == "")
	return p
}

// forbidden tells whether HTTP/2 forbids a cipher suite.
func forbidden(suite uint16) bool {
	name := tls.CipherSuiteName(suite)
	return !strings.Contains(name, "GCM") && !strings.Contains(name, "POLY1305") ||
		strings.HasPrefix(name, "TLS_") && strings.Contains(name, "_WITH_") && !strings.Contains(name, "ECDHE")
}
