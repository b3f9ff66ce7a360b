// Package token makes and checks the signed tokens of the Docker token
// protocol: those that this registry gives out at /v2/_token, with keys of its
// own that renew themselves, and those of a token server elsewhere.
package token

import (
	"errors"
	"time"

	"github.com/regctl/regctl/serve/auth"
)

var (
	// ErrInvalid says that a token is none, or that its signature, its key or
	// what it says is wrong.
	ErrInvalid = errors.New("the token is not valid")

	// ErrExpired says that a token was good once.
	ErrExpired = errors.New("the token has expired")
)

// Claims are what a token says.
type Claims struct {
	ID       string // Of the token.
	Issuer   string
	Subject  string // "alice", "robot:ci"; empty: anonymous.
	Audience string // The service that it is for.

	// Of tokens, in whole seconds.
	IssuedAt, NotBefore, Expires time.Time

	// Access is what the token is for. It may be empty.
	Access []auth.Access

	// Source and SourceID say whom to ask about the subject: see
	// [auth.Identity]. Tokens from elsewhere have none.
	Source, SourceID string
}

const (
	// leeway is how far clocks may be apart, as in registry:2.
	leeway = time.Minute

	// longest is how long a token lives at most, and so the one of a key that
	// signs no more.
	longest = 24 * time.Hour

	// tooLong is how many bytes no token has: it must go into a header, and one
	// for all that [ParseScope] takes does.
	tooLong = 60 << 10

	// rememberUpTo is how long a token may be to be remembered. Most have one
	// right, and less than a KiB.
	rememberUpTo = 2 << 10
)

// check holds the times of c against now.
func (c *Claims) check(now time.Time) error {
	switch {
	case !now.Before(c.Expires.Add(leeway)):
		return ErrExpired
	case now.Add(leeway).Before(c.NotBefore):
		return ErrInvalid
	}
	return nil
}
