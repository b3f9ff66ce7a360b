package state

import (
	"context"
	"database/sql"
	"errors"
	"time"

	"github.com/regctl/regctl/client/oci"
)

// eventWriter writes events in one transaction.
type eventWriter struct {
	tx              *sql.Tx
	ready, gone, in *sql.Stmt
}

func (w *eventWriter) close() {
	for _, s := range []*sql.Stmt{w.ready, w.gone, w.in} {
		if s != nil {
			_ = s.Close() // The transaction tells what failed.
		}
	}
}

func (w *eventWriter) run(ctx context.Context, s **sql.Stmt, query string, args ...any) (sql.Result, error) {
	if *s == nil {
		var err error
		if *s, err = w.tx.PrepareContext(ctx, query); err != nil {
			return nil, err
		}
	}
	return (*s).ExecContext(ctx, args...)
}

func (w *eventWriter) mark(ctx context.Context, m mark) (err error) {
	switch {
	case m.event != nil:
		return w.add(ctx, m.event, happened, m.seq)
	case m.seq != 0:
		_, err = w.run(ctx, &w.ready, "UPDATE outbox SET state = 1, seq = ? WHERE id = ?", m.seq, m.id)
	default:
		_, err = w.run(ctx, &w.gone, "DELETE FROM outbox WHERE id = ?", m.id)
	}
	return err
}

func (w *eventWriter) add(ctx context.Context, e *Event, state int, seq int64) error {
	done, err := w.run(ctx, &w.in, `INSERT INTO outbox (state, seq, at, endpoint, action, repo, tag, digest, kind, body)
		VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`,
		state, seq, nanos(e.At), e.Endpoint, e.Action, e.Repo, e.Tag, string(e.Digest), e.Kind, e.Body)
	if err != nil {
		return err
	}
	e.ID, err = done.LastInsertId()
	return err
}

// NextEvents returns up to n events that an endpoint is to be told, in the order
// in which they happened; after marks that wait are written. Fewer, if they are
// large.
// Errors: as of [State.Record].
func (s *State) NextEvents(ctx context.Context, endpoint string, n int) ([]Event, error) {
	if s == nil {
		return nil, nil
	}
	if err := s.FlushEvents(ctx); err != nil {
		return nil, err
	}
	return s.events(ctx, nextEvents, endpoint, n)
}

// AnnouncedEvents returns up to n events of which it is not known whether they
// happened, those whose IDs follow after.
func (s *State) AnnouncedEvents(ctx context.Context, after int64, n int) ([]Event, error) {
	if s == nil {
		return nil, nil
	}
	return s.events(ctx, "id > ? AND state = 0 ORDER BY id LIMIT ?", after, n)
}

// DeadEvents returns up to n events that were given up, those whose IDs follow
// after; of all endpoints if endpoint is empty.
func (s *State) DeadEvents(ctx context.Context, endpoint string, after int64, n int) ([]Event, error) {
	if s == nil {
		return nil, nil
	}
	return s.events(ctx, "id > ? AND state = 2 AND state > 0 AND (? = '' OR endpoint = ?) ORDER BY id LIMIT ?", after, endpoint, endpoint, n)
}

// GiveUpEvents keeps events only to be looked at.
func (s *State) GiveUpEvents(ctx context.Context, ids ...int64) error {
	if s == nil || len(ids) == 0 {
		return nil
	}
	return s.relaxed(ctx, "give up events in", func(tx *sql.Tx) error {
		for _, id := range ids {
			if _, err := tx.ExecContext(context.WithoutCancel(ctx), "UPDATE outbox SET state = 2 WHERE id = ?", id); err != nil {
				return err
			}
		}
		return nil
	})
}

// ReviveEvents lets what was given up be sent again, after all else that waits,
// and tells how much that is.
func (s *State) ReviveEvents(ctx context.Context, endpoint string) (n int64, err error) {
	if s == nil {
		return 0, nil
	}
	err = s.change(ctx, "revive events in", func(tx *sql.Tx) error {
		s.outbox.queue.Lock()
		defer s.outbox.queue.Unlock()
		done, err := tx.ExecContext(context.WithoutCancel(ctx), `UPDATE outbox SET state = 1, seq = ? + r.n
			FROM (SELECT id AS dead, row_number() OVER (ORDER BY seq) AS n FROM outbox WHERE endpoint = ? AND state = 2 AND state > 0) AS r WHERE id = r.dead`,
			s.outbox.seq, endpoint)
		if err != nil {
			return err
		}
		n, err = done.RowsAffected()
		s.outbox.seq += n
		return err
	})
	return n, err
}

// KeepEndpoints forgets what happened before then of all endpoints but these.
func (s *State) KeepEndpoints(ctx context.Context, before time.Time, names ...string) error {
	if s == nil {
		return nil
	}
	where, args := "at < ? AND endpoint NOT IN (''", []any{nanos(before)}
	for _, name := range names {
		where, args = where+", ?", append(args, name)
	}
	where += ")"
	if others, err := s.events(ctx, where+" LIMIT 1", args...); err != nil || len(others) == 0 {
		return err // A full disk has no room for a change that is none.
	}
	return s.change(ctx, "forget endpoints in", func(tx *sql.Tx) error {
		_, err := tx.ExecContext(context.WithoutCancel(ctx), "DELETE FROM outbox WHERE "+where, args...)
		return err
	})
}

// PurgeEvents forgets what was given up and happened before then.
func (s *State) PurgeEvents(ctx context.Context, before time.Time) error {
	if s == nil {
		return nil
	}
	return s.relaxed(ctx, "purge", func(tx *sql.Tx) error {
		_, err := tx.ExecContext(context.WithoutCancel(ctx), "DELETE FROM outbox WHERE state = 2 AND state > 0 AND at < ?", nanos(before))
		return err
	})
}

// DropEvents forgets up to n of the oldest events that an endpoint is to be told,
// and returns them: pulls while there are any.
func (s *State) DropEvents(ctx context.Context, endpoint string, n int) ([]Event, error) {
	if s == nil {
		return nil, nil
	}
	es, err := s.events(ctx, nextPulls, endpoint, n)
	if err == nil && len(es) == 0 {
		es, err = s.events(ctx, nextEvents, endpoint, n)
	}
	if err != nil {
		return nil, err
	}
	for _, e := range es {
		s.Done(e.ID)
	}
	return es, s.FlushEvents(ctx)
}

// SQLite takes an index for some rows only if the condition of that index is
// there, word for word.
const (
	nextEvents = "endpoint = ? AND state = 1 AND state > 0 ORDER BY seq LIMIT ?"
	nextPulls  = "endpoint = ? AND state = 1 AND action = 'pull' ORDER BY seq LIMIT ?"
)

const (
	eventColumns = "id, at, endpoint, action, repo, tag, digest, kind, body"
	// maxBodies is about how many bytes of events are read at once.
	maxBodies = 4 << 20
)

// events reads events until they have more than maxBodies.
func (s *State) events(ctx context.Context, where string, args ...any) ([]Event, error) {
	db, err := s.outboxReader()
	if db == nil || err != nil {
		return nil, err
	}
	rows, err := db.QueryContext(ctx, "SELECT "+eventColumns+" FROM outbox WHERE "+where, args...)
	if err != nil {
		return nil, s.failed("read", err)
	}
	defer rows.Close()
	var all []Event
	for size := 0; size <= maxBodies && rows.Next(); {
		var e Event
		var at int64
		var digest string
		if err := rows.Scan(&e.ID, &at, &e.Endpoint, &e.Action, &e.Repo, &e.Tag, &digest, &e.Kind, &e.Body); err != nil {
			return nil, s.failed("read", err)
		}
		e.At, e.Digest = time.Unix(0, at).UTC(), oci.Digest(digest)
		all = append(all, e)
		size += len(e.Body)
	}
	return all, s.failed("read", rows.Err())
}

// EventCount is how much there is for one endpoint.
type EventCount struct {
	Endpoint string
	// Pending are to be delivered, Dead were given up.
	Pending, Dead int
}

// EventCounts returns how much there is for each endpoint, by name. Those with
// nothing are not in it, and what is only announced or marked is not counted.
func (s *State) EventCounts(ctx context.Context) ([]EventCount, error) {
	if s == nil {
		return nil, nil
	}
	db, err := s.outboxReader()
	if db == nil || err != nil {
		return nil, err
	}
	rows, err := db.QueryContext(ctx, "SELECT endpoint, sum(state = 1), sum(state = 2) FROM outbox WHERE state > 0 GROUP BY endpoint ORDER BY endpoint")
	if err != nil {
		return nil, s.failed("read", err)
	}
	defer rows.Close()
	var all []EventCount
	for rows.Next() {
		var c EventCount
		if err := rows.Scan(&c.Endpoint, &c.Pending, &c.Dead); err != nil {
			return nil, s.failed("read", err)
		}
		all = append(all, c)
	}
	return all, s.failed("read", rows.Err())
}

// readSeq sets where the order of events goes on.
func (s *State) readSeq(ctx context.Context, db *sql.DB) error {
	var last int64
	if err := db.QueryRowContext(ctx, "SELECT coalesce(max(seq), 0) FROM outbox WHERE state > 0").Scan(&last); err != nil {
		return err
	}
	s.outbox.queue.Lock()
	defer s.outbox.queue.Unlock()
	s.outbox.seq = max(s.outbox.seq, last)
	return nil
}

// OpenMemory opens a State that nothing outlives: there is no file. A nil now
// is [time.Now].
func OpenMemory(ctx context.Context, now func() time.Time) (*State, error) {
	if now == nil {
		now = time.Now
	}
	s := &State{path: "in memory", now: now}
	db, err := sql.Open("sqlite", ":memory:")
	if err == nil {
		db.SetMaxOpenConns(1) // Each has a memory of its own.
		db.SetMaxIdleConns(1)
		err = upgrade(ctx, db, migrations())
	}
	if err != nil {
		return nil, s.failed("open", errors.Join(err, closeDB(db)))
	}
	s.db, s.writable = db, true
	return s, nil
}
