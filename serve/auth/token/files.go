package token

import (
	"crypto/ecdsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"
)

const (
	// keysFile holds the key that signs, its certificate, and the certificates
	// of keys that have signed lately.
	keysFile = "token.keys"

	typeCertificate = "CERTIFICATE"
	headerRetired   = "Retired" // When a key signed for the last time.
)

// readKeys returns the keys that were kept; sign is nil if there are none.
func (k *Keys) readKeys() (sign *key, old []*key, err error) {
	if k.dir == "" {
		return nil, nil, nil
	}
	raw, err := k.read(keysFile)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil, nil
	}
	if err != nil {
		return nil, nil, err
	}
	private, certs, err := parsePEM(raw)
	if err != nil || len(private) != 1 || len(certs) == 0 {
		return nil, nil, broken(k.dir, keysFile, err)
	}
	if sign, err = newKey(private[0], certs[0].cert); err != nil {
		return nil, nil, broken(k.dir, keysFile, err)
	}
	for _, c := range certs[1:] {
		one, err := newKey(nil, c.cert)
		if err != nil {
			return nil, nil, broken(k.dir, keysFile, err)
		}
		one.retired = c.retired
		old = append(old, one)
	}
	return sign, living(old, k.o.Now()), nil
}

// keep writes the keys of r.
func (k *Keys) keep(r *ring) error {
	if k.dir == "" {
		return nil
	}
	raw := slices.Concat(keyPEM(r.sign.private), certPEM(r.sign.cert))
	for _, one := range r.old {
		raw = append(raw, pem.EncodeToMemory(&pem.Block{
			Type: typeCertificate, Headers: map[string]string{headerRetired: one.retired.UTC().Format(time.RFC3339)}, Bytes: one.cert.Raw,
		})...)
	}
	return k.write(keysFile, raw)
}

func (k *Keys) read(name string) ([]byte, error) { return os.ReadFile(filepath.Join(k.dir, name)) }

// write puts a file in the place of another one: after a crash there is one of
// the two. It is for its owner alone.
func (k *Keys) write(name string, raw []byte) (err error) {
	temp := name + ".new" // One that a crash left is written again.
	f, err := os.OpenFile(filepath.Join(k.dir, temp), os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, f.Close(), os.Remove(f.Name()))
		}
	}()
	if _, err = f.Write(raw); err != nil {
		return err
	}
	if err = f.Sync(); err != nil {
		return err
	}
	if k.o.Give != nil {
		if err = k.o.Give(temp); err != nil {
			return err
		}
	}
	if err = os.Rename(f.Name(), filepath.Join(k.dir, name)); err != nil {
		return err
	}
	return errors.Join(f.Close(), syncDir(k.dir))
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// kept is a certificate as it is kept.
type kept struct {
	cert    *x509.Certificate
	retired time.Time // When its key signed for the last time.
}

// parsePEM returns what is in a file of ours.
func parsePEM(raw []byte) (keys []*ecdsa.PrivateKey, certs []kept, err error) {
	for block, rest := pem.Decode(raw); block != nil; block, rest = pem.Decode(rest) {
		if block.Type == typeCertificate {
			c, err := x509.ParseCertificate(block.Bytes)
			if err != nil {
				return nil, nil, err
			}
			one := kept{cert: c}
			if at := block.Headers[headerRetired]; at != "" {
				if one.retired, err = time.Parse(time.RFC3339, at); err != nil {
					return nil, nil, err
				}
			}
			certs = append(certs, one)
			continue
		}
		parsed, err := x509.ParsePKCS8PrivateKey(block.Bytes)
		if err != nil {
			return nil, nil, err
		}
		private, ok := parsed.(*ecdsa.PrivateKey)
		if !ok {
			return nil, nil, fmt.Errorf("a key is a %T, not one of ECDSA", parsed)
		}
		keys = append(keys, private)
	}
	return keys, certs, nil
}

func keyPEM(key *ecdsa.PrivateKey) []byte {
	raw, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil { // Cannot happen: a key of a curve that it knows.
		return nil
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: raw})
}

func certPEM(c *x509.Certificate) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: typeCertificate, Bytes: c.Raw})
}

// broken says that a file of ours is not as we wrote it.
func broken(dir, name string, err error) error {
	if err == nil {
		err = errors.New("it is not what was written there")
	}
	return fmt.Errorf("%s: %w; restore it, or take it away for a new one", filepath.Join(dir, name), err)
}
