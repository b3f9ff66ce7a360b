package token

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base32"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/big"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/go-jose/go-jose/v4"
	lru "github.com/hashicorp/golang-lru/v2"
)

const (
	// mostKeys is how large a file of keys may be, in bytes.
	mostKeys = 4 << 20
	// settled is how old the last change of a file is before its times are
	// trusted: with a coarse clock two changes can bear the same one.
	settled = 2 * time.Second
)

// keyFile is a file of keys that may change.
type keyFile struct {
	path  string
	parse func(raw []byte) (found, error)

	info  os.FileInfo // What the file was when it was read; nil: not read.
	raw   []byte
	found found
}

// found are the keys of a file.
type found struct {
	certificates []*x509.Certificate
	keys         []jose.JSONWebKey
}

// changed tells whether the file may be another than what was read.
func (f *keyFile) changed(now time.Time) bool {
	info, err := os.Stat(f.path)
	return err != nil || f.info == nil || !os.SameFile(f.info, info) || f.info.Size() != info.Size() ||
		!f.info.ModTime().Equal(info.ModTime()) || now.Sub(info.ModTime()) < settled
}

// read reads the file, and tells whether it says something new.
func (f *keyFile) read() (fresh bool, err error) {
	file, err := os.Open(f.path)
	if err != nil {
		return false, err
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil {
		return false, err
	}
	if !info.Mode().IsRegular() {
		return false, fmt.Errorf("%s is not a file", f.path)
	}
	raw, err := io.ReadAll(io.LimitReader(file, mostKeys+1))
	if err != nil {
		return false, err
	}
	if len(raw) > mostKeys {
		return false, fmt.Errorf("%s has more than %d bytes", f.path, mostKeys)
	}
	if f.info != nil && bytes.Equal(raw, f.raw) {
		f.info = info
		return false, nil
	}
	all, err := f.parse(raw)
	if err != nil {
		return false, fmt.Errorf("%s: %w", f.path, err)
	}
	f.info, f.raw, f.found = info, raw, all
	return true, nil
}

// parseCertificates reads a PEM file. All in it that is no certificate is
// passed over, as by registry:2: the private key is often beside it.
func parseCertificates(raw []byte) (found, error) {
	var all found
	for {
		var block *pem.Block
		if block, raw = pem.Decode(raw); block == nil {
			break
		}
		if block.Type != "CERTIFICATE" {
			continue
		}
		c, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return found{}, err
		}
		all.certificates = append(all.certificates, c)
	}
	if len(all.certificates) == 0 {
		return found{}, errors.New("there is no certificate in it; it is a PEM file with the certificate of the token server")
	}
	return all, nil
}

// parseKeySet reads a JSON Web Key Set. Keys that sign nothing, or that are
// secrets, are passed over.
func parseKeySet(raw []byte) (found, error) {
	var set struct {
		Keys []json.RawMessage `json:"keys"`
	}
	if err := json.Unmarshal(raw, &set); err != nil {
		return found{}, errors.New("it is no JSON Web Key Set")
	}
	var all found
	for _, one := range set.Keys {
		var key jose.JSONWebKey
		if err := json.Unmarshal(one, &key); err != nil { // Of a kind that is not known.
			continue
		}
		if public := key.Public(); public.Valid() && (key.Use == "" || key.Use == "sig") {
			all.keys = append(all.keys, public)
		}
	}
	if len(all.keys) == 0 {
		return found{}, errors.New("there is no public key in it that signs")
	}
	return all, nil
}

// trusted returns what is trusted now: as the files were at most a second ago.
func (t *Trust) trusted(now time.Time) *trusted {
	if !t.mu.TryLock() { // Somebody looks.
		return t.now.Load()
	}
	defer t.mu.Unlock()
	if since := now.Sub(t.looked); since >= 0 && since < lookEvery {
		return t.now.Load()
	}
	t.looked = now
	if !slices.ContainsFunc(t.files, func(f *keyFile) bool { return f.changed(now) }) {
		return t.now.Load()
	}
	fresh, err := t.read()
	switch {
	case err != nil && err.Error() != t.said:
		t.said = err.Error()
		t.o.Log.Error("auth.token: the keys cannot be read again; those that were read last stay in force", slog.String("error", t.said))
	case err == nil:
		if t.said = ""; fresh {
			t.o.Log.Info("auth.token: the keys have changed, and were read again")
		}
	}
	return t.now.Load()
}

// read reads the files, and tells whether they say something new. What was good
// by the old keys is asked again.
func (t *Trust) read() (fresh bool, err error) {
	if len(t.files) == 0 {
		return false, errors.New("neither rootcertbundle nor jwks says whose tokens are good")
	}
	for _, f := range t.files {
		one, err := f.read()
		if err != nil {
			return false, err
		}
		t.stale = t.stale || one
	}
	if !t.stale {
		return false, nil
	}
	in := &trusted{roots: x509.NewCertPool(), keys: map[string][]crypto.PublicKey{}}
	if in.verified, err = lru.New[[sha256.Size]byte, remembered](mostVerified); err != nil {
		return false, err
	}
	for _, f := range t.files {
		in.take(f.found)
	}
	t.now.Store(in)
	t.stale = false
	return true, nil
}

// take makes the keys findable by all names that they have.
func (in *trusted) take(f found) {
	add := func(name string, key crypto.PublicKey) {
		if name != "" {
			in.keys[name] = append(in.keys[name], key)
		}
	}
	for _, c := range f.certificates {
		in.roots.AddCert(c)
		for _, name := range namesOf(c.PublicKey) {
			add(name, c.PublicKey)
		}
		add(genericName(c.PublicKey), c.PublicKey)
	}
	for _, k := range f.keys {
		names := append(namesOf(k.Key), k.KeyID)
		slices.Sort(names)
		for _, name := range slices.Compact(names) {
			add(name, k.Key)
		}
	}
}

// expired are the certificates that have ended.
func (t *Trust) expired() []*x509.Certificate {
	var ended []*x509.Certificate
	for _, f := range t.files {
		for _, c := range f.found.certificates {
			if t.o.Now().After(c.NotAfter) {
				ended = append(ended, c)
			}
		}
	}
	return ended
}

// namesOf are the names that token servers give a key: the thumbprint of RFC
// 7638, which registry 3 knows it by, the fingerprint of libtrust, by which
// registry:2 does, and the thumbprint as registry 3 makes it, without the
// zeros before a coordinate of a curve.
func namesOf(key any) []string {
	var names []string
	public := jose.JSONWebKey{Key: key}
	if sum, err := public.Thumbprint(crypto.SHA256); err == nil {
		names = append(names, base64.RawURLEncoding.EncodeToString(sum))
	}
	if f := fingerprint(key); f != "" {
		names = append(names, f)
	}
	if k, ok := key.(*ecdsa.PublicKey); ok {
		if point, err := k.Bytes(); err == nil {
			half := len(point) / 2 // 4, then the two coordinates.
			short := thumbprintEC(k, new(big.Int).SetBytes(point[1:1+half]), new(big.Int).SetBytes(point[1+half:]))
			if !slices.Contains(names, short) {
				names = append(names, short)
			}
		}
	}
	return names
}

// genericName is how docker_auth names any key of a curve if it is told not to
// by libtrust's fingerprint: it takes the base point for the key.
func genericName(key any) string {
	k, ok := key.(*ecdsa.PublicKey)
	if !ok {
		return ""
	}
	return thumbprintEC(k, k.Params().Gx, k.Params().Gy)
}

func thumbprintEC(k *ecdsa.PublicKey, x, y *big.Int) string {
	e := base64.RawURLEncoding.EncodeToString
	sum := sha256.Sum256([]byte(`{"crv":"` + k.Params().Name + `","kty":"EC","x":"` + e(x.Bytes()) + `","y":"` + e(y.Bytes()) + `"}`))
	return e(sum[:])
}

// fingerprint is the name of a key in libtrust: 30 bytes of the SHA-256 of its
// DER form, in base 32, four letters each.
func fingerprint(key any) string {
	switch key.(type) {
	case *rsa.PublicKey, *ecdsa.PublicKey, ed25519.PublicKey:
	default:
		return ""
	}
	der, err := x509.MarshalPKIXPublicKey(key)
	if err != nil {
		return ""
	}
	sum := sha256.Sum256(der)
	var groups []string
	for group := range slices.Chunk([]byte(base32.StdEncoding.EncodeToString(sum[:30])), 4) {
		groups = append(groups, string(group))
	}
	return strings.Join(groups, ":")
}
