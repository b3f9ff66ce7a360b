package state

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"maps"
	"strings"
	"sync"
	"time"
)

// robotsKept is for how long it is known of a robot that is no more.
const robotsKept = 365 * 24 * time.Hour

// ErrRobotExists says that there is a robot of that name, who may log in.
var ErrRobotExists = errors.New("there is a robot of that name")

// Robot is a login for a program.
type Robot struct {
	ID      string // Never used again.
	Name    string // No two that may log in have the same.
	Scopes  []string
	Sum     []byte // Of its secret, which is nowhere.
	Note    string
	Created time.Time
	// The following are zero: never, or not known.
	Expires, Revoked, Used time.Time
}

// Over tells whether r may not log in any more.
func (r *Robot) Over(now time.Time) bool {
	return !r.Revoked.IsZero() || !r.Expires.IsZero() && !now.Before(r.Expires)
}

// uses are when robots were last there, as far as that is not on disk yet, in
// nanoseconds since 1970.
type uses struct {
	mu      sync.Mutex
	waiting map[string]int64
}

// AddRobot makes a robot durable before it returns. One without a time of
// creation gets the present one.
// Errors: [ErrRobotExists], and as of [State.Record].
func (s *State) AddRobot(ctx context.Context, r Robot) error {
	if s == nil {
		return nil
	}
	now := s.now()
	if r.Created.IsZero() {
		r.Created = now
	}
	exists := false
	err := s.change(ctx, "add a robot to", func(tx *sql.Tx) error {
		ctx := context.WithoutCancel(ctx)
		query := "SELECT count(*) > 0 FROM robots WHERE name = ? AND revoked = 0 AND (expires = 0 OR expires > ?)"
		if err := tx.QueryRowContext(ctx, query, r.Name, nanos(now)).Scan(&exists); err != nil || exists {
			return err
		}
		long := nanos(now.Add(-robotsKept))
		query = "DELETE FROM robots WHERE revoked != 0 AND revoked < ? OR expires != 0 AND expires < ?"
		if _, err := tx.ExecContext(ctx, query, long, long); err != nil {
			return err
		}
		_, err := tx.ExecContext(ctx, `INSERT INTO robots (id, name, scopes, sum, note, created, expires, revoked, used)
			VALUES (?, ?, ?, ?, ?, ?, ?, 0, 0)`,
			r.ID, r.Name, strings.Join(r.Scopes, "\n"), r.Sum, r.Note, nanos(r.Created), robotNanos(r.Expires))
		return err
	})
	if err == nil && exists {
		return fmt.Errorf("%w: %s", ErrRobotExists, r.Name)
	}
	return err
}

// RevokeRobots makes it durable that robots may not log in any more, and
// returns the names of those that were not revoked before.
// Errors: as of [State.Record].
func (s *State) RevokeRobots(ctx context.Context, names ...string) (revoked []string, err error) {
	if s == nil || len(names) == 0 {
		return nil, nil
	}
	now := s.now()
	err = s.change(ctx, "revoke a robot in", func(tx *sql.Tx) error {
		for _, name := range names {
			done, err := tx.ExecContext(context.WithoutCancel(ctx),
				"UPDATE robots SET revoked = ? WHERE name = ? AND revoked = 0", nanos(now), name)
			if err != nil {
				return err
			}
			n, err := done.RowsAffected()
			if err != nil {
				return err
			}
			if n > 0 {
				revoked = append(revoked, name)
			}
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return revoked, nil
}

// Robots returns all robots, by name, of the same name the oldest first; those
// who are no more for a year.
func (s *State) Robots(ctx context.Context) ([]Robot, error) {
	if s == nil {
		return nil, nil
	}
	s.mu.Lock()
	unmanned := s.unmanned
	s.mu.Unlock()
	db, err := s.reader()
	if unmanned || db == nil || err != nil {
		return nil, err
	}
	rows, err := db.QueryContext(ctx, "SELECT id, name, scopes, sum, note, created, expires, revoked, used FROM robots ORDER BY name, created")
	if err != nil {
		return nil, s.failed("read", err)
	}
	defer rows.Close()
	var all []Robot
	for rows.Next() {
		var r Robot
		var scopes string
		var created, expires, revoked, used int64
		if err := rows.Scan(&r.ID, &r.Name, &scopes, &r.Sum, &r.Note, &created, &expires, &revoked, &used); err != nil {
			return nil, s.failed("read", err)
		}
		r.Scopes = strings.Split(scopes, "\n")
		r.Created, r.Expires, r.Revoked = robotTime(created), robotTime(expires), robotTime(revoked)
		r.Used = robotTime(max(used, s.uses.of(r.ID)))
		all = append(all, r)
	}
	return all, s.failed("read", rows.Err())
}

// RobotUsed notes that a robot was there; [State.Flush] writes it.
func (s *State) RobotUsed(id string, at time.Time) {
	if s == nil {
		return
	}
	s.uses.mu.Lock()
	defer s.uses.mu.Unlock()
	if s.uses.waiting == nil {
		s.uses.waiting = map[string]int64{}
	}
	s.uses.waiting[id] = max(s.uses.waiting[id], nanos(at))
}

func (u *uses) of(id string) int64 {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.waiting[id]
}

// flushUses writes when robots were last there.
func (s *State) flushUses(ctx context.Context) error {
	u := &s.uses
	u.mu.Lock()
	waiting := maps.Clone(u.waiting)
	u.mu.Unlock()
	if len(waiting) == 0 {
		return nil
	}
	err := s.change(ctx, "note the use of robots in", func(tx *sql.Tx) error {
		for id, at := range waiting {
			if _, err := tx.ExecContext(context.WithoutCancel(ctx), "UPDATE robots SET used = max(used, ?) WHERE id = ?", at, id); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	maps.DeleteFunc(u.waiting, func(id string, at int64) bool { return waiting[id] == at })
	return nil
}

// robotNanos is nanos, but 0 for the zero time.
func robotNanos(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return nanos(t)
}

func robotTime(at int64) time.Time {
	if at == 0 {
		return time.Time{}
	}
	return time.Unix(0, at).UTC()
}
