package state

import (
	"context"
	"database/sql"
	"math"
	"time"

	"github.com/regctl/regctl/client/oci"
)

// batch is what one commit makes durable.
type batch struct {
	records []*Deletion
	done    chan struct{}
	err     error
}

// Record makes records of ds durable before it returns, and sets their IDs;
// those without a time get the present one. Concurrent calls share commits.
// Errors: [ErrFull], [ErrClosed], [ErrDamaged], and those of the file system.
func (s *State) Record(ctx context.Context, ds ...Deletion) error {
	if s == nil || len(ds) == 0 {
		return nil
	}
	s.queue.Lock()
	b, first := s.next, s.next == nil
	if first {
		b = &batch{done: make(chan struct{})}
		s.next = b
	}
	for i := range ds {
		b.records = append(b.records, &ds[i])
	}
	s.queue.Unlock()
	if first { // The others join while the batch before this one is written.
		s.writing.Lock()
		s.queue.Lock()
		s.next = nil
		s.queue.Unlock()
		b.err = s.insert(ctx, b.records)
		s.writing.Unlock()
		close(b.done)
	}
	<-b.done
	return b.err
}

func (s *State) insert(ctx context.Context, records []*Deletion) error {
	return s.change(ctx, "record a deletion in", func(tx *sql.Tx) error {
		ctx := context.WithoutCancel(ctx)
		add, err := tx.PrepareContext(ctx, `INSERT INTO deletions
			(at, run, kind, repo, tag, digest, media_type, raw, by, addr) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`)
		if err != nil {
			return err
		}
		defer add.Close()
		for _, d := range records {
			if d.At.IsZero() {
				d.At = s.now()
			}
			done, err := add.ExecContext(ctx, d.At.UnixNano(), d.Run, d.Kind, d.Repo, d.Tag, string(d.Digest), d.MediaType, d.Raw, d.By, d.Addr)
			if err != nil {
				return err
			}
			if d.ID, err = done.LastInsertId(); err != nil {
				return err
			}
		}
		return nil
	})
}

// Forget removes records of what was not deleted after all.
func (s *State) Forget(ctx context.Context, ids ...int64) error {
	if s == nil || len(ids) == 0 {
		return nil
	}
	return s.change(ctx, "forget a deletion in", func(tx *sql.Tx) error {
		for _, id := range ids {
			if _, err := tx.ExecContext(context.WithoutCancel(ctx), "DELETE FROM deletions WHERE id = ?", id); err != nil {
				return err
			}
		}
		return nil
	})
}

const columns = "id, at, run, kind, repo, tag, digest, media_type, by, addr"

// Deleted returns what was recorded of repo since then, the oldest first.
func (s *State) Deleted(ctx context.Context, repo string, since time.Time) ([]Deletion, error) {
	return s.query(ctx, 0, "SELECT "+columns+", raw FROM deletions WHERE repo = ? AND at >= ? ORDER BY id", repo, nanos(since))
}

// WasDeleted tells whether there is a record of that kind of a digest in repo.
func (s *State) WasDeleted(ctx context.Context, repo, kind string, d oci.Digest) (bool, error) {
	ds, err := s.query(ctx, 1, "SELECT "+columns+", NULL FROM deletions WHERE digest = ? AND repo = ? AND kind = ? LIMIT 1", string(d), repo, kind)
	return len(ds) > 0, err
}

// DeletedRepos returns the repositories of which something was recorded since
// then.
func (s *State) DeletedRepos(ctx context.Context, since time.Time) ([]string, error) {
	if s == nil {
		return nil, nil
	}
	db, err := s.reader()
	if db == nil || err != nil {
		return nil, err
	}
	rows, err := db.QueryContext(ctx, "SELECT DISTINCT repo FROM deletions WHERE at >= ? ORDER BY repo", nanos(since))
	if err != nil {
		return nil, s.failed("read", err)
	}
	defer rows.Close()
	var repos []string
	for rows.Next() {
		var repo string
		if err := rows.Scan(&repo); err != nil {
			return nil, s.failed("read", err)
		}
		repos = append(repos, repo)
	}
	return repos, s.failed("read", rows.Err())
}

// ListOptions of [State.List].
type ListOptions struct {
	Since  time.Time  // Not before.
	After  int64      // IDs that follow this one.
	Run    string     // Only of this run. Empty: of any.
	Digest oci.Digest // Only of this. Empty: of any.
	N      int        // At most so many; at least 1.
	Raw    bool       // With the bytes of manifests.
}

// maxRaw is about how many bytes of manifests one [State.List] returns.
const maxRaw = 8 << 20

// List returns a page of what was recorded, the oldest first. It may be shorter
// than asked for, but is empty only at the end.
func (s *State) List(ctx context.Context, o ListOptions) ([]Deletion, error) {
	raw := "NULL"
	if o.Raw {
		raw = "raw"
	}
	where, args := "id > ? AND at >= ?", []any{o.After, nanos(o.Since)}
	if o.Run != "" {
		where, args = where+" AND run = ?", append(args, o.Run)
	}
	if o.Digest != "" {
		where, args = where+" AND digest = ?", append(args, string(o.Digest))
	}
	return s.query(ctx, maxRaw, "SELECT "+columns+", "+raw+" FROM deletions WHERE "+where+" ORDER BY id LIMIT ?", append(args, max(o.N, 1))...)
}

// query reads records until they have more than most bytes of manifests; 0: all.
func (s *State) query(ctx context.Context, most int, query string, args ...any) ([]Deletion, error) {
	if s == nil {
		return nil, nil
	}
	db, err := s.reader()
	if db == nil || err != nil {
		return nil, err
	}
	rows, err := db.QueryContext(ctx, query, args...)
	if err != nil {
		return nil, s.failed("read", err)
	}
	defer rows.Close()
	var all []Deletion
	for size := 0; rows.Next(); {
		var d Deletion
		var at int64
		var digest string
		if err := rows.Scan(&d.ID, &at, &d.Run, &d.Kind, &d.Repo, &d.Tag, &digest, &d.MediaType, &d.By, &d.Addr, &d.Raw); err != nil {
			return nil, s.failed("read", err)
		}
		d.At, d.Digest = time.Unix(0, at).UTC(), oci.Digest(digest)
		all = append(all, d)
		if size += len(d.Raw); most > 0 && size > most {
			return all, nil
		}
	}
	return all, s.failed("read", rows.Err())
}

// Purge forgets what was recorded before then, and images that nobody has
// pulled for years.
func (s *State) Purge(ctx context.Context, before time.Time) error {
	if s == nil {
		return nil
	}
	err := s.change(ctx, "purge", func(tx *sql.Tx) error {
		ctx := context.WithoutCancel(ctx)
		if _, err := tx.ExecContext(ctx, "DELETE FROM deletions WHERE at < ?", nanos(before)); err != nil {
			return err
		}
		_, err := tx.ExecContext(ctx, "DELETE FROM pulls WHERE at < ?", before.Add(-pullsKept).Unix())
		return err
	})
	if err != nil {
		return err
	}
	db, err := s.writer(ctx)
	if err != nil {
		return err
	}
	_, err = db.ExecContext(ctx, "PRAGMA incremental_vacuum")
	return s.failed("shrink", err)
}

// nanos is t as it is stored. What is too far away to be told, as the zero time
// is, is before or after everything.
func nanos(t time.Time) int64 {
	switch {
	case t.Before(time.Unix(0, math.MinInt64)):
		return math.MinInt64
	case t.After(time.Unix(0, math.MaxInt64)):
		return math.MaxInt64
	}
	return t.UnixNano()
}
