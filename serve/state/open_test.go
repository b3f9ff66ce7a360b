package state

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestNewer wants a file of a later release refused, and left as it is.
func TestNewer(t *testing.T) {
	t.Parallel()
	s, path := openNew(t)
	if _, err := s.db.ExecContext(t.Context(), "PRAGMA user_version = 99"); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	_, err := Open(t.Context(), path, clock)
	if !errors.Is(err, ErrNewer) || !strings.Contains(err.Error(), path) || !strings.Contains(err.Error(), "version 99") {
		t.Errorf("got %v", err)
	}
	if v := version(t, path); v != 99 {
		t.Errorf("it is version %d now", v)
	}
}

func version(t *testing.T, path string) int {
	t.Helper()
	db, err := connect(path, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	var v int
	if err := db.QueryRowContext(t.Context(), "PRAGMA user_version").Scan(&v); err != nil {
		t.Fatal(err)
	}
	return v
}

// TestMigrate wants every step taken once, and a step that fails to leave
// nothing behind.
func TestMigrate(t *testing.T) {
	t.Parallel()
	db, err := connect(filepath.Join(t.TempDir(), "state.db"), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	one, two, bad := "CREATE TABLE one (a)", "ALTER TABLE one ADD COLUMN b; INSERT INTO one VALUES (1, 2)", "INSERT INTO one VALUES (3, 4); nonsense"
	rows := func() (n int) {
		if err := db.QueryRowContext(t.Context(), "SELECT count(*) FROM one").Scan(&n); err != nil {
			t.Fatal(err)
		}
		return n
	}
	for _, c := range []struct {
		steps []string
		fine  bool
		rows  int
	}{
		{[]string{one}, true, 0},
		{[]string{one, two}, true, 1},
		{[]string{one, two}, true, 1},
		{[]string{one, two, bad}, false, 1},
		{[]string{one, two, two[strings.Index(two, "INSERT"):]}, true, 2},
		{[]string{one, two}, false, 2},
	} {
		if err := migrate(t.Context(), db, c.steps); (err == nil) != c.fine {
			t.Errorf("%d steps: %v", len(c.steps), err)
		}
		if n := rows(); n != c.rows {
			t.Errorf("%d steps: %d rows", len(c.steps), n)
		}
	}
}

// TestDamaged wants a file that is no state refused by name with what to do,
// and left as it is; an empty one is new.
func TestDamaged(t *testing.T) {
	t.Parallel()
	s, whole := openNew(t)
	if err := s.Record(t.Context(), Deletion{Kind: KindManifest, Repo: "app", Raw: bytes.Repeat([]byte("x"), 1<<16)}); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	fine, err := os.ReadFile(whole)
	if err != nil {
		t.Fatal(err)
	}
	other := filepath.Join(t.TempDir(), "other.db")
	db, err := connect(other, nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := db.ExecContext(t.Context(), "CREATE TABLE theirs (a)"); err != nil {
		t.Fatal(err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	foreign, err := os.ReadFile(other)
	if err != nil {
		t.Fatal(err)
	}
	scribbled := bytes.Clone(fine)
	copy(scribbled[50:4096], bytes.Repeat([]byte{0xff}, 4096))
	for name, text := range map[string][]byte{
		"text": []byte(strings.Repeat("hello, world\n", 1000)), "scribbled": scribbled, "foreign": foreign, "short": fine[:1000],
	} {
		path := filepath.Join(t.TempDir(), name)
		if err := os.WriteFile(path, text, 0o600); err != nil {
			t.Fatal(err)
		}
		_, err := Open(t.Context(), path, clock)
		if !errors.Is(err, ErrDamaged) || !strings.Contains(err.Error(), path) || !strings.Contains(err.Error(), "move it aside") {
			t.Errorf("%s: %v", name, err)
		}
		if now, err := os.ReadFile(path); err != nil || !bytes.Equal(now, text) {
			t.Errorf("%s was changed: %v", name, err)
		}
	}
	path := filepath.Join(t.TempDir(), "empty")
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := open(t, path).Record(t.Context(), Deletion{Kind: KindTag}); err != nil {
		t.Errorf("empty: %v", err)
	}
}

// TestFull wants a record refused by name when there is no room, nothing lost
// that is there, and records taken again once there is room.
func TestFull(t *testing.T) {
	t.Parallel()
	s, _ := openNew(t)
	room := func(pages string) {
		if _, err := s.db.ExecContext(t.Context(), "PRAGMA max_page_count = "+pages); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Record(t.Context(), Deletion{Kind: KindTag, Repo: "a"}); err != nil {
		t.Fatal(err)
	}
	room("1") // Means: as many as there are.
	large := Deletion{Kind: KindManifest, Repo: "b", Raw: make([]byte, 1<<20)}
	if err := s.Record(t.Context(), large); !errors.Is(err, ErrFull) {
		t.Errorf("got %v", err)
	}
	if repos, err := s.DeletedRepos(t.Context(), time.Time{}); err != nil || strings.Join(repos, " ") != "a" {
		t.Errorf("%v, %v", repos, err)
	}
	room("1000000")
	if err := s.Record(t.Context(), large); err != nil {
		t.Error(err)
	}
}

// TestOpenFull wants what is there read when there is no room to open it for
// changes, and changes once there is.
func TestOpenFull(t *testing.T) {
	t.Parallel()
	s, path := openNew(t)
	if err := s.Record(t.Context(), Deletion{Kind: KindTag, Repo: "a"}); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(path + "-wal"); err != nil || info.Size() > 0 {
		t.Errorf("the log is to stay, empty: %v, %v", info, err)
	}
	full := &State{path: path, now: clock}
	t.Cleanup(func() { _ = full.Close() })
	if err := full.openFull(t.Context(), ErrFull); err != nil {
		t.Fatal(err)
	}
	if full.writable {
		t.Error("it is open for changes")
	}
	if repos, err := full.DeletedRepos(t.Context(), time.Time{}); err != nil || strings.Join(repos, " ") != "a" {
		t.Errorf("%v, %v", repos, err)
	}
	if err := full.Record(t.Context(), Deletion{Kind: KindTag, Repo: "b"}); err != nil || !full.writable {
		t.Errorf("there is room again: %v", err)
	}
	if repos, err := full.DeletedRepos(t.Context(), time.Time{}); err != nil || strings.Join(repos, " ") != "a b" {
		t.Errorf("%v, %v", repos, err)
	}
}

// TestOpenNothing wants a disk without room for the file to hold up nothing but
// records.
func TestOpenNothing(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "later")
	s := &State{path: filepath.Join(dir, "its own", "state.db"), now: clock}
	t.Cleanup(func() { _ = s.Close() })
	if err := s.openFull(t.Context(), ErrFull); err != nil {
		t.Fatal(err)
	}
	if ds, err := s.Deleted(t.Context(), "app", time.Time{}); err != nil || len(ds) > 0 {
		t.Errorf("%v, %v", ds, err)
	}
	if err := s.Record(t.Context(), Deletion{Kind: KindTag, Repo: "a"}); err == nil {
		t.Error("recorded nowhere")
	}
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := s.Record(t.Context(), Deletion{Kind: KindTag, Repo: "a"}); err != nil {
		t.Error(err)
	}
}

// TestKilled wants everything that was acknowledged found by who comes after a
// process that ended without a word.
func TestKilled(t *testing.T) {
	t.Parallel()
	s, path := openNew(t)
	for range 3 {
		if err := s.Record(t.Context(), Deletion{Kind: KindTag, Repo: "a"}); err != nil {
			t.Fatal(err)
		}
	}
	after := filepath.Join(t.TempDir(), "state.db")
	for _, suffix := range []string{"", "-wal"} { // What a power cut leaves: synced pages, no locks.
		b, err := os.ReadFile(path + suffix)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(after+suffix, b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if ds, err := open(t, after).Deleted(context.Background(), "a", time.Time{}); err != nil || len(ds) != 3 {
		t.Errorf("%d records, %v", len(ds), err)
	}
}

// TestSettings wants the database to be as durable and as small as is meant.
func TestSettings(t *testing.T) {
	t.Parallel()
	s, _ := openNew(t)
	for name, want := range map[string]string{
		"journal_mode": "wal", "synchronous": "2", "locking_mode": "exclusive", "cache_size": "-512", "auto_vacuum": "2", "busy_timeout": "5000",
	} {
		var got string
		if err := s.db.QueryRowContext(t.Context(), "PRAGMA "+name).Scan(&got); err != nil || got != want {
			t.Errorf("%s is %s, want %s (%v)", name, got, want, err)
		}
	}
}
