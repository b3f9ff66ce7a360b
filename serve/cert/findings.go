package cert

import (
	"crypto"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/x509"
	"fmt"
	"net"
	"slices"
	"strings"
	"time"
)

const (
	// soon is how long before its end a certificate is told of.
	soon = 30 * 24 * time.Hour

	// longest is what macOS and iOS put up with.
	longest = 825 * 24 * time.Hour

	dayLength = 24 * time.Hour
)

// chain looks at the certificates of a server, its own first.
func (f *findings) chain(chain []*x509.Certificate, now time.Time) {
	leaf := chain[0]
	f.names(leaf)
	f.issuer(leaf)
	f.dates(leaf, "the certificate", now)
	f.life(leaf)
	f.usage(leaf)
	f.strength(leaf, "the certificate")
	f.links(chain)
	for _, c := range chain[1:] {
		what := fmt.Sprintf("the CA %s behind it", c.Subject)
		f.dates(c, what, now)
		f.strength(c, what)
	}
}

// names finds what keeps clients from taking the certificate for a name.
func (f *findings) names(c *x509.Certificate) {
	cn := c.Subject.CommonName
	if len(NamesOf(c)) == 0 {
		switch {
		case cn == "":
			f.warn("it is for no name at all: every client refuses it", "regctl cert make NAME")
		case net.ParseIP(cn) != nil:
			f.warn(fmt.Sprintf("the address %s is only its common name (CN): every client refuses it", cn), makeFor(cn))
		default:
			f.warn(fmt.Sprintf("the name %s is only its common name (CN): docker, podman and all in Go since 1.15 refuse it", cn), makeFor(cn))
		}
		return
	}
	for _, name := range c.DNSNames {
		if net.ParseIP(name) != nil {
			f.warn(fmt.Sprintf("the address %s is in it as a DNS name: clients refuse it for that", name), makeFor(name))
		}
	}
	if looksLikeName(cn) && c.VerifyHostname(cn) != nil && !slices.Contains(c.DNSNames, strings.ToLower(cn)) {
		f.note(fmt.Sprintf("its common name (CN) %s does not count: it is for %s", cn, strings.Join(NamesOf(c), ", ")), "")
	}
}

// makeFor is the way out for a certificate with no name that counts.
func makeFor(name string) string {
	kind := "DNS:"
	if net.ParseIP(name) != nil {
		kind = "IP:"
	}
	return fmt.Sprintf("regctl cert make %s, or openssl req -x509 -addext subjectAltName=%s%s", name, kind, name)
}

func looksLikeName(cn string) bool {
	return net.ParseIP(cn) != nil || strings.Contains(cn, ".") && !strings.ContainsAny(cn, " /@")
}

// issuer finds a certificate that OpenSSL takes for a self-signed one: only
// identifiers of the keys tell it from its CA.
func (f *findings) issuer(c *x509.Certificate) {
	if string(c.RawIssuer) != string(c.RawSubject) || selfSigned(c) {
		return
	}
	if len(c.SubjectKeyId) > 0 && len(c.AuthorityKeyId) > 0 && string(c.SubjectKeyId) != string(c.AuthorityKeyId) {
		f.note(fmt.Sprintf("its CA bears its very name, %s: some clients may take it for self-signed", c.Subject), "")
	} else {
		f.warn(fmt.Sprintf("its CA bears its very name, %s: curl and all that use OpenSSL take it for self-signed and refuse it", c.Subject),
			"regctl cert make, or give the CA another common name")
	}
}

func (f *findings) dates(c *x509.Certificate, what string, now time.Time) {
	switch left := c.NotAfter.Sub(now); {
	case left < 0:
		f.warn(fmt.Sprintf("%s has ended on %s: every client refuses it", what, day(c.NotAfter)), renew(what))
	case now.Before(c.NotBefore):
		f.warn(fmt.Sprintf("%s is not valid before %s: is the clock right? It is %s", what, minute(c.NotBefore), minute(now)), "")
	case left < soon:
		f.warn(fmt.Sprintf("%s ends on %s, in %d days", what, day(c.NotAfter), int(left/dayLength)), renew(what))
	}
}

// life finds a certificate of a server that is for longer than some clients
// put up with.
func (f *findings) life(c *x509.Certificate) {
	if life := c.NotAfter.Sub(c.NotBefore); life > longest {
		f.note(fmt.Sprintf("the certificate is for %s: macOS and iOS refuse more than 825 days; one of regctl cert, or of regctl serve --tls self, is renewed in time", long(life)), "")
	}
}

func renew(what string) string {
	if strings.HasPrefix(what, "the CA") {
		return ""
	}
	return "regctl cert renew"
}

// long is a time of more than a year, as people say it.
func long(d time.Duration) string {
	if years := int(d / (365 * dayLength)); years > 2 {
		return fmt.Sprintf("%d years", years)
	}
	return fmt.Sprintf("%d days", int(d/dayLength))
}

func minute(t time.Time) string { return t.UTC().Format("2006-01-02 15:04 MST") }

// usage finds a certificate that is for something else.
func (f *findings) usage(c *x509.Certificate) {
	some := len(c.ExtKeyUsage)+len(c.UnknownExtKeyUsage) > 0
	if some && !slices.Contains(c.ExtKeyUsage, x509.ExtKeyUsageServerAuth) && !slices.Contains(c.ExtKeyUsage, x509.ExtKeyUsageAny) {
		f.warn("it is not for servers (its extended key usage lacks serverAuth): every client refuses it", "")
	}
	if c.IsCA {
		f.note("it is the certificate of a CA (CA:true): it works, but who gets the key of this server can vouch for every other one to those who trust it", "")
	}
	if c.KeyUsage != 0 && c.KeyUsage&x509.KeyUsageDigitalSignature == 0 {
		f.note("its key usage lacks digitalSignature: some clients refuse it", "")
	}
}

// strength finds what is too weak for the clients of today.
func (f *findings) strength(c *x509.Certificate, what string) {
	switch c.SignatureAlgorithm {
	case x509.MD2WithRSA, x509.MD5WithRSA, x509.SHA1WithRSA, x509.DSAWithSHA1, x509.ECDSAWithSHA1:
		if selfSigned(c) {
			f.note(fmt.Sprintf("%s is signed with %s; by itself, so that most clients do not look", what, c.SignatureAlgorithm), "")
		} else {
			f.warn(fmt.Sprintf("%s is signed with %s: clients refuse it", what, c.SignatureAlgorithm), "sign it anew with SHA-256")
		}
	}
	switch key := c.PublicKey.(type) {
	case *rsa.PublicKey:
		if bits := key.N.BitLen(); bits < 2048 {
			f.warn(fmt.Sprintf("%s has an RSA key of %d bits: clients refuse less than 2048", what, bits), "")
		}
	case ed25519.PublicKey:
		f.note(fmt.Sprintf("%s has an Ed25519 key: browsers do not know them", what), "")
	}
}

// links finds what is wrong with the order of a chain, and what it lacks.
func (f *findings) links(chain []*x509.Certificate) {
	for i, c := range chain[:len(chain)-1] {
		if signedBy(c, chain[i+1]) {
			continue
		}
		at := slices.IndexFunc(chain, func(other *x509.Certificate) bool { return other != c && signedBy(c, other) })
		switch {
		case at >= 0:
			f.warn(fmt.Sprintf("the chain is in the wrong order: what has signed certificate %d comes as number %d", i+1, at+1), "each must be followed by what has signed it")
		case selfSigned(c):
			f.note(fmt.Sprintf("certificate %d has signed itself; what follows it is of no use", i+1), "")
		default:
			f.warn(fmt.Sprintf("certificate %d is signed by %s, which does not follow it", i+1, c.Issuer), "each must be followed by what has signed it")
		}
		return
	}
	last := chain[len(chain)-1]
	// Only CAs that all know tell where to get the one in between.
	if len(chain) == 1 && len(last.IssuingCertificateURL) > 0 && !selfSigned(last) {
		f.warn(fmt.Sprintf("the certificate of its CA, %s, is missing: docker and others refuse it, browsers may not", last.Issuer),
			"append it; it is at "+last.IssuingCertificateURL[0])
	}
}

// misfit says that the key is not that of the first certificate.
func (f *findings) misfit(chain []*x509.Certificate, key crypto.Signer) {
	for i, c := range chain[1:] {
		if fits(c, key) {
			f.fault(fmt.Sprintf("the key is that of certificate %d; that of the server must come first", i+2), "")
			return
		}
	}
	f.fault(fmt.Sprintf("the key is not that of the certificate for %s", firstName(chain[0])), "")
}

func firstName(c *x509.Certificate) string {
	if names := NamesOf(c); len(names) > 0 {
		return names[0]
	}
	return c.Subject.String()
}
