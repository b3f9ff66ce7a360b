package state

import (
	"context"
	"database/sql"
	"errors"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/regctl/regctl/client/oci"
)

const (
	// maxPulls is how many pulled images wait for [State.Flush].
	maxPulls = 1 << 14
	// pullsKept is for how long before all other records a pull is remembered.
	pullsKept = 2 * 365 * 24 * time.Hour
	// askAtOnce is how many digests one query asks for.
	askAtOnce = 256
)

type pull struct {
	repo   string
	digest oci.Digest
}

// pulls are those that are not on disk yet, in seconds since 1970.
type pulls struct {
	mu       sync.Mutex
	waiting  map[pull]int64
	flushing sync.Mutex
}

// add keeps the latest time of each. It tells whether there is no more room.
func (p *pulls) add(what pull, at int64) (full bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	was, known := p.waiting[what]
	if known && was >= at {
		return false
	}
	if !known && len(p.waiting) >= maxPulls {
		return true
	}
	if p.waiting == nil {
		p.waiting = map[pull]int64{}
	}
	p.waiting[what] = at
	return false
}

// Pulled remembers that an image was pulled. It is on disk after the next
// [State.Flush]; a crash before it forgets it.
func (s *State) Pulled(repo string, d oci.Digest, at time.Time) {
	if s == nil {
		return
	}
	what := pull{repo, d}
	if s.pulls.add(what, at.Unix()) && s.pulls.flushing.TryLock() {
		_ = s.flush(context.Background()) // The next Flush tells, if it goes on.
		s.pulls.flushing.Unlock()
		s.pulls.add(what, at.Unix())
	}
}

// Flush writes the pulls that wait, and the uses of robots. What cannot be written waits on.
// Errors: as of [State.Record].
func (s *State) Flush(ctx context.Context) error {
	if s == nil {
		return nil
	}
	s.pulls.flushing.Lock()
	defer s.pulls.flushing.Unlock()
	return errors.Join(s.flush(ctx), s.flushUses(ctx))
}

func (s *State) flush(ctx context.Context) error {
	p := &s.pulls
	p.mu.Lock()
	waiting := maps.Clone(p.waiting)
	p.mu.Unlock()
	if len(waiting) == 0 {
		return nil
	}
	err := s.change(ctx, "record pulls in", func(tx *sql.Tx) error {
		ctx := context.WithoutCancel(ctx)
		add, err := tx.PrepareContext(ctx, `INSERT INTO pulls (repo, digest, at) VALUES (?, ?, ?)
			ON CONFLICT DO UPDATE SET at = max(at, excluded.at)`)
		if err != nil {
			return err
		}
		defer add.Close()
		for what, at := range waiting {
			if _, err := add.ExecContext(ctx, what.repo, string(what.digest), at); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	maps.DeleteFunc(p.waiting, func(what pull, at int64) bool { return waiting[what] == at })
	return nil
}

// LastPulled returns when images of repo were last pulled: those digests, or
// all if there are none. What was never pulled is not in it.
func (s *State) LastPulled(ctx context.Context, repo string, digests ...oci.Digest) (map[oci.Digest]time.Time, error) {
	if s == nil {
		return nil, nil
	}
	db, err := s.reader()
	if err != nil {
		return nil, err
	}
	last := map[oci.Digest]time.Time{}
	switch {
	case db == nil:
	case len(digests) == 0:
		err = s.readPulls(ctx, db, last, "SELECT digest, at FROM pulls WHERE repo = ?", repo)
	default:
		for some := range slices.Chunk(digests, askAtOnce) {
			args := []any{repo}
			for _, d := range some {
				args = append(args, string(d))
			}
			marks := strings.Repeat(", ?", len(some))[2:]
			err = s.readPulls(ctx, db, last, "SELECT digest, at FROM pulls WHERE repo = ? AND digest IN ("+marks+")", args...)
			if err != nil {
				break
			}
		}
	}
	s.pulls.fill(repo, digests, last)
	return last, err
}

// fill adds what is not on disk yet.
func (p *pulls) fill(repo string, digests []oci.Digest, last map[oci.Digest]time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	add := func(d oci.Digest, seconds int64) {
		if at := time.Unix(seconds, 0).UTC(); at.After(last[d]) {
			last[d] = at
		}
	}
	for _, d := range digests {
		if at, ok := p.waiting[pull{repo, d}]; ok {
			add(d, at)
		}
	}
	if len(digests) > 0 {
		return
	}
	for what, at := range p.waiting {
		if what.repo == repo {
			add(what.digest, at)
		}
	}
}

func (s *State) readPulls(ctx context.Context, db *sql.DB, last map[oci.Digest]time.Time, query string, args ...any) error {
	rows, err := db.QueryContext(ctx, query, args...)
	if err != nil {
		return s.failed("read", err)
	}
	defer rows.Close()
	for rows.Next() {
		var d string
		var at int64
		if err := rows.Scan(&d, &at); err != nil {
			return s.failed("read", err)
		}
		last[oci.Digest(d)] = time.Unix(at, 0).UTC()
	}
	return s.failed("read", rows.Err())
}
