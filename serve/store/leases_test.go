package store

import (
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/regctl/regctl/client/oci"
)

// clock is a time that only tests move.
type clock struct {
	mu sync.Mutex
	t  time.Time
}

func newClock() *clock { return &clock{t: time.Date(2026, 11, 1, 0, 0, 0, 0, time.UTC)} }

func (c *clock) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.t
}

func (c *clock) pass(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.t = c.t.Add(d)
}

// doomed tells whether d may be removed, and lets go of it again.
func doomed(l *leases, c *clock, repo string, d oci.Digest, epoch uint32, lease time.Duration) bool {
	release, ok := l.doom(repo, d, epoch, c.now().Add(-lease))
	if ok {
		release()
	}
	return ok
}

func TestTouchesLastForTheRunAndTheLease(t *testing.T) {
	t.Parallel()
	c := newClock()
	l := newLeases(c.now, time.Hour)
	a, b := digest.FromString("a"), digest.FromString("b")
	want := func(what string, d oci.Digest, epoch uint32, goes bool) {
		t.Helper()
		if got := doomed(l, c, "app", d, epoch, 10*time.Minute); got != goes {
			t.Errorf("%s: may go: %t, want %t", what, got, goes)
		}
	}
	l.touch("app", a)
	c.pass(9 * time.Minute)
	first := l.begin(10 * time.Minute)
	want("touched within the lease", a, first, false)
	want("never touched", b, first, true)
	c.pass(time.Minute)
	want("when the lease is over", a, first, true)
	l.touch("app", b)
	c.pass(5 * time.Hour)
	want("touched in the run, however long ago", b, first, false)
	if !doomed(l, c, "other", b, first, 0) || !doomed(l, c, "", b, first, 0) {
		t.Error("a touch is of what a repository knows, not of a digest anywhere")
	}
	l.end()
	want("in the next run", b, l.begin(10*time.Minute), true)
}

func TestPinsLastUntilTheyAreGivenBack(t *testing.T) {
	t.Parallel()
	c := newClock()
	l := newLeases(c.now, time.Minute)
	d := digest.FromString("a")
	one, two := l.pin("app", d), l.pin("app", d)
	c.pass(time.Hour)
	epoch := l.begin(0)
	for range 3_000 { // Pins are not forgotten, however much is touched.
		l.touch("app", digest.FromString(fmt.Sprint(c.now())))
		c.pass(time.Second)
	}
	one()
	if doomed(l, c, "app", d, epoch, 0) {
		t.Error("what is pinned once more may go")
	}
	two()
	if doomed(l, c, "app", d, epoch, 0) {
		t.Error("what was pinned in this run may go")
	}
	l.end()
	c.pass(time.Second)
	if epoch = l.begin(0); !doomed(l, c, "app", d, epoch, 0) {
		t.Error("what was pinned in the last run stays for good")
	}
}

// A touch waits while something is removed.
func TestTouchWaitsForARemoval(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := newClock()
		l := newLeases(c.now, time.Hour)
		d := digest.FromString("a")
		release, ok := l.doom("app", d, l.begin(0), c.now())
		if !ok {
			t.Fatal("nobody has touched it")
		}
		if _, again := l.doom("app", d, 1, c.now()); again {
			t.Error("two remove it at once")
		}
		var done atomic.Int32
		for range 3 {
			go func() { l.touch("app", d); done.Add(1) }()
		}
		synctest.Wait()
		if done.Load() > 0 {
			t.Error("a touch did not wait")
		}
		release()
		synctest.Wait()
		if n := done.Load(); n != 3 {
			t.Errorf("%d of 3 touches were let through", n)
		}
	})
}

// What there is no room for counts as touched when the youngest of it was.
func TestMemoryForTouchesIsBounded(t *testing.T) {
	t.Parallel()
	c := newClock()
	l := newLeases(c.now, time.Hour)
	for i := range l.shards {
		l.shards[i].most, l.shards[i].tidyAt = 100, 100
	}
	name := func(i int) oci.Digest { return digest.FromString(fmt.Sprint("blob ", i)) }
	const n = 8_000
	for i := range n {
		l.touch("app", name(i))
		c.pass(time.Millisecond)
	}
	total := 0
	for i := range l.shards {
		total += len(l.shards[i].touched)
	}
	if total > 100*leaseShards {
		t.Errorf("%d are remembered", total)
	}
	epoch := l.begin(time.Hour)
	for i := range n {
		if doomed(l, c, "app", name(i), epoch, time.Hour) {
			t.Fatalf("touch %d of %d is forgotten", i, n)
		}
	}
	l.touch("app", name(n)) // More than there is room for, within a run.
	for i := range n {
		l.touch("app", name(n+1+i))
	}
	c.pass(2 * time.Hour)
	if doomed(l, c, "app", name(n), epoch, time.Hour) {
		t.Error("what was touched in this run is forgotten")
	}
	l.end()
	c.pass(2 * time.Hour)
	if epoch = l.begin(time.Hour); !doomed(l, c, "app", name(0), epoch, time.Hour) {
		t.Error("nothing may ever go again")
	}
}

// Old touches go by themselves, also if nothing is ever collected.
func TestOldTouchesAreForgotten(t *testing.T) {
	t.Parallel()
	c := newClock()
	l := newLeases(c.now, time.Hour)
	for i := range 40_000 { // Some 600 a shard, so that each is tidied, whatever the hashes are.
		l.touch("app", digest.FromString(fmt.Sprint(i)))
		c.pass(time.Second)
	}
	total := 0
	for i := range l.shards {
		total += len(l.shards[i].touched)
	}
	if total > leaseShards<<8 { // 3600 are young; a shard is tidied at 256.
		t.Errorf("%d are remembered", total)
	}
	if _, known := l.last("app", digest.FromString("0")); known {
		t.Error("what is long over counts")
	}
}

func BenchmarkTouch(b *testing.B) {
	l := newLeases(time.Now, time.Hour)
	d := digest.FromString("a")
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			l.touch("team/app", d)
		}
	})
}
