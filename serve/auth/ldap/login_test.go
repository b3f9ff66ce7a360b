package ldap

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	goldap "github.com/go-ldap/ldap/v3"

	"github.com/regctl/regctl/serve/auth"
)

// world is a Directory in front of a fake one.
type world struct {
	*Directory
	*clock
	fake *fake
	log  lockedBuffer
}

type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) count(s string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Count(l.b.String(), s)
}

func newWorld(t *testing.T, timeout time.Duration) *world {
	t.Helper()
	w := &world{clock: newClock(), fake: newFake(t)}
	w.Directory = open(t, Options{
		URL: "ldap://" + w.fake.addr, UserBase: base, Timeout: timeout, Now: w.Now, Log: slog.New(slog.NewTextHandler(&w.log, nil)),
	})
	return w
}

func (w *world) wants(t *testing.T, name, password string, want error) {
	t.Helper()
	who, err := w.Login(t.Context(), name, password)
	if !errors.Is(err, want) {
		t.Errorf("%s with %s: %v, want %v", name, password, err, want)
	}
	if err == nil && (who.Name != name || !slices.Equal(who.Groups, []string{"all"})) {
		t.Errorf("%s is %+v", name, who)
	}
}

// asks checks how often a user was bound.
func (w *world) asks(t *testing.T, name string, want int) {
	t.Helper()
	if got, _ := w.fake.asked(userDN(name)); got != want {
		t.Errorf("the directory is asked about %s %d times, want %d", name, got, want)
	}
}

// TestRemembered: neither right nor wrong passwords are asked about all the
// time.
func TestRemembered(t *testing.T) {
	t.Parallel()
	w := newWorld(t, time.Minute)
	for range 50 {
		w.wants(t, "alice", "alice's", nil)
		w.wants(t, "bob", "old", auth.ErrDenied)
	}
	w.asks(t, "alice", 1)
	w.asks(t, "bob", 1)
	w.wants(t, "bob", "older", auth.ErrDenied)
	w.wants(t, "bob", "bob's", nil)
	w.asks(t, "bob", 3)
	w.pass(rememberFor)
	w.wants(t, "bob", "old", auth.ErrDenied)
	w.asks(t, "bob", 4)
	w.wants(t, "alice", "alice's", nil)
	w.asks(t, "alice", 2)
	w.pass(-time.Hour) // The clock is set.
	w.wants(t, "alice", "alice's", nil)
	w.asks(t, "alice", 3)
}

// TestOldPasswordLocksNobodyOut: of what asks with an old password all night a
// directory hears less than five times in half an hour, after which many lock.
func TestOldPasswordLocksNobodyOut(t *testing.T) {
	t.Parallel()
	w := newWorld(t, time.Minute)
	var heard []time.Time
	before, most := 0, 0
	for range 6 * 60 * 4 {
		w.wants(t, "bob", "old", auth.ErrDenied)
		if n, _ := w.fake.asked(userDN("bob")); n > before {
			before = n
			heard = append(heard, w.Now())
			heard = slices.DeleteFunc(heard, func(at time.Time) bool { return w.Now().Sub(at) >= 30*time.Minute })
			most = max(most, len(heard))
		}
		w.pass(10 * time.Second)
	}
	if most != 4 || before < 20 {
		t.Errorf("it is heard %d times in half an hour, %d times in four hours", most, before)
	}
	w.wants(t, "bob", "bob's", nil)
	w.pass(rememberFor)
	w.wants(t, "bob", "bob's", nil)
}

// TestUnknownTakesAsLong: as much is asked about who is not there.
func TestUnknownTakesAsLong(t *testing.T) {
	t.Parallel()
	w := newWorld(t, time.Minute)
	w.wants(t, "nobody", "x", auth.ErrUnknown)
	if n, searches := w.fake.asked("cn=nobody is here," + base); n != 1 || searches != 1 {
		t.Errorf("%d binds, %d searches", n, searches)
	}
}

// until waits for what others do.
func until(t *testing.T, what string, is func() bool) {
	t.Helper()
	for limit := time.Now().Add(30 * time.Second); !is(); runtime.Gosched() {
		if time.Now().After(limit) {
			t.Fatalf("it never comes to it that %s", what)
		}
	}
}

// TestAskedAhead: who is there does not wait for the directory, whether it
// answers or not, until what is remembered is too old.
func TestAskedAhead(t *testing.T) {
	t.Parallel()
	w := newWorld(t, time.Minute)
	who, err := w.Login(t.Context(), "alice", "alice's")
	if err != nil {
		t.Fatal(err)
	}
	w.pass(againAfter)
	w.wants(t, "alice", "alice's", nil)
	until(t, "alice is asked about again", func() bool { n, _ := w.fake.asked(userDN("alice")); return n == 2 })
	until(t, "the answer is remembered", func() bool {
		w.mu.Lock()
		defer w.mu.Unlock()
		a, _ := w.people.Get(person(who.Name, who.ID))
		return w.age(a) == 0
	})

	w.fake.set(func() { w.fake.hold = make(chan struct{}) })
	w.pass(rememberFor - 1)
	w.wants(t, "alice", "alice's", nil)
	if _, err := w.Lookup(t.Context(), who.Name, who.ID); err != nil {
		t.Error(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	w.pass(1)
	cancel()
	if _, err := w.Lookup(ctx, who.Name, who.ID); !errors.Is(err, context.Canceled) {
		t.Errorf("who waits and goes: %v", err)
	}
	w.fake.down()
}

// TestDown: who was in within a minute stays, nobody waits long for what is not
// there, and all is well when it is back.
func TestDown(t *testing.T) {
	t.Parallel()
	w := newWorld(t, time.Minute)
	who, err := w.Login(t.Context(), "alice", "alice's")
	if err != nil {
		t.Fatal(err)
	}
	addr := w.fake.addr
	w.fake.down()
	w.pass(rememberFor - 1)
	w.wants(t, "alice", "alice's", nil)
	w.wants(t, "bob", "bob's", auth.ErrUnavailable)
	if _, err := w.Lookup(t.Context(), who.Name, who.ID); err != nil {
		t.Errorf("who was in a moment ago: %v", err)
	}
	w.pass(1)
	for range 3 {
		w.wants(t, "alice", "alice's", auth.ErrUnavailable)
		if _, err := w.Lookup(t.Context(), who.Name, who.ID); !errors.Is(err, auth.ErrUnavailable) {
			t.Errorf("who was in a minute ago: %v", err)
		}
	}
	if n := w.log.count("cannot be asked"); n != 1 {
		t.Errorf("it is told %d times", n)
	}
	w.fake.up(t, addr)
	w.pass(giveUp)
	w.wants(t, "alice", "alice's", nil)
	if n := w.log.count("answers again"); n != 1 {
		t.Errorf("that it is back is told %d times", n)
	}
	if n := w.log.count("alice's"); n != 0 {
		t.Error("a password is logged")
	}
}

// TestCut: connections that ended meanwhile are no trouble.
func TestCut(t *testing.T) {
	t.Parallel()
	w := newWorld(t, time.Minute)
	w.wants(t, "alice", "alice's", nil)
	for i := range 20 {
		w.fake.set(w.fake.cut)
		w.wants(t, "alice", fmt.Sprint("wrong ", i), auth.ErrDenied)
	}
	w.pass(idleFor)
	w.wants(t, "bob", "bob's", nil)
	if n := w.log.count("\n"); n != 0 {
		t.Errorf("the log has %d lines", n)
	}
}

// TestHangs: one that does not answer is given up, and those who come then do
// not wait for it.
func TestHangs(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 50*time.Millisecond)
	w.fake.set(func() { w.fake.hold = make(chan struct{}) })
	w.wants(t, "alice", "alice's", auth.ErrUnavailable)
	before := time.Now()
	for i := range 100 {
		w.wants(t, "alice", fmt.Sprint(i), auth.ErrUnavailable)
	}
	if took := time.Since(before); took > 5*time.Second {
		t.Errorf("100 logins take %v", took)
	}
}

// TestManyAtOnce: there are few connections, and those who ask the same ask
// once.
func TestManyAtOnce(t *testing.T) {
	t.Parallel()
	w := newWorld(t, time.Minute)
	hold := make(chan struct{})
	w.fake.set(func() { w.fake.hold = hold })
	var all sync.WaitGroup
	for i := range 100 {
		all.Go(func() { w.wants(t, "alice", "alice's", nil) })
		all.Go(func() { w.wants(t, "bob", fmt.Sprint(i), auth.ErrDenied) })
	}
	until(t, "all wait", func() bool { return w.waiting.Load() == 200 })
	w.fake.set(func() { w.fake.hold = nil })
	close(hold)
	all.Wait()
	w.asks(t, "alice", 1)
	w.asks(t, "bob", 100)
	w.fake.set(func() {
		if w.fake.most > 2*connections {
			t.Errorf("%d connections, want %d at most", w.fake.most, 2*connections)
		}
	})
	w.pass(idleFor)
	w.wants(t, "carol", "carol's", nil)
	until(t, "those that were idle are gone", func() bool {
		w.fake.mu.Lock()
		defer w.fake.mu.Unlock()
		return len(w.fake.conns) == 2
	})
}

func TestTooMany(t *testing.T) {
	t.Parallel()
	w := newWorld(t, time.Minute)
	w.fake.set(func() { w.fake.hold = make(chan struct{}) })
	ctx, cancel := context.WithCancel(t.Context())
	var all sync.WaitGroup
	for i := range waitMost {
		all.Go(func() {
			if _, err := w.Login(ctx, "alice", fmt.Sprint(i)); !errors.Is(err, context.Canceled) {
				t.Errorf("got %v", err)
			}
		})
	}
	until(t, "all wait", func() bool { return w.waiting.Load() == waitMost })
	w.wants(t, "bob", "bob's", auth.ErrBusy)
	cancel()
	all.Wait()
	w.fake.down()
}

// TestAnswers: what a directory may say to a bind.
func TestAnswers(t *testing.T) {
	t.Parallel()
	for code, want := range map[int]error{
		goldap.LDAPResultInvalidCredentials:          auth.ErrDenied,
		goldap.LDAPResultConstraintViolation:         auth.ErrDenied,
		goldap.LDAPResultUnwillingToPerform:          auth.ErrDenied,
		goldap.LDAPResultNoSuchObject:                auth.ErrUnknown,
		goldap.LDAPResultBusy:                        auth.ErrUnavailable,
		goldap.LDAPResultUnavailable:                 auth.ErrUnavailable,
		goldap.LDAPResultOther:                       auth.ErrUnavailable,
		goldap.LDAPResultReferral:                    auth.ErrUnavailable,
		goldap.LDAPResultConfidentialityRequired:     auth.ErrUnavailable,
		goldap.LDAPResultStrongAuthRequired:          auth.ErrUnavailable,
		goldap.LDAPResultAuthMethodNotSupported:      auth.ErrUnavailable,
		goldap.LDAPResultProtocolError:               auth.ErrUnavailable,
		goldap.LDAPResultInappropriateAuthentication: auth.ErrDenied,
	} {
		w := newWorld(t, time.Minute)
		w.fake.set(func() { w.fake.code = code })
		d := open(t, Options{URL: "ldap://" + w.fake.addr, UserDN: "uid=${user},ou=people," + base, Now: w.Now})
		if _, err := d.Login(t.Context(), "alice", "alice's"); !errors.Is(err, want) {
			t.Errorf("code %d: %v, want %v", code, err, want)
		}
		w.fake.set(func() { w.fake.code = 0 })
		w.pass(rememberFor)
		if _, err := d.Login(t.Context(), "alice", "alice's"); err != nil {
			t.Errorf("after code %d: %v", code, err)
		}
	}
}

// TestNothingAtBase: a userbase that is misspelled is told, as it looks like a
// wrong password of everybody.
func TestNothingAtBase(t *testing.T) {
	t.Parallel()
	w := newWorld(t, time.Minute)
	w.fake.set(func() { w.fake.code = goldap.LDAPResultNoSuchObject })
	w.wants(t, "alice", "alice's", auth.ErrUnknown)
	w.wants(t, "bob", "bob's", auth.ErrUnknown)
	if n := w.log.count("there is nothing at userbase"); n != 1 {
		t.Errorf("it is told %d times", n)
	}
}

// TestSearchFails: what is not an answer about a user keeps nobody out for good.
func TestSearchFails(t *testing.T) {
	t.Parallel()
	w := newWorld(t, time.Minute)
	for _, code := range []int{goldap.LDAPResultInsufficientAccessRights, goldap.LDAPResultOperationsError, goldap.LDAPResultTimeLimitExceeded} {
		w.fake.set(func() { w.fake.code = code })
		w.wants(t, "alice", "alice's", auth.ErrUnavailable)
	}
	if n := w.log.count("refuses what it is asked"); n != 1 {
		t.Errorf("it is told %d times", n)
	}
	w.fake.set(func() { w.fake.code = 0 })
	w.wants(t, "alice", "alice's", nil)
}

func TestClosed(t *testing.T) {
	t.Parallel()
	w := newWorld(t, time.Minute)
	w.wants(t, "alice", "alice's", nil)
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	w.wants(t, "bob", "bob's", auth.ErrUnavailable)
	until(t, "no connection is left", func() bool {
		w.fake.mu.Lock()
		defer w.fake.mu.Unlock()
		return len(w.fake.conns) == 0
	})
}

// BenchmarkLoginRemembered is what a password costs each request but the first.
func BenchmarkLoginRemembered(b *testing.B) {
	d, err := Open(Options{URL: "ldap://127.0.0.1:1", UserBase: base})
	if err != nil {
		b.Fatal(err)
	}
	at := newClock()
	d.now = at.Now
	d.right.Add(d.sum("alice", "secret"), answer{who: auth.Identity{Name: "alice"}, at: at.Now()})
	b.ReportAllocs()
	for b.Loop() {
		if _, err := d.Login(b.Context(), "alice", "secret"); err != nil {
			b.Fatal(err)
		}
	}
}
