package auth

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/regctl/regctl/client/oci"
)

// gate is a throttle with a clock of its own.
type gate struct {
	*throttle
	at   atomic.Int64
	log  strings.Builder
	made int // Guesses.
}

func newGate() *gate {
	g := &gate{}
	g.at.Store(time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC).UnixNano())
	g.throttle = newThrottle(func() time.Time { return time.Unix(0, g.at.Load()) }, slog.New(slog.NewTextHandler(&g.log, nil)))
	return g
}

func (g *gate) pass(d time.Duration) { g.at.Add(int64(d)) }

// try is a login of which result is the outcome. It returns that, or how long
// to wait.
func (g *gate) try(name, password, addr string, result error) (time.Duration, error) {
	done, err := g.enter(name, password, addr)
	var wait *ThrottledError
	if errors.As(err, &wait) {
		return wait.After, err
	}
	done(result)
	return 0, result
}

// login is one that is right.
func (g *gate) login(name, password, addr string) { _, _ = g.try(name, password, addr, nil) }

// guesses makes n different wrong guesses and returns how many were looked at.
func (g *gate) guesses(n int, name, addr string) (looked int) {
	for range n {
		g.made++
		if wait, _ := g.try(name, fmt.Sprint("guess ", g.made), addr, ErrDenied); wait == 0 {
			looked++
		}
	}
	return looked
}

func TestThrottle(t *testing.T) {
	t.Parallel()
	g := newGate()
	if n := g.guesses(50, "alice", "192.0.2.1"); n != pairTries {
		t.Errorf("%d guesses are looked at, want %d", n, pairTries)
	}
	wait, err := g.try("alice", "right", "192.0.2.1:4711", nil)
	if wait != pairEvery || !errors.Is(err, oci.TooManyRequests) {
		t.Errorf("another waits %v: %v", wait, err)
	}
	var said *oci.Error
	if !errors.As(err, &said) || said.RetryAfter != wait || said.Code != oci.TooManyRequests {
		t.Errorf("the client is told %+v", said)
	}
	if wait, _ := g.try("alice", "right", "192.0.2.2", nil); wait != 0 {
		t.Errorf("alice is locked out elsewhere for %v", wait)
	}
	if wait, _ := g.try("bob", "right", "192.0.2.1", nil); wait != 0 {
		t.Errorf("bob is locked out for %v", wait)
	}
	g.pass(pairEvery - time.Second)
	if wait, _ := g.try("alice", "guess x", "192.0.2.1", ErrDenied); wait != time.Second {
		t.Errorf("a second is left, not %v", wait)
	}
	g.pass(time.Second)
	if n := g.guesses(3, "alice", "192.0.2.1"); n != 1 {
		t.Errorf("%d guesses a minute are looked at, want 1", n)
	}
	g.pass(24 * time.Hour)
	if n := g.guesses(50, "ALICE ", "192.0.2.1"); n != pairTries {
		t.Errorf("after a day %d guesses are looked at, want %d", n, pairTries)
	}
	if n := g.guesses(50, "alice", "192.0.2.1"); n != 0 {
		t.Errorf("spelled otherwise, %d more guesses are looked at", n)
	}
}

// TestThrottleSameWrong: what has an old password asks with it all night.
func TestThrottleSameWrong(t *testing.T) {
	t.Parallel()
	g := newGate()
	for i := range 2000 {
		if wait, _ := g.try("alice", "old", "192.0.2.1", ErrDenied); wait != 0 {
			t.Fatalf("time %d: it waits %v", i, wait)
		}
		g.pass(time.Second)
	}
	if wait, _ := g.try("alice", "new", "192.0.2.1", nil); wait != 0 {
		t.Errorf("alice waits %v", wait)
	}
	if n := g.guesses(50, "alice", "192.0.2.1"); n != pairTries {
		t.Errorf("%d guesses are looked at, want %d", n, pairTries)
	}
	if wait, _ := g.try("alice", "old", "192.0.2.1", ErrDenied); wait != 0 {
		t.Errorf("the old password waits %v", wait)
	}
}

// TestThrottleRightBefore: who was right before is never locked out.
func TestThrottleRightBefore(t *testing.T) {
	t.Parallel()
	g := newGate()
	g.login("alice", "secret", "192.0.2.1")
	g.guesses(50, "alice", "192.0.2.1")
	for i := range 300 {
		g.guesses(20, "alice", fmt.Sprintf("198.51.100.%d", i%250))
		g.guesses(2, fmt.Sprint("user", i), "192.0.2.1")
	}
	for _, addr := range []string{"192.0.2.1", "203.0.113.9"} {
		if wait, err := g.try("alice", "secret", addr, nil); wait != 0 || err != nil {
			t.Errorf("from %s alice gets %v, %v", addr, wait, err)
		}
	}
	if wait, _ := g.try("alice", "secret", "192.0.2.1", ErrDenied); wait != 0 {
		t.Errorf("a password that was changed waits %v", wait)
	}
	if wait, _ := g.try("alice", "secret", "203.0.113.10", ErrDenied); wait != 0 {
		t.Errorf("the first one from elsewhere waits %v", wait)
	}
}

// TestThrottleAccount: whoever guesses from everywhere is looked at seldom, and
// keeps nobody out who comes from elsewhere.
func TestThrottleAccount(t *testing.T) {
	t.Parallel()
	g := newGate()
	g.login("alice", "was right", "192.0.2.7")
	looked := 0
	for i := range 200 {
		looked += g.guesses(10, "alice", fmt.Sprintf("10.0.%d.1", i))
	}
	if most := accountTries + 200; looked > most || looked < accountTries {
		t.Errorf("%d guesses are looked at, want %d at most", looked, most)
	}
	six := 0
	for i := range 200 {
		six += g.guesses(2, "alice", fmt.Sprintf("2001:db8:0:%x::1", i))
	}
	if six != 1 {
		t.Errorf("%d guesses of one customer are looked at, want 1", six)
	}
	if wait, _ := g.try("alice", "secret", "192.0.2.9", nil); wait != 0 {
		t.Errorf("from a new address alice waits %v", wait)
	}
	if wait, _ := g.try("alice", "typo", "192.0.2.7", ErrDenied); wait != 0 {
		t.Errorf("from where alice was before she waits %v", wait)
	}
	if wait, _ := g.try("alice", "another typo", "192.0.2.7", ErrDenied); wait != 0 {
		t.Errorf("from where alice was before she waits %v", wait)
	}
	if wait, _ := g.try("alice", "guess", "10.0.150.1", ErrDenied); wait == 0 || wait > accountEvery {
		t.Errorf("who guesses waits %v", wait)
	}
}

// TestThrottleMadeUpAddresses: who has an address of its own for each guess
// comes to an end, and keeps nobody out who was right before.
func TestThrottleMadeUpAddresses(t *testing.T) {
	t.Parallel()
	g := newGate()
	g.login("alice", "was right", "192.0.2.7")
	looked := 0
	for i := range 3 * firstTries {
		looked += g.guesses(1, "alice", fmt.Sprintf("10.0.%d.%d", i>>8, i&255))
	}
	if looked != accountTries+firstTries {
		t.Errorf("%d guesses are looked at, want %d", looked, accountTries+firstTries)
	}
	if wait, _ := g.try("alice", "was right", "192.0.2.9", nil); wait != 0 {
		t.Errorf("with the password that was right alice waits %v", wait)
	}
	if wait, _ := g.try("alice", "typo", "192.0.2.7", ErrDenied); wait != 0 {
		t.Errorf("from where alice was before she waits %v", wait)
	}
	if n := g.guesses(1, "bob", "10.1.0.1"); n != 1 {
		t.Error("bob waits for alice")
	}
	g.pass(firstEvery)
	for range 3 {
		if wait, _ := g.try("alice", "not looked at", "10.2.0.0", ErrBusy); wait != 0 {
			t.Errorf("what nobody has looked at counts: %v", wait)
		}
	}
	if n := g.guesses(2, "alice", "10.2.0.1") + g.guesses(2, "alice", "10.2.0.2"); n != 1 {
		t.Errorf("after a while %d guesses are looked at, want 1", n)
	}
}

// TestThrottleAddress: one address cannot try all accounts.
func TestThrottleAddress(t *testing.T) {
	t.Parallel()
	g := newGate()
	looked := 0
	for i := range 300 {
		looked += g.guesses(1, fmt.Sprint("user", i), "2001:db8::1")
		looked += g.guesses(1, fmt.Sprint("user", i), "2001:db8:0:0:ffff::2%eth0")
	}
	if looked != addrTries {
		t.Errorf("%d guesses are looked at, want %d", looked, addrTries)
	}
	if n := g.guesses(1, "alice", "2001:db8:0:1::1"); n != 1 {
		t.Error("the neighbour waits")
	}
	if wait, _ := g.try("alice", "x", "[2001:db8::9]:1234", ErrDenied); wait != addrEvery {
		t.Errorf("it waits %v, want %v", wait, addrEvery)
	}
	if lines := strings.Count(g.log.String(), "\n"); lines != 1 || !strings.Contains(g.log.String(), "2001:db8::/64") || strings.Contains(g.log.String(), "guess") {
		t.Errorf("the log is %s", &g.log)
	}
}

// TestThrottleNothingLearned: only a wrong password counts.
func TestThrottleNothingLearned(t *testing.T) {
	t.Parallel()
	g := newGate()
	for i := range 500 {
		for _, result := range []error{ErrBusy, ErrUnavailable, fmt.Errorf("%w: ask: %w", ErrUnavailable, context.DeadlineExceeded), nil} {
			if wait, _ := g.try(fmt.Sprint("user", i%20), fmt.Sprint(i, result), "192.0.2.1", result); wait != 0 {
				t.Fatalf("after %d: it waits %v", i, wait)
			}
		}
	}
	if n := g.guesses(20, "alice", "192.0.2.1"); n != pairTries {
		t.Errorf("%d guesses are looked at, want %d", n, pairTries)
	}
}

// TestThrottleWhoGoesAway: a check goes on when nobody waits for it any more,
// and so it counts; the same password again does not.
func TestThrottleWhoGoesAway(t *testing.T) {
	t.Parallel()
	g := newGate()
	looked := 0
	for i := range 3 * pairTries {
		gone := []error{context.Canceled, fmt.Errorf("ask: %w", context.DeadlineExceeded)}[i%2]
		if wait, _ := g.try("alice", fmt.Sprint(i), "192.0.2.1", gone); wait == 0 {
			looked++
		}
	}
	if looked != pairTries {
		t.Errorf("%d guesses are looked at, want %d", looked, pairTries)
	}
	if wait, _ := g.try("alice", "0", "192.0.2.1", nil); wait != 0 {
		t.Errorf("who comes back with the right password waits %v", wait)
	}
}

// TestThrottleAtOnce: guesses that are made at the same time count before they
// are looked at.
func TestThrottleAtOnce(t *testing.T) {
	t.Parallel()
	g := newGate()
	var looked atomic.Int64
	var all sync.WaitGroup
	hold := make(chan struct{})
	for i := range 100 {
		all.Go(func() {
			done, err := g.enter("alice", fmt.Sprint(i), "192.0.2.1")
			if err != nil {
				return
			}
			looked.Add(1)
			<-hold
			done(ErrDenied)
		})
	}
	for g.waits("alice", "192.0.2.1") == 0 {
		runtime.Gosched()
	}
	close(hold)
	all.Wait()
	if n := looked.Load(); n != pairTries {
		t.Errorf("%d are looked at, want %d", n, pairTries)
	}
}

// waits is how long the next guess waits.
func (g *gate) waits(name, addr string) time.Duration {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.pair(g.guess(name, "", addr)).wait(g.now(), pairTries, pairEvery)
}

// TestThrottleMemory: it is bounded, and what floods it displaces nobody who
// was right.
func TestThrottleMemory(t *testing.T) {
	t.Parallel()
	g := newGate()
	g.login("alice", "secret", "192.0.2.1")
	for i := range 3 * throttleMost {
		g.guesses(1, fmt.Sprint("user", i), fmt.Sprintf("10.%d.%d.%d", i>>16, i>>8&255, i&255))
	}
	for what, n := range map[string]int{"pairs": g.pairs.Len(), "addresses": g.addrs.Len(), "accounts": g.accounts.Len()} {
		if n != throttleMost {
			t.Errorf("%d %s, want %d", n, what, throttleMost)
		}
	}
	if g.right.Len() != 1 {
		t.Errorf("%d were right, want 1", g.right.Len())
	}
	for i := range 3 * wrongMost {
		g.pass(pairEvery)
		_, _ = g.try("bob", fmt.Sprint(i), "192.0.2.1", ErrDenied)
	}
	if p := g.pair(g.guess("bob", "", "192.0.2.1")); len(p.wrong) != wrongMost {
		t.Errorf("%d wrong passwords of bob, want %d", len(p.wrong), wrongMost)
	}
}

// TestThrottleWhoWaitsDisplacesNobody: a flood of guesses that are not looked at
// costs nothing, and so is not to make anything forgotten.
func TestThrottleWhoWaitsDisplacesNobody(t *testing.T) {
	t.Parallel()
	g := newGate()
	for i := range 3 * accountTries / pairTries {
		g.guesses(pairTries, "alice", fmt.Sprintf("192.0.2.%d", i))
	}
	if looked := g.guesses(10, "alice", "192.0.2.1"); looked != 0 {
		t.Fatalf("%d more guesses were looked at", looked)
	}
	g.guesses(addrTries, "bob", "198.51.100.1")
	for i := range addrTries {
		g.guesses(1, fmt.Sprint("somebody", i), "198.51.100.1")
	}
	if g.guesses(1, "carol", "198.51.100.1") != 0 {
		t.Fatal("the flood is not made to wait")
	}
	pairs, accounts := g.pairs.Len(), g.accounts.Len()
	for i := range 3 * throttleMost {
		g.guesses(1, fmt.Sprint("user", i), "198.51.100.1")
	}
	if g.pairs.Len() != pairs || g.accounts.Len() != accounts {
		t.Errorf("%d pairs and %d accounts, want %d and %d", g.pairs.Len(), g.accounts.Len(), pairs, accounts)
	}
	if looked := g.guesses(10, "alice", "192.0.2.1"); looked != 0 {
		t.Errorf("after the flood %d more guesses were looked at", looked)
	}
}

// BenchmarkThrottle is what it costs each request with a password.
func BenchmarkThrottle(b *testing.B) {
	g := newGate()
	g.login("alice", "secret", "192.0.2.1")
	b.ReportAllocs()
	for b.Loop() {
		done, err := g.enter("alice", "secret", "192.0.2.1")
		if err != nil {
			b.Fatal(err)
		}
		done(nil)
	}
}
