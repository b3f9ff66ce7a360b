package state

import (
	"database/sql"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

func eventsOf(endpoint string, tags ...string) []Event {
	var es []Event
	for _, tag := range tags {
		es = append(es, Event{
			At: start, Endpoint: endpoint, Action: "push", Kind: KindTag, Repo: "app", Tag: tag, Digest: digestOf("1"), Body: []byte(`{"tag":"` + tag + `"}`),
		})
	}
	return es
}

func announce(t *testing.T, s *State, es []Event) []int64 {
	t.Helper()
	if err := s.Announce(t.Context(), es); err != nil {
		t.Fatal(err)
	}
	var ids []int64
	for _, e := range es {
		ids = append(ids, e.ID)
	}
	return ids
}

// tagsOf are the tags of events.
func tagsOf(t *testing.T) func(es []Event, err error) string {
	return func(es []Event, err error) string {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		var tags []string
		for _, e := range es {
			tags = append(tags, e.Tag)
		}
		return strings.Join(tags, " ")
	}
}

// afterCrash opens what is on disk now, as the next process finds it.
func afterCrash(t *testing.T, path string) *State {
	t.Helper()
	to := newPath(t)
	if err := os.Mkdir(filepath.Dir(to), 0o700); err != nil {
		t.Fatal(err)
	}
	for _, suffix := range []string{"", "-wal"} {
		raw, err := os.ReadFile(path + suffix)
		if err == nil {
			err = os.WriteFile(to+suffix, raw, 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	return open(t, to)
}

// TestOutbox wants events in the order in which they happened, each whole, and
// forgotten once they are done.
func TestOutbox(t *testing.T) {
	t.Parallel()
	s, path := openNew(t)
	es := eventsOf("a", "1", "2", "3", "4")
	ids := announce(t, s, es)
	if got := tagsOf(t)(s.NextEvents(t.Context(), "a", 10)); got != "" {
		t.Errorf("%s happened, though only announced", got)
	}
	s.Happened(ids[2])
	s.Occurred(eventsOf("a", "pull")...)
	s.Happened(ids[0], ids[1])
	s.Done(ids[3])
	announce(t, s, eventsOf("b", "other"))
	if got := tagsOf(t)(s.NextEvents(t.Context(), "a", 10)); got != "3 pull 1 2" {
		t.Errorf("happened: %s", got)
	}
	got, err := s.NextEvents(t.Context(), "a", 1)
	if err != nil || len(got) != 1 || fmt.Sprint(got[0]) != fmt.Sprint(es[2]) {
		t.Errorf("got %v, %v, want %v", got, err, es[2])
	}
	s.Done(ids[2])
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = open(t, path)
	if got := tagsOf(t)(s.NextEvents(t.Context(), "a", 10)); got != "pull 1 2" {
		t.Errorf("after a restart: %s", got)
	}
	s.Happened(announce(t, s, eventsOf("a", "5"))...)
	if got := tagsOf(t)(s.NextEvents(t.Context(), "a", 10)); got != "pull 1 2 5" {
		t.Errorf("what happens after a restart comes: %s", got)
	}
	const want = "[{a 4 0}]"
	if c, err := s.EventCounts(t.Context()); err != nil || fmt.Sprint(c) != want {
		t.Errorf("counts are %v, %v; want %s", c, err, want)
	}
}

// TestOutboxAfterCrash wants what was announced on disk, with all that was
// marked before.
func TestOutboxAfterCrash(t *testing.T) {
	t.Parallel()
	s, path := openNew(t)
	ids := announce(t, s, eventsOf("a", "1", "2"))
	s.Happened(ids[0])
	s.Occurred(eventsOf("a", "pull")...)
	crashed := afterCrash(t, path)
	if got := tagsOf(t)(crashed.AnnouncedEvents(t.Context(), 0, 10)); got != "1 2" {
		t.Errorf("announced: %s", got)
	}
	announce(t, s, eventsOf("a", "3"))
	crashed = afterCrash(t, path)
	if got := tagsOf(t)(crashed.AnnouncedEvents(t.Context(), 0, 10)); got != "2 3" {
		t.Errorf("announced: %s", got)
	}
	if got := tagsOf(t)(crashed.AnnouncedEvents(t.Context(), ids[1], 10)); got != "3" {
		t.Errorf("announced after 2: %s", got)
	}
	if got := tagsOf(t)(crashed.NextEvents(t.Context(), "a", 10)); got != "1 pull" {
		t.Errorf("happened: %s", got)
	}
}

// TestOutboxDurable wants announcements synced as all else is, whatever was
// written between without.
func TestOutboxDurable(t *testing.T) {
	t.Parallel()
	s, _ := openNew(t)
	level := func() (n int) {
		t.Helper()
		if err := s.db.QueryRowContext(t.Context(), "PRAGMA synchronous").Scan(&n); err != nil {
			t.Fatal(err)
		}
		return n
	}
	const full, normal = 2, 1
	during := 0
	err := s.relaxed(t.Context(), "test", func(tx *sql.Tx) error {
		return tx.QueryRowContext(t.Context(), "PRAGMA synchronous").Scan(&during)
	})
	if err != nil || during != normal || level() != full {
		t.Errorf("synchronous is %d during, %d after, %v", during, level(), err)
	}
	failed := errors.New("failed")
	if err := s.relaxed(t.Context(), "test", func(*sql.Tx) error { return failed }); !errors.Is(err, failed) || level() != full {
		t.Errorf("synchronous is %d after an error, %v", level(), err)
	}
	err = s.change(t.Context(), "test", func(tx *sql.Tx) error {
		return tx.QueryRowContext(t.Context(), "PRAGMA synchronous").Scan(&during)
	})
	if err != nil || during != full {
		t.Errorf("synchronous is %d, %v", during, err)
	}
}

// TestGivenUp wants what was given up kept, to be revived, dropped or forgotten.
func TestGivenUp(t *testing.T) {
	t.Parallel()
	s, _ := openNew(t)
	ids := announce(t, s, eventsOf("a", "1", "2", "3"))
	s.Happened(ids...)
	s.Happened(announce(t, s, eventsOf("b", "other"))...)
	if err := errors.Join(s.FlushEvents(t.Context()), s.GiveUpEvents(t.Context(), ids[1], ids[0])); err != nil {
		t.Fatal(err)
	}
	if got := tagsOf(t)(s.NextEvents(t.Context(), "a", 10)); got != "3" {
		t.Errorf("left: %s", got)
	}
	if got := tagsOf(t)(s.DeadEvents(t.Context(), "", 0, 10)); got != "1 2" {
		t.Errorf("dead: %s", got)
	}
	if n, err := s.ReviveEvents(t.Context(), "b"); n != 0 || err != nil {
		t.Errorf("revived %d, %v", n, err)
	}
	if n, err := s.ReviveEvents(t.Context(), "a"); n != 2 || err != nil {
		t.Errorf("revived %d, %v", n, err)
	}
	s.Happened(announce(t, s, eventsOf("a", "4"))...)
	if got := tagsOf(t)(s.NextEvents(t.Context(), "a", 10)); got != "3 1 2 4" {
		t.Errorf("revived: %s", got)
	}
	if err := errors.Join(s.GiveUpEvents(t.Context(), ids[0]), s.PurgeEvents(t.Context(), start)); err != nil {
		t.Fatal(err)
	}
	if got := tagsOf(t)(s.DeadEvents(t.Context(), "a", 0, 10)); got != "1" {
		t.Errorf("dead: %s", got)
	}
	if err := s.PurgeEvents(t.Context(), start.Add(1)); err != nil {
		t.Fatal(err)
	}
	if got := tagsOf(t)(s.DeadEvents(t.Context(), "a", 0, 10)) + "," + tagsOf(t)(s.NextEvents(t.Context(), "a", 10)); got != ",3 2 4" {
		t.Errorf("after it was forgotten: %s", got)
	}
	if err := s.KeepEndpoints(t.Context(), start, "b", "c"); err != nil {
		t.Fatal(err)
	}
	if got := tagsOf(t)(s.NextEvents(t.Context(), "a", 10)); got != "3 2 4" {
		t.Errorf("kept, as it is not old: %s", got)
	}
	if err := s.KeepEndpoints(t.Context(), time.Unix(1<<33, 0), "b", "c"); err != nil {
		t.Fatal(err)
	}
	if got := tagsOf(t)(s.NextEvents(t.Context(), "a", 10)) + "," + tagsOf(t)(s.NextEvents(t.Context(), "b", 10)); got != ",other" {
		t.Errorf("kept: %s", got)
	}
}

// TestDropEvents wants pulls to go first, then the oldest.
func TestDropEvents(t *testing.T) {
	t.Parallel()
	s, _ := openNew(t)
	s.Happened(announce(t, s, eventsOf("a", "1"))...)
	for _, tag := range []string{"p1", "p2"} {
		pull := eventsOf("a", tag)
		pull[0].Action = "pull"
		s.Occurred(pull...)
	}
	s.Happened(announce(t, s, eventsOf("a", "2", "3"))...)
	if got := tagsOf(t)(s.DropEvents(t.Context(), "a", 1)); got != "p1" {
		t.Errorf("dropped %s", got)
	}
	if got := tagsOf(t)(s.DropEvents(t.Context(), "a", 2)); got != "p2" {
		t.Errorf("dropped %s", got)
	}
	if got := tagsOf(t)(s.DropEvents(t.Context(), "a", 1)); got != "1" {
		t.Errorf("dropped %s", got)
	}
	if got := tagsOf(t)(s.NextEvents(t.Context(), "a", 10)); got != "2 3" {
		t.Errorf("left: %s", got)
	}
}

// TestAnnounceTogether wants many announcements at once each on disk when it
// returns.
func TestAnnounceTogether(t *testing.T) {
	t.Parallel()
	s, _ := openNew(t)
	var wg sync.WaitGroup
	var mu sync.Mutex
	all := map[int64]bool{}
	for i := range 40 {
		wg.Go(func() {
			es := eventsOf("a", fmt.Sprint(i))
			if err := s.Announce(t.Context(), es); err != nil {
				t.Error(err)
			}
			mu.Lock()
			all[es[0].ID] = true
			mu.Unlock()
			s.Happened(es[0].ID)
		})
	}
	wg.Wait()
	es, err := s.NextEvents(t.Context(), "a", 100)
	if err != nil || len(es) != 40 || len(all) != 40 {
		t.Errorf("%d events with %d IDs, %v", len(es), len(all), err)
	}
}

// TestOutboxClosed wants what cannot be written to wait, and nothing lost of it.
func TestOutboxClosed(t *testing.T) {
	t.Parallel()
	s, path := openNew(t)
	ids := announce(t, s, eventsOf("a", "1"))
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s.Happened(ids...)
	if err := s.Announce(t.Context(), eventsOf("a", "2")); !errors.Is(err, ErrClosed) {
		t.Errorf("announce: %v", err)
	}
	if err := s.FlushEvents(t.Context()); !errors.Is(err, ErrClosed) || s.WaitingEvents() != 1 {
		t.Errorf("flush: %v, %d wait", err, s.WaitingEvents())
	}
	if got := tagsOf(t)(open(t, path).AnnouncedEvents(t.Context(), 0, 10)); got != "1" {
		t.Errorf("announced: %s", got)
	}
}

// TestNoState wants a State that is nil to do nothing.
func TestNoState(t *testing.T) {
	t.Parallel()
	var s *State
	s.Happened(1)
	s.Done(1)
	s.Occurred(Event{})
	_, dropped := s.DropEvents(t.Context(), "a", 1)
	_, next := s.NextEvents(t.Context(), "a", 1)
	_, announced := s.AnnouncedEvents(t.Context(), 0, 1)
	_, dead := s.DeadEvents(t.Context(), "", 0, 1)
	_, revived := s.ReviveEvents(t.Context(), "a")
	_, counts := s.EventCounts(t.Context())
	if err := errors.Join(dropped, next, announced, dead, revived, counts, s.Announce(t.Context(), []Event{{}}), s.FlushEvents(t.Context()),
		s.GiveUpEvents(t.Context(), 1), s.KeepEndpoints(t.Context(), time.Unix(1<<33, 0)), s.PurgeEvents(t.Context(), start)); err != nil || s.WaitingEvents() != 0 {
		t.Error(err)
	}
}

// withoutOutbox is a file of before there was an outbox.
func withoutOutbox(t *testing.T) (path string) {
	t.Helper()
	path = newPath(t)
	if err := os.Mkdir(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	db, err := connect(path, nil)
	if err == nil {
		err = errors.Join(migrate(t.Context(), db, migrations()[:1]), closeDB(db))
	}
	if err != nil {
		t.Fatal(err)
	}
	return path
}

// TestOutboxIsAdded wants a file of before there was an outbox to get one, with
// all that is in it.
func TestOutboxIsAdded(t *testing.T) {
	t.Parallel()
	s := open(t, withoutOutbox(t))
	if err := s.Record(t.Context(), Deletion{Kind: KindTag, Repo: "app", Tag: "1"}); err != nil {
		t.Fatal(err)
	}
	s.Happened(announce(t, s, eventsOf("a", "1"))...)
	if got := tagsOf(t)(s.NextEvents(t.Context(), "a", 10)); got != "1" {
		t.Errorf("told: %s", got)
	}
}

// TestBigEvents wants no more than a bounded lot of them in memory at once.
func TestBigEvents(t *testing.T) {
	t.Parallel()
	s, err := OpenMemory(t.Context(), func() time.Time { return start })
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	es := eventsOf("a", "1", "2", "3", "4")
	for i := range es {
		es[i].Body = slices.Repeat([]byte{'x'}, maxBodies/2)
	}
	s.Happened(announce(t, s, es)...)
	if got := tagsOf(t)(s.NextEvents(t.Context(), "a", 10)); got != "1 2 3" {
		t.Errorf("at once: %s", got)
	}
}

// TestOutboxIsIndexed wants what is asked often not to take longer the more
// waits.
func TestOutboxIsIndexed(t *testing.T) {
	t.Parallel()
	s, _ := openNew(t)
	for query, index := range map[string]string{
		"SELECT body FROM outbox WHERE " + nextEvents:                                   "outbox_next",
		"SELECT body FROM outbox WHERE " + nextPulls:                                    "outbox_pulls",
		"SELECT max(seq) FROM outbox WHERE state > 0":                                   "outbox_next",
		"SELECT endpoint, sum(state = 1) FROM outbox WHERE state > 0 GROUP BY endpoint": "outbox_next",
	} {
		var args []any
		for range strings.Count(query, "?") {
			args = append(args, 1)
		}
		var id, parent, unused int
		var plan string
		err := s.db.QueryRowContext(t.Context(), "EXPLAIN QUERY PLAN "+query, args...).Scan(&id, &parent, &unused, &plan)
		if err != nil || !strings.Contains(plan, "INDEX "+index) {
			t.Errorf("%s: %s, %v", query, plan, err)
		}
	}
}

// TestOutboxReadOnly wants what happens while a file is only read to come after
// what waits in it, once it can be written.
func TestOutboxReadOnly(t *testing.T) {
	t.Parallel()
	s, path := openNew(t)
	s.Happened(announce(t, s, eventsOf("a", "1", "2", "3"))...)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = &State{path: path, now: time.Now}
	if err := s.openReadOnly(t.Context()); err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	s.Occurred(eventsOf("a", "4")...)
	if got := tagsOf(t)(s.NextEvents(t.Context(), "a", 10)); got != "1 2 3 4" {
		t.Errorf("told: %s", got)
	}
}

// TestNoOutboxYet wants a file of before there was an outbox, which has no room
// for one, to have nothing to tell.
func TestNoOutboxYet(t *testing.T) {
	t.Parallel()
	s := &State{path: withoutOutbox(t), now: time.Now}
	if err := s.openReadOnly(t.Context()); err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	counts, err := s.EventCounts(t.Context())
	if err != nil || len(counts) > 0 {
		t.Errorf("counts are %v, %v", counts, err)
	}
	if got := tagsOf(t)(s.AnnouncedEvents(t.Context(), 0, 10)) + tagsOf(t)(s.NextEvents(t.Context(), "a", 10)); got != "" {
		t.Errorf("told: %s", got)
	}
	if err := s.KeepEndpoints(t.Context(), time.Unix(1<<33, 0)); err != nil {
		t.Error(err)
	}
	s.Happened(announce(t, s, eventsOf("a", "1"))...)
	if got := tagsOf(t)(s.NextEvents(t.Context(), "a", 10)); got != "1" {
		t.Errorf("told: %s", got)
	}
}
