package auth

import (
	"crypto/subtle"
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"

	"github.com/GehirnInc/crypt"
	"github.com/GehirnInc/crypt/apr1_crypt"
	"github.com/GehirnInc/crypt/sha256_crypt"
	"github.com/GehirnInc/crypt/sha512_crypt"
	"golang.org/x/crypto/bcrypt"
)

// Kind is how a password is kept.
type Kind string

// The kinds of htpasswd files. registry:2 lets in only who has Bcrypt.
const (
	Bcrypt Kind = "bcrypt"
	APR1   Kind = "apr1"   // MD5, which htpasswd uses unless told otherwise.
	SHA256 Kind = "sha256" // $5$
	SHA512 Kind = "sha512" // $6$

	SHA1    Kind = "sha1"    // {SHA}: without a salt; refused.
	Crypt   Kind = "crypt"   // Of DES, of which 8 characters count; refused.
	Plain   Kind = "plain"   // Or nothing that is known; refused.
	TooSlow Kind = "tooslow" // Takes longer than a login may; refused.
)

// Refused is why passwords of this kind are not checked, or "".
func (k Kind) Refused() string {
	switch k {
	case SHA1:
		return "{SHA} has no salt and is broken in seconds"
	case Crypt:
		return "DES crypt looks at eight characters only"
	case Plain:
		return "it is no hash that is known here"
	case TooSlow:
		return "its cost is so high that a login would take minutes"
	}
	return ""
}

const (
	// MinCost is the least cost of [Hash], as in Apache's htpasswd.
	MinCost = bcrypt.MinCost
	// MaxCost is the highest.
	MaxCost = 17
	// DefaultCost takes some 50 ms of one core for a check. Apache's 5, from
	// 1999, takes 2: a stolen file is searched 32 times faster. More would be
	// felt by servers whose clients log in with every request.
	DefaultCost = bcrypt.DefaultCost

	maxPassword = 72 // What bcrypt looks at.

	slowestBcrypt = 18        // Some 15 seconds.
	mostRounds    = 5_000_000 // Some 3 seconds.
	fewestRounds  = 1000      // What is less is taken for this.
	defaultRounds = 5000
)

// ErrPasswordTooLong says that a password is longer than the 72 bytes that
// bcrypt looks at.
var ErrPasswordTooLong = errors.New("the password has more than 72 bytes, and bcrypt looks at no more: it would be weaker than it seems")

// Hash returns the bcrypt hash of a password, as it stands in an htpasswd file.
// Errors: [ErrPasswordTooLong]; a cost that is not between [MinCost] and
// [MaxCost].
func Hash(password string, cost int) (string, error) {
	if len(password) > maxPassword {
		return "", ErrPasswordTooLong
	}
	if cost < MinCost || cost > MaxCost {
		return "", fmt.Errorf("hash a password: the cost is %d, not between %d and %d", cost, MinCost, MaxCost)
	}
	raw, err := bcrypt.GenerateFromPassword([]byte(password), cost)
	if err != nil {
		return "", fmt.Errorf("hash a password: %w", err)
	}
	// "2y" is what Apache's htpasswd writes. "2a" means the same where the
	// implementation never had the fault that made a new name necessary.
	return "$2y$" + strings.TrimPrefix(string(raw), "$2a$"), nil
}

// hash is one password of a file.
type hash struct {
	kind    Kind
	cost    int // Of bcrypt: the exponent. Of SHA-crypt: the rounds.
	encoded string
}

// The forms of hashes. x/crypto takes "2x" for "2a", and so does registry:2.
const (
	bcryptForm = `^\$2[abxy]?\$([0-9]{2})\$[./A-Za-z0-9]{53}$`
	apr1Form   = `^\$apr1\$[^$:]{1,8}\$[./A-Za-z0-9]{22}$`
	sha256Form = `^\$5\$(?:rounds=([0-9]{1,9})\$)?[^$:]{1,16}\$[./A-Za-z0-9]{43}$`
	sha512Form = `^\$6\$(?:rounds=([0-9]{1,9})\$)?[^$:]{1,16}\$[./A-Za-z0-9]{86}$`
	desForm    = `^(?:[./A-Za-z0-9]{13}|_[./A-Za-z0-9]{19})$`
)

// forms reads hashes.
type forms struct{ bcrypt, apr1, sha256, sha512, des *regexp.Regexp }

func newForms() forms {
	return forms{
		bcrypt: regexp.MustCompile(bcryptForm), apr1: regexp.MustCompile(apr1Form),
		sha256: regexp.MustCompile(sha256Form), sha512: regexp.MustCompile(sha512Form), des: regexp.MustCompile(desForm),
	}
}

// parse tells what a hash is. It always is something: at worst a plain text.
func (f forms) parse(s string) hash {
	if m := f.bcrypt.FindStringSubmatch(s); m != nil {
		cost, _ := strconv.Atoi(m[1]) // Two digits.
		switch {
		case cost < bcrypt.MinCost || cost > bcrypt.MaxCost:
			return hash{Plain, 0, s}
		case cost > slowestBcrypt:
			return hash{TooSlow, cost, s}
		}
		return hash{Bcrypt, cost, s}
	}
	switch {
	case f.apr1.MatchString(s):
		return hash{APR1, 0, s}
	case strings.HasPrefix(s, "{SHA}"):
		return hash{SHA1, 0, s}
	case f.des.MatchString(s):
		return hash{Crypt, 0, s}
	}
	if m := f.sha256.FindStringSubmatch(s); m != nil {
		return withRounds(SHA256, m[1], s)
	}
	if m := f.sha512.FindStringSubmatch(s); m != nil {
		return withRounds(SHA512, m[1], s)
	}
	return hash{Plain, 0, s}
}

func withRounds(k Kind, rounds, s string) hash {
	n := defaultRounds
	if rounds != "" {
		n, _ = strconv.Atoi(rounds) // Up to nine digits.
		n = max(n, fewestRounds)
	}
	if n > mostRounds {
		return hash{TooSlow, n, s}
	}
	return hash{k, n, s}
}

// matches tells whether password is the one.
func (h hash) matches(password string) bool {
	if h.kind == Bcrypt {
		return bcrypt.CompareHashAndPassword([]byte(h.encoded), []byte(password)) == nil
	}
	var c crypt.Crypter
	switch h.kind {
	case APR1:
		c = apr1_crypt.New()
	case SHA256:
		c = sha256_crypt.New()
	case SHA512:
		c = sha512_crypt.New()
	default:
		return false
	}
	// With rounds, Verify takes what follows a short salt for a part of it.
	setting := h.encoded[:strings.LastIndexByte(h.encoded, '$')]
	got, err := c.Generate([]byte(password), []byte(setting))
	return err == nil && subtle.ConstantTimeCompare([]byte(got), []byte(h.encoded)) == 1
}

// decoy is a hash of a kind and a cost that is nobody's.
func decoy(k Kind, cost int) hash {
	const salt = "regctlregctlregctlregc"
	h := hash{kind: k, cost: cost}
	switch k {
	case Bcrypt:
		h.encoded = fmt.Sprintf("$2a$%02d$%s%s", cost, salt, strings.Repeat(".", 31))
	case APR1:
		h.encoded = "$apr1$" + salt[:8] + "$" + strings.Repeat(".", 22)
	case SHA256:
		h.encoded = fmt.Sprintf("$5$rounds=%d$%s$%s", cost, salt[:16], strings.Repeat(".", 43))
	case SHA512:
		h.encoded = fmt.Sprintf("$6$rounds=%d$%s$%s", cost, salt[:16], strings.Repeat(".", 86))
	}
	return h
}
