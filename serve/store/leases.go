package store

import (
	"hash/maphash"
	"math"
	"sync"
	"sync/atomic"
	"time"

	"github.com/regctl/regctl/client/oci"
)

// leases knows what was touched lately, is named by a push under way, or is
// being removed. What is touched is a digest as a repository knows it, or
// bytes: then the repository is "".
//
// A touch and a removal exclude each other. Whoever answers that something is
// there touches it first and looks then; whoever removes it dooms it first. So
// either the touch comes first and the removal is refused, or the removal does
// and the touch waits for its end, and the look that follows finds nothing.
//
// Things are told apart by a hash. Two that share one are touched together:
// one more stays, never one less.
//
// Memory is bounded by mostTouched entries of about 40 bytes. What is dropped
// to make room counts as touched when the latest of it was.
type leases struct {
	now   func() time.Time
	since time.Time // What times are counted from.
	keep  atomic.Int64
	seed  maphash.Seed
	// from tells since when touches matter if they do for as long as keep.
	from  func(keep time.Duration) time.Time
	epoch atomic.Uint32 // Odd while a run is under way; one more with each beginning and end.

	shards [leaseShards]leaseShard
}

const (
	leaseShards = 64
	mostTouched = 1 << 20
	never       = math.MinInt64
)

type leaseShard struct {
	mu      sync.Mutex
	settled sync.Cond // Something is not doomed any more.
	touched map[uint64]lease
	floor   lease // What counts for all that is not in touched.
	tidyAt  int   // How many entries there are when old ones are looked for.
	most    int
}

// lease is 16 bytes: there are many.
type lease struct {
	at     int64  // When it was touched last, in nanoseconds since leases.since.
	epoch  uint32 // leases.epoch then.
	pins   uint16 // How many pushes that are under way name it.
	doomed bool
}

// newLeases returns leases that remember touches for at least as long as keep.
func newLeases(now func() time.Time, keep time.Duration) *leases {
	l := &leases{now: now, since: now(), seed: maphash.MakeSeed()}
	l.from = func(keep time.Duration) time.Time { return now().Add(-keep) }
	l.keep.Store(int64(keep))
	for i := range l.shards {
		s := &l.shards[i]
		s.settled.L = &s.mu
		s.touched, s.floor = map[uint64]lease{}, lease{at: never}
		s.tidyAt, s.most = 1<<8, mostTouched/leaseShards
	}
	return l
}

func (l *leases) find(repo string, d oci.Digest) (*leaseShard, uint64) {
	h := maphash.String(l.seed, string(d))
	if repo != "" {
		h ^= maphash.String(l.seed, repo) * 0x9e3779b97f4a7c15 // Not the same for (a, b) and (b, a).
	}
	return &l.shards[h%leaseShards], h
}

func (l *leases) clock() int64 { return int64(l.now().Sub(l.since)) }

// touch notes that something is being used, once nobody is removing it. It
// returns the epoch: a caller that finds it changed once it has looked may have
// been too early for a run, and touches and looks again.
func (l *leases) touch(repo string, d oci.Digest) (epoch uint32) {
	return l.touchAt(l.clock(), repo, d)
}

func (l *leases) touchAt(at int64, repo string, d oci.Digest) (epoch uint32) {
	s, key := l.find(repo, d)
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.touch(l, key, at, 0)
}

// changed tells whether a run began or ended after epoch.
func (l *leases) changed(epoch uint32) bool { return l.epoch.Load() != epoch }

// pin is a touch that lasts until the function returned is called, which is a
// touch as well.
func (l *leases) pin(repo string, d oci.Digest) (release func()) {
	s, key := l.find(repo, d)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.touch(l, key, l.clock(), 1)
	return func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.touch(l, key, l.clock(), -1)
	}
}

// touch waits until key is not doomed, then notes it. The caller holds s.mu.
func (s *leaseShard) touch(l *leases, key uint64, at int64, pins int) (epoch uint32) {
	for {
		e, had := s.touched[key]
		if e.doomed {
			s.settled.Wait()
			continue
		}
		if !had {
			s.makeRoom(l)
			e = s.floor
		}
		e.at, e.epoch = max(e.at, at), l.epoch.Load()
		e.pins = uint16(int(e.pins) + pins)
		s.touched[key] = e
		return e.epoch
	}
}

// makeRoom drops what is old, and if that is not enough everything: then what
// is not known is as young as the youngest that was.
func (s *leaseShard) makeRoom(l *leases) {
	if len(s.touched) < s.tidyAt {
		return
	}
	s.drop(l, l.old())
	if len(s.touched) >= s.most {
		s.drop(l, math.MaxInt64)
	}
	s.tidyAt = min(max(2*len(s.touched), 1<<8), s.most)
}

// old returns the time before which touches do not matter any more.
func (l *leases) old() int64 {
	return int64(l.from(time.Duration(l.keep.Load())).Sub(l.since))
}

func (s *leaseShard) drop(l *leases, before int64) {
	epoch := l.epoch.Load()
	for key, e := range s.touched {
		inRun := epoch%2 == 1 && e.epoch == epoch && before != math.MaxInt64
		if e.at >= before || e.pins > 0 || e.doomed || inRun {
			continue
		}
		delete(s.touched, key)
		if before == math.MaxInt64 {
			s.floor.at = max(s.floor.at, e.at)
			s.floor.epoch = max(s.floor.epoch, e.epoch)
		}
	}
}

// end ends the run.
func (l *leases) end() { l.epoch.Add(1) }

// begin begins a run: what is touched from now on stays until its end. What is
// old is forgotten. There is one run at a time.
func (l *leases) begin(keep time.Duration) (epoch uint32) {
	if int64(keep) > l.keep.Load() {
		l.keep.Store(int64(keep))
	}
	epoch = l.epoch.Add(1)
	before := l.old()
	for i := range l.shards {
		s := &l.shards[i]
		s.mu.Lock()
		s.drop(l, before)
		s.mu.Unlock()
	}
	return epoch
}

// last tells when something was touched; false: not that anybody knew.
func (l *leases) last(repo string, d oci.Digest) (time.Time, bool) {
	s, key := l.find(repo, d)
	s.mu.Lock()
	defer s.mu.Unlock()
	e, ok := s.touched[key]
	if !ok {
		e = s.floor
	}
	return l.since.Add(time.Duration(max(e.at, 0))), e.at != never
}

// doom lets nobody touch something until release is called. False: it is
// pinned, or was touched since the run began or after a time.
func (l *leases) doom(repo string, d oci.Digest, epoch uint32, after time.Time) (release func(), ok bool) {
	s, key := l.find(repo, d)
	s.mu.Lock()
	defer s.mu.Unlock()
	e, had := s.touched[key]
	if !had {
		e = s.floor
	}
	if e.doomed || e.pins > 0 || e.at != never && (e.epoch >= epoch || e.at > int64(after.Sub(l.since))) {
		return nil, false
	}
	e.doomed = true
	s.touched[key] = e
	return func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		if e.doomed = false; had {
			s.touched[key] = e
		} else {
			delete(s.touched, key)
		}
		s.settled.Broadcast()
	}, true
}
