package store

import (
	"time"

	"github.com/regctl/regctl/client/oci"
)

// What is under way keeps things from being collected.

// uploadLease is what leases know an upload by.
func uploadLease(key string) oci.Digest { return oci.Digest(key) }

// uploading tells by repository since when what was touched is needed by
// uploads that go on: those with a handle, or without one for less than lease.
func (s *Store) uploading(lease time.Duration) map[string]time.Time {
	s.mu.Lock()
	defer s.mu.Unlock()
	found, now := map[string]time.Time{}, s.now()
	for _, on := range s.sessions {
		if on.handles == 0 && (on.isOver() || now.Sub(on.last) >= lease) {
			continue
		}
		var since time.Time
		if !on.began.IsZero() {
			since = on.began.Add(-lease)
		}
		if other, ok := found[on.repo]; !ok || since.Before(other) {
			found[on.repo] = since
		}
	}
	return found
}

// touchesFrom tells since when touches matter that do for as long as lease, or
// longer for an upload.
func (s *Store) touchesFrom(lease time.Duration) time.Time {
	from := s.now().Add(-lease)
	for _, since := range s.uploading(lease) {
		if since.Before(from) {
			from = since
		}
	}
	return from
}

// endIdle ends the session of an upload that is to be removed. False: a
// request has a handle on it.
func (s *Store) endIdle(key string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	for id, on := range s.sessions {
		if on.key != key {
			continue
		}
		if on.handles > 0 {
			return false
		}
		delete(s.sessions, id)
	}
	return true
}

// call is a call under way that may have scratch.
type call struct{ began time.Time }

// call notes that a call is under way until the function returned is called.
func (s *Store) call() (end func()) {
	c := &call{began: s.now()}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.calls[c] = struct{}{}
	return func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		delete(s.calls, c)
	}
}

// mayBeInUse tells whether scratch that was changed at a time may be that of a
// call under way, on a disk whose clock may be behind.
func (s *Store) mayBeInUse(changed time.Time) bool {
	const behind = time.Hour
	s.mu.Lock()
	defer s.mu.Unlock()
	for c := range s.calls {
		if changed.After(c.began.Add(-behind)) {
			return true
		}
	}
	return false
}
