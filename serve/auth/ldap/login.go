package ldap

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/golang-lru/v2/simplelru"
	"golang.org/x/sync/singleflight"

	"github.com/regctl/regctl/serve/auth"
)

const (
	// rememberFor is how long the directory is not asked the same.
	rememberFor = time.Minute
	// wrongAgain is how long it is not asked about a password that is still
	// wrong: many lock a user out after five in half an hour.
	wrongAgain = 10 * time.Minute
	// againAfter is when it is asked again while what is remembered still holds.
	againAfter = rememberFor / 2
	// itselfFor is how long a user is who it was where only the user itself may
	// ask: longer than tokens hold.
	itselfFor = 10 * time.Minute
	// rememberMost is how much is remembered of each.
	rememberMost = 4096
	// waitMost is how many may wait for the directory.
	waitMost = 256
)

// sum stands for what must not be remembered itself.
type sum [sha256.Size]byte

// answer is what the directory has said.
type answer struct {
	who  auth.Identity
	at   time.Time
	hold time.Duration // For how long a wrong password is not asked about.
}

// memory remembers what the directory has said.
type memory struct {
	now     func() time.Time
	key     [32]byte // Of the sums. It never leaves the process.
	flight  singleflight.Group
	asking  sync.WaitGroup
	waiting atomic.Int64

	mu     sync.Mutex
	right  *simplelru.LRU[sum, answer]    // By name and password.
	wrong  *simplelru.LRU[sum, answer]    // Apart, so that guesses displace nobody.
	people *simplelru.LRU[string, answer] // By name and DN.
	closed bool
}

func newMemory(now func() time.Time) *memory {
	m := &memory{now: now}
	_, _ = rand.Read(m.key[:]) // Never fails: see crypto/rand.
	// The only error is that of a size that is not positive.
	m.right, _ = simplelru.NewLRU[sum, answer](rememberMost, nil)
	m.wrong, _ = simplelru.NewLRU[sum, answer](rememberMost, nil)
	m.people, _ = simplelru.NewLRU[string, answer](rememberMost, nil)
	return m
}

func (m *memory) sum(parts ...string) (s sum) {
	h := hmac.New(sha256.New, m.key[:])
	for _, p := range parts {
		_, _ = h.Write(binary.LittleEndian.AppendUint64(nil, uint64(len(p)))) // Never fails.
		_, _ = h.Write([]byte(p))
	}
	copy(s[:], h.Sum(nil))
	return s
}

// age is how old an answer is; one from the future is too old.
func (m *memory) age(a answer) time.Duration {
	if d := m.now().Sub(a.at); d >= 0 {
		return d
	}
	return math.MaxInt64
}

// Login implements [auth.Source].
func (d *Directory) Login(ctx context.Context, name, password string) (auth.Identity, error) {
	// An empty password is right for every user of a directory that means by it
	// that nobody asks: RFC 4513, 5.1.2.
	if password == "" || !isName(name) {
		return auth.Identity{}, auth.ErrUnknown
	}
	key := d.sum(name, password)
	ask := func() (auth.Identity, error) { return d.login(key, name, password) }
	d.mu.Lock()
	known, ok := d.right.Get(key)
	wrong, no := d.wrong.Get(key)
	d.mu.Unlock()
	switch {
	case ok && d.age(known) < againAfter:
		return known.who, nil
	case ok && d.age(known) < rememberFor:
		d.start(string(key[:]), ask)
		return known.who, nil
	case no && d.age(wrong) < wrong.hold:
		return auth.Identity{}, auth.ErrDenied
	}
	return d.wait(ctx, string(key[:]), ask)
}

// login asks for a login and remembers the answer.
func (d *Directory) login(key sum, name, password string) (auth.Identity, error) {
	at := d.now()
	who, err := d.check(name, password)
	d.mu.Lock()
	defer d.mu.Unlock()
	switch {
	case err == nil:
		d.right.Add(key, answer{who: who, at: at})
		d.wrong.Remove(key)
		d.people.Add(person(who.Name, who.ID), answer{who: who, at: at})
	case errors.Is(err, auth.ErrDenied):
		d.right.Remove(key)
		hold := rememberFor
		if d.wrong.Contains(key) {
			hold = wrongAgain
		}
		d.wrong.Add(key, answer{at: at, hold: hold})
	case errors.Is(err, auth.ErrUnknown):
		d.right.Remove(key)
	}
	return who, err
}

// person is the key of who has a name and a DN.
func person(name, dn string) string { return name + "\x00" + dn }

// Lookup implements [auth.Source]. The ID is a DN.
func (d *Directory) Lookup(ctx context.Context, name, id string) (auth.Identity, error) {
	if id == "" || !isName(name) {
		return auth.Identity{}, auth.ErrUnknown
	}
	key := person(name, id)
	d.mu.Lock()
	known, ok := d.people.Get(key)
	d.mu.Unlock()
	if d.itself() {
		if ok && d.age(known) < itselfFor {
			return known.who, nil
		}
		return auth.Identity{}, fmt.Errorf("%w: it must log in again", auth.ErrUnknown)
	}
	if ok && d.age(known) < rememberFor {
		if d.age(known) >= againAfter {
			d.start(key, func() (auth.Identity, error) { return d.look(key, name, id) })
		}
		return known.who, nil
	}
	return d.wait(ctx, key, func() (auth.Identity, error) { return d.look(key, name, id) })
}

// look asks for a user and remembers the answer.
func (d *Directory) look(key, name, id string) (who auth.Identity, err error) {
	at := d.now()
	err = d.link.with(true, func(c *conn) error {
		e, err := d.read(c, id, d.filter.ofAny())
		if err == nil {
			who, err = d.identity(c, e, name)
		}
		if err == nil && who.Name != name {
			err = auth.ErrUnknown
		}
		return err
	})
	err = d.unanswered(err)
	d.mu.Lock()
	defer d.mu.Unlock()
	switch {
	case err == nil:
		d.people.Add(key, answer{who: who, at: at})
	case errors.Is(err, auth.ErrUnknown):
		d.people.Remove(key)
	}
	return who, err
}

// start has the directory asked; one at a time for each key.
func (d *Directory) start(key string, ask func() (auth.Identity, error)) <-chan singleflight.Result {
	return d.flight.DoChan(key, func() (any, error) {
		if !d.begin() {
			return nil, fmt.Errorf("%w: it is closed", auth.ErrUnavailable)
		}
		defer d.asking.Done()
		return ask()
	})
}

// begin tells whether the directory may be asked: it is not closed before the
// end of asking.
func (m *memory) begin() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	if !m.closed {
		m.asking.Add(1)
	}
	return !m.closed
}

// end returns when nobody asks, nor will.
func (m *memory) end() {
	m.mu.Lock()
	m.closed = true
	m.mu.Unlock()
	m.asking.Wait()
}

// wait has the directory asked, and returns what it says.
func (d *Directory) wait(ctx context.Context, key string, ask func() (auth.Identity, error)) (auth.Identity, error) {
	defer d.waiting.Add(-1)
	if d.waiting.Add(1) > waitMost {
		return auth.Identity{}, auth.ErrBusy
	}
	select {
	case r := <-d.start(key, ask):
		who, _ := r.Val.(auth.Identity)
		if r.Err != nil {
			return auth.Identity{}, r.Err
		}
		return who, nil
	case <-ctx.Done():
		return auth.Identity{}, ctx.Err()
	}
}
