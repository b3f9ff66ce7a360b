package token

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/regctl/regctl/serve/auth"
)

// payload is the claims as they are written. The audience is one string: a
// list is not understood by registry:2.
type payload struct {
	Issuer    string        `json:"iss"`
	Subject   string        `json:"sub"`
	Audience  string        `json:"aud"`
	Expires   int64         `json:"exp"`
	NotBefore int64         `json:"nbf"`
	IssuedAt  int64         `json:"iat"`
	ID        string        `json:"jti"`
	Access    []auth.Access `json:"access"`
	Who       *who          `json:"regctl,omitempty"` // In tokens for ourselves.
}

// who says whom to ask about the subject.
type who struct {
	Source string `json:"source"`
	ID     string `json:"id,omitempty"`
}

// Issue signs a token that says c. With ours it is for this registry, else for
// another one that trusts us: it has the certificate of its key, and does not
// say where its subject is known. An empty ID is made up; times that are zero
// are now. A token lives for a day at most.
// Errors: keys that have ended and cannot be made.
func (k *Keys) Issue(c Claims, ours bool) (string, error) {
	now := k.o.Now()
	ring, err := k.ring(now)
	if err != nil {
		return "", fmt.Errorf("sign a token: %w", err)
	}
	if c.ID == "" {
		c.ID = newID()
	}
	if c.IssuedAt.IsZero() {
		c.IssuedAt = now
	}
	if c.NotBefore.IsZero() {
		c.NotBefore = c.IssuedAt
	}
	if last := now.Add(longest); c.Expires.After(last) {
		c.Expires = last
	}
	p := payload{c.Issuer, c.Subject, c.Audience, c.Expires.Unix(), c.NotBefore.Unix(), c.IssuedAt.Unix(), c.ID, c.Access, nil}
	if p.Access == nil {
		p.Access = []auth.Access{}
	}
	o := (&jose.SignerOptions{}).WithType("JWT")
	if ours {
		p.Who = &who{c.Source, c.SourceID}
	} else {
		o = o.WithHeader("x5c", []string{base64.StdEncoding.EncodeToString(ring.sign.cert.Raw)})
	}
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.ES256, Key: jose.JSONWebKey{Key: ring.sign.private, KeyID: ring.sign.id}}, o)
	if err != nil {
		return "", fmt.Errorf("sign a token: %w", err)
	}
	raw, err := json.Marshal(p)
	if err != nil {
		return "", fmt.Errorf("sign a token: %w", err)
	}
	signed, err := signer.Sign(raw)
	if err != nil {
		return "", fmt.Errorf("sign a token: %w", err)
	}
	return signed.CompactSerialize()
}

// Verify returns what a token says that these keys have signed for ourselves,
// if it has not ended. Whether it is for the service that was asked, the caller
// must look at. Its Access is shared: nobody may change it.
// Errors: [ErrExpired], [ErrInvalid].
func (k *Keys) Verify(raw string) (Claims, error) {
	if len(raw) > tooLong {
		return Claims{}, ErrInvalid
	}
	now := k.o.Now()
	c, ok := k.verified.Get(raw)
	if !ok {
		var err error
		if c, err = k.verify(raw, now); err != nil {
			return Claims{}, err
		}
	}
	if err := c.check(now); err != nil {
		return Claims{}, err
	}
	if now.Add(longest + leeway).Before(c.Expires) { // Issue makes no such token: its key was stolen.
		return Claims{}, ErrInvalid
	}
	if !ok && len(raw) <= rememberUpTo {
		k.verified.Add(strings.Clone(raw), c) // It is a part of all headers of its request.
	}
	return *c, nil
}

func (k *Keys) verify(raw string, now time.Time) (*Claims, error) {
	// Nothing of the header chooses but a name among ours: a key in it, or
	// another algorithm, is what a forger would put there.
	signed, err := jose.ParseSignedCompact(raw, []jose.SignatureAlgorithm{jose.ES256})
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	header := signed.Signatures[0].Protected
	if typ, _ := header.ExtraHeaders["typ"].(string); typ != "JWT" || header.JSONWebKey != nil {
		return nil, fmt.Errorf("%w: its header is not one of ours", ErrInvalid)
	}
	ring := k.current.Load()
	i := slices.IndexFunc(ring.old, func(one *key) bool { return one.id == header.KeyID && one.lives(now) })
	by := ring.sign
	switch {
	case by.id == header.KeyID:
	case i >= 0:
		by = ring.old[i]
	default:
		return nil, fmt.Errorf("%w: its key is none of ours", ErrInvalid)
	}
	body, err := signed.Verify(by.public)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	var p payload
	if err := json.Unmarshal(body, &p); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	if p.Who == nil {
		return nil, fmt.Errorf("%w: %w", ErrInvalid, errElsewhere)
	}
	return &Claims{
		ID: p.ID, Issuer: p.Issuer, Subject: p.Subject, Audience: p.Audience,
		IssuedAt: time.Unix(p.IssuedAt, 0), NotBefore: time.Unix(p.NotBefore, 0), Expires: time.Unix(p.Expires, 0),
		Access: p.Access, Source: p.Who.Source, SourceID: p.Who.ID,
	}, nil
}

// errElsewhere says that we have signed a token, but for another registry.
var errElsewhere = errors.New("it is for another registry")
