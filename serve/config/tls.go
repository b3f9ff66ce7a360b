package config

import (
	"crypto/tls"
	"fmt"
	"slices"
	"strings"
)

func tlsSection() field {
	return field{strict: "no such key", fields: section{
		"certificate":  {set: setString(func(c *Config) *string { return &c.HTTP.TLS.Certificate }), guards: true},
		"key":          {set: setString(func(c *Config) *string { return &c.HTTP.TLS.Key }), guards: true},
		"clientcas":    {set: setStrings(func(c *Config) *[]string { return &c.HTTP.TLS.ClientCAs }), list: true, guards: true},
		"clientauth":   {set: setClientAuth, guards: true},
		"minimumtls":   {set: setMinimumTLS, guards: true},
		"ciphersuites": {set: setCipherSuites, list: true},
		"letsencrypt":  restricts("a certificate of Let's Encrypt; write http.tls.certificate and key, or let a proxy do it"),
	}}
}

const requireAndVerify = "require-and-verify-client-cert"

func setClientAuth(c *Config, n node) (err error) {
	c.HTTP.TLS.ClientAuth, err = oneOf(n, "request-client-cert", "require-any-client-cert", "verify-client-cert-if-given", requireAndVerify)
	return err
}

func setMinimumTLS(c *Config, n node) error {
	v, err := scalar(n)
	if err != nil {
		return err
	}
	switch v {
	case "tls1.0", "tls1.1":
		c.oldTLS = v
		fallthrough
	case "tls1.2":
		c.HTTP.TLS.MinVersion = tls.VersionTLS12
	case "tls1.3":
		c.HTTP.TLS.MinVersion = tls.VersionTLS13
	default:
		return fmt.Errorf("%q is neither tls1.2 nor tls1.3", v)
	}
	return nil
}

// setCipherSuites takes the names that registry:2 takes, which are those of Go.
func setCipherSuites(c *Config, n node) error {
	names, err := texts(n)
	if err != nil {
		return err
	}
	ids := map[string]uint16{}
	for _, suite := range slices.Concat(tls.CipherSuites(), tls.InsecureCipherSuites()) {
		if !strings.Contains(suite.Name, "RC4") {
			ids[suite.Name] = suite.ID
		}
	}
	c.HTTP.TLS.CipherSuites = nil
	for _, name := range names {
		id, ok := ids[name]
		switch {
		case strings.Contains(name, "RC4"):
			c.rc4 = append(c.rc4, name)
			continue
		case !ok:
			return fmt.Errorf("%q is no name of a cipher suite of Go%s", name, nearest(name, keys(ids)))
		}
		c.HTTP.TLS.CipherSuites = append(c.HTTP.TLS.CipherSuites, id)
	}
	if len(c.rc4) > 0 && len(c.HTTP.TLS.CipherSuites) == 0 {
		return fmt.Errorf("%s is broken (RFC 7465), and there is no other", c.rc4[0])
	}
	return nil
}

// checkTLS wants a certificate for whatever else is said of TLS: a server that
// came up without it would be open.
func (p *parser) checkTLS(c *Config) {
	t := &c.HTTP.TLS
	only := func(key, needs string) {
		if n := p.at["http.tls."+key]; n != nil {
			p.errorf(n, "http.tls.%s is there without http.tls.%s", key, needs)
		}
	}
	switch {
	case t.Certificate != "" && t.Key == "":
		only("certificate", "key")
	case t.Certificate == "":
		only("key", "certificate")
		only("clientcas", "certificate")
	}
	switch {
	case len(t.ClientCAs) == 0:
		only("clientauth", "clientcas: there is nothing to hold a client's certificate against")
	case t.ClientAuth == "":
		t.ClientAuth = requireAndVerify
	case t.ClientAuth == "request-client-cert", t.ClientAuth == "require-any-client-cert":
		p.warnf(p.at["http.tls.clientauth"], "http.tls.clientauth: with %s no certificate of a client is held against http.tls.clientcas, so that anybody is let in; write %s", t.ClientAuth, requireAndVerify)
	}
	if t.MinVersion == tls.VersionTLS13 && len(t.CipherSuites) > 0 {
		p.warnf(p.at["http.tls.ciphersuites"], "http.tls.ciphersuites has no effect: there is nothing to choose with TLS 1.3")
		t.CipherSuites = nil
	}
	for _, name := range c.rc4 {
		p.warnf(p.at["http.tls.ciphersuites"], "http.tls.ciphersuites: %s is broken (RFC 7465), and left out", name)
	}
	if c.oldTLS != "" {
		p.warnf(p.at["http.tls.minimumtls"], "http.tls.minimumtls: %s is broken (RFC 8996), and not spoken: tls1.2, which every client since 2014 speaks, is the least", c.oldTLS)
	}
	if t.MinVersion == 0 {
		t.MinVersion = tls.VersionTLS12
	}
	if t.Certificate == "" {
		for _, key := range []string{"minimumtls", "ciphersuites"} {
			if n := p.at["http.tls."+key]; n != nil {
				p.warnf(n, "http.tls.%s has no effect without http.tls.certificate", key)
			}
		}
	}
}
