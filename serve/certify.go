package serve

import (
	"crypto/tls"

	"github.com/regctl/regctl/serve/config"
)

// certify has a certificate made, and serves it; the rest is as http.tls says.
func certify(p Parts) (config.TLS, *tls.Config, error) {
	made, err := p.Certify()
	if err != nil {
		return config.TLS{}, nil, err
	}
	c := p.Config.HTTP.TLS
	c.Certificate, c.Key = made.Certificate, made.Key
	encrypted, err := newTLS(c, p.Now, p.Log)
	return c, encrypted, err
}
