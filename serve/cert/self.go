package cert

import (
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"
)

// ForeignError says that a file is not of the CA beside it, and thus is not
// replaced.
type ForeignError struct{ File string }

// Error names the file.
func (e *ForeignError) Error() string {
	return e.File + ": no CA beside it has signed this certificate, so it is left alone"
}

// Self makes the files of a private CA and of a certificate for names in dir,
// those that are missing: ca.crt, ca.key, server.crt (with the CA behind it) and
// server.key. names are DNS names and IP addresses, the first one is the common
// name. A certificate is renewed once two thirds of its life are over, or if it
// is not for all of names, or its key does not fit; keys stay, and so does the
// CA, so that clients go on to trust it. With a clock that is before the life of
// the CA nothing is renewed.
//
// If a certificate that is still good cannot be renewed it stays, and Made.Kept
// says why: ca.key may be kept elsewhere until then. A CA of another making is
// used if it is there.
// Errors: [*ForeignError]; what is wrong with a name or a file.
func Self(dir string, names []string, now time.Time) (Made, error) {
	made, err := self(dir, names, false, now)
	if err != nil {
		return Made{}, fmt.Errorf("make a certificate: %w", err)
	}
	return made, nil
}

// Renew renews the certificate that [Self] made in dir, for the names that it
// has; if always is not set only once two thirds of its life are over.
// Errors: as of Self; fs.ErrNotExist if there is none.
func Renew(dir string, always bool, now time.Time) (Made, error) {
	chain, err := readChain(filepath.Join(dir, "server.crt"))
	var made Made
	if err == nil {
		made, err = self(dir, NamesOf(chain[0]), always, now)
	}
	if err != nil {
		return Made{}, fmt.Errorf("renew a certificate: %w", err)
	}
	return made, nil
}

func self(dir string, wanted []string, always bool, now time.Time) (Made, error) {
	n, err := parseNames(wanted)
	if err != nil {
		return Made{}, err
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return Made{}, err
	}
	made := Made{
		CA:   filepath.Join(dir, "ca.crt"),
		Pair: Pair{Certificate: filepath.Join(dir, "server.crt"), Key: filepath.Join(dir, "server.key")},
	}
	old, err := readChain(made.Certificate)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return Made{}, err
	}
	if err := expectCA(made, old); err != nil {
		return Made{}, err
	}
	ca, err := loadAuthority(dir, now, &made)
	if err != nil {
		return Made{}, err
	}
	if old != nil && !signedBy(old[0], ca.cert()) {
		return Made{}, &ForeignError{made.Certificate}
	}
	usable := old != nil && !always && fitsFile(old[0], made.Key)
	if usable && !due(old[0], ca.cert(), n, now) {
		return made.of(old[0]), nil
	}
	leaf, err := newLeaf(ca, n, now, made)
	switch {
	case err == nil:
		made.NewLeaf = true
		return made.of(leaf), nil
	case usable && now.Before(old[0].NotAfter):
		made.Kept = err
		return made.of(old[0]), nil
	}
	return Made{}, err
}

func (m Made) of(c *x509.Certificate) Made {
	m.Names, m.Until, m.Renew = NamesOf(c), c.NotAfter, renewal(c)
	return m
}

// expectCA refuses to make a CA beside a certificate of another one.
func expectCA(made Made, old []*x509.Certificate) error {
	if old == nil {
		return nil
	}
	for _, file := range []string{made.CA, filepath.Join(filepath.Dir(made.CA), "ca.key")} {
		if _, err := os.Lstat(file); err == nil || !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return &ForeignError{made.Certificate}
}

// fitsFile tells whether a file has the key of c. One that cannot be read is
// told of by who needs it.
func fitsFile(c *x509.Certificate, file string) bool {
	key, err := readKey(file)
	return err == nil && fits(c, key)
}

// newLeaf writes a new certificate of the server. Its old key stays, so that a
// renewal is one file: it and its certificate fit at any time.
func newLeaf(ca *authority, n names, now time.Time, made Made) (*x509.Certificate, error) {
	if ca.key == nil { // Before anything changes.
		return nil, fmt.Errorf("%s must be renewed, and the key of its CA, ca.key, is not there", made.Certificate)
	}
	key, err := readKey(made.Key)
	if errors.Is(err, fs.ErrNotExist) {
		key, err = createKey(made.Key)
	}
	if err != nil {
		return nil, err
	}
	leaf, err := ca.leaf(n, key.Public(), now)
	if err != nil {
		return nil, err
	}
	chain := append([]*x509.Certificate{leaf}, ca.chain...)
	return leaf, replace(made.Certificate, encodeChain(chain...), 0o644)
}

// due tells whether a certificate must be renewed.
func due(leaf, ca *x509.Certificate, n names, now time.Time) bool {
	if _, covered := n.coveredBy(leaf); !covered {
		return true
	}
	if now.Before(ca.NotBefore) { // The clock is wrong.
		return false
	}
	return now.Before(leaf.NotBefore) || !now.Before(renewal(leaf))
}
