package state

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"syscall"

	"modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"
)

// applicationID stands in the header of our files: "regc".
const applicationID = 0x72656763

// migrations lead from each version of the schema to the next. What is in a
// release is never changed.
func migrations() []string {
	return []string{`
CREATE TABLE deletions (
	id         INTEGER PRIMARY KEY AUTOINCREMENT,
	at         INTEGER NOT NULL, -- Nanoseconds since 1970.
	run        TEXT NOT NULL,
	kind       TEXT NOT NULL,
	repo       TEXT NOT NULL,
	tag        TEXT NOT NULL,
	digest     TEXT NOT NULL,
	media_type TEXT NOT NULL,
	raw        BLOB,
	by         TEXT NOT NULL,
	addr       TEXT NOT NULL
);
CREATE INDEX deletions_repo ON deletions (repo, at);
CREATE INDEX deletions_at ON deletions (at);
CREATE INDEX deletions_digest ON deletions (digest, repo);
CREATE TABLE pulls (
	repo   TEXT NOT NULL,
	digest TEXT NOT NULL,
	at     INTEGER NOT NULL, -- Seconds since 1970.
	PRIMARY KEY (repo, digest)
) WITHOUT ROWID;
`, `
CREATE TABLE outbox (
	id       INTEGER PRIMARY KEY AUTOINCREMENT,
	state    INTEGER NOT NULL, -- 0: announced, 1: happened, 2: given up.
	seq      INTEGER NOT NULL, -- Order in which they happened.
	at       INTEGER NOT NULL, -- Nanoseconds since 1970.
	endpoint TEXT NOT NULL,
	action   TEXT NOT NULL,
	repo     TEXT NOT NULL,
	tag      TEXT NOT NULL,
	digest   TEXT NOT NULL,
	kind     TEXT NOT NULL,
	body     BLOB NOT NULL
);
CREATE INDEX outbox_next ON outbox (endpoint, state, seq) WHERE state > 0;
CREATE INDEX outbox_pulls ON outbox (endpoint, seq) WHERE state = 1 AND action = 'pull';
`, `
CREATE TABLE robots (
	id      TEXT PRIMARY KEY,
	name    TEXT NOT NULL,
	scopes  TEXT NOT NULL, -- One a line.
	sum     BLOB NOT NULL, -- SHA-256 of the secret.
	note    TEXT NOT NULL,
	created INTEGER NOT NULL, -- Nanoseconds since 1970, as the following; 0: never.
	expires INTEGER NOT NULL,
	revoked INTEGER NOT NULL,
	used    INTEGER NOT NULL
) WITHOUT ROWID;
CREATE INDEX robots_name ON robots (name, created);
`}
}

// open opens the file for changes and brings its schema up to date. The lock
// is held.
func (s *State) open(ctx context.Context) error {
	f, err := os.OpenFile(s.path, os.O_RDWR|os.O_CREATE, 0o600)
	if errors.Is(err, fs.ErrNotExist) { // There was no room for the directory.
		if err = os.Mkdir(filepath.Dir(s.path), 0o700); err == nil {
			f, err = os.OpenFile(s.path, os.O_RDWR|os.O_CREATE, 0o600)
		}
	}
	if err == nil {
		err = errors.Join(f.Close(), syncDir(filepath.Dir(s.path)))
	}
	if err != nil {
		return s.failed("open", err)
	}
	db, err := connect(s.path, url.Values{"_pragma": {
		// Exclusive: no file for shared memory, for which a full disk has no
		// room. The driver sorts pragmas, but for this one, and others open the
		// file, for which it is too late then.
		"busy_timeout(5000); pragma locking_mode(exclusive)",
		"synchronous(full)",
		"cache_size(-512)", "temp_store(memory)",
		"journal_size_limit(4194304)",
	}, "_txlock": {"immediate"}})
	if err == nil {
		err = migrate(ctx, db, migrations())
	}
	if err == nil {
		err = s.readSeq(ctx, db)
	}
	if err != nil {
		return s.failed("open", errors.Join(err, closeDB(db)))
	}
	s.db, s.writable, s.unboxed, s.unmanned = db, true, false, false
	return nil
}

// openFull opens what there is on a full disk, which was found out by cause.
func (s *State) openFull(ctx context.Context, cause error) error {
	info, err := os.Stat(s.path)
	if errors.Is(err, fs.ErrNotExist) || err == nil && info.Size() == 0 {
		return nil // Nothing is recorded.
	}
	if err != nil {
		return s.failed("open", err)
	}
	if wal, err := os.Stat(s.path + "-wal"); err == nil && wal.Size() > 0 {
		return cause // The file alone is not the truth.
	}
	return s.openReadOnly(ctx)
}

// openReadOnly opens a file that nobody changes, without writing anything.
func (s *State) openReadOnly(ctx context.Context) error {
	db, err := connect(s.path, url.Values{"immutable": {"1"}, "mode": {"ro"}})
	if err == nil {
		err = checkVersion(ctx, db, len(migrations()))
	}
	var outbox, robots bool
	if err == nil {
		err = db.QueryRowContext(ctx, "SELECT coalesce(sum(name = 'outbox'), 0), coalesce(sum(name = 'robots'), 0) FROM sqlite_schema").Scan(&outbox, &robots)
	}
	if err == nil && outbox {
		err = s.readSeq(ctx, db)
	}
	if err != nil {
		return s.failed("open", errors.Join(err, closeDB(db)))
	}
	s.db, s.writable, s.unboxed, s.unmanned = db, false, !outbox, !robots
	return nil
}

// connect returns a database of one connection: more would only wait for each
// other.
func connect(path string, query url.Values) (*sql.DB, error) {
	path, err := filepath.Abs(path)
	if err != nil {
		return nil, err
	}
	db, err := sql.Open("sqlite", (&url.URL{Scheme: "file", OmitHost: true, Path: filepath.ToSlash(path), RawQuery: query.Encode()}).String())
	if err != nil {
		return nil, err
	}
	db.SetMaxOpenConns(1)
	db.SetMaxIdleConns(1)
	return db, nil
}

func closeDB(db *sql.DB) error {
	if db == nil {
		return nil
	}
	return db.Close()
}

// migrate brings a database to the last version.
func migrate(ctx context.Context, db *sql.DB, steps []string) error {
	if err := keepLog(ctx, db); err != nil {
		return err
	}
	return upgrade(ctx, db, steps)
}

func upgrade(ctx context.Context, db *sql.DB, steps []string) error {
	if err := checkVersion(ctx, db, len(steps)); err != nil {
		return err
	}
	var tables int
	if err := db.QueryRowContext(ctx, "SELECT count(*) FROM sqlite_schema").Scan(&tables); err != nil {
		return err
	}
	if tables == 0 { // It is written each time it is set, and a full disk has no room for that.
		if _, err := db.ExecContext(ctx, "PRAGMA auto_vacuum = incremental"); err != nil {
			return err
		}
	}
	if _, err := db.ExecContext(ctx, "PRAGMA journal_mode = wal"); err != nil { // Stays in the file, so that it comes after the check.
		return err
	}
	tx, err := db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer tx.Rollback() //nolint:errcheck // Nothing is left to be rolled back after Commit.
	var version int
	if err := tx.QueryRowContext(ctx, "PRAGMA user_version").Scan(&version); err != nil {
		return err
	}
	if version == len(steps) {
		return nil
	}
	for i, step := range steps[version:] {
		if _, err := tx.ExecContext(ctx, step); err != nil {
			return fmt.Errorf("to version %d: %w", version+i+1, err)
		}
	}
	for name, value := range map[string]int{"application_id": applicationID, "user_version": len(steps)} {
		if _, err := tx.ExecContext(ctx, "PRAGMA "+name+" = "+strconv.Itoa(value)); err != nil {
			return err
		}
	}
	return tx.Commit()
}

// keepLog lets the write-ahead log stay when the database is closed: a disk
// without inodes has no room for a new one.
func keepLog(ctx context.Context, db *sql.DB) error {
	c, err := db.Conn(ctx)
	if err != nil {
		return err
	}
	defer c.Close()
	return c.Raw(func(driver any) error {
		control, ok := driver.(sqlite.FileControl)
		if !ok {
			return nil
		}
		_, err := control.FileControlPersistWAL("main", 1)
		return err
	})
}

// checkVersion refuses what is not ours or is newer than we know.
func checkVersion(ctx context.Context, db *sql.DB, newest int) error {
	var version, id, tables int
	for query, to := range map[string]*int{
		"PRAGMA user_version": &version, "PRAGMA application_id": &id, "SELECT count(*) FROM sqlite_schema": &tables,
	} {
		if err := db.QueryRowContext(ctx, query).Scan(to); err != nil {
			return err
		}
	}
	switch {
	case id != applicationID && (id != 0 || tables > 0):
		return fmt.Errorf("%w: it is a database of something else", ErrDamaged)
	case version > newest:
		return fmt.Errorf("%w (version %d, this one knows up to %d): use that one", ErrNewer, version, newest)
	}
	return nil
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	if err := d.Sync(); err != nil && !errors.Is(err, syscall.EINVAL) && !errors.Is(err, errors.ErrUnsupported) {
		return err
	}
	return nil
}

// failed says what was being done to the file, and gives errors of the database
// their names.
func (s *State) failed(what string, err error) error {
	if err == nil {
		return nil
	}
	text := fmt.Sprintf("%s the state %s", what, s.path)
	var coded *sqlite.Error
	if !errors.As(err, &coded) {
		if isFull(err) {
			return fmt.Errorf("%s, which %w: %w", text, ErrFull, err)
		}
		if errors.Is(err, ErrDamaged) || errors.Is(err, ErrNewer) {
			return fmt.Errorf("%s, which %w%s", text, err, advice(err))
		}
		return fmt.Errorf("%s: %w", text, err)
	}
	switch coded.Code() & 0xff {
	case sqlite3.SQLITE_FULL:
		return fmt.Errorf("%s, which %w: %w", text, ErrFull, err)
	case sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB:
		return fmt.Errorf("%s, which %w: %w%s", text, ErrDamaged, err, advice(ErrDamaged))
	case sqlite3.SQLITE_IOERR, sqlite3.SQLITE_CANTOPEN:
		if probe(s.path) {
			return fmt.Errorf("%s, which %w: %w", text, ErrFull, err)
		}
	}
	return fmt.Errorf("%s: %w", text, err)
}

// advice is what can be done about a damaged file.
func advice(err error) string {
	if !errors.Is(err, ErrDamaged) {
		return ""
	}
	return "; restore it from a backup, or move it aside with its -wal: images are not in it, but what was deleted so far cannot be undone then, and robots need new secrets"
}

// probe tells whether there is no room beside path. The database does not say
// why a write failed.
func probe(path string) bool {
	f, err := os.CreateTemp(filepath.Dir(path), "state.*.tmp")
	if err != nil {
		return isFull(err)
	}
	_, err = f.Write(make([]byte, 8<<10))
	if err == nil {
		err = f.Sync()
	}
	_ = f.Close()
	_ = os.Remove(f.Name())
	return isFull(err)
}

func isFull(err error) bool { return errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) }
