package token

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"math/big"
	"os"
	"path/filepath"
	"time"

	"github.com/go-jose/go-jose/v4"
)

const (
	// authorityLife is long: a new one means work wherever it is trusted.
	authorityLife = 30 * 365 * 24 * time.Hour

	// backdate is how far the clock of who trusts us may be behind.
	backdate = time.Hour

	caCertificate = "token-ca.crt" // What other registries trust.
	caKey         = "token-ca.key"
)

// authority is the CA whose certificates the keys have.
type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

// loadAuthority returns the CA in the directory, which is made if there is none.
func (k *Keys) loadAuthority(now time.Time) (*authority, error) {
	a, err := k.readAuthority()
	if err != nil {
		return nil, err
	}
	if a != nil && a.cert != nil {
		k.caKept = true
		return a, nil
	}
	var private *ecdsa.PrivateKey
	if a != nil { // A crash came between the two files.
		private = a.key
	}
	return k.newAuthority(private, now)
}

// renewAuthority returns the CA, or another one if it is about to end.
func (k *Keys) renewAuthority(now time.Time) (*authority, error) {
	if now.Before(k.ca.cert.NotBefore) { // Nobody knows which time is wrong, and this one may be over soon.
		k.o.Log.Warn("the clock is behind the time at which the authority of tokens was made: other registries do not trust it before that; if the clock is right, take it away for a new one",
			slog.String("file", caCertificate), slog.Time("made", k.ca.cert.NotBefore))
		return k.ca, nil
	}
	if now.Add(keyLife).Before(k.ca.cert.NotAfter) {
		return k.ca, nil
	}
	k.o.Log.Warn("the authority of tokens ends; there is a new one, which must be given to every registry that trusts it", slog.String("file", caCertificate))
	return k.newAuthority(nil, now)
}

func (k *Keys) readAuthority() (*authority, error) {
	if k.dir == "" {
		return nil, nil
	}
	raw, err := k.read(caKey)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	keys, _, err := parsePEM(raw)
	if err != nil || len(keys) != 1 {
		return nil, broken(k.dir, caKey, err)
	}
	raw, err = k.read(caCertificate)
	if errors.Is(err, fs.ErrNotExist) {
		return &authority{key: keys[0]}, nil
	}
	if err != nil {
		return nil, err
	}
	_, certs, err := parsePEM(raw)
	if err != nil || len(certs) != 1 || !keys[0].PublicKey.Equal(certs[0].cert.PublicKey) {
		return nil, broken(k.dir, caCertificate, err)
	}
	return &authority{certs[0].cert, keys[0]}, nil
}

// newAuthority makes a CA, with a key that is there already if it is not nil.
func (k *Keys) newAuthority(private *ecdsa.PrivateKey, now time.Time) (a *authority, err error) {
	a = &authority{key: private}
	if private == nil {
		if a.key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader); err != nil {
			return nil, err
		}
	}
	id, err := thumbprint(&a.key.PublicKey)
	if err != nil {
		return nil, err
	}
	template := &x509.Certificate{
		Subject:   pkix.Name{CommonName: "regctl tokens CA " + id[:8]},
		NotBefore: now.Add(-backdate), NotAfter: now.Add(authorityLife),
		KeyUsage: x509.KeyUsageCertSign, IsCA: true, BasicConstraintsValid: true,
	}
	if a.cert, err = issue(template, template, &a.key.PublicKey, a.key); err != nil {
		return nil, err
	}
	if k.caKept = true; k.dir == "" {
		return a, nil
	}
	if err := k.keepAuthority(a); err != nil {
		k.caKept = false
		k.o.Log.Error("the authority of tokens cannot be kept: after a restart there is another one, which other registries do not trust", slog.Any("error", err))
	}
	return a, nil
}

// keepAuthority writes a CA. Whatever comes between, there is never the key of
// one with the certificate of another: a key alone gets a certificate.
func (k *Keys) keepAuthority(a *authority) error {
	if err := os.Remove(filepath.Join(k.dir, caCertificate)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := k.write(caKey, keyPEM(a.key)); err != nil {
		return err
	}
	return k.write(caCertificate, certPEM(a.cert))
}

// newKey makes a key that signs from now on.
func (a *authority) newKey(now time.Time) (*key, error) {
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	id, err := thumbprint(&private.PublicKey)
	if err != nil {
		return nil, err
	}
	leaf, err := issue(&x509.Certificate{
		Subject:   pkix.Name{CommonName: "regctl tokens " + id[:8]},
		NotBefore: now.Add(-backdate), NotAfter: now.Add(keyLife),
		KeyUsage: x509.KeyUsageDigitalSignature,
	}, a.cert, &private.PublicKey, a.key)
	if err != nil {
		return nil, err
	}
	return newKey(private, leaf)
}

// newKey returns the key of a certificate. It has no private one once it has
// retired.
func newKey(private *ecdsa.PrivateKey, leaf *x509.Certificate) (*key, error) {
	public, ok := leaf.PublicKey.(*ecdsa.PublicKey)
	if !ok || private != nil && !private.PublicKey.Equal(public) {
		return nil, errors.New("a key and its certificate do not belong together")
	}
	id, err := thumbprint(public)
	if err != nil {
		return nil, err
	}
	return &key{id: id, public: public, private: private, cert: leaf, until: leaf.NotBefore.Add(backdate + signFor)}, nil
}

// issue signs a certificate.
func issue(template, parent *x509.Certificate, public *ecdsa.PublicKey, by *ecdsa.PrivateKey) (*x509.Certificate, error) {
	var serial [16]byte
	_, _ = rand.Read(serial[:]) // Never fails: see crypto/rand.
	serial[0] &= 0x7f           // A positive number.
	template.SerialNumber = new(big.Int).SetBytes(serial[:])
	raw, err := x509.CreateCertificate(rand.Reader, template, parent, public, by)
	if err != nil {
		return nil, fmt.Errorf("make the certificate %s: %w", template.Subject.CommonName, err)
	}
	return x509.ParseCertificate(raw)
}

// thumbprint is that of RFC 7638, by which distribution 3 knows a key.
func thumbprint(public *ecdsa.PublicKey) (string, error) {
	sum, err := (&jose.JSONWebKey{Key: public}).Thumbprint(crypto.SHA256)
	if err != nil {
		return "", fmt.Errorf("name a key: %w", err)
	}
	return base64.RawURLEncoding.EncodeToString(sum), nil
}

// newID is that of a token.
func newID() string {
	var id [16]byte
	_, _ = rand.Read(id[:])
	return hex.EncodeToString(id[:])
}
