// Package cert makes certificates that TLS clients of today take, of a private
// CA, and says what is wrong with those that others made.
package cert

import (
	"fmt"
	"time"
)

// Level is how bad a [Problem] is.
type Level int

// The levels: with a Note it works, and there is something to know; after a
// Warning the server works, but some clients refuse it, or will, or it is not
// safe; with a Fault no server can use it.
const (
	Note Level = iota
	Warning
	Fault
)

// String returns the level as users read it.
func (l Level) String() string {
	switch l {
	case Note:
		return "note"
	case Warning:
		return "warning"
	case Fault:
		return "error"
	}
	return fmt.Sprintf("level %d", int(l))
}

// Problem is what is wrong with a certificate or a key.
type Problem struct {
	Level Level
	File  string // Where; empty: with what a server showed.
	Text  string // What is wrong, for whom.
	Try   string // What to do about it, in one line; may be empty.
}

// String returns the problem in one line, without its level.
func (p Problem) String() string {
	s := p.Text
	if p.File != "" {
		s = p.File + ": " + s
	}
	if p.Try != "" {
		s += ". Try: " + p.Try
	}
	return s
}

// Pair names the files of a certificate, with the chain that follows it, and
// of its key, both in PEM.
type Pair struct{ Certificate, Key string }

// Made are the files that [Self] keeps in a directory.
type Made struct {
	CA string // The certificate of the CA: what clients must trust.
	Pair

	NewCA     bool      // Clients do not know this CA yet.
	RenewedCA bool      // The CA has a new certificate, of the same key; copy it before the old one ends.
	NewLeaf   bool      // The certificate has just been made.
	Kept      error     // Nil, or why the certificate stays, which is good, though it is to be renewed.
	Names     []string  // What the certificate is for.
	Until     time.Time // The certificate ends.
	Renew     time.Time // It is to be renewed: call Self again.
}
