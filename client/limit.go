package client

import (
	"context"
	"slices"
	"sync"
	"time"
)

// kind is what a request occupies. Each kind has slots of its own, so that
// many small requests do not wait behind large bodies, and one who reads a
// body can write it elsewhere in the same registry.
type kind int

const (
	small    kind = iota // Until the answer begins.
	download             // Until the body of the answer is closed.
	upload               // Until the body of the request is sent and answered.
	kinds
)

// stall is how long one waits for a slot while nothing moves in any of its
// kind. Then it is clear that those who hold them wait for something else,
// perhaps for this very request, and one more is let in.
const stall = time.Second

// slots bound how many requests of each kind are under way. The bound is
// halved when the registry finds it too many, and grows back one by one.
type slots struct {
	most  int
	after func(time.Duration) <-chan time.Time

	mu    sync.Mutex
	bound int
	good  int // Answers since the bound last changed.
	epoch int // Counts how often it was halved.
	kind  [kinds]struct {
		busy  int
		moved int // Counts signs of life.
		queue []chan struct{}
	}
}

func newSlots(most int, after func(time.Duration) <-chan time.Time) *slots {
	return &slots{most: most, bound: most, after: after}
}

// slot is a place under the bound. It is released once, whoever calls it first.
type slot struct {
	of      *slots
	kind    kind
	epoch   int
	release func()
}

// acquire waits for a slot.
func (s *slots) acquire(ctx context.Context, k kind) (*slot, error) {
	s.mu.Lock()
	line := &s.kind[k]
	if line.busy < s.bound && len(line.queue) == 0 {
		defer s.mu.Unlock()
		return s.taken(k), nil
	}
	turn, moved := make(chan struct{}), line.moved
	line.queue = append(line.queue, turn)
	s.mu.Unlock()
	for {
		select {
		case <-turn:
			s.mu.Lock()
			defer s.mu.Unlock()
			line.busy-- // It was counted for us.
			return s.taken(k), nil
		case <-ctx.Done():
			s.leave(k, turn)
			return nil, ctx.Err()
		case <-s.after(stall):
			s.mu.Lock()
			if stalled := moved == line.moved; stalled && s.unqueue(k, turn) {
				defer s.mu.Unlock()
				return s.taken(k), nil
			}
			moved = line.moved
			s.mu.Unlock()
		}
	}
}

// taken is called with s locked.
func (s *slots) taken(k kind) *slot {
	s.kind[k].busy++
	return &slot{of: s, kind: k, epoch: s.epoch, release: sync.OnceFunc(func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.kind[k].busy--
		s.kind[k].moved++
		s.admit(k)
	})}
}

// admit lets in who waits, as far as there is room. It is called with s
// locked.
func (s *slots) admit(k kind) {
	for line := &s.kind[k]; line.busy < s.bound && len(line.queue) > 0; {
		line.busy++
		close(line.queue[0])
		line.queue = line.queue[1:]
	}
}

// unqueue is called with s locked. It is false if turn has come.
func (s *slots) unqueue(k kind, turn chan struct{}) bool {
	line := &s.kind[k]
	i := slices.Index(line.queue, turn)
	if i >= 0 {
		line.queue = slices.Delete(line.queue, i, i+1)
	}
	return i >= 0
}

func (s *slots) leave(k kind, turn chan struct{}) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.unqueue(k, turn) {
		s.kind[k].busy--
		s.admit(k)
	}
}

// moves tells that the holder of a slot gets on.
func (s *slot) moves() {
	s.of.mu.Lock()
	defer s.of.mu.Unlock()
	s.of.kind[s.kind].moved++
}

// tooMany halves the bound. Of requests that were under way together, one
// counts.
func (s *slot) tooMany() {
	s.of.mu.Lock()
	defer s.of.mu.Unlock()
	if s.epoch == s.of.epoch {
		s.of.bound = max(1, s.of.bound/2)
		s.of.good = 0
		s.of.epoch++
	}
}

// fine counts an answer, after enough of which there is room for one more.
func (s *slot) fine() {
	const rounds = 4
	s.of.mu.Lock()
	defer s.of.mu.Unlock()
	if s.of.bound == s.of.most {
		return
	}
	if s.of.good++; s.of.good >= rounds*s.of.bound {
		s.of.bound++
		s.of.good = 0
		for k := range kinds {
			s.of.admit(k)
		}
	}
}
