package auth

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	hashes "hash"
	"log/slog"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	lru "github.com/hashicorp/golang-lru/v2"
	"golang.org/x/sync/singleflight"
)

const (
	// rememberFor is how long a password that was right is not checked again.
	rememberFor = time.Minute
	// rememberMost is how many are remembered.
	rememberMost = 4096
	// waitMost is how many checks may wait for their turn: some three seconds
	// of checks at [DefaultCost].
	waitMost = 64
	// longest is how long a password may be that is checked at all. For
	// SHA-crypt the time grows with the square of the length.
	longest = 512
)

// Options say how an [Htpasswd] works. The zero value works.
type Options struct {
	// Log takes what an operator must know. Nil: nothing is logged.
	Log *slog.Logger
	// Now is the clock. Default: time.Now.
	Now func() time.Time
	// Checks is how many passwords are checked at a time, each on a core of
	// its own. Default: half of the cores. Passwords that were right before
	// have one more.
	Checks int

	cost int // Of the password that is made up. Default: DefaultCost.
}

// Htpasswd checks passwords against an htpasswd file, as it is now. It is safe
// for concurrent use.
type Htpasswd struct {
	source *source
	now    func() time.Time

	key     [32]byte                                 // Of the sums of what is remembered. It never leaves the process.
	summers sync.Pool                                // Of *summer.
	right   *lru.Cache[[sha256.Size]byte, time.Time] // When a sum was found right.
	wrong   *lru.Cache[[sha256.Size]byte, time.Time] // Apart, so that guesses displace nobody.
	flight  singleflight.Group
	turns   chan struct{}
	again   chan struct{} // A turn for those who were right before, whoever else waits.
	asked   atomic.Int64  // How many of the others have or want a turn.

	check func(h hash, password string) bool // hash.matches
}

// OpenHtpasswd reads the file at path, and reads it again when it changes. If
// there is none, it is made as registry:2 does: with a user docker, whose
// random password is logged, once.
// Errors: those of the file system, [*DamageError].
func OpenHtpasswd(path string, o Options) (*Htpasswd, error) {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Checks <= 0 {
		o.Checks = max(1, runtime.GOMAXPROCS(0)/2)
	}
	if o.cost == 0 {
		o.cost = DefaultCost
	}
	h := &Htpasswd{now: o.Now, turns: make(chan struct{}, o.Checks), again: make(chan struct{}, 1), check: hash.matches}
	_, _ = rand.Read(h.key[:]) // Never fails: see crypto/rand.
	var err error
	for _, remembered := range []**lru.Cache[[sha256.Size]byte, time.Time]{&h.right, &h.wrong} {
		if *remembered, err = lru.New[[sha256.Size]byte, time.Time](rememberMost); err != nil {
			return nil, fmt.Errorf("open %s: %w", path, err)
		}
	}
	if err := provide(path, o.cost, o.Log); err != nil {
		return nil, fmt.Errorf("make the htpasswd file: %w", err)
	}
	if h.source, err = openSource(path, o.Log, o.Now()); err != nil {
		return nil, fmt.Errorf("read the htpasswd file: %w", err)
	}
	return h, nil
}

// Verify returns nil if password is that of user. A password that was right is
// remembered for a minute, unless it is replaced; a user who is taken out of
// the file is out within a second. To be wrong takes the same time for any name
// and any password, but for one that no htpasswd can make, and for the same one
// again: what has an old password asks with it all night.
// Errors: [ErrDenied], [ErrBusy], those of ctx.
func (h *Htpasswd) Verify(ctx context.Context, user, password string) error {
	if len(password) > longest {
		return ErrDenied
	}
	users := h.source.users(h.now(), false)
	if known, ok := users.hashes[user]; ok && h.remembers(h.right, h.sum(known, user, password)) {
		return nil
	}
	// It is going to take long anyway, so that a look at the file is nothing.
	users = h.source.users(h.now(), true)
	known := users.hashes[user] // If there is none: a kind that nothing matches.
	sum := h.sum(known, user, password)
	if h.remembers(h.wrong, sum) {
		return ErrDenied
	}
	for {
		done := h.flight.DoChan(string(sum[:]), func() (any, error) {
			return nil, h.verify(ctx, users, known, sum, password)
		})
		select {
		case r := <-done:
			if errors.Is(r.Err, errAbandoned) && ctx.Err() == nil {
				continue // Another one has gone away, who had asked the same.
			}
			return r.Err
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// errAbandoned says that who asked for a check has gone before it began.
var errAbandoned = errors.New("nobody waits for the check")

// verify checks a password when it is its turn.
func (h *Htpasswd) verify(ctx context.Context, users *users, known hash, sum [sha256.Size]byte, password string) error {
	var again chan struct{}
	if h.right.Contains(sum) { // It was right: those who guess do not keep it out.
		again = h.again
	} else {
		defer h.asked.Add(-1)
		if h.asked.Add(1) > int64(cap(h.turns)+waitMost) {
			return ErrBusy
		}
	}
	select {
	case h.turns <- struct{}{}:
		defer func() { <-h.turns }()
	case again <- struct{}{}:
		defer func() { <-again }()
	case <-ctx.Done():
		return errAbandoned
	}
	if ctx.Err() != nil {
		return errAbandoned
	}
	if h.remembers(h.right, sum) { // Somebody was a moment faster.
		return nil
	}
	if known.kind != "" && h.check(known, password) {
		h.right.Add(sum, h.now())
		return nil
	}
	for _, d := range users.decoys(known) {
		h.check(d, password)
	}
	h.wrong.Add(sum, h.now())
	return ErrDenied
}

// remembers tells whether a password was found right, or wrong, a while ago.
func (h *Htpasswd) remembers(among *lru.Cache[[sha256.Size]byte, time.Time], sum [sha256.Size]byte) bool {
	at, ok := among.Get(sum)
	if !ok {
		return false
	}
	age := h.now().Sub(at)
	return age >= 0 && age < rememberFor
}

// summer makes sums. It is used again and again, as every request needs one.
type summer struct {
	mac  hashes.Hash
	text []byte
}

// sum stands for a user, a password and the hash that it was held against: with
// a new hash it is another.
func (h *Htpasswd) sum(known hash, user, password string) (sum [sha256.Size]byte) {
	s, ok := h.summers.Get().(*summer)
	if !ok {
		s = &summer{mac: hmac.New(sha256.New, h.key[:])}
	}
	for _, part := range [...]string{user, known.encoded, password} {
		s.text = binary.LittleEndian.AppendUint64(s.text, uint64(len(part)))
		s.text = append(s.text, part...)
	}
	s.mac.Reset()
	s.mac.Write(s.text)
	copy(sum[:], s.mac.Sum(s.text[:0]))
	clear(s.text[:cap(s.text)]) // There was a password in it.
	s.text = s.text[:0]
	h.summers.Put(s)
	return sum
}

// users are those of a file who may log in.
type users struct {
	hashes map[string]hash
	names  map[string]bool // Also of those who may not.
	most   map[Kind]int    // The highest cost of each kind.
}

// usersOf returns those of f. Who cannot log in is unknown.
func usersOf(f *File) *users {
	u := &users{hashes: map[string]hash{}, names: map[string]bool{}, most: map[Kind]int{}}
	for _, l := range f.lines {
		if l.what != isUser || l.user == "" {
			continue
		}
		u.names[l.user] = true
		if l.hash.kind.Refused() != "" {
			delete(u.hashes, l.user) // The last line counts.
			continue
		}
		u.hashes[l.user] = l.hash
	}
	for _, h := range u.hashes {
		u.most[h.kind] = max(u.most[h.kind], h.cost)
	}
	return u
}

// decoys are what to check after a check of h, so that the sum is the same for
// every h: for each kind that there is, the highest cost. Of bcrypt, the time
// doubles with each step: 2^c + 2^c + 2^(c+1) + … + 2^(max-1) = 2^max.
func (u *users) decoys(h hash) []hash {
	var ds []hash
	for _, k := range []Kind{Bcrypt, APR1, SHA256, SHA512} {
		most, ok := u.most[k]
		switch {
		case !ok:
		case k != h.kind:
			ds = append(ds, decoy(k, most))
		case k == Bcrypt:
			for c := h.cost; c < most; c++ {
				ds = append(ds, decoy(k, c))
			}
		case most-h.cost >= fewestRounds:
			ds = append(ds, decoy(k, most-h.cost))
		}
	}
	return ds
}
