package token

import (
	"crypto/ecdsa"
	"crypto/x509"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	lru "github.com/hashicorp/golang-lru/v2"
)

// Options say how [Keys] work. The zero value works.
type Options struct {
	// Now is the clock. Default: time.Now.
	Now func() time.Time

	// Log takes what an operator must know. Nil: nothing is logged.
	Log *slog.Logger

	// Give is told the name of each file that was made in the directory, and
	// gives it to whom the directory belongs. May be nil.
	Give func(name string) error
}

const (
	// signFor is how long a key signs before there is a new one.
	signFor = 30 * 24 * time.Hour

	// keyLife is how long the certificate of a key is good: a disk that is full
	// for a while, or a server that is off, does no harm.
	keyLife = 90 * 24 * time.Hour

	// tryAgain is how long after a new key could not be kept another is made.
	tryAgain = 10 * time.Minute

	// mostVerified is how many tokens are remembered.
	mostVerified = 4096
)

// Keys sign the tokens of a registry, and check them. They are for one process
// at a time, and safe for concurrent use.
type Keys struct {
	dir string // Empty: they are in memory.
	o   Options

	mu      sync.Mutex // Makes new keys.
	retry   time.Time  // Not before that.
	ca      *authority
	caKept  bool // It is in its files.
	current atomic.Pointer[ring]

	verified *lru.Cache[string, *Claims] // By the token.
}

// ring is the keys of a moment.
type ring struct {
	sign *key
	old  []*key // Sign no more, and are taken until the last of their tokens has ended.

	unkept bool // It would be lost at a restart.
}

// key is one that signs, or has signed.
type key struct {
	id      string // The thumbprint of RFC 7638.
	public  *ecdsa.PublicKey
	private *ecdsa.PrivateKey // Nil once it has retired.
	cert    *x509.Certificate
	until   time.Time // It signs until then.
	retired time.Time // Zero: it signs.
}

// signs tells whether k may go on. One of the future was made by a clock that
// was wrong: nobody elsewhere takes its tokens before that.
func (k *key) signs(now time.Time) bool {
	return now.Before(k.until) && !now.Before(k.cert.NotBefore)
}

// retire is what stays of a key that signs no more.
func (k *key) retire(now time.Time) *key {
	return &key{id: k.id, public: k.public, cert: k.cert, until: k.until, retired: now}
}

// OpenKeys returns the keys in dir, which are made if there are none; an empty
// dir keeps them in memory, for as long as the process lives. Keys that cannot
// be kept are made anyway, which is logged: tokens are short-lived.
// Errors: a file of keys that cannot be read, or is none.
func OpenKeys(dir string, o Options) (*Keys, error) {
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	k := &Keys{dir: dir, o: o}
	var err error
	if k.verified, err = lru.New[string, *Claims](mostVerified); err != nil {
		return nil, fmt.Errorf("open the keys of tokens: %w", err)
	}
	if err := k.load(); err != nil {
		return nil, fmt.Errorf("open the keys of tokens: %w", err)
	}
	return k, nil
}

// load reads the keys, or makes them.
func (k *Keys) load() error {
	now := k.o.Now()
	ca, err := k.loadAuthority(now)
	if err != nil {
		return err
	}
	k.ca = ca
	sign, old, err := k.readKeys()
	if err != nil {
		return err
	}
	if sign != nil {
		if sign.cert.CheckSignatureFrom(ca.cert) != nil { // The CA was taken away for a new one.
			sign.until = now
		}
		k.current.Store(&ring{sign: sign, old: old})
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	_, err = k.renew(now)
	return err
}

// ring returns the keys of now: if the one that signs is old, there is a new
// one.
func (k *Keys) ring(now time.Time) (*ring, error) {
	r := k.current.Load()
	if r.sign.signs(now) && !r.unkept {
		return r, nil
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.renew(now)
}

// renew makes a new key if it is time. One that cannot be kept takes the place
// of the old one only where that is no good any more.
func (k *Keys) renew(now time.Time) (*ring, error) {
	r := k.current.Load()
	switch {
	case r == nil:
	case now.Before(k.retry), r.sign.signs(now) && !r.unkept:
		return r, nil
	case r.sign.signs(now):
		return k.keepLate(r, now), nil
	}
	ca, err := k.renewAuthority(now)
	if err != nil {
		return nil, err
	}
	next := &ring{}
	if next.sign, err = ca.newKey(now); err != nil {
		return nil, err
	}
	if r != nil {
		next.old = living(append([]*key{r.sign.retire(now)}, r.old...), now)
	}
	err = k.keep(next)
	if next.unkept = err != nil || !k.caKept; next.unkept {
		k.retry = now.Add(tryAgain)
	}
	if err != nil {
		k.o.Log.Error("a new key of tokens cannot be kept", slog.Any("error", err))
		if r != nil && now.Before(r.sign.cert.NotAfter.Add(-longest)) {
			return r, nil
		}
	}
	k.ca = ca
	k.current.Store(next)
	return next, nil
}

// keepLate writes what could not be written when it was made.
func (k *Keys) keepLate(r *ring, now time.Time) *ring {
	if !k.caKept {
		k.caKept = k.keepAuthority(k.ca) == nil
	}
	if !k.caKept || k.keep(r) != nil {
		k.retry = now.Add(tryAgain) // Why, was told when it was made.
		return r
	}
	k.o.Log.Info("the keys of tokens are kept now")
	kept := &ring{sign: r.sign, old: r.old}
	k.current.Store(kept)
	return kept
}

// lives tells whether there may be a token of k that has not ended.
func (k *key) lives(now time.Time) bool {
	return k.retired.IsZero() || now.Before(k.retired.Add(longest+leeway))
}

// living are those of keys of which there may be a token that has not ended.
func living(keys []*key, now time.Time) []*key {
	var still []*key
	for _, old := range keys {
		if old.lives(now) {
			still = append(still, old)
		}
	}
	return still
}
