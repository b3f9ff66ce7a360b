package client

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

func never(time.Duration) <-chan time.Time { return nil }

func take(t *testing.T, s *slots, k kind) *slot {
	t.Helper()
	slot, err := s.acquire(t.Context(), k)
	if err != nil {
		t.Fatal(err)
	}
	return slot
}

// TestNoMoreThanJobsAtOnce: of each kind.
func TestNoMoreThanJobsAtOnce(t *testing.T) {
	t.Parallel()
	s := newSlots(3, never)
	var busy, most atomic.Int64
	var all sync.WaitGroup
	for range 50 {
		all.Go(func() {
			slot, err := s.acquire(t.Context(), small)
			if err != nil {
				t.Error(err)
				return
			}
			n := busy.Add(1)
			for seen := most.Load(); n > seen && !most.CompareAndSwap(seen, n); seen = most.Load() {
			}
			busy.Add(-1)
			slot.release()
			slot.release() // Gives back nothing twice.
		})
	}
	all.Wait()
	if most.Load() > 3 || s.kind[small].busy != 0 {
		t.Errorf("%d at once, %d left", most.Load(), s.kind[small].busy)
	}
	for range 3 {
		take(t, s, download)
	}
	take(t, s, small) // Does not wait behind them.
	take(t, s, upload)
}

func TestWhoWaitsMayGiveUp(t *testing.T) {
	t.Parallel()
	s := newSlots(1, never)
	held := take(t, s, small)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := s.acquire(ctx, small); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	held.release()
	take(t, s, small).release()
	if line := s.kind[small]; line.busy != 0 || len(line.queue) != 0 {
		t.Errorf("left: %+v", line)
	}
}

// TestASlotIsHandedOver: to who waits longest.
func TestASlotIsHandedOver(t *testing.T) {
	t.Parallel()
	asked := make(chan struct{}, 4)
	s := newSlots(1, func(time.Duration) <-chan time.Time {
		asked <- struct{}{}
		return nil
	})
	held, got := take(t, s, small), make(chan int)
	for n := range 3 {
		go func() {
			slot, err := s.acquire(t.Context(), small)
			if err != nil {
				t.Error(err)
				return
			}
			got <- n
			slot.release()
		}()
		<-asked
	}
	held.release()
	for n := range 3 {
		if who := <-got; who != n {
			t.Errorf("%d came before %d", who, n)
		}
	}
	take(t, s, small).release()
	if line := s.kind[small]; line.busy != 0 || len(line.queue) != 0 {
		t.Errorf("left: %+v", line)
	}
}

// TestWhoHoldsAndWaitsIsLetIn: but not while others get on.
func TestWhoHoldsAndWaitsIsLetIn(t *testing.T) {
	t.Parallel()
	ticks := make(chan time.Time)
	asked := make(chan struct{}, 9)
	s := newSlots(1, func(time.Duration) <-chan time.Time {
		asked <- struct{}{}
		return ticks
	})
	held := take(t, s, download)
	got := make(chan *slot)
	go func() {
		slot, err := s.acquire(t.Context(), download)
		if err != nil {
			t.Error(err)
		}
		got <- slot
	}()
	<-asked
	held.moves()
	ticks <- time.Time{}
	<-asked // It looked, and waits again.
	select {
	case <-got:
		t.Error("let in although the other gets on")
	default:
	}
	ticks <- time.Time{}
	(<-got).release()
	held.release()
	if n := s.kind[download].busy; n != 0 {
		t.Errorf("%d left", n)
	}
}

// TestFewerWhenItIsTooMuch: half as many, once for what was under way
// together, and more again after some answers.
func TestFewerWhenItIsTooMuch(t *testing.T) {
	t.Parallel()
	s := newSlots(8, never)
	var together []*slot
	for range 8 {
		together = append(together, take(t, s, small))
	}
	for _, slot := range together {
		slot.tooMany()
		slot.release()
	}
	if s.bound != 4 {
		t.Errorf("bound is %d", s.bound)
	}
	for range 10 {
		slot := take(t, s, small)
		slot.tooMany()
		slot.release()
	}
	if s.bound != 1 {
		t.Errorf("bound is %d", s.bound)
	}
	answers := 0
	for ; s.bound < 8 && answers < 1000; answers++ {
		slot := take(t, s, small)
		slot.fine()
		slot.release()
	}
	if answers != 4*(1+2+3+4+5+6+7) {
		t.Errorf("grown after %d answers", answers)
	}
}

// TestABodyHoldsItsSlot: until it is read or closed, and small requests go on
// meanwhile.
func TestABodyHoldsItsSlot(t *testing.T) {
	t.Parallel()
	const blob = "/v2/app/blobs/sha256:x"
	c := open(t, echo("hello"), Options{Jobs: 1, After: never})
	ask := func(path string) *http.Response {
		resp, err := c.do(t.Context(), request{method: http.MethodGet, path: path, scope: scope{repo: "app", actions: "pull"}})
		if err != nil {
			t.Fatal(err)
		}
		return resp
	}
	first := ask(blob)
	list := ask(tags)
	_ = ask(tags).Body.Close() // Who reads a list asks for what is on it.
	_ = list.Body.Close()
	if err := put(t, c, http.MethodPut, "/v2/app/blobs/uploads/1", strings.Repeat("x", largeBody+1), 1); err != nil {
		t.Error(err)
	}
	if n := c.slots.kind[download].busy; n != 1 {
		t.Errorf("%d downloads", n)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := c.do(ctx, request{method: http.MethodGet, path: blob}); !errors.Is(err, context.Canceled) {
		t.Errorf("a second one: %v", err)
	}
	if _, err := io.ReadAll(first.Body); err != nil {
		t.Error(err)
	}
	second := ask(blob) // The first was read to its end.
	_ = first.Body.Close()
	_ = second.Body.Close()
	for k := range kinds {
		if n := c.slots.kind[k].busy; n != 0 {
			t.Errorf("%d of kind %d left", n, k)
		}
	}
}

// TestBusyRegistriesGetFewerRequests: and answers that are errors give their
// slots back.
func TestBusyRegistriesGetFewerRequests(t *testing.T) {
	t.Parallel()
	f := &faults{}
	c := spoiled(t, f, &clock{}, echo(""))
	f.add(2, "GET "+tags, answers(429, ""))
	f.add(1, "GET "+tags, answers(404, ""))
	if _, err := get(t, c, tags); err == nil {
		t.Error("no error")
	}
	if c.slots.bound != usualJobs/4 || c.slots.kind[small].busy != 0 {
		t.Errorf("bound %d, busy %d", c.slots.bound, c.slots.kind[small].busy)
	}
}
