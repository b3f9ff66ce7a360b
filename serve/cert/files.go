package cert

import (
	"bytes"
	"crypto"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
)

const (
	typeCertificate = "CERTIFICATE"
	typeKey         = "PRIVATE KEY"
)

var errEncrypted = errors.New("the key is encrypted")

// parseKey returns the first private key of a PEM file.
func parseKey(raw []byte) (crypto.Signer, error) {
	for block, rest := pem.Decode(raw); block != nil; block, rest = pem.Decode(rest) {
		if !strings.HasSuffix(block.Type, typeKey) { // As the parameters of a curve.
			continue
		}
		if strings.HasPrefix(block.Type, "ENCRYPTED") || strings.Contains(block.Headers["Proc-Type"], "ENCRYPTED") {
			return nil, errEncrypted
		}
		return parseKeyDER(block.Bytes)
	}
	return nil, errors.New("there is no private key in it")
}

func parseKeyDER(der []byte) (crypto.Signer, error) {
	if key, err := x509.ParsePKCS8PrivateKey(der); err == nil {
		if signer, ok := key.(crypto.Signer); ok {
			return signer, nil
		}
		return nil, fmt.Errorf("a %T cannot sign", key)
	}
	if key, err := x509.ParseECPrivateKey(der); err == nil {
		return key, nil
	}
	key, err := x509.ParsePKCS1PrivateKey(der)
	if err != nil {
		return nil, fmt.Errorf("cannot read the private key: %w", err)
	}
	return key, nil
}

// ParseChain returns the certificates of a PEM file in their order.
// Errors: one that says what else it is.
func ParseChain(raw []byte) ([]*x509.Certificate, error) {
	var chain []*x509.Certificate
	var other []string
	for block, rest := pem.Decode(raw); block != nil; block, rest = pem.Decode(rest) {
		if block.Type != typeCertificate {
			other = append(other, block.Type)
			continue
		}
		c, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, fmt.Errorf("cannot read certificate %d: %w", len(chain)+1, err)
		}
		chain = append(chain, c)
	}
	switch {
	case len(chain) > 0:
		return chain, nil
	case len(bytes.TrimSpace(raw)) == 0:
		return nil, errors.New("the file is empty")
	case len(other) > 0 && strings.HasSuffix(other[0], typeKey):
		return nil, errors.New("it holds a private key, no certificate; are the two swapped?")
	case len(other) > 0 && strings.HasSuffix(other[0], "CERTIFICATE REQUEST"):
		return nil, errors.New("it is a request for a certificate (CSR), which a CA must sign yet")
	case len(other) > 0:
		return nil, fmt.Errorf("it holds no certificate, but %q", other[0])
	}
	if _, err := x509.ParseCertificate(raw); err == nil {
		return nil, errDER
	}
	return nil, errors.New("there is no certificate in it, as lines from -----BEGIN CERTIFICATE-----")
}

var errDER = errors.New("it is DER, and must be PEM")

// readChain returns the certificates of a file; fs.ErrNotExist if it is missing.
func readChain(file string) ([]*x509.Certificate, error) {
	raw, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	chain, err := ParseChain(raw)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	return chain, nil
}

// readKey returns the key of a file; fs.ErrNotExist if it is missing.
func readKey(file string) (crypto.Signer, error) {
	raw, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	key, err := parseKey(raw)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	return key, nil
}

func encodeChain(chain ...*x509.Certificate) []byte {
	var b []byte
	for _, c := range chain {
		b = append(b, pem.EncodeToMemory(&pem.Block{Type: typeCertificate, Bytes: c.Raw})...)
	}
	return b
}

func encodeKey(key crypto.Signer) ([]byte, error) {
	der, err := x509.MarshalPKCS8PrivateKey(key)
	return pem.EncodeToMemory(&pem.Block{Type: typeKey, Bytes: der}), err
}

// replace writes a file so that at any time it is whole, old or new.
func replace(file string, raw []byte, mode fs.FileMode) error {
	return place(file, raw, mode, os.Rename)
}

// create writes a file that is whole once it is there.
// Errors: fs.ErrExist if it was there before.
func create(file string, raw []byte, mode fs.FileMode) error {
	return place(file, raw, mode, func(temp, file string) error {
		if err := os.Link(temp, file); err == nil || errors.Is(err, fs.ErrExist) {
			return err
		}
		if _, err := os.Lstat(file); !errors.Is(err, fs.ErrNotExist) { // No links here, as on FAT.
			return fs.ErrExist
		}
		return os.Rename(temp, file)
	})
}

func place(file string, raw []byte, mode fs.FileMode, move func(temp, file string) error) (err error) {
	dir := filepath.Dir(file)
	temp, err := os.CreateTemp(dir, "."+filepath.Base(file)+".*")
	if err != nil {
		return err
	}
	defer func() { _ = os.Remove(temp.Name()) }() // It has gone if it was moved.
	_, err = temp.Write(raw)
	if err == nil {
		err = temp.Chmod(mode)
	}
	if err == nil {
		err = temp.Sync()
	}
	if closeErr := temp.Close(); err == nil {
		err = closeErr
	}
	if err == nil {
		err = move(temp.Name(), file)
	}
	if err != nil {
		return fmt.Errorf("write %s: %w", file, err)
	}
	return syncDir(dir)
}

func syncDir(dir string) error {
	if runtime.GOOS == "windows" { // It has no such thing.
		return nil
	}
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}
