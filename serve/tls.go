package serve

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"log/slog"
	"net/http"
	"os"
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
	return 0, fmt.Errorf("http.tls.clientauth: no such word: %q", word)
}

// newTLS makes what the section http.tls asks for; nil if that is no TLS. As
// in registry:2, clients are asked for certificates only if there are CAs to
// hold them against.
// Errors name the file that is wrong.
func newTLS(c config.TLS, now func() time.Time, log *slog.Logger) (*tls.Config, error) {
	if c.Certificate == "" {
		return nil, nil
	}
	certs, err := newCertificates(c.Certificate, c.Key, now, log)
	if err != nil {
		return nil, fmt.Errorf("http.tls: %w", err)
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
	t.ClientCAs = x509.NewCertPool()
	for _, name := range c.ClientCAs {
		data, err := os.ReadFile(name)
		if err != nil {
			return nil, fmt.Errorf("http.tls.clientcas: %w", err)
		}
		if !t.ClientCAs.AppendCertsFromPEM(data) {
			why := noCertificate(data)
			if why == "" {
				why = "has no certificate in it that can be read"
			}
			return nil, fmt.Errorf("http.tls.clientcas: %s %s", name, why)
		}
	}
	return t, nil
}

// protocols are those that the section http leaves on.
func protocols(c config.HTTP) *http.Protocols {
	p := new(http.Protocols)
	p.SetHTTP1(true)
	p.SetHTTP2(!c.HTTP2Off)
	p.SetUnencryptedHTTP2(c.H2C && c.TLS.Certificate == "")
	return p
}
