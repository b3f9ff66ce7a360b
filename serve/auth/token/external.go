package token

import (
	"crypto"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"
	lru "github.com/hashicorp/golang-lru/v2"

	"github.com/regctl/regctl/serve/auth"
)

// TrustOptions say which tokens of a token server elsewhere are good: the
// section auth.token of config.yml.
type TrustOptions struct {
	Issuer  string // What the tokens must say, to the letter.
	Service string // What they must be for.

	// RootCertBundle is a PEM file: the certificates of keys that sign, or
	// authorities whose certificates do. JWKS is a file with a JSON Web Key Set.
	// One of the two may be empty.
	RootCertBundle, JWKS string

	// Algorithms are those that are taken, by their names in JOSE. Empty: all
	// that are known. Those with a secret that both sides know are never taken:
	// a public key would be such a secret.
	Algorithms []string

	// Now is the clock. Default: time.Now.
	Now func() time.Time

	// Log takes what an operator must know. Nil: nothing is logged.
	Log *slog.Logger
}

const (
	// lookEvery is how often the files of keys are looked at.
	lookEvery = time.Second

	// longestHeader is how many bytes the header of a token may have. There is
	// room for a chain of four certificates with large keys: anybody can send
	// more, and have each held against each.
	longestHeader = 16 << 10
)

// Trust checks the tokens of a token server elsewhere. It is safe for
// concurrent use.
type Trust struct {
	o          TrustOptions
	algorithms []jose.SignatureAlgorithm
	files      []*keyFile

	mu     sync.Mutex // Looks at the files.
	looked time.Time
	said   string // What was complained about last.
	stale  bool   // The files say more than now does.

	now atomic.Pointer[trusted]
}

// trusted is what is trusted at a moment, and the tokens that were good by it.
type trusted struct {
	roots    *x509.CertPool
	keys     map[string][]crypto.PublicKey
	verified *lru.Cache[[sha256.Size]byte, remembered]
}

// remembered is a token that was good, and is until a certificate of its ends;
// zero: it has none.
type remembered struct {
	*Claims
	until time.Time
}

// OpenTrust reads the keys that are trusted. They are read again when their
// files change; a file that cannot be read leaves what there was, which is
// logged.
// Errors: a file that cannot be read or has no key in it; an algorithm that is
// not known.
func OpenTrust(o TrustOptions) (*Trust, error) {
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	algorithms, err := parseAlgorithms(o.Algorithms)
	if err != nil {
		return nil, err
	}
	t := &Trust{o: o, algorithms: algorithms, looked: o.Now()}
	if o.RootCertBundle != "" {
		t.files = append(t.files, &keyFile{path: o.RootCertBundle, parse: parseCertificates})
	}
	if o.JWKS != "" {
		t.files = append(t.files, &keyFile{path: o.JWKS, parse: parseKeySet})
	}
	if _, err := t.read(); err != nil {
		return nil, err
	}
	for _, c := range t.expired() {
		o.Log.Warn("auth.token: a certificate of rootcertbundle has ended; tokens that name its key are taken nevertheless, as by registry:2",
			slog.String("file", o.RootCertBundle), slog.String("subject", c.Subject.String()), slog.Time("ended", c.NotAfter))
	}
	return t, nil
}

// parseAlgorithms reads the names of algorithms. Those of distribution's list
// that need a shared secret are passed over.
func parseAlgorithms(names []string) ([]jose.SignatureAlgorithm, error) {
	asymmetric := []jose.SignatureAlgorithm{
		jose.RS256, jose.RS384, jose.RS512, jose.PS256, jose.PS384, jose.PS512, jose.ES256, jose.ES384, jose.ES512, jose.EdDSA,
	}
	if len(names) == 0 {
		return asymmetric, nil
	}
	var taken []jose.SignatureAlgorithm
	for _, name := range names {
		switch a := jose.SignatureAlgorithm(name); {
		case slices.Contains(asymmetric, a):
			taken = append(taken, a)
		case a == jose.HS256, a == jose.HS384, a == jose.HS512:
		default:
			return nil, fmt.Errorf("signingalgorithms: %q is not known; those that are: %v", name, asymmetric)
		}
	}
	if len(taken) == 0 {
		return nil, fmt.Errorf("signingalgorithms: none of %s has a public key; take one of %v", strings.Join(names, ", "), asymmetric)
	}
	return taken, nil
}

// Verify returns what raw says, if it is signed by a key that is trusted, made
// by the issuer, for the service, and good now.
// Errors: [ErrInvalid], [ErrExpired], with why, for the log.
func (t *Trust) Verify(raw string) (Claims, error) {
	now := t.o.Now()
	if len(raw) > tooLong {
		return Claims{}, fmt.Errorf("%w: it has more than %d bytes", ErrInvalid, tooLong)
	}
	in := t.trusted(now)
	sum := sha256.Sum256([]byte(raw))
	c, ok := in.verified.Get(sum)
	if ok = ok && (c.until.IsZero() || now.Before(c.until)); !ok {
		var err error
		if c, err = t.parse(in, raw, now); err != nil {
			return Claims{}, fmt.Errorf("%w: %w", ErrInvalid, err)
		}
	}
	if err := c.check(now); err != nil {
		return Claims{}, err
	}
	if !ok && len(payloadOf(raw)) <= rememberUpTo {
		in.verified.Add(sum, c)
	}
	return *c.Claims, nil
}

// payloadOf is the part of a token of which is remembered what it says: its
// header may be long, with certificates.
func payloadOf(raw string) string {
	_, rest, _ := strings.Cut(raw, ".")
	payload, _, _ := strings.Cut(rest, ".")
	return payload
}

// external are the claims of a token as they are written.
type external struct {
	Issuer    string           `json:"iss"`
	Subject   string           `json:"sub"`
	Audience  jwt.Audience     `json:"aud"` // One, or a list.
	Expires   *jwt.NumericDate `json:"exp"`
	NotBefore *jwt.NumericDate `json:"nbf"`
	IssuedAt  *jwt.NumericDate `json:"iat"`
	ID        string           `json:"jti"`
	Access    []*auth.Access   `json:"access"`
}

// parse checks all of raw but its times.
func (t *Trust) parse(in *trusted, raw string, now time.Time) (remembered, error) {
	if strings.IndexByte(raw, '.') > longestHeader {
		return remembered{}, fmt.Errorf("its header has more than %d bytes", longestHeader)
	}
	signed, err := jwt.ParseSigned(raw, t.algorithms)
	if err != nil {
		return remembered{}, err
	}
	keys, until, err := in.keysOf(signed.Headers[0], now)
	if err != nil {
		return remembered{}, err
	}
	c, err := t.claimsOf(signed, keys)
	return remembered{c, until}, err
}

// claimsOf returns what is signed by one of the keys.
func (t *Trust) claimsOf(signed *jwt.JSONWebToken, keys []crypto.PublicKey) (*Claims, error) {
	var said json.RawMessage
	err := errors.New("it names no key")
	for _, key := range keys {
		if err = signed.Claims(key, &said); err == nil {
			break
		}
	}
	if err != nil {
		return nil, err
	}
	var e external
	if err := json.Unmarshal(said, &e); err != nil {
		return nil, err
	}
	if e.Issuer != t.o.Issuer {
		return nil, fmt.Errorf("it was made by %q, not by %q, which is auth.token.issuer", e.Issuer, t.o.Issuer)
	}
	if !slices.Contains(e.Audience, t.o.Service) {
		return nil, fmt.Errorf("it is for %q, not for %q, which is auth.token.service", []string(e.Audience), t.o.Service)
	}
	if e.Expires == nil {
		return nil, errors.New("it says not when it ends")
	}
	return e.claims(t.o.Service), nil
}

func (e *external) claims(service string) *Claims {
	c := &Claims{ID: e.ID, Issuer: e.Issuer, Subject: e.Subject, Audience: service,
		IssuedAt: e.IssuedAt.Time(), NotBefore: e.NotBefore.Time(), Expires: e.Expires.Time()}
	for _, a := range e.Access {
		if a != nil {
			c.Access = append(c.Access, *a)
		}
	}
	return c
}

// keysOf are the keys that may have signed what has this header: by its
// certificates, else by the key it bears, else by the name of one. What the
// header says is a key is never taken for one: it names one of ours. They are
// good until a certificate ends; zero: none is asked.
func (in *trusted) keysOf(h jose.Header, now time.Time) ([]crypto.PublicKey, time.Time, error) {
	chains, err := h.Certificates(verifyOptions(in.roots, now))
	switch {
	case err == nil:
		key, until := ofChain(chains[0])
		return key, until, nil
	case !errors.Is(err, jose.ErrMissingX5cHeader):
		return nil, time.Time{}, fmt.Errorf("its certificate: %w", err)
	}
	names := []string{h.KeyID}
	if h.JSONWebKey != nil {
		if chain := h.JSONWebKey.Certificates; len(chain) > 0 {
			return in.below(chain, now)
		}
		names = namesOf(h.JSONWebKey.Key)
	}
	for _, name := range names {
		if keys := in.keys[name]; name != "" && len(keys) > 0 {
			return keys, time.Time{}, nil
		}
	}
	return nil, time.Time{}, fmt.Errorf("its key %q is none of those that are trusted", strings.Join(names, " "))
}

// below is the key of the first certificate, if the chain is good.
func (in *trusted) below(chain []*x509.Certificate, now time.Time) ([]crypto.PublicKey, time.Time, error) {
	o := verifyOptions(in.roots, now)
	o.Intermediates = x509.NewCertPool()
	for i, c := range chain {
		// As in the header x5c: to hold a signature against such a key takes seconds.
		if key, ok := c.PublicKey.(*rsa.PublicKey); ok && key.N.BitLen() > jose.MaxRSAModulusBits {
			return nil, time.Time{}, errors.New("a certificate of its key has a key that is too large")
		}
		if i > 0 {
			o.Intermediates.AddCert(c)
		}
	}
	chains, err := chain[0].Verify(o)
	if err != nil {
		return nil, time.Time{}, fmt.Errorf("the certificate of its key: %w", err)
	}
	key, until := ofChain(chains[0])
	return key, until, nil
}

// ofChain is the key that a chain vouches for, and until when.
func ofChain(chain []*x509.Certificate) ([]crypto.PublicKey, time.Time) {
	until := chain[0].NotAfter
	for _, c := range chain[1:] {
		if c.NotAfter.Before(until) {
			until = c.NotAfter
		}
	}
	return []crypto.PublicKey{chain[0].PublicKey}, until
}

func verifyOptions(roots *x509.CertPool, now time.Time) x509.VerifyOptions {
	return x509.VerifyOptions{Roots: roots, CurrentTime: now, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny}}
}
