package cert

import (
	"crypto"
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
// ca.key may be missing, for it may be kept elsewhere, until something is to be
// signed. A CA of another making is used if it is there.
// Errors: [*ForeignError]; what is wrong with a name or a file.
func Self(dir string, names []string, now time.Time) (Made, error) {
	made, err := self(dir, names, now)
	if err != nil {
		return Made{}, fmt.Errorf("make a certificate: %w", err)
	}
	return made, nil
}

func self(dir string, wanted []string, now time.Time) (Made, error) {
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
	leaf, err := keepLeaf(ca, old, n, now, &made)
	if err != nil {
		return Made{}, err
	}
	made.Until, made.Renew = leaf.NotAfter, renewal(leaf)
	return made, nil
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

// keepLeaf returns the certificate of the server, renewed if it must be.
func keepLeaf(ca *authority, old []*x509.Certificate, n names, now time.Time, made *Made) (*x509.Certificate, error) {
	key, err := readKey(made.Key)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	if old != nil && key != nil && fits(old[0], key) && !due(old[0], ca.cert(), n, now) {
		return old[0], nil
	}
	if ca.key == nil { // Before anything changes.
		return nil, fmt.Errorf("%s must be renewed, and the key of its CA, ca.key, is not there", made.Certificate)
	}
	if key == nil { // An old key stays, so that a renewal is one file: it and its certificate always fit.
		if key, err = createKey(made.Key); err != nil {
			return nil, err
		}
	}
	leaf, err := ca.leaf(n, crypto.PublicKey(key.Public()), now)
	if err != nil {
		return nil, err
	}
	chain := append([]*x509.Certificate{leaf}, ca.chain...)
	if err := replace(made.Certificate, encodeChain(chain...), 0o644); err != nil {
		return nil, err
	}
	made.NewLeaf = true
	return leaf, nil
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
