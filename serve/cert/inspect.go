package cert

import (
	"crypto/x509"
	"time"
)

// Inspect says what is wrong with a certificate and its key, the worst first.
// Without p.Key only the certificate is looked at.
func Inspect(p Pair, now time.Time) []Problem { return nil }

// InspectCAs says what is wrong with a file of CA certificates, as those of
// client certificates.
func InspectCAs(file string, now time.Time) []Problem { return nil }

// InspectChain says what is wrong with the certificates that a server showed,
// its own first. file is where they are from, for the problems; may be empty.
func InspectChain(chain []*x509.Certificate, file string, now time.Time) []Problem { return nil }
