package cert

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"strings"
	"time"
)

const (
	// caLife is long: a new CA means work on every client.
	caLife = 10 * 365 * 24 * time.Hour

	// leafLife is below what any client puts up with: 398 days by browsers and
	// Apple for public CAs, 825 days by macOS and iOS for private ones, too.
	leafLife = 397 * 24 * time.Hour

	// backdate is how far the clock of a client may be behind.
	backdate = time.Hour

	caName = "regctl CA "
)

// authority is a CA with its key.
type authority struct {
	chain []*x509.Certificate // Its own first; what a client must trust.
	key   crypto.Signer       // Nil: it is kept elsewhere.
}

func (a *authority) cert() *x509.Certificate { return a.chain[0] }

// loadAuthority returns the CA in dir, which is made if there is none. Its
// certificate comes from the key alone, so that two who make it at once make
// the same, and a crash between the two files does no harm.
func loadAuthority(dir string, now time.Time, made *Made) (*authority, error) {
	crt, keyFile := filepath.Join(dir, "ca.crt"), filepath.Join(dir, "ca.key")
	chain, err := readChain(crt)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	key, keyErr := readKey(keyFile)
	switch {
	case keyErr != nil && !errors.Is(keyErr, fs.ErrNotExist):
		return nil, keyErr
	case chain != nil && keyErr != nil: // The key is kept elsewhere.
		return &authority{chain: chain}, nil
	case chain != nil:
		return renewAuthority(crt, &authority{chain, key}, now, made)
	case keyErr != nil:
		if key, err = createKey(keyFile); err != nil {
			return nil, err
		}
	}
	ca, err := signAuthority(key, now)
	if err != nil {
		return nil, err
	}
	if err := replace(crt, encodeChain(ca), 0o644); err != nil {
		return nil, err
	}
	made.NewCA = true
	return &authority{[]*x509.Certificate{ca}, key}, nil
}

// renewAuthority gives the CA a new certificate of the same name and key when
// two thirds of its life are over: those who trust the old one go on to the end
// of its life, and get the new one in their own time. One that we did not make
// is left as it is.
func renewAuthority(file string, a *authority, now time.Time, made *Made) (*authority, error) {
	ca := a.cert()
	switch {
	case !fits(ca, a.key):
		return nil, fmt.Errorf("%s: the key beside it is not its own", file)
	case !ca.IsCA:
		return nil, fmt.Errorf("%s: it is no CA: it may not sign certificates", file)
	case now.Before(renewal(ca)) || !strings.HasPrefix(ca.Subject.CommonName, caName) || !selfSigned(ca):
		return a, nil
	}
	renewed, err := signAuthority(a.key, now)
	if err != nil {
		return nil, err
	}
	if err := replace(file, encodeChain(renewed), 0o644); err != nil {
		if now.Before(ca.NotAfter) {
			made.Kept = err
			return a, nil
		}
		return nil, err
	}
	made.RenewedCA = true
	return &authority{[]*x509.Certificate{renewed}, a.key}, nil
}

func signAuthority(key crypto.Signer, now time.Time) (*x509.Certificate, error) {
	spki, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		return nil, err
	}
	id := sha256.Sum256(spki)
	t := &x509.Certificate{
		// The name tells CAs apart in the list of a client.
		Subject:   pkix.Name{CommonName: fmt.Sprintf("%s%x", caName, id[:4])},
		NotBefore: now.Add(-backdate), NotAfter: now.Add(caLife - backdate),
		KeyUsage:              x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
		BasicConstraintsValid: true, IsCA: true, MaxPathLenZero: true,
		SubjectKeyId: id[:20],
	}
	return sign(t, t, key.Public(), key)
}

// leaf makes a certificate of a server.
func (a *authority) leaf(n names, public crypto.PublicKey, now time.Time) (*x509.Certificate, error) {
	ca := a.cert()
	until := now.Add(leafLife - backdate)
	if ca.NotAfter.Before(until) {
		until = ca.NotAfter
	}
	if !now.Before(until) {
		return nil, fmt.Errorf("the CA, %s, has ended on %s", ca.Subject, day(ca.NotAfter))
	}
	t := &x509.Certificate{
		Subject:   pkix.Name{CommonName: "registry"},
		DNSNames:  n.dns,
		NotBefore: now.Add(-backdate), NotAfter: until,
		IPAddresses:           n.ips,
		KeyUsage:              x509.KeyUsageDigitalSignature,
		ExtKeyUsage:           []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		BasicConstraintsValid: true,
	}
	if _, ok := public.(*ecdsa.PublicKey); !ok {
		t.KeyUsage |= x509.KeyUsageKeyEncipherment
	}
	if first := n.all[0]; len(first) <= 64 { // What the standard allows.
		t.Subject.CommonName = first
	}
	return sign(t, ca, public, a.key)
}

// sign gives t a random serial number, and reads what comes of it.
func sign(t, parent *x509.Certificate, public crypto.PublicKey, key crypto.Signer) (*x509.Certificate, error) {
	der, err := x509.CreateCertificate(rand.Reader, t, parent, public, key)
	if err != nil {
		return nil, fmt.Errorf("sign a certificate for %s: %w", t.Subject, err)
	}
	return x509.ParseCertificate(der)
}

// createKey makes a key in a file, or returns the one that somebody else has
// just made there.
func createKey(file string) (crypto.Signer, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	raw, err := encodeKey(key)
	if err != nil {
		return nil, err
	}
	err = create(file, raw, 0o600)
	if errors.Is(err, fs.ErrExist) {
		return readKey(file)
	}
	return key, err
}

// fits tells whether a key is that of a certificate.
func fits(c *x509.Certificate, key crypto.Signer) bool {
	public, ok := key.Public().(interface{ Equal(crypto.PublicKey) bool })
	return ok && public.Equal(c.PublicKey)
}

// selfSigned tells whether c has signed itself, whatever it may do.
func selfSigned(c *x509.Certificate) bool { return signedBy(c, c) }

// signedBy tells whether the signature on c is of parent's key. SHA-1 and MD5,
// which Go does not check, count as right if the names fit.
func signedBy(c, parent *x509.Certificate) bool {
	if string(c.RawIssuer) != string(parent.RawSubject) {
		return false
	}
	err := parent.CheckSignature(c.SignatureAlgorithm, c.RawTBSCertificate, c.Signature)
	var insecure x509.InsecureAlgorithmError
	return err == nil || errors.As(err, &insecure)
}

// renewal is when two thirds of the life of c are over.
func renewal(c *x509.Certificate) time.Time {
	return c.NotBefore.Add(c.NotAfter.Sub(c.NotBefore) / 3 * 2)
}

func day(t time.Time) string { return t.UTC().Format(time.DateOnly) }
