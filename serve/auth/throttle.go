package auth

import (
	"context"
	"errors"
	"fmt"
	"hash/maphash"
	"log/slog"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/hashicorp/golang-lru/v2/simplelru"

	"github.com/regctl/regctl/client/oci"
)

// How many different wrong passwords are looked at, and after how long one
// more is: of an account from one address, from one address, of an account from
// anywhere. Addresses are shared, by whoever sits behind one router or proxy.
const (
	pairTries, pairEvery       = 10, time.Minute
	addrTries, addrEvery       = 100, 10 * time.Second
	accountTries, accountEvery = 100, 30 * time.Second

	// First passwords from elsewhere of an account that has no more of those:
	// where callers can make up addresses there is no end of elsewhere.
	firstTries, firstEvery = 1000, 10 * time.Second
)

const (
	throttleMost = 8192 // How much is remembered of each: some 8 MiB in all.
	wrongMost    = 16   // Wrong passwords of an account from one address.
	sayEvery     = 10 * time.Minute
	sayMost      = 64 // Bytes of a name in the log.
)

// ThrottledError says that there were too many wrong passwords, so that no
// other one is looked at for a while.
type ThrottledError struct{ After time.Duration }

// Error says what to do.
func (e *ThrottledError) Error() string {
	return fmt.Sprintf("too many wrong passwords: try again in %s", e.After)
}

// Unwrap is the [*oci.Error] that a client gets.
func (e *ThrottledError) Unwrap() error {
	return &oci.Error{Code: oci.TooManyRequests, Message: e.Error(), RetryAfter: e.After}
}

// throttle makes those wait who guess passwords. The same wrong password again
// is no guess: what has an old one somewhere asks with it all night. A login
// that was right before always passes, and is checked as any other.
type throttle struct {
	now  func() time.Time
	log  *slog.Logger
	seed maphash.Seed // Nobody knows it, so that nobody finds names with the same sum.

	mu       sync.Mutex
	right    *simplelru.LRU[uint64, struct{}] // Names with passwords.
	pairs    *simplelru.LRU[uint64, *pair]    // Accounts with addresses.
	addrs    *simplelru.LRU[uint64, *bucket]
	accounts *simplelru.LRU[uint64, *account]
	met      *simplelru.LRU[uint64, struct{}] // Accounts with networks that have tried them.
	said     time.Time
}

// pair is what is known of an account and an address.
type pair struct {
	bucket
	wrong []uint64 // Passwords that are not right, or not known to be.
	known bool     // There was a right one.
}

// account is what is known of an account from anywhere.
type account struct {
	bucket
	firsts bucket
}

func newThrottle(now func() time.Time, log *slog.Logger) *throttle {
	t := &throttle{now: now, log: log, seed: maphash.MakeSeed()}
	// The only error is that of a size that is not positive.
	t.right, _ = simplelru.NewLRU[uint64, struct{}](throttleMost, nil)
	t.pairs, _ = simplelru.NewLRU[uint64, *pair](throttleMost, nil)
	t.addrs, _ = simplelru.NewLRU[uint64, *bucket](throttleMost, nil)
	t.accounts, _ = simplelru.NewLRU[uint64, *account](throttleMost, nil)
	t.met, _ = simplelru.NewLRU[uint64, struct{}](throttleMost, nil)
	return t
}

// guess is a login that is about to be checked, by its sums.
type guess struct {
	login, password, pair, addr, account, met uint64

	name, from string

	paid []*bucket // What it has cost.
}

func (t *throttle) guess(name, password, addr string) guess {
	g := guess{login: t.sum(name, password), name: name, from: network(addr, household)}
	account := strings.ToLower(strings.TrimSpace(name)) // Directories take it for the same.
	g.account, g.addr, g.pair = t.sum(account), t.sum(g.from), t.sum(account, g.from)
	g.met = t.sum(account, network(addr, customer))
	g.password = t.sum(password)
	return g
}

func (t *throttle) sum(parts ...string) uint64 {
	var h maphash.Hash
	h.SetSeed(t.seed)
	for _, p := range parts {
		maphash.WriteComparable(&h, len(p))
		_, _ = h.WriteString(p) // Never fails.
	}
	return h.Sum64()
}

// enter admits a login, of which the result must be told.
// Errors: [*ThrottledError].
func (t *throttle) enter(name, password, addr string) (done func(error), err error) {
	login := t.sum(name, password)
	t.mu.Lock()
	defer t.mu.Unlock()
	if _, ok := t.right.Get(login); ok {
		return func(err error) {
			if errors.Is(err, ErrDenied) {
				t.wrongNow(t.guess(name, password, addr))
			}
		}, nil
	}
	g, now := t.guess(name, password, addr), t.now()
	p := peek(t.pairs, g.pair, newPair)
	if slices.Contains(p.wrong, g.password) {
		return func(err error) {
			if err == nil {
				t.rightNow(g)
			}
		}, nil
	}
	if err := t.take(&g, p, now); err != nil {
		return nil, err
	}
	p.note(g.password)
	return func(err error) {
		switch {
		case err == nil:
			t.rightNow(g)
			t.giveBack(g)
		case errors.Is(err, ErrBusy), errors.Is(err, ErrUnavailable): // Nobody has learned anything.
			t.giveBack(g)
		default: // It was wrong, or is checked all the same when nobody waits for it.
		}
	}, nil
}

// take takes what a guess costs, of all or of none. Who waits leaves no trace:
// a flood of such guesses costs nothing, and is to displace nobody.
func (t *throttle) take(g *guess, p *pair, now time.Time) error {
	addr, account := peek(t.addrs, g.addr, newBucket), peek(t.accounts, g.account, newAccount)
	wait := max(p.wait(now, pairTries, pairEvery), addr.wait(now, addrTries, addrEvery))
	// Whoever guesses from many addresses keeps nobody out: neither who comes
	// with the first password from elsewhere, nor from where one was right.
	third, more := &account.bucket, account.wait(now, accountTries, accountEvery)
	switch {
	case more == 0 || p.known:
	case t.met.Contains(g.met):
		wait = max(wait, more)
	default:
		third = &account.firsts
		wait = max(wait, third.wait(now, firstTries, firstEvery))
	}
	if wait > 0 {
		t.say(*g, p, addr, now)
		return &ThrottledError{After: (wait + time.Second - 1).Truncate(time.Second)}
	}
	t.met.Add(g.met, struct{}{})
	t.pairs.Add(g.pair, p)
	t.addrs.Add(g.addr, addr)
	t.accounts.Add(g.account, account)
	g.paid = []*bucket{&p.bucket, addr}
	if more == 0 || third != &account.bucket { // Who passes anyway makes nobody wait longer.
		g.paid = append(g.paid, third)
	}
	for _, b := range g.paid {
		b.used++
	}
	return nil
}

// say logs that somebody guesses: seldom, and of names that are new at an
// address of one for all.
func (t *throttle) say(g guess, p *pair, addr *bucket, now time.Time) {
	last := p.said
	if p.used == 0 {
		last = addr.said
	}
	if now.Sub(last) < sayEvery || now.Sub(t.said) < time.Second {
		return
	}
	p.said, addr.said, t.said = now, now, now
	t.log.LogAttrs(context.Background(), slog.LevelWarn, "too many wrong passwords: others than were right before wait",
		slog.String("user", g.name[:min(len(g.name), sayMost)]), slog.String("address", g.from))
}

// rightNow remembers a login that was right.
func (t *throttle) rightNow(g guess) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.right.Add(g.login, struct{}{})
	p := t.pair(g)
	p.known, p.used = true, 0
	p.wrong = slices.DeleteFunc(p.wrong, func(s uint64) bool { return s == g.password })
}

// wrongNow counts a login that was right before and is not any more.
func (t *throttle) wrongNow(g guess) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if !t.right.Remove(g.login) {
		return // Somebody else has said so.
	}
	p := t.pair(g)
	_ = t.take(&g, p, t.now()) // It was looked at already.
	p.note(g.password)
}

// giveBack takes back what a guess has cost that was none.
func (t *throttle) giveBack(g guess) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.met.Remove(g.met)
	p := t.pair(g)
	p.wrong = slices.DeleteFunc(p.wrong, func(s uint64) bool { return s == g.password })
	for _, b := range g.paid {
		b.used = max(0, b.used-1)
	}
}

func (t *throttle) pair(g guess) *pair {
	return get(t.pairs, g.pair, newPair)
}

// note remembers a wrong password instead of the oldest.
func (p *pair) note(password uint64) {
	if len(p.wrong) >= wrongMost {
		p.wrong = slices.Delete(p.wrong, 0, 1)
	}
	p.wrong = append(p.wrong, password)
}

// bucket counts, and forgets with time.
type bucket struct {
	used float64
	at   time.Time // When used was that.
	said time.Time
}

func newBucket() *bucket { return &bucket{} }

func newPair() *pair { return &pair{} }

func newAccount() *account { return &account{} }

// wait returns how long it takes until another one is allowed; 0: it is.
func (b *bucket) wait(now time.Time, most float64, every time.Duration) time.Duration {
	if d := now.Sub(b.at); d > 0 {
		b.used = max(0, b.used-float64(d)/float64(every))
	}
	b.at = now
	if b.used+1 <= most {
		return 0
	}
	return max(1, time.Duration((b.used+1-most)*float64(every)))
}

// get returns what is under a key, made if there is nothing.
func get[V any](in *simplelru.LRU[uint64, V], key uint64, fresh func() V) V {
	v := peek(in, key, fresh)
	in.Add(key, v)
	return v
}

// peek is get, but what it makes is not kept.
func peek[V any](in *simplelru.LRU[uint64, V], key uint64, fresh func() V) V {
	if v, ok := in.Get(key); ok {
		return v
	}
	return fresh()
}

// What of IPv6 is one: networks are given away by these sizes.
const (
	household = 64 // That guesses.
	customer  = 48 // That is new to an account.
)

// network is what counts as one address: of IPv6 so many bits.
func network(addr string, bits int) string {
	ip, err := netip.ParseAddr(addr)
	if err != nil {
		p, err := netip.ParseAddrPort(addr)
		if err != nil {
			return addr
		}
		ip = p.Addr()
	}
	ip = ip.Unmap().WithZone("")
	if ip.Is4() {
		return ip.String()
	}
	p, err := ip.Prefix(bits)
	if err != nil { // Cannot happen: it is IPv6.
		return addr
	}
	return p.String()
}
